//! Up to which offset a log agrees with a replica whose last leader epoch is known (KIP-101, KIP-279).
//!
//! The leader epochs of a log lie where its batches are known anyway: each segment's index lists those that begin in it, the
//! active segment's in memory, a sealed one's in its index file. So nothing more is kept in memory or on disk for them, and
//! nothing can differ from the batches after a restart, a truncation or a deletion. Compaction leaves the first batch of
//! each epoch, and of each segment, where it is, if only as a header.
//!
//! Epochs rise along the log. A query looks for the segment by halves, and answers from its epochs and the first of those
//! behind it.

use std::ops::Range;
use std::rc::Rc;

use millrace_runtime::Env;

use super::{Inner, ReadError, SharedLog, Store, extents, open};
use crate::epoch_cache::EpochCache;
use crate::log::Log;
use crate::model::{EpochStart, LeaderEpoch, Offset, PartitionId};

/// The answer to `OffsetForLeaderEpoch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The largest epoch of the log that is not above the one asked for. That one itself if all of the log's are.
    pub leader_epoch: LeaderEpoch,
    /// Offset behind the last record of that epoch; where it is the log's newest, the log end offset.
    pub end_offset: Offset,
}

impl<E: Env> Store<E> {
    /// The largest leader epoch of a log that is not above `epoch`, and where it ends. `None` when the log holds no
    /// record, or `epoch` is unknown (-1).
    ///
    /// An epoch older than all that the log still has is answered with itself and the log start offset, as in Kafka: its
    /// records were deleted. One above all is answered with the newest that there is.
    pub async fn epoch_end_offset(&self, id: PartitionId, epoch: LeaderEpoch) -> Result<Option<EpochEnd>, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        log.borrow_mut().used = true;
        loop {
            open::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
            let snapshot = Snapshot::of(&log.borrow());
            if epoch.get() < 0 || snapshot.start == snapshot.end {
                return Ok(None);
            }
            let found = snapshot.find(&self.inner, &log, epoch).await?;
            // Where segments went or came in between, it may have been put together from two states of the log.
            if let Some(epochs) = found.filter(|_| snapshot.holds(&log.borrow())) {
                let answer = epochs.end_offset_for(epoch, snapshot.end);
                return Ok(answer.map(|(leader_epoch, end_offset)| EpochEnd { leader_epoch, end_offset }));
            }
        }
    }
}

/// A log as it was when the query began.
struct Snapshot {
    life: u64,
    start: Offset,
    end: Offset,
    /// First offsets of the sealed segments.
    sealed: Vec<Offset>,
    /// The epochs of the active segment.
    active: Vec<EpochStart>,
}

impl Snapshot {
    fn of<E: Env>(log: &Log<E>) -> Self {
        Self {
            life: log.life,
            start: log.offsets.start(),
            end: log.offsets.written().offset,
            sealed: log.sealed.iter().map(|sealed| sealed.base_offset).collect(),
            active: log.epochs.clone(),
        }
    }

    fn holds<E: Env>(&self, log: &Log<E>) -> bool {
        let sealed = log.sealed.iter().map(|sealed| &sealed.base_offset);
        log.life == self.life && log.recorded.is_none() && sealed.eq(&self.sealed)
    }

    /// Those of the log's epochs that an answer for `epoch` depends on; `None` when the log has changed.
    async fn find<E: Env>(
        &self,
        inner: &Rc<Inner<E>>,
        log: &SharedLog<E>,
        epoch: LeaderEpoch,
    ) -> Result<Option<EpochCache>, ReadError> {
        // Segments before `low` begin with an epoch up to the one asked for, or have no batch; those from `high` on with a
        // later one.
        let (mut low, mut high) = (0, self.sealed.len() + 1);
        let (mut before, mut behind) = (Vec::new(), None);
        while low < high {
            let middle = low.midpoint(high);
            let Some((place, epochs)) = self.first_from(inner, log, middle..high).await? else { return Ok(None) };
            match epochs.first() {
                Some(first) if first.epoch <= epoch => (low, before) = (place + 1, epochs),
                Some(first) => (high, behind) = (middle, Some(*first)),
                None => high = middle,
            }
        }
        // Before the oldest batch there is nothing, whatever compaction or a deletion took away there.
        if let Some(oldest) = behind.as_mut().filter(|_| before.is_empty()) {
            oldest.start_offset = self.start;
        }
        let mut cache = EpochCache::default();
        for start in before.into_iter().chain(behind) {
            cache.append(start.epoch, start.start_offset);
        }
        cache.truncate_start(self.start);
        Ok(Some(cache))
    }

    /// The first segment in `places` that holds a batch, and its epochs; none when there is no such segment. `None` when the
    /// log has changed.
    async fn first_from<E: Env>(
        &self,
        inner: &Rc<Inner<E>>,
        log: &SharedLog<E>,
        places: Range<usize>,
    ) -> Result<Option<(usize, Vec<EpochStart>)>, ReadError> {
        for place in places.clone() {
            let epochs = match self.sealed.get(place) {
                None => self.active.clone(),
                Some(base) => match extents::load_index(inner, log, *base).await? {
                    Some(loaded) => loaded.of_segment.epochs.clone(),
                    None => return Ok(None),
                },
            };
            if !epochs.is_empty() {
                return Ok(Some((place, epochs)));
            }
        }
        Ok(Some((places.end, Vec::new())))
    }
}
