//! ListConfigResources: what has a configuration (KIP-1000, KIP-1142). All topics and brokers do, and the groups that were
//! given one; loggers and client metrics have none here, so none of them is listed.

use std::collections::BTreeSet;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::list_config_resources::{
    ConfigResource, ListConfigResourcesRequest, ListConfigResourcesResponse,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use super::config_resource::{ResourceKind, find_kind};
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: ListConfigResourcesRequest = context.decode()?;
    let error = if !context.allows(Operation::DescribeConfigs, Resource::Cluster) {
        ErrorCode::ClusterAuthorizationFailed
    } else if request.resource_types.iter().any(|resource_type| find_kind(*resource_type).is_none()) {
        // Kafka's word for a type that it does not know.
        ErrorCode::UnsupportedVersion
    } else {
        ErrorCode::None
    };
    if error != ErrorCode::None {
        let error_code = error.code();
        let response = ListConfigResourcesResponse { error_code, ..ListConfigResourcesResponse::default() };
        return context.answer(writer, &response);
    }
    // Version 0 only knows client metrics; from then on no type is all types.
    let types: BTreeSet<i8> = match request.resource_types {
        _ if context.head.version < ALL_TYPES_FROM => BTreeSet::new(),
        types if types.is_empty() => ALL_TYPES.into(),
        types => types.into_iter().collect(),
    };
    let image = context.shard.image();
    let brokers: Vec<String> = image.brokers().map(|broker| broker.node.to_string()).collect();
    let mut config_resources = Vec::new();
    for resource_type in types {
        let mut list = |resource_name| config_resources.push(ConfigResource { resource_name, resource_type });
        match find_kind(resource_type) {
            Some(ResourceKind::Topic) => image.topics().for_each(|topic| list(&topic.name)),
            Some(ResourceKind::Broker) => brokers.iter().for_each(|broker| list(broker)),
            Some(ResourceKind::Group) => image.configured_groups().for_each(&mut list),
            Some(ResourceKind::BrokerLogger | ResourceKind::ClientMetrics) | None => {}
        }
    }
    context.answer(writer, &ListConfigResourcesResponse { config_resources, ..ListConfigResourcesResponse::default() })
}

const ALL_TYPES_FROM: i16 = 1;
/// Topics, brokers and groups; nothing of the other types is there.
const ALL_TYPES: [i8; 3] = [2, 4, 32];
