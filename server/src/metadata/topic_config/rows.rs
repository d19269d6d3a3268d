//! The rows of the table of topic keys, sorted by name. Nothing but the table.

use super::{Row, Rule, StandIn, ValueType};
use crate::config::keys::{CLEANUP_POLICIES, FLUSH_POLICIES, Key, Kind, TIMESTAMP_TYPES};

/// Every key that counts, sorted.
pub const ROWS: &[Row] = &[
    Row {
        name: super::CLEANUP_POLICY,
        value_type: ValueType::List,
        rule: Rule::Any(Kind::Words(CLEANUP_POLICIES)),
        stand_ins: &[StandIn { key: Key::CleanupPolicy, factor: 1 }],
        doc: "What becomes of old records. `delete`: whole segments go, by size and age. `compact`: for each key the newest \
              record stays, and every record needs a key. Neither: everything is kept.",
    },
    Row {
        name: "compression.type",
        value_type: ValueType::String,
        rule: Rule::Only("producer"),
        stand_ins: &[],
        doc: "How batches are stored: as the producer compressed them.",
    },
    Row {
        name: "delete.retention.ms",
        value_type: ValueType::Long,
        rule: Rule::Any(Kind::Number { min: 0, max: i64::MAX }),
        stand_ins: &[StandIn { key: Key::TombstoneRetention, factor: 1 }],
        doc: "How long compaction keeps a record without a value after the pass that first saw it.",
    },
    Row {
        name: "flush.messages",
        value_type: ValueType::Long,
        rule: Rule::Only("9223372036854775807"),
        stand_ins: &[],
        doc: "Nothing is flushed by the number of records: see `flush.policy`.",
    },
    Row {
        name: "flush.ms",
        value_type: ValueType::Long,
        rule: Rule::Only("9223372036854775807"),
        stand_ins: &[],
        doc: "Topics have no interval of their own: see `flush.policy` and the broker's `flush.interval.ms`.",
    },
    Row {
        name: "flush.policy",
        value_type: ValueType::String,
        rule: Rule::Any(Kind::Word(FLUSH_POLICIES)),
        stand_ins: &[StandIn { key: Key::FlushPolicy, factor: 1 }],
        doc: "When records count as written: on the device (`commit`), or handed to the system and flushed after the \
              broker's `flush.interval.ms` or `flush.interval.bytes` (`interval`), or by chance (`none`). Kafka has no such \
              key.",
    },
    Row {
        name: "max.compaction.lag.ms",
        value_type: ValueType::Long,
        rule: Rule::Any(Kind::Number { min: 1, max: i64::MAX }),
        stand_ins: &[StandIn { key: Key::CompactionLagMax, factor: 1 }],
        doc: "A log that has held an uncompacted record for this long is compacted, however little there is to gain.",
    },
    Row {
        name: super::MESSAGE_BYTES_MAX,
        value_type: ValueType::Int,
        rule: Rule::MessageBytes,
        stand_ins: &[StandIn { key: Key::MessageBytesMax, factor: 1 }],
        doc: "Largest record batch a producer may send, as it is sent (compressed).",
    },
    Row {
        name: "message.timestamp.type",
        value_type: ValueType::String,
        rule: Rule::Any(Kind::Word(TIMESTAMP_TYPES)),
        stand_ins: &[StandIn { key: Key::TimestampType, factor: 1 }],
        doc: "Whose time a record carries: the producer's (`CreateTime`) or the broker's at its arrival (`LogAppendTime`).",
    },
    Row {
        name: "min.cleanable.dirty.ratio",
        value_type: ValueType::Double,
        rule: Rule::Any(Kind::Ratio),
        stand_ins: &[StandIn { key: Key::DirtyRatioMin, factor: 1 }],
        doc: "The uncompacted share of a log from which compacting it pays; in thousandths.",
    },
    Row {
        name: "min.compaction.lag.ms",
        value_type: ValueType::Long,
        rule: Rule::Any(Kind::Number { min: 0, max: i64::MAX }),
        stand_ins: &[StandIn { key: Key::CompactionLagMin, factor: 1 }],
        doc: "A record younger than this is not compacted away.",
    },
    Row {
        name: "min.insync.replicas",
        value_type: ValueType::Int,
        rule: Rule::Only("1"),
        stand_ins: &[],
        doc: "Replicas that must have a record before it is acknowledged. There is one.",
    },
    Row {
        name: "remote.storage.enable",
        value_type: ValueType::Boolean,
        rule: Rule::Only("false"),
        stand_ins: &[],
        doc: "Whether old segments move elsewhere. They do not.",
    },
    Row {
        name: "retention.bytes",
        value_type: ValueType::Long,
        rule: Rule::Any(Kind::Number { min: i64::MIN, max: i64::MAX }),
        stand_ins: &[StandIn { key: Key::RetentionBytes, factor: 1 }],
        doc: "How much is kept of a partition; the oldest segments beyond it are deleted. Less than 0 keeps everything.",
    },
    Row {
        name: "retention.ms",
        value_type: ValueType::Long,
        rule: Rule::Any(Kind::Number { min: -1, max: i64::MAX }),
        stand_ins: &[
            StandIn { key: Key::RetentionMs, factor: 1 },
            StandIn { key: Key::RetentionMinutes, factor: MINUTE_MS },
            StandIn { key: Key::RetentionHours, factor: HOUR_MS },
        ],
        doc: "How long records are kept; a segment is deleted when its newest record is older. -1 is for ever.",
    },
    Row {
        name: "segment.bytes",
        value_type: ValueType::Int,
        rule: Rule::Any(Kind::Number { min: 1 << 20, max: 2_147_483_647 }),
        stand_ins: &[StandIn { key: Key::SegmentBytes, factor: 1 }],
        doc: "Size of a segment file. Records leave a log by whole segments.",
    },
    Row {
        name: "segment.ms",
        value_type: ValueType::Long,
        rule: Rule::Any(Kind::Number { min: 1, max: i64::MAX }),
        stand_ins: &[StandIn { key: Key::RollMs, factor: 1 }, StandIn { key: Key::RollHours, factor: HOUR_MS }],
        doc: "Age after which a segment is closed although it is not full.",
    },
    Row {
        name: "unclean.leader.election.enable",
        value_type: ValueType::Boolean,
        rule: Rule::Only("false"),
        stand_ins: &[],
        doc: "Whether a replica that lacks records may become leader. It may not.",
    },
];

/// Kafka's other topic keys, sorted. Nothing here acts on them.
pub(super) const NOT_IMPLEMENTED: &[&str] = &[
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
    "file.delete.delay.ms",
    "follower.replication.throttled.replicas",
    "index.interval.bytes",
    "leader.replication.throttled.replicas",
    "local.retention.bytes",
    "local.retention.ms",
    "message.timestamp.after.max.ms",
    "message.timestamp.before.max.ms",
    "preallocate",
    "remote.log.copy.disable",
    "remote.log.delete.on.disable",
    "segment.index.bytes",
    "segment.jitter.ms",
];

const MINUTE_MS: i64 = 60 * 1000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
