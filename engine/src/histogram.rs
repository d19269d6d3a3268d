//! Durations counted in buckets, on one shard.
//!
//! A bucket is half as wide as its lower bound's power of two, so a quantile read from them is off by a quarter at most.
//! Recording is a few instructions on plain cells: no atomics, because a histogram belongs to one thread, which hands out
//! [`Durations`] of it when it is asked.
//!
//! ```text
//! bound   0     1      2     3      4   ...  42      43
//!       2^13  1.5·2^13  2^14  1.5·2^14  2^15     2^34   none     nanoseconds, upper ends included
//! ```

use std::cell::Cell;
use std::time::Duration;

/// Bounds of buckets; one more bucket has what is above the last.
pub const BOUND_COUNT: usize = 43;
/// The first bound is this power of two nanoseconds: 8 us.
const FIRST_EXPONENT: u32 = 13;

/// A histogram that grows.
#[derive(Debug)]
pub struct Histogram {
    counts: [Cell<u64>; BOUND_COUNT + 1],
    sum_ns: Cell<u64>,
}

/// What a histogram held when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    /// How many lie at or below each of [`bounds_ns`], and above the one before; the last counts those above them all.
    pub counts: [u64; BOUND_COUNT + 1],
    /// All of them together, in nanoseconds.
    pub sum_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: std::array::from_fn(|_| Cell::new(0)), sum_ns: Cell::new(0) }
    }
}

impl Default for Durations {
    fn default() -> Self {
        Self { counts: [0; BOUND_COUNT + 1], sum_ns: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    #[inline]
    pub fn record(&self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let count = &self.counts[bucket(ns)];
        count.set(count.get() + 1);
        self.sum_ns.set(self.sum_ns.get().saturating_add(ns));
    }

    /// What was counted so far.
    pub fn durations(&self) -> Durations {
        Durations { counts: std::array::from_fn(|index| self.counts[index].get()), sum_ns: self.sum_ns.get() }
    }
}

impl Durations {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds those of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (count, added) in self.counts.iter_mut().zip(other.counts) {
            *count += added;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }
}

/// The upper ends of the buckets but the last, in nanoseconds, rising.
pub fn bounds_ns() -> [u64; BOUND_COUNT] {
    std::array::from_fn(|index| {
        let octave = u32::try_from(index / 2).expect("there are few bounds");
        let power = 1 << (FIRST_EXPONENT + octave);
        if index.is_multiple_of(2) { power } else { power + power / 2 }
    })
}

#[inline]
fn bucket(ns: u64) -> usize {
    if ns <= 1 << FIRST_EXPONENT {
        return 0;
    }
    // One less, because upper ends are included.
    let below = ns - 1;
    let exponent = below.ilog2();
    let upper_half = usize::from(below >> (exponent - 1) & 1 == 1);
    let octave = usize::try_from(exponent - FIRST_EXPONENT).expect("32 bits fit usize");
    (2 * octave + upper_half + 1).min(BOUND_COUNT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_lies_in_the_bucket_of_the_first_bound_that_is_not_below_it() {
        let bounds = bounds_ns();
        assert!(bounds.is_sorted() && bounds[0] == 8192 && bounds[BOUND_COUNT - 1] == 1 << 34);
        let expected = |ns: u64| bounds.iter().position(|bound| ns <= *bound).unwrap_or(BOUND_COUNT);
        for bound in bounds {
            for ns in [bound - 1, bound, bound + 1] {
                assert_eq!(bucket(ns), expected(ns), "{ns}");
            }
        }
        assert_eq!((bucket(0), bucket(u64::MAX)), (0, BOUND_COUNT));
    }

    #[test]
    fn durations_add_up() {
        let histogram = Histogram::default();
        histogram.record(Duration::from_micros(5));
        histogram.record(Duration::from_mins(1));
        let mut durations = histogram.durations();
        assert_eq!((durations.count(), durations.sum_ns), (2, 60_000_005_000));
        durations.add(&histogram.durations());
        assert_eq!((durations.counts[0], durations.counts[BOUND_COUNT]), (2, 2));
    }
}
