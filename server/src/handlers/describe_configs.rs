//! DescribeConfigs: the keys of topics, of this broker, of groups and of the rest of Kafka's resources, their values, and
//! who set them (KIP-133, KIP-226, KIP-569).
//!
//! All keys of Kafka are listed, also those that nothing acts on. Nothing about a key is said here: the rows are in
//! `metadata/topic_config`, `metadata/group_config`, `config/keys` and `config/kafka`.
//!
//! A resource that is named twice is answered once, so that the answer is no larger than what there is to describe.

pub(super) mod entries;

use std::collections::BTreeSet;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use self::entries::{
    BrokerKey, Entry, Synonym, broker_entries, broker_keys, client_metrics_entries, cluster_entries, group_entries,
    logger_entries, source_code, topic_entries, type_code,
};
use super::authorizer::Operation;
use super::config_resource::{Refused, ResourceKind, Which, authorized, check_broker, find_kind, refuse};
use super::{Context, errors};
use crate::metadata::broker_config::Told;
use crate::metadata::controller::check_topic_name;
use crate::metadata::image::Image;
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DescribeConfigsRequest<'_> = context.decode()?;
    let image = context.shard.image();
    let told = Told::new(&image, context.shard.broker().node());
    let broker = broker_keys(&context.shard.broker().config, told);
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

fn describe<E: Env>(
    context: &Context<'_, E>,
    image: &Image,
    broker: &[BrokerKey],
    kind: ResourceKind,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Entry>, Refused> {
    let name = resource.resource_name;
    let (resource, error) = authorized(kind, name);
    if !context.allows(Operation::DescribeConfigs, resource) {
        return Err(refuse(error, "not allowed"));
    }
    let node = context.shard.broker().node().get();
    match kind {
        ResourceKind::Topic => {
            check_topic_name(name).map_err(|refusal| (errors::refusal(&refusal), refusal.to_string()))?;
            let topic = image.find_topic_by_name(name);
            let topic = topic.ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition, "the topic does not exist"))?;
            Ok(topic_entries(&topic.config, &context.shard.topic_defaults(), broker))
        }
        ResourceKind::Broker => check_broker(name, node).map(|which| match which {
            Which::Cluster => cluster_entries(broker),
            Which::This => broker_entries(broker),
        }),
        ResourceKind::BrokerLogger => match check_broker(name, node)? {
            Which::Cluster => Err(refuse(ErrorCode::InvalidRequest, "loggers are a single broker's")),
            Which::This => Ok(logger_entries(context.shard.broker().config.log.level)),
        },
        ResourceKind::Group | ResourceKind::ClientMetrics if name.is_empty() => {
            Err(refuse(ErrorCode::InvalidRequest, "the name must not be empty"))
        }
        // Whether the group is there does not matter, as in Kafka.
        ResourceKind::Group => Ok(group_entries(image.group_config(name), broker)),
        ResourceKind::ClientMetrics => Ok(client_metrics_entries()),
    }
}

fn result<'a>(
    request: &DescribeConfigsRequest<'_>,
    resource: &DescribeConfigsResource<'a>,
    entries: &'a Result<Vec<Entry>, Refused>,
) -> DescribeConfigsResult<'a> {
    let (resource_type, resource_name) = (resource.resource_type, resource.resource_name);
    match entries {
        Ok(entries) => {
            let keys = resource.configuration_keys.as_deref().unwrap_or_default();
            // To Kafka, no keys are all keys, whether the list is null or empty.
            let is_wanted = |entry: &&Entry| keys.is_empty() || keys.contains(&entry.name);
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

fn encode_entry<'a>(request: &DescribeConfigsRequest<'_>, entry: &'a Entry) -> DescribeConfigsResourceResult<'a> {
    let mut synonyms = Vec::new();
    if request.include_synonyms {
        for Synonym { name, value, source } in &entry.synonyms {
            let value = Some(value.as_str()).filter(|_| !entry.is_sensitive());
            synonyms.push(DescribeConfigsSynonym { name, value, source: source_code(*source) });
        }
    }
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value.as_deref().filter(|_| !entry.is_sensitive()),
        read_only: entry.is_read_only,
        config_source: source_code(entry.source()),
        is_sensitive: entry.is_sensitive(),
        synonyms,
        config_type: type_code(entry.value_type),
        documentation: request.include_documentation.then_some(entry.doc),
    }
}
