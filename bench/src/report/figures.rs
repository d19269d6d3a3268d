//! What the forms of a report have in common: rates, quantiles, the seconds of a run, names, and numbers as text.
//!
//! Pure, and the one place that decides what a figure means: the table, the JSON and the page must never disagree.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::measured::{Counts, Measured, ProcessUse, Series};
use crate::numbers::{float, quantile_ms, u64_of};

/// The quantiles of every report, each with what it is called.
pub(super) const QUANTILES: [(f64, &str); 6] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99"), (1.0, "max")];

/// One second of a series, or what there was of it.
pub(super) struct Row<'a> {
    /// Since the start of measuring, in whole seconds.
    pub(super) start: Duration,
    /// One second; less for the last row of a run that ended within a second. Never zero.
    pub(super) span: Duration,
    /// What ended in this second; nothing if nothing did.
    pub(super) latency: Option<&'a Histogram<u64>>,
    pub(super) counts: Counts,
}

/// The seconds of a series, one after the other, without a gap.
///
/// A broker that answers nothing for the last seconds of a run leaves no trace in the series: those seconds are rows too,
/// as far as they are whole. Answers that came after the end of measuring have rows of a full second.
pub(super) fn rows(series: &Series, elapsed: Duration) -> Vec<Row<'_>> {
    let row_count = u64_of(series.seconds.len()).max(elapsed.as_secs());
    let mut seconds = series.seconds.iter();
    let mut rows = Vec::with_capacity(series.seconds.len());
    for start in (0..row_count).map(Duration::from_secs) {
        let left = elapsed.saturating_sub(start);
        let span = if left.is_zero() { SECOND } else { left.min(SECOND) };
        let second = seconds.next();
        let latency = second.map(|second| &second.latency).filter(|latency| !latency.is_empty());
        rows.push(Row { start, span, latency, counts: second.map(|second| second.counts).unwrap_or_default() });
    }
    rows
}

const SECOND: Duration = Duration::from_secs(1);

/// How much of something there was each second; nothing if no time has passed.
pub(crate) fn per_second(count: u64, elapsed: Duration) -> Option<f64> {
    (!elapsed.is_zero()).then(|| float(count) / elapsed.as_secs_f64())
}

/// A quantile in milliseconds; nothing of nothing.
pub(crate) fn quantile(latency: &Histogram<u64>, quantile: f64) -> Option<f64> {
    (!latency.is_empty()).then(|| quantile_ms(latency, quantile))
}

/// What happened in all series of a run together.
pub(crate) fn total(run: &Measured) -> Counts {
    let mut total = Counts::default();
    for series in &run.series {
        total.add(series.counts);
    }
    total
}

/// What a process took for what was done.
#[expect(clippy::struct_field_names, reason = "a unit belongs in a name")]
pub(crate) struct Cost {
    pub(crate) cpu_s: f64,
    /// For 10^9 bytes of all series together.
    pub(crate) cpu_s_per_gb: Option<f64>,
    /// For 10^6 records of all series together.
    pub(crate) cpu_s_per_million_records: Option<f64>,
}

impl Cost {
    pub(crate) fn of(process: ProcessUse, run: &Measured) -> Self {
        let total = total(run);
        let cpu_s = process.cpu.as_secs_f64();
        Self {
            cpu_s,
            cpu_s_per_gb: (total.bytes > 0).then(|| cpu_s / (float(total.bytes) / 1e9)),
            cpu_s_per_million_records: (total.record_count > 0).then(|| cpu_s / (float(total.record_count) / 1e6)),
        }
    }
}

/// What to call each run where several are shown: as little as tells them apart.
pub(super) fn labels(runs: &[Measured]) -> Vec<String> {
    let plain: Vec<String> = runs.iter().map(|run| clean(&run.target)).collect();
    if all_differ(&plain) {
        return plain;
    }
    let with_task: Vec<String> = runs.iter().map(|run| clean(&format!("{} {}", run.target, run.task))).collect();
    if all_differ(&with_task) {
        return with_task;
    }
    plain.iter().enumerate().map(|(index, label)| format!("{label} run {}", index + 1)).collect()
}

fn all_differ(labels: &[String]) -> bool {
    labels.iter().enumerate().all(|(index, label)| !labels[..index].contains(label))
}

/// The names of all series, in the order in which they first appear.
pub(super) fn series_names(runs: &[Measured]) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for series in runs.iter().flat_map(|run| &run.series) {
        if !names.contains(&series.name.as_str()) {
            names.push(&series.name);
        }
    }
    names
}

/// Text for one line: what would move a terminal's cursor or begin another line is a space.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Milliseconds with about four digits; `-` where there is no figure.
pub(crate) fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(
        || NONE.to_owned(),
        |value| {
            let digits = [9.9995, 99.995, 999.95].into_iter().filter(|limit| value < *limit).count();
            format!("{value:.digits$}")
        },
    )
}

/// A figure with `digits` behind the point; `-` where there is none.
pub(super) fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| format!("{value:.digits$}"))
}

const NONE: &str = "-";

#[cfg(test)]
mod tests;
