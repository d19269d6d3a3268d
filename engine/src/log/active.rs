//! The segment of a log that takes appends, and where a log's bytes lie in its segments.

use millrace_runtime::Env;

use super::Log;
use super::sealed::position_in_file;
use crate::format::segment_header::RECORDS_START;
use crate::model::{Offset, Position};
use crate::segment::{self, Segment};

/// The segment that takes appends.
pub struct ActiveSegment<E: Env> {
    /// First offset, also the file's name.
    pub base_offset: Offset,
    /// Position in the log of its first record. On a block boundary.
    pub origin: Position,
    /// The open file.
    pub file: Option<Segment<E>>,
    /// The file was used since somebody last looked.
    pub file_used: bool,
    /// Up to here, in the file, extents are written with zeros or records. On a block boundary.
    pub filled_end: Position,
    /// The file still has the name of a prepared segment, and the one before it is not finished.
    pub unnamed: bool,
    /// The cache of what was read knows the file by this number, once something was.
    pub cache_key: Option<u64>,
    /// What became of the file's header.
    pub header: HeaderState,
}

/// What became of the header of a segment that was prepared without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// The next round writes it.
    Pending,
    /// It is written, or about to be.
    Written,
    /// It is on the device.
    Durable,
}

impl<E: Env> Log<E> {
    /// Position in the active segment's file.
    pub fn locate_active(&self, position: Position) -> Position {
        position_in_file(position, self.origin())
    }

    /// Position in the log of the active segment's first record.
    pub fn origin(&self) -> Position {
        self.active.as_ref().map_or(RECORDS_START, |active| active.origin)
    }

    /// First offset of the active segment.
    pub fn active_base(&self) -> Offset {
        self.active.as_ref().map_or(Offset::ZERO, |active| active.base_offset)
    }

    /// The segment that holds `position`, by its first offset, and the position in its file.
    ///
    /// # Panics
    /// When the position lies in a segment that took no appends in this life.
    pub fn locate(&self, position: Position) -> (Offset, Position) {
        if position >= self.origin() {
            return (self.active_base(), self.locate_active(position));
        }
        let rolled = self.sealed.iter().rev().find_map(|sealed| {
            let origin = sealed.origin.filter(|origin| *origin <= position)?;
            Some((sealed.base_offset, position_in_file(position, origin)))
        });
        rolled.expect("what is in memory lies in a segment of this life")
    }

    /// Up to where the segment is to be filled now: a step further than now if all that was appended does not fit, or
    /// fits with less than half a step to spare.
    pub fn fill_target(&self) -> Option<Position> {
        let filled_end = self.active.as_ref().map_or(Position::default(), |active| active.filled_end);
        let needed_end = self.needed_end();
        // A small segment is not filled far past its own size.
        let step_max = Position::new(self.config.segment_bytes / 8).block_floor().get().max(segment::FILL_BYTES_MIN);
        let step_bytes = self.fill_bytes_next.min(step_max);
        let reserve_end = Position::new(needed_end.get() + step_bytes / 2);
        let target = Position::new(needed_end.max(filled_end).get() + step_bytes);
        (reserve_end > filled_end).then_some(target)
    }

    /// Up to where the segment has to be filled for all that was appended.
    pub fn needed_end(&self) -> Position {
        self.locate_active(self.offsets.written().position).block_ceil()
    }

    /// Whether the next segment is to be prepared: a roll is due or near.
    pub fn next_wanted(&self) -> bool {
        let Some(active) = self.active.as_ref().filter(|active| !active.unnamed) else { return false };
        let bytes = self.locate_active(self.offsets.written().position).get();
        let near = bytes / 4 >= self.config.segment_bytes / 5;
        self.next.is_none() && active.base_offset < self.offsets.written().offset && (near || self.roll_wanted)
    }

    /// Whether the segment exists and has room for all that was appended.
    pub fn has_room(&self) -> bool {
        let end = self.offsets.written().position;
        let fits = |active: &ActiveSegment<E>| position_in_file(end, active.origin).block_ceil() <= active.filled_end;
        self.active.as_ref().is_some_and(fits)
    }

    /// Whether the segment's file is open. Only what goes to the journal does without.
    pub fn is_file_open(&self) -> bool {
        self.active.as_ref().is_some_and(|active| active.file.is_some())
    }
}
