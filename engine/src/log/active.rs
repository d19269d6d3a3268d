//! The segment of a log that takes appends.

use millrace_runtime::Env;

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
    /// Up to here, in the file, extents are written with zeros or records. On a block boundary.
    pub filled_end: Position,
    /// The file still has the name of a prepared segment, and the one before it is not finished.
    pub unnamed: bool,
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
