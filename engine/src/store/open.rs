//! Starting a shard; opening logs when they are first used, and in the background after a stop that was not in order.

use std::cell::RefCell;
use std::rc::Rc;

use futures_util::StreamExt;
use millrace_runtime::{Clock, Disk, Env, FlushScope, TaskClass, Tasks};

use super::{Inner, SharedLog, StoreConfig, prepare, space, truncating};
use crate::flushes::{ShardFlushes, SharedDevice};
use crate::log::recorded::Recorded;
use crate::log::{Failure, OpenedLog};
use crate::model::{Offset, PartitionId};
use crate::recovery::{self, LogOutcome, OpenError, OpenLogError, RecoveredShard};

/// Logs that the background opens at the same time.
const OPENING_MAX: usize = 16;
/// The background says how far it is each time it has opened this many logs.
const PROGRESS_STEP: usize = 1000;

/// A store whose shard is recovered.
pub(super) struct Started<E: Env> {
    /// The shard, with a disk whose flushes succeed only if they count.
    pub(super) env: SharedDevice<E>,
    pub(super) flushes: Rc<RefCell<ShardFlushes>>,
    pub(super) flush_scope: FlushScope,
    pub(super) recovered: RecoveredShard<SharedDevice<E>>,
}

/// Joins the flushes of the directory and recovers the shard.
pub(super) async fn start<E: Env>(
    env: E,
    config: &StoreConfig,
    owned: impl Fn(PartitionId) -> bool,
) -> Result<Started<E>, OpenError> {
    let shard_count = usize::from(config.shard_count);
    assert_eq!(config.flushes.shard_count(), shard_count, "the directory's shards share one `Flushes`");
    let flush_scope = recovery::find_flush_scope(&env, &config.directory).await?;
    let flushes = Rc::new(RefCell::new(config.flushes.shard(config.shard_index)));
    let env = SharedDevice::new(env, Rc::clone(&flushes), flush_scope);
    let recovered = match recovery::recover_shard(&env, config, &owned).await {
        // What recovery writes is small: the reserve is there for that.
        Err(error) if error.is_full() => {
            let reserve = space::reserve_path(config);
            env.disk().remove_file(&reserve).await.map_err(|_| error)?;
            flushes.borrow_mut().start_over();
            recovery::recover_shard(&env, config, &owned).await?
        }
        other => other?,
    };
    Ok(Started { env, flushes, flush_scope, recovered })
}

/// Waits until the log is open, and nobody is about to cut it.
pub(super) async fn ensure<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> Result<(), Failure> {
    loop {
        let version = inner.prepared.version();
        if log.borrow().cutting {
            inner.prepared.changed(version).await;
            continue;
        }
        ensure_open(inner, log).await?;
        if !log.borrow().cutting {
            return Ok(());
        }
    }
}

/// Waits until the log is open.
pub(super) async fn ensure_open<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> Result<(), Failure> {
    let mut tried = false;
    loop {
        let version = inner.prepared.version();
        {
            let mut borrowed = log.borrow_mut();
            if let Some(failure) = &*inner.failure.borrow() {
                return Err(failure.clone());
            }
            match &borrowed.failure {
                None if borrowed.recorded.is_none() => return Ok(()),
                Some(failure @ (Failure::Corrupt(_) | Failure::Deleted)) => return Err(failure.clone()),
                Some(failure) if tried && !borrowed.preparing => return Err(failure.clone()),
                _ => {}
            }
            if !borrowed.preparing {
                borrowed.preparing = true;
                tried = true;
                inner.env.tasks().spawn(TaskClass::Network, run(Rc::clone(inner), Rc::clone(log)));
            }
        }
        inner.prepared.changed(version).await;
    }
}

async fn run<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>) {
    quiesce(&inner, &log).await;
    let (id, life, recorded) = {
        let borrowed = log.borrow();
        (borrowed.id, borrowed.life, borrowed.recorded.clone())
    };
    if let Some(recorded) = recorded {
        let opened = if recorded.cut_pending {
            truncating::open_cut(&inner, &log, id, life, &recorded).await
        } else {
            prepare::acquire(&inner, &log).await;
            let opened = open_log(&inner, id, life, &recorded).await;
            prepare::release(&inner);
            opened
        };
        let mut borrowed = log.borrow_mut();
        match opened {
            Ok((opened, outcome)) => {
                inner.report.borrow_mut().take(id, outcome, inner.config.shard_index);
                let recovered = borrowed.failure.is_some();
                borrowed.open(opened);
                // Its end is final now, and further on than anything on the device says.
                if !recorded.clean && borrowed.active.is_some() {
                    borrowed.durable_end_unrecorded = true;
                    inner.unrecorded.borrow_mut().push(Rc::clone(&log));
                }
                // The log may have failed before its start was durable.
                if life > 0 && borrowed.start_offset() > Offset::ZERO {
                    borrowed.start_unrecorded = true;
                    inner.moved_starts.borrow_mut().push(Rc::clone(&log));
                }
                if recovered {
                    tracing::info!(partition = %id, shard = inner.config.shard_index, "log recovered and online again");
                }
            }
            Err(error) => {
                let failure = match error {
                    OpenLogError::Io(error) => Failure::Io { operation: "opening a log", reason: error.to_string() },
                    OpenLogError::Corrupt(corruption) => Failure::Corrupt(corruption),
                };
                tracing::error!(partition = %id, shard = inner.config.shard_index, %failure, "log is offline");
                inner.report.borrow_mut().damage.push((id, failure.clone()));
                borrowed.discard(&failure);
            }
        }
    }
    log.borrow_mut().preparing = false;
    inner.enqueue(&log);
    inner.prepared.notify();
}

pub(super) async fn open_log<E: Env>(
    inner: &Inner<E>,
    id: PartitionId,
    life: u64,
    recorded: &Recorded,
) -> Result<(OpenedLog<E>, LogOutcome), OpenLogError> {
    if life > 0 {
        // What failed may have been the making of the log: its directory is there, but not for sure on the device. A start
        // has seen to that for all logs.
        inner.env.disk().sync_dir(&inner.logs_directory).await?;
    }
    recovery::open_log(&inner.env, &inner.logs_directory, id, recorded, inner.config.producer_count_max).await
}

/// Waits until nothing of an earlier life of the log is under way: its writes must not meet those of its recovery.
pub(super) async fn quiesce<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    if inner.round_running.get() && log.borrow().life > 0 {
        let version = inner.round_ended.version();
        inner.round_ended.changed(version).await;
    }
    loop {
        let version = inner.prepared.version();
        if !log.borrow().finishing && !log.borrow().compacting {
            return;
        }
        inner.prepared.changed(version).await;
    }
}

/// Opens every log that may not end where it is recorded to.
pub(super) async fn run_background<E: Env>(inner: Rc<Inner<E>>) {
    let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
    // Logs that were created meanwhile are nothing that was recovered.
    let total = inner.report.borrow().log_count;
    let started = inner.env.clock().now();
    let mut openings = futures_util::stream::iter(logs)
        .map(|log| {
            let inner = Rc::clone(&inner);
            async move {
                let dirty = log.borrow().recorded.as_ref().is_some_and(|recorded| !recorded.clean);
                if dirty && !inner.closing.get() {
                    // The task that opens it says what is wrong with it.
                    let _ = ensure(&inner, &log).await;
                }
            }
        })
        .buffer_unordered(OPENING_MAX);
    let mut count = 0;
    while openings.next().await.is_some() {
        count += 1;
        inner.recovered_count.set(count);
        if count % PROGRESS_STEP == 0 && count < total {
            tracing::info!(shard = inner.config.shard_index, "recovery: {count} of {total} logs are open");
        }
        inner.env.tasks().yield_now().await;
    }
    let elapsed_ms = inner.env.clock().now().saturating_since(started).as_millis();
    if !inner.report.borrow().clean && total > 0 {
        tracing::info!(shard = inner.config.shard_index, "recovery: all {total} logs are open after {elapsed_ms} ms");
    }
    // The next round notes where the logs end, so that damage below is found to be damage at the next start.
    if !inner.unrecorded.borrow().is_empty() {
        inner.flush_due.set(true);
        inner.queue_changed.notify();
    }
    inner.recovering.set(false);
    inner.prepared.notify();
}
