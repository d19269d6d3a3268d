//! InitProducerId: an id for an idempotent producer (KIP-98). Every Java producer asks for one before its first record.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::{Context, errors};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: InitProducerIdRequest<'_> = context.decode()?;
    let response = match take_id(context, &request).await {
        // A producer that has an id already and asks again without a transactional id just gets a new one (KIP-360).
        Ok(producer_id) => {
            InitProducerIdResponse { producer_id, producer_epoch: 0, ..InitProducerIdResponse::default() }
        }
        Err(error) => InitProducerIdResponse {
            error_code: error.code(),
            producer_id: NO_ID,
            producer_epoch: NO_EPOCH,
            ..InitProducerIdResponse::default()
        },
    };
    context.answer(writer, &response)
}

async fn take_id<E: Env>(context: &Context<'_, E>, request: &InitProducerIdRequest<'_>) -> Result<i64, ErrorCode> {
    match request.transactional_id {
        Some("") => return Err(ErrorCode::InvalidRequest),
        // Not "try later": clients retry every other code for ever.
        Some(_) => return Err(ErrorCode::TransactionalIdAuthorizationFailed),
        None => {}
    }
    if !context.allows(Operation::IdempotentWrite, Resource::Cluster) {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    let taken = context.shard.producer_ids().take(context.shard).await;
    taken.map_err(|error| errors::producer_id(&error))
}

const NO_ID: i64 = -1;
const NO_EPOCH: i16 = -1;
