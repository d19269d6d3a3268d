//! Where each leader epoch begins in a log (KIP-101, KIP-279), so that replicas find the offset up to which they agree.
//!
//! Pure, and a function of the log's batches, but for one thing: a leader that begins an epoch may note it before it has
//! appended anything, which is forgotten at a restart and noted again.
//!
//! ```text
//! offsets   0       10            25      30
//!           | epoch 1 | epoch 3    | epoch 4 |  log end
//! asked for epoch    0        1        2        3        4        5
//! answer             0, 0     1, 10    1, 10    3, 25    4, 30    4, 30
//! ```

use crate::model::{EpochStart, LeaderEpoch, Offset};

/// The leader epochs of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    /// Invariant: epochs and offsets rise strictly, epochs are not negative.
    starts: Vec<EpochStart>,
}

impl EpochCache {
    /// Notes that what is appended from `start_offset` on is appended in `epoch`. Known epochs are left as they are, and
    /// so is the cache when the epoch is unknown (-1).
    ///
    /// Whatever contradicts it goes: an epoch that begins at that offset or behind it has no record, and one that is
    /// later cannot come before.
    pub fn append(&mut self, epoch: LeaderEpoch, start_offset: Offset) {
        if epoch.get() < 0 || self.latest() == Some(epoch) {
            return;
        }
        while self.starts.last().is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset) {
            self.starts.pop();
        }
        self.starts.push(EpochStart { epoch, start_offset });
    }

    /// The log was cut: it ends at `offset` now. An epoch that was noted there without a record goes too, for another
    /// leader may have begun another one there.
    pub fn truncate_end(&mut self, offset: Offset) {
        let kept = self.starts.partition_point(|start| start.start_offset < offset);
        self.starts.truncate(kept);
    }

    /// The log starts at `offset` now: epochs that end before or there go, and the one it lies in begins there. The last
    /// epoch stays, even when no record is left.
    pub fn truncate_start(&mut self, offset: Offset) {
        let begun = self.starts.partition_point(|start| start.start_offset <= offset);
        self.starts.drain(..begun.saturating_sub(1));
        if let Some(first) = self.starts.first_mut() {
            first.start_offset = first.start_offset.max(offset);
        }
    }

    /// The newest epoch; `None` when nothing is known.
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|last| last.epoch)
    }

    /// The largest epoch that is not above `epoch`, and the offset behind its last record, where `log_end` is that behind
    /// the last record of all. `None` when nothing is known.
    ///
    /// An epoch older than all that are known answers itself and where the oldest one begins, as in Kafka: its records
    /// were deleted, and a follower that still has some goes on from there.
    pub fn end_offset_for(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.starts.partition_point(|start| start.epoch <= epoch);
        let end = self.starts.get(after).map_or(log_end, |next| next.start_offset);
        match after.checked_sub(1) {
            Some(index) => Some((self.starts[index].epoch, end)),
            None => (!self.starts.is_empty()).then_some((epoch, end)),
        }
    }

    /// The epochs of the records from `base` to `end`, each with the first offset it has among them.
    pub fn between(&self, base: Offset, end: Offset) -> Vec<EpochStart> {
        if base >= end {
            return Vec::new();
        }
        let first = self.starts.partition_point(|start| start.start_offset <= base).saturating_sub(1);
        let inside = self.starts[first..].iter().take_while(|start| start.start_offset < end);
        let clipped = |start: &EpochStart| EpochStart { start_offset: start.start_offset.max(base), ..*start };
        inside.map(clipped).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cache(starts: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in starts {
            cache.append(LeaderEpoch::new(*epoch), Offset::new(*start));
        }
        cache
    }

    fn starts(cache: &EpochCache) -> Vec<(i32, i64)> {
        cache.starts.iter().map(|start| (start.epoch.get(), start.start_offset.get())).collect()
    }

    fn end_offset(cache: &EpochCache, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        let found = cache.end_offset_for(LeaderEpoch::new(epoch), Offset::new(log_end));
        found.map(|(epoch, end)| (epoch.get(), end.get()))
    }

    #[test]
    fn answers_as_the_picture_says() {
        let cache = cache(&[(1, 0), (3, 10), (4, 25)]);
        let answers = [(0, 0), (1, 10), (1, 10), (3, 25), (4, 30), (4, 30)];
        for (asked, answer) in (0..).zip(answers) {
            assert_eq!(end_offset(&cache, asked, 30), Some(answer), "epoch {asked}");
        }
        assert_eq!(end_offset(&EpochCache::default(), 3, 30), None);
    }

    #[test]
    fn an_epoch_without_a_record_gives_way_to_a_later_one() {
        assert_eq!(starts(&cache(&[(1, 0), (2, 10), (3, 10)])), [(1, 0), (3, 10)]);
        assert_eq!(starts(&cache(&[(1, 0), (1, 10), (-1, 20)])), [(1, 0)], "known, or no epoch");
        assert_eq!(starts(&cache(&[(1, 0), (4, 10), (2, 20)])), [(1, 0), (2, 20)], "a contradiction does not stay");
        let mut cut = cache(&[(1, 0), (2, 10)]);
        cut.truncate_end(Offset::new(10));
        assert_eq!(starts(&cut), [(1, 0)]);
    }

    #[test]
    fn the_last_epoch_outlives_its_records() {
        let mut cache = cache(&[(1, 0), (2, 10)]);
        cache.truncate_start(Offset::new(50));
        assert_eq!(starts(&cache), [(2, 50)]);
        assert_eq!(end_offset(&cache, 1, 50), Some((1, 50)));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Batch { epoch_rise: i32, records: usize },
        CutEnd { kept: usize },
        CutStart { dropped: usize },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..3, 1_usize..5).prop_map(|(epoch_rise, records)| Step::Batch { epoch_rise, records }),
            1 => (0_usize..40).prop_map(|kept| Step::CutEnd { kept }),
            1 => (0_usize..10).prop_map(|dropped| Step::CutStart { dropped }),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// Against the plain list of every record's epoch.
        #[test]
        fn knows_what_the_batches_say(steps in steps()) {
            let (mut cache, mut records, mut log_start) = (EpochCache::default(), Vec::new(), 0_usize);
            let mut epoch = 0;
            let offset = |value: usize| Offset::new(i64::try_from(value).unwrap());
            for step in steps {
                match step {
                    Step::Batch { epoch_rise, records: count } => {
                        epoch += epoch_rise;
                        cache.append(LeaderEpoch::new(epoch), offset(records.len()));
                        records.resize(records.len() + count, epoch);
                    }
                    // At least one record stays: what an empty log keeps is tested above.
                    Step::CutEnd { kept } => {
                        records.truncate((log_start + kept).max(log_start + 1));
                        cache.truncate_end(offset(records.len()));
                    }
                    Step::CutStart { dropped } => {
                        log_start = (log_start + dropped).min(records.len().saturating_sub(1));
                        cache.truncate_start(offset(log_start));
                    }
                }
                let live = || (log_start..records.len()).map(|at| (records[at], at));
                for asked in 0..=epoch + 1 {
                    let end = live().find(|(of, _)| *of > asked).map_or(records.len(), |(_, at)| at);
                    let found = live().take_while(|(of, _)| *of <= asked).last().map_or(asked, |(of, _)| of);
                    let expected = (!records.is_empty()).then(|| (found, i64::try_from(end).unwrap()));
                    prop_assert_eq!(end_offset(&cache, asked, i64::try_from(records.len()).unwrap()), expected);
                }
                let (base, end) = (log_start + records.len() / 5, records.len() - records.len() / 4);
                let mut between = EpochCache::default();
                for (of, at) in live().filter(|(_, at)| (base..end).contains(at)) {
                    between.append(LeaderEpoch::new(of), offset(at));
                }
                prop_assert_eq!(cache.between(offset(base), offset(end)), between.starts);
            }
        }
    }
}
