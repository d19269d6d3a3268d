//! From [`RawConfig`] to [`Config`]: every value parsed, bounded and compared with the others.
//!
//! 1. Every written key must be known: it has a row, or it is one of Kafka's that nothing acts on and that may be set. The
//!    others are refused with the reason or the nearest name.
//! 2. Every row takes its written or default text and parses it by its kind.
//! 3. The values are read together: listeners with their advertised addresses, memory with shards, sizes with budgets.
//!
//! All errors of all steps are collected, so that one run shows them all.

mod listeners;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::kafka::{self, Class, Known, WithoutEffect};
use super::keys::{self, Key, Kind};
use super::parse::{self, Origin, RawConfig, RawValue, Value};
use super::{
    Config, ConfigError, ConsumerGroupConfig, Effective, FetchConfig, GroupConfig, LogConfig, LogFormat, MemoryPlan,
    MetadataConfig, NetConfig, NodeConfig, ShardBudget, ShardConfig, StoreSettings, TopicDefaults,
};

/// What the machine has to give, which the defaults depend on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Cores this process may use. Invariant: `>= 1`.
    pub core_count: usize,
    /// Memory of the machine or of the control group, whichever is less.
    pub memory_bytes: u64,
}

/// Checks everything the user wrote. The errors are all there are, never an empty list.
pub fn check(raw: &RawConfig, room: Room) -> Result<Config, Vec<ConfigError>> {
    let mut errors = raw.errors.clone();
    let without_effect = check_without_effect(raw, &mut errors);
    let mut settings = Settings::parse(raw, &mut errors);
    settings.settle_directory();

    let listeners = listeners::check(&settings, &mut errors);
    let admin = listeners::check_admin(&settings, &listeners, &mut errors);
    let shards = check_shards(&settings, room, &mut errors);
    let directory = check_directory(&settings, &mut errors);
    let idle_max = check_idle(&settings, &mut errors);
    check_retention(&settings, &mut errors);
    check_sessions(&settings, &mut errors);
    let sizes = shards.as_ref().and_then(|shards| check_sizes(&settings, shards, &mut errors));

    let (Some(shards), Some(directory), Some(sizes)) = (shards, directory, sizes) else {
        assert!(!errors.is_empty(), "a part is missing only together with its error");
        return Err(errors);
    };
    if !errors.is_empty() {
        return Err(errors);
    }
    settings.settle(Key::RequestBytesMax, i64::from(sizes.request_bytes_max));
    settings.settle(Key::JournalBytes, i64::try_from(sizes.journal_bytes).expect("it only shrinks"));
    let budget = shards.memory.shard;
    let key_map_bytes = budget.key_map * usize::from(shards.count);
    settings.settle(Key::KeyMapBytes, i64::try_from(key_map_bytes).expect("memory has fewer than 2^63 bytes"));
    let fetch = check_fetch(&settings, shards.count);
    let store = check_store(&settings, directory.clone(), &sizes, &budget);
    Ok(Config {
        node: NodeConfig {
            node_id: settings.number(Key::NodeId),
            rack: Some(settings.text(Key::Rack)).filter(|rack| !rack.is_empty()).map(str::to_owned),
            directory,
        },
        net: NetConfig {
            listeners,
            request_bytes_max: sizes.request_bytes_max,
            connection_count_max: settings.number(Key::ConnectionCountMax),
            idle_max,
        },
        admin,
        store,
        shards,
        metadata: MetadataConfig {
            auto_create_topics: settings.flag(Key::AutoCreateTopics),
            delete_topics: settings.flag(Key::DeleteTopics),
            topic: TopicDefaults {
                partition_count: settings.number(Key::PartitionCount),
                replication_factor: settings.number(Key::ReplicationFactor),
                message_bytes_max: sizes.message_bytes_max,
            },
            batch_bytes_limit: sizes.batch_bytes_limit,
        },
        fetch,
        groups: check_groups(&settings, sizes.message_bytes_max),
        log: check_log(&settings),
        effective: settings.effective(),
        without_effect,
    })
}

/// The keys that no row of the table has: Kafka's others are taken or refused, and what nobody knows is refused.
fn check_without_effect(raw: &RawConfig, errors: &mut Vec<ConfigError>) -> Vec<WithoutEffect> {
    let mut accepted = Vec::new();
    for (name, RawValue { text, origin }) in raw.values.iter().filter(|(name, _)| keys::find(name).is_none()) {
        let origin = *origin;
        let Some(Known { key, class, reason }) = kafka::find(name) else {
            errors.push(parse::unknown_key(name, origin));
            continue;
        };
        if let Err(expected) = key.value_type.check(text) {
            let (value, expected) = (text.clone(), expected.to_owned());
            errors.push(ConfigError::Value { key: key.name, value, expected, origin });
        } else if class == Class::Refused && !key.is_default(text) {
            errors.push(ConfigError::Refused { key: name.clone(), why: reason, origin });
        } else {
            accepted.push(WithoutEffect { key, reason, value: text.clone(), origin });
        }
    }
    accepted
}

/// Every key with a value that is legal on its own; an illegal one was reported and holds its default.
struct Settings(BTreeMap<Key, (Value, Origin)>);

impl Settings {
    fn parse(raw: &RawConfig, errors: &mut Vec<ConfigError>) -> Self {
        let mut settings = BTreeMap::new();
        for row in keys::ROWS {
            let is_optional = row.default.is_empty() && matches!(row.kind, Kind::Number { .. });
            let default = if is_optional { Ok(Value::Unset) } else { parse::parse_value(row.kind, row.default) };
            let mut setting = (default.expect("a test holds that defaults are legal"), Origin::Default);
            if let Some(written) = raw.values.get(row.name) {
                let origin = written.origin;
                match parse::parse_value(row.kind, &written.text) {
                    Ok(value) => setting = (value, origin),
                    Err(expected) => {
                        let value = written.text.clone();
                        errors.push(ConfigError::Value { key: row.name, value, expected, origin });
                    }
                }
            }
            settings.insert(row.key, setting);
        }
        Self(settings)
    }

    /// Takes the number that is in force, which may be less than what was said.
    fn settle(&mut self, key: Key, number: i64) {
        let (value, _) = self.0.get_mut(&key).expect("every key has a value");
        *value = Value::Number(number);
    }

    /// As in Kafka, `log.dir` counts where nobody has set `log.dirs`.
    fn settle_directory(&mut self) {
        let alone = self.0[&Key::DataDirectoryAlone].clone();
        if self.origin(Key::DataDirectory) == Origin::Default && alone.1 != Origin::Default {
            self.0.insert(Key::DataDirectory, alone);
        }
    }

    fn origin(&self, key: Key) -> Origin {
        self.0[&key].1
    }

    fn flag(&self, key: Key) -> bool {
        match &self.0[&key].0 {
            Value::Flag(flag) => *flag,
            other => unreachable!("{key:?} is not a flag: {other}"),
        }
    }

    fn number<T: TryFrom<i64>>(&self, key: Key) -> T {
        match &self.0[&key].0 {
            Value::Number(number) => T::try_from(*number).ok().expect("the row's bounds fit the field"),
            other => unreachable!("{key:?} is not a number: {other}"),
        }
    }

    /// A number that need not be set.
    fn find_number(&self, key: Key) -> Option<i64> {
        (self.0[&key].0 != Value::Unset).then(|| self.number(key))
    }

    fn milliseconds(&self, key: Key) -> Duration {
        Duration::from_millis(self.number(key))
    }

    fn text(&self, key: Key) -> &str {
        match &self.0[&key].0 {
            Value::Text(text) => text,
            other => unreachable!("{key:?} is not text: {other}"),
        }
    }

    fn refuse(&self, key: Key, value: &str, expected: &str) -> ConfigError {
        let (value, expected) = (value.to_owned(), expected.to_owned());
        ConfigError::Value { key: keys::row(key).name, value, expected, origin: self.origin(key) }
    }

    fn effective(&self) -> Vec<Effective> {
        let show = |(key, (value, origin)): (&Key, &(Value, Origin))| Effective {
            key: *key,
            value: value.clone(),
            origin: *origin,
        };
        self.0.iter().map(show).collect()
    }
}

/// A shard per core. Where there are only two, a second shard costs more than it brings: decision 007.
fn default_shard_count(core_count: usize) -> u16 {
    let shard_count = if core_count <= 2 { 1 } else { core_count.min(SHARD_COUNT_MAX) };
    u16::try_from(shard_count).expect("cut to 256")
}

fn check_shards(settings: &Settings, room: Room, errors: &mut Vec<ConfigError>) -> Option<ShardConfig> {
    let count = match settings.number::<u16>(Key::ShardCount) {
        0 => default_shard_count(room.core_count),
        count => count,
    };
    let bytes = match settings.number::<u64>(Key::MemoryBytes) {
        0 => room.memory_bytes / MEMORY_DIVISOR,
        bytes => bytes,
    };
    let key_map_bytes = (settings.number::<usize>(Key::KeyMapBytes) / usize::from(count)).max(KEY_MAP_BYTES_MIN);
    match MemoryPlan::cut(bytes, count, key_map_bytes) {
        Ok(memory) => {
            let room_bytes = memory.shard.key_map;
            if room_bytes < key_map_bytes && settings.origin(Key::KeyMapBytes) != Origin::Default {
                let (first, second) = (keys::row(Key::KeyMapBytes).name, keys::row(Key::MemoryBytes).name);
                let why = format!("a shard's memory for keys is {room_bytes} bytes, less than {key_map_bytes}");
                errors.push(ConfigError::Clash { first, second, why });
            }
            Some(ShardConfig { count, pin_cores: settings.flag(Key::PinCores), memory })
        }
        Err(error) => {
            let (first, second) = (keys::row(Key::MemoryBytes).name, keys::row(Key::ShardCount).name);
            let why = format!("{} for {count} shards is {error}", super::memory::mib(bytes));
            errors.push(ConfigError::Clash { first, second, why });
            None
        }
    }
}

fn check_directory(settings: &Settings, errors: &mut Vec<ConfigError>) -> Option<PathBuf> {
    let text = settings.text(Key::DataDirectory);
    if text.is_empty() || text.contains(',') {
        errors.push(settings.refuse(Key::DataDirectory, text, "one directory"));
        return None;
    }
    Some(PathBuf::from(text))
}

fn check_idle(settings: &Settings, errors: &mut Vec<ConfigError>) -> Option<Duration> {
    match settings.number::<i64>(Key::ConnectionIdleMax) {
        -1 => None,
        idle_ms @ 0..1000 => {
            errors.push(settings.refuse(Key::ConnectionIdleMax, &idle_ms.to_string(), "-1, or 1000 and more"));
            None
        }
        idle_ms => Some(Duration::from_millis(idle_ms.unsigned_abs())),
    }
}

/// What holds for topics that say nothing must fit together, as Kafka has it.
fn check_retention(settings: &Settings, errors: &mut Vec<ConfigError>) {
    for key in [Key::RetentionMs, Key::RetentionMinutes, Key::RetentionHours] {
        if settings.find_number(key) == Some(0) {
            errors.push(settings.refuse(key, "0", "-1, or 1 and more"));
        }
    }
    let (lag_min, lag_max) = (settings.number::<i64>(Key::CompactionLagMin), settings.number(Key::CompactionLagMax));
    if lag_min > lag_max {
        let (first, second) = (keys::row(Key::CompactionLagMin).name, keys::row(Key::CompactionLagMax).name);
        errors.push(ConfigError::Clash { first, second, why: format!("{lag_min} is more than {lag_max}") });
    }
}

/// Timeouts of groups are within their bounds, and members are to be heard of before they count as gone.
fn check_sessions(settings: &Settings, errors: &mut Vec<ConfigError>) {
    let pairs = [
        (Key::GroupSessionMin, Key::GroupSessionMax),
        (Key::ConsumerSessionMin, Key::ConsumerSession),
        (Key::ConsumerSession, Key::ConsumerSessionMax),
        (Key::ConsumerHeartbeatMin, Key::ConsumerHeartbeat),
        (Key::ConsumerHeartbeat, Key::ConsumerHeartbeatMax),
        (Key::ConsumerHeartbeat, Key::ConsumerSession),
    ];
    for (lesser, greater) in pairs {
        let (least, most) = (settings.number::<i64>(lesser), settings.number(greater));
        if least > most {
            let (first, second) = (keys::row(lesser).name, keys::row(greater).name);
            errors.push(ConfigError::Clash { first, second, why: format!("{least} is more than {most}") });
        }
    }
    if parse::parse_list(settings.text(Key::ConsumerAssignors)).next().is_none() {
        let (first, second) = (keys::row(Key::ConsumerAssignors).name, keys::row(Key::ConsumerSizeMax).name);
        errors.push(ConfigError::Clash { first, second, why: "groups need an assignor".to_owned() });
    }
}

struct Sizes {
    request_bytes_max: u32,
    message_bytes_max: u32,
    /// The largest batch that arrives and fits a round, whatever topics are set to.
    batch_bytes_limit: u32,
    round_bytes_max: usize,
    journal_bytes: u64,
}

/// Holds `message <= request <= budget of requests`, `message <= round`, and `4 rounds <= journal`.
fn check_sizes(settings: &Settings, shards: &ShardConfig, errors: &mut Vec<ConfigError>) -> Option<Sizes> {
    let before = errors.len();
    let budget = shards.memory.shard;
    let mut clash = |first: Key, second: Key, why: String| {
        errors.push(ConfigError::Clash { first: keys::row(first).name, second: keys::row(second).name, why });
    };

    let request_room = u32::try_from(budget.requests).unwrap_or(u32::MAX);
    let mut request_bytes_max: u32 = settings.number(Key::RequestBytesMax);
    if request_bytes_max > request_room {
        if settings.origin(Key::RequestBytesMax) != Origin::Default {
            let why = format!("a shard's memory for requests is {request_room} bytes, less than one request");
            clash(Key::RequestBytesMax, Key::MemoryBytes, why);
        }
        request_bytes_max = request_room;
    }
    let message_bytes_max: u32 = settings.number(Key::MessageBytesMax);
    if message_bytes_max.saturating_add(REQUEST_OVERHEAD_BYTES) > request_bytes_max {
        let why = format!("a request may have {request_bytes_max} bytes, so no batch of {message_bytes_max} arrives");
        clash(Key::MessageBytesMax, Key::RequestBytesMax, why);
    }

    let round_bytes_max = (budget.write_buffers / 2).min(ROUND_BYTES_MAX) & !(BLOCK_BYTES - 1);
    let round_room = u32::try_from(round_bytes_max - BLOCK_BYTES).expect("a round is at most 32 MiB");
    if message_bytes_max > round_room {
        let why = format!("a round of writes carries {round_room} bytes, less than one batch");
        clash(Key::MessageBytesMax, Key::MemoryBytes, why);
    }
    let block_bytes = u64::try_from(BLOCK_BYTES).expect("4096");
    let journal_bytes = settings.number::<u64>(Key::JournalBytes) & !(block_bytes - 1);
    let rounds_bytes = u64::try_from(round_bytes_max).expect("a round is at most 32 MiB") * JOURNAL_ROUNDS_MIN;
    let round_bytes_max = if journal_bytes < rounds_bytes {
        // A short journal is a choice; the rounds shrink to it as long as a batch still fits.
        let shrunk =
            usize::try_from(journal_bytes / JOURNAL_ROUNDS_MIN).expect("less than a round") & !(BLOCK_BYTES - 1);
        if usize::try_from(message_bytes_max).expect("32 bits") + BLOCK_BYTES > shrunk {
            let why = format!("the journal holds rounds of {shrunk} bytes, less than one batch");
            clash(Key::MessageBytesMax, Key::JournalBytes, why);
        }
        shrunk
    } else {
        round_bytes_max
    };
    if errors.len() > before {
        return None;
    }
    let round_room = u32::try_from(round_bytes_max - BLOCK_BYTES).expect("a round is at most 32 MiB");
    let batch_bytes_limit = round_room.min(request_bytes_max - REQUEST_OVERHEAD_BYTES);
    assert!(message_bytes_max <= batch_bytes_limit, "what does not fit was reported");
    Some(Sizes { request_bytes_max, message_bytes_max, batch_bytes_limit, round_bytes_max, journal_bytes })
}

fn check_store(settings: &Settings, directory: PathBuf, sizes: &Sizes, budget: &ShardBudget) -> StoreSettings {
    StoreSettings {
        directory,
        journal_bytes: sizes.journal_bytes,
        round_bytes_max: sizes.round_bytes_max,
        write_buffer_bytes_max: budget.write_buffers,
        tail_cache_bytes_max: budget.tail_cache,
        read_cache_bytes_max: budget.read_cache,
        index_bytes_max: budget.indexes,
        producer_bytes_max: budget.producers,
        key_map_bytes_max: budget.key_map,
        records_bytes_max: budget.records_bytes_max(),
        reserve_bytes: Some(settings.number(Key::ReserveBytes)).filter(|bytes| *bytes > 0),
        flush_interval: settings.milliseconds(Key::FlushInterval),
        flush_interval_bytes: settings.number(Key::FlushIntervalBytes),
        retention_check_interval: settings.milliseconds(Key::RetentionCheckInterval),
        compaction_interval: settings.milliseconds(Key::CompactionInterval),
        producer_id_expiration: settings.milliseconds(Key::ProducerIdExpiration),
    }
}

fn check_fetch(settings: &Settings, shard_count: u16) -> FetchConfig {
    FetchConfig {
        bytes_max: settings.number(Key::FetchBytesMax),
        session_count_max: settings.number::<usize>(Key::FetchSessionCountMax).div_ceil(usize::from(shard_count)),
    }
}

fn check_groups(settings: &Settings, message_bytes_max: u32) -> GroupConfig {
    let minutes = settings.number::<u64>(Key::OffsetsRetention);
    GroupConfig {
        initial_rebalance_delay_ms: settings.number(Key::GroupInitialDelay),
        session_timeout_min_ms: settings.number(Key::GroupSessionMin),
        session_timeout_max_ms: settings.number(Key::GroupSessionMax),
        member_count_max: settings.number(Key::GroupSizeMax),
        offset_metadata_bytes_max: settings.number(Key::OffsetMetadataMax),
        offset_retention: Duration::from_mins(minutes),
        offset_check_interval: settings.milliseconds(Key::OffsetsCheckInterval),
        record_bytes_max: usize::try_from(message_bytes_max).expect("32 bits fit usize"),
        partition_count: settings.number(Key::OffsetsPartitionCount),
        replication_factor: settings.number(Key::OffsetsReplicationFactor),
        segment_bytes: settings.number(Key::OffsetsSegmentBytes),
        consumer: ConsumerGroupConfig {
            session_timeout_ms: settings.number(Key::ConsumerSession),
            heartbeat_interval_ms: settings.number(Key::ConsumerHeartbeat),
            member_count_max: settings.number(Key::ConsumerSizeMax),
            assignors: parse::parse_list(settings.text(Key::ConsumerAssignors)).map(str::to_owned).collect(),
            migration_policy: settings.text(Key::ConsumerMigration).to_owned(),
        },
    }
}

fn check_log(settings: &Settings) -> LogConfig {
    let format = if settings.text(Key::LogFormat) == "json" { LogFormat::Json } else { LogFormat::Human };
    let level = settings.text(Key::LogLevel).parse().expect("the row's words are levels");
    LogConfig { format, level }
}

/// The part of the memory that is taken when nobody says how much.
const MEMORY_DIVISOR: u64 = 4;
const SHARD_COUNT_MAX: usize = 256;
/// The least that a shard's compaction works with.
const KEY_MAP_BYTES_MIN: usize = 1 << 20;
const BLOCK_BYTES: usize = 4096;
const ROUND_BYTES_MAX: usize = 32 << 20;
/// A journal shorter than this many rounds would wait for itself.
const JOURNAL_ROUNDS_MIN: u64 = 4;
/// A Produce request's bytes around its one batch: client id, topic name, counts. Names are at most 249 bytes, ids 32 KiB.
const REQUEST_OVERHEAD_BYTES: u32 = 34 * 1024;
const _: () = assert!(ROUND_BYTES_MAX.is_multiple_of(BLOCK_BYTES));

#[cfg(test)]
mod tests;
