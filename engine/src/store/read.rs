//! Reading a log: the tail from memory, everything older from its segment.
//!
//! A read gathers a *window*: consecutive slices that cover the log from some batch on, first from the device, then from
//! memory. It walks the batch headers in the window to find the batch that holds the offset and where the last batch
//! within the limits ends, and returns just those slices. No record byte is copied.

use std::rc::Rc;

use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchHeader, BatchView};
use millrace_runtime::{BLOCK_BYTES, Disk, Env};
use zerocopy::FromBytes;

use super::{ReadError, SharedLog, Store, contents, prepare};
use crate::io::{AppendBuffer, Slice};
use crate::log::index::INDEX_INTERVAL_BYTES;
use crate::log::offsets::{LogOffsets, Mark};
use crate::log::{Corruption, Failure};
use crate::model::{LeaderEpoch, Offset, PartitionId, Position};

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
    /// The log's offsets when the read began.
    pub offsets: LogOffsets,
}

/// What [`Store::offset_by_time`] looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeQuery {
    /// The first record whose timestamp is at least this, in milliseconds since 1970.
    AtOrAfter(i64),
    /// The first record that has the largest timestamp (KIP-734).
    Largest,
}

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp in milliseconds since 1970.
    pub timestamp: i64,
    /// Leader epoch of its batch.
    pub leader_epoch: LeaderEpoch,
}

impl<E: Env> Store<E> {
    /// Reads whole batches from the one that holds `from`, up to `bytes_max` and the high watermark. Empty when `from` is
    /// at or past the high watermark but not past the log's end.
    pub async fn read(
        &self,
        id: PartitionId,
        from: Offset,
        bytes_max: usize,
        first: FirstBatch,
    ) -> Result<Read<E>, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        contents::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
        let (offsets, visible) = {
            let log = log.borrow();
            (log.offsets(), log.offsets.visible())
        };
        if from < offsets.start || from > offsets.log_end {
            return Err(ReadError::OffsetOutOfRange(offsets));
        }
        let position = log.borrow().contents.index.find(from);
        let Some(position) = position.filter(|_| from < visible.offset) else {
            return Ok(Read { slices: Vec::new(), bytes: 0, offsets });
        };
        let mut window_bytes = bytes_max.saturating_add(2 * INDEX_INTERVAL_BYTES);
        loop {
            let window = self.window(&log, position, window_bytes, visible).await?;
            match window.walk(from, bytes_max, first) {
                Walk::Found { start, end } => {
                    let slices = window.cut(start, end);
                    return Ok(Read { bytes: end.bytes_since(start), slices, offsets });
                }
                Walk::Short { bytes } => window_bytes = bytes,
                Walk::Damaged { position, what } => return Err(damaged(&log, position, what)),
            }
        }
    }

    /// The first record that a query by time finds below the high watermark.
    ///
    /// Records of compressed batches are not looked at one by one yet: such a batch answers with its first record.
    pub async fn offset_by_time(&self, id: PartitionId, query: TimeQuery) -> Result<Option<TimedOffset>, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        contents::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
        let (timestamp, position, visible) = {
            let log = log.borrow();
            let timestamp = match query {
                TimeQuery::AtOrAfter(timestamp) => Some(timestamp),
                TimeQuery::Largest => log.contents.index.timestamp_max(),
            };
            let position = timestamp.and_then(|timestamp| log.contents.index.find_by_time(timestamp));
            (timestamp, position, log.offsets.visible())
        };
        let (Some(timestamp), Some(mut position)) = (timestamp, position) else { return Ok(None) };
        let mut window_bytes = 16 * INDEX_INTERVAL_BYTES;
        while position < visible.position {
            let window = self.window(&log, position, window_bytes, visible).await?;
            let Some(header) = window.header(position) else {
                return Err(damaged(&log, position, "a batch's header is cut off"));
            };
            let end = position.plus(batch_bytes(&header));
            if batch_bytes(&header) < BATCH_BYTES_MIN || end > visible.position {
                return Err(damaged(&log, position, "a batch's length leaves the log"));
            }
            if end > window.end() {
                window_bytes = end.bytes_since(position) + BLOCK_BYTES;
                continue;
            }
            if header.max_timestamp.get() >= timestamp {
                return Ok(Some(first_record(&header, &window.copy(position, end), timestamp)));
            }
            position = end;
        }
        Ok(None)
    }

    /// Gathers up to about `bytes` of the log from `position` on, never past `visible`.
    async fn window(
        &self,
        log: &SharedLog<E>,
        position: Position,
        bytes: usize,
        visible: Mark,
    ) -> Result<Window<<E::Disk as Disk>::Buffer>, ReadError> {
        let wanted_end = Position::new(position.get().saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX)));
        let end = wanted_end.min(visible.position);
        let memory_start = log.borrow().tail.start().unwrap_or(visible.position.block_ceil());
        let mut window = Window { start: position, slices: Vec::new(), visible };
        if position < memory_start {
            let read_end = end.block_ceil().min(memory_start);
            let buffer = self.read_segment(log, position.block_floor(), read_end).await?;
            let skipped = position.bytes_since(position.block_floor());
            let filled = read_end.min(end).bytes_since(position.block_floor());
            window.slices.push(Slice::new(buffer, skipped, filled));
        }
        let log = log.borrow();
        let continues = log.tail.start().is_some_and(|start| start <= window.end());
        if continues && window.end() < end {
            window.slices.extend(log.tail.slices(window.end(), end));
        }
        Ok(window)
    }

    async fn read_segment(
        &self,
        log: &SharedLog<E>,
        start: Position,
        end: Position,
    ) -> Result<Rc<AppendBuffer<<E::Disk as Disk>::Buffer>>, ReadError> {
        let failed = |error: std::io::Error| {
            let reason = error.to_string();
            ReadError::Offline(Failure::Io { operation: "reading a segment", reason })
        };
        let segment = prepare::open(&self.inner, log).await.map_err(failed)?;
        let buffer = segment.read(start, end.bytes_since(start)).await.map_err(failed)?;
        let buffer = buffer.map(AppendBuffer::sealed).filter(|buffer| buffer.filled() >= end.bytes_since(start));
        buffer.map(Rc::new).ok_or_else(|| damaged(log, start, "the file is shorter than the log"))
    }
}

fn damaged<E: Env>(log: &SharedLog<E>, position: Position, what: &str) -> ReadError {
    let file = log.borrow().segment.as_ref().map(|segment| segment.path().to_owned()).unwrap_or_default();
    ReadError::Corrupt(Corruption { file, position: position.get(), what: what.to_owned() })
}

/// Consecutive slices of a log.
struct Window<B: millrace_runtime::Buffer> {
    start: Position,
    slices: Vec<Slice<B>>,
    visible: Mark,
}

enum Walk {
    /// The batches to return; `start == end` when the first one is over the limit.
    Found { start: Position, end: Position },
    /// The first batch does not end inside the window; one of this many bytes holds it.
    Short { bytes: usize },
    /// A header makes no sense.
    Damaged { position: Position, what: &'static str },
}

impl<B: millrace_runtime::Buffer> Window<B> {
    fn end(&self) -> Position {
        self.start.plus(self.slices.iter().map(Slice::bytes).sum())
    }

    /// The header of the batch at `position`; `None` when it is not all inside the window.
    fn header(&self, position: Position) -> Option<BatchHeader> {
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

    fn copy(&self, start: Position, end: Position) -> Vec<u8> {
        self.cut(start, end).iter().flat_map(|slice| slice.as_slice().iter().copied()).collect()
    }

    fn walk(&self, from: Offset, bytes_max: usize, first: FirstBatch) -> Walk {
        let mut position = self.start;
        let (mut start, mut end) = (None, position);
        while position < self.visible.position {
            let Some(header) = self.header(position) else {
                if start.is_some() {
                    break;
                }
                if self.end() >= self.visible.position {
                    return Walk::Damaged { position, what: "a batch's header leaves the log" };
                }
                return Walk::Short { bytes: position.plus(2 * BLOCK_BYTES).bytes_since(self.start) };
            };
            let batch_end = position.plus(batch_bytes(&header));
            if batch_bytes(&header) < BATCH_BYTES_MIN || batch_end > self.visible.position {
                return Walk::Damaged { position, what: "a batch's length leaves the log" };
            }
            let last_offset = header.base_offset.get() + i64::from(header.last_offset_delta.get());
            if start.is_some() || last_offset >= from.get() {
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
                end = batch_end;
            }
            position = batch_end;
        }
        match start {
            Some(start) => Walk::Found { start, end: end.max(start) },
            None => Walk::Damaged { position, what: "no batch holds an offset below the high watermark" },
        }
    }
}

fn batch_bytes(header: &BatchHeader) -> usize {
    // A negative length becomes 0, which no check lets pass.
    usize::try_from(header.batch_length.get()).map_or(0, |length| length.saturating_add(12))
}

/// The first record of a batch whose timestamp is at least `timestamp`; the batch has one.
fn first_record(header: &BatchHeader, batch: &[u8], timestamp: i64) -> TimedOffset {
    let base = Offset::new(header.base_offset.get().max(0));
    let leader_epoch = LeaderEpoch::new(header.leader_epoch.get());
    // Compressed records are not looked at; neither are damaged ones: the batch's own fields answer then.
    let records = BatchView::parse(batch).and_then(|batch| batch.records()).into_iter().flatten().map_while(Result::ok);
    let found = records.map(|record| (record.offset, record.timestamp)).find(|(_, found)| *found >= timestamp);
    let (offset, timestamp) =
        found.map_or((base, header.max_timestamp.get()), |(offset, found)| (Offset::new(offset.max(0)), found));
    TimedOffset { offset, timestamp, leader_epoch }
}
