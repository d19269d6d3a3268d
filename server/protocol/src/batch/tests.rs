//! Batches against bytes made by hand, against every kind of damage, and records one by one.

use zerocopy::IntoBytes as _;

use super::*;
use crate::sampler::Sampler;

/// One record (key "k", value "v", header "h" without value) by the documented format; the checksum was made by
/// another implementation.
const GOLDEN: &[u8] = b"\x00\x00\x00\x00\x00\x00\x00\x2a\
    \x00\x00\x00\x3d\
    \x00\x00\x00\x05\
    \x02\
    \x5d\xa1\x6c\x2d\
    \x00\x00\
    \x00\x00\x00\x00\
    \x00\x00\x01\x8b\xcf\xe5\x68\x00\
    \x00\x00\x01\x8b\xcf\xe5\x68\x00\
    \x00\x00\x00\x00\x00\x00\x03\xe8\
    \x00\x07\
    \x00\x00\x00\x0b\
    \x00\x00\x00\x01\
    \x16\x00\x00\x00\x02k\x02v\x02\x02h\x01";

fn golden_builder() -> BatchBuilder {
    let producer = Some(ProducerFields { id: 1000, epoch: 7, base_sequence: 11 });
    BatchBuilder::new(BatchFields { base_offset: 42, leader_epoch: 5, attributes: Attributes(0), producer })
}

/// A batch with any header: `change` is applied before the checksum is made.
fn batch_with(record_count: i32, change: impl FnOnce(&mut BatchHeader)) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    for index in 0..record_count {
        builder.push(1000 + i64::from(index), None, Some(b"value"));
    }
    let mut batch = builder.build();
    change(header_mut(&mut batch));
    let crc = ::crc32c::crc32c(&batch[CRC_START..]);
    header_mut(&mut batch).crc = crc.into();
    batch
}

fn produced_error(batch: &[u8]) -> BatchError {
    BatchView::parse_produced(batch).unwrap_err()
}

#[test]
fn the_builder_writes_the_documented_bytes() {
    let mut builder = golden_builder();
    let header = RecordHeader { key: b"h", value: None };
    builder.push_with_headers(1_700_000_000_000, Some(b"k"), Some(b"v"), &[header]);
    assert_eq!(builder.build(), GOLDEN);
    assert_eq!(builder.batch_bytes(), GOLDEN.len());
}

#[test]
fn the_documented_bytes_are_read() {
    let batch = BatchView::parse_produced(GOLDEN).unwrap();
    assert_eq!(bitwise_crc32c(b"123456789"), 0xe306_9283, "the check value that every description of CRC-32C gives");
    assert_eq!(batch.header().crc.get(), bitwise_crc32c(&GOLDEN[21..]));
    assert_eq!((batch.header().last_offset(), batch.header().last_sequence()), (42, 11));
    assert_eq!(batch.bytes(), GOLDEN);
    let mut records = batch.records().unwrap();
    let record = records.next().unwrap().unwrap();
    assert_eq!((record.offset, record.timestamp), (42, 1_700_000_000_000));
    assert_eq!((record.key, record.value), (Some(&b"k"[..]), Some(&b"v"[..])));
    let headers: Vec<_> = record.headers().collect();
    assert_eq!(headers, [RecordHeader { key: b"h", value: None }]);
    assert!(records.next().is_none());
}

/// The checksum by its definition, one bit at a time: the polynomial 0x1EDC6F41, reflected.
fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn assigned_offsets_leave_the_checksum_valid() {
    let mut batch = GOLDEN.to_vec();
    assign_offsets(&mut batch, 1 << 40, 77);
    let view = BatchView::parse_produced(&batch).unwrap();
    assert_eq!((view.header().base_offset.get(), view.header().leader_epoch.get()), (1 << 40, 77));
    assert_eq!(batch[16..], GOLDEN[16..]);
}

#[test]
fn a_largest_time_that_the_header_lacks_is_found_and_written() {
    let mut batch = batch_with(3, |_| ());
    let told = BatchView::parse(&batch).unwrap().header().max_timestamp.get();
    assign_max_timestamp(&mut batch, -1);
    let view = BatchView::parse(&batch).unwrap();
    assert_eq!((view.header().max_timestamp.get(), view.max_timestamp()), (-1, told));
    assign_max_timestamp(&mut batch, told);
    assert_eq!(batch, batch_with(3, |_| ()));
    // Of an append time every record has the header's, whatever came before it.
    assign_log_append_time(&mut batch, 7);
    assert_eq!(BatchView::parse(&batch).unwrap().max_timestamp(), 7);
}

#[test]
fn an_append_time_is_written_with_the_right_checksum() {
    for record_count in [1, 2, 100] {
        let mut batch = batch_with(record_count, |_| ());
        assign_log_append_time(&mut batch, 5_000_000);
        let view = BatchView::parse(&batch).unwrap();
        assert!(view.header().attributes().is_log_append_time());
        assert!(view.records().unwrap().all(|record| record.unwrap().timestamp == 5_000_000));
        // Once more over a batch that already has an append time.
        assign_log_append_time(&mut batch, 6_000_000);
        assert_eq!(BatchView::parse(&batch).unwrap().header().max_timestamp.get(), 6_000_000);
    }
}

#[test]
fn every_prefix_is_incomplete() {
    for end in 0..GOLDEN.len() {
        let needed_bytes = if end < BATCH_BYTES_MIN { BATCH_BYTES_MIN } else { GOLDEN.len() };
        let error = BatchError::Incomplete { needed_bytes, byte_count: end };
        assert_eq!(BatchView::parse(&GOLDEN[..end]).unwrap_err(), error);
    }
}

#[test]
fn every_flipped_bit_is_noticed_except_in_what_the_leader_assigns() {
    for bit in 0..GOLDEN.len() * 8 {
        let mut batch = GOLDEN.to_vec();
        batch[bit / 8] ^= 1 << (bit % 8);
        let is_assigned = (0..8).contains(&(bit / 8)) || (12..16).contains(&(bit / 8));
        assert_eq!(BatchView::parse(&batch).is_ok(), is_assigned, "bit {bit}");
    }
}

#[test]
fn a_producer_sends_exactly_one_batch() {
    let twice = [GOLDEN, GOLDEN].concat();
    assert_eq!(produced_error(&twice), BatchError::TrailingBytes { byte_count: GOLDEN.len() });
    assert_eq!(BatchView::parse(&twice).unwrap().bytes(), GOLDEN);
}

#[test]
fn other_formats_and_lengths_are_refused() {
    let error = |change: fn(&mut BatchHeader)| BatchView::parse(&batch_with(1, change)).unwrap_err();
    assert_eq!(error(|header| header.magic = 1), BatchError::UnsupportedMagic { magic: 1 });
    assert_eq!(error(|header| header.batch_length = (-1).into()), BatchError::InvalidLength { batch_length: -1 });
    assert_eq!(error(|header| header.batch_length = 48.into()), BatchError::InvalidLength { batch_length: 48 });
    assert_eq!(error(|header| header.attributes = 5.into()), BatchError::UnknownCompression { codec: 5 });
    let base_offset = i64::MAX;
    let batch = batch_with(2, |header| header.base_offset = base_offset.into());
    assert_eq!(BatchView::parse(&batch).unwrap_err(), BatchError::InvalidBaseOffset { base_offset });
}

#[test]
fn counts_must_fit_each_other_and_the_bytes() {
    let invalid = |record_count, last_offset_delta| BatchError::InvalidCount { record_count, last_offset_delta };
    let batch = |count: i32, delta: i32| {
        batch_with(3, |header| {
            header.record_count = count.into();
            header.last_offset_delta = delta.into();
        })
    };
    for (count, delta) in [(-1, 2), (3, -1), (4, 2), (1000, 999), (0, 2), (i32::MAX, i32::MAX)] {
        assert_eq!(BatchView::parse(&batch(count, delta)).unwrap_err(), invalid(count, delta));
    }
    // Compaction leaves holes, a producer must not.
    assert!(BatchView::parse(&batch(3, 7)).is_ok());
    assert_eq!(produced_error(&batch(3, 7)), invalid(3, 7));
}

#[test]
fn an_emptied_batch_is_kept_but_not_produced() {
    let batch = BatchBuilder::new(BatchFields::default()).build();
    assert_eq!(BatchView::parse(&batch).unwrap().records().unwrap().count(), 0);
    let (record_count, last_offset_delta) = (0, 0);
    assert_eq!(produced_error(&batch), BatchError::InvalidCount { record_count, last_offset_delta });
}

#[test]
fn a_producer_may_not_write_what_is_the_brokers() {
    let error = |bits: i16| produced_error(&batch_with(1, |header| header.attributes = bits.into()));
    assert_eq!(error(1 << 5), BatchError::ControlFromProducer);
    assert_eq!(error(1 << 3), BatchError::BrokerTimeFromProducer);
    assert_eq!(error(1 << 6), BatchError::BrokerTimeFromProducer);
}

#[test]
fn producer_id_epoch_and_sequence_belong_together() {
    let parse = |producer_id: i64, producer_epoch: i16, base_sequence: i32, bits: i16| {
        let batch = batch_with(1, |header| {
            header.producer_id = producer_id.into();
            header.producer_epoch = producer_epoch.into();
            header.base_sequence = base_sequence.into();
            header.attributes = bits.into();
        });
        BatchView::parse_produced(&batch).map(drop)
    };
    let transactional = 1 << 4;
    assert_eq!(parse(5, 0, 0, 0), Ok(()));
    assert_eq!(parse(5, 0, 0, transactional), Ok(()));
    assert_eq!(parse(-1, 0, 0, 0), Ok(()), "kafkajs without idempotence");
    for (id, epoch, sequence, bits) in [(5, -1, 0, 0), (5, 0, -1, 0), (-2, 0, 0, 0), (-1, 0, 0, transactional)] {
        let error = BatchError::InvalidProducer { producer_id: id, producer_epoch: epoch, base_sequence: sequence };
        assert_eq!(parse(id, epoch, sequence, bits), Err(error));
    }
}

#[test]
fn sequences_wrap_to_zero() {
    let last = |base_sequence: i32, count| {
        let batch = batch_with(count, |header| header.base_sequence = base_sequence.into());
        BatchView::parse(&batch).unwrap().header().last_sequence()
    };
    assert_eq!(last(10, 3), 12);
    assert_eq!(last(i32::MAX, 1), i32::MAX);
    assert_eq!(last(i32::MAX, 2), 0);
    assert_eq!(last(i32::MAX - 1, 4), 1);
    assert_eq!(last(-1, 3), -1);
}

#[test]
fn compressed_records_are_not_read() {
    let batch = batch_with(1, |header| header.attributes = 4.into());
    let view = BatchView::parse_produced(&batch).unwrap();
    assert_eq!(view.header().attributes().compression(), Some(Compression::Zstd));
    assert_eq!(view.records().unwrap_err(), BatchError::Compressed);
}

#[test]
fn records_of_random_content_come_back() {
    for seed in 0..200 {
        let mut random = Sampler::new(seed);
        let mut builder = golden_builder();
        let records: Vec<_> = (0..random.below(20))
            .map(|_| {
                (random.next_i64() >> 20, random.nullable(Sampler::next_bytes), random.nullable(Sampler::next_bytes))
            })
            .collect();
        for (timestamp, key, value) in &records {
            builder.push(*timestamp, *key, *value);
        }
        let batch = builder.build();
        let read: Vec<_> = BatchView::parse(&batch).unwrap().records().unwrap().map(Result::unwrap).collect();
        assert_eq!(read.len(), records.len());
        for (index, (record, (timestamp, key, value))) in read.iter().zip(&records).enumerate() {
            assert_eq!(record.offset, 42 + i64::try_from(index).unwrap());
            assert_eq!((record.timestamp, record.key, record.value), (*timestamp, *key, *value));
        }
    }
}

#[test]
fn damaged_records_end_with_an_error_and_never_panic() {
    for seed in 0..2000 {
        let mut random = Sampler::new(seed);
        let mut batch = batch_with(5, |_| ());
        for _ in 0..=random.below(3) {
            let index = BATCH_BYTES_MIN + random.below(batch.len() - BATCH_BYTES_MIN);
            batch[index] = random.next_i8().cast_unsigned();
        }
        let header = *header_mut(&mut batch);
        let records: Vec<_> = Records::new(&header, &batch[BATCH_BYTES_MIN..]).collect();
        assert!(records.len() <= 6);
        let first_error = records.iter().position(Result::is_err);
        assert!(first_error.is_none_or(|index| index + 1 == records.len()), "nothing follows an error");
    }
}

#[test]
fn a_huge_header_count_is_an_error_without_allocation() {
    let header = *BatchHeader::parse(GOLDEN).unwrap().0;
    // Length 10: attributes, deltas, null key, null value, then a header count of i32::MAX.
    let records = b"\x14\x00\x00\x00\x01\x01\xfe\xff\xff\xff\x0f";
    let read: Vec<_> = Records::new(&header, records).map(|record| record.map(drop)).collect();
    assert_eq!(read, [Err(BatchError::MalformedRecord { index: 0 })]);
    assert_eq!(header.as_bytes(), &GOLDEN[..BATCH_BYTES_MIN]);
}
