//! The keys of topics, brokers, groups and the rest with their values and who set them, as they are told to clients.

use std::collections::BTreeMap;

use crate::config::keys::{self, Change};
use crate::config::value_type::ValueType;
use crate::config::{Config, Effective, Origin, kafka};
use crate::metadata::broker_config::{Told, find_told};
use crate::metadata::group_config;
use crate::metadata::topic_config::{self, Defaults};

/// Who set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handlers) enum Source {
    Topic,
    /// This broker was told while it ran.
    Broker,
    /// All brokers were.
    Cluster,
    StaticBroker,
    Default,
    Logger,
    Group,
}

/// One key with all that may be asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::handlers) struct Entry {
    pub(in crate::handlers) name: &'static str,
    /// `None` when it is not set and nothing stands in for it.
    pub(in crate::handlers) value: Option<String>,
    /// Every value that was said, the one that holds first.
    pub(in crate::handlers) synonyms: Vec<Synonym>,
    pub(in crate::handlers) is_read_only: bool,
    /// `None` for a logger.
    pub(in crate::handlers) value_type: Option<ValueType>,
    pub(in crate::handlers) doc: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::handlers) struct Synonym {
    pub(in crate::handlers) name: &'static str,
    pub(in crate::handlers) value: String,
    pub(in crate::handlers) source: Source,
}

impl Entry {
    /// Who set the value that holds.
    pub(in crate::handlers) fn source(&self) -> Source {
        self.synonyms.first().map_or(Source::Default, |synonym| synonym.source)
    }

    /// Whether nobody is told its value.
    pub(in crate::handlers) fn is_sensitive(&self) -> bool {
        self.value_type == Some(ValueType::Password)
    }
}

/// One of the broker's own keys, as text.
pub(in crate::handlers) struct BrokerKey {
    name: &'static str,
    value_type: ValueType,
    change: Change,
    doc: &'static str,
    /// Every value that was said, the one that holds first.
    said: Vec<Synonym>,
}

/// All keys of the broker: those that something acts on, and Kafka's others.
pub(in crate::handlers) fn broker_keys(config: &Config, told: Told<'_>) -> Vec<BrokerKey> {
    let acting = config.effective.iter().map(|effective| acting_key(effective, told));
    acting.chain(kafka::all().map(|known| other_key(config, told, known.key, known.reason))).collect()
}

fn acting_key(effective: &Effective, told: Told<'_>) -> BrokerKey {
    let Effective { key, value, origin } = effective;
    let row = keys::row(*key);
    let synonym = |value: String, source| Synonym { name: row.name, value, source };
    let mut said = Vec::new();
    said.extend(find_told(row, told.broker).map(|value| synonym(value.plain(), Source::Broker)));
    said.extend(find_told(row, told.cluster).map(|value| synonym(value.plain(), Source::Cluster)));
    let default = if *origin == Origin::Default {
        // What is in force may be less than the row says.
        value.plain()
    } else {
        said.push(synonym(value.plain(), Source::StaticBroker));
        row.default.to_owned()
    };
    if !default.is_empty() {
        said.push(synonym(default, Source::Default));
    }
    BrokerKey { name: row.name, value_type: row.value_type(), change: row.change, doc: row.doc, said }
}

fn other_key(config: &Config, told: Told<'_>, key: &'static kafka::KafkaKey, doc: &'static str) -> BrokerKey {
    let fixed = config.without_effect.iter().find(|set| set.key.name == key.name).map(|set| set.value.as_str());
    let values = [
        (told.broker.get(key.name).map(String::as_str), Source::Broker),
        (told.cluster.get(key.name).map(String::as_str), Source::Cluster),
        (fixed, Source::StaticBroker),
        (key.default, Source::Default),
    ];
    let mut said = Vec::new();
    for (value, source) in values {
        said.extend(value.map(|value| Synonym { name: key.name, value: value.to_owned(), source }));
    }
    BrokerKey { name: key.name, value_type: key.value_type, change: key.change, doc, said }
}

impl BrokerKey {
    fn entry(&self, synonyms: Vec<Synonym>) -> Entry {
        Entry {
            name: self.name,
            value: synonyms.first().map(|said| said.value.clone()),
            synonyms,
            is_read_only: self.change == Change::Restart,
            value_type: Some(self.value_type),
            doc: self.doc,
        }
    }
}

pub(in crate::handlers) fn broker_entries(broker: &[BrokerKey]) -> Vec<Entry> {
    broker.iter().map(|key| key.entry(key.said.clone())).collect()
}

/// What all brokers were told, and nothing else.
pub(in crate::handlers) fn cluster_entries(broker: &[BrokerKey]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for key in broker {
        let said = key.said.iter().find(|said| said.source == Source::Cluster);
        entries.extend(said.map(|said| key.entry(vec![said.clone()])));
    }
    entries
}

/// The keys of a topic that sets `config`.
pub(in crate::handlers) fn topic_entries(
    config: &BTreeMap<String, String>,
    defaults: &Defaults,
    broker: &[BrokerKey],
) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(topic_config::ROWS.len());
    for row in topic_config::ROWS {
        let own = config.get(row.name);
        let mut synonyms: Vec<_> = own.map(|value| own_value(row.name, value, Source::Topic)).into_iter().collect();
        for stand_in in row.stand_ins {
            let name = keys::row(stand_in.key).name;
            let key = broker.iter().find(|key| key.name == name).expect("every key has its effective value");
            // As in Kafka, a default in hours is not listed for a key in milliseconds; one that somebody set is, as it is.
            let is_listed = |said: &&Synonym| stand_in.factor == 1 || said.source != Source::Default;
            synonyms.extend(key.said.iter().filter(is_listed).cloned());
        }
        let value = Some(own.map_or(defaults.value(row.name), String::as_str).to_owned());
        let (name, value_type, doc) = (row.name, Some(row.value_type), row.doc);
        entries.push(Entry { name, value, synonyms, is_read_only: false, value_type, doc });
    }
    entries
}

/// The keys of a group that has `config`.
pub(in crate::handlers) fn group_entries(config: &BTreeMap<String, String>, broker: &[BrokerKey]) -> Vec<Entry> {
    let mut entries = Vec::with_capacity(group_config::ROWS.len());
    for row in group_config::ROWS {
        let own = config.get(row.name);
        let mut synonyms: Vec<_> = own.map(|value| own_value(row.name, value, Source::Group)).into_iter().collect();
        let stand_in = broker.iter().find(|key| Some(key.name) == row.stand_in);
        match stand_in {
            Some(key) => synonyms.extend(key.said.iter().cloned()),
            None => synonyms.push(own_value(row.name, row.default, Source::Default)),
        }
        let value = synonyms.first().map(|said| said.value.clone());
        let (name, value_type, doc) = (row.name, Some(row.value_type), row.doc);
        entries.push(Entry { name, value, synonyms, is_read_only: false, value_type, doc });
    }
    entries
}

/// What the broker writes about itself: one logger, as it has one level.
pub(in crate::handlers) fn logger_entries(level: tracing::Level) -> Vec<Entry> {
    let (name, value) = ("root", level.to_string());
    let said = Synonym { name, value: value.clone(), source: Source::Logger };
    let doc = "The level of all messages: `log.level`.";
    vec![Entry { name, value: Some(value), synonyms: vec![said], is_read_only: true, value_type: None, doc }]
}

/// The keys of a subscription to client metrics, of which there are none (KIP-714).
pub(in crate::handlers) fn client_metrics_entries() -> Vec<Entry> {
    let keys =
        [("interval.ms", "300000", ValueType::Int), ("match", "", ValueType::List), ("metrics", "", ValueType::List)];
    let entry = |(name, value, value_type): (&'static str, &str, ValueType)| Entry {
        name,
        value: Some(value.to_owned()),
        synonyms: Vec::new(),
        is_read_only: false,
        value_type: Some(value_type),
        doc: "Clients cannot push their metrics.",
    };
    keys.into_iter().map(entry).collect()
}

fn own_value(name: &'static str, value: &str, source: Source) -> Synonym {
    Synonym { name, value: value.to_owned(), source }
}

/// The numbers are those of Kafka's `ConfigSource` (KIP-226, KIP-848).
pub(in crate::handlers) fn source_code(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::Broker => 2,
        Source::Cluster => 3,
        Source::StaticBroker => 4,
        Source::Default => 5,
        Source::Logger => 6,
        Source::Group => 8,
    }
}

/// The numbers are those of Kafka's `ConfigType` (KIP-569).
pub(in crate::handlers) fn type_code(value_type: Option<ValueType>) -> i8 {
    match value_type {
        None => 0,
        Some(ValueType::Boolean) => 1,
        Some(ValueType::String) => 2,
        Some(ValueType::Int) => 3,
        Some(ValueType::Short) => 4,
        Some(ValueType::Long) => 5,
        Some(ValueType::Double) => 6,
        Some(ValueType::List) => 7,
        Some(ValueType::Class) => 8,
        Some(ValueType::Password) => 9,
    }
}

#[cfg(test)]
mod tests;
