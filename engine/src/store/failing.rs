//! What becomes of logs whose writes failed: they go offline, are dropped in memory and opened again from the device.
//!
//! A failed write to a segment concerns one log. A failed write to the journal or a failed flush concerns the shard: after
//! it nobody knows which of the writes since the last flush are on the device, so all its logs are dropped and the shard
//! is recovered as at a start: the journal is read, its pieces are written to their segments once more, and a new
//! generation begins. A flush is never tried again by itself.
//!
//! Where a flush reaches the whole device, a failed one of any task and any shard of the directory does the same (see
//! [`crate::flushes`]). A round hears of it before it is acknowledged, an idle shard within a second.

use std::rc::Rc;
use std::time::Duration;

use millrace_runtime::{Clock, Env};

use super::{Inner, SharedLog, open};
use crate::log::Failure;
use crate::log::recorded::Recorded;
use crate::recovery;

/// The shard's recovery is tried again after this long; doubled each time, up to [`RETRY_AFTER_MAX`].
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

impl<E: Env> Inner<E> {
    /// Takes one log offline and says so. It is opened again when it is next used.
    pub(super) fn fail_log(&self, log: &SharedLog<E>, failure: &Failure) {
        if log.borrow().recorded.is_none() {
            tracing::error!(partition = %log.borrow().id, shard = self.config.shard_index, %failure, "log taken offline");
        }
        self.forget(log, failure);
    }

    /// Drops what is in memory of a log.
    pub(super) fn forget(&self, log: &SharedLog<E>, failure: &Failure) {
        let mut log = log.borrow_mut();
        if log.recorded.is_none() {
            self.unstored_bytes.set(self.unstored_bytes.get() - log.unstored_bytes());
            self.tail_bytes.set(self.tail_bytes.get() - log.tail.memory_bytes());
        }
        for key in log.cache_keys() {
            self.read_cache.invalidate(key);
        }
        log.discard(failure);
        self.round_ended.notify();
    }

    /// Takes the whole shard offline; the rounds' task recovers it.
    pub(super) fn fail_all(&self, failure: &Failure) {
        tracing::error!(shard = self.config.shard_index, %failure, "every log of this shard taken offline");
        *self.failure.borrow_mut() = Some(failure.clone());
        let logs: Vec<_> = self.logs.borrow().values().cloned().collect();
        for log in logs {
            self.fail_log(&log, failure);
        }
        self.round_ended.notify();
        self.queue_changed.notify();
    }
}

impl<E: Env> Inner<E> {
    /// Takes the whole shard offline if a flush of the device has failed, its own or another shard's: what was written and
    /// not flushed may be gone, whatever flushes say from now on.
    pub(super) fn heed_failed_flushes(&self) {
        if self.failure.borrow().is_none() && self.flushes.borrow().is_stale() {
            self.fail_all(&Failure::Io { operation: "flushing the device", reason: "a flush of it has failed".into() });
        }
    }
}

/// Recovers the shard from its device, however often that takes.
pub(super) async fn rebuild_shard<E: Env>(inner: &Rc<Inner<E>>) {
    let mut retry_after = RETRY_AFTER_MIN;
    while !inner.stopped.get() && !inner.closing.get() {
        quiesce(inner).await;
        // What failed up to here concerns what is read again now, and written once more.
        inner.flushes.borrow_mut().start_over();
        let ids: Vec<_> = inner.logs.borrow().keys().copied().collect();
        let recovered = recovery::recover_shard(&inner.env, &inner.config, |id| ids.contains(&id)).await;
        match recovered {
            Ok(recovered) => return restart(inner, recovered),
            Err(error) => {
                tracing::error!(shard = inner.config.shard_index, %error, "the shard stays offline; trying again");
                inner.env.clock().sleep(retry_after).await;
                retry_after = (2 * retry_after).min(RETRY_AFTER_MAX);
            }
        }
    }
    // Closing: what is on the device is recovered at the next start. The checkpoint that says so is new.
    inner.flushes.borrow_mut().start_over();
    inner.stopped.set(true);
    inner.round_ended.notify();
}

/// Waits until no task works on any log's files.
async fn quiesce<E: Env>(inner: &Inner<E>) {
    loop {
        let (prepared, rounds) = (inner.prepared.version(), inner.round_ended.version());
        if inner.checkpoint_running.get() {
            inner.round_ended.changed(rounds).await;
        } else if inner.logs.borrow().values().any(|log| log.borrow().is_worked_on()) {
            inner.prepared.changed(prepared).await;
        } else {
            return;
        }
    }
}

fn restart<E: Env>(inner: &Rc<Inner<E>>, recovered: recovery::RecoveredShard<E>) {
    *inner.journal.borrow_mut() = recovered.journal;
    inner.unflushed.borrow_mut().clear();
    inner.unflushed_files.borrow_mut().clear();
    inner.unrecorded.borrow_mut().clear();
    inner.moved_starts.borrow_mut().clear();
    let mut found: std::collections::BTreeMap<_, _> = recovered.logs.into_iter().collect();
    for (id, log) in &*inner.logs.borrow() {
        let mut log = log.borrow_mut();
        log.recorded = Some(found.remove(id).unwrap_or_else(Recorded::nothing));
        log.failure = log.failure.take().filter(|failure| matches!(failure, Failure::Corrupt(_) | Failure::Deleted));
        (log.durable_end_unrecorded, log.unflushed, log.start_unrecorded) = (false, false, false);
        log.pinned_sequence = None;
    }
    *inner.failure.borrow_mut() = None;
    tracing::info!(shard = inner.config.shard_index, "the shard is online again");
    inner.round_ended.notify();
    inner.prepared.notify();
    let background = open::run_background(Rc::clone(inner));
    millrace_runtime::Tasks::spawn(inner.env.tasks(), millrace_runtime::TaskClass::Background, background);
}
