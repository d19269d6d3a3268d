//! DescribeConfigs: the keys of topics and of this broker, their values, and who set them (KIP-133, KIP-226, KIP-569).
//!
//! Only keys that something acts on are listed: the rows of `metadata/topic_config` and of `config/keys`. Nothing about a key
//! is said here.
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

use self::entries::{BrokerKey, Entry, Synonym, broker_entries, source_code, topic_entries, type_code};
use super::authorizer::Operation;
use super::config_resource::{Refused, ResourceKind, Which, authorized, check_broker, find_kind, refuse, refuse_kind};
use super::{Context, errors};
use crate::metadata::controller::check_topic_name;
use crate::metadata::image::Image;
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

fn describe<'a, E: Env>(
    context: &'a Context<'_, E>,
    image: &'a Image,
    broker: &'a [BrokerKey],
    kind: ResourceKind,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Entry<'a>>, Refused> {
    let name = resource.resource_name;
    let (resource, error) = authorized(kind, name);
    if !context.allows(Operation::DescribeConfigs, resource) {
        return Err(refuse(error, "not allowed"));
    }
    match kind {
        ResourceKind::Topic => {
            check_topic_name(name).map_err(|refusal| (errors::refusal(&refusal), refusal.to_string()))?;
            let topic = image.find_topic_by_name(name);
            let topic = topic.ok_or_else(|| refuse(ErrorCode::UnknownTopicOrPartition, "the topic does not exist"))?;
            Ok(topic_entries(&topic.config, context.shard.topic_defaults(), broker))
        }
        ResourceKind::Broker => check_broker(name, context.shard.broker().node().get())
            .map(|which| if which == Which::Cluster { Vec::new() } else { broker_entries(broker) }),
        ResourceKind::BrokerLogger | ResourceKind::ClientMetrics | ResourceKind::Group => Err(refuse_kind(kind)),
    }
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
        config_source: source_code(entry.source()),
        // Nothing that is configured is secret so far.
        is_sensitive: false,
        synonyms,
        config_type: type_code(entry.value_type),
        documentation: request.include_documentation.then_some(entry.doc),
    }
}
