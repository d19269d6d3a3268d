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
    if base_offset < log.borrow().active_base() {
        load_index(inner, log, base_offset).await?;
    }
    let mut log = log.borrow_mut();
    let cache_key = inner.cache_key(&mut log, base_offset);
    let visible = log.visible();
    if base_offset == log.active_base() {
        let Some(cache_key) = cache_key else { return Ok(None) };
        // Right after a roll nothing in the active segment is visible.
        let end = visible.position.max(log.origin());
        let end = log.locate_active(end);
        let extent = Extent { base_offset, cache_key, origin: Some(log.origin()), end, next_base: None };
        return Ok(Some((extent, look_up(&log.index))));
    }
    let place = log.sealed.partition_point(|sealed| sealed.base_offset < base_offset);
    let Some(sealed) = log.sealed.get(place).filter(|sealed| sealed.base_offset == base_offset) else {
        return Ok(None);
    };
    let (Some(index), Some(cache_key)) = (&sealed.index, cache_key) else { return Ok(None) };
    let partly = sealed.origin.filter(|_| visible.offset < sealed.end_offset);
    let end = partly.map_or(index.end, |origin| position_in_file(visible.position.max(origin), origin));
    let next_base = partly.is_none().then_some(sealed.end_offset);
    let extent = Extent { base_offset, cache_key, origin: sealed.origin, end, next_base };
    Ok(Some((extent, look_up(&index.offsets))))
}

/// Has the index of a sealed segment in memory: from its file, or by reading the segment where that does not hold.
pub(super) async fn load_index<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    base_offset: Offset,
) -> Result<(), ReadError> {
    let (id, end_offset) = {
        let log = log.borrow();
        let sealed = log.sealed.iter().find(|sealed| sealed.base_offset == base_offset);
        let Some(sealed) = sealed.filter(|sealed| sealed.index.is_none()) else { return Ok(()) };
        (log.id, sealed.end_offset)
    };
    let directory = inner.logs_directory.join(id.directory_name());
    let read =
        segment_files::read_index(&inner.env, &directory, id, base_offset).await.map_err(|error| unreadable(&error))?;
    let index = match read {
        Some((end, index)) if end == end_offset => index,
        _ => rebuild_index(inner, log, base_offset, end_offset).await?,
    };
    let mut log = log.borrow_mut();
    let sealed = log.sealed.iter_mut().find(|sealed| sealed.base_offset == base_offset);
    if let Some(sealed) = sealed.filter(|sealed| sealed.end_offset == end_offset) {
        sealed.bytes = index.end.get();
        sealed.index = Some(Rc::new(index));
    }
    Ok(())
}

/// Learns how large a sealed segment is and which timestamp is its largest.
pub(super) async fn load_head<E: Env>(
    inner: &Rc<Inner<E>>,
    log: &SharedLog<E>,
    base_offset: Offset,
) -> Result<(), ReadError> {
    let known = |sealed: &SealedSegment<E>| sealed.base_offset == base_offset && sealed.timestamp_max.is_some();
    if log.borrow().sealed.iter().any(known) {
        return Ok(());
    }
    let was_loaded =
        log.borrow().sealed.iter().any(|sealed| sealed.base_offset == base_offset && sealed.index.is_some());
    load_index(inner, log, base_offset).await?;
    let mut log = log.borrow_mut();
    if let Some(sealed) = log.sealed.iter_mut().find(|sealed| sealed.base_offset == base_offset) {
        sealed.timestamp_max = sealed.index.as_ref().and_then(|index| index.offsets.timestamp_max());
        if !was_loaded {
            sealed.index = None;
        }
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
        let sealed = log.sealed.iter().find(|sealed| sealed.base_offset == base_offset);
        (log.id, sealed.and_then(|sealed| sealed.file.clone()), cache_key)
    };
    if let Some(segment) = open {
        return Ok(segment);
    }
    let segment = Segment::open(&inner.env, &inner.logs_directory, id, base_offset).await?;
    let mut log = log.borrow_mut();
    let sealed = log.sealed.iter_mut().find(|sealed| sealed.base_offset == base_offset);
    // Unless another file took its place meanwhile.
    if let Some(sealed) = sealed.filter(|sealed| sealed.cache_key == cache_key) {
        sealed.file = Some(segment.clone());
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
