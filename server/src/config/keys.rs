//! The table of configuration keys: one row per key, and nothing about a key is said anywhere else.
//!
//! Reference documentation (`millrace describe-config`, docs/CONFIG.md), parsing and bounds all come from [`ROWS`]. A key
//! is in the table only if some component acts on it: a key that is accepted and ignored would be a lie. Kafka's own names
//! are used wherever Kafka has one; Kafka keys that Millrace does not act on yet are known by name only ([`is_kafka`]), so
//! that the refusal can say so.

mod rows;

use std::fmt::Write as _;

pub use rows::{CLEANUP_POLICIES, FLUSH_POLICIES, ROWS, TIMESTAMP_TYPES};

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
    /// `admin.listener`
    AdminListener,
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
    /// `delete.topic.enable`
    DeleteTopics,
    /// `flush.policy`
    FlushPolicy,
    /// `flush.interval.ms`
    FlushInterval,
    /// `flush.interval.bytes`
    FlushIntervalBytes,
    /// `log.segment.bytes`
    SegmentBytes,
    /// `log.roll.ms`
    RollMs,
    /// `log.roll.hours`
    RollHours,
    /// `log.retention.bytes`
    RetentionBytes,
    /// `log.retention.ms`
    RetentionMs,
    /// `log.retention.minutes`
    RetentionMinutes,
    /// `log.retention.hours`
    RetentionHours,
    /// `log.retention.check.interval.ms`
    RetentionCheckInterval,
    /// `log.cleanup.policy`
    CleanupPolicy,
    /// `log.cleaner.delete.retention.ms`
    TombstoneRetention,
    /// `log.cleaner.min.compaction.lag.ms`
    CompactionLagMin,
    /// `log.cleaner.max.compaction.lag.ms`
    CompactionLagMax,
    /// `log.cleaner.min.cleanable.ratio`
    DirtyRatioMin,
    /// `log.cleaner.enable`
    CompactionEnabled,
    /// `log.cleaner.backoff.ms`
    CompactionInterval,
    /// `log.cleaner.dedupe.buffer.size`
    KeyMapBytes,
    /// `log.message.timestamp.type`
    TimestampType,
    /// `producer.id.expiration.ms`
    ProducerIdExpiration,
    /// `group.initial.rebalance.delay.ms`
    GroupInitialDelay,
    /// `group.min.session.timeout.ms`
    GroupSessionMin,
    /// `group.max.session.timeout.ms`
    GroupSessionMax,
    /// `group.max.size`
    GroupSizeMax,
    /// `offset.metadata.max.bytes`
    OffsetMetadataMax,
    /// `offsets.retention.minutes`
    OffsetsRetention,
    /// `offsets.retention.check.interval.ms`
    OffsetsCheckInterval,
    /// `offsets.topic.num.partitions`
    OffsetsPartitionCount,
    /// `offsets.topic.replication.factor`
    OffsetsReplicationFactor,
    /// `offsets.topic.segment.bytes`
    OffsetsSegmentBytes,
    /// `millrace.shards`
    ShardCount,
    /// `millrace.pin.cores`
    PinCores,
    /// `millrace.memory.bytes`
    MemoryBytes,
    /// `millrace.journal.bytes`
    JournalBytes,
    /// `millrace.reserve.bytes`
    ReserveBytes,
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
    /// A fraction from 0 to 1, both included.
    Ratio,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any of these words, comma separated.
    Words(&'static [&'static str]),
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

/// The reference documentation of the broker's keys, in Markdown.
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
            Self::Ratio => f.write_str("0 to 1"),
            Self::Word(words) => f.write_str(&quote(words)),
            Self::Words(words) => write!(f, "any of {}, comma separated", quote(words)),
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

fn quote(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
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
}
