//! Configuration keys a topic may set, what stands in for those it does not set, and what they mean to its logs.
//!
//! [`ROWS`] has all of Kafka's. Something acts on most of them. Those that tune what does not exist here may be set, are kept
//! and told, and change nothing. One that promises what is not kept is accepted with the one value that says what Millrace does
//! anyway, and refused with any other: a client that asks for recompression must learn that it does not get it.
//!
//! A topic that sets nothing gets the broker's value: [`Row::stand_ins`] names the broker's keys for it, the one that wins
//! first. [`Defaults`] holds what they come to.

mod rows;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use millrace_engine::log::config::{CleanupPolicy, FlushPolicy, LogConfig, TimestampType};

use super::controller::{Refusal, is_internal};
use super::group_config;
use crate::config::kafka;
use crate::config::keys::{self, Key, Kind};
use crate::config::parse::{self, Value};
use crate::config::value_type::ValueType;
use crate::config::{Effective, Origin};

pub use rows::ROWS;

/// A key that a topic may set.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Kafka's name of it, where Kafka has it.
    pub name: &'static str,
    /// What clients are told its values are.
    pub value_type: ValueType,
    /// What it may hold.
    pub rule: Rule,
    /// The broker's keys that hold for topics that say nothing, the one that wins first.
    pub stand_ins: &'static [StandIn],
    /// One line for whoever asks.
    pub doc: &'static str,
}

/// A broker's key behind a topic's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandIn {
    /// The key.
    pub key: Key,
    /// What its number is multiplied with: Kafka has some of them in hours. 1 for everything else.
    pub factor: i64,
}

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A number of bytes up to the largest batch that the broker can take.
    MessageBytes,
    /// Anything of this kind.
    Any(Kind),
    /// Anything of this kind, and nothing acts on it.
    WithoutEffect {
        /// What it may hold.
        kind: Kind,
        /// What Kafka has it hold when nobody says anything.
        default: &'static str,
    },
    /// Only what the broker does anyway.
    Only(&'static str),
}

/// The row of the key that is called `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Checks one key. `batch_bytes_limit` is the largest batch that the broker can take.
pub fn check(key: &str, value: &str, batch_bytes_limit: u32) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::InvalidConfig { key: shorten(key), why });
    let Some(row) = find(key) else { return refuse("unknown topic config name".to_owned()) };
    if value.len() > VALUE_BYTES_MAX {
        return refuse(format!("the value has more than {VALUE_BYTES_MAX} bytes"));
    }
    match row.rule {
        Rule::MessageBytes => match value.trim().parse::<u32>() {
            Ok(bytes) if bytes <= batch_bytes_limit => Ok(()),
            _ => refuse(format!("{value:?} is not a number from 0 to {batch_bytes_limit}")),
        },
        Rule::Any(kind) | Rule::WithoutEffect { kind, .. } => match parse::parse_value(kind, value.trim()) {
            Ok(_) => Ok(()),
            Err(expected) => refuse(format!("{value:?} is not allowed; expected {expected}")),
        },
        Rule::Only(only) if value == only => Ok(()),
        Rule::Only(only) => refuse(format!("{value:?} is not implemented yet; only {only} is")),
    }
}

/// The key as far as it is repeated to whoever sent it.
pub fn shorten(key: &str) -> String {
    key.chars().take(VALUE_BYTES_MAX).collect()
}

/// What holds for topics that say nothing, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Invariant: an entry for each of [`ROWS`], legal for it.
    values: BTreeMap<&'static str, String>,
    /// Whether [`CLEANUP_POLICY`] among them says `compact`: every Produce request asks.
    compacts: bool,
    /// [`MESSAGE_BYTES_MAX`] among them, and the timestamps that they admit, for the same reason.
    batch_bytes_max: usize,
    timestamps: Timestamps,
}

/// How far a producer's timestamps may be from the broker's time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// Whether the broker replaces them, and takes any.
    are_replaced: bool,
    /// Milliseconds before it. Invariant: not negative.
    before_max: i64,
    /// Milliseconds after it. Invariant: not negative.
    after_max: i64,
}

impl Timestamps {
    /// Whether a batch that begins with `first` and whose latest is `latest` may be appended at `now`; all in
    /// milliseconds. A batch without timestamps has -1, and is admitted as in Kafka.
    pub fn admit(&self, first: i64, latest: i64, now: i64) -> bool {
        let is_early = first != NO_TIMESTAMP && now.saturating_sub(first) > self.before_max;
        let is_late = latest != NO_TIMESTAMP && latest.saturating_sub(now) > self.after_max;
        self.are_replaced || !(is_early || is_late)
    }

    /// The earliest and the latest that is admitted at `now`.
    pub fn range(&self, now: i64) -> (i64, i64) {
        (now.saturating_sub(self.before_max), now.saturating_add(self.after_max))
    }
}

impl Defaults {
    /// What this broker's configuration comes to.
    pub fn new(effective: &[Effective]) -> Self {
        let values = ROWS.iter().map(|row| (row.name, default_value(row, effective))).collect();
        let mut defaults = Self { values, ..Self::default() };
        defaults.compacts = has_policy(defaults.value(CLEANUP_POLICY), "compact");
        defaults.batch_bytes_max = defaults.value(MESSAGE_BYTES_MAX).parse().expect("a legal number of bytes");
        defaults.timestamps = defaults.read_timestamps(&BTreeMap::new());
        defaults
    }

    /// The largest batch of a topic that sets `config`.
    pub fn batch_bytes_max(&self, config: &BTreeMap<String, String>) -> usize {
        config.get(MESSAGE_BYTES_MAX).and_then(|value| value.trim().parse().ok()).unwrap_or(self.batch_bytes_max)
    }

    /// The timestamps that a topic takes that sets `config`.
    pub fn timestamps(&self, config: &BTreeMap<String, String>) -> Timestamps {
        if config.is_empty() { self.timestamps } else { self.read_timestamps(config) }
    }

    fn read_timestamps(&self, config: &BTreeMap<String, String>) -> Timestamps {
        let value = |key: &str| config.get(key).map_or(self.value(key), String::as_str).trim();
        let number = |key| value(key).parse().unwrap_or(i64::MAX);
        Timestamps {
            are_replaced: value(TIMESTAMP_TYPE) == "LogAppendTime",
            before_max: number(TIMESTAMP_BEFORE_MAX),
            after_max: number(TIMESTAMP_AFTER_MAX),
        }
    }

    /// Whether the logs of a topic that sets `config` are compacted, and so their records need keys.
    pub fn compacts(&self, config: &BTreeMap<String, String>) -> bool {
        config.get(CLEANUP_POLICY).map_or(self.compacts, |text| has_policy(text, "compact"))
    }

    /// What holds for a topic that does not set `key`; empty for a key that is not in the table.
    pub fn value(&self, key: &str) -> &str {
        self.values.get(key).map_or("", String::as_str)
    }

    /// What a log of the topic called `name`, which sets `config`, is to do.
    ///
    /// A value that is not legal, which only a log of other rules can hold, counts as not set.
    pub fn log_config(&self, name: &str, config: &BTreeMap<String, String>) -> LogConfig {
        let mut log_config = LogConfig { internal: is_internal(name), ..LogConfig::default() };
        for row in ROWS {
            let own = config.get(row.name).and_then(|text| apply(&mut log_config, row.name, text));
            if own.is_none() {
                apply(&mut log_config, row.name, self.value(row.name));
            }
        }
        let is_promised = |key| config.get(key).map_or(self.value(key), String::as_str).trim() != NEVER;
        if is_promised("flush.messages") || is_promised("flush.ms") {
            // More than either asks for, and the only way to keep both to the record.
            log_config.flush_policy = FlushPolicy::Commit;
        }
        let policies = config.get(CLEANUP_POLICY).map_or(self.value(CLEANUP_POLICY), String::as_str);
        if parse::parse_list(policies).next().is_none() {
            // Neither: nothing is deleted and nothing compacted, whatever the limits say.
            log_config.retention_bytes = None;
            log_config.retention_age_max = None;
        }
        log_config
    }
}

/// The broker's value for a topic's key.
fn default_value(row: &Row, effective: &[Effective]) -> String {
    if let Rule::Only(default) | Rule::WithoutEffect { default, .. } = row.rule {
        return default.to_owned();
    }
    match find_stand_in(row, effective) {
        Some((Effective { value: Value::Number(number), .. }, factor)) if factor > 1 => {
            // Kafka's hours and minutes are 32 bits wide, and every negative number means: for ever.
            if *number < 0 { "-1".to_owned() } else { (number * factor).to_string() }
        }
        Some((Effective { value, .. }, _)) => value.plain(),
        None => unreachable!("a test holds that {} has a stand-in that is set", row.name),
    }
}

/// The first of the row's stand-ins that has a value, with its factor.
pub fn find_stand_in<'e>(row: &Row, effective: &'e [Effective]) -> Option<(&'e Effective, i64)> {
    let find = |key: Key| effective.iter().find(|setting| setting.key == key && setting.value != Value::Unset);
    row.stand_ins.iter().find_map(|stand_in| Some((find(stand_in.key)?, stand_in.factor)))
}

/// Whether somebody has set this key.
pub fn is_set(setting: &Effective) -> bool {
    setting.origin != Origin::Default
}

/// Takes one value over into `config`. `None` for a value that is not legal, and for a key that does not concern logs.
fn apply(config: &mut LogConfig, key: &str, text: &str) -> Option<()> {
    let text = text.trim();
    match key {
        CLEANUP_POLICY => {
            config.cleanup_policy = match (has_policy(text, "compact"), has_policy(text, "delete")) {
                (true, true) => CleanupPolicy::CompactAndDelete,
                (true, false) => CleanupPolicy::Compact,
                (false, _) => CleanupPolicy::Delete,
            };
        }
        "delete.retention.ms" => config.tombstone_age_max = parse_age(text)?,
        "flush.policy" => {
            config.flush_policy = match text {
                "commit" => FlushPolicy::Commit,
                "interval" => FlushPolicy::Interval,
                "none" => FlushPolicy::None,
                _ => return None,
            };
        }
        "max.compaction.lag.ms" => config.compaction_lag_max = parse_age(text)?,
        TIMESTAMP_TYPE => {
            config.timestamp_type = match text {
                "CreateTime" => TimestampType::CreateTime,
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => return None,
            };
        }
        "min.cleanable.dirty.ratio" => config.dirty_permille_min = parse_permille(text)?,
        "min.compaction.lag.ms" => config.compaction_lag_min = parse_age(text)?,
        "retention.bytes" => config.retention_bytes = u64::try_from(text.parse::<i64>().ok()?).ok(),
        "retention.ms" => {
            let is_limited = text.parse::<i64>().ok()? >= 0;
            config.retention_age_max = if is_limited { Some(parse_age(text)?) } else { None };
        }
        "segment.bytes" => config.segment_bytes = text.parse().ok()?,
        "segment.ms" => config.segment_age_max = parse_age(text)?,
        _ => return None,
    }
    Some(())
}

fn has_policy(policies: &str, policy: &str) -> bool {
    parse::parse_list(policies).any(|word| word == policy)
}

/// A number of milliseconds. Kafka's largest number stands for never.
fn parse_age(text: &str) -> Option<Duration> {
    match u64::try_from(text.parse::<i64>().ok()?).ok()? {
        NEVER_MS => Some(Duration::MAX),
        age_ms => Some(Duration::from_millis(age_ms)),
    }
}

/// A fraction in thousandths, the nearest ones.
fn parse_permille(text: &str) -> Option<u16> {
    let ratio = text.parse::<f64>().ok().filter(|ratio| (0.0..=1.0).contains(ratio))?;
    (0..=1000).find(|permille| f64::from(*permille) + 0.5 > ratio * 1000.0)
}

/// The reference documentation of all keys, the brokers', the topics' and the groups', in Markdown.
pub fn describe() -> String {
    let mut text = keys::describe();
    text.push_str(
        "\n## Implemented: topics\n\n\
         A topic may set these keys when it is made (CreateTopics) and while it is there (IncrementalAlterConfigs,\n\
         AlterConfigs). One that it does not set holds what the broker's key says.\n\n\
         | Key | Broker's key | Legal values | Meaning |\n|---|---|---|---|\n",
    );
    for row in ROWS {
        let names: Vec<_> =
            row.stand_ins.iter().map(|stand_in| format!("`{}`", keys::row(stand_in.key).name)).collect();
        let legal = match row.rule {
            Rule::MessageBytes => "0 to the largest batch that the broker can take".to_owned(),
            Rule::Any(kind) => kind.to_string(),
            Rule::WithoutEffect { kind, .. } => format!("{kind}; without effect"),
            Rule::Only(only) => format!("`{only}`"),
        };
        writeln!(text, "| `{}` | {} | {legal} | {} |", row.name, names.join(", "), row.doc)
            .expect("writing to a String cannot fail");
    }
    text.push_str(&group_config::describe());
    text.push_str(&kafka::describe());
    text
}

const MESSAGE_BYTES_MAX: &str = "max.message.bytes";
/// The key that says whether records need a key.
pub const CLEANUP_POLICY: &str = "cleanup.policy";
const TIMESTAMP_TYPE: &str = "message.timestamp.type";
const TIMESTAMP_BEFORE_MAX: &str = "message.timestamp.before.max.ms";
const TIMESTAMP_AFTER_MAX: &str = "message.timestamp.after.max.ms";

/// Longest value; an entry with all keys stays below its size limit.
const VALUE_BYTES_MAX: usize = 1024;
/// What a batch has for a timestamp whose records have none.
const NO_TIMESTAMP: i64 = -1;
/// What Kafka's flush keys hold when nobody sets them.
const NEVER: &str = "9223372036854775807";
/// 2^63 - 1 milliseconds.
const NEVER_MS: u64 = i64::MAX.cast_unsigned();

#[cfg(test)]
mod tests;
