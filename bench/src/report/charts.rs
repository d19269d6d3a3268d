//! Which plots a page has: for every name of a series four of them, each with all runs over one another.
//!
//! A run keeps its colour through the whole page. Of a series only the name counts: `produce` of one run is drawn over
//! `produce` of another.

use hdrhistogram::Histogram;

use super::axis::Axis;
use super::figures::{Row, labels, quantile, rows, series_names};
use super::plot::{Line, Plot, Stroke};
use crate::measured::{Counts, Measured, Series};
use crate::numbers::{float, u64_of};

/// The plots of everything that was timed under one name.
pub(super) struct Chapter {
    pub(super) name: String,
    /// What one point in time stands for, in seconds.
    pub(super) seconds_per_point: u64,
    pub(super) plots: [Plot; 4],
}

impl Chapter {
    /// The plots as files: names and contents.
    pub(super) fn files(&self) -> impl Iterator<Item = (String, String)> {
        let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let series: String = self.name.chars().map(plain).collect();
        let kinds = ["percentiles", "latency", "count", "bytes"].into_iter();
        kinds.zip(&self.plots).map(move |(kind, plot)| (format!("{series}-{kind}.svg"), plot.standalone()))
    }
}

pub(super) fn chapters(runs: &[Measured]) -> Vec<Chapter> {
    let labels = labels(runs);
    let mut chapters = Vec::new();
    for name in series_names(runs) {
        let mut members = Vec::new();
        for (run_index, (run, label)) in runs.iter().zip(&labels).enumerate() {
            let of_name = run.series.iter().filter(|series| series.name == name);
            members.extend(of_name.map(|series| Member { run_index, label, series, rows: rows(series, run.elapsed) }));
        }
        let row_count = members.iter().map(|member| u64_of(member.rows.len())).max().unwrap_or(0);
        let seconds_per_point = row_count.div_ceil(POINT_COUNT_MAX).max(1);
        let plots = [
            percentiles(name, &members),
            latency_over_time(name, &members, seconds_per_point),
            throughput_over_time(name, &members, seconds_per_point, Throughput::Count),
            throughput_over_time(name, &members, seconds_per_point, Throughput::Bytes),
        ];
        chapters.push(Chapter { name: name.to_owned(), seconds_per_point, plots });
    }
    chapters
}

/// More points of a line than this nobody can see.
const POINT_COUNT_MAX: u64 = 600;

/// One run's part in a chapter.
struct Member<'a> {
    run_index: usize,
    label: &'a str,
    series: &'a Series,
    rows: Vec<Row<'a>>,
}

impl Member<'_> {
    fn line(&self, part: &'static str, stroke: Stroke, points: Vec<(f64, Option<f64>)>) -> Line {
        Line { label: self.label.to_owned(), part, colour_index: self.run_index, stroke, points }
    }

    /// Each `seconds_per_point` rows as one.
    fn points(&self, seconds_per_point: u64) -> Vec<Point> {
        let chunk = usize::try_from(seconds_per_point).expect("a day has fewer seconds");
        self.rows.chunks(chunk).map(Point::of).collect()
    }
}

/// What some seconds have in common.
struct Point {
    /// In the middle of them, in seconds since the start.
    at_s: f64,
    span_s: f64,
    latency: Histogram<u64>,
    counts: Counts,
}

impl Point {
    fn of(rows: &[Row]) -> Self {
        let mut latency = Histogram::new(POINT_DIGITS).expect("so many digits are what a histogram takes");
        let (mut counts, mut span_s) = (Counts::default(), 0.0);
        for row in rows {
            counts.add(row.counts);
            span_s += row.span.as_secs_f64();
            if let Some(of_row) = row.latency {
                latency.add(of_row).expect("a histogram without bounds grows as needed");
            }
        }
        let start_s = rows.first().map_or(0.0, |row| row.start.as_secs_f64());
        Self { at_s: start_s + span_s / 2.0, span_s, latency, counts }
    }
}

/// No fewer than a second's histogram has.
const POINT_DIGITS: u8 = 3;

fn percentiles(name: &str, members: &[Member]) -> Plot {
    let lines: Vec<_> = members
        .iter()
        .map(|member| member.line("", Stroke::Solid, percentile_points(&member.series.latency)))
        .collect();
    let nines = lines.iter().flat_map(|line| &line.points).map(|(nines, _)| *nines).fold(0.0, f64::max);
    let y = latency_axis(&lines);
    Plot { title: format!("{name}: latency by percentile"), x: Axis::nines("percentile", nines), y, lines }
}

/// The whole curve: the latency at 1 - 1/10^x for every x up to where a single sample is left, which is the maximum.
fn percentile_points(latency: &Histogram<u64>) -> Vec<(f64, Option<f64>)> {
    if latency.is_empty() {
        return Vec::new();
    }
    let last = float(latency.len()).log10();
    let steps = (0..STEP_COUNT_MAX).map(|step| f64::from(step) / STEPS_PER_NINE);
    let mut points: Vec<_> = steps
        .take_while(|nines| *nines < last)
        .map(|nines| (nines, quantile(latency, 1.0 - 10_f64.powf(-nines))))
        .collect();
    points.push((last, quantile(latency, 1.0)));
    points
}

const STEPS_PER_NINE: f64 = 24.0;
/// More samples than one in 10^20 leaves nothing to see.
const STEP_COUNT_MAX: u32 = 480;

fn latency_over_time(name: &str, members: &[Member], seconds_per_point: u64) -> Plot {
    let parts = [(0.5, "p50", Stroke::Dotted), (0.99, "p99", Stroke::Solid), (1.0, "max", Stroke::Dashed)];
    let mut lines = Vec::new();
    for member in members {
        let points = member.points(seconds_per_point);
        for (at, part, stroke) in parts {
            let line = points.iter().map(|point| (point.at_s, quantile(&point.latency, at))).collect();
            lines.push(member.line(part, stroke, line));
        }
    }
    let y = latency_axis(&lines);
    Plot { title: format!("{name}: latency over time"), x: time_axis(members), y, lines }
}

/// Of what there is so much in a second.
#[derive(Clone, Copy)]
enum Throughput {
    /// Records, or requests where there are no records, as when connections are opened.
    Count,
    Bytes,
}

fn throughput_over_time(name: &str, members: &[Member], seconds_per_point: u64, of: Throughput) -> Plot {
    let of_records = members.iter().any(|member| member.series.counts.record_count > 0);
    let (what, unit) = match of {
        Throughput::Bytes => ("bytes", "MB/s"),
        Throughput::Count if of_records => ("records", "records/s"),
        Throughput::Count => ("requests", "requests/s"),
    };
    let mut lines = Vec::new();
    for member in members {
        let mut points = member.points(seconds_per_point);
        // A rate over a few milliseconds says nothing, and would be the first thing to be seen.
        if points.len() > 1 && points.last().is_some_and(|last| last.span_s < SPAN_MIN_S) {
            points.pop();
        }
        let rate = |point: &Point| {
            let amount = match of {
                Throughput::Bytes => float(point.counts.bytes) / 1e6,
                Throughput::Count if of_records => float(point.counts.record_count),
                Throughput::Count => float(point.counts.request_count),
            };
            (point.at_s, Some(amount / point.span_s))
        };
        lines.push(member.line("", Stroke::Solid, points.iter().map(rate).collect()));
    }
    let y = Axis::from_zero(unit, bounds(&lines).map_or(0.0, |(_, high)| high));
    Plot { title: format!("{name}: {what} over time"), x: time_axis(members), y, lines }
}

const SPAN_MIN_S: f64 = 0.5;

/// As long as the longest of the runs.
fn time_axis(members: &[Member]) -> Axis {
    let ends = members.iter().filter_map(|member| member.rows.last()).map(|row| (row.start + row.span).as_secs_f64());
    Axis::time("time since measuring began, s", ends.fold(0.0, f64::max))
}

fn latency_axis(lines: &[Line]) -> Axis {
    let (low, high) = bounds(lines).unwrap_or((0.0, 0.0));
    Axis::for_spread("latency, ms", low, high)
}

/// The lowest and the highest value of all lines, if there is any.
fn bounds(lines: &[Line]) -> Option<(f64, f64)> {
    let values = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    values.map(|value| (value, value)).reduce(|one, next| (one.0.min(next.0), one.1.max(next.1)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::samples::{empty_run, run, series};

    fn values(plot: &Plot, line_index: usize) -> Vec<Option<f64>> {
        plot.lines[line_index].points.iter().map(|(_, value)| value.map(f64::round)).collect()
    }

    #[test]
    fn runs_lie_over_one_another_by_the_name_of_the_series() {
        let (mut ours, theirs) = (run("produce", "ours", &[(100, 1)]), run("produce", "theirs", &[(100, 9)]));
        ours.series.push(series("consume", &[(100, 2)]));
        let chapters = chapters(&[ours, theirs]);
        let names: Vec<_> = chapters.iter().map(|chapter| (chapter.name.as_str(), chapter.plots.len())).collect();
        assert_eq!(names, [("produce", 4), ("consume", 4)]);
        let lines = &chapters[0].plots[0].lines;
        let owners: Vec<_> = lines.iter().map(|line| (line.label.as_str(), line.colour_index)).collect();
        assert_eq!(owners, [("ours", 0), ("theirs", 1)]);
        assert_eq!(chapters[0].plots[1].lines.len(), 6, "three quantiles of each");
        assert_eq!(chapters[1].plots[0].lines.len(), 1);
    }

    #[test]
    fn the_curve_ends_with_the_maximum_at_one_sample() {
        let answers: Vec<(u64, u64)> = (1..=1000).map(|index| (index, index)).collect();
        let points = percentile_points(&series("a", &answers).latency);
        let at = |nines: f64| {
            let point = points.iter().find(|(x, _)| (x - nines).abs() < 1e-9).unwrap();
            point.1.unwrap()
        };
        assert!((at(0.0) - 1.0).abs() < 0.01 && (at(1.0) - 900.0).abs() < 1.0 && (at(2.0) - 990.0).abs() < 1.0);
        assert!((at(3.0) - 1000.0).abs() < 1.0);
        assert!(points.is_sorted_by(|one, next| one.0 < next.0 && one.1 <= next.1));
    }

    #[test]
    fn a_single_sample_is_a_single_point() {
        let points = percentile_points(&series("a", &[(10, 4)]).latency);
        assert_eq!((points.len(), points[0].1.map(f64::round)), (1, Some(4.0)));
    }

    #[test]
    fn a_run_of_one_second_has_one_point_in_time() {
        let mut short = run("produce", "a", &[(100, 1), (200, 3)]);
        short.elapsed = Duration::from_millis(400);
        let plots = &chapters(&[short])[0].plots;
        assert_eq!((values(&plots[1], 0), values(&plots[1], 2)), (vec![Some(1.0)], vec![Some(3.0)]));
        assert_eq!(values(&plots[2], 0), [Some(50.0)], "20 records in 0.4 s");
        assert!((plots[2].lines[0].points[0].0 - 0.2).abs() < 1e-9);
        let bytes = plots[3].lines[0].points[0].1.unwrap();
        assert!((bytes - 0.0512).abs() < 1e-9, "20,480 bytes in 0.4 s");
    }

    #[test]
    fn the_few_milliseconds_at_the_end_have_no_rate() {
        let mut long = run("produce", "a", &[(100, 1), (1_000, 1)]);
        long.elapsed = Duration::from_millis(1_001);
        let plots = &chapters(&[long])[0].plots;
        assert_eq!(values(&plots[2], 0), [Some(10.0)]);
        assert_eq!(values(&plots[1], 0).len(), 2, "their latency counts all the same");
    }

    #[test]
    fn seconds_without_an_answer_are_a_gap_in_latency_and_zero_in_throughput() {
        let plots = &chapters(&[run("produce", "a", &[(100, 1), (2_100, 1)])])[0].plots;
        assert_eq!(values(&plots[1], 1), [Some(1.0), None, Some(1.0)]);
        assert_eq!(values(&plots[2], 0), [Some(10.0), Some(0.0), Some(10.0)]);
    }

    #[test]
    fn a_long_run_has_fewer_points_and_loses_no_maximum() {
        let mut long = run("produce", "a", &[(100, 1), (777_500, 50), (1_999_500, 1)]);
        long.elapsed = Duration::from_secs(2_000);
        let chapter = &chapters(&[long])[0];
        assert_eq!((chapter.seconds_per_point, chapter.plots[1].lines[0].points.len()), (4, 500));
        let maxima = values(&chapter.plots[1], 2);
        assert_eq!((maxima[0], maxima[194], maxima[499]), (Some(1.0), Some(50.0), Some(1.0)));
    }

    #[test]
    fn requests_count_where_there_are_no_records() {
        let mut run = run("connections", "a", &[(100, 1)]);
        run.series[0].counts.record_count = 0;
        let plots = &chapters(&[run])[0].plots;
        assert_eq!((values(&plots[2], 0)[0], plots[2].y.label.as_str()), (Some(1.0), "requests/s"));
    }

    #[test]
    fn files_have_names_that_lead_nowhere_else() {
        let mut run = run("end-to-end", "a", &[(100, 1)]);
        run.series.push(series("../etc/p", &[]));
        let names: Vec<_> = chapters(&[run]).iter().flat_map(Chapter::files).map(|(name, _)| name).collect();
        assert_eq!(names[..2], ["end-to-end-percentiles.svg", "end-to-end-latency.svg"]);
        assert_eq!(names[6..], ["---etc-p-count.svg", "---etc-p-bytes.svg"]);
    }

    #[test]
    fn an_empty_run_has_plots_without_points() {
        let chapters = chapters(&[empty_run()]);
        assert!(chapters[0].plots.iter().all(|plot| plot.lines.iter().all(|line| line.points.is_empty())));
    }
}
