//! FindCoordinator: who looks after a group. The first one to ask has the topic made that groups are stored in.
//!
//! There are no coordinators of transactions yet, and clients must hear that in a way that does not send them round again:
//! librdkafka and the Java client give up only on authorization errors and retry everything else for ever.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use crate::metadata::Image;
use crate::metadata::controller::OFFSETS_TOPIC;
use crate::metadata::record::Broker;
use crate::net::connection::Close;
use crate::shard::groups::partition_of;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: FindCoordinatorRequest<'_> = context.decode()?;
    let is_batched = context.head.version >= BATCHED_FROM;
    let keys = if is_batched { request.coordinator_keys.clone() } else { vec![request.key] };
    let is_stored = request.key_type != KEY_GROUP || keys.is_empty() || context.shard.make_offsets_topic().await?;
    let image = context.shard.image();
    let mut coordinators = Vec::with_capacity(keys.len());
    for key in keys {
        let found = if is_stored {
            find(context, &image, request.key_type, key)
        } else {
            Err((ErrorCode::CoordinatorNotAvailable, "the topic that groups are stored in cannot be made"))
        };
        coordinators.push(describe(context, key, found));
    }
    if is_batched {
        return context.answer(writer, &FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() });
    }
    let Coordinator { node_id, host, port, error_code, error_message, .. } = coordinators.remove(0);
    let error_message = error_message.filter(|_| context.head.version >= MESSAGE_FROM);
    let response = FindCoordinatorResponse {
        error_code,
        error_message,
        node_id,
        host,
        port,
        ..FindCoordinatorResponse::default()
    };
    context.answer(writer, &response)
}

type Refusal = (ErrorCode, &'static str);

/// The broker that looks after a key.
fn find<'i, E: Env>(
    context: &Context<'_, E>,
    image: &'i Image,
    key_type: i8,
    key: &str,
) -> Result<&'i Broker, Refusal> {
    match key_type {
        KEY_GROUP if !context.allows(Operation::Describe, Resource::Group(key)) => {
            Err((ErrorCode::GroupAuthorizationFailed, "not allowed"))
        }
        KEY_GROUP => {
            let topic = image.find_topic_by_name(OFFSETS_TOPIC);
            let partition = topic
                .and_then(|topic| topic.partitions.get(usize::try_from(partition_of(key, topic)).unwrap_or_default()));
            let leader = partition.and_then(|partition| partition.leader).and_then(|node| image.find_broker(node));
            leader.ok_or((ErrorCode::CoordinatorNotAvailable, "nobody leads the group's partition"))
        }
        KEY_TRANSACTION => Err((ErrorCode::TransactionalIdAuthorizationFailed, "transactions are not served yet")),
        _ => Err((ErrorCode::InvalidRequest, "this type of coordinator is not served")),
    }
}

fn describe<'a, E: Env>(context: &Context<'_, E>, key: &'a str, found: Result<&'a Broker, Refusal>) -> Coordinator<'a> {
    let listener = &context.listener().name;
    let endpoint = found.and_then(|broker| {
        let endpoint = broker.endpoints.iter().find(|endpoint| endpoint.listener == *listener);
        endpoint.map(|endpoint| (broker, endpoint)).ok_or((ErrorCode::CoordinatorNotAvailable, "not on this listener"))
    });
    match endpoint {
        Ok((broker, endpoint)) => Coordinator {
            key,
            node_id: broker.node.get(),
            host: &endpoint.host,
            port: i32::from(endpoint.port),
            error_code: ErrorCode::None.code(),
            error_message: None,
        },
        Err((error, message)) => {
            let (error_code, error_message) = (error.code(), Some(message));
            Coordinator { key, node_id: NOBODY, host: "", port: NOBODY, error_code, error_message }
        }
    }
}

const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;
const MESSAGE_FROM: i16 = 1;
const BATCHED_FROM: i16 = 4;
const NOBODY: i32 = -1;
