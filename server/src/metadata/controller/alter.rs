//! Decides on changes of a configuration, be it a topic's, a broker's or a group's: key by key (KIP-339) or as a whole.

use std::collections::{BTreeMap, BTreeSet};

use super::{Controller, Refusal, check_topic_name};
use crate::config::parse;
use crate::config::value_type::ValueType;
use crate::metadata::broker_config::{self, Told};
use crate::metadata::group_config;
use crate::metadata::image::Image;
use crate::metadata::record::{NodeId, Record};
use crate::metadata::topic_config::{self, Defaults};

/// A request to change a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlterConfig {
    /// Whose.
    pub resource: Resource,
    /// What is to change.
    pub change: ConfigChange,
}

/// What has a configuration that can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The topic of this name.
    Topic(String),
    /// This broker; `None` is what all brokers have that are not told otherwise.
    Broker(Option<NodeId>),
    /// The group of this name, which need not be there.
    Group(String),
}

/// What is to change of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    /// These keys; the others stay (`IncrementalAlterConfigs`).
    Keys(Vec<KeyChange>),
    /// Everything: these keys are set and no others (`AlterConfigs`).
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
    /// It is set.
    Set,
    /// It is not set any more.
    Delete,
    /// A list gets more items.
    Append,
    /// A list loses items.
    Subtract,
}

/// What a kind of resource knows about its keys.
struct Rules<'r> {
    /// Refuses a value that the key may not have.
    check: &'r dyn Fn(&str, &str) -> Result<(), Refusal>,
    /// What a list that is not set holds; `None` if the key is no list.
    list: &'r dyn Fn(&str) -> Option<String>,
}

impl Controller {
    /// Decides on a change of a configuration. No records: nothing changes by it.
    pub fn alter_config(&self, image: &Image, request: &AlterConfig) -> Result<Vec<Record>, Refusal> {
        match &request.resource {
            Resource::Topic(name) => self.alter_topic(image, name, &request.change),
            Resource::Broker(node) => self.alter_broker(image, *node, &request.change),
            Resource::Group(group) => alter_group(image, group, &request.change),
        }
    }

    fn alter_topic(&self, image: &Image, name: &str, change: &ConfigChange) -> Result<Vec<Record>, Refusal> {
        if name.is_empty() {
            return Err(Refusal::InvalidRequest("a topic resource needs the name of a topic"));
        }
        check_topic_name(name)?;
        let topic = image.find_topic_by_name(name);
        let topic = topic.ok_or_else(|| Refusal::UnknownTopic { name: name.to_owned() })?;
        let defaults = self.topic_defaults(image);
        let is_list = |key: &str| topic_config::find(key).is_some_and(|row| row.value_type == ValueType::List);
        let rules = Rules {
            check: &|key, value| topic_config::check(key, value, self.batch_bytes_limit),
            list: &|key| is_list(key).then(|| defaults.value(key).to_owned()),
        };
        let config = change_keys(&topic.config, change, &rules)?;
        check_together(&defaults, &config)?;
        let record = |key, value| Record::TopicConfig { topic: topic.id, key, value };
        Ok(records(&topic.config, &config, record))
    }

    fn alter_broker(&self, image: &Image, node: Option<NodeId>, change: &ConfigChange) -> Result<Vec<Record>, Refusal> {
        let known = image.broker_config(node);
        let rules = Rules {
            check: &|key, value| broker_config::check(key, value, self.batch_bytes_limit),
            list: &|key| broker_config::find_list(key, &self.effective),
        };
        let config = change_keys(known, change, &rules)?;
        let told = match node {
            None => Told { cluster: &config, ..Told::new(image, self.node) },
            Some(_) => Told { broker: &config, ..Told::new(image, self.node) },
        };
        check_together(&Defaults::new(&broker_config::in_force(&self.effective, told)), &BTreeMap::new())?;
        Ok(records(known, &config, |key, value| Record::BrokerConfig { node, key, value }))
    }

    /// What holds for topics that do not say.
    pub(super) fn topic_defaults(&self, image: &Image) -> Defaults {
        Defaults::new(&broker_config::in_force(&self.effective, Told::new(image, self.node)))
    }
}

fn alter_group(image: &Image, group: &str, change: &ConfigChange) -> Result<Vec<Record>, Refusal> {
    if group.is_empty() {
        return Err(Refusal::InvalidRequest("a group resource needs the name of a group"));
    }
    if group.len() > GROUP_NAME_BYTES_MAX {
        return Err(Refusal::InvalidRequest("the group's name has more than 249 bytes"));
    }
    let known = image.group_config(group);
    if known.is_empty() && image.configured_group_count() >= GROUP_COUNT_MAX {
        return Err(Refusal::InvalidRequest("as many groups have a configuration as may have one"));
    }
    let config = change_keys(known, change, &Rules { check: &group_config::check, list: &|_| None })?;
    let record = |key, value| Record::GroupConfig { group: group.to_owned(), key, value };
    Ok(records(known, &config, record))
}

/// The configuration after `change`.
fn change_keys(
    known: &BTreeMap<String, String>,
    change: &ConfigChange,
    rules: &Rules<'_>,
) -> Result<BTreeMap<String, String>, Refusal> {
    let changes = match change {
        ConfigChange::Keys(changes) => changes,
        ConfigChange::All(config) => {
            for (key, value) in config {
                (rules.check)(key, value.as_deref().ok_or(VALUE_MISSING)?)?;
            }
            distinct(config.iter().map(|(key, _)| key))?;
            return Ok(config.iter().map(|(key, value)| (key.clone(), value.clone().unwrap_or_default())).collect());
        }
    };
    distinct(changes.iter().map(|change| &change.key))?;
    let mut config = known.clone();
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
                let Some(default) = (rules.list)(key) else {
                    let why = "only a list can be appended to or subtracted from".to_owned();
                    return Err(Refusal::InvalidConfig { key: topic_config::shorten(key), why });
                };
                change_list(config.get(key).unwrap_or(&default), *operation, value)
            }
        };
        (rules.check)(key, &value)?;
        config.insert(key.clone(), value);
    }
    Ok(config)
}

/// The records that make `config` out of `known`.
fn records(
    known: &BTreeMap<String, String>,
    config: &BTreeMap<String, String>,
    record: impl Fn(String, Option<String>) -> Record,
) -> Vec<Record> {
    let mut records = Vec::new();
    for key in known.keys().filter(|key| !config.contains_key(*key)) {
        records.push(record(key.clone(), None));
    }
    for (key, value) in config.iter().filter(|(key, value)| known.get(*key) != Some(value)) {
        records.push(record(key.clone(), Some(value.clone())));
    }
    records
}

/// Checks what values of several keys, legal by themselves, are together.
pub(super) fn check_together(defaults: &Defaults, config: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let log_config = defaults.log_config("", config);
    let (min, max) = (log_config.compaction_lag_min, log_config.compaction_lag_max);
    if min > max {
        let why = format!("{} is more than max.compaction.lag.ms={}", min.as_millis(), max.as_millis());
        return Err(Refusal::InvalidConfig { key: "min.compaction.lag.ms".to_owned(), why });
    }
    Ok(())
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
/// Groups that have a configuration: their names come from clients, and the image is in memory.
const GROUP_COUNT_MAX: usize = 10_000;
/// The longest name of a group that has one. The group itself may be called longer.
const GROUP_NAME_BYTES_MAX: usize = 249;
