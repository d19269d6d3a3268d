//! Tasks that get a log's segment ready: make or open it, fill it ahead with zeros, load its partial last block.
//!
//! They run beside the rounds, at most [`PREPARING_MAX`] at a time, so that thousands of new logs share the disk instead
//! of flooding it. A log is prepared by one task at a time.

use std::io;
use std::rc::Rc;

use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, TaskClass, Tasks};

use super::{Inner, SharedLog};
use crate::log::Failure;
use crate::model::{Offset, Position};
use crate::segment::{FILL_BYTES_MAX, FILL_BYTES_MIN, Segment};

/// Logs that are prepared at the same time.
const PREPARING_MAX: usize = 32;

/// Whether the log's segment has room for all that was appended. If not, or soon not, a task makes room; it puts the log
/// back into the queue when it is done.
pub(super) fn make_room<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> bool {
    let mut borrowed = log.borrow_mut();
    let has_room = borrowed.has_room();
    let due = !has_room || borrowed.fill_target().is_some();
    if due && !borrowed.preparing && borrowed.failure.is_none() && borrowed.undurable_bytes() > 0 {
        borrowed.preparing = true;
        drop(borrowed);
        inner.env.tasks().spawn(TaskClass::Flush, run(Rc::clone(inner), Rc::clone(log)));
    }
    has_room
}

async fn run<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>) {
    acquire(&inner).await;
    let result = extend(&inner, &log).await;
    inner.preparing.set(inner.preparing.get() - 1);
    log.borrow_mut().preparing = false;
    if let Err(error) = result {
        inner.fail_log(&log, &failure("making room in a segment", &error));
    }
    // Again: appends may have filled even the new room, or were waiting for it.
    inner.enqueue(&log);
    inner.prepared.notify();
}

async fn acquire<E: Env>(inner: &Inner<E>) {
    loop {
        let version = inner.prepared.version();
        if inner.preparing.get() < PREPARING_MAX {
            return inner.preparing.set(inner.preparing.get() + 1);
        }
        inner.prepared.changed(version).await;
    }
}

/// Opens or makes the segment and fills it a step further if that is due.
async fn extend<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> io::Result<()> {
    let segment = open(inner, log).await?;
    let (start, target) = {
        let borrowed = log.borrow();
        (borrowed.filled_end, borrowed.fill_target())
    };
    let Some(end) = target else { return Ok(()) };
    segment.fill(&inner.env, start, end).await?;
    let mut borrowed = log.borrow_mut();
    borrowed.filled_end = end;
    borrowed.fill_bytes_next = (2 * borrowed.fill_bytes_next).min(FILL_BYTES_MAX);
    Ok(())
}

/// The log's segment, opened or made if need be.
pub(super) async fn open<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> io::Result<Segment<E>> {
    let (id, base, open) = {
        let borrowed = log.borrow();
        (borrowed.id, borrowed.segment_base, borrowed.segment.clone())
    };
    if let Some(segment) = open {
        return Ok(segment);
    }
    let (segment, filled_end) = match base {
        None => (Segment::create(&inner.env, &inner.logs_directory, id).await?, FILL_BYTES_MIN),
        Some(base) => {
            let segment = Segment::open(&inner.env, &inner.logs_directory, id, base).await?;
            let size = segment.size_bytes().await?;
            (segment, size)
        }
    };
    let mut borrowed = log.borrow_mut();
    // Another task may have opened it meanwhile; the first one counts.
    if borrowed.segment.is_none() {
        borrowed.segment_base = Some(base.unwrap_or(Offset::ZERO));
        borrowed.filled_end = Position::new(filled_end).block_floor();
        borrowed.segment = Some(segment);
    }
    Ok(borrowed.segment.clone().expect("it was set above"))
}

/// Loads the log's partial last block if an append needs it.
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
    let result = read_prefix(&inner, &log).await;
    log.borrow_mut().preparing = false;
    if let Err(error) = result {
        inner.fail_log(&log, &failure("reading the last block of a segment", &error));
    }
    inner.prepared.notify();
}

async fn read_prefix<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> io::Result<()> {
    let segment = open(inner, log).await?;
    let end = log.borrow().offsets.written().position;
    let block = segment.read(end.block_floor(), BLOCK_BYTES).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let prefix = &block.as_slice()[..end.bytes_since(end.block_floor())];
    let mut borrowed = log.borrow_mut();
    let memory_before = borrowed.tail.memory_bytes();
    borrowed.tail.load_prefix(end, prefix, |bytes| inner.env.disk().buffer(bytes));
    inner.tail_bytes.set(inner.tail_bytes.get() + borrowed.tail.memory_bytes() - memory_before);
    Ok(())
}

fn failure(operation: &'static str, error: &io::Error) -> Failure {
    Failure::Io { operation, reason: error.to_string() }
}
