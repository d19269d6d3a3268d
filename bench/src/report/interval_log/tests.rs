//! Tests of the interval log: what is written is read back by the crate's reader.

use std::str;

use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

use super::*;
use crate::report::samples::{empty_run, hostile_run, run, series};

/// One interval as it was read: tag, start and span in milliseconds, maximum in milliseconds, and the histogram.
type Read = (String, u128, u128, f64, Histogram<u64>);

/// The times in the header, in milliseconds, and the intervals.
fn read(log: &[u8]) -> (Vec<u128>, Vec<Read>) {
    let (mut times, mut intervals) = (Vec::new(), Vec::new());
    for entry in IntervalLogIterator::new(log) {
        match entry.expect("every line is one that a reader knows") {
            LogEntry::StartTime(time) | LogEntry::BaseTime(time) => times.push(time.as_millis()),
            LogEntry::Interval(interval) => {
                let histogram = decode(interval.encoded_histogram());
                let tag = interval.tag().map(|tag| tag.as_str().to_owned()).unwrap_or_default();
                let (start, span) = (interval.start_timestamp().as_millis(), interval.duration().as_millis());
                intervals.push((tag, start, span, interval.max(), histogram));
            }
        }
    }
    (times, intervals)
}

fn decode(base64: &str) -> Histogram<u64> {
    let digit = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("{other} is no digit of base 64"),
    };
    let mut bytes = Vec::new();
    for four in base64.trim_end_matches('=').as_bytes().chunks(4) {
        let bits = four.iter().fold(0_u32, |bits, letter| bits << 6 | u32::from(digit(*letter)));
        let bits = bits << (6 * (4 - four.len()));
        bytes.extend(&bits.to_be_bytes()[1..four.len()]);
    }
    Deserializer::new().deserialize(&mut bytes.as_slice()).expect("what was serialized")
}

#[test]
fn every_second_of_every_series_comes_back() {
    let mut run = run("produce", "here", &[(100, 1), (200, 3), (2_100, 40)]);
    run.series.push(series("end-to-end", &[(1_500, 7)]));
    let (times, intervals) = read(&document(std::slice::from_ref(&run)).unwrap());
    assert_eq!(times, [1_700_000_000_250, 1_700_000_000_250]);
    let lines: Vec<_> =
        intervals.iter().map(|(tag, start, span, _, held)| (&**tag, *start, *span, held.len())).collect();
    assert_eq!(
        lines,
        [
            ("produce", 0, 1000, 2),
            ("end-to-end", 0, 1000, 0),
            ("produce", 1000, 1000, 0),
            ("end-to-end", 1000, 1000, 1),
            ("produce", 2000, 1000, 1),
            ("end-to-end", 2000, 1000, 0),
        ]
    );
    let (_, _, _, max_ms, held) = &intervals[0];
    assert!((max_ms - 3.0).abs() < 0.03, "{max_ms}");
    assert_eq!(held, &run.series[0].seconds[0].latency);
    assert_eq!(intervals[4].4, run.series[0].seconds[2].latency);
}

#[test]
fn runs_are_told_apart_and_in_the_order_of_time() {
    let (first, mut second) = (run("produce", "ours", &[(100, 1)]), run("produce", "the others", &[(100, 1)]));
    second.start_unix_ms -= 1_500;
    let (times, intervals) = read(&document(&[first, second]).unwrap());
    assert_eq!(times[0], 1_699_999_998_750);
    let lines: Vec<_> = intervals.iter().map(|(tag, start, ..)| (&**tag, *start)).collect();
    let (ours, theirs) = ("ours/produce", "the_others/produce");
    assert_eq!(lines, [(theirs, 0), (theirs, 1000), (ours, 1500), (theirs, 2000), (ours, 2500), (ours, 3500)]);
}

#[test]
fn hostile_names_make_no_lines_of_their_own() {
    let log = document(&[hostile_run()]).unwrap();
    let (times, intervals) = read(&log);
    assert_eq!((times.len(), intervals.len()), (2, 3));
    assert!(!intervals[0].0.contains([',', ' ', '\n', '=']), "{}", intervals[0].0);
    assert!(str::from_utf8(&log).unwrap().lines().all(|line| line.starts_with('#') || line.starts_with("Tag=")));
}

#[test]
fn nothing_makes_a_log_without_intervals() {
    for runs in [vec![], vec![empty_run()]] {
        assert_eq!(read(&document(&runs).unwrap()).1.len(), 0);
    }
}
