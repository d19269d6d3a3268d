//! LeaveGroup: members go; from version 3 on several at once, as an administrator removes them.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::Operation;
use super::{Context, coordinator};
use crate::group::request::{Answer, Leaver, LeftMember, Question};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: LeaveGroupRequest<'_> = context.decode()?;
    let is_batched = context.head.version >= BATCHED_FROM;
    let leavers = if is_batched {
        let leaver = |member_id: &str, instance_id: Option<&str>| Leaver {
            member_id: member_id.to_owned(),
            instance_id: instance_id.map(str::to_owned),
        };
        request.members.iter().map(|member| leaver(member.member_id, member.group_instance_id)).collect()
    } else {
        vec![Leaver { member_id: request.member_id.to_owned(), instance_id: None }]
    };
    let answer = coordinator::ask(context, Operation::Read, request.group_id, Question::Leave(leavers)).await?;
    let (error, left) = match &answer {
        Answer::Left(left) => (ErrorCode::None, left.as_slice()),
        Answer::Refused(error) => (*error, [].as_slice()),
        other => (coordinator::mismatch(other), [].as_slice()),
    };
    // Before there were several, the error of the one was the error of the answer.
    let error = if is_batched { error } else { left.first().map_or(error, |left| left.error) };
    let members = left.iter().filter(|_| is_batched).map(|LeftMember { leaver, error }| MemberResponse {
        member_id: &leaver.member_id,
        group_instance_id: leaver.instance_id.as_deref(),
        error_code: error.code(),
    });
    let members = members.collect();
    context.answer(writer, &LeaveGroupResponse { error_code: error.code(), members, ..LeaveGroupResponse::default() })
}

const BATCHED_FROM: i16 = 3;
