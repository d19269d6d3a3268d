//! Looking after connections that stall in a request, take no answers, or say nothing at all; and making room when what
//! slow clients hold is what others need.
//!
//! While there is memory for everybody a client may be as slow as it likes, short of a full stop. Only when others wait for
//! memory is the one closed that holds it longest for its speed ([`Progress`](super::progress::Progress)).

use std::time::Duration;

use futures_util::future::{Either, select};
use millrace_runtime::{Clock, Connection, Env, TaskClass};

use super::connection::Live;
use crate::shard::{Shard, Stage};

/// Starts looking after connections that stall in a request, take no answers, or say nothing at all. Once the shard drains,
/// answers have [`DRAIN_SEND_MAX`] to be taken; it ends with the last connection.
pub fn start_sweep<E: Env>(shard: &Shard<E>) {
    let own = shard.clone();
    shard.tasks().spawn("connection sweep", TaskClass::Network, async move {
        loop {
            let pause = std::pin::pin!(own.env().clock().sleep(SWEEP_INTERVAL));
            let draining = std::pin::pin!(own.reached(Stage::Draining));
            if let Either::Left(_) = select(draining, pause).await {
                break;
            }
            sweep(&own);
        }
        let patience = std::pin::pin!(own.env().clock().sleep(DRAIN_SEND_MAX));
        let closed = std::pin::pin!(own.connections().closed());
        if let Either::Left(_) = select(closed, patience).await {
            return;
        }
        loop {
            shut_down_sending(&own);
            let pause = std::pin::pin!(own.env().clock().sleep(SWEEP_INTERVAL));
            let closed = std::pin::pin!(own.connections().closed());
            if let Either::Left(_) = select(closed, pause).await {
                return;
            }
        }
    });
}

/// Closes the connections whose answers are still not taken, so that the shard can stop.
fn shut_down_sending<E: Env>(shard: &Shard<E>) {
    for live in shard.connections().all().iter().filter(|live| live.progress.is_sending.get()) {
        let peer = live.socket.peer_address();
        tracing::warn!(%peer, "connection closed: the broker stops and the client does not take its answers");
        live.socket.shutdown();
    }
}

fn sweep<E: Env>(shard: &Shard<E>) {
    let now = shard.env().clock().now();
    let idle_max = shard.broker().config.net.idle_max;
    let is_contended = shard.request_budget().is_contended();
    for live in shard.connections().all() {
        let Live { socket, progress, is_serving, .. } = &*live;
        let peer = socket.peer_address();
        let received_since = now.saturating_since(progress.received_at.get());
        if progress.is_sending.get() {
            if now.saturating_since(progress.sent_at.get()) > SEND_STALL_MAX {
                tracing::warn!(%peer, "connection closed: the client does not take its answers");
                socket.shutdown();
            }
        } else if progress.is_in_body.get() {
            if received_since > BODY_STALL_MAX {
                tracing::warn!(%peer, "connection closed: a request has stalled");
                socket.shutdown();
            } else if is_contended && progress.is_body_late(now) {
                tracing::warn!(%peer, "connection closed: a request comes too slowly, and others wait for its memory");
                socket.shutdown();
            }
        } else if !is_serving.get() && idle_max.is_some_and(|idle_max| received_since > idle_max) {
            tracing::debug!(%peer, "connection closed: idle");
            socket.shutdown();
        }
    }
}

/// Closes the connection that takes an answer with records slowest, if there is one that takes it too slowly.
pub fn close_slowest<E: Env>(shard: &Shard<E>) {
    let now = shard.env().clock().now();
    let live = shard.connections().all();
    let late = live.iter().filter_map(|live| Some((live.progress.sending_late(now)?, live)));
    if let Some((_, live)) = late.max_by_key(|(late, _)| *late) {
        let peer = live.socket.peer_address();
        tracing::warn!(%peer, "connection closed: it takes its answer too slowly, and others wait for the memory");
        live.socket.shutdown();
    }
}

/// How often connections are looked after.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// How long a client may take nothing of an answer. Until then the answer's records stay pinned.
const SEND_STALL_MAX: Duration = Duration::from_mins(1);
/// How long answers may take to be taken once the broker stops.
const DRAIN_SEND_MAX: Duration = Duration::from_secs(5);
/// How long a request may stop arriving in its middle.
const BODY_STALL_MAX: Duration = Duration::from_secs(30);
