//! How fast one thread indexes and cleans: windows of ten thousand records, batches of a hundred, each codec; and the map of
//! keys by itself.
//!
//! "outdated" takes away every other record, so that every batch is decompressed and compressed again; "clean" takes away
//! none, so that the batches are copied.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::cell::LazyCell;
use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::compaction::{AbortedTransactions, Cleaner, Indexer, KeyMap, PassConfig};
use millrace_engine::model::Offset;
use millrace_microbench::inputs::{FIRST_TIME_MS, Noise};
use millrace_microbench::{Benchmarks, Work};
use millrace_protocol::batch::{
    BatchBuilder, BatchFields, BatchHeader, BatchRewriter, BatchView, Compression, assign_offsets,
};

const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
const BATCHES: usize = 100;
const BATCH_RECORDS: usize = 100;
const RECORDS: usize = BATCHES * BATCH_RECORDS;
/// Keys of the map alone: more than a processor's caches hold.
const KEYS: usize = 200_000;

/// Batches of a log, with the values of a plausible event.
struct Window {
    bytes: Vec<u8>,
    /// The offset behind them.
    end: i64,
}

impl Window {
    /// The key of record `n` is `key_of(n)`.
    fn new(codec: i16, key_of: fn(i64) -> i64) -> Self {
        let (mut bytes, mut numbers) = (Vec::new(), 0_i64..);
        let mut rewriter = BatchRewriter::default();
        let mut noise = Noise::default();
        for _ in 0..BATCHES {
            let mut builder = BatchBuilder::new(BatchFields::default());
            let first = numbers.start;
            for number in numbers.by_ref().take(BATCH_RECORDS) {
                let (id, amount) = (noise.next_u64(), noise.next_u64() % 100_000);
                let key = format!("customer-{:08}", key_of(number));
                let value = format!(
                    "{{\"event\":\"updated\",\"id\":\"{id:016x}\",\"amount\":{amount},\"currency\":\"EUR\",\"open\":true}}"
                );
                builder.push(FIRST_TIME_MS + number, Some(key.as_bytes()), Some(value.as_bytes()));
            }
            let plain = builder.build();
            let view = BatchView::parse(&plain).unwrap();
            rewriter.begin(&BatchHeader { attributes: codec.into(), ..*view.header() }, None);
            view.records().unwrap().for_each(|record| rewriter.push(&record.unwrap()));
            let start = bytes.len();
            rewriter.finish(&mut bytes).unwrap();
            assign_offsets(&mut bytes[start..], first, 0);
        }
        Self { bytes, end: numbers.start }
    }

    /// The same, made at most once, and only for those who ask for it.
    fn when_needed(codec: i16, key_of: fn(i64) -> i64) -> LazyCell<Self, impl FnOnce() -> Self> {
        LazyCell::new(move || Self::new(codec, key_of))
    }

    fn indexer(&self) -> Indexer {
        Indexer::new(PassConfig {
            dirty: Offset::ZERO..Offset::new(self.end),
            now_ms: 0,
            tombstone_age_max: Duration::ZERO,
            producers: BTreeMap::new(),
            aborted: AbortedTransactions::default(),
            key_map_bytes_max: 128 << 20,
            records_bytes_max: 32 << 20,
            hash_key: [1, 2],
        })
    }

    /// What cleans the window, and where to.
    fn cleaner(&self) -> (Cleaner, Vec<u8>) {
        let mut indexer = self.indexer();
        indexer.index(&self.bytes).unwrap();
        (indexer.into_cleaner(), Vec::with_capacity(2 * self.bytes.len()))
    }
}

fn main() {
    Benchmarks::run(|benchmarks| {
        for (code, codec) in (0_i16..).zip(CODECS) {
            let group = format!("compaction/{}", format!("{codec:?}").to_lowercase());
            let clean = Window::when_needed(code, |number| number);
            let outdated = Window::when_needed(code, |number| number / 2);
            let work = Work::of(RECORDS, "record");
            benchmarks.on_fresh_inputs(
                &format!("{group}/index"),
                work,
                || outdated.indexer(),
                |indexer| indexer.index(&outdated.bytes).unwrap(),
            );
            for (name, window) in [("clean", &clean), ("outdated", &outdated)] {
                let run = |(cleaner, output): &mut (Cleaner, Vec<u8>)| {
                    let cleaned = cleaner.clean(&window.bytes, output).unwrap();
                    assert_eq!(cleaned.changed, name == "outdated");
                };
                benchmarks.on_fresh_inputs(&format!("{group}/{name}"), work, || window.cleaner(), run);
            }
        }
        let work = Work::of(KEYS, "key");
        let empty = || KeyMap::new([1, 2], 128 << 20, u64::try_from(KEYS).unwrap());
        benchmarks.on_fresh_inputs("key map/note new", work, empty, note_all);
        let full = || {
            let mut map = empty();
            note_all(&mut map);
            map
        };
        benchmarks.on_shared_input("key map/note known", work, full, note_all);
        benchmarks.on_shared_input("key map/look up", work, full, |map| {
            let outdated = keys().filter(|(offset, key)| map.is_outdated(key, *offset)).count();
            assert_eq!(outdated, 0, "the newest offset is known");
        });
    });
}

fn note_all(map: &mut KeyMap) {
    keys().for_each(|(offset, key)| map.note(&key, offset).unwrap());
}

/// Keys of 16 bytes, each with the offset at which it occurs.
fn keys() -> impl Iterator<Item = (Offset, [u8; 16])> {
    let mut noise = Noise::default();
    (0..).take(KEYS).map(move |number| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&noise.next_u64().to_le_bytes());
        (Offset::new(number), key)
    })
}
