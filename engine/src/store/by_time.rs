//! Finding records by their time.

use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchHeader, BatchView, Compression};
use millrace_runtime::{BLOCK_BYTES, Env, Tasks};

use super::chunks::GatherError;
use super::extents::{self, Extent, Gathered};
use super::read::{Window, batch_bytes};
use super::{Inner, ReadError, SharedLog, Store, open};
use crate::flushes::SharedDevice;
use crate::log::index::INDEX_INTERVAL_BYTES;
use crate::model::{LeaderEpoch, Offset, PartitionId, Position};

/// Batches whose records are looked at off the shard at the same time; each may take the memory of a decompressed batch.
const SEARCHES_MAX: usize = 2;
/// The largest batch whose records are looked at on the shard, in bytes.
const SEARCH_BYTES_MAX: usize = 32 * 1024;

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
    /// The first record that a query by time finds below the high watermark. A batch whose records cannot be decompressed,
    /// or not within the bound for that, answers as if it were its first record.
    pub async fn offset_by_time(&self, id: PartitionId, query: TimeQuery) -> Result<Option<TimedOffset>, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        log.borrow_mut().used = true;
        open::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
        let timestamp = match query {
            TimeQuery::AtOrAfter(timestamp) => Some(timestamp),
            TimeQuery::Largest => self.largest_timestamp(&log).await?,
        };
        let Some(timestamp) = timestamp else { return Ok(None) };
        let first_base = |from: Offset| {
            let log = log.borrow();
            let start = from.max(log.offsets.start());
            log.active.is_some().then(|| extents::base_of(&log, start))
        };
        let mut base_offset = first_base(Offset::ZERO);
        while let Some(base) = base_offset {
            let found = extents::find(&self.inner, &log, base, |index| index.find_by_time(timestamp)).await?;
            let found = match found {
                Some((extent, Some(position))) => {
                    base_offset = extent.next_base;
                    self.find_in_extent(&log, extent, position, timestamp).await
                }
                Some((extent, None)) => {
                    base_offset = extent.next_base;
                    Ok(None)
                }
                None => Err(GatherError::Changed),
            };
            match found {
                Ok(Some(found)) => return Ok(Some(found)),
                Ok(None) => {}
                Err(GatherError::Failed(error)) => return Err(error),
                Err(GatherError::Changed) => {
                    open::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
                    base_offset = first_base(base);
                }
            }
        }
        Ok(None)
    }

    async fn largest_timestamp(&self, log: &SharedLog<SharedDevice<E>>) -> Result<Option<i64>, ReadError> {
        let bases: Vec<_> = log.borrow().sealed.iter().map(|sealed| sealed.base_offset).collect();
        let mut largest = log.borrow().index.timestamp_max();
        for base in bases {
            extents::load_head(&self.inner, log, base).await?;
            largest = largest.max(log.borrow().find_sealed(base).and_then(|sealed| sealed.timestamp_max));
        }
        Ok(largest)
    }

    async fn find_in_extent(
        &self,
        log: &SharedLog<SharedDevice<E>>,
        extent: Extent,
        mut position: Position,
        timestamp: i64,
    ) -> Result<Option<TimedOffset>, GatherError> {
        let start_offset = log.borrow().offsets.start();
        let mut window_bytes = 16 * INDEX_INTERVAL_BYTES;
        while position < extent.end {
            let Gathered { slices, .. } = extents::gather(&self.inner, log, extent, position, window_bytes).await?;
            let window = Window { start: position, slices, end_max: extent.end };
            let damaged = |what| extents::damaged(&self.inner, log, extent, position, what);
            let Some(header) = window.header(position) else {
                if window.end() >= extent.end {
                    return Err(damaged("a batch's header is cut off").into());
                }
                window_bytes = window_bytes.max(2 * BLOCK_BYTES);
                continue;
            };
            let end = position.plus(batch_bytes(&header));
            if batch_bytes(&header) < BATCH_BYTES_MIN || end > extent.end {
                return Err(damaged("a batch's length leaves the log").into());
            }
            if end > window.end() {
                window_bytes = end.bytes_since(position) + BLOCK_BYTES;
                continue;
            }
            if header.max_timestamp.get() >= timestamp && header.last_offset() >= start_offset.get() {
                let batch = window.copy(position, end);
                let found = self.find_in_batch(batch, &header, start_offset, timestamp).await;
                match found {
                    Ok(Some(found)) => return Ok(Some(found)),
                    // The header promised more than its records have.
                    Ok(None) => {}
                    Err(Unread::Undecompressed) => return Ok(Some(timed(&header, start_offset, None))),
                    Err(Unread::Damaged) => return Err(damaged("a batch's checksum or header does not hold").into()),
                }
            }
            position = end;
        }
        Ok(None)
    }

    /// Looks at the records of one batch, off the shard where that takes long.
    async fn find_in_batch(
        &self,
        batch: Vec<u8>,
        header: &BatchHeader,
        start: Offset,
        timestamp: i64,
    ) -> Result<Option<TimedOffset>, Unread> {
        let bytes_max = self.inner.config.records_bytes_max;
        let is_plain = header.attributes().compression() == Some(Compression::None);
        let found = if is_plain && batch.len() <= SEARCH_BYTES_MAX {
            find_record(&batch, bytes_max, start.get(), timestamp)?
        } else {
            let _search = Search::begin(&self.inner).await;
            let work = move || find_record(&batch, bytes_max, start.get(), timestamp);
            self.inner.env.tasks().offload(work).await?
        };
        Ok(found.map(|found| timed(header, start, Some(found))))
    }
}

/// The answer for a record of a batch; where its records could not be read, for the batch.
fn timed(header: &BatchHeader, start: Offset, record: Option<(i64, i64)>) -> TimedOffset {
    let (offset, timestamp) = record.unwrap_or((header.base_offset.get(), header.max_timestamp.get()));
    let leader_epoch = LeaderEpoch::new(header.leader_epoch.get());
    TimedOffset { offset: Offset::new(offset).max(start), timestamp, leader_epoch }
}

/// Why the records of a batch were not looked at.
enum Unread {
    /// Its checksum or its header does not hold.
    Damaged,
    /// They are not what the codec writes, or take too much memory.
    Undecompressed,
}

/// Offset and timestamp of the first record of a batch, from `start` on, whose timestamp is at least `timestamp`.
fn find_record(batch: &[u8], bytes_max: usize, start: i64, timestamp: i64) -> Result<Option<(i64, i64)>, Unread> {
    let batch = BatchView::parse(batch).map_err(|_| Unread::Damaged)?;
    let mut decompressor = Decompressor::new(bytes_max);
    let records = decompressor.records(&batch).map_err(|_| Unread::Undecompressed)?;
    for record in records {
        let record = record.map_err(|_| Unread::Undecompressed)?;
        if record.offset >= start && record.timestamp >= timestamp {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

/// One of the [`SEARCHES_MAX`]; ends with whoever waits for it.
struct Search<'a, E: Env> {
    inner: &'a Inner<E>,
}

impl<'a, E: Env> Search<'a, E> {
    async fn begin(inner: &'a Inner<E>) -> Self {
        loop {
            let version = inner.searched.version();
            if inner.searching.get() < SEARCHES_MAX {
                inner.searching.set(inner.searching.get() + 1);
                return Self { inner };
            }
            inner.searched.changed(version).await;
        }
    }
}

impl<E: Env> Drop for Search<'_, E> {
    fn drop(&mut self) {
        self.inner.searching.set(self.inner.searching.get() - 1);
        self.inner.searched.notify();
    }
}
