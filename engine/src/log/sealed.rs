//! The segments of a log that take no more appends.

use std::rc::Rc;

use millrace_runtime::Env;

use super::Log;
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
    /// The file was used since somebody last looked.
    pub file_used: bool,
    /// The cache of what was read knows the file by this number, once something was. A file that takes the place of
    /// another gets a number of its own.
    pub cache_key: Option<u64>,
    /// Its index, once it was needed.
    pub index: Option<Rc<SegmentIndex>>,
    /// The index was used since somebody last looked.
    pub index_used: bool,
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
            file_used: false,
            cache_key: None,
            index: None,
            index_used: false,
            timestamp_max: None,
            finished: true,
        }
    }

    /// Bytes of its records, without the header. 0 until it is known how large the segment is.
    pub fn record_bytes(&self) -> u64 {
        self.bytes.saturating_sub(RECORDS_START.get())
    }

    /// Position in the log behind its last record, while it has an origin.
    pub fn memory_end(&self) -> Option<Position> {
        let records = Position::new(self.bytes.max(RECORDS_START.get())).bytes_since(RECORDS_START);
        self.origin.map(|origin| origin.plus(records))
    }
}

impl<E: Env> Log<E> {
    /// The sealed segment that begins with `base_offset`.
    pub fn find_sealed(&self, base_offset: Offset) -> Option<&SealedSegment<E>> {
        let place = self.sealed.partition_point(|sealed| sealed.base_offset < base_offset);
        self.sealed.get(place).filter(|sealed| sealed.base_offset == base_offset)
    }

    /// The sealed segment that begins with `base_offset`.
    pub fn find_sealed_mut(&mut self, base_offset: Offset) -> Option<&mut SealedSegment<E>> {
        let place = self.sealed.partition_point(|sealed| sealed.base_offset < base_offset);
        self.sealed.get_mut(place).filter(|sealed| sealed.base_offset == base_offset)
    }

    /// Bytes of its records, without the headers of segments. A sealed segment counts once it is known how large it is.
    pub fn record_bytes(&self) -> u64 {
        let active_end = self.locate_active(self.offsets.written().position);
        let active_bytes = active_end.get().saturating_sub(RECORDS_START.get());
        active_bytes + self.sealed.iter().map(SealedSegment::record_bytes).sum::<u64>()
    }

    /// Segments whose files are open.
    pub fn open_file_count(&self) -> usize {
        let sealed = self.sealed.iter().filter(|sealed| sealed.file.is_some()).count();
        let active = self.active.as_ref().is_some_and(|active| active.file.is_some());
        sealed + usize::from(active) + usize::from(self.next.is_some())
    }

    /// Memory of the indexes of sealed segments, in bytes.
    pub fn sealed_index_bytes(&self) -> usize {
        self.sealed.iter().filter_map(|sealed| sealed.index.as_ref()).map(|index| index.memory_bytes()).sum()
    }

    /// The number by which the cache knows the segment that begins with `base_offset`; `None` when there is none.
    pub fn cache_key_mut(&mut self, base_offset: Offset) -> Option<&mut Option<u64>> {
        if self.active.as_ref().is_some_and(|active| active.base_offset == base_offset) {
            return self.active.as_mut().map(|active| &mut active.cache_key);
        }
        self.find_sealed_mut(base_offset).map(|sealed| &mut sealed.cache_key)
    }

    /// The numbers by which the cache knows its segments.
    pub fn cache_keys(&self) -> impl Iterator<Item = u64> {
        let active = self.active.iter().filter_map(|active| active.cache_key);
        self.sealed.iter().filter_map(|sealed| sealed.cache_key).chain(active)
    }
}

/// Where the byte at `position` of the log lies in a segment's file whose first record has the position `origin`.
pub fn position_in_file(position: Position, origin: Position) -> Position {
    RECORDS_START.plus(position.bytes_since(origin))
}
