//! Decides on changes of a topic's configuration: key by key (KIP-339) or as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, Refusal, check_topic_name};
use crate::config::parse;
use crate::metadata::image::{Image, Topic};
use crate::metadata::record::Record;
use crate::metadata::topic_config::{self, ValueType};

/// A request to change a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterTopic {
    /// The topic's name.
    pub name: String,
    /// What is to change.
    pub change: ConfigChange,
}

/// What is to change of a topic's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// These keys; the others stay (`IncrementalAlterConfigs`).
    Keys(Vec<KeyChange>),
    /// Everything: the topic sets these keys and no others (`AlterConfigs`).
    All(Vec<(String, Option<String>)>),
}

/// What is to change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// What to do with it.
    pub operation: Operation,
    /// With what. Only [`Operation::Delete`] needs nothing.
    pub value: Option<String>,
}

/// What to do with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// The topic sets it.
    Set,
    /// The topic does not set it any more.
    Delete,
    /// A list gets more items.
    Append,
    /// A list loses items.
    Subtract,
}

impl Controller {
    /// Decides on a change of a topic's configuration. No records: nothing changes by it.
    pub fn alter_topic(&self, image: &Image, request: &AlterTopic) -> Result<Vec<Record>, Refusal> {
        if request.name.is_empty() {
            return Err(Refusal::InvalidRequest("a topic resource needs the name of a topic"));
        }
        check_topic_name(&request.name)?;
        let topic = image.find_topic_by_name(&request.name);
        let topic = topic.ok_or_else(|| Refusal::UnknownTopic { name: request.name.clone() })?;
        let config = match &request.change {
            ConfigChange::Keys(changes) => self.change_keys(topic, changes)?,
            ConfigChange::All(config) => {
                for (key, value) in config {
                    let value = value.as_deref().ok_or(VALUE_MISSING)?;
                    topic_config::check(key, value, self.message_bytes_max)?;
                }
                distinct(config.iter().map(|(key, _)| key))?;
                config.iter().map(|(key, value)| (key.clone(), value.clone().unwrap_or_default())).collect()
            }
        };
        self.check_together(&config)?;

        let mut records = Vec::new();
        let mut record =
            |key: &String, value| records.push(Record::TopicConfig { topic: topic.id, key: key.clone(), value });
        for key in topic.config.keys().filter(|key| !config.contains_key(*key)) {
            record(key, None);
        }
        for (key, value) in config.iter().filter(|(key, value)| topic.config.get(*key) != Some(value)) {
            record(key, Some(value.clone()));
        }
        Ok(records)
    }

    /// The configuration that the topic has after `changes`.
    fn change_keys(&self, topic: &Topic, changes: &[KeyChange]) -> Result<BTreeMap<String, String>, Refusal> {
        distinct(changes.iter().map(|change| &change.key))?;
        let mut config = topic.config.clone();
        for KeyChange { key, operation, value } in changes {
            let value = match (operation, value) {
                // A key that nobody knows is not set either.
                (Operation::Delete, _) => {
                    config.remove(key);
                    continue;
                }
                (_, None) => return Err(VALUE_MISSING),
                (Operation::Set, Some(value)) => value.clone(),
                (Operation::Append | Operation::Subtract, Some(value)) => {
                    let row = topic_config::find(key).filter(|row| row.value_type == ValueType::List);
                    if row.is_none() {
                        let why = "only a list can be appended to or subtracted from".to_owned();
                        return Err(Refusal::InvalidConfig { key: topic_config::shorten(key), why });
                    }
                    let known = config.get(key).map_or(self.topic_defaults.value(key), String::as_str);
                    change_list(known, *operation, value)
                }
            };
            topic_config::check(key, &value, self.message_bytes_max)?;
            config.insert(key.clone(), value);
        }
        Ok(config)
    }

    /// Checks what values of several keys, legal by themselves, are together.
    pub(super) fn check_together(&self, config: &BTreeMap<String, String>) -> Result<(), Refusal> {
        let log_config = self.topic_defaults.log_config("", config);
        let (min, max) = (log_config.compaction_lag_min, log_config.compaction_lag_max);
        if min > max {
            let why = format!("{} is more than max.compaction.lag.ms={}", min.as_millis(), max.as_millis());
            return Err(Refusal::InvalidConfig { key: "min.compaction.lag.ms".to_owned(), why });
        }
        Ok(())
    }
}

/// A list after items joined or left it. Each item stands in it once.
fn change_list(known: &str, operation: Operation, items: &str) -> String {
    let mut list: Vec<&str> = parse::parse_list(known).collect();
    for item in parse::parse_list(items) {
        if operation == Operation::Subtract {
            list.retain(|known| *known != item);
        } else if !list.contains(&item) {
            list.push(item);
        }
    }
    list.join(",")
}

fn distinct<'k>(mut keys: impl Iterator<Item = &'k String>) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    if keys.all(|key| seen.insert(key)) {
        Ok(())
    } else {
        Err(Refusal::InvalidRequest("a key is named more than once"))
    }
}

const VALUE_MISSING: Refusal = Refusal::InvalidRequest("a value is missing");
