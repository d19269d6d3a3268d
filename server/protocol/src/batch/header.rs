//! The 61 bytes before the records of a batch, as they stand in memory and on the wire.
//!
//! Kafka's `DefaultRecordBatch` documents the layout. Never decides what to do about a bad batch.

use zerocopy::big_endian::{I16, I32, I64, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::BatchError;

/// The header of a batch. Every bit pattern is one; [`BatchHeader::parse`] gives those that can be a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct BatchHeader {
    /// The offset of the first record. Assigned by the leader; producers send 0.
    pub base_offset: I64,
    /// The bytes that follow this field.
    pub batch_length: I32,
    /// The epoch of the leader that appended the batch. Assigned by the leader.
    pub leader_epoch: I32,
    /// The format: 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: U32,
    /// See [`Attributes`].
    pub attributes: I16,
    /// The last record's offset relative to the base offset. Compaction keeps it, so it may exceed the count.
    pub last_offset_delta: I32,
    /// The first record's time, or the delete horizon where the attributes say so.
    pub base_timestamp: I64,
    /// The latest record's time, or the append time where the attributes say so.
    pub max_timestamp: I64,
    /// The idempotent producer's id; -1 for none.
    pub producer_id: I64,
    /// The idempotent producer's epoch; means nothing without an id.
    pub producer_epoch: I16,
    /// The first record's sequence; means nothing without an id.
    pub base_sequence: I32,
    /// How many records there are. Zero in a batch that compaction emptied.
    pub record_count: I32,
}

/// The size of a header, and so of the smallest batch.
pub const BATCH_BYTES_MIN: usize = 61;
const _: () = assert!(size_of::<BatchHeader>() == BATCH_BYTES_MIN);

/// What stands before the part that `batch_length` counts.
pub(super) const LENGTH_END: usize = 12;
/// Where the checksum begins to count.
pub(super) const CRC_START: usize = 21;
const _: () = assert!(CRC_START == std::mem::offset_of!(BatchHeader, attributes));
/// Where the maximum timestamp ends: the last byte that an append time changes.
pub(super) const TIMES_END: usize = 43;
const _: () = assert!(TIMES_END == std::mem::offset_of!(BatchHeader, producer_id));

/// The fewest bytes of a record: one each for length, attributes, two deltas, key length, value length, header count.
const RECORD_BYTES_MIN: usize = 7;
/// The format's number.
pub(super) const MAGIC: i8 = 2;

impl BatchHeader {
    /// Looks at the start of `bytes` without reading the records: gives the header and the whole batch's size.
    ///
    /// Checks that the batch is complete and of format v2, and neither its checksum nor its counts.
    pub fn parse(bytes: &[u8]) -> Result<(&Self, usize), BatchError> {
        let byte_count = bytes.len();
        let Ok((header, _)) = Self::ref_from_prefix(bytes) else {
            return Err(BatchError::Incomplete { needed_bytes: BATCH_BYTES_MIN, byte_count });
        };
        if header.magic != MAGIC {
            return Err(BatchError::UnsupportedMagic { magic: header.magic });
        }
        let batch_length = header.batch_length.get();
        let batch_bytes = usize::try_from(batch_length).ok().and_then(|length| length.checked_add(LENGTH_END));
        let Some(batch_bytes) = batch_bytes.filter(|&batch_bytes| batch_bytes >= BATCH_BYTES_MIN) else {
            return Err(BatchError::InvalidLength { batch_length });
        };
        if batch_bytes > byte_count {
            return Err(BatchError::Incomplete { needed_bytes: batch_bytes, byte_count });
        }
        Ok((header, batch_bytes))
    }

    /// The attributes in readable form.
    pub fn attributes(&self) -> Attributes {
        Attributes(self.attributes.get())
    }

    /// The offset of the last record, which compaction may have removed.
    ///
    /// In a batch that passed [`super::BatchView::parse`] this is exact; in any other it stops at the largest offset.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.get().saturating_add(i64::from(self.last_offset_delta.get()))
    }

    /// The sequence of the last record. Sequences wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        let base_sequence = self.base_sequence.get();
        if base_sequence < 0 {
            return base_sequence;
        }
        base_sequence.wrapping_add(self.last_offset_delta.get()) & i32::MAX
    }

    /// The time from which compaction may drop the batch's tombstones (KIP-534), once it has been set.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        self.attributes().has_delete_horizon().then(|| self.base_timestamp.get())
    }

    /// Whether an idempotent or transactional producer wrote the batch.
    pub fn has_producer(&self) -> bool {
        self.producer_id.get() >= 0
    }

    /// Checks codec, counts and offsets against each other and against the bytes of the records.
    pub(super) fn check_counts(&self, records_bytes: usize) -> Result<(), BatchError> {
        let attributes = self.attributes();
        let Some(compression) = attributes.compression() else {
            return Err(BatchError::UnknownCompression { codec: attributes.compression_code() });
        };
        let (record_count, last_offset_delta) = (self.record_count.get(), self.last_offset_delta.get());
        let invalid_count = BatchError::InvalidCount { record_count, last_offset_delta };
        let count = usize::try_from(record_count).map_err(|_| invalid_count)?;
        if last_offset_delta < 0 || i64::from(record_count) > i64::from(last_offset_delta) + 1 {
            return Err(invalid_count);
        }
        let is_room_enough = match compression {
            Compression::None => count <= records_bytes / RECORD_BYTES_MIN && (count > 0 || records_bytes == 0),
            _ => count == 0 || records_bytes > 0,
        };
        if !is_room_enough {
            return Err(invalid_count);
        }
        let base_offset = self.base_offset.get();
        match base_offset.checked_add(i64::from(last_offset_delta)) {
            Some(_) => Ok(()),
            None => Err(BatchError::InvalidBaseOffset { base_offset }),
        }
    }

    /// Checks what only holds for batches on their way from a producer to the leader.
    pub(super) fn check_produced(&self) -> Result<(), BatchError> {
        let attributes = self.attributes();
        if attributes.is_control() {
            return Err(BatchError::ControlFromProducer);
        }
        if attributes.is_log_append_time() || attributes.has_delete_horizon() {
            return Err(BatchError::BrokerTimeFromProducer);
        }
        let (record_count, last_offset_delta) = (self.record_count.get(), self.last_offset_delta.get());
        // Offsets must be without holes: the producer counts them as it counts its records.
        if record_count < 1 || i64::from(record_count) != i64::from(last_offset_delta) + 1 {
            return Err(BatchError::InvalidCount { record_count, last_offset_delta });
        }
        let producer_id = self.producer_id.get();
        let (producer_epoch, base_sequence) = (self.producer_epoch.get(), self.base_sequence.get());
        let is_valid = match producer_id {
            // Epoch and sequence mean nothing then, and kafkajs sends 0 for both.
            -1 => !attributes.is_transactional(),
            0.. => producer_epoch >= 0 && base_sequence >= 0,
            _ => false,
        };
        if is_valid { Ok(()) } else { Err(BatchError::InvalidProducer { producer_id, producer_epoch, base_sequence }) }
    }
}

/// The attributes of a batch. Bits 7 to 15 are unused and left as the producer sent them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    const COMPRESSION_MASK: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;

    /// The attributes with the mark that the maximum timestamp is the append time of all records.
    #[must_use]
    pub const fn with_log_append_time(self) -> Self {
        Self(self.0 | Self::LOG_APPEND_TIME)
    }

    /// The attributes with the mark that the batch belongs to a transaction.
    #[must_use]
    pub const fn with_transactional(self) -> Self {
        Self(self.0 | Self::TRANSACTIONAL)
    }

    /// The attributes with the mark that the batch holds a control record.
    #[must_use]
    pub const fn with_control(self) -> Self {
        Self(self.0 | Self::CONTROL)
    }

    /// The attributes with the mark that the base timestamp is a delete horizon.
    #[must_use]
    pub const fn with_delete_horizon(self) -> Self {
        Self(self.0 | Self::DELETE_HORIZON)
    }

    /// What remains of the attributes when a batch loses all of its records: nothing is compressed, nothing expires.
    #[must_use]
    pub const fn emptied(self) -> Self {
        Self(self.0 & !(Self::COMPRESSION_MASK | Self::DELETE_HORIZON))
    }

    /// How the records are compressed; nothing if the code is unknown.
    pub const fn compression(self) -> Option<Compression> {
        Some(match self.compression_code() {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => return None,
        })
    }

    /// The code of the compression, 0 to 7.
    pub const fn compression_code(self) -> i16 {
        self.0 & Self::COMPRESSION_MASK
    }

    /// Whether the maximum timestamp is the time of append and holds for every record.
    pub const fn is_log_append_time(self) -> bool {
        self.0 & Self::LOG_APPEND_TIME != 0
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record, such as the end of a transaction.
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time from which compaction may drop tombstones (KIP-534).
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Code 1.
    Gzip,
    /// Code 2.
    Snappy,
    /// Code 3.
    Lz4,
    /// Code 4, from Produce 7 and Fetch 10 on.
    Zstd,
}
