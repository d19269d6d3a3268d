//! The lock on the data directory: one broker at a time.
//!
//! The lock is flock(2) on a file in the directory, so the kernel gives it back however the process ends; the process id
//! inside is for people and never believed. It is needed for more than the files: listeners share ports (`SO_REUSEPORT`), so
//! two brokers on one directory would not even notice each other on the network.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::Path;

use rustix::fs::FlockOperation;

/// The lock. It is held for as long as this value lives.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("{directory} is in use by another broker{}", holder.as_ref().map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// The data directory.
        directory: String,
        /// Who says to hold it.
        holder: Option<String>,
    },
    /// The file cannot be made or locked.
    #[error("cannot lock {directory}: {error}")]
    Io {
        /// The data directory.
        directory: String,
        /// What the system said.
        error: io::Error,
    },
}

impl DataLock {
    /// Takes the lock of `directory`, which must be there.
    pub fn take(directory: &Path) -> Result<Self, LockError> {
        let shown = directory.display().to_string();
        let failed = |error| LockError::Io { directory: shown.clone(), error };
        // Not truncated before it is ours: the holder's process id is in it.
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).read(true).write(true);
        let mut file = options.open(directory.join(FILE_NAME)).map_err(failed)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held { directory: shown, holder: read_holder(&mut file) });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }

    /// Whether the lock could be taken now. Changes nothing, and makes nothing that is not there.
    pub fn look(directory: &Path) -> Result<(), LockError> {
        let shown = directory.display().to_string();
        let mut file = match File::open(directory.join(FILE_NAME)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(LockError::Io { directory: shown, error }),
        };
        // Shared with others who only look, and given back at once.
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(()),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(LockError::Held { directory: shown, holder: read_holder(&mut file) })
            }
            Err(error) => Err(LockError::Io { directory: shown, error: error.into() }),
        }
    }
}

/// Who says to hold it.
fn read_holder(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

const FILE_NAME: &str = "lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_broker_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        DataLock::look(directory.path()).unwrap();
        assert!(!directory.path().join(FILE_NAME).exists(), "looking makes no file");
        let first = DataLock::take(directory.path()).unwrap();
        assert!(matches!(DataLock::look(directory.path()), Err(LockError::Held { holder: Some(_), .. })));
        let error = DataLock::take(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("in use by another broker (pid {})", std::process::id())), "{error}");
        drop(first);
        DataLock::look(directory.path()).unwrap();
        DataLock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let error = DataLock::take(&directory.path().join("missing")).unwrap_err();
        assert!(matches!(error, LockError::Io { .. }), "{error}");
    }
}
