//! Cutting the end of a log off, as followers do whose records the leader does not have (KIP-101).
//!
//! Truncating is rare and may take a while; it is done in the plainest way that no crash can leave half done.
//!
//! 1. Nobody else may use the log from here on: appends and reads wait. What was appended is written to its segments, so
//!    that neither memory nor the journal is ahead of them, and the batch is looked for in which the cut falls.
//! 2. The log is dropped from memory. All that is kept is where it ends now, that its files are still to be cut there, and
//!    that this is its next incarnation.
//! 3. A checkpoint with that is written. It is the moment of the cut: a crash before it leaves the whole log, one after it
//!    the cut one. What the journal's live rounds say of older incarnations is void from then on, so neither their pieces
//!    nor their durable ends come back.
//! 4. The log is opened as after a crash: recovery cuts its files (see [`crate::recovery`]) and reads it again, with indexes
//!    and producers.
//! 5. Another checkpoint says that this is done, for the next start would cut off what is appended from now on. Then the log
//!    can be used again, and the caller is answered.
//!
//! When one of these steps fails, the log is offline and its next use goes on with step 3.

use std::io;
use std::rc::Rc;

use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchView};
use millrace_runtime::local::oneshot;
use millrace_runtime::{BLOCK_BYTES, Env, TaskClass, Tasks};

use super::chunks::{self, GatherError};
use super::extents::{self, Extent, Gathered};
use super::read::{Window, batch_bytes};
use super::{Inner, ReadError, SharedLog, Store, checkpointing, finish, open};
use crate::format::segment_header::RECORDS_START;
use crate::log::index::INDEX_INTERVAL_BYTES;
use crate::log::offsets::Mark;
use crate::log::recorded::Recorded;
use crate::log::{Failure, OpenedLog};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::recovery::{LogOutcome, OpenLogError};

/// Bytes that are looked at at once.
const WINDOW_BYTES: usize = 16 * INDEX_INTERVAL_BYTES;

impl<E: Env> Store<E> {
    /// Cuts a log off at `to`, and answers with its end once that is durable: what was cut never comes back, and the next
    /// append gets the end as its offset. Does nothing when the log ends at `to` or before.
    ///
    /// Batches go as a whole: where `to` lies inside one, the log ends with that batch's first offset. A log of which
    /// nothing is left starts where it ends. Below all that its segments hold, as Kafka's `truncateFullyAndStartAt`, it
    /// starts and ends exactly at `to`.
    ///
    /// Appends and reads wait meanwhile. Who waited for an append is told once it is durable, even if it is cut off next;
    /// readers that watch the log are woken. After an error the log may or may not be cut.
    pub async fn truncate(&self, id: PartitionId, to: Offset) -> Result<Offset, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        let (sender, receiver) = oneshot();
        let inner = Rc::clone(&self.inner);
        // A task of its own: the caller may go away, and the log must not stay locked.
        self.inner.env.tasks().spawn(TaskClass::Network, async move { sender.send(run(&inner, &log, to).await) });
        receiver.await.unwrap_or_else(|| Err(closed()))
    }
}

fn closed() -> ReadError {
    ReadError::Offline(Failure::Io { operation: "truncating a log", reason: "the store is closed".into() })
}

async fn run<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, to: Offset) -> Result<Offset, ReadError> {
    loop {
        let version = inner.prepared.version();
        if !std::mem::replace(&mut log.borrow_mut().cutting, true) {
            break;
        }
        inner.prepared.changed(version).await;
    }
    let result = truncate(inner, log, to).await;
    log.borrow_mut().cutting = false;
    inner.prepared.notify();
    result
}

/// Until the log ends at `to` or before, whatever becomes of it in between.
async fn truncate<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, to: Offset) -> Result<Offset, ReadError> {
    loop {
        open::ensure_open(inner, log).await.map_err(ReadError::Offline)?;
        let (life, end) = (log.borrow().life, log.borrow().offsets.written().offset);
        if end <= to {
            return Ok(end);
        }
        let settled = finish::wait_until(inner, log, life, |log| log.is_settled() && !log.compacting).await;
        if inner.stopped.get() {
            return Err(closed());
        }
        if !settled {
            continue;
        }
        match find(inner, log, to).await {
            Ok(cut) => begin(inner, log, life, &cut)?,
            Err(GatherError::Changed) => {}
            Err(GatherError::Failed(error)) => return Err(error),
        }
    }
}

/// Where a log is to end.
struct Cut {
    segment_base: Offset,
    /// In the segment's file.
    end: Mark,
    /// The segment, unless it is to be made.
    extent: Option<Extent>,
}

/// Finds the first batch that holds `to` or a later offset.
async fn find<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, to: Offset) -> Result<Cut, GatherError> {
    let segment_base = extents::base_of(&log.borrow(), to);
    if to < segment_base {
        return Ok(Cut { segment_base: to, end: Mark { offset: to, position: RECORDS_START }, extent: None });
    }
    let found = extents::find(inner, log, segment_base, |index| index.find(to)).await?;
    let Some((extent, position)) = found else { return Err(GatherError::Changed) };
    let cut = |offset, position| Cut { segment_base, end: Mark { offset, position }, extent: Some(extent) };
    // Compaction may have left no batch in the segment, or none from `to` on.
    let mut position = position.unwrap_or(extent.end);
    let mut window_bytes = WINDOW_BYTES;
    while position < extent.end {
        let Gathered { slices, .. } = extents::gather(inner, log, extent, position, window_bytes).await?;
        let window = Window { start: position, slices, end_max: extent.end };
        let damaged = |what| extents::damaged(inner, log, extent, position, what);
        let header = window.header(position).ok_or_else(|| damaged("a batch's header is cut off"))?;
        let end = position.plus(batch_bytes(&header));
        if batch_bytes(&header) < BATCH_BYTES_MIN || end > extent.end {
            return Err(damaged("a batch's length leaves the log").into());
        }
        if end > window.end() {
            window_bytes = end.bytes_since(position) + BLOCK_BYTES;
            continue;
        }
        // A cut destroys: the place of this one comes from bytes that hold.
        if BatchView::parse(&window.copy(position, end)).is_err() || header.base_offset.get() < segment_base.get() {
            return Err(damaged("a batch's checksum or header does not hold").into());
        }
        if header.last_offset() >= to.get() {
            return Ok(cut(to.min(Offset::new(header.base_offset.get())), position));
        }
        position = end;
    }
    Ok(cut(to, extent.end))
}

/// Drops the log from memory: it ends with `cut` as soon as it is open again. Does nothing when it has changed since the
/// cut was found.
fn begin<E: Env>(inner: &Inner<E>, log: &SharedLog<E>, life: u64, cut: &Cut) -> Result<(), ReadError> {
    let is_same = cut.extent.is_none_or(|extent| chunks::is_current(log, extent));
    let recorded = {
        let log = log.borrow();
        let is_idle = log.is_settled() && !log.compacting && !inner.stopped.get();
        if !is_same || !is_idle || log.life != life || log.recorded.is_some() {
            return Ok(());
        }
        let exhausted = || Failure::Io { operation: "truncating a log", reason: "it was cut too often".into() };
        Recorded {
            start_offset: log.offsets.start().min(cut.end.offset),
            leader_epoch: LeaderEpoch::new(-1),
            segment_base: Some(cut.segment_base),
            end: cut.end,
            clean: false,
            compacted_end: log.clean_end.min(cut.end.offset),
            cut_pending: true,
            incarnation: log.incarnation.next().ok_or_else(|| ReadError::Offline(exhausted()))?,
            pieces: Vec::new(),
        }
    };
    let (partition, shard, from) = (log.borrow().id, inner.config.shard_index, log.borrow().offsets.written().offset);
    tracing::info!(%partition, shard, %from, to = %cut.end.offset, "log truncated");
    inner.forget(log, &Failure::Io { operation: "truncating a log", reason: "it was not opened again".into() });
    let mut log = log.borrow_mut();
    // Nothing failed: it is not open, and its next use opens it. What its producers lost does not come back.
    (log.failure, log.lost_producers) = (None, None);
    log.recorded = Some(recorded);
    Ok(())
}

/// Opens a log whose files are still to be cut.
pub(super) async fn open_cut<E: Env>(
    inner: &Inner<E>,
    log: &SharedLog<E>,
    id: PartitionId,
    life: u64,
    recorded: &Recorded,
) -> Result<(OpenedLog<E>, LogOutcome), OpenLogError> {
    let failed = |failure: Failure| OpenLogError::Io(io::Error::other(failure.to_string()));
    checkpointing::write_now(inner).await.map_err(failed)?;
    let (opened, outcome) = open::open_log(inner, id, life, recorded).await?;
    let done = Recorded {
        start_offset: opened.start_offset,
        leader_epoch: opened.leader_epoch,
        segment_base: opened.active.as_ref().map(|active| active.base_offset),
        end: opened.end,
        cut_pending: false,
        ..recorded.clone()
    };
    log.borrow_mut().recorded = Some(done);
    if let Err(failure) = checkpointing::write_now(inner).await {
        // Cut once more: nothing was appended.
        log.borrow_mut().recorded = Some(recorded.clone());
        return Err(failed(failure));
    }
    Ok((opened, outcome))
}
