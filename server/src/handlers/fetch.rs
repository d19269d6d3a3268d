//! Fetch: records out of logs, now or as soon as there are some.
//!
//! 1. The connection's [`crate::fetch_session`] says what is wanted: what the request asks for, or, in a session, what it has
//!    asked for so far.
//! 2. [`Plan`] turns names into partitions and groups them by owner; what cannot be read has its error already.
//! 3. Every owner is read at once. It answers with what it has and arms a watch for this request in the same step.
//! 4. Enough bytes, an error of a partition that is there, no time left, a client that has gone, or a broker that stops:
//!    [`reply`] answers. Otherwise the answers are let go of, the first log to grow wakes the request, and it reads all
//!    owners again.
//!
//! Limits follow KIP-74: the first batch found is sent whatever its size, everything after it stays within the request's
//! and the partition's limits. No answer carries more than `fetch.max.bytes` besides; several owners share that evenly, and
//! each gives no more than its part of the memory that is free for answers ([`crate::shard::read`]).
//!
//! In a session (KIP-227) the answer has only the partitions with news. That changes nothing of the waiting: an answer
//! without any leaves when the client's time is over.

mod asked;
mod plan;
mod reply;

use std::time::Duration;

use futures_util::future::{Either, join_all, select};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse};
use millrace_runtime::{Clock, Env, Moment};

use self::plan::Plan;
use self::reply::Gathered;
use super::Context;
use crate::net::connection::Close;
use crate::net::outgoing::Outgoing;
use crate::shard::router::{ReadAnswer, ShardGone};
use crate::shard::watch::Wait;
use crate::shard::{Stage, limits};

/// Answers a Fetch, at the latest after the time the client allows.
pub async fn handle<E: Env>(context: &Context<'_, E>, outgoing: &mut Outgoing<E>) -> Result<(), Close> {
    let request: FetchRequest<'_> = context.decode()?;
    let session = asked::session(context, &request);
    let (asked, forgotten) = asked::partitions(&request, session.naming);
    let now = context.shard.env().clock().now();
    let opened = context.shard.fetch_sessions().borrow_mut().open(now, session, asked, &forgotten);
    drop(forgotten);
    let opened = match opened {
        Ok(opened) => opened,
        Err(error) => return refuse(context, error, outgoing),
    };
    let plan = Plan::new(context, &request, &opened.wanted);
    let answers = read_enough(context, &request, &plan).await?;
    let gathered = Gathered::new(&plan, answers, session.naming);
    let found = gathered.take_all(&plan, &request);

    let now = context.shard.env().clock().now();
    let outcomes = found.outcomes();
    let closed = context.shard.fetch_sessions().borrow_mut().close(now, session, &opened, &outcomes);
    match closed {
        Ok(closed) => found.encode(context, &opened.wanted, &closed, outgoing),
        Err(error) => refuse(context, error, outgoing),
    }
}

/// Answers with one error for the whole request.
fn refuse<E: Env>(context: &Context<'_, E>, error: ErrorCode, outgoing: &mut Outgoing<E>) -> Result<(), Close> {
    let response = FetchResponse { error_code: error.code(), ..FetchResponse::default() };
    context.answer(outgoing.writer(), &response)
}

/// Reads until there is enough, or nothing more to wait for.
async fn read_enough<E: Env>(
    context: &Context<'_, E>,
    request: &FetchRequest<'_>,
    plan: &Plan,
) -> Result<Vec<ReadAnswer<E>>, Close> {
    let shard = context.shard;
    let wait_ms = u64::try_from(request.max_wait_ms).unwrap_or(0);
    let deadline = shard.env().clock().now() + Duration::from_millis(wait_ms).min(limits::FETCH_WAIT_MAX);
    loop {
        let time_left = deadline.saturating_since(shard.env().clock().now());
        let may_wait = !time_left.is_zero() && plan.may_wait() && shard.stage() == Stage::Running;
        let mut wait = may_wait.then(|| shard.waits().open());
        let version = wait.as_ref().map_or(0, |wait| wait.event().version());
        let answers = read_all(context, plan, wait.as_mut()).await?;
        let Some(wait) = wait.filter(|_| !plan.is_satisfied(&answers)) else { return Ok(answers) };
        // Without a watch everywhere, the request looks again by the clock.
        let is_watched = answers.iter().all(|answer| answer.is_watched);
        // What was found must not stay pinned while the request waits.
        drop(answers);
        let until = if is_watched { deadline } else { deadline.min(shard.env().clock().now() + LOOK_AGAIN) };
        if park(context, &wait, version, until).await == Parked::ClientGone {
            return read_all(context, plan, None).await.map_err(Close::from);
        }
    }
}

/// Reads every owner once. Completes only when all have answered, so that no watch is armed after its wait is over.
async fn read_all<E: Env>(
    context: &Context<'_, E>,
    plan: &Plan,
    mut wait: Option<&mut Wait<E>>,
) -> Result<Vec<ReadAnswer<E>>, ShardGone> {
    let shard = context.shard;
    let _slots = shard.router().slots(shard.remote_count(plan.owners())).await;
    let watching = wait.as_deref();
    let reads = plan.groups().iter().map(|group| shard.read(group.owner, group.read.clone(), watching));
    let answers: Vec<_> = join_all(reads).await;
    for (group, answer) in plan.groups().iter().zip(&answers) {
        if let (Ok(answer), Some(wait)) = (answer, wait.as_deref_mut())
            && answer.is_watched
            && group.owner != shard.index()
        {
            wait.note_armed(group.owner);
        }
    }
    answers.into_iter().collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parked {
    Woken,
    ClientGone,
}

/// Waits for the first log to grow, until `until`, or for the client to leave.
async fn park<E: Env>(context: &Context<'_, E>, wait: &Wait<E>, version: u64, until: Moment) -> Parked {
    let clock = context.shard.env().clock();
    let grown = std::pin::pin!(wait.event().changed(version));
    let timer = std::pin::pin!(clock.sleep(until.saturating_since(clock.now())));
    let gone = std::pin::pin!(context.client.gone());
    match select(select(grown, timer), gone).await {
        Either::Left(_) => Parked::Woken,
        Either::Right(_) => Parked::ClientGone,
    }
}

/// How long a request waits that an owner had no watch left for.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What each of many owners may answer at least.
const SHARE_BYTES_MIN: usize = 64 << 10;
