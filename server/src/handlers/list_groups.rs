//! ListGroups: every group of this broker, by state and type if the client wants only some.

use futures_util::future::join_all;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use crate::group::request;
use crate::net::connection::Close;
use crate::shard::placement::ShardIndex;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: ListGroupsRequest<'_> = context.decode()?;
    let shard = context.shard;
    let owners = || ShardIndex::all(shard.shard_count());
    let _slots = shard.router().slots(shard.remote_count(owners())).await;
    let mut found = Vec::new();
    for listed in join_all(owners().map(|owner| shard.list_groups(owner))).await {
        match listed? {
            Ok(groups) => found.extend(groups),
            Err(error) => {
                let response = ListGroupsResponse { error_code: error.code(), ..ListGroupsResponse::default() };
                return context.answer(writer, &response);
            }
        }
    }
    found.sort_by(|first, second| first.group.cmp(&second.group));
    let is_wanted = |group: &&request::ListedGroup| {
        is_among(&request.states_filter, group.state)
            && is_among(&request.types_filter, group.group_type)
            && context.allows(Operation::Describe, Resource::Group(&group.group))
    };
    let groups = found.iter().filter(is_wanted).map(|group| ListedGroup {
        group_id: &group.group,
        protocol_type: &group.protocol_type,
        group_state: group.state,
        group_type: group.group_type,
    });
    let (error_code, groups) = (ErrorCode::None.code(), groups.collect());
    context.answer(writer, &ListGroupsResponse { error_code, groups, ..ListGroupsResponse::default() })
}

/// Whether `word` passes the filter; letter case does not count, and no filter lets everything pass.
fn is_among(filter: &[&str], word: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
}
