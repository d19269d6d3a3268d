//! The keys of topics and of this broker with their values and who set them, as they are told to clients.

use std::collections::BTreeMap;

use crate::config::keys::{self, Change, Key, Kind};
use crate::config::{Effective, Origin};
use crate::metadata::topic_config::{self, Defaults, ValueType};

/// Who set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handlers) enum Source {
    Topic,
    StaticBroker,
    Default,
}

/// One key with all that may be asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::handlers) struct Entry<'a> {
    pub(in crate::handlers) name: &'static str,
    /// `None` when it is not set and nothing stands in for it.
    pub(in crate::handlers) value: Option<&'a str>,
    /// Every value that was said, the one that holds first.
    pub(in crate::handlers) synonyms: Vec<Synonym<'a>>,
    pub(in crate::handlers) is_read_only: bool,
    pub(in crate::handlers) value_type: ValueType,
    pub(in crate::handlers) doc: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::handlers) struct Synonym<'a> {
    pub(in crate::handlers) name: &'static str,
    pub(in crate::handlers) value: &'a str,
    pub(in crate::handlers) source: Source,
}

impl Entry<'_> {
    /// Who set the value that holds.
    pub(in crate::handlers) fn source(&self) -> Source {
        self.synonyms.first().map_or(Source::Default, |synonym| synonym.source)
    }
}

/// One of the broker's own keys, as text.
pub(in crate::handlers) struct BrokerKey {
    row: &'static keys::Row,
    /// Empty for a key that is not set.
    value: String,
    origin: Origin,
}

impl BrokerKey {
    pub(in crate::handlers) fn new(effective: &Effective) -> Self {
        let Effective { key, value, origin } = effective;
        Self { row: keys::row(*key), value: value.plain(), origin: *origin }
    }

    fn synonyms(&self) -> Vec<Synonym<'_>> {
        let name = self.row.name;
        let mut synonyms = Vec::new();
        let default = match self.origin {
            // What is in force may be less than the row says.
            Origin::Default => &self.value,
            Origin::File | Origin::Option(_) => {
                synonyms.push(Synonym { name, value: &self.value, source: Source::StaticBroker });
                self.row.default
            }
        };
        if !default.is_empty() {
            synonyms.push(Synonym { name, value: default, source: Source::Default });
        }
        synonyms
    }
}

pub(in crate::handlers) fn broker_entries(broker: &[BrokerKey]) -> Vec<Entry<'_>> {
    let mut entries = Vec::with_capacity(broker.len());
    for key in broker {
        entries.push(Entry {
            name: key.row.name,
            value: Some(key.value.as_str()).filter(|value| !value.is_empty()),
            synonyms: key.synonyms(),
            is_read_only: key.row.change == Change::Restart,
            value_type: broker_type(key.row),
            doc: key.row.doc,
        });
    }
    entries
}

fn broker_type(row: &keys::Row) -> ValueType {
    match row.kind {
        Kind::Flag => ValueType::Boolean,
        Kind::Number { max, .. } | Kind::Bytes { max, .. } if max <= i64::from(i32::MAX) => ValueType::Int,
        Kind::Number { .. } | Kind::Bytes { .. } => ValueType::Long,
        Kind::Ratio => ValueType::Double,
        Kind::Word(_) => ValueType::String,
        Kind::Words(_) => ValueType::List,
        Kind::Text(_) => match row.key {
            Key::Listeners | Key::AdvertisedListeners | Key::DataDirectory => ValueType::List,
            _ => ValueType::String,
        },
    }
}

/// The keys of a topic that sets `config`.
pub(in crate::handlers) fn topic_entries<'a>(
    config: &'a BTreeMap<String, String>,
    defaults: &'a Defaults,
    broker: &'a [BrokerKey],
) -> Vec<Entry<'a>> {
    let mut entries = Vec::with_capacity(topic_config::ROWS.len());
    for row in topic_config::ROWS {
        let mut synonyms = Vec::new();
        if let Some(value) = config.get(row.name) {
            synonyms.push(Synonym { name: row.name, value, source: Source::Topic });
        }
        for stand_in in row.stand_ins {
            let key = broker.iter().find(|key| key.row.key == stand_in.key);
            let said = key.expect("every key has its effective value").synonyms().into_iter();
            // As in Kafka, a default in hours is not listed for a key in milliseconds; one that somebody set is, as it is.
            synonyms.extend(said.filter(|said| stand_in.factor == 1 || said.source != Source::Default));
        }
        let own = config.get(row.name).map(String::as_str);
        let value = Some(own.unwrap_or_else(|| defaults.value(row.name)));
        let (name, value_type, doc) = (row.name, row.value_type, row.doc);
        entries.push(Entry { name, value, synonyms, is_read_only: false, value_type, doc });
    }
    entries
}

/// The numbers are those of Kafka's `ConfigSource` (KIP-226).
pub(in crate::handlers) fn source_code(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::StaticBroker => 4,
        Source::Default => 5,
    }
}

/// The numbers are those of Kafka's `ConfigType` (KIP-569).
pub(in crate::handlers) fn type_code(value_type: ValueType) -> i8 {
    match value_type {
        ValueType::Boolean => 1,
        ValueType::String => 2,
        ValueType::Int => 3,
        ValueType::Long => 5,
        ValueType::Double => 6,
        ValueType::List => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::check::{Room, check};
    use crate::config::{RawConfig, keys};

    fn broker(settings: &[&str]) -> (Vec<BrokerKey>, Defaults) {
        let mut raw = RawConfig::new();
        for setting in settings {
            raw.add_assignment(setting);
        }
        let config = check(&raw, Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap();
        (config.effective.iter().map(BrokerKey::new).collect(), Defaults::new(&config.effective))
    }

    fn topic(config: &[(&str, &str)]) -> BTreeMap<String, String> {
        config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn find<'e, 'a>(entries: &'e [Entry<'a>], name: &str) -> &'e Entry<'a> {
        entries.iter().find(|entry| entry.name == name).unwrap()
    }

    #[test]
    fn the_broker_lists_its_table_and_nothing_else() {
        let (broker, _) = broker(&["num.partitions=3", "message.max.bytes=2MiB"]);
        let entries = broker_entries(&broker);
        let names: Vec<_> = entries.iter().map(|entry| entry.name).collect();
        assert_eq!(names, keys::ROWS.iter().map(|row| row.name).collect::<Vec<_>>());
        assert!(entries.iter().all(|entry| entry.is_read_only), "no key can be changed while it runs");

        let partitions = find(&entries, "num.partitions");
        let name = "num.partitions";
        assert_eq!(partitions.value, Some("3"));
        let said = Synonym { name, value: "3", source: Source::StaticBroker };
        assert_eq!(partitions.synonyms, [said, Synonym { name, value: "1", source: Source::Default }]);

        assert_eq!(find(&entries, "message.max.bytes").value, Some("2097152"), "without its unit");
        let unset = find(&entries, "advertised.listeners");
        assert_eq!((unset.value, unset.synonyms.as_slice()), (None, &[][..]));
        let types: BTreeMap<_, _> = entries.iter().map(|entry| (entry.name, entry.value_type)).collect();
        assert_eq!(types["listeners"], ValueType::List);
        assert_eq!(types["message.max.bytes"], ValueType::Int);
        assert_eq!(types["connections.max.idle.ms"], ValueType::Long);
        assert_eq!(types["auto.create.topics.enable"], ValueType::Boolean);
        assert_eq!(types["flush.policy"], ValueType::String);
    }

    #[test]
    fn a_topic_falls_back_on_the_broker() {
        let ((unset, unset_defaults), (set, set_defaults)) = (broker(&[]), broker(&["message.max.bytes=2000"]));
        let default = Synonym { name: "message.max.bytes", value: "1048588", source: Source::Default };
        let by_broker = Synonym { name: "message.max.bytes", value: "2000", source: Source::StaticBroker };
        let by_topic = Synonym { name: "max.message.bytes", value: "1000", source: Source::Topic };
        let (silent, own) = (topic(&[]), topic(&[("max.message.bytes", "1000"), ("retention.ms", "-1")]));

        let entries = topic_entries(&silent, &unset_defaults, &unset);
        assert_eq!(entries.len(), topic_config::ROWS.len());
        let found = find(&entries, "max.message.bytes");
        assert_eq!((found.value, &found.synonyms), (Some("1048588"), &vec![default]));

        let entries = topic_entries(&silent, &set_defaults, &set);
        let found = find(&entries, "max.message.bytes");
        assert_eq!((found.value, &found.synonyms), (Some("2000"), &vec![by_broker, default]));

        let entries = topic_entries(&own, &set_defaults, &set);
        let found = find(&entries, "max.message.bytes");
        assert_eq!((found.value, &found.synonyms), (Some("1000"), &vec![by_topic, by_broker, default]));
        let own = Synonym { name: "retention.ms", value: "-1", source: Source::Topic };
        assert_eq!(find(&entries, "retention.ms").synonyms, [own]);
    }

    #[test]
    fn a_key_in_milliseconds_falls_back_on_hours() {
        let silent = topic(&[]);
        let (keys, defaults) = broker(&[]);
        let entries = topic_entries(&silent, &defaults, &keys);
        let found = find(&entries, "retention.ms");
        assert_eq!((found.value, found.synonyms.len(), found.source()), (Some("604800000"), 0, Source::Default));

        let (keys, defaults) = broker(&["log.retention.hours=1", "log.retention.minutes=5"]);
        let entries = topic_entries(&silent, &defaults, &keys);
        let found = find(&entries, "retention.ms");
        assert_eq!((found.value, found.source()), (Some("300000"), Source::StaticBroker));
        let said: Vec<_> = found.synonyms.iter().map(|said| (said.name, said.value)).collect();
        assert_eq!(said, [("log.retention.minutes", "5"), ("log.retention.hours", "1")]);
    }
}
