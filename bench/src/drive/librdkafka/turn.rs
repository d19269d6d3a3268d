//! Which partition is next. Pure.
//!
//! As many neighbouring records as make one batch go to one partition, and then the next partition has its turn: the library
//! makes its batches per partition, so records dealt out one by one would fill none of them.

use std::time::Duration;

use millrace_runtime::Moment;

/// How long a partition keeps its turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turns {
    /// Invariant: above 0.
    pub(super) place_count: usize,
    /// Records of a full batch. Invariant: above 0.
    pub(super) record_count_max: u64,
    /// From when its first record was due; nothing if only the count matters.
    pub(super) span_max: Option<Duration>,
}

/// The turn that a partition has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) place_index: usize,
    first_due: Moment,
    record_count: u64,
}

impl Turn {
    /// The turn of the first record of all.
    pub(super) const fn first(due: Moment) -> Self {
        Self { place_index: 0, first_due: due, record_count: 1 }
    }

    /// The turn of the record behind the one that this is the turn of, which is due at `due`.
    pub(super) fn next(self, due: Moment, turns: &Turns) -> Self {
        let is_in_time = turns.span_max.is_none_or(|span| due <= self.first_due + span);
        if self.record_count < turns.record_count_max && is_in_time {
            return Self { record_count: self.record_count + 1, ..self };
        }
        Self { place_index: (self.place_index + 1) % turns.place_count, first_due: due, record_count: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(turns: &Turns, gap_nanos: u64, count: u64) -> Vec<usize> {
        let mut turn = Turn::first(Moment::from_nanos(0));
        let mut places = vec![turn.place_index];
        for index in 1..count {
            turn = turn.next(Moment::from_nanos(index * gap_nanos), turns);
            places.push(turn.place_index);
        }
        places
    }

    #[test]
    fn a_turn_ends_with_the_batch_or_with_its_time() {
        let by_count = Turns { place_count: 3, record_count_max: 2, span_max: None };
        assert_eq!(places(&by_count, 1_000_000, 8), [0, 0, 1, 1, 2, 2, 0, 0]);
        let by_time = Turns { place_count: 2, record_count_max: 100, span_max: Some(Duration::from_nanos(20)) };
        assert_eq!(places(&by_time, 10, 7), [0, 0, 0, 1, 1, 1, 0]);
        let unbatched = Turns { place_count: 2, record_count_max: 1, span_max: Some(Duration::ZERO) };
        assert_eq!(places(&unbatched, 0, 4), [0, 1, 0, 1]);
    }
}
