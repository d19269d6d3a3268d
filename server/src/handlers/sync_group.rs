//! SyncGroup: what a member is to read, as the group's leader says.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::Operation;
use super::{Context, coordinator};
use crate::group::request::{Answer, Membership, Question, Sync, Synced};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: SyncGroupRequest<'_> = context.decode()?;
    let is_complete =
        context.head.version < TYPE_FROM || (request.protocol_type.is_some() && request.protocol_name.is_some());
    let answer = if is_complete {
        let question = Question::Sync(question(&request));
        coordinator::ask_waiting(context, Operation::Read, request.group_id, question).await?
    } else {
        // From version 5 on a member says what it believes in (KIP-559).
        Answer::Refused(ErrorCode::InconsistentGroupProtocol)
    };
    let refuse = |error: ErrorCode| SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() };
    let response = match &answer {
        Answer::Synced(synced) => respond(synced),
        Answer::Refused(error) => refuse(*error),
        other => refuse(coordinator::mismatch(other)),
    };
    context.answer(writer, &response)
}

fn question(request: &SyncGroupRequest<'_>) -> Sync {
    let assignments = request.assignments.iter();
    Sync {
        member: Membership::new(request.member_id, request.group_instance_id, request.generation_id),
        protocol_type: request.protocol_type.map(str::to_owned),
        protocol: request.protocol_name.map(str::to_owned),
        assignments: assignments.map(|part| (part.member_id.to_owned(), part.assignment.to_vec())).collect(),
    }
}

fn respond(synced: &Synced) -> SyncGroupResponse<'_> {
    SyncGroupResponse {
        protocol_type: Some(&synced.protocol_type),
        protocol_name: Some(&synced.protocol),
        assignment: &synced.assignment,
        ..SyncGroupResponse::default()
    }
}

const TYPE_FROM: i16 = 5;
