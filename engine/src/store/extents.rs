//! The segments of a log as readers see them: which one holds an offset, its index, its bytes from memory or the device.

use std::io;
use std::rc::Rc;

use millrace_runtime::{Disk, Env};

use super::chunks::{self, GatherError};
use super::{Inner, ReadError, SharedLog, prepare};
use crate::io::Slice;
use crate::log::index::{OffsetIndex, SegmentIndex};
use crate::log::sealed::{SealedSegment, position_in_file};
use crate::log::{Corruption, Failure, Log};
use crate::model::{Offset, Position};
use crate::producer_state::ProducerStates;
use crate::recovery;
use crate::recovery::scan::{self, Scan};
use crate::segment::Segment;
use crate::segment_files;

/// One segment, as it was when a read began.
#[derive(Clone, Copy)]
pub(super) struct Extent {
    /// First offset.
    pub(super) base_offset: Offset,
    /// The number by which the cache knows the segment.
    pub(super) cache_key: u64,
    /// Position in the log of its first record, if some of it may be in memory.
    origin: Option<Position>,
    /// The end of what may be read, as a position in its file.
    pub(super) end: Position,
    /// Where the segment behind it begins; `None` in the last one that may be read.
    pub(super) next_base: Option<Offset>,
}

/// First offset of the segment that holds `offset`.
pub(super) fn base_of<E: Env>(log: &Log<E>, offset: Offset) -> Offset {
    if offset >= log.active_base() {
        return log.active_base();
    }
    let after = log.sealed.partition_point(|sealed| sealed.base_offset <= offset);
    log.sealed.get(after.saturating_sub(1)).map_or(log.active_base(), |sealed| sealed.base_offset)
}

/// The segment that begins with `base_offset`, and where `look_up` says to start in it. `None` when it is gone: deleted,
/// or compacted into another.
pub(super) async fn find<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    base_offset: Offset,
    look_up: impl Fn(&OffsetIndex) -> Option<Position>,
) -> Result<Option<(Extent, Option<Position>)>, ReadError> {
    let index =
        if base_offset < log.borrow().active_base() { load_index(inner, log, base_offset).await? } else { None };
    let mut log = log.borrow_mut();
    let Some(cache_key) = inner.cache_key(&mut log, base_offset) else { return Ok(None) };
    let visible = log.visible();
    if base_offset == log.active_base() {
        // Right after a roll nothing in the active segment is visible.
        let end = visible.position.max(log.origin());
        let end = log.locate_active(end);
        let extent = Extent { base_offset, cache_key, origin: Some(log.origin()), end, next_base: None };
        return Ok(Some((extent, look_up(&log.index))));
    }
    let index = index.filter(|index| index.cache_key == cache_key);
    let (Some(index), Some(sealed)) = (index, log.find_sealed(base_offset)) else { return Ok(None) };
    let partly = sealed.origin.filter(|_| visible.offset < sealed.end_offset);
    let end = partly.map_or(index.of_segment.end, |origin| position_in_file(visible.position.max(origin), origin));
    let next_base = partly.is_none().then_some(sealed.end_offset);
    let extent = Extent { base_offset, cache_key, origin: sealed.origin, end, next_base };
    Ok(Some((extent, look_up(&index.of_segment.offsets))))
}

/// The index of a sealed segment.
pub(super) struct Loaded {
    /// The number by which the cache knows the segment.
    cache_key: u64,
    pub(super) of_segment: Rc<SegmentIndex>,
}

/// The index of a sealed segment: from memory, from its file, or by reading the segment where that does not hold. `None`
/// when there is no such segment, or another one took its place meanwhile.
pub(super) async fn load_index<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    base_offset: Offset,
) -> Result<Option<Loaded>, ReadError> {
    let (id, end_offset, cache_key) = {
        let mut log = log.borrow_mut();
        let (id, cache_key) = (log.id, inner.cache_key(&mut log, base_offset));
        let (Some(cache_key), Some(sealed)) = (cache_key, log.find_sealed_mut(base_offset)) else { return Ok(None) };
        sealed.index_used = true;
        if let Some(index) = &sealed.index {
            return Ok(Some(Loaded { cache_key, of_segment: Rc::clone(index) }));
        }
        (id, sealed.end_offset, cache_key)
    };
    let directory = inner.logs_directory.join(id.directory_name());
    let read = match segment_files::read_index(&inner.env, &directory, id, base_offset).await {
        Ok(Some((end, index))) if end == end_offset => Ok(index),
        Ok(_) => rebuild_index(inner, log, base_offset, end_offset).await,
        Err(error) => Err(unreadable(&error)),
    };
    let is_same = log.borrow_mut().cache_key_mut(base_offset).is_some_and(|key| *key == Some(cache_key));
    if !is_same {
        return Ok(None);
    }
    let of_segment = Rc::new(read?);
    let was_loaded = {
        let mut log = log.borrow_mut();
        let sealed = log.find_sealed_mut(base_offset).expect("it was there above");
        sealed.bytes = of_segment.end.get();
        sealed.timestamp_max = of_segment.offsets.timestamp_max();
        sealed.index_used = true;
        sealed.index.replace(Rc::clone(&of_segment)).is_some()
    };
    // Another reader may have loaded it too.
    if !was_loaded {
        inner.index_loaded(log, base_offset);
    }
    Ok(Some(Loaded { cache_key, of_segment }))
}

/// Learns of every sealed segment how large it is and which timestamp is its largest.
pub(super) async fn load_heads<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> Result<(), ReadError> {
    let bases: Vec<_> = log.borrow().sealed.iter().map(|sealed| sealed.base_offset).collect();
    for base in bases {
        load_head(inner, log, base).await?;
    }
    Ok(())
}

/// Learns how large a sealed segment is and which timestamp is its largest.
pub(super) async fn load_head<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    base_offset: Offset,
) -> Result<(), ReadError> {
    let known = log.borrow().find_sealed(base_offset).is_none_or(|sealed| sealed.timestamp_max.is_some());
    if known {
        return Ok(());
    }
    let loaded = load_index(inner, log, base_offset).await?;
    if let (Some(loaded), Some(sealed)) = (loaded, log.borrow_mut().find_sealed_mut(base_offset)) {
        sealed.timestamp_max = loaded.of_segment.offsets.timestamp_max();
    }
    Ok(())
}

/// Largest timestamp of the first batch of a sealed segment.
pub(super) async fn first_timestamp<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    base_offset: Offset,
) -> Result<Option<i64>, ReadError> {
    let segment = open(inner, log, base_offset).await.map_err(|error| unreadable(&error))?;
    recovery::first_timestamp(&segment).await.map_err(|error| unreadable(&error))
}

async fn rebuild_index<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    base_offset: Offset,
    end_offset: Offset,
) -> Result<SegmentIndex, ReadError> {
    let id = log.borrow().id;
    let segment = open(inner, log, base_offset).await.map_err(|error| unreadable(&error))?;
    let corrupt =
        |position: u64, what: &str| Corruption { file: segment.path().to_owned(), position, what: what.to_owned() };
    let header = segment.header(id).await.map_err(|error| unreadable(&error))?;
    let header = header.ok_or_else(|| corrupt(0, scan::HEADER_DAMAGED))?;
    let scan = Scan::of_segment(base_offset, header.compacted, ProducerStates::default());
    let scan = scan.run(&inner.env, &segment, None).await.map_err(|error| unreadable(&error))?;
    if !scan.is_complete(end_offset) {
        return Err(corrupt(scan.end.position.get(), scan.stop).into());
    }
    Ok(SegmentIndex { end: scan.end.position, offsets: scan.index, epochs: scan.epochs })
}

/// The open file of one of the log's segments.
pub(super) async fn open<E: Env>(inner: &Inner<E>, log: &SharedLog<E>, base_offset: Offset) -> io::Result<Segment<E>> {
    if log.borrow().active.as_ref().is_some_and(|active| active.base_offset == base_offset) {
        return prepare::open_active(inner, log).await;
    }
    let (id, open, cache_key) = {
        let mut log = log.borrow_mut();
        let cache_key = inner.cache_key(&mut log, base_offset);
        let id = log.id;
        let open = log.find_sealed_mut(base_offset).and_then(|sealed| {
            sealed.file_used = true;
            sealed.file.clone()
        });
        (id, open, cache_key)
    };
    if let Some(segment) = open {
        return Ok(segment);
    }
    let segment = Segment::open(&inner.env, &inner.logs_directory, id, base_offset).await?;
    let is_kept = {
        let mut log = log.borrow_mut();
        // Unless another file took its place meanwhile, or another reader opened it too.
        let of_log = |sealed: &&mut SealedSegment<E>| sealed.cache_key == cache_key && sealed.file.is_none();
        let sealed = log.find_sealed_mut(base_offset).filter(of_log);
        sealed.map(|sealed| (sealed.file, sealed.file_used) = (Some(segment.clone()), true)).is_some()
    };
    if is_kept {
        inner.file_opened(log, base_offset);
    }
    Ok(segment)
}

/// What was gathered of an extent.
pub(super) struct Gathered<E: Env> {
    /// Slices that lie behind each other.
    pub(super) slices: Vec<Slice<<E::Disk as Disk>::Buffer>>,
    /// Up to here, in the segment's file, they come from the device.
    pub(super) device_end: Position,
}

/// Gathers up to about `bytes` of an extent from `position` on: first from the device, then from memory.
pub(super) async fn gather<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    extent: Extent,
    position: Position,
    bytes: usize,
) -> Result<Gathered<E>, GatherError> {
    let wanted_end = Position::new(position.get().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)));
    let end = wanted_end.min(extent.end);
    let mut slices = Vec::new();
    let mut device_end = position;
    let from_device_until = loop {
        if !chunks::is_current(log, extent) {
            return Err(GatherError::Changed);
        }
        let until = memory_start(&log.borrow(), extent).min(end);
        if until <= position || until <= chunks::readable_end(&log.borrow(), extent) {
            break until;
        }
        // The partial last block is served from memory only.
        prepare::load_prefix(inner, log).await.map_err(ReadError::Offline)?;
    };
    if position < from_device_until {
        slices = chunks::read(inner, log, extent, position..from_device_until).await?;
        device_end = from_device_until;
    }
    let mut log = log.borrow_mut();
    if log.cache_key_mut(extent.base_offset).is_none_or(|key| *key != Some(extent.cache_key)) {
        return Err(GatherError::Changed);
    }
    if device_end < end && memory_start(&log, extent) <= device_end {
        let origin = extent.origin.expect("what is in memory has an origin");
        let in_log = |position: Position| origin.plus(position.bytes_since(position_in_file(origin, origin)));
        slices.extend(log.tail.slices(in_log(device_end), in_log(end)));
    }
    Ok(Gathered { slices, device_end })
}

/// From where on, in the segment's file, its bytes are in memory; the extent's end when none are.
fn memory_start<E: Env>(log: &Log<E>, extent: Extent) -> Position {
    let (Some(origin), Some(start)) = (extent.origin, log.tail.start()) else { return extent.end };
    position_in_file(start.max(origin), origin).min(extent.end)
}

/// The report of bytes in an extent that make no sense.
pub(super) fn damaged<E: Env>(
    inner: &Inner<E>,
    log: &SharedLog<E>,
    extent: Extent,
    position: Position,
    what: &str,
) -> ReadError {
    let directory = inner.logs_directory.join(log.borrow().id.directory_name());
    let file = directory.join(crate::segment::file_name(extent.base_offset));
    ReadError::Corrupt(Corruption { file, position: position.get(), what: what.to_owned() })
}

pub(super) fn unreadable(error: &io::Error) -> ReadError {
    ReadError::Offline(Failure::Io { operation: "reading a segment", reason: error.to_string() })
}
