//! The table.

use std::fmt::Write as _;

use crate::session::{Cost, Found};

/// A line of the table: what it is, how it is taken from a session, how many digits it deserves, what was hoped for.
struct Line {
    what: &'static str,
    of: fn(&Found) -> Option<f64>,
    digits: usize,
    goal: &'static str,
}

const LINES: &[Line] = &[
    line("start on an empty directory, s", |found| Some(found.ready_seconds), 2, ""),
    line("resident without clients, MB", |found| Some(found.idle_mb), 0, "less"),
    line("CPU without clients, % of a core", |found| Some(found.idle_cpu), 1, "less"),
    line("produce 1 KiB, batch.size=16384, MB/s", |found| rate(&found.produce_small_batches), 0, "1.5 times Kafka's"),
    line("  CPU s/GB", |found| cpu(&found.produce_small_batches), 2, "1.0"),
    line("produce 1 KiB, batch.size=262144, MB/s", |found| rate(&found.produce_large_batches), 0, "1.5 times Kafka's"),
    line("  CPU s/GB", |found| cpu(&found.produce_large_batches), 2, "0.7"),
    line("produce 100 B, batch.size=16384, MB/s", |found| rate(&found.produce_small_records), 0, ""),
    line("  CPU s per 10^6 records", |found| Some(found.produce_small_records.cpu_per_million), 2, "0.2"),
    line("consume what was just written, MB/s", |found| rate(&found.consume_fresh), 0, "Kafka's"),
    line("  CPU s/GB", |found| cpu(&found.consume_fresh), 2, "0.45"),
    line("consume with empty caches, MB/s", |found| rate(found.consume_cold.as_ref()?), 0, "Kafka's"),
    line("  CPU s/GB", |found| cpu(found.consume_cold.as_ref()?), 2, "0.45"),
    line("resident at most under these loads, MB", |found| Some(found.loaded_mb), 0, "less"),
];

const fn line(what: &'static str, of: fn(&Found) -> Option<f64>, digits: usize, goal: &'static str) -> Line {
    Line { what, of, digits, goal }
}

#[expect(clippy::unnecessary_wraps, reason = "one of several ways to take a number from a session")]
fn rate(cost: &Cost) -> Option<f64> {
    Some(cost.mb_per_second)
}

#[expect(clippy::unnecessary_wraps, reason = "one of several ways to take a number from a session")]
fn cpu(cost: &Cost) -> Option<f64> {
    Some(cost.cpu_per_gb)
}

/// All sessions of both brokers in Markdown, with the ratio of their means.
pub(crate) fn table(ours: &[Found], theirs: &[Found]) -> String {
    let mut text = format!("{}\n\n| | Millrace | Kafka 4.3.1 | ratio | goal |\n|---|---|---|---|---|\n", machine());
    for Line { what, of, digits, goal } in LINES {
        let [ours, theirs] = [ours, theirs].map(|found| found.iter().filter_map(of).collect::<Vec<f64>>());
        let ratio = mean(&ours).zip(mean(&theirs)).map(|(ours, theirs)| format!("{:.2}", ours / theirs));
        let [ours, theirs] = [ours, theirs].map(|values| {
            let values: Vec<_> = values.iter().map(|value| format!("{value:.digits$}")).collect();
            values.join(" / ")
        });
        let ratio = ratio.unwrap_or_default();
        writeln!(text, "| {what} | {ours} | {theirs} | {ratio} | {goal} |").expect("a String takes everything");
    }
    text
}

fn mean(values: &[f64]) -> Option<f64> {
    let count = u32::try_from(values.len()).ok().filter(|count| *count > 0)?;
    Some(values.iter().sum::<f64>() / f64::from(count))
}

/// What all this ran on.
fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().next().unwrap_or_default().split_once(':').map_or("", |(_, memory)| memory.trim());
    let kernel = kernel.trim();
    format!(
        "Linux {kernel}, {cores} cores shared with the client, {memory} of memory; MB and GB are powers of ten, of values"
    )
}
