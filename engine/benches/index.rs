//! Look-ups in the index of one segment, by offset and by time, and what a batch costs it.
//!
//! The index holds as many entries as it may, so the figures are the worst ones. Look-ups jump about, as those of many
//! consumers do.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use millrace_engine::log::index::{ENTRIES_MAX, INDEX_INTERVAL_BYTES, OffsetIndex};
use millrace_engine::model::{Offset, Position};

const BATCH_RECORDS: i64 = 50;

fn indexed(batches: usize) -> (OffsetIndex, i64) {
    let (mut index, mut offset, mut position) = (OffsetIndex::default(), 0, Position::new(4096));
    for _ in 0..batches {
        index.push(Offset::new(offset), position, 1_700_000_000_000 + offset);
        offset += BATCH_RECORDS;
        position = position.plus(INDEX_INTERVAL_BYTES);
    }
    (index, offset)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let (index, end) = indexed(ENTRIES_MAX - 1);
    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(1));
    let mut wanted = 0;
    // A step without a common divisor with the end visits every offset.
    let mut next = move || {
        wanted = (wanted + 514_229) % end;
        wanted
    };
    group.bench_function("find", |bencher| bencher.iter(|| index.find(black_box(Offset::new(next())))));
    group.bench_function("find_by_time", |bencher| {
        bencher.iter(|| index.find_by_time(black_box(1_700_000_000_000 + next())));
    });
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("push", |bencher| bencher.iter(|| indexed(black_box(100_000))));
    group.finish();
    criterion.final_summary();
}
