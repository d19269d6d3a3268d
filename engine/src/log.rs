//! One partition's log in memory: its offsets, the bytes not yet in its segments, its indexes, and who waits for it.
//!
//! A [`Log`] does no I/O. The store's rounds ask it what is to be written, write it, and tell it what became of it.
//!
//! # Positions
//!
//! A position of a log is one rising byte address over all its segments: a segment has an *origin*, the position of its
//! first record, on a block boundary behind the segment before it. Only segments that took appends in this life of the
//! store have one; older ones are read by position in their file.
//!
//! ```text
//!            in_segment          stored                  written
//!      |----- segment file -----|-- journal only --|-- memory only --|
//! ```
//!
//! Invariants: `in_segment <= segment_stored <= stored <= written` and `in_segment <= durable`; `segment_stored..written`
//! is in the tail's memory.
//!
//! # Lives
//!
//! A log that was not used since the store was opened is only *recorded*: nothing of it is in memory but where it was
//! last known to be durable. Opening it (see [`crate::recovery`]) makes the rest. A log whose write failed goes back to
//! that state: what is in memory is dropped as a whole, and it is opened again from the device.

pub mod active;
pub mod config;
pub mod index;
pub mod offsets;
pub mod read_ahead;
pub mod recorded;
pub mod sealed;
pub mod tail;
pub mod traffic;
pub mod waiters;

use std::path::PathBuf;
use std::rc::Rc;

use millrace_protocol::batch::{self, BatchView};
use millrace_runtime::local::{Event, OneshotReceiver};
use millrace_runtime::{Disk, Env};
use thiserror::Error;

use crate::format::segment_header::RECORDS_START;
use crate::io::AppendBuffer;
use crate::model::{EpochStart, Incarnation, LeaderEpoch, Offset, PartitionId, Position};
use crate::producer_state::ProducerStates;
use crate::segment::{self, Segment};
use active::{ActiveSegment, HeaderState};
use config::{LogConfig, TimestampType};
use index::{OffsetIndex, SegmentIndex};
use offsets::{LogOffsets, Mark, Offsets};
use read_ahead::ReadAhead;
use recorded::Recorded;
use sealed::{SealedSegment, position_in_file};
use tail::Tail;
use traffic::Traffic;
use waiters::Waiters;

/// Why a log takes and gives nothing until it is opened again.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Failure {
    /// Writing or flushing failed; what is on the device beyond the durable end is unknown.
    #[error("{operation} failed: {reason}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The operating system's answer.
        reason: String,
    },
    /// Bytes that were durable are damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The log was deleted.
    #[error("the log was deleted")]
    Deleted,
}

/// Damage to bytes that were once durable.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{} is damaged at byte {position}: {what}", file.display())]
pub struct Corruption {
    /// The damaged file.
    pub file: PathBuf,
    /// Position of the damage in it.
    pub position: u64,
    /// What was found there.
    pub what: String,
}

/// The answer to a waiting append: done as the log's flush policy says, or the reason why it may not be.
pub type Durability = Result<(), Failure>;

/// What opening a log from the device yields.
pub struct OpenedLog<E: Env> {
    /// All segments but the active one.
    pub sealed: Vec<SealedSegment<E>>,
    /// The active segment; `None` before the first append.
    pub active: Option<ActiveSegment<E>>,
    /// The log start offset.
    pub start_offset: Offset,
    /// The end of the log, as a position in the active segment's file. All of it is durable.
    pub end: Mark,
    /// Index of the active segment.
    pub index: OffsetIndex,
    /// The leader epochs that begin in the active segment.
    pub epochs: Vec<EpochStart>,
    /// Largest timestamp of the active segment's first batch.
    pub first_timestamp: Option<i64>,
    /// What idempotent producers have sent.
    pub producers: ProducerStates,
    /// Leader epoch of the last batch.
    pub leader_epoch: LeaderEpoch,
    /// Up to where, in the active segment's file, and up to which offset the log's state was found saved.
    pub saved: Option<(Position, Offset)>,
}

/// One partition's log.
#[expect(clippy::struct_excessive_bools, reason = "each is a task or a wish of its own; all combinations occur")]
pub struct Log<E: Env> {
    /// Its partition.
    pub id: PartitionId,
    /// Its topic's configuration, as far as it concerns a log.
    pub config: LogConfig,
    /// Set while the log is not open. Everything below is empty then.
    pub recorded: Option<Recorded>,
    /// How often it was cut. What the journal says of an older incarnation is void.
    pub incarnation: Incarnation,
    /// Why it cannot be used; goes when it is opened again.
    pub failure: Option<Failure>,
    /// Counts how often the log was discarded: what belongs to an earlier life is recognised by it.
    pub life: u64,
    /// Its older segments, by rising offset.
    pub sealed: Vec<SealedSegment<E>>,
    /// The segment that takes appends, once there is one.
    pub active: Option<ActiveSegment<E>>,
    /// The prepared next segment, filled up to the position given.
    pub next: Option<(Segment<E>, Position)>,
    /// Its marks.
    pub offsets: Offsets,
    /// Everything below is written to segments.
    pub segment_stored: Mark,
    /// Everything below is durable in segments.
    pub in_segment: Mark,
    /// How many bytes the next step of filling adds.
    pub fill_bytes_next: u64,
    /// A task opens the log, fills its segment, prepares the next one or loads the partial last block.
    pub preparing: bool,
    /// That task flushes the active segment: what a round's flush made durable meanwhile counts once it has succeeded.
    pub flushing_beside: bool,
    /// A task finishes a rolled segment, or saves the log's state.
    pub finishing: bool,
    /// Compaction works on its sealed segments.
    pub compacting: bool,
    /// A task cuts its end off: nobody else may use it.
    pub cutting: bool,
    /// Somebody appended or read since it was last looked for idle logs.
    pub used: bool,
    /// The log stands in the store's queue of logs with something to write.
    pub queued: bool,
    /// The next round writes the segment even for a small tail, and flushes.
    pub write_back_wanted: bool,
    /// A roll is due: the next segment is to be prepared.
    pub roll_wanted: bool,
    /// The log stands in the store's list of logs whose durable end the journal is to note.
    pub durable_end_unrecorded: bool,
    /// The log stands in the store's list of logs with stored bytes that are not flushed.
    pub unflushed: bool,
    /// Where the log is to start once the journal has noted it. Invariant: at least the log start offset.
    pub start_wanted: Offset,
    /// The journal is to note that.
    pub start_unrecorded: bool,
    /// Everything below, from where the segments end, was handed to the journal.
    pub journaled_end: Position,
    /// The oldest journal round that holds bytes of this log which are not in its segment.
    pub pinned_sequence: Option<u64>,
    /// Leader epoch of the last batch.
    pub leader_epoch: LeaderEpoch,
    /// The bytes in memory.
    pub tail: Tail<<E::Disk as Disk>::Buffer>,
    /// Index of the active segment.
    pub index: OffsetIndex,
    /// The leader epochs that begin in the active segment.
    pub epochs: Vec<EpochStart>,
    /// Largest timestamp of the active segment's first batch, from which the segment's age is counted.
    pub first_timestamp: Option<i64>,
    /// What idempotent producers have sent.
    pub producers: ProducerStates,
    /// Records below were covered by a compaction pass in this life.
    pub clean_end: Offset,
    /// Up to here the log's state is saved beside it; recovery reads what comes behind.
    pub saved_end: Position,
    /// What they had sent when the log was discarded, until it is opened again.
    pub lost_producers: Option<ProducerStates>,
    /// The offset that the saved producers are of.
    pub saved_producers: Option<Offset>,
    /// Who reads it from the device, and what they will want next.
    pub read_ahead: ReadAhead,
    /// What went into it and out of it.
    pub traffic: Traffic,
    waiters: Waiters,
}

impl<E: Env> Log<E> {
    /// An empty log that is not open.
    pub fn new(id: PartitionId, config: LogConfig, recorded: Recorded) -> Self {
        let end = Mark::RECORDS_START;
        Self {
            id,
            config,
            incarnation: recorded.incarnation,
            recorded: Some(recorded),
            failure: None,
            life: 0,
            sealed: Vec::new(),
            active: None,
            next: None,
            offsets: Offsets::recovered(Offset::ZERO, end),
            segment_stored: end,
            in_segment: end,
            fill_bytes_next: segment::FILL_BYTES_MIN,
            preparing: false,
            flushing_beside: false,
            finishing: false,
            compacting: false,
            cutting: false,
            used: true,
            queued: false,
            write_back_wanted: false,
            roll_wanted: false,
            durable_end_unrecorded: false,
            unflushed: false,
            start_wanted: Offset::ZERO,
            start_unrecorded: false,
            journaled_end: RECORDS_START,
            pinned_sequence: None,
            leader_epoch: LeaderEpoch::new(-1),
            tail: Tail::default(),
            index: OffsetIndex::default(),
            epochs: Vec::new(),
            first_timestamp: None,
            producers: ProducerStates::default(),
            lost_producers: None,
            clean_end: Offset::ZERO,
            saved_end: RECORDS_START,
            saved_producers: None,
            read_ahead: ReadAhead::default(),
            traffic: Traffic::default(),
            waiters: Waiters::default(),
        }
    }

    /// Takes in what was read from the device: the log is open.
    pub fn open(&mut self, opened: OpenedLog<E>) {
        let OpenedLog { sealed, active, start_offset, end, index, epochs, first_timestamp, .. } = opened;
        let (producers, leader_epoch, saved) = (opened.producers, opened.leader_epoch, opened.saved);
        if let Some(recorded) = self.recorded.take() {
            self.incarnation = recorded.incarnation;
            // What is known may be of records that were never flushed, or are cut off since.
            self.clean_end = recorded.compacted_end.min(end.offset);
        }
        self.failure = None;
        self.sealed = sealed;
        self.active = active;
        (self.offsets, self.start_wanted) = (Offsets::recovered(start_offset, end), start_offset);
        (self.segment_stored, self.in_segment) = (end, end);
        self.index = index;
        self.epochs = epochs;
        self.journaled_end = RECORDS_START;
        self.pinned_sequence = None;
        self.first_timestamp = first_timestamp;
        self.producers = producers;
        if let Some(lost) = self.lost_producers.take() {
            self.producers.fence(&lost, end.offset);
        }
        self.leader_epoch = leader_epoch;
        self.saved_end = saved.map_or(RECORDS_START, |(position, _)| position);
        self.saved_producers = saved.map(|(_, offset)| offset);
    }

    /// What the broker may tell of the offsets.
    pub fn offsets(&self) -> LogOffsets {
        let visible = self.visible().offset;
        LogOffsets {
            start: self.offsets.start(),
            last_stable: visible,
            high_watermark: visible,
            log_end: self.offsets.written().offset,
            leader_epoch: self.leader_epoch,
        }
    }

    /// The log start offset, whether the log is open or not.
    pub fn start_offset(&self) -> Offset {
        self.recorded.as_ref().map_or(self.offsets.start(), |recorded| recorded.start_offset)
    }

    /// The end of what readers may see.
    pub fn visible(&self) -> Mark {
        self.offsets.visible(self.config.flush_policy)
    }

    /// Copies a batch to the end of the log, with its base offset and `epoch` filled in, and its time if the log's
    /// configuration says so. Returns that offset and what resolves once the batch is acknowledged. `None` when the
    /// offsets would leave the number range.
    pub fn append(
        &mut self,
        batch: &BatchView<'_>,
        epoch: LeaderEpoch,
        now_ms: i64,
        allocate: impl FnOnce(usize) -> AppendBuffer<<E::Disk as Disk>::Buffer>,
    ) -> Option<(Offset, OneshotReceiver<Durability>)> {
        let Mark { offset: base_offset, position } = self.offsets.written();
        let header = batch.header();
        let end_offset = base_offset.checked_add(i64::from(header.last_offset_delta.get()) + 1)?;
        let bytes = batch.bytes();
        let append_time = (self.config.timestamp_type == TimestampType::LogAppendTime).then_some(now_ms);
        let timestamp = append_time.unwrap_or_else(|| batch.max_timestamp());
        let adjust = |copy: &mut [u8]| {
            batch::assign_offsets(copy, base_offset.get(), epoch.get());
            if append_time.is_some() {
                batch::assign_log_append_time(copy, timestamp);
            } else if timestamp != header.max_timestamp.get() {
                batch::assign_max_timestamp(copy, timestamp);
            }
        };
        self.tail.append(position, bytes, adjust, allocate);
        self.offsets.append(Mark { offset: end_offset, position: position.plus(bytes.len()) });
        self.index.push(base_offset, self.locate_active(position), timestamp);
        self.first_timestamp.get_or_insert(timestamp);
        let mut header = *header;
        header.max_timestamp.set(timestamp);
        self.producers.note(&header, base_offset, end_offset);
        if epoch > self.leader_epoch || self.epochs.is_empty() {
            self.epochs.push(EpochStart { epoch, start_offset: base_offset });
        }
        self.leader_epoch = epoch;
        Some((base_offset, self.acknowledged(end_offset)))
    }

    /// Whether the active segment has its size or age, so that `batch` belongs into the next one.
    pub fn roll_due(&self, batch: &BatchView<'_>) -> bool {
        let Some(active) = &self.active else { return false };
        let position = self.offsets.written().position;
        if position == active.origin {
            return false;
        }
        let bytes = self.locate_active(position).plus(batch.bytes().len()).get();
        let age_ms = self.first_timestamp.map_or(0, |first| batch.max_timestamp().saturating_sub(first));
        let too_old = u128::try_from(age_ms).is_ok_and(|age_ms| age_ms > self.config.roll_age_max().as_millis());
        bytes > self.config.segment_bytes || too_old
    }

    /// Goes on in the prepared next segment, if there is one and the one before the active one is finished. Says by how
    /// many bytes the end of the log moved.
    pub fn roll(&mut self) -> Option<usize> {
        // The round that writes the rest of the segment finds it open.
        let is_ready = self.has_room() && self.is_file_open();
        self.active.as_ref().filter(|active| !active.unnamed && is_ready)?;
        let (file, filled_end) = self.next.take()?;
        let active = self.active.take().expect("it was there above");
        let end = self.offsets.written();
        let origin = end.position.block_ceil();
        let bytes = position_in_file(end.position, active.origin);
        let index = SegmentIndex {
            end: bytes,
            offsets: std::mem::take(&mut self.index),
            epochs: std::mem::take(&mut self.epochs),
        };
        self.sealed.push(SealedSegment {
            base_offset: active.base_offset,
            end_offset: end.offset,
            bytes: bytes.get(),
            origin: Some(active.origin),
            file: active.file,
            file_used: true,
            cache_key: active.cache_key,
            timestamp_max: index.offsets.timestamp_max(),
            index: Some(Rc::new(index)),
            index_used: true,
            finished: false,
        });
        let base_offset = end.offset;
        let file = Some(file.renumbered(base_offset));
        self.active = Some(ActiveSegment {
            base_offset,
            origin,
            file,
            file_used: true,
            filled_end,
            unnamed: true,
            cache_key: None,
            header: HeaderState::Pending,
        });
        self.first_timestamp = None;
        self.tail.roll();
        self.offsets.roll(origin);
        self.segment_stored = self.behind_roll(self.segment_stored);
        self.in_segment = self.behind_roll(self.in_segment);
        self.roll_wanted = false;
        Some(origin.bytes_since(end.position))
    }

    /// A mark at the end of the segment before the active one is the start of the active one.
    pub fn behind_roll(&self, mark: Mark) -> Mark {
        let at_start = self.active.as_ref().is_some_and(|active| active.base_offset == mark.offset);
        if at_start { Mark { position: self.origin(), ..mark } } else { mark }
    }

    /// Resolves once everything below `end` is acknowledged.
    pub fn acknowledged(&mut self, end: Offset) -> OneshotReceiver<Durability> {
        self.waiters.append(end, self.visible().offset)
    }

    /// Bytes that are not written to a segment yet.
    pub fn unsegmented_bytes(&self) -> usize {
        self.offsets.written().position.bytes_since(self.segment_stored.position)
    }

    /// Bytes that are not written anywhere yet.
    pub fn unstored_bytes(&self) -> usize {
        self.offsets.written().position.bytes_since(self.offsets.stored().position)
    }

    /// Whether the active segment has no header yet.
    pub fn header_pending(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.header == HeaderState::Pending)
    }

    /// Whether a task works on its files.
    pub fn is_worked_on(&self) -> bool {
        self.preparing || self.finishing || self.compacting
    }

    /// Bytes that recovery would have to read.
    pub fn unsaved_bytes(&self) -> usize {
        self.offsets.written().position.bytes_since(self.saved_end)
    }

    /// Whether the active segment's header is on the device.
    pub fn is_header_durable(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.header == HeaderState::Durable)
    }

    /// Whether all that was appended is on the device in segments, and the active segment's header with it. What only the
    /// journal has made durable does not count.
    pub fn is_settled(&self) -> bool {
        self.is_header_durable() && self.in_segment == self.offsets.written()
    }

    /// Whether a flush has followed on all that was written to the active segment.
    pub fn is_file_flushed(&self) -> bool {
        self.is_header_durable() && self.in_segment == self.segment_stored
    }

    /// Whether a round has to write the segments: for what cannot be a piece in the journal.
    pub fn needs_segment_write(&self) -> bool {
        self.header_pending() || self.offsets.stored().position < self.origin()
    }

    /// Whether an append has to wait until the partial last block is in memory.
    pub fn needs_prefix(&self) -> bool {
        self.tail.needs_prefix(self.offsets.written().position)
    }

    /// Everything below `mark` is written: to the segments, or to the journal.
    pub fn make_stored(&mut self, mark: Mark, in_segment: bool) {
        let mark = self.behind_roll(mark);
        self.offsets.make_stored(mark);
        if in_segment {
            self.segment_stored = mark;
            self.tail.mark_written(mark.position);
        }
        self.waiters.advance(self.visible().offset);
    }

    /// Everything that is stored up to `stored`, and in segments up to `segment_stored`, was flushed.
    pub fn make_durable(&mut self, stored: Mark, segment_stored: Mark) {
        self.offsets.make_durable(self.behind_roll(stored));
        self.in_segment = self.in_segment.max(self.behind_roll(segment_stored));
        if self.in_segment == self.offsets.stored() {
            self.pinned_sequence = None;
        }
        self.waiters.advance(self.visible().offset);
    }

    /// Notifies `event` once the high watermark passes `beyond`. True when it already has, or the log is offline: then
    /// nothing is armed.
    pub fn watch(&mut self, beyond: Offset, event: &Rc<Event>) -> bool {
        if self.recorded.is_some() || self.visible().offset > beyond {
            return true;
        }
        self.waiters.watch(beyond, event);
        false
    }
}
