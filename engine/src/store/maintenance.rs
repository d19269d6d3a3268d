//! What is done for every log from time to time: old segments go, old producers are forgotten, states are saved, files
//! that nobody uses are closed.

use std::rc::Rc;
use std::time::Duration;

use millrace_runtime::{Clock, Env, Tasks};

use super::{Inner, SharedLog, deleting, extents, finish, open, producers, space};
use crate::log::Log;
use crate::model::Offset;

/// Recovery is to read at most this many bytes of the shard's logs.
const UNSAVED_BYTES_MAX: usize = 512 * 1024 * 1024;
/// A log with less that is not saved is left as it is.
const UNSAVED_BYTES_MIN: usize = 1024 * 1024;

/// Looks after the logs until the store closes.
pub(super) async fn run<E: Env>(inner: Rc<Inner<E>>) {
    let mut waited = Duration::ZERO;
    space::look(&inner).await;
    while !inner.closing.get() {
        inner.env.clock().sleep(TICK.min(inner.config.retention_interval)).await;
        waited += TICK;
        inner.heed_failed_flushes();
        space::look(&inner).await;
        save_states(&inner);
        producers::fit_budget(&inner);
        if waited >= inner.config.retention_interval {
            waited = Duration::ZERO;
            look_after_logs(&inner).await;
        }
    }
}

const TICK: Duration = Duration::from_secs(1);

/// Saves the states of those logs of which recovery would have to read most, until it is not too much in all.
fn save_states<E: Env>(inner: &Rc<Inner<E>>) {
    let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
    let unsaved = |log: &SharedLog<E>| {
        let log = log.borrow();
        if log.recorded.is_some() || log.finishing { 0 } else { log.unsaved_bytes() }
    };
    let mut largest: Vec<_> = logs.into_iter().map(|log| (unsaved(&log), log)).collect();
    let mut total: usize = largest.iter().map(|(bytes, _)| bytes).sum();
    if total <= UNSAVED_BYTES_MAX {
        return;
    }
    largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    for (bytes, log) in largest {
        if total <= UNSAVED_BYTES_MAX / 2 || bytes < UNSAVED_BYTES_MIN {
            return;
        }
        total -= bytes;
        finish::start(inner, &log);
    }
}

async fn look_after_logs<E: Env>(inner: &Rc<Inner<E>>) {
    let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
    for log in logs {
        if inner.closing.get() {
            return;
        }
        let config = log.borrow().config.clone();
        let bounded = config.retention_bytes.is_some() || config.retention_age_max.is_some();
        let ages = config.cleanup_policy.deletes() && bounded;
        // A log that is offline is left alone; whoever uses it learns why.
        if ages && open::ensure(inner, &log).await.is_ok() {
            retain(inner, &log).await;
        }
        if log.borrow().recorded.is_none() {
            let expired_ms = inner.env.clock().unix_ms() - millis(inner.config.producer_age_max);
            log.borrow_mut().producers.expire(expired_ms);
            roll_for_compaction(inner, &log);
            finish::consider(inner, &log);
        }
        inner.env.tasks().yield_now().await;
    }
}

/// Gives up the oldest segments as the log's retention says.
async fn retain<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    // First what an earlier removal has left behind: segments may be missing between it and the next one, and then what
    // its name says of its end is wrong.
    deleting::remove_segments(Rc::clone(inner), Rc::clone(log)).await;
    // Damage is reported to whoever reads it; until then the segment's age is not known.
    if extents::load_heads(inner, log).await.is_err() {
        return;
    }
    let now_ms = inner.env.clock().unix_ms();
    let start = new_start(&log.borrow(), now_ms);
    roll_expired(inner, log, now_ms);
    if start > log.borrow().offsets.start() && deleting::move_start(inner, log, start).await.is_err() {
        return;
    }
    deleting::remove_segments(Rc::clone(inner), Rc::clone(log)).await;
}

/// Where the log is to start: behind the segments that are too old, or that it can do without and still be as large as it
/// is to be.
fn new_start<E: Env>(log: &Log<E>, now_ms: i64) -> Offset {
    let mut start = log.offsets.start();
    // Records count, not the headers of segments.
    let mut bytes = log.record_bytes();
    for sealed in log.sealed.iter().filter(|sealed| sealed.finished) {
        let old = is_expired(log, sealed.timestamp_max, now_ms);
        let large = log.config.retention_bytes.is_some_and(|kept| bytes - sealed.record_bytes() >= kept);
        if !old && !large {
            break;
        }
        bytes -= sealed.record_bytes();
        start = start.max(sealed.end_offset);
    }
    start
}

fn is_expired<E: Env>(log: &Log<E>, timestamp_max: Option<i64>, now_ms: i64) -> bool {
    let age_max_ms = log.config.retention_age_max.map(millis);
    age_max_ms.zip(timestamp_max).is_some_and(|(age_max_ms, newest)| now_ms.saturating_sub(newest) > age_max_ms)
}

/// When even the active segment holds only old records, the log goes on in a new one, so that the next pass can take it.
fn roll_expired<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, now_ms: i64) {
    let expired = is_expired(&log.borrow(), log.borrow().index.timestamp_max(), now_ms);
    if expired {
        roll(inner, log);
    }
}

/// A compacted log whose active segment is older than compaction may wait goes on in a new one, even if nobody appends.
fn roll_for_compaction<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    let overdue = {
        let log = log.borrow();
        let age_ms = log.first_timestamp.map_or(0, |first| inner.env.clock().unix_ms().saturating_sub(first));
        log.config.cleanup_policy.compacts() && age_ms > millis(log.config.compaction_lag_max)
    };
    if overdue {
        roll(inner, log);
    }
}

fn roll<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    let mut borrowed = log.borrow_mut();
    if borrowed.active_base() == borrowed.offsets.written().offset {
        return;
    }
    borrowed.roll_wanted = true;
    if borrowed.unstored_bytes() == 0 {
        borrowed.roll();
    }
    drop(borrowed);
    inner.enqueue(log);
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
