//! What a batch costs before it is appended: its checksum, its validation, what a leader writes into it, and a walk over
//! its records, which compacted topics and late timestamps need.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use millrace_microbench::inputs::{BatchShape, FIRST_TIME_MS, Noise};
use millrace_microbench::{Benchmarks, Work};
use millrace_protocol::batch::crc32c;
use millrace_protocol::batch::{BatchView, assign_log_append_time, assign_offsets};

const SHAPES: [(&str, BatchShape); 3] = [
    ("1 record of 1 KiB", BatchShape::SINGLE),
    ("250 records of 1 KiB", BatchShape::LARGE),
    ("8500 records of 100 B", BatchShape::SMALL_RECORDS),
];

fn main() {
    Benchmarks::run(|benchmarks| {
        checksum(benchmarks);
        for (name, shape) in SHAPES {
            validation(benchmarks, name, shape);
            records(benchmarks, name, shape);
        }
        assignment(benchmarks);
    });
}

fn checksum(benchmarks: &mut Benchmarks) {
    for (name, bytes) in [("crc/1 KiB", 1 << 10), ("crc/64 KiB", 64 << 10), ("crc/1 MiB", 1 << 20)] {
        let input = || Noise::default().bytes(bytes);
        benchmarks.on_shared_input(name, Work::bytes(bytes), input, |bytes| crc32c::checksum(bytes));
    }
}

fn validation(benchmarks: &mut Benchmarks, name: &str, shape: BatchShape) {
    let work = Work::of(shape.record_count, "record");
    benchmarks.on_shared_input(
        &format!("validation/{name}"),
        work,
        || shape.build(),
        |batch| {
            let view = BatchView::parse_produced(batch).unwrap();
            view.max_timestamp()
        },
    );
}

fn records(benchmarks: &mut Benchmarks, name: &str, shape: BatchShape) {
    let work = Work::of(shape.record_count, "record");
    benchmarks.on_shared_input(
        &format!("records/{name}"),
        work,
        || shape.build(),
        |batch| {
            // The checksum is in `validation`; here it is a small part.
            let view = BatchView::parse(batch).unwrap();
            view.records().unwrap().filter(|record| record.as_ref().unwrap().key.is_none()).count()
        },
    );
}

fn assignment(benchmarks: &mut Benchmarks) {
    let (work, input) = (Work::of(1, "batch"), || BatchShape::LARGE.build());
    benchmarks.on_shared_input("assignment/offsets", work, input, |batch| assign_offsets(batch, 1 << 40, 7));
    benchmarks.on_shared_input("assignment/log append time", work, input, |batch| {
        assign_log_append_time(batch, FIRST_TIME_MS + 1);
    });
}
