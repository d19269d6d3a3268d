//! How fast one thread indexes and cleans: windows of a mebibyte, batches of a hundred records, each codec.
//!
//! The figures count the bytes of the window, compressed as they are. "outdated" takes away every other record, so that
//! every batch is decompressed and compressed again; "clean" takes away none, so that the batches are copied.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput};
use millrace_engine::compaction::{AbortedTransactions, Indexer, PassConfig};
use millrace_engine::model::Offset;
use millrace_protocol::batch::{
    BatchBuilder, BatchFields, BatchHeader, BatchRewriter, BatchView, Compression, assign_offsets,
};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const WINDOW_BYTES: usize = 1 << 20;
const BATCH_RECORDS: i64 = 100;

/// Batches with the values of a plausible event; the key of record `n` is `key_of(n)`. Gives the offset behind them too.
fn window(codec: i16, key_of: fn(i64) -> i64) -> (Vec<u8>, i64) {
    let (mut window, mut offset) = (Vec::new(), 0);
    let mut rewriter = BatchRewriter::default();
    let mut noise = 1_u64;
    while window.len() < WINDOW_BYTES {
        let mut builder = BatchBuilder::new(BatchFields::default());
        for number in offset..offset + BATCH_RECORDS {
            noise = noise.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let key = format!("customer-{:08}", key_of(number));
            let value = format!(
                "{{\"event\":\"updated\",\"id\":\"{noise:016x}\",\"amount\":{},\"currency\":\"EUR\",\"open\":true}}",
                noise % 100_000
            );
            builder.push(1_700_000_000_000 + number, Some(key.as_bytes()), Some(value.as_bytes()));
        }
        let plain = builder.build();
        let view = BatchView::parse(&plain).unwrap();
        rewriter.begin(&BatchHeader { attributes: codec.into(), ..*view.header() }, None);
        view.records().unwrap().for_each(|record| rewriter.push(&record.unwrap()));
        let start = window.len();
        rewriter.finish(&mut window).unwrap();
        assign_offsets(&mut window[start..], offset, 0);
        offset += BATCH_RECORDS;
    }
    (window, offset)
}

fn indexer(end: i64) -> Indexer {
    Indexer::new(PassConfig {
        dirty: Offset::ZERO..Offset::new(end),
        now_ms: 0,
        tombstone_age_max: Duration::ZERO,
        producers: BTreeMap::new(),
        aborted: AbortedTransactions::default(),
        key_map_bytes_max: 128 << 20,
        records_bytes_max: 32 << 20,
        hash_key: [1, 2],
    })
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (code, codec) in (0_i16..).zip(CODECS) {
        let mut group = criterion.benchmark_group(format!("compaction/{codec:?}").to_lowercase());
        let (outdated, end) = window(code, |number| number / 2);
        group.throughput(Throughput::Bytes(u64::try_from(outdated.len()).unwrap()));
        group.bench_function("index", |bencher| {
            let index = |mut indexer: Indexer| {
                black_box(indexer.index(&outdated).unwrap());
                indexer
            };
            bencher.iter_batched(|| indexer(end), index, BatchSize::LargeInput);
        });
        for name in ["clean", "outdated"] {
            let (bytes, end) = window(code, if name == "clean" { |number| number } else { |number| number / 2 });
            group.throughput(Throughput::Bytes(u64::try_from(bytes.len()).unwrap()));
            group.bench_function(name, |bencher| {
                let cleaner = || {
                    let mut indexer = indexer(end);
                    indexer.index(&bytes).unwrap();
                    (indexer.into_cleaner(), Vec::with_capacity(2 * WINDOW_BYTES))
                };
                bencher.iter_batched(
                    cleaner,
                    |(mut cleaner, mut output)| {
                        let cleaned = cleaner.clean(&bytes, &mut output).unwrap();
                        assert_eq!(cleaned.changed, name == "outdated");
                        (cleaner, output)
                    },
                    BatchSize::LargeInput,
                );
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
