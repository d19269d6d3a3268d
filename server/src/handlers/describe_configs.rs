//! DescribeConfigs: the keys of topics and of this broker, their values, and who set them (KIP-133, KIP-226, KIP-569).
//!
//! Only keys that something acts on are listed: the rows of `metadata/topic_config` and of `config/keys`. Nothing about a key
//! is said here.
//!
//! A resource that is named twice is answered once, so that the answer is no larger than what there is to describe.

use std::collections::BTreeSet;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::{Context, errors};
use crate::config::keys::{self, Change, Key, Kind};
use crate::config::{Effective, Origin};
use crate::metadata::controller::check_topic_name;
use crate::metadata::image::{Image, Topic};
use crate::metadata::topic_config::{self, Rule, ValueType};
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DescribeConfigsRequest<'_> = context.decode()?;
    let image = context.shard.image();
    let broker: Vec<BrokerKey> = context.shard.broker().config.effective.iter().map(BrokerKey::new).collect();
    let is_known = |resource: &DescribeConfigsResource<'_>| find_kind(resource.resource_type).is_some();
    let is_all_known = request.resources.iter().all(is_known);

    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for resource in &request.resources {
        if !seen.insert((resource.resource_type, resource.resource_name)) {
            continue;
        }
        let entries = match find_kind(resource.resource_type) {
            Some(kind) if is_all_known => describe(context, &image, &broker, kind, resource),
            // As in Kafka, a type that nobody knows spoils the request.
            _ => Err(refuse(ErrorCode::InvalidRequest, "the request names a resource of an unknown type")),
        };
        found.push((resource, entries));
    }
    let results = found.iter().map(|(resource, entries)| result(&request, resource, entries)).collect();
    context.answer(writer, &DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() })
}

/// Kafka's types of resources that have a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResourceKind {
    Topic,
    Broker,
    BrokerLogger,
    ClientMetrics,
    Group,
}

/// The numbers are those of Kafka's `ConfigResource.Type`.
fn find_kind(resource_type: i8) -> Option<ResourceKind> {
    match resource_type {
        2 => Some(ResourceKind::Topic),
        4 => Some(ResourceKind::Broker),
        8 => Some(ResourceKind::BrokerLogger),
        16 => Some(ResourceKind::ClientMetrics),
        32 => Some(ResourceKind::Group),
        _ => None,
    }
}

/// Who set a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Topic,
    StaticBroker,
    Default,
}

/// One key with all that may be asked about it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry<'a> {
    name: &'static str,
    /// `None` when it is not set and nothing stands in for it.
    value: Option<&'a str>,
    /// Every value that was said, the one that holds first.
    synonyms: Vec<Synonym<'a>>,
    is_read_only: bool,
    value_type: ValueType,
    doc: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Synonym<'a> {
    name: &'static str,
    value: &'a str,
    source: Source,
}

type Refused = (ErrorCode, String);

fn describe<'a, E: Env>(
    context: &Context<'_, E>,
    image: &'a Image,
    broker: &'a [BrokerKey],
    kind: ResourceKind,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Entry<'a>>, Refused> {
    let name = resource.resource_name;
    let (authorized, error) = match kind {
        ResourceKind::Topic => (Resource::Topic(name), ErrorCode::TopicAuthorizationFailed),
        ResourceKind::Group => (Resource::Group(name), ErrorCode::GroupAuthorizationFailed),
        ResourceKind::Broker | ResourceKind::BrokerLogger | ResourceKind::ClientMetrics => {
            (Resource::Cluster, ErrorCode::ClusterAuthorizationFailed)
        }
    };
    if !context.allows(Operation::DescribeConfigs, authorized) {
        return Err(refuse(error, "not allowed"));
    }
    match kind {
        ResourceKind::Topic => {
            check_topic_name(name).map_err(|refusal| (errors::refusal(&refusal), refusal.to_string()))?;
            let topic = image.find_topic_by_name(name);
            let topic = topic.ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition, "the topic does not exist"))?;
            Ok(topic_entries(topic, broker))
        }
        ResourceKind::Broker => check_broker(name, context.shard.broker().node().get())
            .map(|which| if which == Which::Cluster { Vec::new() } else { broker_entries(broker) }),
        ResourceKind::BrokerLogger => {
            Err(refuse(ErrorCode::InvalidRequest, "loggers have no levels of their own here"))
        }
        ResourceKind::ClientMetrics => Err(refuse(ErrorCode::InvalidRequest, "client metrics are not served")),
        ResourceKind::Group => Err(refuse(ErrorCode::InvalidRequest, "consumer groups are not served yet")),
    }
}

/// Whose configuration a broker resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// What all brokers were given while they ran; nothing can be, so it is empty.
    Cluster,
    This,
}

fn check_broker(name: &str, node: i32) -> Result<Which, Refused> {
    if name.is_empty() {
        return Ok(Which::Cluster);
    }
    match name.parse::<i32>() {
        Ok(number) if number == node => Ok(Which::This),
        Ok(_) => {
            let text =
                format!("this is broker {node}; ask broker {name} itself, or nobody in particular for what all have");
            Err((ErrorCode::InvalidRequest, text))
        }
        Err(_) => Err((ErrorCode::InvalidRequest, format!("a broker is named by its number, not by {name:?}"))),
    }
}

/// One of the broker's own keys, as text.
struct BrokerKey {
    row: &'static keys::Row,
    /// Empty for a key that is not set.
    value: String,
    origin: Origin,
}

impl BrokerKey {
    fn new(effective: &Effective) -> Self {
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

fn broker_entries(broker: &[BrokerKey]) -> Vec<Entry<'_>> {
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
        Kind::Word(_) => ValueType::String,
        Kind::Text(_) => match row.key {
            Key::Listeners | Key::AdvertisedListeners | Key::DataDirectory => ValueType::List,
            _ => ValueType::String,
        },
    }
}

fn topic_entries<'a>(topic: &'a Topic, broker: &'a [BrokerKey]) -> Vec<Entry<'a>> {
    let mut entries = Vec::with_capacity(topic_config::ROWS.len());
    for row in topic_config::ROWS {
        let mut synonyms = Vec::new();
        if let Some(value) = topic.config.get(row.name) {
            synonyms.push(Synonym { name: row.name, value, source: Source::Topic });
        }
        let fallback = match row.rule {
            Rule::Only(only) => Some(only),
            Rule::MessageBytes => {
                let key = broker.iter().find(|key| key.row.key == Key::MessageBytesMax);
                synonyms.extend(key.expect("every key has its effective value").synonyms());
                None
            }
        };
        let value = synonyms.first().map(|synonym| synonym.value).or(fallback);
        let (name, value_type, doc) = (row.name, row.value_type, row.doc);
        // Tools that copy topics leave out what is read-only, and these keys can be set where a topic is made.
        entries.push(Entry { name, value, synonyms, is_read_only: false, value_type, doc });
    }
    entries
}

fn result<'a>(
    request: &DescribeConfigsRequest<'_>,
    resource: &DescribeConfigsResource<'a>,
    entries: &'a Result<Vec<Entry<'_>>, Refused>,
) -> DescribeConfigsResult<'a> {
    let (resource_type, resource_name) = (resource.resource_type, resource.resource_name);
    match entries {
        Ok(entries) => {
            let keys = resource.configuration_keys.as_deref().unwrap_or_default();
            // To Kafka, no keys are all keys, whether the list is null or empty.
            let is_wanted = |entry: &&Entry<'_>| keys.is_empty() || keys.contains(&entry.name);
            let configs = entries.iter().filter(is_wanted).map(|entry| encode_entry(request, entry)).collect();
            DescribeConfigsResult { resource_type, resource_name, configs, ..DescribeConfigsResult::default() }
        }
        Err((error, text)) => DescribeConfigsResult {
            error_code: error.code(),
            error_message: Some(text),
            resource_type,
            resource_name,
            configs: Vec::new(),
        },
    }
}

fn encode_entry<'a>(request: &DescribeConfigsRequest<'_>, entry: &'a Entry<'_>) -> DescribeConfigsResourceResult<'a> {
    let source = entry.synonyms.first().map_or(Source::Default, |synonym| synonym.source);
    let mut synonyms = Vec::new();
    if request.include_synonyms {
        for Synonym { name, value, source } in &entry.synonyms {
            synonyms.push(DescribeConfigsSynonym { name, value: Some(value), source: source_code(*source) });
        }
    }
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value,
        read_only: entry.is_read_only,
        config_source: source_code(source),
        // Nothing that is configured is secret so far.
        is_sensitive: false,
        synonyms,
        config_type: type_code(entry.value_type),
        documentation: request.include_documentation.then_some(entry.doc),
    }
}

fn refuse(error: ErrorCode, text: &str) -> Refused {
    (error, text.to_owned())
}

/// The numbers are those of Kafka's `ConfigSource` (KIP-226).
fn source_code(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::StaticBroker => 4,
        Source::Default => 5,
    }
}

/// The numbers are those of Kafka's `ConfigType` (KIP-569).
fn type_code(value_type: ValueType) -> i8 {
    match value_type {
        ValueType::Boolean => 1,
        ValueType::String => 2,
        ValueType::Int => 3,
        ValueType::Long => 5,
        ValueType::List => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millrace_engine::model::TopicId;

    use super::*;
    use crate::config::check::{Room, check};
    use crate::config::{RawConfig, keys};

    fn broker(settings: &[&str]) -> Vec<BrokerKey> {
        let mut raw = RawConfig::new();
        for setting in settings {
            raw.add_assignment(setting);
        }
        let config = check(&raw, Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap();
        config.effective.iter().map(BrokerKey::new).collect()
    }

    fn topic(config: &[(&str, &str)]) -> Topic {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config: BTreeMap<_, _> = config.collect();
        Topic { id: TopicId::from_bytes([1; 16]), name: "weather".to_owned(), partitions: Vec::new(), config }
    }

    fn find<'e, 'a>(entries: &'e [Entry<'a>], name: &str) -> &'e Entry<'a> {
        entries.iter().find(|entry| entry.name == name).unwrap()
    }

    #[test]
    fn the_broker_lists_its_table_and_nothing_else() {
        let broker = broker(&["num.partitions=3", "message.max.bytes=2MiB"]);
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
        let (unset, set) = (broker(&[]), broker(&["message.max.bytes=2000"]));
        let default = Synonym { name: "message.max.bytes", value: "1048588", source: Source::Default };
        let by_broker = Synonym { name: "message.max.bytes", value: "2000", source: Source::StaticBroker };
        let by_topic = Synonym { name: "max.message.bytes", value: "1000", source: Source::Topic };
        let (silent, own) = (topic(&[]), topic(&[("max.message.bytes", "1000"), ("retention.ms", "-1")]));

        let entries = topic_entries(&silent, &unset);
        assert_eq!(entries.len(), topic_config::ROWS.len());
        let found = find(&entries, "max.message.bytes");
        assert_eq!((found.value, &found.synonyms), (Some("1048588"), &vec![default]));
        let found = find(&entries, "retention.ms");
        assert_eq!((found.value, found.synonyms.len()), (Some("-1"), 0));

        let entries = topic_entries(&silent, &set);
        let found = find(&entries, "max.message.bytes");
        assert_eq!((found.value, &found.synonyms), (Some("2000"), &vec![by_broker, default]));

        let entries = topic_entries(&own, &set);
        let found = find(&entries, "max.message.bytes");
        assert_eq!((found.value, &found.synonyms), (Some("1000"), &vec![by_topic, by_broker, default]));
        let own = Synonym { name: "retention.ms", value: "-1", source: Source::Topic };
        assert_eq!(find(&entries, "retention.ms").synonyms, [own]);
    }

    #[test]
    fn a_broker_answers_for_itself_and_for_the_cluster() {
        assert_eq!(check_broker("", 1), Ok(Which::Cluster));
        assert_eq!(check_broker("1", 1), Ok(Which::This));
        for name in ["2", "-1", "one", " 1"] {
            assert_eq!(check_broker(name, 1).unwrap_err().0, ErrorCode::InvalidRequest, "{name:?}");
        }
    }
}
