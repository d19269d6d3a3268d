//! One partition's log in memory: its offsets, the bytes not yet in its segment, its index, and who waits for it.
//!
//! A [`Log`] does no I/O. The store's rounds ask it what is to be written, write it, and tell it what became durable.
//!
//! ```text
//! RECORDS_START          in_segment          durable                 written
//!      |----- segment file -----|-- journal only --|-- memory only --|
//! ```
//!
//! Invariants: `in_segment <= durable <= written`; `durable..written` is in the tail's memory, and so is
//! `in_segment..durable` (it has to be written to the segment one day).

pub mod config;
pub mod index;
pub mod offsets;
pub mod tail;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::{Rc, Weak};

use millrace_protocol::batch::{self, BatchView};
use millrace_runtime::local::{Event, OneshotReceiver, OneshotSender, oneshot};
use millrace_runtime::{Disk, Env};
use thiserror::Error;

use crate::format::segment_header::RECORDS_START;
use crate::model::{LeaderEpoch, Offset, PartitionId, Position};
use crate::producer_state::ProducerStates;
use crate::segment::Segment;
use config::LogConfig;
use index::OffsetIndex;
use offsets::{LogOffsets, Mark, Offsets};
use tail::Tail;

/// Why a log takes and gives nothing any more until it is recovered.
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

/// Where bytes became durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InSegment {
    /// In the log's segment.
    Yes,
    /// In the shard's journal only.
    No,
}

/// The answer to a waiting append: durable, or the reason why it may not be.
pub type Durability = Result<(), Failure>;

/// What is learnt by reading a log's batches.
#[derive(Debug, Default)]
pub struct LogContents {
    /// Where batches start.
    pub index: OffsetIndex,
    /// What idempotent producers have sent.
    pub producers: ProducerStates,
}

/// What recovery knows of a log.
#[derive(Debug)]
pub struct RecoveredLog {
    /// First offset of its segment; `None` before the first append.
    pub segment_base: Option<Offset>,
    /// Its offsets; everything is in the segment.
    pub offsets: Offsets,
    /// How far it is known to have been durable. The end of the log, unless damage was found: then it is further on, and
    /// checkpoints have to remember it, or the damage would pass for a torn end at the next start.
    pub recorded_end: Mark,
    /// What its segment's batches say; `None` when it was not read because it is known to be whole.
    pub contents: Option<LogContents>,
    /// Leader epoch of the last batch.
    pub leader_epoch: LeaderEpoch,
    /// Set when damage was found.
    pub failure: Option<Failure>,
}

impl RecoveredLog {
    /// A log that was never appended to.
    pub fn empty() -> Self {
        Self {
            segment_base: None,
            offsets: Offsets::recovered(Offset::ZERO, Mark::RECORDS_START),
            recorded_end: Mark::RECORDS_START,
            contents: Some(LogContents::default()),
            leader_epoch: LeaderEpoch::new(-1),
            failure: None,
        }
    }
}

/// One partition's log.
#[expect(clippy::struct_excessive_bools, reason = "each is a task or a wish of its own; all combinations occur")]
pub struct Log<E: Env> {
    /// Its partition.
    pub id: PartitionId,
    /// Its topic's configuration, as far as it concerns a log.
    pub config: LogConfig,
    /// First offset of its segment file, once there is one.
    pub segment_base: Option<Offset>,
    /// Its segment, while it is open.
    pub segment: Option<Segment<E>>,
    /// Its marks.
    pub offsets: Offsets,
    /// Everything below is durable in the segment. Invariant: at most `offsets.durable()` while the log is online.
    pub in_segment: Mark,
    /// Up to here the segment's extents are written with zeros or records. On a block boundary, 0 until it is open.
    pub filled_end: Position,
    /// How many bytes the next step of filling adds.
    pub fill_bytes_next: u64,
    /// A task fills the segment or loads the partial last block.
    pub preparing: bool,
    /// The log stands in the store's queue of logs with something to write.
    pub queued: bool,
    /// The next round writes the segment even for a small tail.
    pub write_back_wanted: bool,
    /// The next round notes in the journal how far the log is durable in its segment.
    pub durable_end_unrecorded: bool,
    /// The oldest journal round that holds bytes of this log which are not in its segment.
    pub pinned_sequence: Option<u64>,
    /// Set once the log went offline.
    pub failure: Option<Failure>,
    /// Leader epoch of the last batch.
    pub leader_epoch: LeaderEpoch,
    /// The bytes in memory.
    pub tail: Tail<<E::Disk as Disk>::Buffer>,
    /// What the batches from `unread_end` on say.
    pub contents: LogContents,
    /// Batches below were not read yet: the log was closed in order and not used since.
    pub unread_end: Position,
    waiters: VecDeque<(Offset, OneshotSender<Durability>)>,
    watches: Vec<(Offset, Weak<Event>)>,
}

impl<E: Env> Log<E> {
    /// The log as recovery found it.
    pub fn new(id: PartitionId, recovered: RecoveredLog) -> Self {
        let RecoveredLog { segment_base, offsets, recorded_end, contents, leader_epoch, failure } = recovered;
        let unread_end = if contents.is_some() { RECORDS_START } else { offsets.durable().position };
        Self {
            id,
            config: LogConfig::default(),
            segment_base,
            segment: None,
            in_segment: recorded_end,
            offsets,
            filled_end: Position::default(),
            fill_bytes_next: crate::segment::FILL_BYTES_MIN,
            preparing: false,
            queued: false,
            write_back_wanted: false,
            durable_end_unrecorded: false,
            pinned_sequence: None,
            failure,
            leader_epoch,
            tail: Tail::default(),
            contents: contents.unwrap_or_default(),
            unread_end,
            waiters: VecDeque::new(),
            watches: Vec::new(),
        }
    }

    /// What the broker may tell of the offsets.
    pub fn offsets(&self) -> LogOffsets {
        let visible = self.offsets.visible().offset;
        LogOffsets {
            start: self.offsets.start(),
            last_stable: visible,
            high_watermark: visible,
            log_end: self.offsets.written().offset,
            leader_epoch: self.leader_epoch,
        }
    }

    /// Copies a batch to the end of the log, with its base offset and `epoch` filled in, and returns that offset and what
    /// resolves once the batch is durable. `None` when the offsets would leave the number range.
    pub fn append(
        &mut self,
        batch: &BatchView<'_>,
        epoch: LeaderEpoch,
        allocate: impl FnOnce(usize) -> <E::Disk as Disk>::Buffer,
    ) -> Option<(Offset, OneshotReceiver<Durability>)> {
        let Mark { offset: base_offset, position } = self.offsets.written();
        let end_offset = base_offset.checked_add(i64::from(batch.header().last_offset_delta.get()) + 1)?;
        let bytes = batch.bytes();
        self.tail.append(position, bytes, |copy| batch::assign_offsets(copy, base_offset.get(), epoch.get()), allocate);
        self.offsets.append(Mark { offset: end_offset, position: position.plus(bytes.len()) });
        self.contents.index.push(base_offset, position, batch.header().max_timestamp.get());
        self.contents.producers.note(batch.header(), base_offset, end_offset);
        self.leader_epoch = epoch;
        Some((base_offset, self.durable(end_offset)))
    }

    /// Resolves once everything below `end` is durable.
    pub fn durable(&mut self, end: Offset) -> OneshotReceiver<Durability> {
        let (sender, receiver) = oneshot();
        if end <= self.offsets.durable().offset {
            sender.send(Ok(()));
        } else {
            // Nearly always the last place; only one who waits for a duplicate comes in between.
            let place = self.waiters.partition_point(|(other, _)| *other <= end);
            self.waiters.insert(place, (end, sender));
        }
        receiver
    }

    /// Bytes that are not in the segment yet.
    pub fn unsegmented_bytes(&self) -> usize {
        self.offsets.written().position.bytes_since(self.in_segment.position)
    }

    /// Bytes that are not durable yet.
    pub fn undurable_bytes(&self) -> usize {
        self.offsets.written().position.bytes_since(self.offsets.durable().position)
    }

    /// Up to where the segment is to be filled now: a step further than now if all that was appended does not fit, or
    /// only just does.
    pub fn fill_target(&self) -> Option<Position> {
        let needed_end = self.offsets.written().position.block_ceil();
        let reserve_end = Position::new(needed_end.get() + self.fill_bytes_next / 4);
        let target = Position::new(needed_end.max(self.filled_end).get() + self.fill_bytes_next);
        (reserve_end > self.filled_end).then_some(target)
    }

    /// Whether the segment is open and has room for all that was appended.
    pub fn has_room(&self) -> bool {
        self.segment.is_some() && self.offsets.written().position.block_ceil() <= self.filled_end
    }

    /// Whether an append has to wait until the partial last block is in memory.
    pub fn needs_prefix(&self) -> bool {
        self.tail.needs_prefix(self.offsets.written().position)
    }

    /// Everything below `mark` became durable. Wakes whom that concerns.
    pub fn make_durable(&mut self, mark: Mark, in_segment: InSegment) {
        self.offsets.make_durable(mark);
        if in_segment == InSegment::Yes {
            self.in_segment = mark;
            self.tail.mark_written(mark.position);
            self.pinned_sequence = None;
        }
        while self.waiters.front().is_some_and(|(end, _)| *end <= mark.offset) {
            if let Some((_, waiter)) = self.waiters.pop_front() {
                waiter.send(Ok(()));
            }
        }
        let visible = self.offsets.visible().offset;
        self.watches.retain(|(beyond, event)| {
            let passed = visible > *beyond;
            if let Some(event) = event.upgrade().filter(|_| passed) {
                event.notify();
            }
            !passed
        });
    }

    /// Takes the log offline: every waiter and watcher is told, nothing is appended or read any more.
    pub fn fail(&mut self, failure: &Failure) {
        if self.failure.is_some() {
            return;
        }
        self.failure = Some(failure.clone());
        for (_, waiter) in self.waiters.drain(..) {
            waiter.send(Err(failure.clone()));
        }
        for (_, event) in self.watches.drain(..) {
            if let Some(event) = event.upgrade() {
                event.notify();
            }
        }
    }

    /// Notifies `event` once the high watermark passes `beyond`. True when it already has, or the log is offline: then
    /// nothing is armed.
    pub fn watch(&mut self, beyond: Offset, event: &Rc<Event>) -> bool {
        if self.failure.is_some() || self.offsets.visible().offset > beyond {
            return true;
        }
        self.watches.retain(|(_, event)| event.strong_count() > 0);
        self.watches.push((beyond, Rc::downgrade(event)));
        false
    }
}
