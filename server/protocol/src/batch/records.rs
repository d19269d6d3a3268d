//! The records of a batch that is not compressed, or whose records were decompressed, one by one.
//!
//! ```text
//! length varint | attributes int8 | timestampDelta varlong | offsetDelta varint
//!               | keyLength varint | key | valueLength varint | value | headerCount varint | headers
//! ```
//!
//! Trusts no count: it ends after the declared number of records and reports bytes that are left, and every record
//! must take exactly its declared length. Allocates nothing.

use crate::wire::{DecodeError, Reader, Writer};

use super::{BatchError, BatchHeader};

/// Yields the records of one batch. After an error it yields nothing more.
#[derive(Debug)]
pub struct Records<'a> {
    header: &'a BatchHeader,
    bytes: &'a [u8],
    reader: Reader<'a>,
    /// How many records were yielded.
    index: i32,
    is_over: bool,
}

impl<'a> Records<'a> {
    /// Reads `bytes`, uncompressed, as the records that `header` declares.
    pub fn new(header: &'a BatchHeader, bytes: &'a [u8]) -> Self {
        Self { header, bytes, reader: Reader::new(bytes), index: 0, is_over: false }
    }

    fn read_record(&mut self) -> Result<Record<'a>, DecodeError> {
        let position = self.reader.position();
        let length = self.reader.read_varint()?;
        let length = usize::try_from(length).map_err(|_| DecodeError::NegativeLength { position })?;
        let body = self.reader.read_slice(length)?;
        let mut reader = Reader::new(body);
        reader.read_i8()?; // The attributes of a record are unused.
        let timestamp_delta = reader.read_varlong()?;
        let behind_timestamp = reader.position();
        let offset_delta = reader.read_varint()?;
        if offset_delta < 0 || offset_delta > self.header.last_offset_delta.get() {
            return Err(DecodeError::NegativeLength { position });
        }
        let key = read_nullable(&mut reader)?;
        let value = read_nullable(&mut reader)?;
        let header_count = reader.read_varint()?;
        let headers = RecordHeaders { reader: reader.fork(), count_left: header_count };
        if header_count < 0 {
            return Err(DecodeError::NegativeLength { position });
        }
        for _ in 0..header_count {
            read_header(&mut reader)?;
        }
        reader.finish()?;

        let timestamp = if self.header.attributes().is_log_append_time() {
            self.header.max_timestamp.get()
        } else {
            self.header.base_timestamp.get().wrapping_add(timestamp_delta)
        };
        let offset = self.header.base_offset.get().saturating_add(i64::from(offset_delta));
        let encoded = Encoded { whole: &self.bytes[position..self.reader.position()], body, behind_timestamp };
        Ok(Record { offset, timestamp, key, value, headers, encoded })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let malformed = BatchError::MalformedRecord { index: self.index };
        if self.is_over {
            return None;
        }
        if self.index >= self.header.record_count.get() {
            self.is_over = true;
            return (self.reader.remaining() > 0).then_some(Err(malformed));
        }
        let record = self.read_record().map_err(|_| malformed);
        self.is_over = record.is_err();
        self.index += 1;
        Some(record)
    }
}

/// One record.
#[derive(Debug)]
pub struct Record<'a> {
    /// The record's offset.
    pub offset: i64,
    /// Milliseconds since the epoch: the append time if the batch says so, else the producer's.
    pub timestamp: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none marks the key as deleted.
    pub value: Option<&'a [u8]>,
    headers: RecordHeaders<'a>,
    encoded: Encoded<'a>,
}

/// A record as it stands in its batch, for those who copy it into another.
#[derive(Clone, Copy, Debug)]
struct Encoded<'a> {
    /// All of it, its length included.
    whole: &'a [u8],
    /// What its length counts.
    body: &'a [u8],
    /// Where in the body the offset delta begins.
    behind_timestamp: usize,
}

impl<'a> Record<'a> {
    /// The record as it stands in its batch, its length included. It means the same in every batch with the same base
    /// offset and base timestamp.
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded.whole
    }

    /// Appends the record in the form that it has in a batch with another base timestamp.
    pub(super) fn write_with_base_timestamp(&self, base_timestamp: i64, records: &mut Writer, scratch: &mut Writer) {
        let Encoded { body, behind_timestamp, .. } = self.encoded;
        scratch.clear();
        scratch.write_varlong(self.timestamp.wrapping_sub(base_timestamp));
        let behind = &body[behind_timestamp..];
        let body_bytes = 1 + scratch.position() + behind.len();
        records.write_varint(i32::try_from(body_bytes).expect("a record is far below 2 GiB"));
        records.write_slice(&body[..1]);
        records.write_slice(scratch.bytes());
        records.write_slice(behind);
    }

    /// The record's headers, in the producer's order.
    pub fn headers(&self) -> RecordHeaders<'a> {
        RecordHeaders { reader: self.headers.reader.fork(), count_left: self.headers.count_left }
    }
}

/// Yields the headers of one record, which were checked when the record was read.
#[derive(Debug)]
pub struct RecordHeaders<'a> {
    reader: Reader<'a>,
    count_left: i32,
}

impl<'a> Iterator for RecordHeaders<'a> {
    type Item = RecordHeader<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.count_left <= 0 {
            return None;
        }
        self.count_left -= 1;
        read_header(&mut self.reader).ok()
    }
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    /// The key. Text by convention; the broker does not care.
    pub key: &'a [u8],
    /// The value, if it has one.
    pub value: Option<&'a [u8]>,
}

fn read_header<'a>(reader: &mut Reader<'a>) -> Result<RecordHeader<'a>, DecodeError> {
    let position = reader.position();
    let key = read_nullable(reader)?.ok_or(DecodeError::UnexpectedNull { position })?;
    let value = read_nullable(reader)?;
    Ok(RecordHeader { key, value })
}

/// Bytes after a zigzag varint of their length; -1 is null.
fn read_nullable<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
    let position = reader.position();
    match reader.read_varint()? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| DecodeError::NegativeLength { position })?;
            reader.read_slice(length).map(Some)
        }
    }
}
