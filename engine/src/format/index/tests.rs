//! An index file comes back as it was written, and nothing else is taken for one.

use super::*;

fn epoch(epoch: i32, start_offset: i64) -> EpochStart {
    EpochStart { epoch: LeaderEpoch::new(epoch), start_offset: Offset::new(start_offset) }
}

fn entry(base_offset: i64, position: u64, timestamp_before: i64) -> IndexEntry {
    IndexEntry { base_offset: Offset::new(base_offset), position: Position::new(position), timestamp_before }
}

fn sample() -> (SegmentSummary, Vec<IndexEntry>) {
    let summary = SegmentSummary {
        partition: PartitionId { topic: TopicId::from_bytes([5; 16]), partition: 2 },
        base_offset: Offset::new(100),
        end_offset: Offset::new(160),
        end_position: Position::new(30_000),
        timestamp_max: Some(77),
        epochs: vec![epoch(3, 100), epoch(7, 140)],
    };
    (summary, vec![entry(100, 4096, i64::MIN), entry(120, 9000, 77), entry(150, 20_000, 77)])
}

fn encoded(summary: &SegmentSummary, entries: &[IndexEntry]) -> Vec<u8> {
    let mut bytes = vec![0; summary.encoded_bytes(entries.len())];
    summary.encode(entries, &mut bytes);
    bytes
}

#[test]
fn what_is_written_is_read_back() {
    let (summary, entries) = sample();
    let mut bytes = encoded(&summary, &entries);
    bytes.resize(4096, 0);
    assert_eq!(SegmentSummary::head_bytes(&bytes), Some(HEADER_BYTES + 2 * EPOCH_BYTES));
    assert_eq!(SegmentSummary::decode_head(&bytes[..HEADER_BYTES + 2 * EPOCH_BYTES]), Some(summary.clone()));
    assert_eq!(SegmentSummary::decode(&bytes), Some((summary.clone(), entries)));

    let empty = SegmentSummary {
        end_offset: summary.base_offset,
        end_position: RECORDS_START,
        timestamp_max: None,
        epochs: Vec::new(),
        ..summary
    };
    assert_eq!(SegmentSummary::decode(&encoded(&empty, &[])), Some((empty, Vec::new())));
}

#[test]
fn a_flipped_bit_or_a_short_file_is_noticed() {
    let (summary, entries) = sample();
    let mut bytes = encoded(&summary, &entries);
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(SegmentSummary::decode(&bytes), None, "bit {bit}");
        let in_head = bit / 8 < summary.encoded_bytes(0);
        assert_eq!(SegmentSummary::decode_head(&bytes).is_none(), in_head, "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for cut in 0..bytes.len() {
        assert_eq!(SegmentSummary::decode(&bytes[..cut]), None, "cut at {cut}");
    }
}

/// A valid checksum over numbers that cannot be right.
#[test]
fn numbers_out_of_order_or_out_of_range_are_refused() {
    let refused = |change: &dyn Fn(&mut SegmentSummary, &mut Vec<IndexEntry>)| {
        let (mut summary, mut entries) = sample();
        change(&mut summary, &mut entries);
        SegmentSummary::decode(&encoded(&summary, &entries)).is_none()
    };
    assert!(!refused(&|_, _| ()));
    assert!(refused(&|summary, _| summary.end_offset = Offset::new(99)));
    assert!(refused(&|summary, _| summary.end_offset = Offset::new(150)), "an entry behind the end");
    assert!(refused(&|summary, _| summary.end_position = Position::new(20_000)), "an entry behind the end");
    assert!(refused(&|summary, _| summary.end_position = Position::new(u64::MAX)));
    assert!(refused(&|summary, _| summary.timestamp_max = None));
    assert!(refused(&|summary, _| summary.timestamp_max = Some(76)), "smaller than an entry says");
    assert!(refused(&|summary, _| summary.epochs[1] = epoch(3, 140)));
    assert!(refused(&|summary, _| summary.epochs[1] = epoch(7, 100)));
    assert!(refused(&|summary, _| summary.epochs[1] = epoch(7, 160)));
    assert!(refused(&|summary, _| summary.epochs[0] = epoch(-1, 100)));
    assert!(refused(&|summary, _| summary.partition.partition = -1));
    assert!(refused(&|_, entries| entries[1] = entry(100, 9000, 77)));
    assert!(refused(&|_, entries| entries[1] = entry(120, 4096, 77)));
    assert!(refused(&|_, entries| entries[2] = entry(150, 20_000, 76)));
    assert!(refused(&|_, entries| entries[0] = entry(99, 4096, i64::MIN)));
    assert!(refused(&|_, entries| entries[0] = entry(100, 4097, i64::MIN)));
    assert!(refused(&|_, entries| entries[0] = entry(100, 4096, 0)));
    assert!(refused(&|_, entries| entries.clear()), "a segment with batches has a first one");
}

#[test]
fn counts_beyond_the_bytes_allocate_nothing() {
    let (summary, entries) = sample();
    let mut bytes = encoded(&summary, &entries);
    for field in [68, 72] {
        let before = bytes.clone();
        bytes[field..field + 4].fill(0xff);
        let crc = ::crc32c::crc32c(&bytes[CRC_START..summary.encoded_bytes(0)]);
        bytes[8..12].copy_from_slice(U32::new(crc).as_bytes());
        assert_eq!(SegmentSummary::decode(&bytes), None);
        bytes = before;
    }
}

#[test]
fn file_names_have_one_spelling() {
    assert_eq!(file_name(Offset::new(42)), "00000000000000000042.index");
    assert_eq!(parse_file_name("00000000000000000042.index"), Some(Offset::new(42)));
    for wrong in ["42.index", "00000000000000000042.log", "0000000000000000004x.index", "-0000000000000000042.index"] {
        assert_eq!(parse_file_name(wrong), None, "{wrong}");
    }
}

proptest::proptest! {
    #[test]
    fn hostile_bytes_are_refused_without_a_panic(mut bytes: Vec<u8>, valid_crc: bool) {
        bytes.splice(..16.min(bytes.len()), [&MAGIC[..], &[0; 4], &[1, 0, 0, 0]].concat());
        if valid_crc && let Some(head) = SegmentSummary::head_bytes(&bytes).and_then(|head| bytes.get(CRC_START..head)) {
            let crc = ::crc32c::crc32c(head);
            bytes[8..12].copy_from_slice(U32::new(crc).as_bytes());
        }
        let _ = SegmentSummary::decode(&bytes);
    }
}
