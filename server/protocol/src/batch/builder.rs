//! Makes uncompressed batches, for those who write records themselves: internal topics, tests, simulation, bench.
//!
//! Never compresses and never splits: whoever fills a batch keeps it below the topic's limit.

use zerocopy::IntoBytes as _;

use crate::wire::Writer;

use super::header::{CRC_START, LENGTH_END, MAGIC};
use super::{Attributes, BATCH_BYTES_MIN, BatchHeader, RecordHeader, crc32c};

/// Collects records and turns them into one batch.
#[derive(Debug)]
pub struct BatchBuilder {
    fields: BatchFields,
    records: Writer,
    /// One record's content, whose length must be known before it is written.
    scratch: Writer,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

/// What a batch has besides its records.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchFields {
    /// The offset of the first record.
    pub base_offset: i64,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Marks such as "transactional". Invariant: no compression.
    pub attributes: Attributes,
    /// The idempotent producer, if it is one.
    pub producer: Option<ProducerFields>,
}

/// What an idempotent producer puts into a batch.
#[derive(Clone, Copy, Debug)]
pub struct ProducerFields {
    /// The producer's id.
    pub id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// The first record's sequence.
    pub base_sequence: i32,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(fields: BatchFields) -> Self {
        assert_eq!(fields.attributes.compression_code(), 0, "the builder does not compress");
        let (records, scratch) = (Writer::new(), Writer::new());
        Self { fields, records, scratch, record_count: 0, base_timestamp: NO_TIMESTAMP, max_timestamp: NO_TIMESTAMP }
    }

    /// Appends a record without headers.
    pub fn push(&mut self, timestamp_ms: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.push_with_headers(timestamp_ms, key, value, &[]);
    }

    /// Appends a record.
    pub fn push_with_headers(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[RecordHeader<'_>],
    ) {
        if self.record_count == 0 {
            self.base_timestamp = timestamp_ms;
            self.max_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let record = &mut self.scratch;
        record.clear();
        record.write_i8(0);
        record.write_varlong(timestamp_ms.wrapping_sub(self.base_timestamp));
        record.write_varint(self.record_count);
        write_nullable(record, key);
        write_nullable(record, value);
        record.write_varint(length_of(headers));
        for header in headers {
            write_nullable(record, Some(header.key));
            write_nullable(record, header.value);
        }
        self.records.write_varint(length_of(record.bytes()));
        self.records.write_slice(record.bytes());
        self.record_count += 1;
    }

    /// How many records were pushed.
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// How many bytes the batch would take now.
    pub fn batch_bytes(&self) -> usize {
        BATCH_BYTES_MIN + self.records.position()
    }

    /// The batch. Without a record it is what compaction leaves of an emptied one, at one offset.
    pub fn build(&self) -> Vec<u8> {
        let BatchFields { base_offset, leader_epoch, attributes, producer } = self.fields;
        let producer = producer.unwrap_or(ProducerFields { id: -1, epoch: -1, base_sequence: -1 });
        let header = BatchHeader {
            base_offset: base_offset.into(),
            batch_length: 0.into(),
            leader_epoch: leader_epoch.into(),
            magic: MAGIC,
            crc: 0.into(),
            attributes: attributes.0.into(),
            last_offset_delta: (self.record_count - 1).max(0).into(),
            base_timestamp: self.base_timestamp.into(),
            max_timestamp: self.max_timestamp.into(),
            producer_id: producer.id.into(),
            producer_epoch: producer.epoch.into(),
            base_sequence: producer.base_sequence.into(),
            record_count: self.record_count.into(),
        };
        let mut batch = Vec::with_capacity(self.batch_bytes());
        append_batch(header, self.records.bytes(), &mut batch);
        batch
    }
}

/// Appends a batch of `header`, with the length and the checksum that are right for it, and `records` as they are.
///
/// Panics if the batch would have 2 GiB or more.
pub(super) fn append_batch(mut header: BatchHeader, records: &[u8], output: &mut Vec<u8>) {
    let batch_length = BATCH_BYTES_MIN + records.len() - LENGTH_END;
    header.batch_length = i32::try_from(batch_length).expect("a batch is far below 2 GiB").into();
    let crc = crc32c::checksum(&header.as_bytes()[CRC_START..]);
    header.crc = crc32c::append(crc, records).into();
    output.extend_from_slice(header.as_bytes());
    output.extend_from_slice(records);
}

/// The time of a batch without records.
pub(super) const NO_TIMESTAMP: i64 = -1;

fn write_nullable(record: &mut Writer, bytes: Option<&[u8]>) {
    match bytes {
        None => record.write_varint(-1),
        Some(bytes) => {
            record.write_varint(length_of(bytes));
            record.write_slice(bytes);
        }
    }
}

fn length_of<T>(elements: &[T]) -> i32 {
    i32::try_from(elements.len()).expect("a record is far below 2 GiB")
}
