//! The first block of a segment file: whose it is. Record batches start at [`RECORDS_START`].
//!
//! The header keeps a segment from being read as another partition's, whatever happened to names in the file system.

use millrace_protocol::batch::crc32c;
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT_VERSION, NUMBER_MAX, put};
use crate::model::{Offset, PartitionId, Position, TopicId};

/// Where the first record batch of a segment starts.
pub const RECORDS_START: Position = Position::new(4096);

const MAGIC: [u8; 8] = *b"MRSEGMNT";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Raw {
    magic: [u8; 8],
    /// CRC-32C of everything behind this field.
    crc: U32,
    version: U32,
    topic: [u8; 16],
    partition: I32,
    base_offset: I64,
    /// -1 in a segment that was not compacted.
    compacted_end: I64,
    /// 0 in a segment that was not compacted.
    compacted_position: U64,
    filled_end: U64,
}

const RAW_BYTES: usize = size_of::<Raw>();
const CRC_START: usize = 12;
const _: () = assert!(RAW_BYTES == 68, "docs/FORMAT.md gives the layout byte by byte");

/// What a segment's first block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The partition the segment belongs to.
    pub partition: PartitionId,
    /// Offset of the segment's first record, also the file's name.
    pub base_offset: Offset,
    /// Up to here, on a block boundary, the file is made of written extents, and that is durable: a flush of the device
    /// is enough for what is written there. How far the file reaches says nothing about that. A lower bound.
    pub filled_end: Position,
    /// Set by compaction.
    pub compacted: Option<Compacted>,
}

/// What the header of a compacted segment says besides. In such a segment offsets may skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compacted {
    /// The segment holds what is left of all records from the base up to here, and any other segment that starts in
    /// between is one that it replaced.
    pub end_offset: Offset,
    /// Position behind its last batch.
    pub end_position: Position,
}

impl SegmentHeader {
    /// Writes the header to the start of a zeroed block.
    pub fn encode(&self, block: &mut [u8]) {
        let mut raw = Raw {
            magic: MAGIC,
            crc: U32::ZERO,
            version: U32::new(FORMAT_VERSION),
            topic: *self.partition.topic.as_bytes(),
            partition: I32::new(self.partition.partition),
            base_offset: I64::new(self.base_offset.get()),
            compacted_end: I64::new(self.compacted.map_or(-1, |compacted| compacted.end_offset.get())),
            compacted_position: U64::new(self.compacted.map_or(0, |compacted| compacted.end_position.get())),
            filled_end: U64::new(self.filled_end.get()),
        };
        raw.crc = U32::new(crc32c::checksum(&raw.as_bytes()[CRC_START..]));
        put(block, raw.as_bytes());
    }

    /// Reads a header back; `None` when the block does not hold a valid one.
    pub fn decode(block: &[u8]) -> Option<Self> {
        let (raw, _) = Raw::read_from_prefix(block).ok()?;
        let valid = raw.magic == MAGIC
            && raw.crc.get() == crc32c::checksum(&raw.as_bytes()[CRC_START..])
            && raw.version.get() == FORMAT_VERSION
            && raw.partition.get() >= 0
            && raw.base_offset.get() >= 0
            && raw.filled_end.get() <= NUMBER_MAX
            && (raw.compacted_end.get() == -1 || raw.compacted_end.get() >= raw.base_offset.get())
            && (raw.compacted_end.get() == -1
                || (RECORDS_START.get()..=NUMBER_MAX).contains(&raw.compacted_position.get()));
        valid.then(|| Self {
            partition: PartitionId { topic: TopicId::from_bytes(raw.topic), partition: raw.partition.get() },
            base_offset: Offset::new(raw.base_offset.get()),
            filled_end: Position::new(raw.filled_end.get()).block_floor(),
            compacted: (raw.compacted_end.get() >= 0).then(|| Compacted {
                end_offset: Offset::new(raw.compacted_end.get()),
                end_position: Position::new(raw.compacted_position.get()),
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_is_noticed() {
        let header = SegmentHeader {
            partition: PartitionId { topic: TopicId::from_bytes([7; 16]), partition: 3 },
            base_offset: Offset::new(99),
            filled_end: Position::new(65_536),
            compacted: Some(Compacted { end_offset: Offset::new(250), end_position: Position::new(5_000) }),
        };
        let mut block = vec![0; 4096];
        header.encode(&mut block);
        assert_eq!(SegmentHeader::decode(&block), Some(header));
        for bit in 0..RAW_BYTES * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&block), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(SegmentHeader::decode(&block[..RAW_BYTES - 1]), None);
    }
}
