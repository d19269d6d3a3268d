//! Look-ups in the index of one segment, by offset and by time, and what a batch costs it.
//!
//! The index holds as many entries as it may, so the figures are the worst ones. Look-ups jump about, as those of many
//! consumers do.

use std::hint::black_box;

use millrace_engine::log::index::{ENTRIES_MAX, INDEX_INTERVAL_BYTES, OffsetIndex};
use millrace_engine::model::{Offset, Position};
use millrace_microbench::inputs::FIRST_TIME_MS;
use millrace_microbench::{Benchmarks, Work};

const BATCH_RECORDS: i64 = 50;
const LOOK_UPS: usize = 1000;
const PUSHED: usize = 100_000;

fn indexed(batches: usize) -> (OffsetIndex, i64) {
    let (mut index, mut offset, mut position) = (OffsetIndex::default(), 0, Position::new(4096));
    for _ in 0..batches {
        index.push(Offset::new(offset), position, FIRST_TIME_MS + offset);
        offset += BATCH_RECORDS;
        position = position.plus(INDEX_INTERVAL_BYTES);
    }
    (index, offset)
}

/// Calls `look_up` with offsets all over `0..end`.
fn jump_about(end: i64, mut look_up: impl FnMut(i64) -> Option<Position>) {
    let mut wanted = 0;
    for _ in 0..LOOK_UPS {
        // A step without a common divisor with the end visits every offset.
        wanted = (wanted + 514_229) % end;
        black_box(look_up(wanted));
    }
}

fn main() {
    Benchmarks::run(|benchmarks| {
        let (work, input) = (Work::of(LOOK_UPS, "look-up"), || indexed(ENTRIES_MAX - 1));
        benchmarks.on_shared_input("index/find", work, input, |(index, end)| {
            jump_about(*end, |wanted| index.find(Offset::new(wanted)));
        });
        benchmarks.on_shared_input("index/find by time", work, input, |(index, end)| {
            jump_about(*end, |wanted| index.find_by_time(FIRST_TIME_MS + wanted));
        });
        benchmarks.on_shared_input("index/push", Work::of(PUSHED, "batch"), || (), |()| indexed(PUSHED));
    });
}
