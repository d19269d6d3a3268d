//! Makes magic numbers, versions and checksums right, so that a decoder looks at what lies behind them.
//!
//! Positions are those of docs/FORMAT.md, and for batches those of Kafka's `DefaultRecordBatch`. What is too short to hold
//! the fields is left as it is.

use millrace_engine::format::FORMAT_VERSION;

/// Where the checksum of all our own structures stands, and where what it covers begins.
const CRC: usize = 8;
const CRC_START: usize = 12;

const BATCH_BYTES_MIN: usize = 61;
const BATCH_CRC: usize = 17;
const BATCH_CRC_START: usize = 21;

/// Magic, version 2 and the checksum of everything up to `end` (or to where the bytes end).
pub fn structure(bytes: &mut [u8], magic: [u8; 8], end: usize) {
    if bytes.len() < CRC_START + 4 {
        return;
    }
    bytes[..8].copy_from_slice(&magic);
    bytes[CRC_START..CRC_START + 4].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
    checksum(bytes, CRC, CRC_START, end);
}

/// The little-endian CRC-32C, at `place`, of `start..end`.
pub fn checksum(bytes: &mut [u8], place: usize, start: usize, end: usize) {
    let end = end.min(bytes.len());
    if start <= end && place + 4 <= bytes.len() {
        let crc = crc32c::crc32c(&bytes[start..end]);
        bytes[place..place + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// One batch that is all of `bytes`: its length, its magic, a codec that exists and its checksum.
pub fn batch(bytes: &mut [u8]) {
    if bytes.len() < BATCH_BYTES_MIN {
        return;
    }
    let length = i32::try_from(bytes.len() - 12).unwrap_or(i32::MAX);
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    if bytes[22] & 0b111 > 4 {
        bytes[22] &= 0b1111_1011;
    }
    let crc = crc32c::crc32c(&bytes[BATCH_CRC_START..]);
    bytes[BATCH_CRC..BATCH_CRC_START].copy_from_slice(&crc.to_be_bytes());
}
