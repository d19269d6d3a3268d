//! Writing back, writing checkpoints and letting go of the journal.

use std::rc::Rc;
use std::time::Duration;

use millrace_runtime::{Clock, Env, TaskClass, Tasks};

use super::{Inner, SharedLog, deleting, space};
use crate::checkpoint;
use crate::format::checkpoint::{Checkpoint, CheckpointEntry};
use crate::log::Failure;
use crate::recovery;

/// After a checkpoint could not be written, the next try waits this long.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Starts a checkpoint if half of the ring is live and none is under way.
pub(super) fn consider<E: Env>(inner: &Rc<Inner<E>>) {
    let due = {
        let mut journal = inner.journal.borrow_mut();
        let ring = journal.ring();
        ring.live_bytes() > ring.capacity_bytes() / 2
    };
    if due && inner.failure.borrow().is_none() && !inner.closing.get() && !inner.checkpoint_running.replace(true) {
        inner.env.tasks().spawn(TaskClass::Flush, run(Rc::clone(inner)));
    }
}

async fn run<E: Env>(inner: Rc<Inner<E>>) {
    let through = inner.journal.borrow_mut().ring().last_sequence();
    write_back(&inner, |log| log.borrow().pinned_sequence.is_some_and(|sequence| sequence <= through)).await;
    // What an offline log left in the journal is needed when it is recovered.
    let pinned = inner.logs.borrow().values().filter_map(|log| log.borrow().pinned_sequence).min();
    let tail = pinned.map_or(through + 1, |pinned| pinned.min(through + 1));
    match write(&inner, Clean::No, tail).await {
        Ok(()) => inner.journal.borrow_mut().ring().release(tail - 1),
        Err(failure) => {
            tracing::warn!(shard = inner.config.shard_index, %failure, "checkpoint not written; the journal stays full");
            inner.heed_failed_flushes();
            // The shard's recovery waits for this, and makes a checkpoint of its own.
            if inner.failure.borrow().is_none() {
                inner.env.clock().sleep(RETRY_AFTER).await;
            }
        }
    }
    inner.checkpoint_running.set(false);
    inner.round_ended.notify();
}

/// Has every log that `wanted` selects written to its segment, and waits until that is done. Offline logs are left out.
async fn write_back<E: Env>(inner: &Inner<E>, wanted: impl Fn(&SharedLog<E>) -> bool) {
    loop {
        let version = inner.round_ended.version();
        let prepared = inner.prepared.version();
        let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
        let pending: Vec<_> = logs.into_iter().filter(|log| log.borrow().recorded.is_none() && wanted(log)).collect();
        if pending.is_empty() {
            return;
        }
        for log in &pending {
            log.borrow_mut().write_back_wanted = true;
            inner.enqueue(log);
        }
        if inner.prepared.version() == prepared {
            inner.round_ended.changed(version).await;
        }
    }
}

/// Waits until a checkpoint is durable that was begun after this call. Those who wait at the same time share one. Only for
/// tasks: it is not to be given up half way.
pub(super) async fn write_now<E: Env>(inner: &Inner<E>) -> Result<(), Failure> {
    let wanted = inner.checkpoints_begun.get() + 1;
    loop {
        let version = inner.round_ended.version();
        if inner.checkpoint_written.get() >= wanted {
            return Ok(());
        }
        if inner.stopped.get() {
            return Err(Failure::Io { operation: "writing a checkpoint", reason: "the store is closed".into() });
        }
        if !inner.checkpoint_running.replace(true) {
            let tail = inner.journal.borrow_mut().ring().tail_sequence();
            let written = write(inner, Clean::No, tail).await;
            inner.checkpoint_running.set(false);
            inner.round_ended.notify();
            return written;
        }
        inner.round_ended.changed(version).await;
    }
}

/// Brings everything into segments, stops the rounds and leaves a clean checkpoint.
pub(super) async fn write_clean<E: Env>(inner: &Rc<Inner<E>>) -> Result<(), Failure> {
    loop {
        write_back(inner, |log| log.borrow().in_segment != log.borrow().offsets.written()).await;
        // A checkpoint under way, and tasks that fill segments, end first: both still write.
        let (rounds, prepared) = (inner.round_ended.version(), inner.prepared.version());
        let recovering = inner.failure.borrow().is_some() && !inner.stopped.get();
        if inner.checkpoint_running.get() || recovering {
            inner.round_ended.changed(rounds).await;
        } else if inner.logs.borrow().values().any(|log| log.borrow().is_worked_on()) || inner.deleting.get() > 0 {
            inner.prepared.changed(prepared).await;
        } else {
            break;
        }
    }
    inner.stopped.set(true);
    inner.queue_changed.notify();
    // What the journal holds of a log that is offline is needed when it is recovered.
    let in_journal = |log: &SharedLog<E>| log.borrow().pinned_sequence.is_some();
    let offline = inner.failure.borrow().is_some() || inner.logs.borrow().values().any(in_journal);
    let tail = inner.journal.borrow_mut().ring().tail_sequence();
    write(inner, if offline { Clean::No } else { Clean::Yes }, tail).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Clean {
    Yes,
    No,
}

/// Writes a checkpoint behind which the journal's rounds below `tail` are needed no more, and removes what is left of
/// deleted logs that nothing names any more.
async fn write<E: Env>(inner: &Inner<E>, clean: Clean, tail: u64) -> Result<(), Failure> {
    let generation = inner.journal.borrow().generation();
    let number = inner.checkpoints_begun.get() + 1;
    inner.checkpoints_begun.set(number);
    // The checkpoint may name a log that is deleted from now on.
    let remains = inner.remains.take();
    let checkpoint = Checkpoint {
        // A clean checkpoint leaves the journal's rounds behind: everything is in segments.
        journal_generation: if clean == Clean::Yes { generation + 1 } else { generation },
        journal_tail: if clean == Clean::Yes { 0 } else { tail },
        shard_count: inner.config.shard_count,
        clean: clean == Clean::Yes,
        entries: inner.logs.borrow().values().filter_map(entry).collect(),
    };
    let write = || checkpoint::write(&inner.env, &inner.config.directory, inner.config.shard_index, &checkpoint);
    let mut written = write().await;
    let full = written.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull);
    if full && space::take_reserve(inner).await {
        written = write().await;
    }
    if written.is_ok() {
        inner.checkpoint_written.set(inner.checkpoint_written.get().max(number));
    }
    // Of a journal that a clean checkpoint leaves behind no round counts.
    let named_from = match &written {
        Ok(()) if clean == Clean::Yes => u64::MAX,
        Ok(()) => tail,
        Err(_) => 0,
    };
    deleting::remove_remains(inner, remains, named_from).await;
    written.map_err(|error| Failure::Io { operation: "writing a checkpoint", reason: error.to_string() })
}

fn entry<E: Env>(log: &SharedLog<E>) -> Option<CheckpointEntry> {
    let log = log.borrow();
    if let Some(recorded) = &log.recorded {
        return recovery::checkpoint_entry(log.id, recorded);
    }
    log.active.as_ref()?;
    let (segment_base, position) = log.locate_durable(log.in_segment.position);
    Some(CheckpointEntry {
        partition: log.id,
        leader_epoch: log.leader_epoch,
        // The round that notes it may be one that this checkpoint lets go of.
        start_offset: log.start_wanted,
        segment_base,
        position,
        end_offset: log.in_segment.offset,
        settled: log.in_segment == log.offsets.written(),
        cut_pending: false,
        incarnation: log.incarnation,
        compacted_end: log.clean_end,
    })
}
