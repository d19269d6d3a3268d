//! Kafka's broker keys that nothing here acts on, each with the reason.
//!
//! Two classes. A key *without effect* may be set: what it tunes does not exist here, and its absence costs nobody records or
//! safety. The broker says once, at its start, which of them were given another value than Kafka's default. A key that is
//! *refused* promises something that is not kept, so it stops the start unless it says what Kafka does by default. Together
//! with `config/keys` the rows are all keys that Kafka 4.3.1 has; a test holds that none is missing and none is in both.

mod cluster;
mod groups;
mod logs;
mod machine;
mod remote;
mod security;

use std::fmt::Write as _;

use super::keys::Change;
use super::parse::{Origin, parse_list};
use super::value_type::ValueType;

/// Keys of which the same is to be said.
#[derive(Debug)]
pub struct Area {
    /// What becomes of them.
    pub class: Class,
    /// Why; one sentence.
    pub reason: &'static str,
    /// The keys.
    pub keys: &'static [KafkaKey],
}

/// What becomes of a key that nothing acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It may be set, and nothing happens.
    WithoutEffect,
    /// It may only be set to Kafka's default.
    Refused,
}

/// A key of Kafka's that nothing acts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KafkaKey {
    /// Its name.
    pub name: &'static str,
    /// What kind of value it has.
    pub value_type: ValueType,
    /// Kafka's default; `None` is no value.
    pub default: Option<&'static str>,
    /// When Kafka takes a change.
    pub change: Change,
}

/// A key with what is to be said of it.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// The key.
    pub key: &'static KafkaKey,
    /// What becomes of it.
    pub class: Class,
    /// Why.
    pub reason: &'static str,
}

/// A key without effect that somebody has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithoutEffect {
    /// The key.
    pub key: &'static KafkaKey,
    /// Why nothing happens.
    pub reason: &'static str,
    /// What was said.
    pub value: String,
    /// Who said it.
    pub origin: Origin,
}

/// All keys that nothing acts on.
pub fn all() -> impl Iterator<Item = Known> + Clone {
    let areas = [machine::AREAS, logs::AREAS, cluster::AREAS, groups::AREAS, remote::AREAS, security::AREAS];
    let known = |area: &'static Area| area.keys.iter().map(|key| Known { key, class: area.class, reason: area.reason });
    areas.into_iter().flatten().flat_map(known)
}

/// The key that is called `name`.
pub fn find(name: &str) -> Option<Known> {
    all().find(|known| known.key.name == name)
}

/// Why a name that is in no table, but that operators of Kafka know, is refused.
pub fn find_refusal(name: &str) -> Option<&'static str> {
    let by_prefix = PREFIXES.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, reason)| *reason);
    by_prefix.or_else(|| EARLIER.contains(&name).then_some(GONE))
}

/// The reference documentation of the keys that nothing acts on, in Markdown.
pub fn describe() -> String {
    let mut text = String::new();
    for (class, introduction) in [(Class::WithoutEffect, WITHOUT_EFFECT), (Class::Refused, REFUSED)] {
        text.push_str(introduction);
        for Known { key, reason, .. } in all().filter(|known| known.class == class) {
            let default = match key.default {
                None => "not set".to_owned(),
                Some("") => "empty".to_owned(),
                Some(default) => format!("`{default}`"),
            };
            writeln!(text, "| `{}` | {default} | {reason} |", key.name).expect("writing to a String cannot fail");
        }
    }
    for (prefix, reason) in PREFIXES {
        writeln!(text, "| `{prefix}`, and what begins so | | {reason} |").expect("writing to a String cannot fail");
    }
    for name in EARLIER {
        writeln!(text, "| `{name}` | | {GONE} |").expect("writing to a String cannot fail");
    }
    text
}

impl KafkaKey {
    /// Whether `text` says what Kafka does by default.
    pub fn is_default(&self, text: &str) -> bool {
        let (text, default) = (text.trim(), self.default.unwrap_or_default());
        match self.value_type {
            ValueType::Boolean => text.eq_ignore_ascii_case(default),
            ValueType::Int | ValueType::Short | ValueType::Long => {
                text == default || text.parse::<i64>().is_ok_and(|number| default.parse() == Ok(number))
            }
            ValueType::Double => {
                text == default || text.parse::<f64>().is_ok_and(|number| default.parse() == Ok(number))
            }
            ValueType::List => parse_list(text).eq(parse_list(default)),
            ValueType::String | ValueType::Class | ValueType::Password => text == default,
        }
    }

    const fn new(name: &'static str, value_type: ValueType, default: Option<&'static str>) -> Self {
        Self { name, value_type, default, change: Change::Restart }
    }

    const fn boolean(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::Boolean, default)
    }

    const fn int(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::Int, default)
    }

    const fn short(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::Short, default)
    }

    const fn long(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::Long, default)
    }

    const fn double(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::Double, default)
    }

    const fn string(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::String, default)
    }

    const fn list(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::List, default)
    }

    const fn class(name: &'static str, default: Option<&'static str>) -> Self {
        Self::new(name, ValueType::Class, default)
    }

    const fn password(name: &'static str) -> Self {
        Self::new(name, ValueType::Password, None)
    }

    /// The same key, which Kafka takes while it runs.
    const fn dynamic(self) -> Self {
        Self { change: Change::Live, ..self }
    }
}

/// Families of names that Kafka passes on to plugins and to single listeners.
const PREFIXES: &[(&str, &str)] = &[
    ("listener.name.", "Single listeners have no settings of their own."),
    ("rsm.config.", "Remote storage is not there."),
    ("rlmm.config.", "Remote storage is not there."),
    ("super.users", "There is no authorizer yet: everybody may do everything."),
    ("allow.everyone.if.no.acl.found", "There is no authorizer yet: everybody may do everything."),
];

const WITHOUT_EFFECT: &str = "\n## Without effect\n\n\
    These may be set, and nothing happens: what they tune does not exist here. One that is set to another value than\n\
    Kafka's default is named in a warning at the start.\n\n\
    | Key | Kafka's default | Why |\n|---|---|---|\n";
const REFUSED: &str = "\n## Refused\n\n\
    These promise what is not kept. Set to another value than Kafka's default, they stop the start.\n\n\
    | Key | Kafka's default | Why |\n|---|---|---|\n";
const GONE: &str = "Kafka 4 does not have it any more.";

/// Names of releases before 4.0.
const EARLIER: &[&str] = &[
    "broker.id.generation.enable",
    "control.plane.listener.name",
    "inter.broker.protocol.version",
    "log.message.downconversion.enable",
    "log.message.format.version",
    "log.message.timestamp.difference.max.ms",
    "reserved.broker.max.id",
    "zookeeper.connect",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::keys;

    /// Names of Kafka 4.3.1 with their kinds, one a line: `scope name KIND`.
    pub(crate) const NAMES: &str = include_str!("../../tests/data/kafka-4.3.1-configs.txt");

    fn kind(value_type: ValueType) -> String {
        format!("{value_type:?}").to_uppercase()
    }

    #[test]
    fn every_broker_key_of_kafka_is_in_exactly_one_table() {
        let mut found: BTreeMap<&str, String> = BTreeMap::new();
        for known in all() {
            let twice = found.insert(known.key.name, kind(known.key.value_type));
            assert_eq!(twice, None, "{} has two rows", known.key.name);
        }
        for row in keys::ROWS {
            let twice = found.insert(row.name, kind(row.value_type()));
            assert_eq!(twice, None, "{} is implemented: take its row out of config/kafka", row.name);
        }
        let mut count = 0;
        for line in NAMES.lines().filter_map(|line| line.strip_prefix("broker ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(found.get(name).map(String::as_str), Some(kind), "{name}");
            count += 1;
        }
        assert!(count > 300, "only {count} names were read");
    }

    #[test]
    fn reasons_are_sentences_and_defaults_are_legal() {
        for Known { key, reason, .. } in all() {
            assert!(reason.ends_with('.') && reason.len() < 120, "{reason}");
            let Some(default) = key.default else { continue };
            assert_eq!(key.value_type.check(default), Ok(()), "{}", key.name);
            assert!(key.is_default(default), "{}", key.name);
        }
    }

    #[test]
    fn a_default_is_known_in_any_spelling() {
        let is_default = |name, text| find(name).unwrap().key.is_default(text);
        assert!(is_default("num.io.threads", " 08 ") && !is_default("num.io.threads", "9"));
        assert!(is_default("log.preallocate", "FALSE") && !is_default("log.preallocate", "true"));
        assert!(is_default("ssl.enabled.protocols", "TLSv1.2, TLSv1.3"));
        assert!(is_default("authorizer.class.name", "") && !is_default("authorizer.class.name", "x"));
        assert!(is_default("log.cleaner.io.buffer.load.factor", "0.90"));
    }
}
