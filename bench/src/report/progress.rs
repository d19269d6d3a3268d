//! How a run goes on, while it does: a bar on a terminal, a line at a time where standard error goes elsewhere.
//!
//! Standard error, because standard output is for results. The driver owns the clock and calls about once a second;
//! nothing here starts a thread or looks at the time.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::figures::{milliseconds, per_second, quantile};
use crate::measured::Counts;

/// Shows how one run goes on. What is on the terminal goes away with it.
pub(crate) struct Progress {
    shown: Shown,
    /// When [`Progress::show`] was last called, and what each series had then.
    last: (Duration, Vec<Counts>),
}

enum Shown {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

/// One series as it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Live<'a> {
    pub(crate) name: &'a str,
    /// Since the start; what is shown is what came since the last call.
    pub(crate) counts: Counts,
    /// Of the last second or so; nothing if nothing ended.
    pub(crate) latency: Option<LiveLatency>,
}

/// What a line of progress says of latencies.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(clippy::struct_field_names, reason = "a unit belongs in a name")]
pub(crate) struct LiveLatency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl LiveLatency {
    /// Of latencies in nanoseconds; nothing of nothing.
    pub(crate) fn of(latency: &Histogram<u64>) -> Option<Self> {
        let at = |share| quantile(latency, share);
        Some(Self { p50_ms: at(0.5)?, p99_ms: at(0.99)?, max_ms: at(1.0)? })
    }
}

impl Progress {
    /// `planned` is the whole run's length, ramp and warm-up included; `None` if it lasts until it is done.
    pub(super) fn on_standard_error(planned: Option<Duration>) -> Self {
        if io::stderr().is_terminal() {
            Self::bar(planned, ProgressDrawTarget::stderr())
        } else {
            Self::of(Shown::Lines)
        }
    }

    pub(super) fn nowhere() -> Self {
        Self::of(Shown::Nothing)
    }

    fn bar(planned: Option<Duration>, target: ProgressDrawTarget) -> Self {
        let template = if planned.is_some() { "{wide_bar} {prefix}\n{msg}" } else { "{spinner} {prefix}\n{msg}" };
        let style = ProgressStyle::with_template(template).expect("both templates are well formed");
        let bar = ProgressBar::with_draw_target(planned.map(millis), target).with_style(style);
        Self::of(Shown::Bar(bar))
    }

    fn of(shown: Shown) -> Self {
        Self { shown, last: (Duration::ZERO, Vec::new()) }
    }

    /// Shows where the run is: `phase` is a word such as `warm-up`, `since_start` counts from the start of the first phase.
    pub(crate) fn show(&mut self, phase: &str, since_start: Duration, series: &[Live]) {
        let (last_time, last_counts) = &self.last;
        let head = format!("{:.0} s {phase}", since_start.as_secs_f64());
        let parts = parts(since_start.saturating_sub(*last_time), series, last_counts);
        match &self.shown {
            Shown::Bar(bar) => {
                // A line for each series: beside the bar there is no room for one, at 80 columns.
                bar.set_prefix(head);
                bar.set_message(parts.join("\n"));
                bar.set_position(millis(since_start));
            }
            // Nobody may be reading any more; that is no reason to end the run.
            Shown::Lines => drop(writeln!(io::stderr(), "{head}: {}", parts.join(" | "))),
            Shown::Nothing => {}
        }
        self.last = (since_start, series.iter().map(|series| series.counts).collect());
    }

    /// Says something once, above the bar if there is one: that the run is about to end, for example.
    pub(crate) fn note(&self, text: &str) {
        match &self.shown {
            Shown::Bar(bar) => bar.println(text),
            Shown::Lines => drop(writeln!(io::stderr(), "{text}")),
            Shown::Nothing => {}
        }
    }

    /// Leaves the terminal as it was.
    pub(crate) fn finish(self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// What happened to each series in the last `span`.
fn parts(span: Duration, series: &[Live], last: &[Counts]) -> Vec<String> {
    let mut parts = Vec::new();
    for (index, live) in series.iter().enumerate() {
        let before = last.get(index).copied().unwrap_or_default();
        let rate = |now: u64, before: u64| per_second(now.saturating_sub(before), span).unwrap_or(0.0);
        let records = rate(live.counts.record_count, before.record_count);
        let megabytes = rate(live.counts.bytes, before.bytes) / 1e6;
        let mut text = format!("{} {records:.0} records/s, {megabytes:.1} MB/s", live.name);
        if let Some(LiveLatency { p50_ms, p99_ms, max_ms }) = live.latency {
            let [p50, p99, max] = [p50_ms, p99_ms, max_ms].map(|value| milliseconds(Some(value)));
            let _ = write!(text, ", p50 {p50}, p99 {p99}, max {max} ms");
        }
        if live.counts.error_count > 0 {
            let _ = write!(text, ", {} errors", live.counts.error_count);
        }
        parts.push(text);
    }
    parts
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::series;

    fn counts(record_count: u64, bytes: u64, error_count: u64) -> Counts {
        Counts { request_count: 0, record_count, bytes, error_count }
    }

    #[test]
    fn a_part_tells_of_the_time_since_the_last_one() {
        let latency = LiveLatency::of(&series("a", &[(1, 1), (2, 20)]).latency);
        let live = [
            Live { name: "produce", counts: counts(3_000, 3_000_000, 0), latency },
            Live { name: "consume", counts: counts(500, 500_000, 2), latency: None },
        ];
        assert_eq!(
            parts(Duration::from_secs(2), &live, &[counts(1_000, 1_000_000, 0)]),
            [
                "produce 1000 records/s, 1.0 MB/s, p50 1.000, p99 20.00, max 20.00 ms",
                "consume 250 records/s, 0.2 MB/s, 2 errors"
            ]
        );
    }

    #[test]
    fn no_time_and_counts_that_began_anew_have_no_rate() {
        let live = [Live { name: "a", counts: counts(5, 5, 0), latency: None }];
        for (span, last) in [(Duration::ZERO, counts(0, 0, 0)), (Duration::from_secs(1), counts(9, 9, 0))] {
            assert_eq!(parts(span, &live, &[last]), ["a 0 records/s, 0.0 MB/s"]);
        }
        assert_eq!(LiveLatency::of(&series("a", &[]).latency), None);
    }

    #[test]
    fn a_bar_stands_where_the_run_is() {
        let mut progress = Progress::bar(Some(Duration::from_secs(10)), ProgressDrawTarget::hidden());
        for (second, records) in [(1, 100), (2, 300)] {
            let live = [Live { name: "a", counts: counts(records, 0, 0), latency: None }];
            progress.show("measuring", Duration::from_secs(second), &live);
        }
        let Shown::Bar(bar) = &progress.shown else { panic!("no bar") };
        assert_eq!((bar.position(), bar.length()), (2_000, Some(10_000)));
        assert_eq!((bar.prefix(), bar.message()), ("2 s measuring".into(), "a 200 records/s, 0.0 MB/s".into()));
        let bar = bar.clone();
        progress.finish();
        assert!(bar.is_finished());
    }

    #[test]
    fn a_run_without_a_plan_has_a_bar_without_an_end() {
        let mut progress = Progress::bar(None, ProgressDrawTarget::hidden());
        progress.show("reading", Duration::from_secs(1), &[]);
        let Shown::Bar(bar) = &progress.shown else { panic!("no bar") };
        assert_eq!((bar.length(), bar.prefix().as_str()), (None, "1 s reading"));
    }
}
