//! Tasks beside the rounds that keep recovery short: they finish rolled segments and save the state of logs.
//!
//! After a roll:
//!
//! 1. Wait until all of the old segment and the first round of the new one are durable.
//! 2. Rename the new segment from [`crate::segment::NEXT_FILE_NAME`] to its first offset. Until then recovery takes it for
//!    what its header says.
//! 3. Write the old segment's index and cut its file to what it holds.
//!
//! Only then can another segment be prepared, so that there is at most one without a name.
//!
//! Then, and whenever [`SAVE_BYTES`] more were appended, the log's state is saved: what its producers have sent and the
//! index of the active segment, both up to the same offset. Recovery reads only what lies behind.

use std::io;
use std::rc::Rc;

use millrace_runtime::{Env, TaskClass, Tasks};

use super::{Inner, SharedLog, prepare, producers, space};
use crate::log::Log;
use crate::log::index::SegmentIndex;
use crate::log::sealed::SealedSegment;
use crate::model::Offset;
use crate::producer_state::SpillMerge;
use crate::segment::Segment;
use crate::segment_files;

/// The state of a log is saved when this many bytes were appended since the last time.
const SAVE_BYTES: usize = 64 * 1024 * 1024;

/// Starts the task if the log was rolled, or has much that is not saved, and none is under way.
pub(super) fn consider<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    let due = log.borrow().unsaved_bytes() >= SAVE_BYTES || is_unfinished(&log.borrow());
    if due {
        start(inner, log);
    }
}

fn is_unfinished<E: Env>(log: &Log<E>) -> bool {
    let unnamed = log.active.as_ref().is_some_and(|active| active.unnamed);
    unnamed || log.sealed.iter().any(|sealed| !sealed.finished)
}

/// Starts the task unless it is under way.
pub(super) fn start<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    let mut borrowed = log.borrow_mut();
    if borrowed.recorded.is_none() && !borrowed.finishing && !inner.stopped.get() {
        borrowed.finishing = true;
        inner.env.tasks().spawn(TaskClass::Background, run(Rc::clone(inner), Rc::clone(log)));
    }
}

async fn run<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>) {
    let life = log.borrow().life;
    let mut result = finish(&inner, &log, life).await;
    let full = result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::StorageFull);
    if full && space::take_reserve(&inner).await {
        result = finish(&inner, &log, life).await;
    }
    log.borrow_mut().finishing = false;
    match result {
        // It may have been rolled again meanwhile.
        Ok(()) => consider(&inner, &log),
        Err(error) if log.borrow().life == life => {
            inner.fail_log(&log, &prepare::failure("finishing a segment", &error));
        }
        Err(_) => {}
    }
    inner.prepared.notify();
}

async fn finish<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, life: u64) -> io::Result<()> {
    let is_durable = |log: &Log<E>| {
        let named = log.active.as_ref().is_none_or(|active| !active.unnamed);
        named || (log.in_segment.position >= log.origin() && log.is_header_durable() && !log.preparing)
    };
    if !wait_until(inner, log, life, is_durable).await {
        return Ok(());
    }
    let unnamed = {
        let borrowed = log.borrow();
        borrowed.active.as_ref().filter(|active| active.unnamed).and_then(|active| active.file.clone())
    };
    if let Some(segment) = unnamed {
        let named = segment.rename(&inner.env).await?;
        let mut borrowed = log.borrow_mut();
        if borrowed.life != life {
            return Ok(());
        }
        let active = borrowed.active.as_mut().expect("a log that was rolled has an active segment");
        (active.file, active.unnamed) = (Some(named), false);
        let base_offset = active.base_offset;
        drop(borrowed);
        // It was opened when it was prepared, and belonged to no segment yet.
        inner.file_opened(log, base_offset);
    }
    // The log may be rolled again from here on: what is sealed then is not durable yet, and left for the next time.
    let (id, durable_end) = (log.borrow().id, log.borrow().active_base());
    while let Some((base_offset, end_offset, file, index)) = next_unfinished(log, life, durable_end) {
        let segment = match file {
            Some(segment) => segment,
            None => Segment::open(&inner.env, &inner.logs_directory, id, base_offset).await?,
        };
        if let Some(index) = index {
            let directory = inner.logs_directory.join(id.directory_name());
            segment_files::write_index(&inner.env, &directory, id, (base_offset, end_offset), &index).await?;
            segment.trim(index.end).await?;
        }
        if let Some(sealed) = log.borrow_mut().find_sealed_mut(base_offset) {
            sealed.finished = true;
        }
        inner.index_loaded(log, base_offset);
    }
    save(inner, log, life).await
}

/// What is known of producers, to be saved.
enum Producers {
    /// All of it.
    Whole(Vec<u8>),
    /// Some are spilled: the next file of them is to tell of all.
    Spilled(Box<SpillMerge>),
}

/// Saves what is needed to read only what comes from here on.
async fn save<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, life: u64) -> io::Result<()> {
    if log.borrow().active.is_none() || log.borrow().life != life {
        return Ok(());
    }
    let (id, base_offset, mark, index, producers, replaced) = {
        let mut borrowed = log.borrow_mut();
        let mark = borrowed.offsets.written();
        let (offsets, epochs) = (borrowed.index.clone(), borrowed.epochs.clone());
        let index = SegmentIndex { end: borrowed.locate_active(mark.position), offsets, epochs };
        let producers = if borrowed.producers.spill_header().is_some() {
            Producers::Spilled(Box::new(producers::begin(&mut borrowed)))
        } else {
            Producers::Whole(borrowed.producers.encode(borrowed.id, mark.offset))
        };
        (borrowed.id, borrowed.active_base(), mark, index, producers, borrowed.saved_producers)
    };
    let directory = inner.logs_directory.join(id.directory_name());
    match producers {
        Producers::Whole(bytes) => {
            if !wait_until(inner, log, life, |log| log.in_segment >= mark).await {
                return Ok(());
            }
            segment_files::write_producers(&inner.env, &directory, mark.offset, &bytes).await?;
        }
        Producers::Spilled(merge) => {
            producers::write(inner, log, *merge).await?;
            if !wait_until(inner, log, life, |log| log.in_segment >= mark).await {
                return Ok(());
            }
            segment_files::save_spilled(&inner.env, &directory, mark.offset).await?;
        }
    }
    if log.borrow().life != life || log.borrow().active_base() != base_offset {
        // The index of a segment that was rolled meanwhile is the whole one.
        return segment_files::remove_producers(&inner.env, &directory, mark.offset).await;
    }
    segment_files::write_index(&inner.env, &directory, id, (base_offset, mark.offset), &index).await?;
    if let Some(replaced) = replaced.filter(|replaced| *replaced != mark.offset) {
        segment_files::remove_producers(&inner.env, &directory, replaced).await?;
    }
    let mut borrowed = log.borrow_mut();
    if borrowed.life == life {
        (borrowed.saved_end, borrowed.saved_producers) = (mark.position, Some(mark.offset));
    }
    Ok(())
}

type Unfinished<E> = (Offset, Offset, Option<Segment<E>>, Option<Rc<SegmentIndex>>);

fn next_unfinished<E: Env>(log: &SharedLog<E>, life: u64, end: Offset) -> Option<Unfinished<E>> {
    let log = log.borrow();
    let is_wanted = |sealed: &&SealedSegment<E>| !sealed.finished && sealed.end_offset <= end;
    let sealed = log.sealed.iter().find(is_wanted).filter(|_| log.life == life)?;
    Some((sealed.base_offset, sealed.end_offset, sealed.file.clone(), sealed.index.clone()))
}

/// Has the log written back until `reached` holds; false when its life ended before.
pub(super) async fn wait_until<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    life: u64,
    reached: impl Fn(&Log<E>) -> bool,
) -> bool {
    loop {
        let (rounds, prepared) = (inner.round_ended.version(), inner.prepared.version());
        {
            let mut borrowed = log.borrow_mut();
            if borrowed.life != life || borrowed.recorded.is_some() || inner.stopped.get() {
                return false;
            }
            if reached(&borrowed) {
                return true;
            }
            borrowed.write_back_wanted = true;
        }
        inner.enqueue(log);
        let rounds = inner.round_ended.changed(rounds);
        let prepared = inner.prepared.changed(prepared);
        futures_util::future::select(std::pin::pin!(rounds), std::pin::pin!(prepared)).await;
    }
}
