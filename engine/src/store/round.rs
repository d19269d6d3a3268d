//! One round after the other: plan, write, flush, tell. The store's header has the whole picture.

use std::io;
use std::rc::Rc;

use futures_util::future::{join, join_all};
use millrace_runtime::{Disk, Env, FlushScope};

use super::{INLINE_BYTES_MAX, Inner, SharedLog, checkpointing, prepare};
use crate::format::journal::{Entry, EntryKind, RoundEncoder};
use crate::journal::{JournalFile, Placement};
use crate::log::offsets::Mark;
use crate::log::tail::SealedChunk;
use crate::log::{Failure, InSegment, Log};
use crate::segment::Segment;

/// Bytes of one log that go into the journal.
struct Piece<E: Env> {
    log: SharedLog<E>,
    end: Mark,
}

/// Bytes of one log that go into its segment.
struct SegmentWrite<E: Env> {
    log: SharedLog<E>,
    end: Mark,
    segment: Segment<E>,
    chunks: Vec<SealedChunk<<E::Disk as Disk>::Buffer>>,
}

struct JournalWrite<E: Env> {
    file: JournalFile<E>,
    buffer: <E::Disk as Disk>::Buffer,
    placement: Placement,
}

struct Round<E: Env> {
    pieces: Vec<Piece<E>>,
    segment_writes: Vec<SegmentWrite<E>>,
    journal_write: Option<JournalWrite<E>>,
}

/// Runs rounds until the store stops.
pub(super) async fn run<E: Env>(inner: Rc<Inner<E>>) {
    while !inner.stopped.get() {
        let version = inner.queue_changed.version();
        match plan(&inner) {
            Some(round) => {
                execute(&inner, round).await;
                inner.round_ended.notify();
                evict(&inner);
                checkpointing::consider(&inner);
            }
            None => inner.queue_changed.changed(version).await,
        }
    }
}

/// Takes logs from the queue, up to the round's size, and decides for each whether it goes to the journal or to its
/// segment. `None` when there is nothing to write.
fn plan<E: Env>(inner: &Rc<Inner<E>>) -> Option<Round<E>> {
    let mut pieces = Vec::new();
    let mut segment_logs = Vec::new();
    let mut bytes = 0;
    while bytes < inner.config.round_bytes_max {
        let Some(log) = inner.queue.borrow_mut().pop_front() else { break };
        log.borrow_mut().queued = false;
        // A log whose segment has no room yet joins a later round; the task that makes room puts it back into the queue.
        if !prepare::make_room(inner, &log) {
            continue;
        }
        let borrowed = log.borrow();
        if borrowed.failure.is_some() {
            continue;
        }
        let to_segment = borrowed.write_back_wanted || borrowed.unsegmented_bytes() >= INLINE_BYTES_MAX;
        let new_bytes = if to_segment { borrowed.unsegmented_bytes() } else { borrowed.undurable_bytes() };
        if new_bytes == 0 {
            continue;
        }
        bytes += new_bytes;
        let end = borrowed.offsets.written();
        drop(borrowed);
        if to_segment {
            segment_logs.push(log);
        } else {
            pieces.push(Piece { log, end });
        }
    }
    if pieces.is_empty() && segment_logs.is_empty() {
        return None;
    }
    let journal_write = place_in_journal(inner, &pieces);
    if journal_write.is_none() {
        segment_logs.extend(pieces.drain(..).map(|piece| piece.log));
    }
    let segment_writes = segment_logs.into_iter().map(seal).collect();
    Some(Round { pieces, segment_writes, journal_write })
}

/// Lays the journal's part of a round out. `None` when there is nothing to say in it, or the ring has no room for it.
fn place_in_journal<E: Env>(inner: &Inner<E>, pieces: &[Piece<E>]) -> Option<JournalWrite<E>> {
    let mut unrecorded = inner.unrecorded.borrow_mut();
    unrecorded.retain(|log| log.borrow().failure.is_none());
    let slices: Vec<_> = pieces
        .iter()
        .map(|piece| {
            let log = piece.log.borrow();
            let mut slices = log.tail.slices(log.offsets.durable().position, piece.end.position);
            assert_eq!(slices.len(), 1, "a tail below INLINE_BYTES_MAX lies in one chunk");
            slices.remove(0)
        })
        .collect();
    let entry_count = pieces.len() + unrecorded.len();
    if entry_count == 0 {
        return None;
    }
    let piece_bytes = slices.iter().map(crate::io::Slice::bytes).sum();
    let round_bytes = u64::try_from(RoundEncoder::round_bytes(entry_count, piece_bytes)).expect("a round fits u64");
    let mut journal = inner.journal.borrow_mut();
    let placement = journal.ring().place(round_bytes)?;
    let piece_entries = pieces.iter().zip(&slices).map(|(piece, slice)| piece_entry(piece, slice.bytes()));
    let durable_ends = unrecorded.iter().map(durable_end_entry);
    let entries: Vec<Entry> = piece_entries.chain(durable_ends).collect();
    let bytes = slices.iter().map(crate::io::Slice::as_slice).chain(std::iter::repeat([].as_slice()));
    let buffer = journal.encode(&placement, &entries, piece_bytes, bytes);
    for log in unrecorded.drain(..) {
        log.borrow_mut().durable_end_unrecorded = false;
    }
    // Already now: a checkpoint that is taken while the round is under way must not let go of it.
    for piece in pieces {
        piece.log.borrow_mut().pinned_sequence.get_or_insert(placement.sequence);
    }
    Some(JournalWrite { file: journal.file(), buffer, placement })
}

fn piece_entry<E: Env>(piece: &Piece<E>, bytes: usize) -> Entry {
    let log = piece.log.borrow();
    let bytes = u32::try_from(bytes).expect("a piece is smaller than INLINE_BYTES_MAX");
    Entry {
        partition: log.id,
        segment_base: log.segment_base.expect("a log in a round has a segment"),
        kind: EntryKind::Piece { position: log.offsets.durable().position, bytes, end_offset: piece.end.offset },
    }
}

fn durable_end_entry<E: Env>(log: &SharedLog<E>) -> Entry {
    let log = log.borrow();
    Entry {
        partition: log.id,
        segment_base: log.segment_base.expect("a log that was written has a segment"),
        kind: EntryKind::DurableEnd { position: log.in_segment.position, end_offset: log.in_segment.offset },
    }
}

fn seal<E: Env>(log: SharedLog<E>) -> SegmentWrite<E> {
    let mut borrowed = log.borrow_mut();
    borrowed.write_back_wanted = false;
    let segment = borrowed.segment.clone().expect("a log in a round has an open segment");
    let (end, chunks) = (borrowed.offsets.written(), borrowed.tail.seal());
    drop(borrowed);
    SegmentWrite { log, end, segment, chunks }
}

async fn execute<E: Env>(inner: &Inner<E>, round: Round<E>) {
    let Round { pieces, segment_writes, journal_write } = round;
    let journal_file = inner.journal.borrow().file();
    let (journal_result, segment_results) =
        join(write_journal(journal_write), join_all(segment_writes.iter().map(write_segment))).await;
    let flushed = match journal_result {
        Ok(()) => flush(inner, &journal_file, &segment_writes).await,
        Err(error) => Err(Failure::Io { operation: "writing the journal", reason: error.to_string() }),
    };
    if let Err(failure) = flushed {
        return inner.fail_all(&failure);
    }
    for (write, result) in segment_writes.into_iter().zip(segment_results) {
        match result {
            Ok(()) => finish_segment_write(inner, write),
            Err(error) => {
                let reason = format!("{}: {error}", write.segment.path().display());
                inner.fail_log(&write.log, &Failure::Io { operation: "writing a segment", reason });
            }
        }
    }
    for piece in pieces {
        let mut log = piece.log.borrow_mut();
        if log.failure.is_none() {
            finish(inner, &mut log, piece.end, InSegment::No);
        }
    }
}

async fn write_journal<E: Env>(write: Option<JournalWrite<E>>) -> io::Result<()> {
    match write {
        Some(write) => write.file.write(write.buffer, &write.placement).await,
        None => Ok(()),
    }
}

/// Writes one log's chunks, one after the other: neighbours share a block, and nothing orders two writes.
async fn write_segment<E: Env>(write: &SegmentWrite<E>) -> io::Result<()> {
    for chunk in &write.chunks {
        write.segment.write(Rc::clone(&chunk.buffer), chunk.start).await?;
    }
    Ok(())
}

async fn flush<E: Env>(inner: &Inner<E>, journal: &JournalFile<E>, writes: &[SegmentWrite<E>]) -> Result<(), Failure> {
    let result = match inner.flush_scope {
        FlushScope::Device => journal.sync().await,
        FlushScope::File => {
            let (journal_result, results) =
                join(journal.sync(), join_all(writes.iter().map(|write| write.segment.sync()))).await;
            results.into_iter().fold(journal_result, Result::and)
        }
    };
    result.map_err(|error| Failure::Io { operation: "flushing a round", reason: error.to_string() })
}

fn finish_segment_write<E: Env>(inner: &Inner<E>, write: SegmentWrite<E>) {
    let SegmentWrite { log, end, chunks, .. } = write;
    let mut borrowed = log.borrow_mut();
    if borrowed.failure.is_some() {
        return;
    }
    finish(inner, &mut borrowed, end, InSegment::Yes);
    let recorded = !std::mem::replace(&mut borrowed.durable_end_unrecorded, true);
    drop(borrowed);
    if recorded {
        inner.unrecorded.borrow_mut().push(Rc::clone(&log));
    }
    let mut eviction = inner.eviction.borrow_mut();
    eviction.extend(chunks.iter().map(|_| Rc::clone(&log)));
}

fn finish<E: Env>(inner: &Inner<E>, log: &mut Log<E>, end: Mark, in_segment: InSegment) {
    let newly_durable = end.position.bytes_since(log.offsets.durable().position);
    inner.undurable_bytes.set(inner.undurable_bytes.get() - newly_durable);
    log.make_durable(end, in_segment);
}

/// Drops the oldest written chunks until the tails fit their budget.
fn evict<E: Env>(inner: &Inner<E>) {
    while inner.tail_bytes.get() > inner.config.tail_cache_bytes_max {
        let Some(log) = inner.eviction.borrow_mut().pop_front() else { return };
        let freed = log.borrow_mut().tail.evict_oldest().unwrap_or(0);
        inner.tail_bytes.set(inner.tail_bytes.get() - freed);
    }
}
