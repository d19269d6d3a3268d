//! JoinGroup: become a member of a group's next generation.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};
use millrace_protocol::wire::Writer;
use millrace_runtime::{Env, Random};

use super::authorizer::Operation;
use super::{Context, coordinator};
use crate::group::request::{Answer, Join, JoinProtocol, Joined, JoinedMember, Question};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: JoinGroupRequest<'_> = context.decode()?;
    let question = Question::Join(question(context, &request));
    let answer = coordinator::ask_waiting(context, Operation::Read, request.group_id, question).await?;
    let version = context.head.version;
    match &answer {
        Answer::Joined(joined) => context.answer(writer, &respond(joined, version)),
        Answer::MemberIdRequired { member_id } => {
            context.answer(writer, &refuse(ErrorCode::MemberIdRequired, member_id, version))
        }
        Answer::Refused(error) => context.answer(writer, &refuse(*error, request.member_id, version)),
        other => context.answer(writer, &refuse(coordinator::mismatch(other), request.member_id, version)),
    }
}

fn question<E: Env>(context: &Context<'_, E>, request: &JoinGroupRequest<'_>) -> Join {
    let version = context.head.version;
    let random = context.shard.env().random();
    let protocols = request
        .protocols
        .iter()
        .map(|protocol| JoinProtocol { name: protocol.name.to_owned(), metadata: protocol.metadata.to_vec() });
    Join {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        client_id: context.head.client_id.unwrap_or_default().to_owned(),
        client_host: format!("/{}", context.client.address.ip()),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: if version >= REBALANCE_TIMEOUT_FROM {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        },
        protocol_type: request.protocol_type.to_owned(),
        protocols: protocols.collect(),
        requires_known_member: version >= KNOWN_MEMBER_FROM,
        can_skip_assignment: version >= SKIP_FROM,
        fresh_id: u128::from(random.next_u64()) << 64 | u128::from(random.next_u64()),
    }
}

fn respond(joined: &Joined, version: i16) -> JoinGroupResponse<'_> {
    let members = joined.members.iter().map(|JoinedMember { member_id, instance_id, metadata }| {
        JoinGroupResponseMember { member_id, group_instance_id: instance_id.as_deref(), metadata }
    });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: Some(joined.protocol_type.as_str()).filter(|_| version >= TYPE_FROM),
        protocol_name: Some(&joined.protocol),
        leader: &joined.leader,
        skip_assignment: joined.skip_assignment,
        member_id: &joined.member_id,
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

fn refuse(error: ErrorCode, member_id: &str, version: i16) -> JoinGroupResponse<'_> {
    JoinGroupResponse {
        error_code: error.code(),
        generation_id: NO_GENERATION,
        // Null only where the version has it.
        protocol_name: (version < TYPE_FROM).then_some(""),
        member_id,
        ..JoinGroupResponse::default()
    }
}

const REBALANCE_TIMEOUT_FROM: i16 = 1;
const KNOWN_MEMBER_FROM: i16 = 4;
const TYPE_FROM: i16 = 7;
const SKIP_FROM: i16 = 9;
const NO_GENERATION: i32 = -1;
