//! Configuration in two steps: [`RawConfig`] holds what the user wrote, [`Config`] is checked, immutable and cut into one
//! struct per component.
//!
//! - `keys`: the table of what something acts on, one row per key.
//! - `kafka`: Kafka's other keys, with the reason.
//! - `value_type`: Kafka's kinds of values.
//! - `parse`: file and command line into text by key; text into values.
//! - `memory`: the broker's memory cut into budgets by class.
//! - `descriptors`: the descriptors that the process may have, cut into connections and open files.
//! - `check`: all values together, every error reported, not only the first.
//!
//! Nothing here looks at the environment: the two facts that defaults depend on, cores and memory, come in as
//! [`check::Room`]. There is no global configuration; each component is handed its struct.

pub mod check;
pub mod descriptors;
pub mod kafka;
pub mod keys;
pub mod memory;
pub mod parse;
pub mod value_type;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use descriptors::DescriptorPlan;
pub use memory::{MemoryPlan, ShardBudget};
pub use parse::{Origin, RawConfig, Value};

use kafka::WithoutEffect;
use keys::Key;

/// A checked configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Who this broker is and where it keeps things.
    pub node: NodeConfig,
    /// Sockets.
    pub net: NetConfig,
    /// How the broker shows how it is.
    pub admin: AdminConfig,
    /// Threads and memory.
    pub shards: ShardConfig,
    /// The storage engine.
    pub store: StoreSettings,
    /// Topics and who may make them.
    pub metadata: MetadataConfig,
    /// Fetching.
    pub fetch: FetchConfig,
    /// Consumer groups.
    pub groups: GroupConfig,
    /// The broker's own messages.
    pub log: LogConfig,
    /// Every key with its value, in the order of the keys: for people, and for clients that ask.
    pub effective: Vec<Effective>,
    /// Kafka's keys that were set and that nothing acts on.
    pub without_effect: Vec<WithoutEffect>,
}

/// Who this broker is and where it keeps things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Invariant: `>= 0`.
    pub node_id: i32,
    /// Where it stands, as clients are told. Invariant: not empty.
    pub rack: Option<String>,
    /// The data directory.
    pub directory: PathBuf,
}

/// Sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetConfig {
    /// Invariant: at least one, names unique.
    pub listeners: Vec<ListenerConfig>,
    /// Largest body of a request frame. Invariant: fits the memory budget for requests.
    pub request_bytes_max: u32,
    /// Connections of the whole broker. Invariant: `>= 1`.
    pub connection_count_max: u32,
    /// A connection without a request for this long is closed; `None` never closes.
    pub idle_max: Option<Duration>,
}

/// How the broker shows how it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where metrics and health are asked for. Port 0 takes a free one; `None` answers nobody.
    pub bind: Option<SocketAddr>,
}

/// One address that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Upper-case name, which a connection carries for the authorizer.
    pub name: String,
    /// Where to bind. Port 0 takes a free one.
    pub bind: SocketAddr,
    /// Host that clients of this listener are told. Invariant: not a wildcard.
    pub advertised_host: String,
    /// Port that clients are told; `None` is the bound one. Invariant: not 0.
    pub advertised_port: Option<u16>,
}

/// Threads and memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardConfig {
    /// Invariant: `1..=256`.
    pub count: u16,
    /// Whether each shard is tied to a core.
    pub pin_cores: bool,
    /// Budgets by class.
    pub memory: MemoryPlan,
}

/// What the storage engine needs besides the shard it runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where partitions and journals are.
    pub directory: PathBuf,
    /// Size of one shard's journal on disk. Invariant: a multiple of 4096, at least four rounds.
    pub journal_bytes: u64,
    /// Most that one round of writes carries. Invariant: holds the largest batch.
    pub round_bytes_max: usize,
    /// Budget of one shard's write buffers.
    pub write_buffer_bytes_max: usize,
    /// Budget of one shard's tail cache.
    pub tail_cache_bytes_max: usize,
    /// Budget of what one shard has read from segments.
    pub read_cache_bytes_max: usize,
    /// Budget of one shard's indexes of segments.
    pub index_bytes_max: usize,
    /// Budget of what one shard knows of idempotent producers.
    pub producer_bytes_max: usize,
    /// Memory for the keys of one shard's compaction passes.
    pub key_map_bytes_max: usize,
    /// Most that the records of one batch may take when they are decompressed, for compaction or to look for their keys.
    pub records_bytes_max: usize,
    /// Disk space that all shards keep for the broker itself; `None` follows the size of the disk.
    pub reserve_bytes: Option<u64>,
    /// Under `flush.policy=interval`: how long written records may wait for a flush.
    pub flush_interval: Duration,
    /// Under `flush.policy=interval`: how many written bytes may.
    pub flush_interval_bytes: usize,
    /// How often a shard looks for segments to delete.
    pub retention_check_interval: Duration,
    /// How often a shard looks for logs to compact.
    pub compaction_interval: Duration,
    /// How long a silent idempotent producer is remembered.
    pub producer_id_expiration: Duration,
}

/// Topics and who may make them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataConfig {
    /// Whether a Metadata request may make a topic.
    pub auto_create_topics: bool,
    /// Whether clients may delete topics.
    pub delete_topics: bool,
    /// What a topic gets that says nothing.
    pub topic: TopicDefaults,
    /// The largest batch that the broker can take, which bounds what topics may be set to.
    pub batch_bytes_limit: u32,
}

/// What a topic gets that says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDefaults {
    /// Invariant: `>= 1`.
    pub partition_count: i32,
    /// Invariant: 1, until replication exists.
    pub replication_factor: i16,
    /// Largest record batch. Invariant: fits a round and a request.
    pub message_bytes_max: u32,
}

/// Fetching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchConfig {
    /// Most bytes of records in one answer, save for its first batch.
    pub bytes_max: usize,
    /// Fetch sessions of one shard.
    pub session_count_max: usize,
}

/// Consumer groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members. Invariant: `>= 0`.
    pub initial_rebalance_delay_ms: i32,
    /// Shortest session timeout that a member may ask for. Invariant: at most the longest.
    pub session_timeout_min_ms: i32,
    /// Longest session timeout that a member may ask for.
    pub session_timeout_max_ms: i32,
    /// Members of one group. Invariant: `>= 1`.
    pub member_count_max: usize,
    /// Bytes of the note that comes with a committed offset.
    pub offset_metadata_bytes_max: usize,
    /// How long offsets are kept that nobody uses.
    pub offset_retention: Duration,
    /// How often offsets to forget are looked for. Invariant: not zero.
    pub offset_check_interval: Duration,
    /// Largest record that a group is stored in. Invariant: fits a round.
    pub record_bytes_max: usize,
    /// Partitions of the topic that groups are stored in, when it is made. Invariant: `>= 1`.
    pub partition_count: i32,
    /// Its replicas, if there are so many brokers. Invariant: `>= 1`.
    pub replication_factor: i16,
    /// Its segments.
    pub segment_bytes: u64,
    /// Groups of KIP-848.
    pub consumer: ConsumerGroupConfig,
}

/// Consumer groups whose coordinator shares out the partitions (KIP-848).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupConfig {
    /// A member is gone after this long without a word. Invariant: `>= 1`.
    pub session_timeout_ms: i32,
    /// How often members are to be heard of. Invariant: at most the session timeout.
    pub heartbeat_interval_ms: i32,
    /// Members of one group. Invariant: `>= 1`.
    pub member_count_max: usize,
    /// Ways to share out partitions. Invariant: not empty, words of the row.
    pub assignors: Vec<String>,
    /// Which groups become groups of the other protocol. Invariant: a word of the row.
    pub migration_policy: String,
}

/// The broker's own messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Shape of a line.
    pub format: LogFormat,
    /// Least severe level that is written.
    pub level: tracing::Level,
}

/// Shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Human,
    /// One JSON object per line.
    Json,
}

/// A key with its value as it was taken. A number that had to shrink has shrunk; a 0 that leaves the choice to us is a 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// The key.
    pub key: Key,
    /// Its value.
    pub value: Value,
    /// Who set it.
    pub origin: Origin,
}

/// Something wrong with a configuration. Every variant names the key or the place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read or is not TOML.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// `--set` without `=`.
    #[error("--set {text}: expected key=value")]
    Assignment {
        /// The argument.
        text: String,
    },
    /// The same key twice in one place.
    #[error("{key}: given by {first} and again by {second}")]
    Twice {
        /// The key.
        key: String,
        /// First place.
        first: Origin,
        /// Second place.
        second: Origin,
    },
    /// Nobody knows this key.
    #[error("{key}: unknown key ({origin}){}", nearest.map(|near| format!("; did you mean {near}?")).unwrap_or_default())]
    UnknownKey {
        /// The key.
        key: String,
        /// The nearest key there is.
        nearest: Option<&'static str>,
        /// Where it was written.
        origin: Origin,
    },
    /// A key of Kafka's that promises what is not kept.
    #[error("{key}: refused ({origin}): {why} Without it, or with Kafka's default, the broker starts")]
    Refused {
        /// The key.
        key: String,
        /// What is not kept.
        why: &'static str,
        /// Where it was written.
        origin: Origin,
    },
    /// A value of the wrong kind or out of range.
    #[error("{key}: {value:?} ({origin}) is not allowed; expected {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What would have been right.
        expected: String,
        /// Where it was written.
        origin: Origin,
    },
    /// Two values that are right alone and wrong together.
    #[error("{first} and {second} clash: {why}")]
    Clash {
        /// One key.
        first: &'static str,
        /// The other key.
        second: &'static str,
        /// Why.
        why: String,
    },
}

impl StoreSettings {
    /// Disk space that all shards keep for the broker itself, on a disk of `disk_bytes`.
    pub fn reserve_bytes(&self, disk_bytes: u64) -> u64 {
        let automatic =
            (disk_bytes / RESERVE_DISK_DIVISOR).max(RESERVE_BYTES_MIN).min(disk_bytes / RESERVE_DIVISOR_MIN);
        self.reserve_bytes.unwrap_or(automatic)
    }
}

impl Config {
    /// The effective values as a TOML document, with what follows from them as comments.
    pub fn describe(&self) -> String {
        let is_set = |effective: &&Effective| effective.value != Value::Unset;
        let mut lines: Vec<String> = self.effective.iter().filter(is_set).map(ToString::to_string).collect();
        lines.extend(self.without_effect.iter().map(ToString::to_string));
        let memory = self.shards.memory.to_string().replace('\n', "\n# ");
        format!("{}\n\n# memory: {memory}\n", lines.join("\n"))
    }
}

/// The part of a disk that is kept when nobody says how much.
const RESERVE_DISK_DIVISOR: u64 = 100;
/// The least that is kept then,
const RESERVE_BYTES_MIN: u64 = 256 << 20;
/// except of a small disk, which records are to have most of.
const RESERVE_DIVISOR_MIN: u64 = 8;

impl fmt::Display for WithoutEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = format!("{:?} = {:?}", self.key.name, self.value);
        write!(f, "{setting:<60} # {}, without effect: {}", self.origin, self.reason)
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setting = format!("{:?} = {}", keys::row(self.key).name, self.value);
        write!(f, "{setting:<60} # {}", self.origin)
    }
}
