//! Bytes of segments by way of the read cache.
//!
//! - Only what cannot change is read: whole blocks below what is stored in a segment, and all of a segment that is sealed
//!   and stored.
//! - The cache knows a segment by a number that is given once. A file that was cut, replaced or opened again after a
//!   failure has another number, so nothing that was read before is ever taken for its content.
//! - A read that meets such a change is [`GatherError::Changed`]: the caller looks the segment up again.

use std::io;
use std::ops::Range;
use std::rc::Rc;

use futures_util::future::{join, join_all};
use millrace_runtime::{Disk, Env};

use super::extents::{self, Extent};
use super::{Inner, ReadError, SharedLog};
use crate::io::Slice;
use crate::log::Log;
use crate::log::sealed::position_in_file;
use crate::model::{Offset, Position};
use crate::read_cache::{CHUNK_BYTES, ChunkError, ChunkExtent, ChunkKey};
use crate::segment::Segment;

/// One reader gets at most so many chunks ahead.
const AHEAD_CHUNKS_MAX: u32 = 16;
/// Of the cache, a reader gets at most this part ahead: what is loaded early must still be there when it is wanted.
const AHEAD_SHARE: usize = 8;

/// Why bytes could not be gathered.
pub(super) enum GatherError {
    /// The segment was removed or replaced, or the log opened again. What is there now is to be looked up.
    Changed,
    /// Reading failed.
    Failed(ReadError),
}

impl From<ReadError> for GatherError {
    fn from(error: ReadError) -> Self {
        Self::Failed(error)
    }
}

type Slices<E> = Vec<Slice<<<E as Env>::Disk as Disk>::Buffer>>;

impl<E: Env> Inner<E> {
    /// The number by which the cache knows a segment; `None` when there is no such segment.
    pub(super) fn cache_key(&self, log: &mut Log<E>, base_offset: Offset) -> Option<u64> {
        let key = log.cache_key_mut(base_offset)?;
        Some(*key.get_or_insert_with(|| {
            let next = self.cache_key_next.get();
            self.cache_key_next.set(next + 1);
            next
        }))
    }

    /// Nobody is to get any more what was read of a segment.
    pub(super) fn uncache(&self, key: Option<u64>) {
        if let Some(key) = key {
            self.read_cache.invalidate(key);
        }
    }
}

/// Whether the extent's segment is still the same file.
pub(super) fn is_current<E: Env>(log: &SharedLog<E>, extent: Extent) -> bool {
    log.borrow_mut().cache_key_mut(extent.base_offset).is_some_and(|key| *key == Some(extent.cache_key))
}

/// Up to where, in its file, an extent's segment can be read from the device and never changes again.
pub(super) fn readable_end<E: Env>(log: &Log<E>, extent: Extent) -> Position {
    let stored = |origin: Position| position_in_file(log.segment_stored.position.max(origin), origin).block_floor();
    if extent.base_offset == log.active_base() {
        return stored(log.origin());
    }
    let place = log.sealed.partition_point(|sealed| sealed.base_offset < extent.base_offset);
    let Some(sealed) = log.sealed.get(place) else { return Position::default() };
    let end = Position::new(sealed.bytes).block_ceil();
    let unstored = sealed.origin.filter(|_| sealed.memory_end().is_some_and(|end| log.segment_stored.position < end));
    unstored.map_or(end, |origin| stored(origin).min(end))
}

/// Reads `range`, not empty and below [`readable_end`], of an extent's segment.
pub(super) async fn read<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    extent: Extent,
    range: Range<Position>,
) -> Result<Slices<E>, GatherError> {
    if !is_current(log, extent) {
        return Err(GatherError::Changed);
    }
    let readable_end = readable_end(&log.borrow(), extent);
    let (first, last) = (chunk_index(range.start), chunk_index(Position::new(range.end.get() - 1)));
    let ahead_max = u32::try_from(inner.config.read_cache_bytes_max / CHUNK_BYTES / AHEAD_SHARE).unwrap_or(u32::MAX);
    let ahead = log.borrow_mut().read_ahead.note(extent.cache_key, first..last + 1, ahead_max.min(AHEAD_CHUNKS_MAX));
    let chunk = |index: u32| {
        let (start, end) = (chunk_start(index), chunk_start(index + 1).min(readable_end));
        let readable_bytes = if start < end { end.bytes_since(start) } else { 0 };
        (ChunkKey { segment: extent.cache_key, index }, start, readable_bytes)
    };
    let wanted = join_all((first..=last).map(|index| {
        let (key, start, readable_bytes) = chunk(index);
        let needed_bytes = range.end.min(chunk_start(index + 1)).bytes_since(start);
        let load = move || load(Rc::clone(inner), Rc::clone(log), extent, start, readable_bytes);
        inner.read_cache.read(key, ChunkExtent { needed_bytes, readable_bytes }, load)
    }));
    // After what is wanted now.
    let early = async {
        for (key, start, readable_bytes) in ahead.map(chunk).take_while(|(_, _, bytes)| *bytes > 0) {
            let load = || load(Rc::clone(inner), Rc::clone(log), extent, start, readable_bytes);
            inner.read_cache.load_early(key, readable_bytes, load);
        }
    };
    let (chunks, ()) = join(wanted, early).await;
    let mut slices = Vec::with_capacity(chunks.len());
    for (index, chunk) in (first..=last).zip(chunks) {
        let start = chunk_start(index);
        let chunk = chunk.map_err(|error| failure(inner, log, extent, start, &error))?;
        let (from, to) = (range.start.max(start), range.end.min(chunk_start(index + 1)));
        slices.push(Slice::new(chunk, from.bytes_since(start), to.bytes_since(start)));
    }
    Ok(slices)
}

/// Reads a chunk from the device. The file is opened only here: what is in memory needs none.
async fn load<E: Env>(
    inner: Rc<Inner<E>>,
    log: SharedLog<E>,
    extent: Extent,
    start: Position,
    bytes: usize,
) -> io::Result<Option<<E::Disk as Disk>::Buffer>> {
    let segment: Segment<E> = extents::open(&inner, &log, extent.base_offset).await?;
    if !is_current(&log, extent) {
        return Err(io::Error::other("the segment changed while it was opened"));
    }
    segment.read(start, bytes).await
}

fn failure<E: Env>(
    inner: &Inner<E>,
    log: &SharedLog<E>,
    extent: Extent,
    start: Position,
    error: &ChunkError,
) -> GatherError {
    match error {
        ChunkError::Io(error) if is_current(log, extent) => {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                return extents::damaged(inner, log, extent, start, "the file is shorter than the log").into();
            }
            GatherError::Failed(extents::unreadable(error))
        }
        ChunkError::Io(_) | ChunkError::Invalidated => GatherError::Changed,
    }
}

fn chunk_index(position: Position) -> u32 {
    u32::try_from(position.get() / CHUNK_SIZE).expect("a segment has fewer than 2^32 chunks")
}

fn chunk_start(index: u32) -> Position {
    Position::new(u64::from(index) * CHUNK_SIZE)
}

#[expect(clippy::as_conversions, reason = "a constant, and try_from is not const")]
const CHUNK_SIZE: u64 = CHUNK_BYTES as u64;
