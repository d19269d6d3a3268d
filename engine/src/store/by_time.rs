//! Finding records by their time.

use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchHeader, BatchView};
use millrace_runtime::{BLOCK_BYTES, Env};

use super::chunks::GatherError;
use super::extents::{self, Extent, Gathered};
use super::read::{Window, batch_bytes};
use super::{ReadError, SharedLog, Store, open};
use crate::log::index::{INDEX_INTERVAL_BYTES, OffsetIndex};
use crate::model::{LeaderEpoch, Offset, PartitionId, Position};

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
    /// The first record that a query by time finds below the high watermark.
    ///
    /// Records of compressed batches are not looked at one by one yet: such a batch answers with its first record.
    pub async fn offset_by_time(&self, id: PartitionId, query: TimeQuery) -> Result<Option<TimedOffset>, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
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

    async fn largest_timestamp(&self, log: &SharedLog<E>) -> Result<Option<i64>, ReadError> {
        let bases: Vec<_> = log.borrow().sealed.iter().map(|sealed| sealed.base_offset).collect();
        let mut largest = log.borrow().index.timestamp_max();
        for base in bases {
            extents::load_index(&self.inner, log, base).await?;
            let log = log.borrow();
            let sealed = log.sealed.iter().find(|sealed| sealed.base_offset == base);
            let index: Option<&OffsetIndex> =
                sealed.and_then(|sealed| sealed.index.as_ref()).map(|index| &index.offsets);
            largest = largest.max(index.and_then(OffsetIndex::timestamp_max));
        }
        Ok(largest)
    }

    async fn find_in_extent(
        &self,
        log: &SharedLog<E>,
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
            let header = window.header(position).ok_or_else(|| damaged("a batch's header is cut off"))?;
            let end = position.plus(batch_bytes(&header));
            if batch_bytes(&header) < BATCH_BYTES_MIN || end > extent.end {
                return Err(damaged("a batch's length leaves the log").into());
            }
            if end > window.end() {
                window_bytes = end.bytes_since(position) + BLOCK_BYTES;
                continue;
            }
            if header.max_timestamp.get() >= timestamp && header.last_offset() >= start_offset.get() {
                let found = first_record(&header, &window.copy(position, end), timestamp, start_offset);
                if found.is_some() {
                    return Ok(found);
                }
            }
            position = end;
        }
        Ok(None)
    }
}

/// The first record of a batch, at or behind `start`, whose timestamp is at least `timestamp`. Compressed records are not
/// looked at, and damaged ones cannot be: the batch's own fields answer for them.
fn first_record(header: &BatchHeader, batch: &[u8], timestamp: i64, start: Offset) -> Option<TimedOffset> {
    let base = Offset::new(header.base_offset.get().max(start.get()));
    let leader_epoch = LeaderEpoch::new(header.leader_epoch.get());
    let whole = TimedOffset { offset: base, timestamp: header.max_timestamp.get(), leader_epoch };
    let Ok(records) = BatchView::parse(batch).and_then(|batch| batch.records()) else { return Some(whole) };
    for record in records {
        let Ok(record) = record else { return Some(whole) };
        if record.timestamp >= timestamp && record.offset >= start.get() {
            return Some(TimedOffset { offset: Offset::new(record.offset), timestamp: record.timestamp, leader_epoch });
        }
    }
    None
}
