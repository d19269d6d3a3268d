//! The quantities of a log, one newtype each, so that two of them can never be mixed up.

use std::fmt;

/// Position of a record in its partition, counted from 0. An end offset is the offset the next record will get.
///
/// Invariant: not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset(i64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);

    /// The offset `value`.
    ///
    /// # Panics
    /// When `value` is negative: callers turn Kafka's negative sentinels into something else first.
    pub const fn new(value: i64) -> Self {
        assert!(value >= 0, "an offset is not negative");
        Self(value)
    }

    /// The offset as Kafka spells it.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The offset `count` records later, or `None` past the end of the number range.
    pub fn checked_add(self, count: i64) -> Option<Self> {
        self.0.checked_add(count).filter(|value| *value >= 0).map(Self)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Number of a leader's term in a partition (KIP-101). Never falls along a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaderEpoch(i32);

impl LeaderEpoch {
    /// The epoch `value`; -1 stands for "unknown", as in Kafka.
    pub const fn new(value: i32) -> Self {
        Self(value)
    }

    /// The epoch as Kafka spells it.
    pub const fn get(self) -> i32 {
        self.0
    }
}

/// How often a log's end was cut off. The offsets and positions above a cut are used again, so what was noted of one
/// incarnation means nothing in the next.
///
/// Invariant: at most [`Self::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Incarnation(u32);

impl Incarnation {
    /// The largest number, which is all that a checkpoint has room for.
    pub const MAX: u32 = (1 << 24) - 1;
    /// That of a log that was never cut.
    pub const FIRST: Self = Self(0);

    /// The incarnation `value`; `None` past [`Self::MAX`].
    pub const fn new(value: u32) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// Cuts before it.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// That after one more cut; `None` when there is none left.
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

/// Where a leader epoch begins in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Offset of the first record that was appended in it.
    pub start_offset: Offset,
}

/// Identity of a topic for its whole life (KIP-516): a topic made again under the same name has another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId([u8; 16]);

impl TopicId {
    /// The metadata log's own topic; the value is Kafka's.
    pub const METADATA: Self = Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    /// The id with these bytes, in UUID order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id's bytes, in UUID order.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for TopicId {
    /// Thirty-two hexadecimal digits: safe in file names on every file system, unlike Kafka's base64 spelling.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// The topic.
    pub topic: TopicId,
    /// Index of the partition in its topic, counted from 0. Invariant: not negative.
    pub partition: i32,
}

impl PartitionId {
    /// The metadata log.
    pub const METADATA: Self = Self { topic: TopicId::METADATA, partition: 0 };

    /// Name of the partition's directory: `<topic id in hexadecimal>-<partition>`.
    pub fn directory_name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    /// The partition whose directory has this name.
    pub fn parse_directory_name(name: &str) -> Option<Self> {
        let (topic, partition) = name.split_once('-')?;
        if topic.len() != 32 || !topic.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        let topic = u128::from_str_radix(topic, 16).ok()?.to_be_bytes();
        let partition: i32 = partition.parse().ok().filter(|number| *number >= 0)?;
        let id = Self { topic: TopicId(topic), partition };
        // One directory, one name: "00" or "+1" would be a second spelling.
        (id.directory_name() == name).then_some(id)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.topic, self.partition)
    }
}

/// Byte position in a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(u64);

impl Position {
    /// The byte `value`, counted from 0.
    pub const fn new(value: u64) -> Self {
        Self(value)
    }

    /// Bytes from the start of the file.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The position `bytes` further on.
    ///
    /// # Panics
    /// When the sum leaves the number range, which no file can reach.
    #[must_use]
    pub fn plus(self, bytes: usize) -> Self {
        let bytes = u64::try_from(bytes).expect("usize fits u64 on every supported machine");
        Self(self.0.checked_add(bytes).expect("a file position stays below 2^64"))
    }

    /// Bytes from `start` to here.
    ///
    /// # Panics
    /// When `start` lies behind this position.
    pub fn bytes_since(self, start: Self) -> usize {
        let bytes = self.0.checked_sub(start.0).expect("a range starts before it ends");
        usize::try_from(bytes).expect("ranges in memory fit usize")
    }

    /// Start of the block that holds this position.
    #[must_use]
    pub fn block_floor(self) -> Self {
        Self(self.0 - self.0 % BLOCK)
    }

    /// This position, or the start of the next block when it lies inside one.
    #[must_use]
    pub fn block_ceil(self) -> Self {
        Self(self.0.div_ceil(BLOCK) * BLOCK)
    }
}

const BLOCK: u64 = 4096;
const _: () = assert!(millrace_runtime::BLOCK_BYTES == 4096, "positions and the runtime agree on the block size");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_have_one_spelling() {
        let id = PartitionId { topic: TopicId::from_bytes([0xab; 16]), partition: 12 };
        assert_eq!(PartitionId::parse_directory_name(&id.directory_name()), Some(id));
        let hex = "ab".repeat(16);
        for wrong in
            ["", "x-0", &hex, &format!("{hex}-"), &format!("{hex}-01"), &format!("{hex}--1"), &hex.to_uppercase()]
        {
            assert_eq!(PartitionId::parse_directory_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn blocks_round_both_ways() {
        assert_eq!(Position::new(4095).block_floor(), Position::new(0));
        assert_eq!(Position::new(4096).block_floor(), Position::new(4096));
        assert_eq!(Position::new(4096).block_ceil(), Position::new(4096));
        assert_eq!(Position::new(4097).block_ceil(), Position::new(8192));
    }
}
