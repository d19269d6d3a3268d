//! Tasks that get a log's segments ready: make or open the active one, fill it ahead with zeros, prepare the next one, load
//! the partial last block.
//!
//! They run beside the rounds, at most [`PREPARING_MAX`] at a time, so that thousands of new logs share the disk instead
//! of flooding it. A log is prepared by one task at a time.

use std::io;
use std::rc::Rc;

use millrace_protocol::batch::BatchView;
use millrace_runtime::{BLOCK_BYTES, Buffer, Env, FlushScope, TaskClass, Tasks};

use super::{Inner, SharedLog, idle, open, round, space};
use crate::io::{AppendBuffer, is_out_of_files};
use crate::log::active::{ActiveSegment, HeaderState};
use crate::log::{Failure, Log};
use crate::model::{Offset, Position};
use crate::segment::{FILL_BYTES_MIN, FillPace, Segment};

/// While appends wait for room, they get it, and so much more, before the rest of a step is filled.
const FILL_AWAITED_BYTES: u64 = 4 << 20;

/// Logs that are prepared at the same time,
const PREPARING_MAX: usize = 32;
/// and when their file is open already: the others may wait for that to be closed.
const PREPARING_OPEN_MAX: usize = 2 * PREPARING_MAX;

/// Whether the log's segment has room for all that was appended, and is open if a round is to write to it. If not, or
/// soon not, a task sees to it; it puts the log back into the queue when it is done.
pub(super) fn make_room<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, to_segment: bool) -> bool {
    let mut borrowed = log.borrow_mut();
    let is_ready = borrowed.has_room() && (borrowed.is_file_open() || !to_segment);
    let due = !is_ready || borrowed.next_wanted() || borrowed.fill_target().is_some();
    let wanted = borrowed.unsegmented_bytes() > 0 || borrowed.roll_wanted;
    if due && wanted && !borrowed.preparing && borrowed.recorded.is_none() {
        borrowed.preparing = true;
        let life = borrowed.life;
        drop(borrowed);
        inner.env.tasks().spawn(TaskClass::Flush, run(Rc::clone(inner), Rc::clone(log), life));
    }
    is_ready
}

async fn run<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>, life: u64) {
    acquire(&inner, &log).await;
    let mut result = extend(&inner, &log, life).await;
    if is_full(&result) && space::take_reserve(&inner).await {
        result = extend(&inner, &log, life).await;
    }
    release(&inner);
    log.borrow_mut().preparing = false;
    let unwritten = is_full(&result) || result.as_ref().is_err_and(is_out_of_files);
    if let Err(error) = result {
        let failure = failure("making room in a segment", &error);
        if unwritten {
            // Nothing was written that anyone was promised; what waits in memory is refused.
            inner.fail_log(&log, &failure);
        } else {
            // One of the operations may have been a flush, which on some file systems reaches every file of the device.
            inner.fail_all(&failure);
        }
    }
    // Again: appends may have filled even the new room, or were waiting for it.
    inner.enqueue(&log);
    inner.prepared.notify();
}

fn is_full(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
}

/// Takes part in the preparing, and waits until the log's file may be opened.
pub(super) async fn acquire<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) {
    loop {
        let version = inner.prepared.version();
        let is_open = log.borrow().is_file_open();
        if inner.preparing.get() < if is_open { PREPARING_OPEN_MAX } else { PREPARING_MAX } {
            inner.preparing.set(inner.preparing.get() + 1);
            if !is_open {
                idle::await_file(inner).await;
            }
            return;
        }
        inner.prepared.changed(version).await;
    }
}

/// Gives up what [`acquire`] took.
pub(super) fn release<E: Env>(inner: &Inner<E>) {
    inner.preparing.set(inner.preparing.get() - 1);
}

/// Opens or makes the active segment, fills it a step further if that is due, and prepares the next one if that is. Does
/// nothing once the log's life has ended.
async fn extend<E: Env>(inner: &Inner<E>, log: &SharedLog<E>, life: u64) -> io::Result<()> {
    if !is_alive(log, life) {
        return Ok(());
    }
    let segment = open_active(inner, log).await?;
    let base_offset = segment.base_offset();
    let step = {
        let borrowed = log.borrow();
        // A roll may have come in between.
        let active = borrowed.active.as_ref().filter(|active| active.base_offset == base_offset);
        let filled_end = active.map(|active| active.filled_end);
        filled_end.zip(borrowed.fill_target()).filter(|_| borrowed.life == life)
    };
    if let Some((start, end)) = step {
        let end =
            segment.write_zeros(&inner.env, start, end, |filled_end| fill_pace(&log.borrow(), filled_end)).await?;
        // A flush that fails may take what was written before it along, and a round's flush of the file that ends in the
        // meantime knows nothing of that.
        log.borrow_mut().flushing_beside = inner.flush_scope == FlushScope::File;
        let flushed = segment.sync().await;
        log.borrow_mut().flushing_beside = false;
        // Whatever it says, even that there is no space: a flush that failed is not tried again.
        flushed.map_err(io::Error::other)?;
        round::release_held(inner);
        let with_header = {
            let mut borrowed = log.borrow_mut();
            borrowed.fill_bytes_next = (2 * borrowed.fill_bytes_next).min(inner.space.fill_step_max());
            let active = borrowed.active.as_mut().filter(|active| active.base_offset == base_offset);
            active.is_some_and(|active| {
                active.filled_end = end;
                // Otherwise a round may be writing it.
                active.header == HeaderState::Durable
            })
        };
        if with_header {
            // Only now that it is so. A crash before the next flush leaves what was known before.
            let id = log.borrow().id;
            segment.write_header(&inner.env, id, end, None).await?;
        }
    }
    let (id, wanted) = (log.borrow().id, log.borrow().next_wanted());
    if wanted {
        let next = Segment::prepare_next(&inner.env, &inner.logs_directory, id).await?;
        let mut borrowed = log.borrow_mut();
        if borrowed.life == life {
            borrowed.next = Some((next, Position::new(FILL_BYTES_MIN)));
        }
    }
    Ok(())
}

/// How to go on filling a log's segment; not at all while appends wait that there is room for by now.
fn fill_pace<E: Env>(log: &Log<E>, filled_end: Position) -> Option<FillPace> {
    if log.has_room() {
        return Some(FillPace::Beside);
    }
    let is_enough = filled_end.get() >= log.needed_end().get() + FILL_AWAITED_BYTES;
    (!is_enough).then_some(FillPace::Awaited)
}

fn is_alive<E: Env>(log: &SharedLog<E>, life: u64) -> bool {
    log.borrow().life == life && log.borrow().recorded.is_none()
}

/// The log's active segment, opened or made if need be.
///
/// # Panics
/// When the log is not open: one that has segments would get a new first one.
pub(super) async fn open_active<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> io::Result<Segment<E>> {
    let (id, life, base, open, start) = {
        let mut borrowed = log.borrow_mut();
        assert!(borrowed.recorded.is_none(), "only the segments of an open log are known");
        let (id, life, origin) = (borrowed.id, borrowed.life, borrowed.origin());
        let found = borrowed.active.as_mut().map(|active| {
            active.file_used = true;
            (active.base_offset, active.file.clone())
        });
        let (base, open) = found.map_or((None, None), |(base, open)| (Some(base), open));
        (id, life, base, open, origin)
    };
    if let Some(segment) = open {
        return Ok(segment);
    }
    let segment = match base {
        None => Segment::create(&inner.env, &inner.logs_directory, id, Offset::ZERO).await?,
        Some(base) => Segment::open(&inner.env, &inner.logs_directory, id, base).await?,
    };
    let mut borrowed = log.borrow_mut();
    if borrowed.life != life || borrowed.recorded.is_some() {
        return Ok(segment);
    }
    let active = borrowed.active.get_or_insert_with(|| ActiveSegment {
        base_offset: Offset::ZERO,
        origin: start,
        file: None,
        file_used: false,
        filled_end: Position::new(FILL_BYTES_MIN),
        unnamed: false,
        cache_key: None,
        header: HeaderState::Durable,
    });
    // Another task may have opened it meanwhile, or rolled it; the first one counts.
    if active.file.is_none() && active.base_offset == segment.base_offset() {
        (active.file, active.file_used) = (Some(segment.clone()), true);
        drop(borrowed);
        inner.file_opened(log, segment.base_offset());
    }
    Ok(segment)
}

/// Waits until the log is open, in the segment that `batch` belongs to, with its partial last block in memory.
pub(super) async fn make_ready<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    batch: &BatchView<'_>,
) -> Result<(), Failure> {
    loop {
        open::ensure(inner, log).await?;
        roll_if_due(inner, log, batch);
        load_prefix(inner, log).await?;
        // It may have been discarded meanwhile, or somebody is about to cut it.
        if log.borrow().recorded.is_none() && !log.borrow().cutting {
            return Ok(());
        }
    }
}

/// Goes on in the next segment if the active one is full or old. While the next one is not prepared yet, the active one
/// takes more than its size.
fn roll_if_due<E: Env>(inner: &Inner<E>, log: &SharedLog<E>, batch: &BatchView<'_>) {
    let mut borrowed = log.borrow_mut();
    if !borrowed.roll_due(batch) {
        return;
    }
    borrowed.roll_wanted = true;
    let has_unstored = borrowed.unstored_bytes() > 0;
    if let Some(gap) = borrowed.roll().filter(|_| has_unstored) {
        // The gap between two segments passes as bytes that were stored.
        inner.unstored_bytes.set(inner.unstored_bytes.get() + gap);
    }
}

/// Loads the log's partial last block if it is not in memory.
pub(super) async fn load_prefix<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> Result<(), Failure> {
    loop {
        let version = inner.prepared.version();
        {
            let mut borrowed = log.borrow_mut();
            if let Some(failure) = &borrowed.failure {
                return Err(failure.clone());
            }
            if !borrowed.needs_prefix() {
                return Ok(());
            }
            if !borrowed.preparing {
                borrowed.preparing = true;
                // A task of its own: the caller may go away, and its I/O with it.
                inner.env.tasks().spawn(TaskClass::Network, run_load_prefix(Rc::clone(inner), Rc::clone(log)));
            }
        }
        inner.prepared.changed(version).await;
    }
}

async fn run_load_prefix<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>) {
    acquire(&inner, &log).await;
    let result = read_prefix(&inner, &log).await;
    release(&inner);
    log.borrow_mut().preparing = false;
    if let Err(error) = result {
        inner.fail_log(&log, &failure("reading the last block of a segment", &error));
    }
    inner.prepared.notify();
}

async fn read_prefix<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> io::Result<()> {
    if log.borrow().recorded.is_some() {
        return Ok(());
    }
    let segment = open_active(inner, log).await?;
    // Meanwhile the log may have been rolled by an append that needs no prefix, or dropped.
    let is_wanted = log.borrow().needs_prefix() && log.borrow().active_base() == segment.base_offset();
    if log.borrow().recorded.is_some() || !is_wanted {
        return Ok(());
    }
    let end = log.borrow().offsets.written().position;
    let (start, kept) = (log.borrow().locate_active(end.block_floor()), end.bytes_since(end.block_floor()));
    let block = segment.read(start, BLOCK_BYTES).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let prefix = block.as_slice().get(..kept).ok_or(io::ErrorKind::UnexpectedEof)?;
    let mut borrowed = log.borrow_mut();
    if borrowed.needs_prefix() && borrowed.offsets.written().position == end {
        let memory_before = borrowed.tail.memory_bytes();
        borrowed.tail.load_prefix(end, prefix, |bytes| AppendBuffer::allocate(inner.env.disk(), bytes));
        inner.tail_bytes.set(inner.tail_bytes.get() + borrowed.tail.memory_bytes() - memory_before);
    }
    Ok(())
}

pub(super) fn failure(operation: &'static str, error: &io::Error) -> Failure {
    Failure::Io { operation, reason: error.to_string() }
}
