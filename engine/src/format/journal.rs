//! The shard's journal: a header block, then a ring of rounds.
//!
//! ```text
//! byte 0        4096                                                     4096 + ring
//! | header block | round 17 | round 18 | (free) ... | round 15 | round 16 |
//! ```
//!
//! A round is written in one piece, starts on a block, and is padded with zeros to whole blocks:
//!
//! ```text
//! | RoundHeader 64 | Entry 56 x count | pieces of record batches, back to back | zeros |
//! ```
//!
//! Every round carries the nonce of the ring it was written to. It is drawn afresh whenever the ring is emptied, so that
//! neither an older lap nor record bytes that a client made to look like a round can be taken for one.

use millrace_protocol::batch::crc32c;
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT_VERSION, NUMBER_MAX, put};
use crate::model::{Incarnation, Offset, PartitionId, Position, TopicId};

/// Where the ring starts in the journal file.
pub const RING_START: u64 = 4096;

const JOURNAL_MAGIC: [u8; 8] = *b"MRJOURNL";
const ROUND_MAGIC: [u8; 8] = *b"MRROUND1";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawJournalHeader {
    magic: [u8; 8],
    /// CRC-32C of everything behind this field.
    crc: U32,
    version: U32,
    shard_index: U32,
    shard_count: U32,
    ring_bytes: U64,
    generation: U64,
    nonce: U64,
}

const _: () = assert!(size_of::<RawJournalHeader>() == 48, "docs/FORMAT.md gives the layout byte by byte");
const JOURNAL_CRC_START: usize = 12;

/// What the journal's first block says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalHeader {
    /// The shard that writes this journal.
    pub shard_index: u16,
    /// How many shards there were when the ring was last emptied.
    pub shard_count: u16,
    /// Length of the ring in bytes, a multiple of the block size.
    pub ring_bytes: u64,
    /// Counts how often the ring was emptied.
    pub generation: u64,
    /// Drawn at random for each generation; every round repeats it.
    pub nonce: u64,
}

impl JournalHeader {
    /// Writes the header to the start of a zeroed block.
    pub fn encode(&self, block: &mut [u8]) {
        let mut raw = RawJournalHeader {
            magic: JOURNAL_MAGIC,
            crc: U32::ZERO,
            version: U32::new(FORMAT_VERSION),
            shard_index: U32::new(u32::from(self.shard_index)),
            shard_count: U32::new(u32::from(self.shard_count)),
            ring_bytes: U64::new(self.ring_bytes),
            generation: U64::new(self.generation),
            nonce: U64::new(self.nonce),
        };
        raw.crc = U32::new(crc32c::checksum(&raw.as_bytes()[JOURNAL_CRC_START..]));
        put(block, raw.as_bytes());
    }

    /// Reads a header back; `None` when the block does not hold a valid one.
    pub fn decode(block: &[u8]) -> Option<Self> {
        let (raw, _) = RawJournalHeader::read_from_prefix(block).ok()?;
        let valid = raw.magic == JOURNAL_MAGIC
            && raw.crc.get() == crc32c::checksum(&raw.as_bytes()[JOURNAL_CRC_START..])
            && raw.version.get() == FORMAT_VERSION
            && raw.ring_bytes.get().is_multiple_of(RING_START)
            && raw.ring_bytes.get() <= NUMBER_MAX
            && raw.generation.get() <= NUMBER_MAX;
        valid.then_some(())?;
        Some(Self {
            shard_index: u16::try_from(raw.shard_index.get()).ok()?,
            shard_count: u16::try_from(raw.shard_count.get()).ok()?,
            ring_bytes: raw.ring_bytes.get(),
            generation: raw.generation.get(),
            nonce: raw.nonce.get(),
        })
    }
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawRound {
    magic: [u8; 8],
    /// CRC-32C of the `used_bytes` of the round that lie behind this field.
    crc: U32,
    /// Header, entries and pieces, without the padding.
    used_bytes: U32,
    nonce: U64,
    sequence: U64,
    tail_sequence: U64,
    tail_position: U64,
    entry_count: U32,
    flushed_sequence: U64,
    reserved: [u8; 4],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    topic: [u8; 16],
    partition: I32,
    kind: U32,
    segment_base: I64,
    position: U64,
    end_offset: I64,
    piece_bytes: U32,
    incarnation: U32,
}

/// Bytes of a round's header.
pub const ROUND_HEADER_BYTES: usize = size_of::<RawRound>();
/// Bytes of one entry of a round.
pub const ENTRY_BYTES: usize = size_of::<RawEntry>();
const ROUND_CRC_START: usize = 12;
const _: () = assert!(ROUND_HEADER_BYTES == 64 && ENTRY_BYTES == 56, "docs/FORMAT.md gives the layout byte by byte");

const KIND_PIECE: u32 = 1;
const KIND_DURABLE_END: u32 = 2;
const KIND_START: u32 = 3;

/// What a round says of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The log.
    pub partition: PartitionId,
    /// First offset of the segment that positions are counted in.
    pub segment_base: Offset,
    /// The log's incarnation when the round was written. What is said of an older one than the log's is void.
    pub incarnation: Incarnation,
    /// What it says.
    pub kind: EntryKind,
}

/// The things a round can say of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// These whole record batches belong at `position` of the segment; their bytes are in this round.
    Piece {
        /// Where the piece belongs.
        position: Position,
        /// Length of the piece.
        bytes: u32,
        /// Offset behind the piece's last record.
        end_offset: Offset,
    },
    /// An earlier round made the log durable in its segment up to here. Damage below is corruption, not a torn write.
    DurableEnd {
        /// Position behind the last durable batch.
        position: Position,
        /// Offset behind the last durable record.
        end_offset: Offset,
    },
    /// The log start offset moved: what lies below was deleted.
    Start {
        /// The first offset that can still be read.
        offset: Offset,
    },
}

/// What identifies a round within its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundHeader {
    /// The ring's nonce.
    pub nonce: u64,
    /// Counts the rounds of a generation, from 1.
    pub sequence: u64,
    /// The oldest round whose pieces recovery still needs. At most `sequence`.
    pub tail_sequence: u64,
    /// Where that round starts, in bytes from the start of the ring.
    pub tail_position: u64,
    /// The newest round that was flushed before this one was written; 0 when none was. Below `sequence`. Rounds behind
    /// it may be missing after the loss of power.
    pub flushed_sequence: u64,
}

/// Lays a round out in memory before it is written.
pub struct RoundEncoder<'a> {
    target: &'a mut [u8],
    entry_position: usize,
    piece_position: usize,
}

impl<'a> RoundEncoder<'a> {
    /// Bytes that a round takes on disk, padding included.
    pub fn round_bytes(entry_count: usize, piece_bytes: usize) -> usize {
        (ROUND_HEADER_BYTES + entry_count * ENTRY_BYTES + piece_bytes).next_multiple_of(millrace_runtime::BLOCK_BYTES)
    }

    /// Starts a round of `entry_count` entries in zeroed memory of [`Self::round_bytes`].
    pub fn new(target: &'a mut [u8], entry_count: usize) -> Self {
        Self {
            target,
            entry_position: ROUND_HEADER_BYTES,
            piece_position: ROUND_HEADER_BYTES + entry_count * ENTRY_BYTES,
        }
    }

    /// Adds an entry and the bytes of its piece (empty for other kinds).
    ///
    /// # Panics
    /// When more entries or bytes are added than were announced, or the bytes are not as many as the entry says.
    pub fn add(&mut self, entry: &Entry, piece: &[u8]) {
        let (kind, position, end_offset, bytes) = match entry.kind {
            EntryKind::Piece { position, bytes, end_offset } => (KIND_PIECE, position, end_offset, bytes),
            EntryKind::DurableEnd { position, end_offset } => (KIND_DURABLE_END, position, end_offset, 0),
            EntryKind::Start { offset } => (KIND_START, Position::default(), offset, 0),
        };
        assert_eq!(u32::try_from(piece.len()), Ok(bytes), "an entry and its piece agree");
        let raw = RawEntry {
            topic: *entry.partition.topic.as_bytes(),
            partition: I32::new(entry.partition.partition),
            kind: U32::new(kind),
            segment_base: I64::new(entry.segment_base.get()),
            position: U64::new(position.get()),
            end_offset: I64::new(end_offset.get()),
            piece_bytes: U32::new(bytes),
            incarnation: U32::new(entry.incarnation.get()),
        };
        put(&mut self.target[self.entry_position..], raw.as_bytes());
        self.entry_position += ENTRY_BYTES;
        put(&mut self.target[self.piece_position..], piece);
        self.piece_position += piece.len();
    }

    /// Completes the round with its header and checksum.
    pub fn finish(self, header: &RoundHeader) {
        let entry_count = (self.entry_position - ROUND_HEADER_BYTES) / ENTRY_BYTES;
        let mut raw = RawRound {
            magic: ROUND_MAGIC,
            crc: U32::ZERO,
            used_bytes: U32::new(u32::try_from(self.piece_position).expect("a round is far smaller than 4 GiB")),
            nonce: U64::new(header.nonce),
            sequence: U64::new(header.sequence),
            tail_sequence: U64::new(header.tail_sequence),
            tail_position: U64::new(header.tail_position),
            entry_count: U32::new(u32::try_from(entry_count).expect("entries fit the round")),
            flushed_sequence: U64::new(header.flushed_sequence),
            reserved: [0; 4],
        };
        put(self.target, raw.as_bytes());
        raw.crc = U32::new(crc32c::checksum(&self.target[ROUND_CRC_START..self.piece_position]));
        put(self.target, raw.as_bytes());
    }
}

/// A round read back and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round<'a> {
    /// Its header.
    pub header: RoundHeader,
    /// Its length on disk, padding included.
    pub bytes: usize,
    /// Its entries, each with its piece (empty for other kinds).
    pub entries: Vec<(Entry, &'a [u8])>,
}

impl<'a> Round<'a> {
    /// Reads the round at the start of `bytes`; `None` when there is none of the ring with this nonce, or not all of it.
    pub fn decode(bytes: &'a [u8], nonce: u64) -> Option<Self> {
        let (raw, _) = RawRound::read_from_prefix(bytes).ok()?;
        if raw.magic != ROUND_MAGIC || raw.nonce.get() != nonce {
            return None;
        }
        let used_bytes = usize::try_from(raw.used_bytes.get()).ok()?;
        let used = bytes.get(..used_bytes)?;
        let entry_count = usize::try_from(raw.entry_count.get()).ok()?;
        let pieces_start = entry_count.checked_mul(ENTRY_BYTES)?.checked_add(ROUND_HEADER_BYTES)?;
        let header = RoundHeader {
            nonce,
            sequence: raw.sequence.get(),
            tail_sequence: raw.tail_sequence.get(),
            tail_position: raw.tail_position.get(),
            flushed_sequence: raw.flushed_sequence.get(),
        };
        // The header's own fields are inside the checksum, except magic and crc.
        let checked = used.get(ROUND_CRC_START..)?;
        if pieces_start > used_bytes || raw.crc.get() != crc32c::checksum(checked) {
            return None;
        }
        let entries = decode_entries(&used[ROUND_HEADER_BYTES..pieces_start], &used[pieces_start..])?;
        Some(Self { header, bytes: used_bytes.next_multiple_of(millrace_runtime::BLOCK_BYTES), entries })
    }
}

fn decode_entries<'a>(mut entries: &[u8], mut pieces: &'a [u8]) -> Option<Vec<(Entry, &'a [u8])>> {
    let mut decoded = Vec::with_capacity(entries.len() / ENTRY_BYTES);
    while !entries.is_empty() {
        let (raw, rest) = RawEntry::read_from_prefix(entries).ok()?;
        entries = rest;
        if raw.partition.get() < 0 || raw.segment_base.get() < 0 || raw.end_offset.get() < 0 {
            return None;
        }
        if raw.position.get() > NUMBER_MAX {
            return None;
        }
        let (piece, rest) = pieces.split_at_checked(usize::try_from(raw.piece_bytes.get()).ok()?)?;
        pieces = rest;
        let position = Position::new(raw.position.get());
        let end_offset = Offset::new(raw.end_offset.get());
        let kind = match raw.kind.get() {
            KIND_PIECE => EntryKind::Piece { position, bytes: raw.piece_bytes.get(), end_offset },
            KIND_DURABLE_END if piece.is_empty() => EntryKind::DurableEnd { position, end_offset },
            KIND_START if piece.is_empty() => EntryKind::Start { offset: end_offset },
            _ => return None,
        };
        let partition = PartitionId { topic: TopicId::from_bytes(raw.topic), partition: raw.partition.get() };
        let (segment_base, incarnation) =
            (Offset::new(raw.segment_base.get()), Incarnation::new(raw.incarnation.get())?);
        decoded.push((Entry { partition, segment_base, incarnation, kind }, piece));
    }
    pieces.is_empty().then_some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let partition = PartitionId { topic: TopicId::from_bytes([9; 16]), partition: 4 };
        let piece = Entry {
            partition,
            segment_base: Offset::ZERO,
            incarnation: Incarnation::FIRST,
            kind: EntryKind::Piece { position: Position::new(4096), bytes: 5, end_offset: Offset::new(2) },
        };
        let durable = Entry {
            partition,
            segment_base: Offset::ZERO,
            incarnation: Incarnation::new(3).unwrap(),
            kind: EntryKind::DurableEnd { position: Position::new(9000), end_offset: Offset::new(40) },
        };
        let mut memory = vec![0; RoundEncoder::round_bytes(2, 5)];
        let mut encoder = RoundEncoder::new(&mut memory, 2);
        encoder.add(&piece, b"bytes");
        encoder.add(&durable, b"");
        encoder.finish(&RoundHeader {
            nonce: 77,
            sequence: 3,
            tail_sequence: 2,
            tail_position: 8192,
            flushed_sequence: 2,
        });
        let round = Round::decode(&memory, 77).expect("what was encoded decodes");
        assert_eq!(round.entries, vec![(piece, b"bytes".as_slice()), (durable, b"".as_slice())]);
        assert_eq!(
            round.header,
            RoundHeader { nonce: 77, sequence: 3, tail_sequence: 2, tail_position: 8192, flushed_sequence: 2 }
        );
        assert_eq!(round.bytes, 4096);
        memory
    }

    #[test]
    fn a_flipped_bit_a_short_round_or_another_ring_is_noticed() {
        let mut memory = sample();
        let used = ROUND_HEADER_BYTES + 2 * ENTRY_BYTES + 5;
        for bit in 0..used * 8 {
            memory[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Round::decode(&memory, 77), None, "bit {bit}");
            memory[bit / 8] ^= 1 << (bit % 8);
        }
        for bytes in 0..used {
            assert_eq!(Round::decode(&memory[..bytes], 77), None, "cut at {bytes}");
        }
        assert_eq!(Round::decode(&memory, 78), None);
    }

    #[test]
    fn the_journal_header_checks_itself() {
        let header = JournalHeader { shard_index: 1, shard_count: 2, ring_bytes: 1 << 20, generation: 5, nonce: 6 };
        let mut block = vec![0; 4096];
        header.encode(&mut block);
        assert_eq!(JournalHeader::decode(&block), Some(header));
        for bit in 0..48 * 8 {
            block[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(JournalHeader::decode(&block), None, "bit {bit}");
            block[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn numbers_that_nothing_reaches_are_refused() {
        let header = JournalHeader { shard_index: 1, shard_count: 2, ring_bytes: 4096, generation: 5, nonce: 6 };
        let mut block = vec![0; 4096];
        for (ring_bytes, generation) in [(1 << 63, 5), (4096, u64::MAX)] {
            JournalHeader { ring_bytes, generation, ..header }.encode(&mut block);
            assert_eq!(JournalHeader::decode(&block), None);
        }
        let partition = PartitionId { topic: TopicId::from_bytes([9; 16]), partition: 4 };
        let kind = EntryKind::DurableEnd { position: Position::new(NUMBER_MAX + 1), end_offset: Offset::ZERO };
        let mut encoder = RoundEncoder::new(&mut block, 1);
        let incarnation = Incarnation::FIRST;
        encoder.add(&Entry { partition, segment_base: Offset::ZERO, incarnation, kind }, b"");
        encoder.finish(&RoundHeader {
            nonce: 77,
            sequence: 3,
            tail_sequence: 2,
            tail_position: 8192,
            flushed_sequence: 2,
        });
        assert_eq!(Round::decode(&block, 77), None);
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_are_refused_without_a_panic(mut bytes: Vec<u8>) {
            let _ = JournalHeader::decode(&bytes);
            bytes.splice(..8.min(bytes.len()), ROUND_MAGIC);
            let _ = Round::decode(&bytes, 0);
            let _ = decode_entries(&bytes, &bytes);
        }
    }
}
