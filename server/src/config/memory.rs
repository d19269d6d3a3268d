//! The broker's memory, cut into one budget per class and shard.
//!
//! Every class is a fixed share of a shard's memory, in 32nds, and the shares add up to the whole (checked at compile
//! time). What is past a budget waits; nothing grows. The numbers are chosen so that the two classes a slow client fills,
//! requests and leases, can never take what the log needs in order to write.

use std::fmt;

/// The budgets of all shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// How many shards share the memory. Invariant: `>= 1`.
    pub shard_count: u16,
    /// What each of them has.
    pub shard: ShardBudget,
}

/// The budgets of one shard, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardBudget {
    /// Received requests until they are answered.
    pub requests: usize,
    /// What large requests of many elements are decoded into, until they are answered.
    pub decoding: usize,
    /// Appended records until they are on the device.
    pub write_buffers: usize,
    /// Written records that are kept for readers at the tail.
    pub tail_cache: usize,
    /// What was read from segments, and is being read.
    pub read_cache: usize,
    /// Indexes of segments that take no more appends.
    pub indexes: usize,
    /// What is known of idempotent producers.
    pub producers: usize,
    /// Records lent to other shards that send them.
    pub leases: usize,
    /// The image of topics and partitions, and everything counted per partition.
    pub metadata: usize,
    /// What clients with incremental fetch sessions fetch.
    pub fetch_sessions: usize,
    /// Members and offsets of consumer groups.
    pub groups: usize,
    /// The keys of a compaction pass.
    pub key_map: usize,
    /// Records while they are decompressed.
    pub decompression: usize,
}

impl MemoryPlan {
    /// Cuts `bytes` evenly for `shard_count` shards, or says how much each of them would need at least. No shard needs
    /// more than `key_map_max` for its keys.
    pub fn cut(bytes: u64, shard_count: u16, key_map_max: usize) -> Result<Self, TooLittle> {
        assert!(shard_count >= 1, "a broker has at least one shard");
        let shard_bytes = bytes / u64::from(shard_count);
        let per_share = usize::try_from(shard_bytes / SHARES).unwrap_or(usize::MAX / 32);
        if shard_bytes < SHARD_BYTES_MIN {
            return Err(TooLittle { shard_bytes });
        }
        let tail_cache = (per_share * TAIL_CACHE_SHARES).min(TAIL_CACHE_BYTES_MAX);
        let key_map = (per_share * KEY_MAP_SHARES).min(key_map_max);
        let decompression = (per_share * DECOMPRESSION_SHARES).min(RECORDS_BYTES_MAX * DECOMPRESSIONS);
        let fetch_sessions = per_share / FETCH_SESSION_DIVISOR;
        let capped_shares = TAIL_CACHE_SHARES + KEY_MAP_SHARES + DECOMPRESSION_SHARES;
        let shard = ShardBudget {
            requests: per_share * REQUEST_SHARES,
            decoding: per_share * DECODING_SHARES,
            write_buffers: per_share * WRITE_BUFFER_SHARES,
            tail_cache,
            read_cache: per_share * READ_CACHE_SHARES,
            indexes: per_share * INDEX_SHARES,
            producers: per_share * PRODUCER_SHARES,
            // What the capped classes leave goes to the one that many readers fill.
            leases: per_share * (LEASE_SHARES + capped_shares) - tail_cache - key_map - decompression,
            metadata: per_share * METADATA_SHARES - fetch_sessions,
            fetch_sessions,
            groups: per_share * GROUP_SHARES,
            key_map,
            decompression,
        };
        let plan = Self { shard_count, shard };
        assert!(plan.bytes() <= bytes, "the budgets fit the memory they were cut from");
        Ok(plan)
    }

    /// The sum of all budgets of all shards.
    pub fn bytes(&self) -> u64 {
        let shard = u64::try_from(self.shard.bytes()).expect("usize is at most 64 bits");
        shard * u64::from(self.shard_count)
    }
}

impl ShardBudget {
    /// The sum of this shard's budgets.
    pub fn bytes(&self) -> usize {
        self.classes().iter().map(|(_, bytes)| bytes).sum()
    }

    /// Most that the records of one batch may take when they are decompressed.
    pub fn records_bytes_max(&self) -> usize {
        self.decompression / DECOMPRESSIONS
    }

    /// Each class with its name, in a fixed order.
    pub fn classes(&self) -> [(&'static str, usize); 13] {
        [
            ("requests", self.requests),
            ("decoding", self.decoding),
            ("write buffers", self.write_buffers),
            ("tail cache", self.tail_cache),
            ("read cache", self.read_cache),
            ("indexes", self.indexes),
            ("producers", self.producers),
            ("leases", self.leases),
            ("metadata", self.metadata),
            ("fetch sessions", self.fetch_sessions),
            ("groups", self.groups),
            ("compaction keys", self.key_map),
            ("decompression", self.decompression),
        ]
    }
}

/// The memory is too little for this many shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} a shard, at least {} is needed", mib(*shard_bytes), mib(SHARD_BYTES_MIN))]
pub struct TooLittle {
    /// What each shard would have had.
    pub shard_bytes: u64,
}

impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = match self.shard_count {
            1 => "1 shard:".to_owned(),
            count => format!("{count} shards; each"),
        };
        write!(f, "{} ({head}", mib(self.bytes()))?;
        for (index, (name, bytes)) in self.shard.classes().into_iter().enumerate() {
            let separator = if index == 0 { " " } else { ", " };
            write!(f, "{separator}{name} {}", mib(u64::try_from(bytes).expect("usize is at most 64 bits")))?;
        }
        f.write_str(")")
    }
}

/// `bytes` for people.
pub fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

/// The largest tail cache. Memory that is used again while the processor still caches it is cheap; memory touched for the
/// first time is not: with 750 MiB of tail cache a shard spent three quarters of its time on the kernel clearing pages.
/// A reader further behind reads from the device in large pieces.
pub const TAIL_CACHE_BYTES_MAX: usize = 64 << 20;

/// The largest limit of a batch's decompressed records. What clients send is far below it.
const RECORDS_BYTES_MAX: usize = 32 << 20;

/// Decompressed batches that a shard holds at once: one of compaction and one that was just received, each of which may take
/// twice its limit while it grows.
const DECOMPRESSIONS: usize = 4;

/// The least a shard can work with.
pub const SHARD_BYTES_MIN: u64 = 32 << 20;

const SHARES: u64 = 32;
const REQUEST_SHARES: usize = 7;
const DECODING_SHARES: usize = 1;
const WRITE_BUFFER_SHARES: usize = 6;
const TAIL_CACHE_SHARES: usize = 3;
const READ_CACHE_SHARES: usize = 3;
const INDEX_SHARES: usize = 1;
const PRODUCER_SHARES: usize = 1;
const LEASE_SHARES: usize = 2;
const METADATA_SHARES: usize = 1;
/// The part of a share that fetch sessions get; metadata has the rest of it.
const FETCH_SESSION_DIVISOR: usize = 2;
const GROUP_SHARES: usize = 1;
const KEY_MAP_SHARES: usize = 2;
const DECOMPRESSION_SHARES: usize = 4;
const _: () = assert!(
    REQUEST_SHARES
        + DECODING_SHARES
        + WRITE_BUFFER_SHARES
        + TAIL_CACHE_SHARES
        + READ_CACHE_SHARES
        + INDEX_SHARES
        + PRODUCER_SHARES
        + LEASE_SHARES
        + METADATA_SHARES
        + GROUP_SHARES
        + KEY_MAP_SHARES
        + DECOMPRESSION_SHARES
        == 32
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cut_never_exceeds_what_was_given() {
        for bytes in [SHARD_BYTES_MIN, SHARD_BYTES_MIN + 15, 1 << 30, (1 << 40) + 7] {
            for shard_count in [1, 2, 3, 64] {
                for key_map_max in [0, 1 << 20, usize::MAX] {
                    let Ok(plan) = MemoryPlan::cut(bytes, shard_count, key_map_max) else { continue };
                    assert!(plan.bytes() <= bytes && plan.bytes() > bytes - 32 * u64::from(shard_count) - 32 * 64);
                    assert!(plan.shard.tail_cache <= TAIL_CACHE_BYTES_MAX);
                    assert!(plan.shard.key_map <= key_map_max);
                    assert!((1 << 20..=RECORDS_BYTES_MAX).contains(&plan.shard.records_bytes_max()));
                }
            }
        }
    }

    #[test]
    fn too_little_is_refused_with_the_amount() {
        let error = MemoryPlan::cut(48 << 20, 2, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "24 MiB a shard, at least 32 MiB is needed");
    }
}
