//! The index file of a segment: what the segment holds, without a look at its batches.
//!
//! ```text
//! | header | leader epochs | sparse entries |
//! |<---- head, crc ------->|<- entries crc >|
//! ```
//!
//! The head alone says enough to open a log, and is nearly always within the file's first block; the entries are read
//! when somebody looks for an offset or a time. Nothing is lost with the file: it is rebuilt from the segment.

use millrace_protocol::batch::crc32c;
use zerocopy::little_endian::{I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::segment_header::RECORDS_START;
use super::{FORMAT_VERSION, NUMBER_MAX, parse_offset_name, put};
use crate::model::{EpochStart, LeaderEpoch, Offset, PartitionId, Position, TopicId};

const MAGIC: [u8; 8] = *b"MRSEGIDX";
const SUFFIX: &str = ".index";
/// Stands for "no timestamp" where there is no batch.
const TIMESTAMP_NONE: i64 = i64::MIN;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    /// CRC-32C of the head behind this field.
    crc: U32,
    version: U32,
    topic: [u8; 16],
    partition: I32,
    base_offset: I64,
    end_offset: I64,
    end_position: U64,
    timestamp_max: I64,
    epoch_count: U32,
    entry_count: U32,
    /// CRC-32C of the entries.
    entries_crc: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEpoch {
    epoch: I32,
    start_offset: I64,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    base_offset: I64,
    position: U64,
    timestamp_before: I64,
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const EPOCH_BYTES: usize = size_of::<RawEpoch>();
const ENTRY_BYTES: usize = size_of::<RawEntry>();
const CRC_START: usize = 12;
const _: () = assert!(HEADER_BYTES == 80, "docs/FORMAT.md gives the layout byte by byte");
const _: () = assert!(EPOCH_BYTES == 12, "docs/FORMAT.md gives the layout byte by byte");
const _: () = assert!(ENTRY_BYTES == 24, "docs/FORMAT.md gives the layout byte by byte");

/// Name of a segment's index file: the segment's base offset in twenty digits.
pub fn file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}{SUFFIX}", base_offset = base_offset.get())
}

/// Base offset of the segment whose index file has this name.
pub fn parse_file_name(name: &str) -> Option<Offset> {
    parse_offset_name(name, SUFFIX)
}

/// Where one batch of a segment starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// Offset of the batch's first record.
    pub base_offset: Offset,
    /// The batch's first byte, counted from the start of the file.
    pub position: Position,
    /// Largest timestamp of the batches in front of this one, in milliseconds; `i64::MIN` when there are none.
    pub timestamp_before: i64,
}

// A segment of a gigabyte has thousands of them in memory.
const _: () = assert!(size_of::<IndexEntry>() <= 24);

/// What a segment holds, as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentSummary {
    /// The partition the segment belongs to.
    pub partition: PartitionId,
    /// Offset of the segment's first record, as in its name.
    pub base_offset: Offset,
    /// Offset behind the segment's last record. Invariant: at least `base_offset`.
    pub end_offset: Offset,
    /// Position in the file behind the last batch. Invariant: at least [`RECORDS_START`].
    pub end_position: Position,
    /// Largest record timestamp in milliseconds; `None` exactly when there is no batch. `find_by_time` of the index leads
    /// to the record that has it.
    pub timestamp_max: Option<i64>,
    /// The leader epochs of the segment's batches, each with the first offset it has in this segment.
    /// Invariant: epochs and offsets rise strictly, offsets lie between base and end.
    pub epochs: Vec<EpochStart>,
}

impl SegmentSummary {
    /// Bytes of the file with `entry_count` entries, without padding.
    pub fn encoded_bytes(&self, entry_count: usize) -> usize {
        HEADER_BYTES + self.epochs.len() * EPOCH_BYTES + entry_count * ENTRY_BYTES
    }

    /// Writes the file's content to the start of `target`.
    ///
    /// # Panics
    /// When `target` is shorter than [`Self::encoded_bytes`].
    pub fn encode(&self, entries: &[IndexEntry], target: &mut [u8]) {
        let (head, rest) = target.split_at_mut(self.encoded_bytes(0));
        let encoded_entries = &mut rest[..entries.len() * ENTRY_BYTES];
        for (entry, bytes) in entries.iter().zip(encoded_entries.chunks_exact_mut(ENTRY_BYTES)) {
            let raw = RawEntry {
                base_offset: I64::new(entry.base_offset.get()),
                position: U64::new(entry.position.get()),
                timestamp_before: I64::new(entry.timestamp_before),
            };
            put(bytes, raw.as_bytes());
        }
        for (epoch, bytes) in self.epochs.iter().zip(head[HEADER_BYTES..].chunks_exact_mut(EPOCH_BYTES)) {
            let raw = RawEpoch { epoch: I32::new(epoch.epoch.get()), start_offset: I64::new(epoch.start_offset.get()) };
            put(bytes, raw.as_bytes());
        }
        let count = |length: usize| U32::new(u32::try_from(length).expect("an index has far fewer than 2^32 entries"));
        let mut header = RawHeader {
            magic: MAGIC,
            crc: U32::ZERO,
            version: U32::new(FORMAT_VERSION),
            topic: *self.partition.topic.as_bytes(),
            partition: I32::new(self.partition.partition),
            base_offset: I64::new(self.base_offset.get()),
            end_offset: I64::new(self.end_offset.get()),
            end_position: U64::new(self.end_position.get()),
            timestamp_max: I64::new(self.timestamp_max.unwrap_or(TIMESTAMP_NONE)),
            epoch_count: count(self.epochs.len()),
            entry_count: count(entries.len()),
            entries_crc: U32::new(crc32c::checksum(encoded_entries)),
        };
        put(head, header.as_bytes());
        header.crc = U32::new(crc32c::checksum(&head[CRC_START..]));
        put(head, header.as_bytes());
    }

    /// Bytes that [`Self::decode_head`] needs, by the word of a file's first block that nothing has checked yet; `None`
    /// when it is not the start of an index file. The caller reads no more than the file has.
    pub fn head_bytes(block: &[u8]) -> Option<usize> {
        let header = read_header(block)?;
        usize::try_from(header.epoch_count.get()).ok()?.checked_mul(EPOCH_BYTES)?.checked_add(HEADER_BYTES)
    }

    /// Reads the head back, which more bytes may follow; `None` when it is not a valid one or not all there.
    pub fn decode_head(bytes: &[u8]) -> Option<Self> {
        let header = read_header(bytes)?;
        let head = bytes.get(..Self::head_bytes(bytes)?)?;
        if header.crc.get() != crc32c::checksum(&head[CRC_START..]) {
            return None;
        }
        if header.partition.get() < 0 || header.base_offset.get() < 0 {
            return None;
        }
        let (base_offset, end_offset) = (header.base_offset.get(), header.end_offset.get());
        let position_valid = (RECORDS_START.get()..=NUMBER_MAX).contains(&header.end_position.get());
        let end_position = Position::new(header.end_position.get());
        let timestamp_max = Some(header.timestamp_max.get()).filter(|timestamp| *timestamp != TIMESTAMP_NONE);
        let has_batches = end_position > RECORDS_START;
        if end_offset < base_offset || !position_valid || timestamp_max.is_some() != has_batches {
            return None;
        }
        let epochs: Vec<_> = head[HEADER_BYTES..].chunks_exact(EPOCH_BYTES).map(decode_epoch).collect::<Option<_>>()?;
        let summary = Self {
            partition: PartitionId { topic: TopicId::from_bytes(header.topic), partition: header.partition.get() },
            base_offset: Offset::new(base_offset),
            end_offset: Offset::new(end_offset),
            end_position,
            timestamp_max,
            epochs,
        };
        let rising = |pair: &[EpochStart]| pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset;
        let inside = summary.epochs.iter().all(|epoch| summary.offsets().contains(&epoch.start_offset));
        (inside && summary.epochs.windows(2).all(rising)).then_some(summary)
    }

    /// Reads a whole file back; `None` when it is not a valid one.
    pub fn decode(bytes: &[u8]) -> Option<(Self, Vec<IndexEntry>)> {
        let summary = Self::decode_head(bytes)?;
        let header = read_header(bytes)?;
        let entries_bytes = usize::try_from(header.entry_count.get()).ok()?.checked_mul(ENTRY_BYTES)?;
        let encoded = bytes.get(summary.encoded_bytes(0)..)?.get(..entries_bytes)?;
        if header.entries_crc.get() != crc32c::checksum(encoded) {
            return None;
        }
        let entries: Vec<_> = encoded.chunks_exact(ENTRY_BYTES).map(decode_entry).collect::<Option<_>>()?;
        summary.allows(&entries).then_some((summary, entries))
    }

    fn offsets(&self) -> std::ops::Range<Offset> {
        self.base_offset..self.end_offset
    }

    /// Whether the entries can be those of this segment.
    fn allows(&self, entries: &[IndexEntry]) -> bool {
        let positions = RECORDS_START..self.end_position;
        let inside = |entry: &IndexEntry| {
            self.offsets().contains(&entry.base_offset)
                && positions.contains(&entry.position)
                && Some(entry.timestamp_before) <= self.timestamp_max
        };
        let rising = |pair: &[IndexEntry]| {
            pair[0].base_offset < pair[1].base_offset
                && pair[0].position < pair[1].position
                && pair[0].timestamp_before <= pair[1].timestamp_before
        };
        let starts_at_the_first_batch = match entries.first() {
            Some(first) => first.position == RECORDS_START && first.timestamp_before == TIMESTAMP_NONE,
            None => self.end_position == RECORDS_START,
        };
        starts_at_the_first_batch && entries.iter().all(inside) && entries.windows(2).all(rising)
    }
}

fn read_header(bytes: &[u8]) -> Option<RawHeader> {
    let (header, _) = RawHeader::read_from_prefix(bytes).ok()?;
    (header.magic == MAGIC && header.version.get() == FORMAT_VERSION).then_some(header)
}

fn decode_epoch(bytes: &[u8]) -> Option<EpochStart> {
    let raw = RawEpoch::read_from_bytes(bytes).ok()?;
    let valid = raw.epoch.get() >= 0 && raw.start_offset.get() >= 0;
    valid.then(|| EpochStart {
        epoch: LeaderEpoch::new(raw.epoch.get()),
        start_offset: Offset::new(raw.start_offset.get()),
    })
}

fn decode_entry(bytes: &[u8]) -> Option<IndexEntry> {
    let raw = RawEntry::read_from_bytes(bytes).ok()?;
    (raw.base_offset.get() >= 0).then(|| IndexEntry {
        base_offset: Offset::new(raw.base_offset.get()),
        position: Position::new(raw.position.get()),
        timestamp_before: raw.timestamp_before.get(),
    })
}

#[cfg(test)]
mod tests;
