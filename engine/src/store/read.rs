//! Reading a log: the tail from memory, everything older from its segment.
//!
//! A read stays within one segment. It gathers a *window*: consecutive slices that cover the log from some batch on, first from the device, then from
//! memory. It walks the batch headers in the window to find the batch that holds the offset and where the last batch
//! within the limits ends, and returns just those slices. No record byte is copied.

use std::ops::Range;

use millrace_protocol::batch::{self, BATCH_BYTES_MIN, BatchHeader};
use millrace_runtime::{BLOCK_BYTES, Disk, Env};
use zerocopy::FromBytes;

use super::chunks::GatherError;
use super::extents::{self, Extent, Gathered};
use super::{ReadError, SharedLog, Store, open};
use crate::flushes::SharedDevice;
use crate::io::Slice;
use crate::log::index::INDEX_INTERVAL_BYTES;
use crate::log::offsets::LogOffsets;
use crate::model::{Offset, PartitionId, Position};

/// What to do when the first batch alone is larger than the limit (KIP-74).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBatch {
    /// Return it all the same, so that a client can never get stuck.
    WholeEvenIfLarger,
    /// Return nothing.
    WithinLimit,
}

/// The answer to a read: whole record batches.
pub struct Read<E: Env> {
    /// The bytes, in order.
    pub slices: Vec<Slice<<E::Disk as Disk>::Buffer>>,
    /// How many bytes.
    pub bytes: usize,
    /// The offset behind the last batch; where the read began when there is none.
    pub next_offset: Offset,
    /// The log's offsets when it was looked how far may be read. Invariant: no batch ends behind the high watermark.
    pub offsets: LogOffsets,
}

impl<E: Env> Store<E> {
    /// Reads whole batches from the one that holds `from`, up to `bytes_max`, the high watermark and the end of a segment.
    /// Empty when `from` is at or past the high watermark but not past the log's end.
    pub async fn read(
        &self,
        id: PartitionId,
        from: Offset,
        bytes_max: usize,
        first: FirstBatch,
    ) -> Result<Read<E>, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        log.borrow_mut().used = true;
        open::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
        let mut offsets = log.borrow().offsets();
        if from < offsets.start || from > offsets.log_end {
            return Err(ReadError::OffsetOutOfRange(offsets));
        }
        let mut base_offset = Some(extents::base_of(&log.borrow(), from)).filter(|_| from < offsets.high_watermark);
        while let Some(base) = base_offset {
            let found = extents::find(&self.inner, &log, base, |index| index.find(from)).await?;
            // The log may have gone on while an index was loaded, or have been opened again.
            if found.is_some() {
                offsets = log.borrow().offsets();
            }
            let found = match found {
                Some((extent, Some(position))) => {
                    base_offset = extent.next_base;
                    self.read_extent(&log, extent, position, from, bytes_max, first).await
                }
                Some((extent, None)) => {
                    base_offset = extent.next_base;
                    Ok(None)
                }
                None => Err(GatherError::Changed),
            };
            match found {
                Ok(Some(Found { slices, bytes, next_offset })) => {
                    log.borrow_mut().traffic.note_read(bytes);
                    self.inner.counters.note_read(bytes);
                    return Ok(Read { slices, bytes, next_offset, offsets });
                }
                // Compaction may have left nothing of the offset, or of anything behind it in this segment.
                Ok(None) => {}
                Err(GatherError::Failed(error)) => return Err(error),
                Err(GatherError::Changed) => {
                    open::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
                    offsets = log.borrow().offsets();
                    if from < offsets.start || from > offsets.log_end {
                        return Err(ReadError::OffsetOutOfRange(offsets));
                    }
                    base_offset = Some(extents::base_of(&log.borrow(), from)).filter(|_| from < offsets.high_watermark);
                }
            }
        }
        Ok(Read { slices: Vec::new(), bytes: 0, next_offset: from, offsets })
    }

    /// Reads from the batch of one segment that holds `from`, or from the first one behind it; `None` when there is none.
    async fn read_extent(
        &self,
        log: &SharedLog<SharedDevice<E>>,
        extent: Extent,
        position: Position,
        from: Offset,
        bytes_max: usize,
        first: FirstBatch,
    ) -> Result<Option<Found<E>>, GatherError> {
        let mut window_bytes = bytes_max.saturating_add(2 * INDEX_INTERVAL_BYTES);
        if position >= extent.end {
            return Ok(None);
        }
        loop {
            let Gathered { slices, device_end } =
                extents::gather(&self.inner, log, extent, position, window_bytes).await?;
            let window = Window { start: position, slices, end_max: extent.end };
            let mut walk = window.walk(from, bytes_max, first);
            if let Walk::Found { start, end, .. } = walk {
                let offsets = extent.base_offset..extent.next_base.unwrap_or(Offset::new(i64::MAX));
                if let Some((position, what)) = window.find_damage(start..end.min(device_end), offsets) {
                    walk = Walk::Damaged { position, what };
                }
            }
            match walk {
                Walk::Found { start, end, next_offset } => {
                    let (slices, bytes) = (window.cut(start, end), end.bytes_since(start));
                    return Ok(Some(Found { slices, bytes, next_offset }));
                }
                Walk::Nothing => return Ok(None),
                Walk::Short { bytes } => window_bytes = bytes,
                Walk::Damaged { position, what } => {
                    return Err(extents::damaged(&self.inner, log, extent, position, what).into());
                }
            }
        }
    }
}

/// What one segment gives.
struct Found<E: Env> {
    slices: Vec<Slice<<E::Disk as Disk>::Buffer>>,
    bytes: usize,
    next_offset: Offset,
}

/// Consecutive slices of a log.
pub(super) struct Window<B: millrace_runtime::Buffer> {
    pub(super) start: Position,
    pub(super) slices: Vec<Slice<B>>,
    /// The end of what may be read.
    pub(super) end_max: Position,
}

enum Walk {
    /// The batches to return, and the offset behind them; `start == end` when the first one is over the limit.
    Found { start: Position, end: Position, next_offset: Offset },
    /// No batch holds the offset or one behind it.
    Nothing,
    /// The first batch does not end inside the window; one of this many bytes holds it.
    Short { bytes: usize },
    /// A header makes no sense.
    Damaged { position: Position, what: &'static str },
}

impl<B: millrace_runtime::Buffer> Window<B> {
    pub(super) fn end(&self) -> Position {
        self.start.plus(self.slices.iter().map(Slice::bytes).sum())
    }

    /// The header of the batch at `position`; `None` when it is not all inside the window.
    pub(super) fn header(&self, position: Position) -> Option<BatchHeader> {
        let end = position.plus(BATCH_BYTES_MIN);
        if end > self.end() {
            return None;
        }
        // Nearly always the header lies within one slice; only across two does it have to be put together.
        let mut slice_start = self.start;
        for slice in &self.slices {
            let slice_end = slice_start.plus(slice.bytes());
            if slice_start <= position && end <= slice_end {
                let at = position.bytes_since(slice_start);
                return BatchHeader::read_from_prefix(&slice.as_slice()[at..]).ok().map(|(header, _)| header);
            }
            slice_start = slice_end;
        }
        BatchHeader::read_from_bytes(&self.copy(position, end)).ok()
    }

    /// The slices that cover `start..end`, a range inside the window.
    fn cut(&self, start: Position, end: Position) -> Vec<Slice<B>> {
        let mut cut = Vec::with_capacity(self.slices.len());
        let mut slice_start = self.start;
        for slice in &self.slices {
            let slice_end = slice_start.plus(slice.bytes());
            let (from, to) = (start.max(slice_start), end.min(slice_end));
            if from < to {
                cut.push(slice.part(from.bytes_since(slice_start), to.bytes_since(slice_start)));
            }
            slice_start = slice_end;
        }
        cut
    }

    pub(super) fn copy(&self, start: Position, end: Position) -> Vec<u8> {
        self.cut(start, end).iter().flat_map(|slice| slice.as_slice().iter().copied()).collect()
    }

    /// Checks the batches that begin in `range`, all of them inside the window: their bytes come from the device, which
    /// may have damaged them. `offsets` are those of the segment.
    fn find_damage(&self, range: Range<Position>, offsets: Range<Offset>) -> Option<(Position, &'static str)> {
        let (mut position, mut expected) = (range.start, offsets.start.get());
        while position < range.end {
            let header = self.header(position)?;
            let end = position.plus(batch_bytes(&header));
            if header.base_offset.get() < expected || header.last_offset() >= offsets.end.get() {
                return Some((position, "a batch's offsets do not fit its place"));
            }
            if !batch::is_intact(&header, self.cut(position, end).iter().map(Slice::as_slice)) {
                return Some((position, "a batch's checksum or format does not hold"));
            }
            expected = header.last_offset() + 1;
            position = end;
        }
        None
    }

    fn walk(&self, from: Offset, bytes_max: usize, first: FirstBatch) -> Walk {
        let mut position = self.start;
        let (mut start, mut end, mut next_offset) = (None, position, from);
        while position < self.end_max {
            let Some(header) = self.header(position) else {
                if start.is_some() {
                    break;
                }
                if self.end() >= self.end_max {
                    return Walk::Damaged { position, what: "a batch's header leaves the log" };
                }
                return Walk::Short { bytes: position.plus(2 * BLOCK_BYTES).bytes_since(self.start) };
            };
            let batch_end = position.plus(batch_bytes(&header));
            if batch_bytes(&header) < BATCH_BYTES_MIN || batch_end > self.end_max {
                return Walk::Damaged { position, what: "a batch's length leaves the log" };
            }
            if start.is_some() || header.last_offset() >= from.get() {
                let within = batch_end.bytes_since(*start.get_or_insert(position)) <= bytes_max;
                let is_first = start == Some(position);
                let allowed = within || (is_first && first == FirstBatch::WholeEvenIfLarger);
                if !allowed {
                    break;
                }
                if batch_end > self.end() {
                    if is_first {
                        return Walk::Short { bytes: batch_end.bytes_since(self.start) };
                    }
                    break;
                }
                match header.last_offset().checked_add(1).filter(|behind| *behind > next_offset.get()) {
                    Some(behind) => (end, next_offset) = (batch_end, Offset::new(behind)),
                    None if is_first => return Walk::Damaged { position, what: "a batch's offsets end nowhere" },
                    // Whoever reads on from here is told.
                    None => break,
                }
            }
            position = batch_end;
        }
        match start {
            Some(start) => Walk::Found { start, end: end.max(start), next_offset },
            None => Walk::Nothing,
        }
    }
}

pub(super) fn batch_bytes(header: &BatchHeader) -> usize {
    // A negative length becomes 0, which no check lets pass.
    usize::try_from(header.batch_length.get()).map_or(0, |length| length.saturating_add(12))
}
