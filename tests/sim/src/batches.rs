//! Record batches that know who they are: their content follows from an identity, and their size is asked for.

use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchBuilder, BatchFields, ProducerFields};

use crate::dice::mix;

/// The smallest batch that [`build`] makes, in bytes.
pub const BYTES_MIN: usize = 80;

/// Timestamp of the batch with identity 0; each later one is a millisecond younger. The time at which worlds start.
pub const TIMESTAMP_BASE: i64 = 1_750_000_000_000;

/// The timestamp of every record of the batch with this identity.
pub fn timestamp(identity: u64) -> i64 {
    TIMESTAMP_BASE + i64::try_from(identity).expect("identities are counted")
}

/// A batch of `bytes` (a few more if that size cannot be met) with `records` records whose values follow from `identity`.
pub fn build(identity: u64, bytes: usize, records: usize) -> Vec<u8> {
    build_of(None, identity, bytes, records)
}

/// The same, from an idempotent producer if one is given.
pub fn build_of(producer: Option<ProducerFields>, identity: u64, bytes: usize, records: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields { producer, ..BatchFields::default() });
    let timestamp = timestamp(identity);
    for _ in 1..records {
        builder.push(timestamp, None, Some(&identity.to_le_bytes()));
    }
    let rest = bytes.saturating_sub(builder.batch_bytes() - BATCH_BYTES_MIN);
    builder.push(timestamp, Some(&identity.to_le_bytes()), Some(&value(identity, value_bytes(rest))));
    builder.build()
}

fn value(identity: u64, bytes: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(bytes + 8);
    let mut word = mix(identity);
    while value.len() < bytes {
        value.extend_from_slice(&word.to_le_bytes());
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ identity;
    }
    value.truncate(bytes);
    value
}

/// Length of the value that makes a batch of one record with an eight-byte key `bytes` long, or just longer.
fn value_bytes(bytes: usize) -> usize {
    let start = bytes.saturating_sub(BATCH_BYTES_MIN + 24);
    (start..=bytes.max(start))
        .find(|value| one_record_bytes(*value) >= bytes)
        .expect("a value of that length is enough")
}

fn one_record_bytes(value: usize) -> usize {
    // Attributes, timestamp, offset, key with its length, number of headers: 13 bytes beside the value.
    let record = 13 + varint_bytes(value) + value;
    BATCH_BYTES_MIN + varint_bytes(record) + record
}

fn varint_bytes(value: usize) -> usize {
    // Zigzag doubles the number.
    let mut rest = 2 * value;
    let mut bytes = 1;
    while rest >= 0x80 {
        rest >>= 7;
        bytes += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_protocol::batch::BatchView;

    #[test]
    fn a_batch_has_the_size_that_was_asked_for() {
        for bytes in [80, 100, 512, 1024, 4096, 8192, 32_768, 100_000, 300_000] {
            for records in [1, 3] {
                let batch = build(7, bytes, records);
                assert_eq!(BatchView::parse(&batch).unwrap().bytes().len(), batch.len());
                assert!((bytes..bytes + 40).contains(&batch.len()), "{bytes} {records} {}", batch.len());
                assert!(records > 1 || batch.len() <= bytes + 1, "{bytes} {}", batch.len());
            }
        }
        assert_ne!(build(1, 512, 1), build(2, 512, 1));
    }
}
