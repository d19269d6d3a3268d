//! Runs that never happened, for the tests of reports.

use std::time::Duration;

use crate::measured::{Counts, Measured, ProcessUse, Series};

/// A series of single requests: each ended so many milliseconds after the start and took so many.
pub(super) fn series(name: &str, answers_ms: &[(u64, u64)]) -> Series {
    let mut series = Series::new(name);
    for &(since_start, latency) in answers_ms {
        let counts = Counts { request_count: 1, record_count: 10, bytes: 10_240, error_count: 0 };
        series.take(Duration::from_millis(since_start), Duration::from_millis(latency), counts);
    }
    series
}

/// A run of one series, named like its task, over in three seconds.
pub(super) fn run(task: &str, target: &str, answers_ms: &[(u64, u64)]) -> Measured {
    Measured {
        task: task.to_owned(),
        target: target.to_owned(),
        settings: vec![("record-bytes".to_owned(), "1024".to_owned()), ("acks".to_owned(), "all".to_owned())],
        results: vec![("rolls".to_owned(), "7".to_owned())],
        start_unix_ms: 1_700_000_000_250,
        elapsed: Duration::from_secs(3),
        series: vec![series(task, answers_ms)],
        broker: None,
        client: ProcessUse { cpu: Duration::from_millis(500), resident_bytes_max: 5 << 20 },
        findings: Vec::new(),
    }
}

/// A run that ended before anything did.
pub(super) fn empty_run() -> Measured {
    Measured { elapsed: Duration::ZERO, ..run("produce", "nobody", &[]) }
}

/// A run whose every text tries to be something else.
pub(super) fn hostile_run() -> Measured {
    let mut run = run(HOSTILE, HOSTILE, &[(100, 1), (1_200, 7)]);
    run.settings.push((HOSTILE.to_owned(), HOSTILE.to_owned()));
    run.results.push((HOSTILE.to_owned(), HOSTILE.to_owned()));
    run.findings.push(HOSTILE.to_owned());
    run
}

/// Markup, quotes, separators of an interval log, a second line that looks like its header, and a terminal's escape.
pub(super) const HOSTILE: &str = "</script><script>alert('1')</script>\"&amp;, =\n#[StartTime: 5 (x)]\r\u{1b}[31m\u{0}";
