//! The segment of a log that takes appends, and where a log's bytes lie in its segments.

use millrace_runtime::Env;

use super::Log;
use super::sealed::position_in_file;
use crate::format::segment_header::RECORDS_START;
use crate::model::{Offset, Position};
use crate::segment::Segment;

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
}
