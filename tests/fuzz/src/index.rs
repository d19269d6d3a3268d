//! Target `index`: bytes as a segment's index file, as a producers file and as a segment's header.
//!
//! Byte 0 chooses: bits 0 and 1 the structure, bit 2 whether the rest is sealed as one. What is decoded is encoded again
//! and must be the same, and look-ups in a decoded index must lead into the segment.

use millrace_engine::format::index::SegmentSummary;
use millrace_engine::format::producers::{self, BLOCK_BYTES, ProducersHeader};
use millrace_engine::format::segment_header::{RECORDS_START, SegmentHeader};
use millrace_engine::log::index::OffsetIndex;
use millrace_engine::model::Offset;

use crate::{Reached, sealing};

const INDEX_HEADER_BYTES: usize = 80;
const INDEX_EPOCH_BYTES: usize = 12;
const PRODUCERS_HEADER_BYTES: usize = 64;
const SEGMENT_HEADER_BYTES: usize = 68;

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    let Some((choice, bytes)) = data.split_first() else { return Reached::Refusal };
    let (mut bytes, is_sealed) = (bytes.to_vec(), choice & 4 != 0);
    match choice & 3 {
        0 => {
            if is_sealed {
                sealing::structure(&mut bytes, *b"MRSEGMNT", SEGMENT_HEADER_BYTES);
            }
            segment_header(&bytes)
        }
        1 => {
            if is_sealed {
                seal_producers(&mut bytes);
            }
            producers_file(&bytes)
        }
        _ => {
            if is_sealed {
                seal_index(&mut bytes);
            }
            index_file(&bytes)
        }
    }
}

fn segment_header(bytes: &[u8]) -> Reached {
    let Some(header) = SegmentHeader::decode(bytes) else { return Reached::Refusal };
    let mut again = vec![0; SEGMENT_HEADER_BYTES];
    header.encode(&mut again);
    assert_eq!(SegmentHeader::decode(&again), Some(header));
    Reached::Content
}

fn index_file(bytes: &[u8]) -> Reached {
    let head = SegmentSummary::decode_head(bytes);
    assert!(head.is_none() || SegmentSummary::head_bytes(bytes).is_some_and(|needed| needed <= bytes.len()));
    let Some((summary, entries)) = SegmentSummary::decode(bytes) else { return Reached::Refusal };
    assert_eq!(head.as_ref(), Some(&summary), "the head says the same alone");
    let mut again = vec![0; summary.encoded_bytes(entries.len())];
    summary.encode(&entries, &mut again);
    assert_eq!(again, bytes[..again.len()], "an index has one spelling");

    let positions = RECORDS_START..summary.end_position;
    let index = OffsetIndex::from_entries(entries.clone(), summary.timestamp_max);
    for entry in &entries {
        let by_offset = index.find(entry.base_offset).expect("the index has entries");
        assert_eq!(by_offset, entry.position, "an entry is found by its offset");
        if let Some(position) = index.find_by_time(entry.timestamp_before) {
            assert!(position <= entry.position, "what reached a time lies before the entry that says so");
        }
    }
    for offset in [summary.base_offset, summary.end_offset, Offset::new(i64::MAX)] {
        assert!(index.find(offset).is_none_or(|position| positions.contains(&position)));
    }
    for timestamp in [i64::MIN, -1, 0, i64::MAX].into_iter().chain(summary.timestamp_max) {
        let found = index.find_by_time(timestamp);
        assert_eq!(found.is_some(), summary.timestamp_max.is_some_and(|largest| largest >= timestamp));
        assert!(found.is_none_or(|position| positions.contains(&position)));
    }
    Reached::Content
}

fn producers_file(bytes: &[u8]) -> Reached {
    let first = ProducersHeader::decode(bytes).and_then(|header| header.decode_block(0, bytes));
    let Some((header, known)) = producers::decode(bytes) else { return Reached::Refusal };
    let first = first.expect("the first block can be read alone");
    assert_eq!(first, known[..first.len()]);
    let again = producers::encode(header.partition, header.offset, known.iter());
    let (header_again, known_again) = producers::decode(&again).expect("what is encoded can be decoded");
    assert_eq!(known_again, known);
    assert_eq!((header_again.partition, header_again.offset), (header.partition, header.offset));
    assert!(header_again.block_count <= header.block_count, "no file is packed tighter than ours");
    Reached::Content
}

/// The head's checksum covers the epochs that the header counts, the entries' one the rest.
fn seal_index(bytes: &mut [u8]) {
    let count = |place: usize| bytes.get(place..place + 4).map(|count| u32::from_le_bytes([count[0], 0, 0, 0]));
    let (Some(epochs), Some(entries)) = (count(68), count(72)) else { return };
    if bytes.len() < INDEX_HEADER_BYTES {
        return;
    }
    // Few enough to fit a short input.
    let (epochs, entries) = (epochs % 8, entries % 64);
    bytes[68..72].copy_from_slice(&epochs.to_le_bytes());
    bytes[72..76].copy_from_slice(&entries.to_le_bytes());
    let head = INDEX_HEADER_BYTES + INDEX_EPOCH_BYTES * usize::try_from(epochs).unwrap_or(0);
    let end = head + 24 * usize::try_from(entries).unwrap_or(0);
    sealing::checksum(bytes, 76, head, end);
    sealing::structure(bytes, *b"MRSEGIDX", head);
}

/// Pads to whole blocks, numbers them and seals each.
fn seal_producers(bytes: &mut Vec<u8>) {
    let block_count = bytes.len().div_ceil(BLOCK_BYTES).clamp(1, 3);
    bytes.resize(block_count * BLOCK_BYTES, 0);
    let count = u32::try_from(block_count).unwrap_or(1);
    bytes[36..40].copy_from_slice(&count.to_le_bytes());
    sealing::structure(bytes, *b"MRPRODUC", PRODUCERS_HEADER_BYTES);
    for (block_index, block) in (0_u32..).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
        let start = if block_index == 0 { PRODUCERS_HEADER_BYTES } else { 0 };
        let body = &mut block[start..];
        body[4..8].copy_from_slice(&block_index.to_le_bytes());
        let end = body.len();
        sealing::checksum(body, 0, 4, end);
    }
}
