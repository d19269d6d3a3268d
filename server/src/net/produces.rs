//! The produces of one connection that are under way: each is started before those ahead of it are finished.

use std::collections::VecDeque;

use millrace_protocol::api_key::ApiKey;
use millrace_runtime::Env;

use super::connection::{Close, note_answer};
use super::frame::Request;
use super::outgoing::Outgoing;
use crate::handlers::{Context, produce};
use crate::shard::Shard;

/// Sends the batches of a Produce on their way, behind those of the produces that are.
pub(super) async fn start<E: Env, P>(
    context: &Context<'_, E>,
    request: &Request,
    outgoing: &mut Outgoing<E>,
    under_way: &mut VecDeque<P>,
) -> Result<produce::Started<E>, Close>
where
    P: Future<Output = Result<produce::Finished, Close>> + Unpin,
{
    let (budget, frame_bytes) = (context.shard.decoding_budget(), request.frame.len());
    let mut started = produce::start(context).await;
    while request.decoding.is_too_little(&started, budget, frame_bytes) {
        if !request.decoding.try_widen(budget) {
            // Those before it may hold what it waits for, and nobody else sees to their end.
            if let Some(close) = finish_all(context.shard, outgoing, under_way).await {
                return Err(close);
            }
            request.decoding.widen(budget).await;
        }
        started = produce::start(context).await;
    }
    started
}

/// Waits for all produces under way.
pub(super) async fn finish_all<E: Env, P>(
    shard: &Shard<E>,
    outgoing: &mut Outgoing<E>,
    under_way: &mut VecDeque<P>,
) -> Option<Close>
where
    P: Future<Output = Result<produce::Finished, Close>>,
{
    let mut refused = None;
    while let Some(produce) = under_way.pop_front() {
        refused = refused.or(finish(shard, produce.await, outgoing, under_way));
    }
    refused
}

/// Encodes the answer to the first of the produces under way. When it cannot be answered, neither are those after it.
pub(super) fn finish<E: Env, P>(
    shard: &Shard<E>,
    finished: Result<produce::Finished, Close>,
    outgoing: &mut Outgoing<E>,
    under_way: &mut VecDeque<P>,
) -> Option<Close> {
    let error_count = outgoing.writer().error_count();
    let encoded = finished.and_then(|finished| finished.encode(outgoing).map(|()| finished.received_at()));
    if let Ok(received_at) = encoded {
        note_answer(shard, ApiKey::Produce, received_at, outgoing.writer().error_count() - error_count);
    }
    let close = encoded.err();
    if close.is_some() {
        under_way.clear();
    }
    close
}
