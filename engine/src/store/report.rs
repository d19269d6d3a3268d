//! What a store tells whoever looks after the broker: counts, and how full everything bounded is.
//!
//! Counting is done by the shard in plain cells, once for each batch, read or round. A report is put together only when it
//! is asked for, and yields between logs, so that many logs do not hold up the shard.

use std::cell::Cell;
use std::collections::BTreeMap;

use millrace_runtime::{Env, Tasks};

use super::Store;
use crate::histogram::{Durations, Histogram};
use crate::log::traffic::Traffic;
use crate::model::{Offset, PartitionId, TopicId};
use crate::read_cache::CacheCounters;

/// What a store counts as it works.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// How long rounds took, from their plan to their end.
    pub(super) rounds: Histogram,
    /// How long their flushes took.
    pub(super) flushes: Histogram,
    /// Of all logs, deleted ones included.
    pub(super) traffic: Cell<Traffic>,
}

impl Counters {
    pub(super) fn note_append(&self, records: u64, bytes: usize) {
        let mut traffic = self.traffic.get();
        traffic.note_append(records, bytes);
        self.traffic.set(traffic);
    }

    pub(super) fn note_read(&self, bytes: usize) {
        let mut traffic = self.traffic.get();
        traffic.note_read(bytes);
        self.traffic.set(traffic);
    }
}

/// How a store is, at the moment or a moment ago.
#[derive(Clone, Debug, Default)]
pub struct StoreReport {
    /// How long rounds took.
    pub rounds: Durations,
    /// How long their flushes took.
    pub flushes: Durations,
    /// Of all logs, deleted ones included.
    pub traffic: Traffic,
    /// Of the logs of each topic that are there.
    pub topics: BTreeMap<TopicId, Traffic>,
    /// Logs there are.
    pub log_count: usize,
    /// Logs that are offline.
    pub offline_count: usize,
    /// Logs waiting for a round.
    pub queued_count: usize,
    /// Bytes appended and not written.
    pub unstored_bytes: usize,
    /// Memory of the records at the ends of all logs.
    pub tail_bytes: usize,
    /// Memory of what was read from segments.
    pub read_cache_bytes: usize,
    /// How often what readers wanted of segments was in memory.
    pub read_cache: CacheCounters,
    /// Memory of the indexes of segments that take no more appends.
    pub index_bytes: usize,
    /// Memory of all logs' idempotent producers.
    pub producer_bytes: usize,
    /// Open segment files.
    pub open_file_count: usize,
    /// Free bytes of the disk besides the reserve; `None` until that was looked at.
    pub disk_free_bytes: Option<u64>,
    /// Producers are refused.
    pub disk_full: bool,
    /// Why compaction of a log did not get through; the newest reason for each.
    pub compaction_failures: BTreeMap<PartitionId, String>,
}

impl<E: Env> Store<E> {
    /// Puts a report together. Takes a while with many logs, during which the shard goes on with its work.
    pub async fn report(&self) -> StoreReport {
        let inner = &self.inner;
        let counters = &inner.counters;
        let mut report = StoreReport {
            rounds: counters.rounds.durations(),
            flushes: counters.flushes.durations(),
            traffic: counters.traffic.get(),
            queued_count: inner.queue.borrow().len(),
            unstored_bytes: inner.unstored_bytes.get(),
            tail_bytes: self.tail_bytes(),
            read_cache_bytes: self.read_cache_bytes(),
            read_cache: self.read_cache_counters(),
            disk_free_bytes: Some(inner.space.free_bytes.get()).filter(|bytes| *bytes < u64::MAX),
            disk_full: inner.space.full.get(),
            compaction_failures: self.compaction_failures(),
            ..StoreReport::default()
        };
        let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
        for some in logs.chunks(LOGS_PER_YIELD) {
            for log in some {
                let log = log.borrow();
                report.log_count += 1;
                report.offline_count += usize::from(log.failure.is_some());
                report.index_bytes += log.sealed_index_bytes();
                report.producer_bytes += log.producers.memory_bytes();
                report.open_file_count += log.open_file_count();
                report.topics.entry(log.id.topic).or_default().add(&log.traffic);
            }
            inner.env.tasks().yield_now().await;
        }
        report
    }

    /// The high watermark of a log, if it is known without opening the log.
    pub fn known_high_watermark(&self, id: PartitionId) -> Option<Offset> {
        let log = self.inner.log(id)?;
        let log = log.borrow();
        log.recorded.is_none().then(|| log.offsets().high_watermark)
    }

    /// Why every log of the shard is offline; `None` when that is not so.
    pub fn shard_failure(&self) -> Option<String> {
        self.inner.failure.borrow().as_ref().map(ToString::to_string)
    }
}

/// Logs looked at in one go: less than 100 us of work.
const LOGS_PER_YIELD: usize = 256;
