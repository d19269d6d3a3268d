//! When each record of an open loop is due. Evenly spaced, after a ramp in which the rate rises in a straight line.
//!
//! With the full rate `r` and a ramp of `R` seconds, `r t^2 / 2R` records are due by time `t` of the ramp and `r R / 2` by
//! its end; the time of a record is the inverse. So any record's time follows from its number alone, and whoever has to
//! know it later need not keep it.

use std::time::Duration;

use crate::numbers::float;

/// The times of the records of one connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Schedule {
    /// Invariant: above 0.
    per_second: f64,
    ramp_seconds: f64,
    /// By how much of the gap between two records this connection comes after the start: 0 inclusive to 1 exclusive.
    phase: f64,
}

impl Schedule {
    /// The share of connection `index` of `count` in a rate of `per_second` records. Connections take turns.
    pub(crate) fn of_connection(per_second: f64, ramp: Duration, index: usize, count: usize) -> Self {
        assert!(index < count, "the connection is one of them");
        let count = float(crate::numbers::u64_of(count));
        let phase = float(crate::numbers::u64_of(index)) / count;
        Self { per_second: per_second / count, ramp_seconds: ramp.as_secs_f64(), phase }
    }

    /// When record `index` is due, counted from the start of the ramp.
    pub(crate) fn time_of(&self, index: u64) -> Duration {
        let place = float(index) + self.phase;
        let in_ramp = self.per_second * self.ramp_seconds / 2.0;
        let seconds = if place < in_ramp {
            (2.0 * self.ramp_seconds * place / self.per_second).sqrt()
        } else {
            self.ramp_seconds + (place - in_ramp) / self.per_second
        };
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many records from `index` on are due by `time`, at most `count_max`.
    pub(crate) fn count_due(&self, index: u64, time: Duration, count_max: u64) -> u64 {
        // The times rise, so the records that are due come first.
        let (mut due, mut not_due) = (0, count_max);
        while due < not_due {
            let middle = due + (not_due - due) / 2;
            if self.time_of(index + middle) <= time {
                due = middle + 1;
            } else {
                not_due = middle;
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(schedule: &Schedule, index: u64) -> u128 {
        schedule.time_of(index).as_micros().div_ceil(1000)
    }

    #[test]
    fn connections_take_turns_at_the_rate() {
        let of = |index| Schedule::of_connection(1000.0, Duration::ZERO, index, 2);
        assert_eq!([millis(&of(0), 0), millis(&of(1), 0), millis(&of(0), 1), millis(&of(1), 1)], [0, 1, 2, 3]);
        assert_eq!(millis(&of(0), 5000), 10_000);
    }

    #[test]
    fn a_ramp_has_half_of_the_records_and_joins_the_full_rate() {
        let schedule = Schedule::of_connection(1000.0, Duration::from_secs(10), 0, 1);
        assert_eq!(millis(&schedule, 5000), 10_000);
        assert_eq!(millis(&schedule, 6000), 11_000);
        assert_eq!(millis(&schedule, 1250), 5000);
        assert!((1..7000).all(|index| schedule.time_of(index) > schedule.time_of(index - 1)));
    }

    #[test]
    fn records_are_due_up_to_now_and_to_the_limit() {
        let schedule = Schedule::of_connection(1000.0, Duration::ZERO, 0, 1);
        let at = Duration::from_millis;
        assert_eq!(schedule.count_due(0, at(4), 100), 5);
        assert_eq!(schedule.count_due(3, at(4), 100), 2);
        assert_eq!(schedule.count_due(0, at(4), 2), 2);
        assert_eq!(schedule.count_due(10, at(4), 100), 0);
    }
}
