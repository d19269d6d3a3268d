//! Heartbeat: a member is still there, and hears whether it is to join anew.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::Operation;
use super::{Context, coordinator};
use crate::group::request::{Answer, Membership, Question};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: HeartbeatRequest<'_> = context.decode()?;
    let member = Membership::new(request.member_id, request.group_instance_id, request.generation_id);
    let question = Question::Heartbeat(member);
    let error = match coordinator::ask(context, Operation::Read, request.group_id, question).await? {
        // A member of a group that is being read back is still a member (as in Kafka).
        Answer::Alive | Answer::Refused(ErrorCode::CoordinatorLoadInProgress) => ErrorCode::None,
        Answer::Refused(error) => error,
        other => coordinator::mismatch(&other),
    };
    context.answer(writer, &HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() })
}
