//! Whose data directory it is: `node.toml` with cluster id, node id and format version.
//!
//! Written once, when the directory is first used, and compared at every later start. A directory of another node or of a
//! format this program does not know is refused before anything in it is touched. Randomness comes in as an argument.

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// A cluster's id: 16 random bytes, shown as Kafka shows them (22 characters of base64url).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId([u8; 16]);

/// What `node.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster this node belongs to.
    pub cluster_id: ClusterId,
    /// This node's number. Invariant: `>= 0`.
    pub node_id: i32,
}

/// Why a directory is not ours to use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It belongs to another node.
    #[error("{file}: made by node.id {found}, but node.id is {expected}; set node.id={found} or use another directory")]
    OtherNode {
        /// The file.
        file: String,
        /// Who made it.
        found: i32,
        /// Who we are.
        expected: i32,
    },
    /// It has a format that this program does not know.
    #[error("{file}: format {found}, this program knows {FORMAT_VERSION}; use the version of Millrace that wrote it")]
    OtherFormat {
        /// The file.
        file: String,
        /// Its format.
        found: u32,
    },
    /// The file is damaged.
    #[error("{file}: {problem}")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The file cannot be read or written.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: String,
        /// What the system said.
        error: io::Error,
    },
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeFile {
    format: u32,
    cluster_id: String,
    node_id: i32,
}

impl Identity {
    /// Reads the identity of `directory`, or makes one with a cluster id of `random` where there is none.
    pub fn load_or_create(directory: &Path, node_id: i32, random: u128) -> Result<Self, IdentityError> {
        if let Some(identity) = Self::load(directory, node_id)? {
            return Ok(identity);
        }
        let identity = Self { cluster_id: ClusterId::from_random(random), node_id };
        let file = directory.join(FILE_NAME).display().to_string();
        identity.create(directory).map_err(|error| IdentityError::Io { file, error })?;
        Ok(identity)
    }

    /// Reads the identity of `directory`, if it has one.
    pub fn load(directory: &Path, node_id: i32) -> Result<Option<Self>, IdentityError> {
        let path = directory.join(FILE_NAME);
        let file = path.display().to_string();
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text, &file, node_id).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(IdentityError::Io { file, error }),
        }
    }

    fn parse(text: &str, file: &str, expected: i32) -> Result<Self, IdentityError> {
        let file = file.to_owned();
        // The format first: another format may well have other fields.
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            Err(error) => return Err(IdentityError::Damaged { file, problem: error.to_string() }),
        };
        let format = table.get("format").and_then(toml::Value::as_integer).and_then(|found| u32::try_from(found).ok());
        match format {
            Some(FORMAT_VERSION) => {}
            Some(found) => return Err(IdentityError::OtherFormat { file, found }),
            None => return Err(IdentityError::Damaged { file, problem: "no format version".to_owned() }),
        }
        let node: NodeFile = match table.try_into() {
            Ok(node) => node,
            Err(error) => return Err(IdentityError::Damaged { file, problem: error.to_string() }),
        };
        if node.node_id != expected {
            return Err(IdentityError::OtherNode { file, found: node.node_id, expected });
        }
        match ClusterId::parse(&node.cluster_id) {
            Some(cluster_id) => Ok(Self { cluster_id, node_id: node.node_id }),
            None => Err(IdentityError::Damaged { file, problem: format!("cluster_id {:?}", node.cluster_id) }),
        }
    }

    /// Temporary file, sync, rename, sync of the directory: after a crash the file is whole or not there.
    fn create(&self, directory: &Path) -> io::Result<()> {
        let node = NodeFile { format: FORMAT_VERSION, cluster_id: self.cluster_id.to_string(), node_id: self.node_id };
        let text = toml::to_string(&node).expect("three plain fields are TOML");
        let temporary = directory.join(format!("{FILE_NAME}.new"));
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, directory.join(FILE_NAME))?;
        File::open(directory)?.sync_all()
    }
}

impl ClusterId {
    /// The id that this randomness makes.
    pub fn from_random(random: u128) -> Self {
        Self(random.to_be_bytes())
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != TEXT_BYTES {
            return None;
        }
        // 22 digits of 6 bits are 132 bits: the last digit carries two bits of id and four of padding.
        let mut value: u128 = 0;
        let mut padding = 0;
        for (index, character) in text.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|known| *known == character)?;
            let digit = u128::try_from(digit).expect("64 digits");
            if index + 1 < TEXT_BYTES {
                value = value << 6 | digit;
            } else {
                value = value << 2 | digit >> 4;
                padding = digit & 15;
            }
        }
        (padding == 0).then(|| Self(value.to_be_bytes()))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        for index in 0..TEXT_BYTES {
            let digit = if index + 1 < TEXT_BYTES { value >> (122 - 6 * index) & 63 } else { (value & 3) << 4 };
            let character = ALPHABET[usize::try_from(digit).expect("6 bits")];
            write!(f, "{}", char::from(character))?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

/// Version of everything in the data directory; docs/FORMAT.md.
pub const FORMAT_VERSION: u32 = 2;

const FILE_NAME: &str = "node.toml";
const TEXT_BYTES: usize = 22;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_are_base64url() {
        // The bytes 0..16, encoded by another program.
        let id = ClusterId(std::array::from_fn(|index| u8::try_from(index).unwrap()));
        assert_eq!(id.to_string(), "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(ClusterId::from_random(u128::MAX).to_string(), "_____________________w");
        for random in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let id = ClusterId::from_random(random);
            assert_eq!(ClusterId::parse(&id.to_string()), Some(id));
        }
        for wrong in ["", "short", "AAECAwQFBgcICQoLDA0ODx", "AAECAwQFBgcICQoLDA0O+w", "AAECAwQFBgcICQoLDA0ODwA"] {
            assert_eq!(ClusterId::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_identity_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(directory.path(), 4, 77).unwrap();
        assert_eq!(Identity::load_or_create(directory.path(), 4, 88).unwrap(), first);
        let error = Identity::load_or_create(directory.path(), 5, 88).unwrap_err();
        assert!(error.to_string().contains("made by node.id 4, but node.id is 5"), "{error}");
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        let parse = |text: &str| Identity::parse(text, "f", 1).unwrap_err().to_string();
        assert!(parse("format = 1\nshape = 1").starts_with("f: format 1, this program knows 2"));
        assert_eq!(parse("node_id = 1"), "f: no format version");
        assert!(parse("format = 2\nnode_id = 1").contains("cluster_id"));
        assert!(parse("format = 2\nnode_id = 1\ncluster_id = 'x'").contains("cluster_id \"x\""));
        assert!(parse("garbage").starts_with("f: TOML parse error"));
        let missing = Identity::load_or_create(Path::new("/nonexistent/millrace"), 1, 0).unwrap_err();
        assert!(matches!(missing, IdentityError::Io { .. }));
    }
}
