//! Compaction: of all records with one key the newest stays (`cleanup.policy=compact`).
//!
//! Pure: bytes in, bytes out, no file and no clock. A driver reads segments in windows, hands them in and writes what comes
//! out. Everything here is `Send`, so that the driver can give each step to a thread that is not a shard: decompressing
//! and hashing take far longer than a shard may be held up.
//!
//! A pass:
//!
//! 1. An [`Indexer`] reads the dirty records, from the first that no pass has covered to the first that may not be
//!    compacted yet, and notes the newest offset of each key. Where its memory is used up it stops: the pass covers the
//!    records up to there.
//! 2. It turns into a [`Cleaner`], which reads the log from its start to the end of what is covered, in order, and writes
//!    each batch as it is, without its outdated records, as a bare header, or not at all.
//! 3. The driver replaces segments in the order of their offsets, and the end of what was covered becomes the start of
//!    the dirty records.
//!
//! # Memory and progress
//!
//! A log may have any number of keys; the map of a pass has a fixed size. A pass covers as many records as have keys that
//! fit, and at least one, since every map holds a key. So no log is too large to be compacted: one with `k` distinct dirty
//! keys takes at most `k / m + 1` passes of `m` keys each, and every pass leaves a valid log. Spilling sorted runs to
//! disk would cover all keys at once, but needs temporary files, their space on a disk that may be full, and their
//! clean-up after a crash. Its gain is to read the clean part of a log once instead of once per pass, and that only for
//! logs with more than `m` dirty keys: 4.9 million with 128 MiB.
//!
//! # What stays
//!
//! - Offsets never change. A batch keeps its base and last offset and its sequences whatever it loses.
//! - Records at or past the covered end, control batches, and batches that cannot be read stay as they are.
//! - A tombstone (a record without value) stays until its batch's delete horizon has come. The horizon is set by the first
//!   pass that covers the whole batch, `delete.retention.ms` after it (KIP-534), so that consumers have that long to
//!   learn of the deletion.
//! - A batch with the last sequence of a producer loses its records but not its header, or the producer would be taken
//!   for a new one after a restart.
//! - The first batch of a leader epoch, and of a segment, loses its records but not its header: replicas look for the
//!   offset at which the epoch before it ended.
//! - Records of aborted transactions, and in a compacted log records without key, go.
//!
//! A batch whose records cannot be decompressed, or take more memory than is allowed, is kept and reported, never dropped
//! and never a reason to stop: the other keys are compacted all the same. It may hold older records of any key, which no
//! pass can take away; so behind such a batch tombstones stay for ever, for without them those records would be back.
//! A batch whose checksum does not hold is damage of the disk: the pass ends, and the driver reports the log.

mod cleaner;
mod indexer;
mod key_map;
mod window;

#[cfg(test)]
mod tests;

pub use cleaner::Cleaner;
pub use indexer::{Indexed, Indexer};
pub use key_map::{Full, KeyMap};
pub use window::{Cleaned, Damage, DamageReason, Unread, UnreadReason};

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use millrace_protocol::batch::BatchHeader;

use crate::model::Offset;

/// What a pass must know of the log.
#[derive(Clone, Debug)]
pub struct PassConfig {
    /// The dirty records: from the first that no pass has covered, to the first that may not be compacted yet. Invariant:
    /// the end lies at or below the last stable offset and the start of the active segment.
    pub dirty: Range<Offset>,
    /// The wall clock at the start of the pass, in milliseconds since the epoch.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub tombstone_age_max: Duration,
    /// For each producer that is still known, the last offset of its last batch.
    pub producers: BTreeMap<i64, Offset>,
    /// The aborted transactions that ended below the end of the dirty records.
    pub aborted: AbortedTransactions,
    /// Memory for the keys, in bytes.
    pub key_map_bytes_max: usize,
    /// The most that the records of one batch may take when they are decompressed, in bytes. Decompression may hold twice
    /// as much for a moment.
    pub records_bytes_max: usize,
    /// Drawn at random for this pass: it keeps producers from making keys whose hashes collide.
    pub hash_key: [u64; 2],
}

/// Transactions whose records nobody may see.
#[derive(Clone, Debug, Default)]
pub struct AbortedTransactions {
    /// By producer and offset of the marker that ended the transaction: offset of its first record.
    by_end: BTreeMap<(i64, Offset), Offset>,
}

impl AbortedTransactions {
    /// Adds the transaction of `producer_id` that began at `first` and was ended by the marker at `marker`.
    pub fn insert(&mut self, producer_id: i64, first: Offset, marker: Offset) {
        assert!(first < marker, "a marker follows the records of its transaction");
        self.by_end.insert((producer_id, marker), first);
    }

    /// Whether what the producer wrote transactionally at `offset` was aborted.
    fn contains(&self, producer_id: i64, offset: Offset) -> bool {
        let later = self.by_end.range((producer_id, offset)..).next();
        later.is_some_and(|((id, _), first)| *id == producer_id && *first <= offset)
    }
}

/// Whether the batch belongs to a transaction whose records nobody may see.
fn is_aborted(config: &PassConfig, header: &BatchHeader) -> bool {
    let offset = Offset::new(header.base_offset.get());
    header.attributes().is_transactional() && config.aborted.contains(header.producer_id.get(), offset)
}

const _: () = {
    const fn is_send<T: Send + 'static>() {}
    // Both move to another thread and back with every window.
    is_send::<Indexer>();
    is_send::<Cleaner>();
};
