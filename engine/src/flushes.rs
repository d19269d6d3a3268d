//! What the flushes of all shards of a data directory say of each other. Pure: no I/O, no waiting, no clock.
//!
//! A flush of the device empties one cache that all shards share. When it fails, any write that had completed may be gone,
//! of whatever shard and file, and the next flush succeeds all the same: the device has nothing left of it. So that a flush
//! of one shard succeeded says nothing of its writes as long as it is not known what became of the others' flushes.
//!
//! A flush *counts* if it succeeded and
//!
//! 1. no flush of the directory has failed since the shard was recovered. Every flush that counts has asked for that, so
//!    this is the same as: since the last one that did, which covers what was written before it.
//! 2. Every flush that began before this one ended has ended too, and well. One that is under way may have lost writes
//!    already and not said so yet: devices with several queues (`NVMe`) take flushes side by side, in any order, and a shard
//!    hears of the end of its flush some time after it. One that begins after this one has ended finds on the device what
//!    this one has brought there, and can lose none of it.
//!
//! A flush that does not count means for its shard what a failed one of its own does: the shard is taken offline and
//! recovered. It then [starts over](ShardFlushes::start_over): failures from before concern what recovery reads again and
//! writes once more. A recovery is not a failure, so shards do not set each other off: each failed flush has every shard
//! recovered once.
//!
//! Where a flush reaches one file only, none of this is needed: a failed one concerns the file's own log, and the round
//! that flushes the file hears of it.
//!
//! ```text
//!   shard 0   |--- flush 4: fails ---|                 The flush 5 ends well while flush 4 is under way. It does not
//!   shard 1      |- flush 5 -|.......x                 count before flush 4 has ended, and then it does not count.
//! ```

mod shared_device;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use shared_device::SharedDevice;

/// A shard without a flush under way.
const NONE_RUNNING: u64 = u64::MAX;

/// The flushes of one data directory. Clones share them; each shard of the directory gets one.
#[derive(Clone, Debug)]
pub struct Flushes {
    shared: Arc<Shared>,
}

/// Every access is sequentially consistent: a handful of them beside an operation of the device.
#[derive(Debug)]
struct Shared {
    /// Flushes that have begun; the number of the next one.
    begun_count: AtomicU64,
    /// Flushes that have failed.
    failed_count: AtomicU64,
    /// For each shard the lowest number of its flushes that are under way, or [`NONE_RUNNING`].
    oldest_running: Box<[AtomicU64]>,
}

impl Flushes {
    /// For a directory of so many shards.
    pub fn new(shard_count: u16) -> Self {
        let oldest_running = (0..shard_count).map(|_| AtomicU64::new(NONE_RUNNING)).collect();
        let shared = Shared { begun_count: AtomicU64::new(0), failed_count: AtomicU64::new(0), oldest_running };
        Self { shared: Arc::new(shared) }
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        self.shared.oldest_running.len()
    }

    /// The flushes of one shard. Nobody else may have them.
    ///
    /// # Panics
    /// When there is no such shard.
    pub fn shard(&self, shard_index: u16) -> ShardFlushes {
        let shard_index = usize::from(shard_index);
        assert!(shard_index < self.shard_count(), "a shard has its place among the directory's flushes");
        self.shared.oldest_running[shard_index].store(NONE_RUNNING, Ordering::SeqCst);
        let failures_known = self.shared.failed_count.load(Ordering::SeqCst);
        ShardFlushes { shared: Arc::clone(&self.shared), shard_index, running: Vec::new(), failures_known }
    }
}

/// One shard's part in the flushes of its directory.
#[derive(Debug)]
pub struct ShardFlushes {
    shared: Arc<Shared>,
    shard_index: usize,
    /// Numbers of its flushes that are under way, rising.
    running: Vec<u64>,
    /// Failures that the shard was recovered after.
    failures_known: u64,
}

/// A flush that has begun. It has to be ended, whatever becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    number: u64,
    failures_known: u64,
}

/// A flush that has ended well, as far as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Flushes with a lower number began before it ended.
    began_before: u64,
    failures_known: u64,
}

/// What a flush is worth that has ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All that it covers is on the device.
    Counts,
    /// Others are still under way that may have lost what it covers: ask again.
    Open,
    /// Another flush has failed, and may have lost what it covers.
    Lost,
}

impl ShardFlushes {
    /// To be called before the flush is handed to the kernel.
    pub fn begin(&mut self) -> Begun {
        let number = self.shared.begun_count.fetch_add(1, Ordering::SeqCst);
        // Whoever asks between these two steps misses this flush. It has not reached the device then.
        self.running.push(number);
        self.publish();
        Begun { number, failures_known: self.failures_known }
    }

    /// The flush has succeeded. Whether it counts is to be asked for.
    pub fn end_well(&mut self, begun: Begun) -> Ended {
        self.end(begun);
        let began_before = self.shared.begun_count.load(Ordering::SeqCst);
        Ended { began_before, failures_known: begun.failures_known }
    }

    /// The flush has failed, or nobody will learn how it ended.
    pub fn end_badly(&mut self, begun: Begun) {
        // In this order: whoever finds that it has ended finds the failure too.
        self.shared.failed_count.fetch_add(1, Ordering::SeqCst);
        self.end(begun);
    }

    /// Whether a flush counts that has ended well.
    pub fn verdict(&self, ended: Ended) -> Verdict {
        let running = self.shared.oldest_running.iter();
        let is_open = running.map(|oldest| oldest.load(Ordering::SeqCst)).any(|oldest| oldest < ended.began_before);
        // After the look at who is under way: see `end_badly`.
        if self.shared.failed_count.load(Ordering::SeqCst) != ended.failures_known {
            Verdict::Lost
        } else if is_open {
            Verdict::Open
        } else {
            Verdict::Counts
        }
    }

    /// Whether a flush of the directory has failed that the shard was not recovered after: none of its flushes counts.
    pub fn is_stale(&self) -> bool {
        self.shared.failed_count.load(Ordering::SeqCst) != self.failures_known
    }

    /// The shard's recovery begins: nothing that it has in memory, or has read so far, is relied on.
    pub fn start_over(&mut self) {
        self.failures_known = self.shared.failed_count.load(Ordering::SeqCst);
    }

    fn end(&mut self, begun: Begun) {
        let place = self.running.binary_search(&begun.number).expect("a flush ends once");
        self.running.remove(place);
        self.publish();
    }

    fn publish(&self) {
        let oldest = self.running.first().copied().unwrap_or(NONE_RUNNING);
        self.shared.oldest_running[self.shard_index].store(oldest, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
