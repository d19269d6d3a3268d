//! DescribeGroups: who is in groups. One that is not there, or not of the classic protocol, is Dead; from version 6 on that is
//! an error besides (KIP-1043).

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::Operation;
use super::{Context, coordinator};
use crate::group::request::{Answer, DescribedMember, Description, Question};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DescribeGroupsRequest<'_> = context.decode()?;
    let mut answers = Vec::with_capacity(request.groups.len());
    for group in request.groups {
        let answer = coordinator::ask(context, Operation::Describe, group, Question::Describe).await?;
        let message = format!("Group {group} not found.");
        answers.push((group, answer, message));
    }
    let has_message = context.head.version >= NOT_FOUND_FROM;
    let groups = answers.iter().map(|(group_id, answer, message)| match answer {
        Answer::Described(description) => respond(group_id, description),
        Answer::Refused(ErrorCode::GroupIdNotFound) if has_message => {
            let error_message = Some(message.as_str());
            DescribedGroup { error_message, group_state: DEAD, ..refuse(group_id, ErrorCode::GroupIdNotFound) }
        }
        Answer::Refused(ErrorCode::GroupIdNotFound) => {
            DescribedGroup { group_state: DEAD, ..refuse(group_id, ErrorCode::None) }
        }
        Answer::Refused(error) => refuse(group_id, *error),
        other => refuse(group_id, coordinator::mismatch(other)),
    });
    let groups = groups.collect();
    context.answer(writer, &DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() })
}

fn respond<'a>(group_id: &'a str, description: &'a Description) -> DescribedGroup<'a> {
    let member = |member: &'a DescribedMember| DescribedGroupMember {
        member_id: &member.member_id,
        group_instance_id: member.instance_id.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        member_metadata: &member.metadata,
        member_assignment: &member.assignment,
    };
    DescribedGroup {
        group_state: description.state,
        protocol_type: &description.protocol_type,
        protocol_data: &description.protocol,
        members: description.members.iter().map(member).collect(),
        ..refuse(group_id, ErrorCode::None)
    }
}

fn refuse(group_id: &str, error: ErrorCode) -> DescribedGroup<'_> {
    DescribedGroup { error_code: error.code(), group_id, ..DescribedGroup::default() }
}

const NOT_FOUND_FROM: i16 = 6;
const DEAD: &str = "Dead";
