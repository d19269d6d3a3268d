//! A producers file comes back as it was written, and nothing else is taken for one.

use super::*;

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([4; 16]), partition: 9 };

fn batch(number: i64) -> ProducerBatch {
    let sequence = i32::try_from(number).unwrap();
    ProducerBatch {
        base_sequence: sequence * 2,
        last_sequence: sequence * 2 + 1,
        base_offset: Offset::new(number * 2),
        end_offset: Offset::new(number * 2 + 2),
        timestamp: number - 3,
    }
}

fn producer(id: i64, batch_count: i64) -> Producer {
    let mut producer = Producer::new(id, 3, batch(0));
    for number in 1..batch_count {
        producer.push(3, batch(number));
    }
    producer
}

fn producers(count: i64) -> Vec<Producer> {
    (0..count).map(|number| producer(number * 3, number % 7 + 1)).collect()
}

fn encoded(producers: &[Producer]) -> Vec<u8> {
    encode(PARTITION, Offset::new(100), producers.iter())
}

#[test]
fn what_is_written_is_read_back() {
    for count in [0, 1, 23, 24, 500] {
        let producers = producers(count);
        let mut bytes = encoded(&producers);
        assert!(bytes.len().is_multiple_of(BLOCK_BYTES));
        let (header, decoded) = decode(&bytes).unwrap();
        assert_eq!((header.partition, header.offset), (PARTITION, Offset::new(100)));
        assert_eq!(usize::try_from(header.block_count).unwrap() * BLOCK_BYTES, bytes.len());
        assert_eq!(decoded, producers);
        bytes.extend_from_slice(b"more");
        assert_eq!(decode(&bytes), Some((header, producers)));
    }
}

#[test]
fn blocks_taken_on_the_way_are_the_same_file() {
    let producers = producers(500);
    let mut writer = ProducersWriter::new(PARTITION, Offset::new(100));
    let mut later_blocks = Vec::new();
    for producer in &producers {
        writer.push(producer);
        later_blocks.extend(writer.take_blocks());
    }
    let finished = writer.finish();
    assert_eq!(finished.rest.len(), BLOCK_BYTES, "only the last block was left");
    let bytes = [finished.first, later_blocks, finished.rest].concat();
    assert_eq!(bytes, encoded(&producers));
    for (block_index, (block, first_id)) in (0..).zip(bytes.chunks(BLOCK_BYTES).zip(finished.first_ids)) {
        assert_eq!(finished.header.decode_block(block_index, block).unwrap()[0].id, first_id);
        assert_eq!(finished.header.decode_block(block_index + 1, block), None, "a block says where it belongs");
    }
}

#[test]
fn a_flipped_bit_or_a_short_file_is_noticed() {
    let mut bytes = encoded(&producers(40));
    assert_eq!(bytes.len(), 2 * BLOCK_BYTES);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(decode(&bytes), None, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for cut in (0..bytes.len()).step_by(61) {
        assert_eq!(decode(&bytes[..cut]), None, "cut at {cut}");
    }
}

/// Puts `bytes` over a file of one block, and makes both checksums right again.
fn forged(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = encoded(&[producer(5, 2), producer(6, 1)]);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = ::crc32c::crc32c(&file[HEADER_BYTES + BLOCK_CRC_START..]);
    file[HEADER_BYTES..HEADER_BYTES + 4].copy_from_slice(U32::new(crc).as_bytes());
    let crc = ::crc32c::crc32c(&file[HEADER_CRC_START..HEADER_BYTES]);
    file[8..12].copy_from_slice(U32::new(crc).as_bytes());
    file
}

/// Valid checksums over numbers that cannot be right.
#[test]
fn numbers_out_of_order_or_out_of_range_are_refused() {
    let first = HEADER_BYTES + BLOCK_HEAD_BYTES;
    let (batches, second) = (first + PRODUCER_BYTES, first + PRODUCER_BYTES + 2 * BATCH_BYTES);
    let number = |number: i64| I64::new(number).as_bytes().to_vec();
    assert!(decode(&forged(first, &number(4))).is_some(), "the forgery itself is fine");
    let forgeries = [
        ("ids that do not rise", first, number(6)),
        ("a negative id", first, number(-1)),
        ("no batches", first + 10, vec![0]),
        ("too many batches", first + 10, vec![6]),
        ("reserved bytes in use", first + 11, vec![1]),
        ("a negative offset", batches + 8, number(-1)),
        ("an empty batch", batches + 16, number(0)),
        ("a batch that goes back", batches + BATCH_BYTES + 8, number(1)),
        ("a batch behind the file's offset", batches + BATCH_BYTES + 16, number(101)),
        ("a producer more than there are", 68 + 4, vec![3]),
        ("more producers than bytes", 68 + 4, vec![0xff; 4]),
        ("a producer less than there are", 68 + 4, vec![1]),
        ("a file's count that is not the blocks'", 40, vec![3]),
        ("more blocks than bytes", 36, vec![0xff; 4]),
        ("no block", 36, vec![0; 4]),
        ("a negative partition", 32, vec![0xff; 4]),
        ("a negative offset of the file", 48, number(-1)),
        ("bytes behind the last producer", second + PRODUCER_BYTES + BATCH_BYTES, vec![1]),
    ];
    for (what, at, bytes) in forgeries {
        assert_eq!(decode(&forged(at, &bytes)), None, "{what}");
    }
}

#[test]
#[should_panic(expected = "in the order of their ids")]
fn producers_out_of_order_are_not_written() {
    let _ = encoded(&[producer(5, 1), producer(5, 1)]);
}

#[test]
fn file_names_have_one_spelling() {
    assert_eq!(file_name(Offset::new(7)), "00000000000000000007.producers");
    assert_eq!(parse_file_name("00000000000000000007.producers"), Some(Offset::new(7)));
    assert_eq!(parse_file_name("+0000000000000000007.producers"), None);
    assert_eq!(parse_file_name("7.producers"), None);
}

proptest::proptest! {
    #[test]
    fn hostile_bytes_are_refused_without_a_panic(
        noise in proptest::collection::vec(0_u8..4, 0..300),
        at in 0_usize..BLOCK_BYTES - 300,
    ) {
        let forged = forged(at, &noise);
        let _ = decode(&forged);
        let _ = decode_producer(&noise, Offset::new(100));
    }
}
