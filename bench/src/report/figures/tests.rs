//! Tests of the figures.

use super::*;
use crate::report::samples::{empty_run, run, series};

#[test]
fn a_silent_end_and_late_answers_have_rows() {
    let answers = series("produce", &[(100, 1), (2_500, 1)]);
    let starts_and_spans = |elapsed_ms| -> Vec<(u64, u128)> {
        let rows = rows(&answers, Duration::from_millis(elapsed_ms));
        rows.iter().map(|row| (row.start.as_secs(), row.span.as_millis())).collect()
    };
    assert_eq!(starts_and_spans(2_600), [(0, 1000), (1, 1000), (2, 600)]);
    assert_eq!(starts_and_spans(4_200), [(0, 1000), (1, 1000), (2, 1000), (3, 1000)], "the rest of a second is no row");
    assert_eq!(starts_and_spans(1_000), [(0, 1000), (1, 1000), (2, 1000)], "answers after the end");
    let rows = rows(&answers, Duration::from_millis(2_600));
    assert_eq!(rows.iter().map(|row| row.latency.is_some()).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(rows[2].counts.request_count, 1);
}

#[test]
fn nothing_measured_has_no_figures() {
    let run = empty_run();
    assert_eq!(rows(&run.series[0], run.elapsed).len(), 0);
    assert_eq!(per_second(5, Duration::ZERO), None);
    assert_eq!(quantile(&run.series[0].latency, 0.5), None);
    let cost = Cost::of(run.client, &run);
    assert_eq!((cost.cpu_s_per_gb, cost.cpu_s_per_million_records), (None, None));
}

#[test]
fn cost_is_of_all_series_together() {
    let mut both = run("produce", "here", &[(100, 1)]);
    both.series.push(series("consume", &[(100, 1)]));
    for series in &mut both.series {
        series.counts = Counts { bytes: 1_000_000_000, record_count: 500_000, ..Counts::default() };
    }
    let process = ProcessUse { cpu: Duration::from_secs(3), resident_bytes_max: 0 };
    let cost = Cost::of(process, &both);
    assert_eq!((cost.cpu_s, cost.cpu_s_per_gb, cost.cpu_s_per_million_records), (3.0, Some(1.5), Some(3.0)));
}

#[test]
fn labels_say_as_little_as_tells_runs_apart() {
    let labels_of =
        |pairs: &[(&str, &str)]| labels(&pairs.iter().map(|(task, target)| run(task, target, &[])).collect::<Vec<_>>());
    assert_eq!(labels_of(&[("produce", "a"), ("produce", "b")]), ["a", "b"]);
    assert_eq!(labels_of(&[("produce", "a"), ("consume", "a")]), ["a produce", "a consume"]);
    assert_eq!(labels_of(&[("produce", "a"), ("produce", "a")]), ["a run 1", "a run 2"]);
    assert_eq!(labels_of(&[("produce", "a\n\u{1b}[31mb")]), ["a  [31mb"]);
}

#[test]
fn series_are_named_once_in_order() {
    let mut both = run("mixed", "a", &[]);
    both.series.push(series("consume", &[]));
    let runs = [both, run("produce", "b", &[])];
    assert_eq!(series_names(&runs), ["mixed", "consume", "produce"]);
}

#[test]
fn milliseconds_keep_about_four_digits() {
    let texts: Vec<_> =
        [0.0, 0.1234, 9.9994, 9.9996, 12.345, 99.996, 123.45, 12345.6].map(|value| milliseconds(Some(value))).into();
    assert_eq!(texts, ["0.000", "0.123", "9.999", "10.00", "12.35", "100.0", "123.5", "12346"]);
    assert_eq!((milliseconds(None), figure(None, 2), figure(Some(1.005), 1)), ("-".into(), "-".into(), "1.0".into()));
}
