//! The table of configuration keys: one row per key, and nothing about a key is said anywhere else.
//!
//! Reference documentation (`millrace describe-config`, docs/CONFIG.md), parsing and bounds all come from [`ROWS`]. A key
//! is in the table only if some component acts on it: a key that is accepted and ignored would be a lie. Kafka's own names
//! are used wherever Kafka has one; Kafka keys that Millrace does not act on yet are known by name only ([`is_kafka`]), so
//! that the refusal can say so.

use std::fmt::Write as _;

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;

/// A configuration key. The order is the order of the reference documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `listeners`
    Listeners,
    /// `advertised.listeners`
    AdvertisedListeners,
    /// `listener.security.protocol.map`
    ProtocolMap,
    /// `max.connections`
    ConnectionCountMax,
    /// `connections.max.idle.ms`
    ConnectionIdleMax,
    /// `socket.request.max.bytes`
    RequestBytesMax,
    /// `node.id`
    NodeId,
    /// `log.dirs`
    DataDirectory,
    /// `auto.create.topics.enable`
    AutoCreateTopics,
    /// `num.partitions`
    PartitionCount,
    /// `default.replication.factor`
    ReplicationFactor,
    /// `message.max.bytes`
    MessageBytesMax,
    /// `flush.policy`
    FlushPolicy,
    /// `millrace.shards`
    ShardCount,
    /// `millrace.pin.cores`
    PinCores,
    /// `millrace.memory.bytes`
    MemoryBytes,
    /// `millrace.journal.bytes`
    JournalBytes,
    /// `log.format`
    LogFormat,
    /// `log.level`
    LogLevel,
}

/// What a key's value may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Flag,
    /// A whole number, both ends included.
    Number {
        /// Smallest legal value.
        min: i64,
        /// Largest legal value.
        max: i64,
    },
    /// A number of bytes, plain or with KiB, MiB or GiB; both ends included.
    Bytes {
        /// Smallest legal value.
        min: i64,
        /// Largest legal value.
        max: i64,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// Text with a grammar of its own, which `config/check` knows.
    Text(&'static str),
}

/// When a changed value takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// At the next start.
    Restart,
    /// While the broker runs.
    Reload,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Which key.
    pub key: Key,
    /// Its name in files and on the command line.
    pub name: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// What it holds when nobody says anything. An empty text means: not set.
    pub default: &'static str,
    /// When a change takes effect.
    pub change: Change,
    /// One line for the operator.
    pub doc: &'static str,
}

/// Every key there is.
pub const ROWS: &[Row] = &[
    Row {
        key: Key::Listeners,
        name: "listeners",
        kind: Kind::Text("`host:port` or `NAME://host:port`, comma separated"),
        default: "PLAINTEXT://127.0.0.1:9092",
        change: Change::Restart,
        doc: "Addresses to accept clients on. Port 0 takes a free one. `--listen` sets this key.",
    },
    Row {
        key: Key::AdvertisedListeners,
        name: "advertised.listeners",
        kind: Kind::Text("`NAME://host:port`, comma separated"),
        default: "",
        change: Change::Restart,
        doc: "Address that clients are told to use, by listener. Needed for a listener on 0.0.0.0 or [::]; otherwise the \
              listener's own address.",
    },
    Row {
        key: Key::ProtocolMap,
        name: "listener.security.protocol.map",
        kind: Kind::Text("`NAME:PLAINTEXT`, comma separated"),
        default: "PLAINTEXT:PLAINTEXT",
        change: Change::Restart,
        doc: "Names that listeners may have, with the protocol each speaks. PLAINTEXT is the only protocol so far.",
    },
    Row {
        key: Key::ConnectionCountMax,
        name: "max.connections",
        kind: Kind::Number { min: 1, max: 1_000_000 },
        default: "10000",
        change: Change::Restart,
        doc: "Connections the broker holds at once; one more is closed as soon as it is accepted.",
    },
    Row {
        key: Key::ConnectionIdleMax,
        name: "connections.max.idle.ms",
        kind: Kind::Number { min: -1, max: 30 * 24 * 3600 * 1000 },
        default: "600000",
        change: Change::Restart,
        doc: "A connection without a request for this long is closed. -1 never closes; otherwise at least 1000.",
    },
    Row {
        key: Key::RequestBytesMax,
        name: "socket.request.max.bytes",
        kind: Kind::Bytes { min: 64 * KIB, max: 2 * GIB - 1 },
        default: "104857600",
        change: Change::Restart,
        doc: "Largest request; a connection that announces more is closed. The default shrinks to what the memory budget \
              for requests allows; a value that was set and does not fit stops the start.",
    },
    Row {
        key: Key::NodeId,
        name: "node.id",
        kind: Kind::Number { min: 0, max: 2_147_483_647 },
        default: "1",
        change: Change::Restart,
        doc: "This broker's number. A data directory belongs to the number that made it.",
    },
    Row {
        key: Key::DataDirectory,
        name: "log.dirs",
        kind: Kind::Text("one directory"),
        default: "./millrace-data",
        change: Change::Restart,
        doc: "Where everything is kept; made if it is missing. One directory for now. `--data` sets this key.",
    },
    Row {
        key: Key::AutoCreateTopics,
        name: "auto.create.topics.enable",
        kind: Kind::Flag,
        default: "true",
        change: Change::Restart,
        doc: "Make a topic when a client that allows it asks for one that is not there.",
    },
    Row {
        key: Key::PartitionCount,
        name: "num.partitions",
        kind: Kind::Number { min: 1, max: 10_000 },
        default: "1",
        change: Change::Restart,
        doc: "Partitions of a topic that is made without saying how many.",
    },
    Row {
        key: Key::ReplicationFactor,
        name: "default.replication.factor",
        kind: Kind::Number { min: 1, max: 1 },
        default: "1",
        change: Change::Restart,
        doc: "Replicas of a topic that is made without saying how many. Replication is not there yet, so 1 is the only \
              value.",
    },
    Row {
        key: Key::MessageBytesMax,
        name: "message.max.bytes",
        kind: Kind::Bytes { min: KIB, max: 256 * MIB },
        default: "1048588",
        change: Change::Restart,
        doc: "Largest record batch a producer may send, as it is sent (compressed).",
    },
    Row {
        key: Key::FlushPolicy,
        name: "flush.policy",
        kind: Kind::Word(&["commit"]),
        default: "commit",
        change: Change::Restart,
        doc: "When records count as written. `commit`: a producer is answered after its records are on the device.",
    },
    Row {
        key: Key::ShardCount,
        name: "millrace.shards",
        kind: Kind::Number { min: 0, max: 256 },
        default: "0",
        change: Change::Restart,
        doc: "Shards, each a thread that owns its partitions. 0 is one per core.",
    },
    Row {
        key: Key::PinCores,
        name: "millrace.pin.cores",
        kind: Kind::Flag,
        default: "true",
        change: Change::Restart,
        doc: "Tie each shard to a core. Switch off when several brokers share this machine's cores.",
    },
    Row {
        key: Key::MemoryBytes,
        name: "millrace.memory.bytes",
        kind: Kind::Bytes { min: 0, max: 1024 * GIB },
        default: "0",
        change: Change::Restart,
        doc: "Memory for requests, buffers and caches of all shards together. 0 is a quarter of the machine's or the \
              control group's memory, whichever is less.",
    },
    Row {
        key: Key::JournalBytes,
        name: "millrace.journal.bytes",
        kind: Kind::Bytes { min: MIB, max: 4 * GIB },
        default: "67108864",
        change: Change::Restart,
        doc: "Disk space of one shard's journal. A longer journal rewrites less and recovers longer.",
    },
    Row {
        key: Key::LogFormat,
        name: "log.format",
        kind: Kind::Word(&["human", "json"]),
        default: "human",
        change: Change::Restart,
        doc: "How the broker's own messages are written to standard error.",
    },
    Row {
        key: Key::LogLevel,
        name: "log.level",
        kind: Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        default: "info",
        change: Change::Restart,
        doc: "Which of the broker's own messages are written.",
    },
];

/// Kafka's broker keys, names only, sorted, one a line.
const KAFKA_KEYS: &str = include_str!("kafka_keys.txt");

/// The row of `key`.
pub fn row(key: Key) -> &'static Row {
    ROWS.iter().find(|row| row.key == key).expect("a test holds that every key has its row")
}

/// The row of the key that is called `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Whether Kafka's broker has a key of this name.
pub fn is_kafka(name: &str) -> bool {
    name.starts_with("listener.name.") || KAFKA_KEYS.lines().any(|known| known == name)
}

/// The known key whose name is closest to `name`, if one is close enough to be what was meant.
pub fn find_nearest(name: &str) -> Option<&'static str> {
    if let Some((_, now)) = RENAMED.iter().find(|(earlier, _)| *earlier == name) {
        return Some(now);
    }
    let nearest = ROWS.iter().min_by_key(|row| strsim::damerau_levenshtein(row.name, name))?;
    let distance = strsim::damerau_levenshtein(nearest.name, name);
    let tail_matches = ROWS.iter().find(|row| row.name.ends_with(name) && name.len() >= DISTANCE_TAIL_BYTES_MIN);
    if distance <= nearest.name.len() / 3 { Some(nearest.name) } else { tail_matches.map(|row| row.name) }
}

/// The reference documentation of all keys, in Markdown.
pub fn describe() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Written by `millrace describe-config`; a test holds that this file equals its output (`UPDATE=1` rewrites it).\n\n\
         Keys come from the TOML file given with `--config`, where a dotted name may be quoted (`\"node.id\" = 1`) or not\n\
         (`node.id = 1`), and from `--set key=value`, which wins. A key that is not listed here stops the start.\n\n\
         | Key | Default | Legal values | Change | Meaning |\n|---|---|---|---|---|\n",
    );
    for row in ROWS {
        let default = if row.default.is_empty() { "not set".to_owned() } else { format!("`{}`", row.default) };
        writeln!(text, "| `{}` | {default} | {} | {} | {} |", row.name, row.kind, row.change, row.doc)
            .expect("writing to a String cannot fail");
    }
    text
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag => f.write_str("`true` or `false`"),
            Self::Number { min, max } if min == max => write!(f, "{min}"),
            Self::Number { min, max } => write!(f, "{min} to {max}"),
            Self::Bytes { min, max } => write!(f, "{min} to {max} bytes"),
            Self::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
                f.write_str(&quoted.join(", "))
            }
            Self::Text(grammar) => f.write_str(grammar),
        }
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Restart => "restart",
            Self::Reload => "reload",
        })
    }
}

/// Earlier names of Kafka's, which are near in meaning only.
const RENAMED: &[(&str, &str)] = &[("broker.id", "node.id"), ("log.dir", "log.dirs")];

/// A name shorter than this matches the end of too many keys to be a hint.
const DISTANCE_TAIL_BYTES_MIN: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_in_the_order_of_the_keys_and_unique() {
        assert!(ROWS.windows(2).all(|pair| pair[0].key < pair[1].key), "rows out of order or twice");
        assert_eq!(ROWS.last().map(|row| row.key), Some(Key::LogLevel), "the last key has a row");
        let mut names: Vec<_> = ROWS.iter().map(|row| row.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn the_nearest_key_is_found_and_only_if_it_is_near() {
        assert_eq!(find_nearest("num.partition"), Some("num.partitions"));
        assert_eq!(find_nearest("listener"), Some("listeners"));
        assert_eq!(find_nearest("shards"), Some("millrace.shards"));
        assert_eq!(find_nearest("broker.id"), Some("node.id"));
        assert_eq!(find_nearest("completely.other.thing"), None);
    }

    #[test]
    fn the_reference_page_is_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIG.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, describe()).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap();
        assert!(page == describe(), "docs/CONFIG.md is stale: run the test again with UPDATE=1");
    }
}
