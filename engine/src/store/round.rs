//! One round after the other: plan, write, flush, tell. The store's header has the whole picture.

use std::io;
use std::rc::Rc;

use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use futures_util::stream;
use millrace_runtime::{Clock, Disk, Env, FlushScope, TaskClass, Tasks};

use super::{INLINE_BYTES_MAX, Inner, SharedLog, checkpointing, failing, finish, prepare};
use crate::format::journal::{Entry, EntryKind, RoundEncoder};
use crate::journal::{JournalFile, Placement};
use crate::log::active::HeaderState;
use crate::log::config::FlushPolicy;
use crate::log::offsets::Mark;
use crate::log::sealed::position_in_file;
use crate::log::tail::SealedChunk;
use crate::log::{Failure, Log};
use crate::model::Position;
use crate::segment::Segment;

/// So many chunks of a log are written at a time. From eight writes of 1 MiB on, a device gets no faster.
const WRITES_MAX: usize = 8;

/// One log's part in a round: what was appended to it so far.
struct Share<E: Env> {
    log: SharedLog<E>,
    /// The log's life at the time: what became of the writes does not concern a later one.
    life: u64,
    end: Mark,
}

/// Bytes of one log that go into its segments; more than one segment right after a roll.
struct SegmentWrite<E: Env> {
    share: Share<E>,
    parts: Vec<SegmentPart<E>>,
}

/// Bytes of one segment.
struct SegmentPart<E: Env> {
    segment: Segment<E>,
    /// Position in the log of the segment's first record.
    origin: Position,
    chunks: Vec<SealedChunk<<E::Disk as Disk>::Buffer>>,
    /// The segment is new and gets its header too, which says that it is filled up to here.
    header: Option<Position>,
}

struct JournalWrite<E: Env> {
    file: JournalFile<E>,
    buffer: <E::Disk as Disk>::Buffer,
    placement: Placement,
}

struct Round<E: Env> {
    pieces: Vec<Share<E>>,
    segment_writes: Vec<SegmentWrite<E>>,
    journal_write: Option<JournalWrite<E>>,
    /// Whether anyone waits for the flush.
    flush_wanted: bool,
}

/// Runs rounds until the store stops.
pub(super) async fn run<E: Env>(inner: Rc<Inner<E>>) {
    while !inner.stopped.get() {
        inner.heed_failed_flushes();
        if inner.failure.borrow().is_some() {
            failing::rebuild_shard(&inner).await;
            continue;
        }
        let version = inner.queue_changed.version();
        match plan(&inner) {
            Some(round) => {
                inner.round_running.set(true);
                let started = inner.env.clock().now();
                execute(&inner, round).await;
                inner.counters.rounds.record(inner.env.clock().now() - started);
                inner.round_running.set(false);
                inner.round_ended.notify();
                evict(&inner);
                checkpointing::consider(&inner);
            }
            None => inner.queue_changed.changed(version).await,
        }
    }
}

/// Takes logs from the queue, up to the round's size, and decides for each whether it goes to the journal or to its
/// segment. `None` when there is nothing to write or flush.
fn plan<E: Env>(inner: &Rc<Inner<E>>) -> Option<Round<E>> {
    let mut pieces = Vec::new();
    let mut segment_logs = Vec::new();
    let mut bytes = 0;
    let mut flush_wanted = inner.flush_due.take();
    while bytes < inner.config.round_bytes_max {
        let Some(log) = inner.queue.borrow_mut().pop_front() else { break };
        log.borrow_mut().queued = false;
        let to_segment = is_for_segment(&log.borrow());
        // A log whose segment has no room yet joins a later round; the task that makes room puts it back into the queue.
        if log.borrow().recorded.is_some() || !prepare::make_room(inner, &log, to_segment) {
            continue;
        }
        finish::consider(inner, &log);
        let mut borrowed = log.borrow_mut();
        let new_bytes = if to_segment { borrowed.unsegmented_bytes() } else { borrowed.unstored_bytes() };
        flush_wanted |= borrowed.write_back_wanted && !borrowed.is_settled();
        if new_bytes == 0 && !borrowed.header_pending() {
            borrowed.write_back_wanted = false;
            continue;
        }
        bytes += new_bytes;
        flush_wanted |= borrowed.config.flush_policy == FlushPolicy::Commit;
        let share = Share { log: Rc::clone(&log), life: borrowed.life, end: borrowed.offsets.written() };
        if to_segment {
            segment_logs.push(share);
        } else {
            pieces.push(share);
        }
    }
    if pieces.is_empty() && segment_logs.is_empty() && !flush_wanted {
        return None;
    }
    let journal_write = place_in_journal(inner, &pieces);
    if journal_write.is_none() {
        segment_logs.extend(pieces.drain(..).filter(|share| prepare::make_room(inner, &share.log, true)));
    }
    let segment_writes = segment_logs.into_iter().map(seal).collect();
    Some(Round { pieces, segment_writes, journal_write, flush_wanted })
}

/// Whether what was appended to a log is too much for the journal, or cannot be a piece in it.
fn is_for_segment<E: Env>(log: &Log<E>) -> bool {
    log.write_back_wanted || log.needs_segment_write() || log.unsegmented_bytes() >= INLINE_BYTES_MAX
}

/// Lays the journal's part of a round out. `None` when there is nothing to say in it, or the ring has no room for it.
fn place_in_journal<E: Env>(inner: &Inner<E>, pieces: &[Share<E>]) -> Option<JournalWrite<E>> {
    let mut unrecorded = inner.unrecorded.borrow_mut();
    let mut moved = inner.moved_starts.borrow_mut();
    // Logs that are not open say nothing; one that is opened again comes back to the lists.
    unrecorded.retain(|log| {
        let mut log = log.borrow_mut();
        log.durable_end_unrecorded = log.recorded.is_none();
        log.durable_end_unrecorded
    });
    moved.retain(|log| {
        let mut log = log.borrow_mut();
        log.start_unrecorded = log.recorded.is_none();
        log.start_unrecorded
    });
    let slices: Vec<_> = pieces
        .iter()
        .map(|piece| {
            let log = piece.log.borrow();
            let mut slices = log.tail.slices(log.offsets.stored().position, piece.end.position);
            assert_eq!(slices.len(), 1, "a tail below INLINE_BYTES_MAX lies in one chunk");
            slices.remove(0)
        })
        .collect();
    let entry_count = pieces.len() + unrecorded.len() + moved.len();
    if entry_count == 0 {
        return None;
    }
    let piece_bytes = slices.iter().map(crate::io::Slice::bytes).sum();
    let round_bytes = u64::try_from(RoundEncoder::round_bytes(entry_count, piece_bytes)).expect("a round fits u64");
    let mut journal = inner.journal.borrow_mut();
    let placement = journal.ring().place(round_bytes)?;
    let piece_entries = pieces.iter().zip(&slices).map(|(piece, slice)| piece_entry(piece, slice.bytes()));
    let other_entries = unrecorded.iter().map(durable_end_entry).chain(moved.iter().map(start_entry));
    let entries: Vec<Entry> = piece_entries.chain(other_entries).collect();
    let bytes = slices.iter().map(crate::io::Slice::as_slice).chain(std::iter::repeat([].as_slice()));
    let buffer = journal.encode(&placement, &entries, piece_bytes, bytes);
    for log in unrecorded.drain(..) {
        log.borrow_mut().durable_end_unrecorded = false;
    }
    for log in moved.drain(..) {
        log.borrow_mut().start_unrecorded = false;
    }
    // Already now: a checkpoint that is taken while the round is under way must not let go of it.
    for piece in pieces {
        let mut log = piece.log.borrow_mut();
        log.pinned_sequence.get_or_insert(placement.sequence);
        log.journaled_end = piece.end.position;
    }
    Some(JournalWrite { file: journal.file(), buffer, placement })
}

fn piece_entry<E: Env>(piece: &Share<E>, bytes: usize) -> Entry {
    let log = piece.log.borrow();
    let bytes = u32::try_from(bytes).expect("a piece is smaller than INLINE_BYTES_MAX");
    let (segment_base, position) = log.locate(log.offsets.stored().position);
    let kind = EntryKind::Piece { position, bytes, end_offset: piece.end.offset };
    Entry { partition: log.id, segment_base, incarnation: log.incarnation, kind }
}

fn durable_end_entry<E: Env>(log: &SharedLog<E>) -> Entry {
    let log = log.borrow();
    let (segment_base, position) = log.locate_durable(log.in_segment.position);
    let kind = EntryKind::DurableEnd { position, end_offset: log.in_segment.offset };
    Entry { partition: log.id, segment_base, incarnation: log.incarnation, kind }
}

fn start_entry<E: Env>(log: &SharedLog<E>) -> Entry {
    let log = log.borrow();
    let kind = EntryKind::Start { offset: log.start_wanted };
    let (segment_base, _) = log.locate_durable(log.in_segment.position);
    Entry { partition: log.id, segment_base, incarnation: log.incarnation, kind }
}

/// Seals what a log has in memory and says which bytes go to which of its segments.
fn seal<E: Env>(share: Share<E>) -> SegmentWrite<E> {
    let mut log = share.log.borrow_mut();
    log.write_back_wanted = false;
    let mut chunks = log.tail.seal().into_iter().peekable();
    let mut parts = Vec::new();
    let rolled =
        log.sealed.iter().filter_map(|sealed| Some((sealed.file.clone()?, sealed.origin?, sealed.memory_end()?)));
    for (segment, origin, end) in rolled {
        let mut part = SegmentPart { segment, origin, chunks: Vec::new(), header: None };
        while let Some(chunk) = chunks.next_if(|chunk| chunk.start < end) {
            part.chunks.push(chunk);
        }
        if !part.chunks.is_empty() {
            parts.push(part);
        }
    }
    let active = log.active.as_mut().expect("a log in a round has an active segment");
    active.file_used = true;
    let segment = active.file.clone().expect("and it is open");
    let header = (active.header == HeaderState::Pending).then_some(active.filled_end);
    if header.is_some() {
        active.header = HeaderState::Written;
    }
    let origin = active.origin;
    parts.push(SegmentPart { segment, origin, chunks: chunks.collect(), header });
    drop(log);
    SegmentWrite { share, parts }
}

async fn execute<E: Env>(inner: &Rc<Inner<E>>, round: Round<E>) {
    let Round { pieces, segment_writes, journal_write, flush_wanted } = round;
    let journal_write = match journal_write {
        Some(write) if flush_wanted && segment_writes.is_empty() && is_all_durable_before(inner, &write) => {
            return execute_durably(inner, pieces, write).await;
        }
        other => other,
    };
    let journal_file = inner.journal.borrow().file();
    let writes = join_all(segment_writes.iter().map(|write| write_segments(inner, write)));
    let (journal_result, segment_results) = join(write_journal(journal_write), writes).await;
    if let Err(error) = journal_result {
        return inner.fail_all(&Failure::Io { operation: "writing the journal", reason: error.to_string() });
    }
    for (write, result) in segment_writes.into_iter().zip(segment_results) {
        match result {
            Ok(()) => stored(inner, &write.share, true, &write.parts),
            Err(error) => {
                let reason = format!("{}: {error}", write.parts[0].segment.path().display());
                inner.fail_log(&write.share.log, &Failure::Io { operation: "writing a segment", reason });
            }
        }
    }
    for piece in pieces {
        stored(inner, &piece, false, &[]);
    }
    let flush_wanted = flush_wanted || inner.unflushed_bytes.get() >= inner.config.flush_interval_bytes;
    if flush_wanted && let Err(error) = flush(inner, &journal_file).await {
        inner.fail_all(&Failure::Io { operation: "flushing a round", reason: error.to_string() });
    }
}

/// Whether nothing that was written before a journal's write still waits for a flush.
fn is_all_durable_before<E: Env>(inner: &Inner<E>, write: &JournalWrite<E>) -> bool {
    inner.unflushed.borrow().is_empty()
        && inner.unflushed_files.borrow().is_empty()
        && inner.journal.borrow().is_flushed_before(write.placement.sequence)
}

/// Carries out a round that is nothing but its journal's write: that one is durable by itself, and needs no flush.
async fn execute_durably<E: Env>(inner: &Rc<Inner<E>>, pieces: Vec<Share<E>>, write: JournalWrite<E>) {
    let JournalWrite { file, buffer, placement } = write;
    let started = inner.env.clock().now();
    if let Err(error) = file.write_durably(buffer, &placement).await {
        return inner.fail_all(&Failure::Io { operation: "writing the journal", reason: error.to_string() });
    }
    inner.counters.flushes.record(inner.env.clock().now() - started);
    for piece in pieces {
        stored(inner, &piece, false, &[]);
    }
    let marks = take_all_marks(inner);
    flushed(inner, placement.sequence, marks);
}

async fn write_journal<E: Env>(write: Option<JournalWrite<E>>) -> io::Result<()> {
    match write {
        Some(write) => write.file.write(write.buffer, &write.placement).await,
        None => Ok(()),
    }
}

/// Writes one log's chunks, some at a time: nothing orders two writes, but no two chunks that are sealed together have a
/// block in common.
async fn write_segments<E: Env>(inner: &Inner<E>, write: &SegmentWrite<E>) -> io::Result<()> {
    for part in &write.parts {
        if let Some(filled_end) = part.header {
            let id = write.share.log.borrow().id;
            part.segment.write_header(&inner.env, id, filled_end, None).await?;
        }
        let writes = part.chunks.iter().map(|chunk| {
            let position = position_in_file(chunk.start, part.origin);
            part.segment.write(Rc::clone(&chunk.buffer), position)
        });
        // What is under way when one fails ends too, before the log is taken offline.
        let results: Vec<_> = stream::iter(writes).buffer_unordered(WRITES_MAX).collect().await;
        results.into_iter().collect::<io::Result<()>>()?;
    }
    Ok(())
}

/// A log's share of the round is written.
fn stored<E: Env>(inner: &Rc<Inner<E>>, share: &Share<E>, in_segment: bool, parts: &[SegmentPart<E>]) {
    let mut log = share.log.borrow_mut();
    if log.life != share.life || log.recorded.is_some() {
        return;
    }
    let before = log.offsets.stored().position;
    log.make_stored(share.end, in_segment);
    let bytes = log.offsets.stored().position.bytes_since(before);
    inner.unstored_bytes.set(inner.unstored_bytes.get() - bytes);
    if log.config.flush_policy == FlushPolicy::Interval {
        inner.unflushed_bytes.set(inner.unflushed_bytes.get() + bytes);
        arm_flush(inner);
    }
    if !std::mem::replace(&mut log.unflushed, true) {
        inner.unflushed.borrow_mut().push(Rc::clone(&share.log));
    }
    if inner.flush_scope == FlushScope::File {
        inner.unflushed_files.borrow_mut().extend(parts.iter().map(|part| part.segment.clone()));
    }
    let chunk_count = parts.iter().map(|part| part.chunks.len()).sum();
    inner.eviction.borrow_mut().extend(std::iter::repeat_n(Rc::clone(&share.log), chunk_count));
}

/// Has a round flush after the interval, unless one is to do so already.
fn arm_flush<E: Env>(inner: &Rc<Inner<E>>) {
    if !inner.flush_armed.replace(true) {
        let owned = Rc::clone(inner);
        let task = async move {
            let inner = owned;
            inner.env.clock().sleep(inner.config.flush_interval).await;
            inner.flush_armed.set(false);
            if inner.unflushed_bytes.get() > 0 {
                inner.flush_due.set(true);
                inner.queue_changed.notify();
            }
        };
        inner.env.tasks().spawn(TaskClass::Flush, task);
    }
}

/// Makes everything durable that is stored.
async fn flush<E: Env>(inner: &Inner<E>, journal: &JournalFile<E>) -> io::Result<()> {
    let marks = take_all_marks(inner);
    let files = inner.unflushed_files.take();
    let sequence = inner.journal.borrow_mut().ring().last_sequence();
    let started = inner.env.clock().now();
    let (journal_result, results) = join(journal.sync(), join_all(files.iter().map(Segment::sync))).await;
    inner.counters.flushes.record(inner.env.clock().now() - started);
    results.into_iter().fold(journal_result, Result::and)?;
    flushed(inner, sequence, marks);
    Ok(())
}

/// What is stored but not durable, and becomes it now.
fn take_all_marks<E: Env>(inner: &Inner<E>) -> Vec<Flushed<E>> {
    inner.unflushed_bytes.set(0);
    inner.unflushed.take().into_iter().filter_map(take_marks).collect()
}

/// Takes note that the journal's rounds up to `sequence` are durable, and of logs what `marks` say.
fn flushed<E: Env>(inner: &Inner<E>, sequence: u64, marks: Vec<Flushed<E>>) {
    inner.journal.borrow_mut().note_flushed(sequence);
    inner.held.borrow_mut().extend(marks);
    release_held(inner);
}

/// Takes note of what rounds flushed, but for logs whose file another flush is under way of.
pub(super) fn release_held<E: Env>(inner: &Inner<E>) {
    let (held, released): (Vec<_>, Vec<_>) =
        inner.held.take().into_iter().partition(|flushed| flushed.log.borrow().flushing_beside);
    inner.held.replace(held);
    for Flushed { log, life, stored, segment_stored, with_header } in released {
        let mut borrowed = log.borrow_mut();
        if borrowed.life != life || borrowed.recorded.is_some() {
            continue;
        }
        let before = borrowed.in_segment;
        borrowed.make_durable(stored, segment_stored);
        if let Some(active) = borrowed.active.as_mut().filter(|_| with_header) {
            active.header = HeaderState::Durable;
        }
        let moved = borrowed.in_segment != before;
        if moved && !std::mem::replace(&mut borrowed.durable_end_unrecorded, true) {
            inner.unrecorded.borrow_mut().push(Rc::clone(&log));
        }
    }
    // Whoever waits for that may not have been told when the round ended.
    inner.round_ended.notify();
}

/// What a flush that is under way makes durable of a log.
pub(super) struct Flushed<E: Env> {
    log: SharedLog<E>,
    life: u64,
    stored: Mark,
    segment_stored: Mark,
    /// The active segment's header became durable too.
    with_header: bool,
}

/// `None` for a log that is not open: its marks say nothing, and it may be open again before the flush ends.
fn take_marks<E: Env>(log: SharedLog<E>) -> Option<Flushed<E>> {
    let mut borrowed = log.borrow_mut();
    borrowed.unflushed = false;
    if borrowed.recorded.is_some() {
        return None;
    }
    let Log { life, ref offsets, segment_stored, .. } = *borrowed;
    let stored = offsets.stored();
    let with_header = borrowed.active.as_ref().is_some_and(|active| active.header == HeaderState::Written);
    drop(borrowed);
    Some(Flushed { log, life, stored, segment_stored, with_header })
}

/// Drops the oldest written chunks until the tails fit their budget.
fn evict<E: Env>(inner: &Inner<E>) {
    while inner.tail_bytes.get() > inner.config.tail_cache_bytes_max {
        let Some(log) = inner.eviction.borrow_mut().pop_front() else { return };
        let freed = log.borrow_mut().tail.evict_oldest();
        match freed {
            Some(freed) => inner.tail_bytes.set(inner.tail_bytes.get() - freed),
            // Nothing was appended to it since.
            None => inner.drop_tail(&mut log.borrow_mut()),
        }
    }
}
