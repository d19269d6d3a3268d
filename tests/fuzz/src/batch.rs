//! Target `batch`: bytes as a record batch.
//!
//! Byte 0 chooses: bit 0 seals the rest as one batch, bits 1 to 3 choose the limit of decompression. What can be read must
//! obey its header and the limit, and must be the same after a rewrite, an append time and an offset.

use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{
    BatchHeader, BatchRewriter, BatchView, Compression, Records, assign_log_append_time, assign_offsets, write_emptied,
};

use crate::{Reached, sealing};

/// Limits of decompression, in bytes. The largest is far below the memory that the fuzzer may take.
const LIMITS: [usize; 8] = [0, 1, 100, 4096, 65_536, 65_537, 1 << 20, 4 << 20];

/// A record as far as it must survive: offset, time, key, value, headers.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    header_count: usize,
}

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    let Some((choice, bytes)) = data.split_first() else { return Reached::Refusal };
    let mut bytes = bytes.to_vec();
    if choice & 1 == 1 {
        sealing::batch(&mut bytes);
    }
    let limit = LIMITS[usize::from(choice >> 1 & 7)];
    let whole = BatchHeader::parse(&bytes).is_ok();
    let Ok(view) = BatchView::parse(&bytes) else { return Reached::Refusal };
    assert!(whole, "what is a batch has a header");
    if BatchView::parse_produced(&bytes).is_ok() {
        assert_eq!(view.bytes().len(), bytes.len(), "a producer sends one batch");
    }
    check_header_changes(&view);
    check_records(&view, limit)
}

/// What a leader, and a compaction that keeps nothing, write of any batch.
fn check_header_changes(view: &BatchView<'_>) {
    let mut changed = view.bytes().to_vec();
    assign_offsets(&mut changed, 7, 3);
    let moved = BatchView::parse(&changed).expect("offset and epoch lie outside the checksum");
    assert_eq!(moved.header().last_offset(), 7 + i64::from(view.header().last_offset_delta.get()));
    assign_log_append_time(&mut changed, 1234);
    let timed = BatchView::parse(&changed).expect("the checksum follows the append time");
    assert!(timed.header().attributes().is_log_append_time());
    assert_eq!(timed.records_bytes(), view.records_bytes());

    let mut emptied = Vec::new();
    write_emptied(view.header(), &mut emptied);
    let emptied = BatchView::parse(&emptied).expect("an emptied batch is a batch");
    assert_eq!(emptied.header().record_count.get(), 0);
    assert_eq!(emptied.header().last_offset(), view.header().last_offset());
    assert_eq!(emptied.header().last_sequence(), view.header().last_sequence());
}

fn check_records(view: &BatchView<'_>, limit: usize) -> Reached {
    let header = view.header();
    let mut decompressor = Decompressor::new(limit);
    let compression = header.attributes().compression().expect("a checked batch has a known codec");
    let Ok(bytes) = decompressor.decompress(compression, view.records_bytes()) else { return Reached::Refusal };
    if compression != Compression::None {
        assert!(bytes.len() <= limit, "{} bytes with a limit of {limit}", bytes.len());
    }
    assert_eq!(view.records().is_ok(), compression == Compression::None);
    let Some(contents) = contents(header, bytes) else { return Reached::Refusal };
    let (base, last) = (header.base_offset.get(), header.last_offset());
    assert!(contents.iter().all(|record| (base..=last).contains(&record.offset)), "records lie in their batch");
    assert_eq!(i32::try_from(contents.len()), Ok(header.record_count.get()));

    let horizon = (!header.attributes().has_delete_horizon()).then_some(5_000);
    for horizon in [None, horizon] {
        let mut rewriter = BatchRewriter::default();
        rewriter.begin(header, horizon);
        for record in Records::new(header, bytes).step_by(2) {
            rewriter.push(&record.expect("it was read before"));
        }
        let mut rewritten = Vec::new();
        rewriter.finish(&mut rewritten).expect("what was read can be written");
        let view = BatchView::parse(&rewritten).expect("a rewritten batch is a batch");
        assert_eq!(view.header().last_offset(), last);
        let mut generous = Decompressor::new(8 << 20);
        let bytes = generous.decompress(compression, view.records_bytes()).expect("what we compress can be read");
        let expected: Vec<_> = contents.iter().step_by(2).cloned().collect();
        assert_eq!(self::contents(view.header(), bytes), Some(expected));
    }
    Reached::Content
}

/// All records; `None` when one of them is malformed.
fn contents(header: &BatchHeader, bytes: &[u8]) -> Option<Vec<Content>> {
    Records::new(header, bytes)
        .map(|record| {
            let record = record.ok()?;
            Some(Content {
                offset: record.offset,
                timestamp: record.timestamp,
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                header_count: record.headers().count(),
            })
        })
        .collect()
}
