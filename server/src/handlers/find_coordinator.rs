//! FindCoordinator: there are no coordinators yet, and clients must hear that in a way that does not send them round again.
//!
//! librdkafka and the Java client give up only on authorization errors and retry everything else for ever.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: FindCoordinatorRequest<'_> = context.decode()?;
    if context.head.version < BATCHED_FROM {
        let (error, message) = refuse(context, request.key_type, request.key);
        let response = FindCoordinatorResponse {
            error_code: error.code(),
            error_message: (context.head.version >= MESSAGE_FROM).then_some(message),
            node_id: NOBODY,
            port: NOBODY,
            ..FindCoordinatorResponse::default()
        };
        return context.answer(writer, &response);
    }
    let mut coordinators = Vec::new();
    for key in request.coordinator_keys {
        let (error, message) = refuse(context, request.key_type, key);
        let error_message = Some(message);
        let (node_id, port) = (NOBODY, NOBODY);
        coordinators.push(Coordinator { key, node_id, host: "", port, error_code: error.code(), error_message });
    }
    let response = FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    context.answer(writer, &response)
}

fn refuse<E: Env>(context: &Context<'_, E>, key_type: i8, key: &str) -> (ErrorCode, &'static str) {
    let (resource, error, message) = match key_type {
        KEY_GROUP => (Resource::Group(key), ErrorCode::GroupAuthorizationFailed, "consumer groups are not served yet"),
        KEY_TRANSACTION => (
            Resource::TransactionalId(key),
            ErrorCode::TransactionalIdAuthorizationFailed,
            "transactions are not served yet",
        ),
        _ => return (ErrorCode::InvalidRequest, "this type of coordinator is not served"),
    };
    if context.allows(Operation::Describe, resource) { (error, message) } else { (error, "not allowed") }
}

const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;
const MESSAGE_FROM: i16 = 1;
const BATCHED_FROM: i16 = 4;
const NOBODY: i32 = -1;
