//! A shard's checkpoint: for each of its logs, how far it is durable in its segment.
//!
//! The file is replaced as a whole (written under another name, flushed, renamed), so a reader sees an old one or a new
//! one. It frees the part of the journal's ring that it covers.

use millrace_protocol::batch::crc32c;
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT_VERSION, NUMBER_MAX, put};
use crate::model::{Incarnation, LeaderEpoch, Offset, PartitionId, Position, TopicId};

const MAGIC: [u8; 8] = *b"MRCHECKP";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    /// CRC-32C of everything behind this field, entries included.
    crc: U32,
    version: U32,
    journal_generation: U64,
    journal_tail: U64,
    entry_count: U64,
    clean: U32,
    shard_count: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    topic: [u8; 16],
    partition: I32,
    leader_epoch: I32,
    start_offset: I64,
    segment_base: I64,
    position: U64,
    end_offset: I64,
    /// The lowest byte holds flags, the rest the incarnation.
    state: U32,
    compacted_end: I64,
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const ENTRY_BYTES: usize = size_of::<RawEntry>();
const CRC_START: usize = 12;
const SETTLED: u32 = 1;
const CUT_PENDING: u32 = 2;
const FLAG_BITS: u32 = 8;
const _: () = assert!(Incarnation::MAX == u32::MAX >> FLAG_BITS, "the rest of the state holds every incarnation");
const _: () = assert!(HEADER_BYTES == 48 && ENTRY_BYTES == 68, "docs/FORMAT.md gives the layout byte by byte");

/// How far one log is durable in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointEntry {
    /// The log.
    pub partition: PartitionId,
    /// Leader epoch of the last batch.
    pub leader_epoch: LeaderEpoch,
    /// The log start offset.
    pub start_offset: Offset,
    /// First offset of the active segment.
    pub segment_base: Offset,
    /// Position behind the last durable batch of the active segment.
    pub position: Position,
    /// Offset behind the last durable record.
    pub end_offset: Offset,
    /// In a clean checkpoint: the log ends exactly there.
    pub settled: bool,
    /// Records below were compacted; a lower bound.
    pub compacted_end: Offset,
    /// The log was cut there: what its files hold behind that is to be removed before the log is used.
    pub cut_pending: bool,
    /// What the journal says of an older incarnation is void.
    pub incarnation: Incarnation,
}

impl CheckpointEntry {
    fn state(&self) -> u32 {
        let settled = if self.settled { SETTLED } else { 0 };
        let cut_pending = if self.cut_pending { CUT_PENDING } else { 0 };
        self.incarnation.get() << FLAG_BITS | cut_pending | settled
    }
}

/// A checkpoint in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The oldest journal generation whose rounds still count; rounds of older ones are all in segments.
    pub journal_generation: u64,
    /// The oldest round of that generation that still counts. The ring may be overwritten below it.
    pub journal_tail: u64,
    /// How many shards there were.
    pub shard_count: u16,
    /// Whether the shard was stopped in order: every settled log ends where its entry says, and the journal holds nothing
    /// that counts.
    pub clean: bool,
    /// The logs.
    pub entries: Vec<CheckpointEntry>,
}

impl Checkpoint {
    /// Bytes of the encoded form, without padding.
    pub fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.entries.len() * ENTRY_BYTES
    }

    /// Writes the checkpoint to the start of `target`.
    ///
    /// # Panics
    /// When `target` is shorter than [`Self::encoded_bytes`].
    pub fn encode(&self, target: &mut [u8]) {
        let used = &mut target[..self.encoded_bytes()];
        for (index, entry) in self.entries.iter().enumerate() {
            let raw = RawEntry {
                topic: *entry.partition.topic.as_bytes(),
                partition: I32::new(entry.partition.partition),
                leader_epoch: I32::new(entry.leader_epoch.get()),
                start_offset: I64::new(entry.start_offset.get()),
                segment_base: I64::new(entry.segment_base.get()),
                position: U64::new(entry.position.get()),
                end_offset: I64::new(entry.end_offset.get()),
                state: U32::new(entry.state()),
                compacted_end: I64::new(entry.compacted_end.get()),
            };
            put(&mut used[HEADER_BYTES + index * ENTRY_BYTES..], raw.as_bytes());
        }
        let mut header = RawHeader {
            magic: MAGIC,
            crc: U32::ZERO,
            version: U32::new(FORMAT_VERSION),
            journal_generation: U64::new(self.journal_generation),
            journal_tail: U64::new(self.journal_tail),
            entry_count: U64::new(u64::try_from(self.entries.len()).expect("a count of logs fits u64")),
            clean: U32::new(u32::from(self.clean)),
            shard_count: U32::new(u32::from(self.shard_count)),
        };
        put(used, header.as_bytes());
        header.crc = U32::new(crc32c::checksum(&used[CRC_START..]));
        put(used, header.as_bytes());
    }

    /// Reads a checkpoint back; `None` when the bytes are not a valid one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (header, _) = RawHeader::read_from_prefix(bytes).ok()?;
        if header.magic != MAGIC || header.version.get() != FORMAT_VERSION {
            return None;
        }
        if header.journal_generation.get() > NUMBER_MAX || header.journal_tail.get() > NUMBER_MAX {
            return None;
        }
        let entry_count = usize::try_from(header.entry_count.get()).ok()?;
        let used_bytes = entry_count.checked_mul(ENTRY_BYTES)?.checked_add(HEADER_BYTES)?;
        let used = bytes.get(..used_bytes)?;
        if header.crc.get() != crc32c::checksum(&used[CRC_START..]) {
            return None;
        }
        let entries = used[HEADER_BYTES..].chunks_exact(ENTRY_BYTES).map(decode_entry).collect::<Option<Vec<_>>>()?;
        Some(Self {
            journal_generation: header.journal_generation.get(),
            journal_tail: header.journal_tail.get(),
            shard_count: u16::try_from(header.shard_count.get()).ok()?,
            clean: header.clean.get() == 1,
            entries,
        })
    }
}

fn decode_entry(bytes: &[u8]) -> Option<CheckpointEntry> {
    let raw = RawEntry::read_from_bytes(bytes).ok()?;
    let state = raw.state.get();
    let flags = state & (u32::MAX >> (u32::BITS - FLAG_BITS));
    if flags & !(SETTLED | CUT_PENDING) != 0 {
        return None;
    }
    let numbers = [raw.start_offset, raw.segment_base, raw.end_offset, raw.compacted_end];
    if raw.partition.get() < 0 || raw.position.get() > NUMBER_MAX || numbers.iter().any(|number| number.get() < 0) {
        return None;
    }
    Some(CheckpointEntry {
        partition: PartitionId { topic: TopicId::from_bytes(raw.topic), partition: raw.partition.get() },
        leader_epoch: LeaderEpoch::new(raw.leader_epoch.get()),
        start_offset: Offset::new(raw.start_offset.get()),
        segment_base: Offset::new(raw.segment_base.get()),
        position: Position::new(raw.position.get()),
        end_offset: Offset::new(raw.end_offset.get()),
        settled: flags & SETTLED != 0,
        cut_pending: flags & CUT_PENDING != 0,
        incarnation: Incarnation::new(state >> FLAG_BITS)?,
        compacted_end: Offset::new(raw.compacted_end.get()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flipped_bit_or_a_short_file_is_noticed() {
        let entry = CheckpointEntry {
            partition: PartitionId { topic: TopicId::from_bytes([3; 16]), partition: 1 },
            leader_epoch: LeaderEpoch::new(6),
            start_offset: Offset::ZERO,
            segment_base: Offset::ZERO,
            position: Position::new(5000),
            end_offset: Offset::new(12),
            settled: true,
            cut_pending: true,
            incarnation: Incarnation::new(Incarnation::MAX).unwrap(),
            compacted_end: Offset::new(9),
        };
        let checkpoint = Checkpoint {
            journal_generation: 8,
            journal_tail: 3,
            shard_count: 2,
            clean: true,
            entries: vec![entry, entry],
        };
        let mut bytes = vec![0; 4096];
        checkpoint.encode(&mut bytes);
        assert_eq!(Checkpoint::decode(&bytes), Some(checkpoint.clone()));
        let used = checkpoint.encoded_bytes();
        for bit in 0..used * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(Checkpoint::decode(&bytes), Some(checkpoint.clone()), "bit {bit}");
            assert_eq!(Checkpoint::decode(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for cut in 0..used {
            assert_eq!(Checkpoint::decode(&bytes[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn numbers_that_nothing_reaches_are_refused() {
        let checkpoint =
            Checkpoint { journal_generation: 8, journal_tail: 3, shard_count: 2, clean: true, entries: Vec::new() };
        let decoded = |checkpoint: &Checkpoint| {
            let mut bytes = vec![0; 4096];
            checkpoint.encode(&mut bytes);
            Checkpoint::decode(&bytes)
        };
        let largest = Checkpoint { journal_generation: NUMBER_MAX, journal_tail: NUMBER_MAX, ..checkpoint.clone() };
        assert_eq!(decoded(&largest), Some(largest.clone()));
        assert_eq!(decoded(&Checkpoint { journal_generation: u64::MAX, ..checkpoint.clone() }), None);
        assert_eq!(decoded(&Checkpoint { journal_tail: u64::MAX, ..checkpoint.clone() }), None);
        let entry = CheckpointEntry {
            partition: PartitionId { topic: TopicId::from_bytes([3; 16]), partition: 1 },
            leader_epoch: LeaderEpoch::new(6),
            start_offset: Offset::ZERO,
            segment_base: Offset::ZERO,
            position: Position::new(NUMBER_MAX + 1),
            end_offset: Offset::new(12),
            settled: false,
            cut_pending: false,
            incarnation: Incarnation::FIRST,
            compacted_end: Offset::ZERO,
        };
        assert_eq!(decoded(&Checkpoint { entries: vec![entry], ..checkpoint }), None);
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_a_panic(mut bytes: Vec<u8>) {
            bytes.splice(..8.min(bytes.len()), MAGIC);
            let _ = Checkpoint::decode(&bytes);
        }
    }
}
