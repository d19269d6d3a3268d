//! Configuration keys a topic may set, what stands in for those it does not set, and what they mean to its logs.
//!
//! As with the broker's own keys, a key counts only if something acts on it. Keys whose behaviour is not there yet are
//! accepted with the one value that says what Millrace does anyway, and refused with any other: a client that asks for
//! recompression must learn that it does not get it. [`ROWS`] has the keys that count, which are also those that clients are
//! told about.
//!
//! A topic that sets nothing gets the broker's value: [`Row::stand_ins`] names the broker's keys for it, the one that wins
//! first. [`Defaults`] holds what they come to.

mod rows;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use millrace_engine::log::config::{CleanupPolicy, FlushPolicy, LogConfig, TimestampType};

use super::controller::{Refusal, is_internal};
use crate::config::keys::{self, Key, Kind};
use crate::config::parse::{self, Value};
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

/// What kind of value a key has; Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A whole number of 32 bits.
    Int,
    /// A whole number of 64 bits.
    Long,
    /// A number that need not be whole.
    Double,
    /// Texts, comma separated.
    List,
}

/// What a key may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A number of bytes up to the broker's own `message.max.bytes`, which holds for topics that say nothing.
    MessageBytes,
    /// Anything of this kind.
    Any(Kind),
    /// Only what the broker does anyway.
    Only(&'static str),
}

/// The row of the key that is called `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

/// Checks one key. `message_bytes_max` is the broker's own limit, which no topic may exceed.
pub fn check(key: &str, value: &str, message_bytes_max: u32) -> Result<(), Refusal> {
    let refuse = |why: String| Err(Refusal::InvalidConfig { key: shorten(key), why });
    let Some(row) = find(key) else {
        let is_known = rows::NOT_IMPLEMENTED.contains(&key);
        return refuse(if is_known { "not implemented yet" } else { "unknown topic config name" }.to_owned());
    };
    if value.len() > VALUE_BYTES_MAX {
        return refuse(format!("the value has more than {VALUE_BYTES_MAX} bytes"));
    }
    match row.rule {
        Rule::MessageBytes => match value.trim().parse::<u32>() {
            Ok(bytes) if bytes <= message_bytes_max => Ok(()),
            _ => refuse(format!("{value:?} is not a number from 0 to {message_bytes_max}")),
        },
        Rule::Any(kind) => match parse::parse_value(kind, value.trim()) {
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
}

impl Defaults {
    /// What this broker's configuration comes to.
    pub fn new(effective: &[Effective]) -> Self {
        let values: BTreeMap<_, _> = ROWS.iter().map(|row| (row.name, default_value(row, effective))).collect();
        let compacts = has_policy(&values[CLEANUP_POLICY], "compact");
        Self { values, compacts }
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
    if let Rule::Only(only) = row.rule {
        return only.to_owned();
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
        "message.timestamp.type" => {
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

/// The reference documentation of all keys, the broker's and the topics', in Markdown.
pub fn describe() -> String {
    let mut text = keys::describe();
    text.push_str(
        "\n## Topics\n\n\
         A topic may set these keys when it is made (CreateTopics) and while it is there (IncrementalAlterConfigs,\n\
         AlterConfigs). One that it does not set holds what the broker's key says. Kafka's other keys of topics are refused.\n\n\
         | Key | Broker's key | Legal values | Meaning |\n|---|---|---|---|\n",
    );
    for row in ROWS {
        let names: Vec<_> =
            row.stand_ins.iter().map(|stand_in| format!("`{}`", keys::row(stand_in.key).name)).collect();
        let legal = match row.rule {
            Rule::MessageBytes => "0 to the broker's `message.max.bytes`".to_owned(),
            Rule::Any(kind) => kind.to_string(),
            Rule::Only(only) => format!("`{only}`"),
        };
        writeln!(text, "| `{}` | {} | {legal} | {} |", row.name, names.join(", "), row.doc)
            .expect("writing to a String cannot fail");
    }
    text
}

/// The key that a Produce request looks up.
pub const MESSAGE_BYTES_MAX: &str = "max.message.bytes";
/// The key that says whether records need a key.
pub const CLEANUP_POLICY: &str = "cleanup.policy";

/// Longest value; an entry with all keys stays below its size limit.
const VALUE_BYTES_MAX: usize = 1024;
/// 2^63 - 1 milliseconds.
const NEVER_MS: u64 = i64::MAX.cast_unsigned();

#[cfg(test)]
mod tests;
