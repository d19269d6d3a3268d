//! The segments of a log that take no more appends.

use std::rc::Rc;

use millrace_runtime::Env;

use super::index::SegmentIndex;
use crate::format::segment_header::RECORDS_START;
use crate::model::{Offset, Position};
use crate::segment::Segment;

/// One of them.
pub struct SealedSegment<E: Env> {
    /// First offset, also the file's name.
    pub base_offset: Offset,
    /// First offset of the segment behind it.
    pub end_offset: Offset,
    /// Length of the file in bytes, as far as it holds records.
    pub bytes: u64,
    /// Position in the log of its first record, while the log's tail may hold bytes of it: it was rolled in this life of
    /// the store.
    pub origin: Option<Position>,
    /// The open file.
    pub file: Option<Segment<E>>,
    /// Its index, once it was needed.
    pub index: Option<Rc<SegmentIndex>>,
    /// Largest timestamp in it, once that was needed.
    pub timestamp_max: Option<i64>,
    /// Whether its index is on the device and its file is cut to what it holds.
    pub finished: bool,
}

impl<E: Env> SealedSegment<E> {
    /// A segment that is known by its name only.
    pub fn named(base_offset: Offset, end_offset: Offset) -> Self {
        Self {
            base_offset,
            end_offset,
            bytes: 0,
            origin: None,
            file: None,
            index: None,
            timestamp_max: None,
            finished: true,
        }
    }

    /// Position in the log behind its last record, while it has an origin.
    pub fn memory_end(&self) -> Option<Position> {
        let records = Position::new(self.bytes.max(RECORDS_START.get())).bytes_since(RECORDS_START);
        self.origin.map(|origin| origin.plus(records))
    }
}

/// Where the byte at `position` of the log lies in a segment's file whose first record has the position `origin`.
pub fn position_in_file(position: Position, origin: Position) -> Position {
    RECORDS_START.plus(position.bytes_since(origin))
}
