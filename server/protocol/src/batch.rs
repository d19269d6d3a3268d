//! Record batches of format v2 (magic 2), the only one that brokers of the 4.x line store and serve.
//!
//! ```text
//!  0            8             12            16      17      21
//!  +------------+-------------+-------------+-------+-------+------------------------ - - - ---+
//!  | baseOffset | batchLength | leaderEpoch | magic | crc   | attributes ... count | records   |
//!  +------------+-------------+-------------+-------+-------+------------------------ - - - ---+
//!               |             |<----------- batchLength bytes ------------------------------->|
//!                                                           |<- what the CRC-32C covers ----->|
//! ```
//!
//! Owns the header's layout, the checks that need no decompression, and what a leader writes in place. The base offset
//! and the leader epoch lie outside the CRC, so assigning them touches nothing else.
//!
//! A [`BatchView`] exists only for bytes that passed [`BatchView::parse`]. What lies in a compressed batch is not
//! looked at: its declared count and times are the producer's word, and our own readers must not trust them.

mod builder;
pub mod compression;
pub mod crc32c;
mod header;
mod records;
mod rewriter;

#[cfg(test)]
mod tests;

pub use builder::{BatchBuilder, BatchFields, ProducerFields};
pub use header::{Attributes, BATCH_BYTES_MIN, BatchHeader, Compression};
pub use records::{Record, RecordHeader, RecordHeaders, Records};
pub use rewriter::{BatchRewriter, write_emptied};

use thiserror::Error;
use zerocopy::FromBytes as _;

use header::{CRC_START, MAGIC, TIMES_END};

/// One batch whose structure and checksum have been checked.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// Checks the batch at the start of `bytes`, which more bytes may follow: length, magic, checksum, codec, counts.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let (header, batch_bytes) = BatchHeader::parse(bytes)?;
        let batch = Self { header, bytes: &bytes[..batch_bytes] };
        if crc32c::checksum(&batch.bytes[CRC_START..]) != header.crc.get() {
            return Err(BatchError::ChecksumMismatch);
        }
        header.check_counts(batch.records_bytes().len())?;
        Ok(batch)
    }

    /// Checks what a producer sent for one partition: exactly one batch, with what only a broker may write absent.
    pub fn parse_produced(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let batch = Self::parse(bytes)?;
        if batch.bytes.len() != bytes.len() {
            return Err(BatchError::TrailingBytes { byte_count: bytes.len() - batch.bytes.len() });
        }
        batch.header.check_produced()?;
        Ok(batch)
    }

    /// The header.
    pub fn header(&self) -> &'a BatchHeader {
        self.header
    }

    /// The whole batch, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header: the records, compressed as the attributes say.
    pub fn records_bytes(&self) -> &'a [u8] {
        &self.bytes[BATCH_BYTES_MIN..]
    }

    /// The records one by one, if they are not compressed.
    pub fn records(&self) -> Result<Records<'a>, BatchError> {
        match self.header.attributes().compression() {
            Some(Compression::None) => Ok(Records::new(self.header, self.records_bytes())),
            _ => Err(BatchError::Compressed),
        }
    }
}

impl BatchView<'_> {
    /// The largest time of its records. A producer that leaves it out of the header, as Sarama does, has it looked for:
    /// in the records, or, if they are compressed, taken from the first one, which the header has.
    pub fn max_timestamp(&self) -> i64 {
        let (base, told) = (self.header.base_timestamp.get(), self.header.max_timestamp.get());
        if told >= base || self.header.attributes().is_log_append_time() {
            return told;
        }
        let records = self.records().into_iter().flatten().map_while(Result::ok);
        records.map(|record| record.timestamp).fold(base, i64::max)
    }
}

/// Whether a batch that lies in `pieces`, header included, is of the known format and has the checksum that its header
/// says. What the checksum does not cover, its place in the log, is not looked at.
pub fn is_intact<'a>(header: &BatchHeader, pieces: impl Iterator<Item = &'a [u8]>) -> bool {
    let (mut crc, mut skipped) = (0, 0);
    for piece in pieces {
        let covered = piece.get(CRC_START - skipped..).unwrap_or_default();
        skipped += piece.len().min(CRC_START - skipped);
        crc = crc32c::append(crc, covered);
    }
    header.magic == MAGIC && crc == header.crc.get()
}

/// Writes what the leader decides into a checked batch. The checksum stays valid, because it covers neither field.
///
/// Panics if `batch` is shorter than a header, which no checked batch is.
pub fn assign_offsets(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    let header = header_mut(batch);
    header.base_offset = base_offset.into();
    header.leader_epoch = leader_epoch.into();
}

/// Turns the times of a checked batch into the broker's own, as `message.timestamp.type=LogAppendTime` asks.
///
/// This changes bytes under the checksum. CRC-32C is linear, so the new one follows from the old one and the changed
/// bytes alone, and the records are not read again: with `a` and `a'` the checksums of the changed part before and
/// after, and `shift` appending as many zero bytes as follow it, `crc' = crc ^ shift(a ^ a')`.
///
/// Panics if `batch` is shorter than a header, which no checked batch is.
pub fn assign_log_append_time(batch: &mut [u8], timestamp_ms: i64) {
    change_times(batch, |header| {
        header.attributes = header.attributes().with_log_append_time().0.into();
        header.max_timestamp = timestamp_ms.into();
    });
}

/// Writes the largest time of a checked batch into it, for a producer that did not. The checksum follows, as in
/// [`assign_log_append_time`].
///
/// Panics if `batch` is shorter than a header, which no checked batch is.
pub fn assign_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    change_times(batch, |header| header.max_timestamp = timestamp_ms.into());
}

/// Changes what lies in front of [`TIMES_END`], and the checksum with it.
fn change_times(batch: &mut [u8], change: impl FnOnce(&mut BatchHeader)) {
    let crc_before = crc32c::checksum(&batch[CRC_START..TIMES_END]);
    change(header_mut(batch));
    let crc_after = crc32c::checksum(&batch[CRC_START..TIMES_END]);
    let shifted = crc32c::combine(crc_before ^ crc_after, 0, batch.len() - TIMES_END);
    let header = header_mut(batch);
    header.crc = (header.crc.get() ^ shifted).into();
}

fn header_mut(batch: &mut [u8]) -> &mut BatchHeader {
    let (header, _) = BatchHeader::mut_from_prefix(batch).expect("a checked batch is longer than its header");
    header
}

/// Why bytes are not a batch, or not one that may be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch needs {needed_bytes} bytes and there are {byte_count}")]
    Incomplete {
        /// How many the batch needs: a header, or what the header says.
        needed_bytes: usize,
        /// How many there are.
        byte_count: usize,
    },
    /// The length leaves no room for the header.
    #[error("the batch length {batch_length} is out of range")]
    InvalidLength {
        /// The length in the header.
        batch_length: i32,
    },
    /// A format other than v2.
    #[error("the batch has magic {magic}, only 2 is supported")]
    UnsupportedMagic {
        /// The format in the header.
        magic: i8,
    },
    /// The checksum does not match the bytes.
    #[error("the checksum does not match the batch")]
    ChecksumMismatch,
    /// A compression codec that does not exist.
    #[error("no compression has the code {codec}")]
    UnknownCompression {
        /// The code in the attributes.
        codec: i16,
    },
    /// Counts that contradict each other or the number of bytes.
    #[error("{record_count} records up to delta {last_offset_delta} do not fit the batch")]
    InvalidCount {
        /// How many records the header declares.
        record_count: i32,
        /// The offset of the last one, relative to the first.
        last_offset_delta: i32,
    },
    /// The last offset would not fit an offset.
    #[error("base offset {base_offset} is out of range")]
    InvalidBaseOffset {
        /// The offset in the header.
        base_offset: i64,
    },
    /// Bytes after the one batch that a producer may send.
    #[error("{byte_count} bytes follow the batch")]
    TrailingBytes {
        /// How many.
        byte_count: usize,
    },
    /// A producer sent a control batch, which only brokers write.
    #[error("a producer may not send control batches")]
    ControlFromProducer,
    /// A producer claims a time that only brokers assign.
    #[error("a producer may not set the append time or the delete horizon")]
    BrokerTimeFromProducer,
    /// Producer id, epoch and sequence contradict each other.
    #[error("producer id {producer_id}, epoch {producer_epoch} and sequence {base_sequence} do not belong together")]
    InvalidProducer {
        /// The producer's id; -1 for none.
        producer_id: i64,
        /// The producer's epoch.
        producer_epoch: i16,
        /// The first record's sequence.
        base_sequence: i32,
    },
    /// The records cannot be read one by one without decompression.
    #[error("the batch is compressed")]
    Compressed,
    /// A record that contradicts its own length or the format.
    #[error("record {index} of the batch is malformed")]
    MalformedRecord {
        /// Its place in the batch, from 0.
        index: i32,
    },
}
