//! What progress shows while a run lasts: written by the shards, read by the main thread, exact enough for a glance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::measured::Counts;
use crate::numbers::{histogram, u64_of};

/// Counts that shards write and the main thread reads. The numbers need not be of one moment.
#[derive(Default)]
pub(super) struct Gauge {
    request_count: AtomicU64,
    record_count: AtomicU64,
    bytes: AtomicU64,
    error_count: AtomicU64,
    latencies: Latencies,
}

impl Gauge {
    pub(super) fn add(&self, counts: Counts) {
        self.request_count.fetch_add(counts.request_count, Ordering::Relaxed);
        self.record_count.fetch_add(counts.record_count, Ordering::Relaxed);
        self.bytes.fetch_add(counts.bytes, Ordering::Relaxed);
        self.error_count.fetch_add(counts.error_count, Ordering::Relaxed);
    }

    /// Counts something that took `latency`.
    pub(super) fn time(&self, latency: Duration) {
        self.latencies.0[class_of(latency)].fetch_add(1, Ordering::Relaxed);
    }

    /// Since the start.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            request_count: self.request_count.load(Ordering::Relaxed),
            record_count: self.record_count.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            error_count: self.error_count.load(Ordering::Relaxed),
        }
    }

    /// In nanoseconds, since this was last asked, each up to an eighth too high.
    pub(super) fn take_latencies(&self) -> Histogram<u64> {
        let mut taken = histogram();
        for (class, count) in self.latencies.0.iter().enumerate() {
            let count = count.swap(0, Ordering::Relaxed);
            if count > 0 {
                taken.saturating_record_n(highest_of(class), count);
            }
        }
        taken
    }
}

/// How many there were of each class.
struct Latencies([AtomicU64; CLASS_COUNT]);

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; CLASS_COUNT])
    }
}

/// Classes are an eighth of a power of two wide: the number is that of the power and the three bits behind the first.
fn class_of(latency: Duration) -> usize {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(NANOS_MIN);
    let power = u64::from(nanos.ilog2());
    let class = power * 8 + (nanos >> (power - 3) & 7);
    usize::try_from(class).expect("there are 512 classes")
}

/// The longest latency of a class, in nanoseconds.
fn highest_of(class: usize) -> u64 {
    let (power, eighth) = (u64_of(class / 8), u64_of(class % 8));
    let width = 1 << power.saturating_sub(3);
    // The sum's first part leaves room for all eighths, but only for the last nanosecond of the last one.
    (8 + eighth) * width + (width - 1)
}

const CLASS_COUNT: usize = 64 * 8;
/// Below are no eighths.
const NANOS_MIN: u64 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_is_in_a_class_that_ends_an_eighth_behind_it_at_most() {
        let mut nanos = NANOS_MIN;
        while nanos < u64::MAX / 2 {
            for nanos in [nanos - 1, nanos, nanos + 1] {
                let highest = highest_of(class_of(Duration::from_nanos(nanos)));
                assert!(highest >= nanos && highest - nanos <= nanos.max(NANOS_MIN) / 8, "{nanos} in {highest}");
            }
            nanos += nanos / 3;
        }
        for extreme in [Duration::ZERO, Duration::MAX] {
            assert!(class_of(extreme) < CLASS_COUNT);
        }
        assert_eq!(highest_of(CLASS_COUNT - 1), u64::MAX);
    }

    #[test]
    fn latencies_are_those_since_the_last_look() {
        let gauge = Gauge::default();
        for millis in [1, 1, 20] {
            gauge.time(Duration::from_millis(millis));
        }
        let taken = gauge.take_latencies();
        assert_eq!(taken.len(), 3);
        assert!((1_000_000..1_126_000).contains(&taken.value_at_quantile(0.5)));
        assert_eq!(gauge.take_latencies().len(), 0);
    }
}
