//! The table of configuration keys: one row per key, and nothing about a key is said anywhere else.
//!
//! Reference documentation (`millrace describe-config`, docs/CONFIG.md), parsing and bounds all come from [`ROWS`]. A key
//! is in the table only if some component acts on it: a key that is accepted and ignored would be a lie. Kafka's own names
//! are used wherever Kafka has one; Kafka's keys that nothing here acts on are in `config/kafka`, with the reason.

mod rows;

use std::fmt::Write as _;

use super::kafka;
use super::value_type::ValueType;

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
    /// `fetch.max.bytes`
    FetchBytesMax,
    /// `max.incremental.fetch.session.cache.slots`
    FetchSessionCountMax,
    /// `admin.listener`
    AdminListener,
    /// `node.id`
    NodeId,
    /// `broker.rack`
    Rack,
    /// `log.dirs`
    DataDirectory,
    /// `log.dir`
    DataDirectoryAlone,
    /// `auto.create.topics.enable`
    AutoCreateTopics,
    /// `num.partitions`
    PartitionCount,
    /// `default.replication.factor`
    ReplicationFactor,
    /// `min.insync.replicas`
    InSyncMin,
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
    /// `log.flush.interval.messages`
    FlushMessages,
    /// `log.flush.interval.ms`
    FlushMs,
    /// `log.flush.scheduler.interval.ms`
    FlushScheduler,
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
    /// `log.message.timestamp.before.max.ms`
    TimestampBeforeMax,
    /// `log.message.timestamp.after.max.ms`
    TimestampAfterMax,
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
    /// `group.consumer.session.timeout.ms`
    ConsumerSession,
    /// `group.consumer.min.session.timeout.ms`
    ConsumerSessionMin,
    /// `group.consumer.max.session.timeout.ms`
    ConsumerSessionMax,
    /// `group.consumer.heartbeat.interval.ms`
    ConsumerHeartbeat,
    /// `group.consumer.min.heartbeat.interval.ms`
    ConsumerHeartbeatMin,
    /// `group.consumer.max.heartbeat.interval.ms`
    ConsumerHeartbeatMax,
    /// `group.consumer.max.size`
    ConsumerSizeMax,
    /// `group.consumer.assignors`
    ConsumerAssignors,
    /// `group.consumer.migration.policy`
    ConsumerMigration,
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
    /// At once, when it is changed while the broker runs (IncrementalAlterConfigs).
    Live,
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

impl Row {
    /// What kind of value clients are told it has.
    pub fn value_type(&self) -> ValueType {
        match self.kind {
            Kind::Flag | Kind::Word(&["true"]) => ValueType::Boolean,
            Kind::Number { max, .. } | Kind::Bytes { max, .. } if max <= i64::from(i32::MAX) => match self.key {
                Key::OffsetsReplicationFactor => ValueType::Short,
                // Kafka takes longer ones.
                Key::OffsetsCheckInterval => ValueType::Long,
                _ => ValueType::Int,
            },
            Kind::Number { .. } | Kind::Bytes { .. } => ValueType::Long,
            Kind::Ratio => ValueType::Double,
            Kind::Word(_) => ValueType::String,
            Kind::Words(_) => ValueType::List,
            Kind::Text(_) => match self.key {
                Key::Listeners | Key::AdvertisedListeners | Key::DataDirectory | Key::DataDirectoryAlone => {
                    ValueType::List
                }
                _ => ValueType::String,
            },
        }
    }
}

/// The row of `key`.
pub fn row(key: Key) -> &'static Row {
    ROWS.iter().find(|row| row.key == key).expect("a test holds that every key has its row")
}

/// The row of the key that is called `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// The known key whose name is closest to `name`, if one is close enough to be what was meant.
pub fn find_nearest(name: &str) -> Option<&'static str> {
    if let Some((_, now)) = RENAMED.iter().find(|(earlier, _)| *earlier == name) {
        return Some(now);
    }
    let mut names = ROWS.iter().map(|row| row.name).chain(kafka::all().map(|known| known.key.name));
    let tail_matches = names.clone().find(|known| known.ends_with(name) && name.len() >= DISTANCE_TAIL_BYTES_MIN);
    let by_distance = |known: &&'static str| strsim::damerau_levenshtein(known, name);
    let nearest = names.by_ref().min_by_key(by_distance)?;
    if by_distance(&nearest) <= nearest.len() / 3 { Some(nearest) } else { tail_matches }
}

/// The reference documentation of the broker's keys that something acts on, in Markdown.
pub fn describe() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Written by `millrace describe-config`; a test holds that this file equals its output (`UPDATE=1` rewrites it).\n\n\
         Keys come from the TOML file given with `--config`, where a dotted name may be quoted (`\"node.id\" = 1`) or not\n\
         (`node.id = 1`), and from `--set key=value`, which wins. A key that is not listed here stops the start.\n\n\
         All keys of Kafka 4.3.1 are listed: implemented, without effect, or refused.\n\n\
         ## Implemented: brokers\n\n\
         A change \"at run time\" comes by IncrementalAlterConfigs or AlterConfigs, of one broker or of all; it acts at once,\n\
         wins over file and command line, and is there after a restart.\n\n\
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
            Self::Live => "at run time",
        })
    }
}

fn quote(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    quoted.join(", ")
}

/// Earlier names of Kafka's, which are near in meaning only.
const RENAMED: &[(&str, &str)] = &[("broker.id", "node.id")];

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
