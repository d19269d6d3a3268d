//! ListPartitionReassignments: partitions that are on their way to other brokers (KIP-455). There are no others, so none is;
//! like Kafka, this says nothing of topics that do not exist.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let _: ListPartitionReassignmentsRequest<'_> = context.decode()?;
    let mut response = ListPartitionReassignmentsResponse { error_message: None, ..Default::default() };
    if !context.allows(Operation::Describe, Resource::Cluster) {
        response.error_code = ErrorCode::ClusterAuthorizationFailed.code();
        response.error_message = Some("not allowed");
    }
    context.answer(writer, &response)
}
