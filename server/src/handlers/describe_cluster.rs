//! DescribeCluster: the brokers, as one listener's clients reach them (KIP-700).

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DescribeClusterRequest = context.decode()?;
    let cluster_id = context.shard.broker().cluster_id.to_string();
    let image = context.shard.image();
    let refusal = if !context.allows(Operation::Describe, Resource::Cluster) {
        Some((ErrorCode::ClusterAuthorizationFailed, "not allowed"))
    } else if request.endpoint_type == ENDPOINT_CONTROLLERS {
        Some((ErrorCode::MismatchedEndpointType, "this is a broker, not a controller"))
    } else if request.endpoint_type != ENDPOINT_BROKERS {
        Some((ErrorCode::UnsupportedEndpointType, "only endpoint type 1, brokers, is known here"))
    } else {
        None
    };
    if let Some((error, message)) = refusal {
        let response = DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(message),
            ..DescribeClusterResponse::default()
        };
        return context.answer(writer, &response);
    }
    let listener = context.listener();
    let mut brokers = Vec::new();
    for broker in image.brokers() {
        let Some(endpoint) = broker.endpoints.iter().find(|endpoint| endpoint.listener == listener.name) else {
            continue;
        };
        brokers.push(DescribeClusterBroker {
            broker_id: broker.node.get(),
            host: &endpoint.host,
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref(),
            ..DescribeClusterBroker::default()
        });
    }
    let response = DescribeClusterResponse {
        cluster_id: &cluster_id,
        controller_id: context.shard.broker().node().get(),
        brokers,
        ..DescribeClusterResponse::default()
    };
    context.answer(writer, &response)
}

const ENDPOINT_BROKERS: i8 = 1;
const ENDPOINT_CONTROLLERS: i8 = 2;
