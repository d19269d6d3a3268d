//! What is kept of a log that is not open: where it was last known to be durable.

use millrace_runtime::Env;

use super::offsets::Mark;
use super::sealed::position_in_file;
use super::{Failure, Log};
use crate::model::{Incarnation, LeaderEpoch, Offset, Position};

/// Where a log was last known to be durable. All that is kept of a log that is not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The log start offset.
    pub start_offset: Offset,
    /// Leader epoch of the last batch; -1 when that is not known.
    pub leader_epoch: LeaderEpoch,
    /// First offset of the segment that `end` lies in; `None` when nothing is known to have been appended.
    pub segment_base: Option<Offset>,
    /// The end of what is known to be durable, as a position in that segment's file. Damage below is corruption.
    pub end: Mark,
    /// The log ends exactly there.
    pub clean: bool,
    /// The log was cut there: what its files hold behind that is to be removed before the log is opened.
    pub cut_pending: bool,
    /// How often the log was cut.
    pub incarnation: Incarnation,
    /// Records below were compacted; a lower bound.
    pub compacted_end: Offset,
    /// Bytes that are to be written to their segments before anything is read: all that the journal has of the log and the
    /// segments may not, in a round that is under way too. What is in the journal must not be appended to otherwise.
    pub pieces: Vec<Piece>,
}

/// Whole batches that are durable elsewhere than in their segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First offset of the segment.
    pub segment_base: Offset,
    /// Where they belong in its file.
    pub position: Position,
    /// The batches.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// Where it ends: the segment, and the position in it.
    pub fn end(&self) -> (Offset, Position) {
        (self.segment_base, self.position.plus(self.bytes.len()))
    }
}

impl Recorded {
    /// A log of which nothing is known.
    pub fn nothing() -> Self {
        Self {
            start_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::new(-1),
            segment_base: None,
            end: Mark::RECORDS_START,
            clean: false,
            cut_pending: false,
            incarnation: Incarnation::FIRST,
            compacted_end: Offset::ZERO,
            pieces: Vec::new(),
        }
    }
}

impl<E: Env> Log<E> {
    /// Takes the log offline: everyone who waits is told, and what is in memory is dropped. What is left is where it is
    /// known to be durable, and the bytes for which only the journal has that.
    pub fn discard(&mut self, failure: &Failure) {
        self.failure = Some(failure.clone());
        self.waiters.fail(failure);
        if self.recorded.is_some() {
            return;
        }
        let recorded = self.recorded();
        let mut discarded = Self::new(self.id, self.config.clone(), recorded);
        discarded.failure = self.failure.take();
        discarded.life = self.life + 1;
        discarded.leader_epoch = self.leader_epoch;
        (discarded.preparing, discarded.finishing, discarded.queued) = (self.preparing, self.finishing, self.queued);
        (discarded.compacting, discarded.cutting) = (self.compacting, self.cutting);
        discarded.durable_end_unrecorded = self.durable_end_unrecorded;
        (discarded.unflushed, discarded.start_unrecorded) = (self.unflushed, self.start_unrecorded);
        discarded.pinned_sequence = self.pinned_sequence;
        discarded.lost_producers = Some(std::mem::take(&mut self.producers));
        *self = discarded;
    }

    /// Where the log is known to be durable, with the bytes that only the journal holds.
    pub fn recorded(&self) -> Recorded {
        if let Some(recorded) = &self.recorded {
            return recorded.clone();
        }
        let durable = self.offsets.durable();
        let (base, position) = self.locate_durable(durable.position);
        Recorded {
            start_offset: self.offsets.start(),
            leader_epoch: self.leader_epoch,
            segment_base: self.active.as_ref().map(|_| base),
            end: Mark { offset: durable.offset, position },
            clean: false,
            cut_pending: false,
            incarnation: self.incarnation,
            compacted_end: self.clean_end,
            pieces: self.pieces(self.in_segment.position, self.journaled_end.max(durable.position)),
        }
    }

    /// The segment in which what is durable ends, by its first offset, and the position in its file. A segment whose header
    /// is not durable does not count yet.
    pub fn locate_durable(&self, position: Position) -> (Offset, Position) {
        match self.sealed.last() {
            Some(last) if position == self.origin() && !self.is_header_durable() => {
                (last.base_offset, Position::new(last.bytes))
            }
            _ => self.locate(position),
        }
    }

    /// Copies of what is in memory between two positions, cut at the borders of segments.
    fn pieces(&self, start: Position, end: Position) -> Vec<Piece> {
        let origins = self.sealed.iter().filter_map(|sealed| {
            let origin = sealed.origin?;
            Some((sealed.base_offset, origin, sealed.memory_end()?))
        });
        let active = (self.active_base(), self.origin(), self.offsets.written().position);
        let start = start.max(self.tail.start().unwrap_or(end));
        let mut pieces = Vec::new();
        for (segment_base, origin, segment_end) in origins.chain([active]) {
            let mut position = start.max(origin);
            for slice in self.tail.slices(position, end.min(segment_end)) {
                let bytes = slice.as_slice().to_vec();
                let next = position.plus(bytes.len());
                pieces.push(Piece { segment_base, position: position_in_file(position, origin), bytes });
                position = next;
            }
        }
        pieces
    }
}
