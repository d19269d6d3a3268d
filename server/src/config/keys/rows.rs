//! The rows of the table of configuration keys, in the order of [`Key`]. Nothing but the table.

use super::{Change, Key, Kind, Row};

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
        key: Key::DeleteTopics,
        name: "delete.topic.enable",
        kind: Kind::Flag,
        default: "true",
        change: Change::Restart,
        doc: "Whether clients may delete topics.",
    },
    Row {
        key: Key::FlushPolicy,
        name: "flush.policy",
        kind: Kind::Word(FLUSH_POLICIES),
        default: "commit",
        change: Change::Restart,
        doc: "When records count as written. `commit`: a producer is answered after its records are on the device. \
              `interval`: after they are handed to the system, which loses what was not flushed with the machine's power; \
              they are flushed after `flush.interval.ms` or `flush.interval.bytes`. `none`: the same, flushed by chance.",
    },
    Row {
        key: Key::FlushInterval,
        name: "flush.interval.ms",
        kind: Kind::Number { min: 1, max: 24 * 3600 * 1000 },
        default: "1000",
        change: Change::Restart,
        doc: "Under `flush.policy=interval`: how long records of a shard may wait for their flush. It holds for all topics; \
              Kafka's `flush.ms` and `flush.messages` of a topic are not implemented.",
    },
    Row {
        key: Key::FlushIntervalBytes,
        name: "flush.interval.bytes",
        kind: Kind::Bytes { min: 4 * KIB, max: 64 * GIB },
        default: "67108864",
        change: Change::Restart,
        doc: "Under `flush.policy=interval`: a shard that has written this much since its last flush flushes at once.",
    },
    Row {
        key: Key::SegmentBytes,
        name: "log.segment.bytes",
        kind: Kind::Bytes { min: MIB, max: 2 * GIB - 1 },
        default: "1073741824",
        change: Change::Restart,
        doc: "Size of a segment file. Records leave a log by whole segments.",
    },
    Row {
        key: Key::RollMs,
        name: "log.roll.ms",
        kind: Kind::Number { min: 1, max: i64::MAX },
        default: "",
        change: Change::Restart,
        doc: "Age after which a segment is closed although it is not full; wins over `log.roll.hours`.",
    },
    Row {
        key: Key::RollHours,
        name: "log.roll.hours",
        kind: Kind::Number { min: 1, max: 2_147_483_647 },
        default: "168",
        change: Change::Restart,
        doc: "The same in hours.",
    },
    Row {
        key: Key::RetentionBytes,
        name: "log.retention.bytes",
        kind: Kind::Number { min: -1, max: i64::MAX },
        default: "-1",
        change: Change::Restart,
        doc: "How much is kept of a partition; the oldest segments beyond it are deleted. -1 keeps everything.",
    },
    Row {
        key: Key::RetentionMs,
        name: "log.retention.ms",
        kind: Kind::Number { min: -1, max: i64::MAX },
        default: "",
        change: Change::Restart,
        doc: "How long records are kept; a segment is deleted when its newest record is older. -1 is for ever, 0 is not \
              allowed. Wins over `log.retention.minutes`, which wins over `log.retention.hours`.",
    },
    Row {
        key: Key::RetentionMinutes,
        name: "log.retention.minutes",
        kind: Kind::Number { min: -1, max: 2_147_483_647 },
        default: "",
        change: Change::Restart,
        doc: "The same in minutes.",
    },
    Row {
        key: Key::RetentionHours,
        name: "log.retention.hours",
        kind: Kind::Number { min: -1, max: 2_147_483_647 },
        default: "168",
        change: Change::Restart,
        doc: "The same in hours.",
    },
    Row {
        key: Key::RetentionCheckInterval,
        name: "log.retention.check.interval.ms",
        kind: Kind::Number { min: 1, max: 30 * 24 * 3600 * 1000 },
        default: "300000",
        change: Change::Restart,
        doc: "How often each shard looks for segments to delete.",
    },
    Row {
        key: Key::CleanupPolicy,
        name: "log.cleanup.policy",
        kind: Kind::Words(CLEANUP_POLICIES),
        default: "delete",
        change: Change::Restart,
        doc: "What becomes of old records. `delete`: whole segments go, by size and age. `compact`: for each key the newest \
              record stays. Neither: everything is kept.",
    },
    Row {
        key: Key::TombstoneRetention,
        name: "log.cleaner.delete.retention.ms",
        kind: Kind::Number { min: 0, max: i64::MAX },
        default: "86400000",
        change: Change::Restart,
        doc: "How long compaction keeps a record without a value after the pass that first saw it.",
    },
    Row {
        key: Key::CompactionLagMin,
        name: "log.cleaner.min.compaction.lag.ms",
        kind: Kind::Number { min: 0, max: i64::MAX },
        default: "0",
        change: Change::Restart,
        doc: "A record younger than this is not compacted away.",
    },
    Row {
        key: Key::CompactionLagMax,
        name: "log.cleaner.max.compaction.lag.ms",
        kind: Kind::Number { min: 1, max: i64::MAX },
        default: "9223372036854775807",
        change: Change::Restart,
        doc: "A log that has held an uncompacted record for this long is compacted, however little there is to gain.",
    },
    Row {
        key: Key::DirtyRatioMin,
        name: "log.cleaner.min.cleanable.ratio",
        kind: Kind::Ratio,
        default: "0.5",
        change: Change::Restart,
        doc: "The uncompacted share of a log from which compacting it pays.",
    },
    Row {
        key: Key::CompactionEnabled,
        name: "log.cleaner.enable",
        kind: Kind::Word(&["true"]),
        default: "true",
        change: Change::Restart,
        doc: "Compaction is always on, for topics that ask for it.",
    },
    Row {
        key: Key::CompactionInterval,
        name: "log.cleaner.backoff.ms",
        kind: Kind::Number { min: 1, max: 30 * 24 * 3600 * 1000 },
        default: "15000",
        change: Change::Restart,
        doc: "How often each shard looks for logs to compact.",
    },
    Row {
        key: Key::KeyMapBytes,
        name: "log.cleaner.dedupe.buffer.size",
        kind: Kind::Bytes { min: MIB, max: 1024 * GIB },
        default: "134217728",
        change: Change::Restart,
        doc: "Memory for the keys of compaction, of all shards together; a key takes 28 bytes. With less than a log has keys, \
              a pass over it takes several turns. A shard has at least 1 MiB. The default shrinks to what the memory allows; \
              a value that was set and does not fit stops the start.",
    },
    Row {
        key: Key::TimestampType,
        name: "log.message.timestamp.type",
        kind: Kind::Word(TIMESTAMP_TYPES),
        default: "CreateTime",
        change: Change::Restart,
        doc: "Whose time a record carries: the producer's (`CreateTime`) or the broker's at its arrival (`LogAppendTime`).",
    },
    Row {
        key: Key::ProducerIdExpiration,
        name: "producer.id.expiration.ms",
        kind: Kind::Number { min: 1, max: 2_147_483_647 },
        default: "86400000",
        change: Change::Restart,
        doc: "An idempotent producer that was silent for this long is forgotten.",
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
        key: Key::ReserveBytes,
        name: "millrace.reserve.bytes",
        kind: Kind::Bytes { min: 0, max: 1024 * GIB },
        default: "0",
        change: Change::Restart,
        doc: "Disk space of all shards together that producers do not get, so that a full disk leaves the broker able to \
              work and to delete. 0 is the larger of 256 MiB and 1 % of the disk, but at most an eighth of the disk.",
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

/// What `flush.policy` may be.
pub const FLUSH_POLICIES: &[&str] = &["commit", "interval", "none"];
/// What `log.cleanup.policy` may hold.
pub const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
/// What `log.message.timestamp.type` may be.
pub const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;
