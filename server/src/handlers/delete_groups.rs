//! DeleteGroups: groups that nobody is in go, with what they have committed. A group that is named twice is answered once.

use std::collections::HashSet;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::Operation;
use super::{Context, coordinator};
use crate::group::request::{Answer, Question};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DeleteGroupsRequest<'_> = context.decode()?;
    let mut results = Vec::with_capacity(request.groups_names.len());
    let mut named = HashSet::with_capacity(request.groups_names.len());
    for group_id in request.groups_names.into_iter().filter(|group_id| named.insert(*group_id)) {
        let error = match coordinator::ask(context, Operation::Delete, group_id, Question::Delete).await? {
            Answer::Deleted => ErrorCode::None,
            Answer::Refused(error) => error,
            other => coordinator::mismatch(&other),
        };
        results.push(DeletableGroupResult { group_id, error_code: error.code() });
    }
    context.answer(writer, &DeleteGroupsResponse { results, ..DeleteGroupsResponse::default() })
}
