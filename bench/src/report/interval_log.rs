//! The latencies of every second as an interval log, which HdrHistogram's own tools read.
//!
//! 1. One line for each second of each series, in the order of time. Histograms are of nanoseconds, compressed (V2).
//! 2. A line's tag is the name of its series; where there are several runs, the run's label comes first, with a slash.
//! 3. Times count from the start of the earliest run, which the header has as both `StartTime` and `BaseTime`: Java's
//!    reader takes the first interval for the start if only `BaseTime` is there.
//! 4. The third column, the maximum, is in milliseconds, as Java's writer has it.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::figures::{clean, labels, rows};
use crate::measured::Measured;

/// One line to be.
struct Interval<'a> {
    start: Duration,
    span: Duration,
    latency: Option<&'a Histogram<u64>>,
    tag: &'a str,
}

/// All seconds of all runs.
pub(super) fn document(runs: &[Measured]) -> anyhow::Result<Vec<u8>> {
    let base_ms = runs.iter().map(|run| run.start_unix_ms).min().unwrap_or(0);
    let base = SystemTime::UNIX_EPOCH + Duration::from_millis(base_ms);
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]");
    builder.add_comment("[Latency in nanoseconds, logged by millbench]");
    for run in runs {
        builder.add_comment(&format!("[{} against {}]", clean(&run.task), clean(&run.target)));
    }
    builder.with_start_time(base).with_base_time(base).with_max_value_divisor(NANOS_PER_MILLI);
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).context("beginning an interval log")?;
    let nothing = Histogram::new(1).expect("one digit is what a histogram takes");
    let tags = tags(runs);
    for interval in intervals(runs, base_ms, &tags) {
        let tag = Tag::new(interval.tag);
        let latency = interval.latency.unwrap_or(&nothing);
        writer
            .write_histogram(latency, interval.start, interval.span, tag)
            .map_err(|error| anyhow!("writing an interval log: {error}"))?;
    }
    Ok(bytes)
}

const NANOS_PER_MILLI: f64 = 1e6;

/// Every second of every series, in the order of time.
fn intervals<'a>(runs: &'a [Measured], base_ms: u64, tags: &'a [Vec<String>]) -> Vec<Interval<'a>> {
    let mut intervals = Vec::new();
    for (run, tags) in runs.iter().zip(tags) {
        let run_start = Duration::from_millis(run.start_unix_ms - base_ms);
        for (series, tag) in run.series.iter().zip(tags) {
            intervals.extend(rows(series, run.elapsed).into_iter().map(|row| Interval {
                start: run_start + row.start,
                span: row.span,
                latency: row.latency,
                tag,
            }));
        }
    }
    intervals.sort_by_key(|interval| interval.start);
    intervals
}

/// For each run, the tag of each of its series.
fn tags(runs: &[Measured]) -> Vec<Vec<String>> {
    let labels = labels(runs);
    let tag = |label: &str, name: &str| {
        let text = if runs.len() > 1 { format!("{label}/{name}") } else { name.to_owned() };
        text.replace(|letter: char| letter.is_control() || letter.is_whitespace() || ",=\"".contains(letter), "_")
    };
    let of_run =
        |(run, label): (&Measured, &String)| run.series.iter().map(|series| tag(label, &series.name)).collect();
    runs.iter().zip(&labels).map(of_run).collect()
}

#[cfg(test)]
mod tests;
