//! Codecs against bytes of real producers, against themselves, against damage and against bombs.

use std::collections::BTreeMap;

use super::*;
use crate::batch::{BatchBuilder, BatchFields, RecordHeader};
use crate::sampler::Sampler;

const CODECS: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

const LIMIT: usize = 1 << 20;

/// The same fifty records, written by three clients: Apache Kafka 4.3.1's Java client, librdkafka 2.16.1 and
/// kafka-python 3.0.12. Offset, time, key, value and one header of each follow from its number.
const GOLDEN: [(&str, &[u8]); 12] = [
    ("java gzip", include_bytes!("../../../testdata/batches/java-gzip.batch")),
    ("java snappy", include_bytes!("../../../testdata/batches/java-snappy.batch")),
    ("java lz4", include_bytes!("../../../testdata/batches/java-lz4.batch")),
    ("java zstd", include_bytes!("../../../testdata/batches/java-zstd.batch")),
    ("librdkafka gzip", include_bytes!("../../../testdata/batches/librdkafka-gzip.batch")),
    ("librdkafka snappy", include_bytes!("../../../testdata/batches/librdkafka-snappy.batch")),
    ("librdkafka lz4", include_bytes!("../../../testdata/batches/librdkafka-lz4.batch")),
    ("librdkafka zstd", include_bytes!("../../../testdata/batches/librdkafka-zstd.batch")),
    ("kafka-python gzip", include_bytes!("../../../testdata/batches/kafka-python-gzip.batch")),
    ("kafka-python snappy", include_bytes!("../../../testdata/batches/kafka-python-snappy.batch")),
    ("kafka-python lz4", include_bytes!("../../../testdata/batches/kafka-python-lz4.batch")),
    ("kafka-python zstd", include_bytes!("../../../testdata/batches/kafka-python-zstd.batch")),
];

fn compressed(compression: Compression, input: &[u8]) -> Vec<u8> {
    Compressor::default().compress(compression, input).unwrap().to_vec()
}

/// Some compress well, some do not at all.
fn sample(random: &mut Sampler) -> Vec<u8> {
    let byte_count = random.below(200_000);
    let period_max = if random.next_bool() { 50 } else { 1 << 30 };
    let period = 1 + random.below(period_max);
    let mut noise = Sampler::new(random.next_u64());
    let pattern: Vec<u8> = (0..period.min(byte_count)).map(|_| noise.next_i8().cast_unsigned()).collect();
    pattern.iter().copied().cycle().take(byte_count).collect()
}

#[test]
fn batches_of_real_producers_are_read() {
    let mut decompressor = Decompressor::new(LIMIT);
    for (name, bytes) in GOLDEN {
        let batch = BatchView::parse_produced(bytes).unwrap();
        assert_ne!(batch.header().attributes().compression(), Some(Compression::None), "{name}");
        let mut count = 0;
        for (record, number) in decompressor.records(&batch).unwrap().zip(0_i64..) {
            let record = record.unwrap();
            assert_eq!((record.offset, record.timestamp), (number, 1_700_000_000_000 + number), "{name}");
            assert_eq!(record.key, Some(format!("key-{number}").as_bytes()), "{name}");
            assert_eq!(record.value, Some(format!("value-{number}-{}", "abcdefgh".repeat(10)).as_bytes()), "{name}");
            let value = format!("x{number}");
            let headers: Vec<_> = record.headers().collect();
            assert_eq!(headers, [RecordHeader { key: b"h", value: Some(value.as_bytes()) }], "{name}");
            count += 1;
        }
        assert_eq!(count, 50, "{name}");
    }
}

#[test]
fn both_forms_of_snappy_were_tested() {
    let forms: BTreeMap<_, _> = GOLDEN
        .iter()
        .map(|(name, bytes)| (*name, BatchView::parse(bytes).unwrap().records_bytes().starts_with(b"\x82SNAPPY\0")))
        .collect();
    assert!(forms["java snappy"]);
    assert!(!forms["librdkafka snappy"]);
}

#[test]
fn snappy_is_written_as_java_writes_it() {
    // Two chunks of 32 KiB and one of a byte, each a block with its length.
    let bytes = compressed(Compression::Snappy, &vec![7; 2 * 32 * 1024 + 1]);
    assert_eq!(bytes[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let mut lengths = Vec::new();
    let mut position = 16;
    while position < bytes.len() {
        let length = u32::from_be_bytes(bytes[position..position + 4].try_into().unwrap());
        let end = position + 4 + usize::try_from(length).unwrap();
        lengths.push(snap::raw::decompress_len(&bytes[position + 4..end]).unwrap());
        position = end;
    }
    assert_eq!(lengths, [32 * 1024, 32 * 1024, 1]);
    // Streams one after another are one stream.
    let twice = [bytes.as_slice(), bytes.as_slice()].concat();
    let mut decompressor = Decompressor::new(LIMIT);
    assert_eq!(decompressor.decompress(Compression::Snappy, &twice).unwrap(), vec![7; 4 * 32 * 1024 + 2]);
}

#[test]
fn what_is_compressed_comes_back() {
    let (mut compressor, mut decompressor) = (Compressor::default(), Decompressor::new(LIMIT));
    for seed in 0..60 {
        let mut random = Sampler::new(seed);
        let input = if seed == 0 { Vec::new() } else { sample(&mut random) };
        for codec in CODECS.into_iter().chain([Compression::None]) {
            let output = compressor.compress(codec, &input).unwrap();
            assert_eq!(decompressor.decompress(codec, output).unwrap(), input, "{codec:?}, seed {seed}");
        }
    }
}

#[test]
fn the_limit_is_exact() {
    let input = [7; 5000];
    for codec in CODECS {
        let bytes = compressed(codec, &input);
        assert_eq!(Decompressor::new(5000).decompress(codec, &bytes).unwrap(), input, "{codec:?}");
        for bytes_max in [4999, 100, 1, 0] {
            let error = Decompressor::new(bytes_max).decompress(codec, &bytes).unwrap_err();
            assert_eq!(error, CompressionError::TooLarge { bytes_max }, "{codec:?}");
        }
    }
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    let zeros = vec![0; 256 << 20];
    for codec in CODECS {
        let bomb = compressed(codec, &zeros);
        let mut decompressor = Decompressor::new(LIMIT);
        let error = decompressor.decompress(codec, &bomb).unwrap_err();
        assert_eq!(error, CompressionError::TooLarge { bytes_max: LIMIT }, "{codec:?}");
        assert!(decompressor.output.capacity() <= 2 * (LIMIT + 1), "{codec:?}");
    }
}

#[test]
fn a_length_that_its_bytes_cannot_stand_for_takes_no_memory() {
    // One literal byte, said to be 4 GiB - 1, and the same in a stream.
    let block = b"\xff\xff\xff\xff\x0f\x00a";
    let stream = [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01\0\0\0\x07".as_slice(), block].concat();
    for input in [block.as_slice(), &stream] {
        let mut decompressor = Decompressor::new(usize::MAX);
        let corrupt = CompressionError::Corrupt { compression: Compression::Snappy };
        assert_eq!(decompressor.decompress(Compression::Snappy, input).unwrap_err(), corrupt);
        assert_eq!(decompressor.output.capacity(), 0);
    }
    // A frame of eight literal bytes, whose header asks for a window of 2 GiB.
    let frame = b"\x28\xb5\x2f\xfd\x00\xa8\x41\x00\x00abcdefgh";
    let mut decompressor = Decompressor::new(LIMIT);
    assert_eq!(decompressor.decompress(Compression::Zstd, frame).map(<[u8]>::len), Ok(8));
    assert!(decompressor.output.capacity() <= 2 * ZSTD_ROOM_BYTES_MIN);
}

#[test]
fn truncated_input_is_an_error_or_a_prefix_and_never_panics() {
    let mut decompressor = Decompressor::new(LIMIT);
    for (name, bytes) in GOLDEN {
        let batch = BatchView::parse(bytes).unwrap();
        let codec = batch.header().attributes().compression().unwrap();
        let whole = decompressor.decompress(codec, batch.records_bytes()).unwrap().to_vec();
        for end in 0..batch.records_bytes().len() {
            let outcome = decompressor.decompress(codec, &batch.records_bytes()[..end]);
            assert!(outcome.is_err() || outcome.is_ok_and(|read| whole.starts_with(read)), "{name}, {end} bytes");
        }
    }
}

#[test]
fn flipped_bits_never_panic_and_never_pass_the_limit() {
    let bytes_max = 20_000;
    let mut decompressor = Decompressor::new(bytes_max);
    for (_, bytes) in GOLDEN {
        let batch = BatchView::parse(bytes).unwrap();
        let codec = batch.header().attributes().compression().unwrap();
        for bit in 0..batch.records_bytes().len() * 8 {
            let mut flipped = batch.records_bytes().to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(read) = decompressor.decompress(codec, &flipped) {
                assert!(read.len() <= bytes_max);
                assert!(Records::new(batch.header(), read).count() <= 51);
            }
        }
    }
    for seed in 0..4000 {
        let mut random = Sampler::new(seed);
        // A good beginning of one codec, then noise.
        let mut bytes = compressed(CODECS[random.below(4)], random.next_bytes());
        let index = random.below(bytes.len());
        bytes[index..].iter_mut().for_each(|byte| *byte = random.next_i8().cast_unsigned());
        for codec in CODECS {
            let byte_count = decompressor.decompress(codec, &bytes).map_or(0, <[u8]>::len);
            assert!(byte_count <= bytes_max, "{codec:?}, seed {seed}");
        }
    }
}

#[test]
fn records_that_are_not_compressed_are_read_in_place() {
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(5, Some(b"key"), None);
    let batch = builder.build();
    let mut decompressor = Decompressor::new(0);
    let records: Vec<_> = decompressor.records(&BatchView::parse(&batch).unwrap()).unwrap().collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].as_ref().map(|record| record.key), Ok(Some(&b"key"[..])));
}
