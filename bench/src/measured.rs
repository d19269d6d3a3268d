//! What a run measured: in all, and second by second.
//!
//! Whoever drives a broker fills these; reports only read them.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::numbers::{histogram, quantile_ms, record};

/// Everything one run found out.
pub(crate) struct Measured {
    /// The subcommand, such as `produce`.
    pub(crate) task: String,
    /// Whom it was asked of: `host:port`, or the name of a peer.
    pub(crate) target: String,
    /// The options in force, defaults included, as `name` and `value`, in the order in which they are explained.
    pub(crate) settings: Vec<(String, String)>,
    /// What the subcommand worked out beside its series, as `name` and `value`. A value begins with its number.
    pub(crate) results: Vec<(String, String)>,
    /// When measuring began, warm-up and ramp over: milliseconds since 1970.
    pub(crate) start_unix_ms: u64,
    /// How long was measured.
    pub(crate) elapsed: Duration,
    /// One for each kind of thing that was timed, such as `produce` and `consume`.
    pub(crate) series: Vec<Series>,
    /// What the broker's process took, if it runs on this machine and was named.
    pub(crate) broker: Option<ProcessUse>,
    /// What this process took.
    pub(crate) client: ProcessUse,
    /// What was lost, repeated, reordered or refused: one sentence each. A run with any of them has failed.
    pub(crate) findings: Vec<String>,
}

/// What a process took while it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ProcessUse {
    /// In user and system mode together.
    pub(crate) cpu: Duration,
    /// The most memory that was resident, in bytes.
    pub(crate) resident_bytes_max: u64,
}

/// One kind of thing that was timed.
pub(crate) struct Series {
    /// What: `produce`, `consume`, `end-to-end`.
    pub(crate) name: String,
    /// Of all of it, in nanoseconds. Open loop: from the intended time of sending.
    pub(crate) latency: Histogram<u64>,
    /// In all.
    pub(crate) counts: Counts,
    /// One after the other, each second counted from the start; the last one may be shorter.
    pub(crate) seconds: Vec<Second>,
}

/// What happened in some span of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that were answered.
    pub(crate) request_count: u64,
    /// Records that were acknowledged or received.
    pub(crate) record_count: u64,
    /// Bytes of record batches, as they are on the wire.
    pub(crate) bytes: u64,
    /// Requests that were answered with an error, or not at all.
    pub(crate) error_count: u64,
}

/// One second of a [`Series`].
pub(crate) struct Second {
    /// In nanoseconds, of what ended in this second.
    pub(crate) latency: Histogram<u64>,
    /// What ended in this second.
    pub(crate) counts: Counts,
}

impl Counts {
    /// Adds what happened elsewhere or later.
    pub(crate) fn add(&mut self, other: Self) {
        self.request_count += other.request_count;
        self.record_count += other.record_count;
        self.bytes += other.bytes;
        self.error_count += other.error_count;
    }
}

impl Series {
    /// Nothing yet.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), latency: histogram(), counts: Counts::default(), seconds: Vec::new() }
    }

    /// Takes in something that ended `since_start` after the beginning and took `latency`.
    pub(crate) fn take(&mut self, since_start: Duration, latency: Duration, counts: Counts) {
        let index = usize::try_from(since_start.as_secs()).unwrap_or(usize::MAX).min(SECONDS_MAX - 1);
        while self.seconds.len() <= index {
            // A second's histogram grows with what it holds: most are small.
            let latency = Histogram::new(SECOND_DIGITS).expect("so many digits are what a histogram takes");
            self.seconds.push(Second { latency, counts: Counts::default() });
        }
        let second = &mut self.seconds[index];
        // Clamped to the same hour as the whole run's. Not by `record`, which keeps to the bounds that a histogram has now
        // and never lets it grow.
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).min(self.latency.high());
        second.latency.record(nanos).expect("a second's histogram grows as needed");
        second.counts.add(counts);
        record(&mut self.latency, latency);
        self.counts.add(counts);
    }

    /// Adds what another thread saw of the same run.
    pub(crate) fn merge(&mut self, other: Self) {
        self.latency.add(other.latency).expect("all histograms of a whole run have the same bounds");
        self.counts.add(other.counts);
        for (index, theirs) in other.seconds.into_iter().enumerate() {
            match self.seconds.get_mut(index) {
                Some(ours) => {
                    ours.latency.add(theirs.latency).expect("a second's histogram grows as needed");
                    ours.counts.add(theirs.counts);
                }
                None => self.seconds.push(theirs),
            }
        }
    }

    /// A quantile of the whole run in milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        quantile_ms(&self.latency, quantile)
    }
}

/// A day: what comes later is counted in the last second.
const SECONDS_MAX: usize = 24 * 3600;
/// Significant digits of a second's latencies.
const SECOND_DIGITS: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Counts = Counts { request_count: 1, record_count: 2, bytes: 3, error_count: 0 };

    #[test]
    fn what_two_threads_saw_adds_up_second_by_second() {
        let (mut first, mut second) = (Series::new("produce"), Series::new("produce"));
        first.take(Duration::from_millis(100), Duration::from_millis(1), ONE);
        second.take(Duration::from_millis(900), Duration::from_millis(2), ONE);
        second.take(Duration::from_millis(2100), Duration::from_millis(3), ONE);
        first.merge(second);
        let requests: Vec<_> = first.seconds.iter().map(|second| second.counts.request_count).collect();
        assert_eq!(requests, [2, 0, 1]);
        assert_eq!(first.counts, Counts { request_count: 3, record_count: 6, bytes: 9, error_count: 0 });
        assert_eq!((first.latency.len(), first.seconds[0].latency.len()), (3, 2));
        assert!((first.quantile_ms(1.0) - 3.0).abs() < 0.01);
        assert!((quantile_ms(&first.seconds[2].latency, 1.0) - 3.0).abs() < 0.03, "a second's histogram has grown");
    }
}
