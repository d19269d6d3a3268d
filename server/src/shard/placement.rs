//! Which shard owns a partition: a pure function of topic id, partition index and shard count.
//!
//! ```text
//! owner = (fnv1a(topic id) + partition) mod shard count        the metadata log: always shard 0
//! ```
//!
//! Every shard computes it, and every other broker can, because the shard count travels in a broker's registration.
//! Adding the partition index after hashing spreads the partitions of one topic evenly, which hashing both would not.
//!
//! Invariant: the result for given inputs never changes between releases. Brokers of different releases must agree, so
//! the hash is written out here rather than taken from a library that may improve it.

use std::fmt;

use millrace_engine::model::{PartitionId, TopicId};

/// Index of a shard, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(u16);

impl ShardIndex {
    /// The shard that accepts connections and leads the metadata log.
    pub const FIRST: Self = Self(0);

    /// The shard `index`.
    pub const fn new(index: u16) -> Self {
        Self(index)
    }

    /// The index as a number.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// All shards of a broker that has `shard_count`.
    pub fn all(shard_count: u16) -> impl Iterator<Item = Self> {
        (0..shard_count).map(Self)
    }

    /// The index as a place in a list with one entry per shard.
    pub fn slot(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The shard that owns `partition` in a broker of `shard_count` shards.
///
/// # Panics
/// When `shard_count` is 0 or the partition index is negative; both are refused where they enter.
pub fn owner(partition: PartitionId, shard_count: u16) -> ShardIndex {
    assert!(shard_count > 0, "a broker has at least one shard");
    if partition == PartitionId::METADATA {
        return ShardIndex::FIRST;
    }
    let index = u64::try_from(partition.partition).expect("a partition index is not negative");
    let slot = hash(partition.topic).wrapping_add(index) % u64::from(shard_count);
    ShardIndex(u16::try_from(slot).expect("a remainder is below its divisor"))
}

/// 64-bit FNV-1a of the id's sixteen bytes in UUID order.
fn hash(topic: TopicId) -> u64 {
    topic.as_bytes().iter().fold(FNV_OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME))
}

const FNV_OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn id(topic: [u8; 16], partition: i32) -> PartitionId {
        PartitionId { topic: TopicId::from_bytes(topic), partition }
    }

    /// These numbers are a contract between brokers. If this test fails, the code is wrong, not the test.
    #[test]
    fn the_hash_never_changes() {
        assert_eq!(hash(TopicId::from_bytes([0; 16])), 0x8820_1fb9_60ff_6465);
        assert_eq!(hash(TopicId::from_bytes(*b"0123456789abcdef")), fnv_by_hand(b"0123456789abcdef"));
        // The published vector of FNV-1a for "foobar" holds for the loop that `hash` shares its constants with.
        assert_eq!(fnv_by_hand(b"foobar"), 0x8594_4171_f739_67e8);
    }

    fn fnv_by_hand(bytes: &[u8]) -> u64 {
        let mut hash = FNV_OFFSET_BASIS;
        for byte in bytes {
            hash ^= u64::from(*byte);
            hash = hash.wrapping_mul(FNV_PRIME);
        }
        hash
    }

    #[test]
    fn partitions_of_a_topic_take_turns() {
        for shard_count in [1, 2, 3, 7, 64] {
            let first = owner(id([9; 16], 0), shard_count).get();
            for partition in 0..200 {
                let turn = u16::try_from(partition).unwrap();
                assert_eq!(owner(id([9; 16], partition), shard_count).get(), (first + turn) % shard_count);
            }
        }
    }

    #[test]
    fn topics_spread_over_shards() {
        let mut counts = [0_u32; 8];
        for topic in 0..4096_u16 {
            let [high, low] = topic.to_be_bytes();
            let mut bytes = [0; 16];
            (bytes[3], bytes[11]) = (high, low);
            counts[owner(id(bytes, 0), 8).slot()] += 1;
        }
        assert!(counts.iter().all(|count| (400..=624).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_metadata_log_lives_on_the_first_shard() {
        assert!((1..100).all(|shard_count| owner(PartitionId::METADATA, shard_count) == ShardIndex::FIRST));
    }
}
