//! Sparse index of a segment: which batch starts where, about every [`INDEX_INTERVAL_BYTES`] of the file.
//!
//! Always rebuildable from the segment. Also answers look-ups by time, for which every entry carries the largest record
//! timestamp of all batches before it.
//!
//! Its memory is bounded: when there are [`ENTRIES_MAX`], every entry but the newest ones is thinned out, to a distance
//! that doubles until a quarter is free. What is read most, the end of the log, stays finely indexed.

use crate::format::index::IndexEntry;
use crate::model::{EpochStart, Offset, Position};

/// Distance in bytes that lies at least between two entries.
pub const INDEX_INTERVAL_BYTES: usize = 4096;
/// Entries of one segment.
pub const ENTRIES_MAX: usize = 16 * 1024;
/// So many of the newest entries are never thinned out.
const ENTRIES_KEPT: usize = 2 * 1024;
const _: () = assert!(ENTRIES_KEPT < ENTRIES_MAX / 2, "thinning out has something to take");

/// The index of one segment. Entries rise in offset, position and timestamp.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OffsetIndex {
    /// Invariant: at most [`ENTRIES_MAX`]; the first batch pushed is the first entry.
    entries: Vec<IndexEntry>,
    /// Largest timestamp of all batches pushed; `None` before the first.
    timestamp_max: Option<i64>,
}

/// All that is kept of a sealed segment's batches.
#[derive(Debug, Default)]
pub struct SegmentIndex {
    /// Position behind the last batch, in the segment's file.
    pub end: Position,
    /// Where batches start.
    pub offsets: OffsetIndex,
    /// The leader epochs that begin in the segment; the first batch's counts as one of them.
    pub epochs: Vec<EpochStart>,
}

impl SegmentIndex {
    /// Memory of it, in bytes.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.offsets.memory_bytes() + self.epochs.capacity() * size_of::<EpochStart>()
    }
}

impl OffsetIndex {
    /// The index with these entries, as its file holds them, over batches whose largest timestamp is `timestamp_max`.
    pub fn from_entries(entries: Vec<IndexEntry>, timestamp_max: Option<i64>) -> Self {
        let mut index = Self { entries, timestamp_max };
        index.thin_out();
        index
    }

    /// Notes a batch. Batches are pushed in the order of the log.
    pub fn push(&mut self, base_offset: Offset, position: Position, timestamp_max: i64) {
        let due = self.entries.last().is_none_or(|last| position.bytes_since(last.position) >= INDEX_INTERVAL_BYTES);
        if due {
            let timestamp_before = self.timestamp_max.unwrap_or(i64::MIN);
            self.entries.push(IndexEntry { base_offset, position, timestamp_before });
            self.thin_out();
        }
        self.timestamp_max = Some(self.timestamp_max.map_or(timestamp_max, |before| before.max(timestamp_max)));
    }

    /// Puts the index of everything before this index's first batch in front.
    pub fn prepend(&mut self, mut older: Self) {
        let Some(older_timestamp_max) = older.timestamp_max else { return };
        for entry in &mut self.entries {
            entry.timestamp_before = entry.timestamp_before.max(older_timestamp_max);
        }
        older.entries.append(&mut self.entries);
        self.entries = older.entries;
        self.timestamp_max = self.timestamp_max.max(Some(older_timestamp_max));
        self.thin_out();
    }

    /// Forgets every batch from `end` on, and those between the last entry before `end` and `end`: nothing says what
    /// their timestamps are. Returns where that entry's batch starts; the caller pushes the batches from there to `end`
    /// once more, and then the index is exact. `None` when no batch lies before `end`.
    #[must_use = "the index lacks the batches from there on"]
    pub fn truncate_to(&mut self, end: Position) -> Option<Position> {
        let kept = self.entries.partition_point(|entry| entry.position < end);
        self.entries.truncate(kept);
        let last = self.entries.pop();
        self.timestamp_max = last.map(|last| last.timestamp_before).filter(|_| !self.entries.is_empty());
        last.map(|last| last.position)
    }

    /// The entries, for the segment's index file.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Start of a batch at or before the one that holds `offset`; `None` when the segment is empty.
    pub fn find(&self, offset: Offset) -> Option<Position> {
        let after = self.entries.partition_point(|entry| entry.base_offset <= offset);
        self.entries.get(after.saturating_sub(1)).map(|entry| entry.position)
    }

    /// Start of a batch at or before the first one with a timestamp of at least `timestamp`; `None` when there is none.
    pub fn find_by_time(&self, timestamp: i64) -> Option<Position> {
        self.timestamp_max.filter(|largest| *largest >= timestamp)?;
        // The first batch that reaches `timestamp` lies behind every entry in front of which it was not yet reached.
        let reached = self.entries.partition_point(|entry| entry.timestamp_before < timestamp);
        self.entries.get(reached.saturating_sub(1)).map(|entry| entry.position)
    }

    /// Largest record timestamp of the segment, in milliseconds; `None` when it is empty.
    pub fn timestamp_max(&self) -> Option<i64> {
        self.timestamp_max
    }

    /// Memory of the entries, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
    }

    fn thin_out(&mut self) {
        if self.entries.len() < ENTRIES_MAX {
            return;
        }
        let mut interval_bytes = INDEX_INTERVAL_BYTES;
        while self.entries.len() > ENTRIES_MAX / 4 * 3 {
            interval_bytes *= 2;
            let mut remaining = self.entries.len();
            let mut last_kept: Option<Position> = None;
            self.entries.retain(|entry| {
                let newest = remaining <= ENTRIES_KEPT;
                remaining -= 1;
                let kept =
                    newest || last_kept.is_none_or(|last_kept| entry.position.bytes_since(last_kept) >= interval_bytes);
                last_kept = if kept { Some(entry.position) } else { last_kept };
                kept
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One batch of a plain list: offsets, position, timestamp.
    type Plain = (i64, i64, Position, i64);

    fn plain(batches: Vec<(usize, i64, i64)>) -> Vec<Plain> {
        let (mut position, mut offset) = (Position::new(4096), 0);
        let mut plain = Vec::new();
        for (bytes, records, timestamp) in batches {
            plain.push((offset, offset + records, position, timestamp));
            position = position.plus(bytes);
            offset += records;
        }
        plain
    }

    fn indexed(batches: &[Plain]) -> OffsetIndex {
        let mut index = OffsetIndex::default();
        for (base, _, position, timestamp) in batches {
            index.push(Offset::new(*base), *position, *timestamp);
        }
        index
    }

    fn batches() -> impl Strategy<Value = Vec<(usize, i64, i64)>> {
        prop::collection::vec((1_usize..9000, 1_i64..50, 0_i64..1000), 1..80)
    }

    proptest! {
        /// Against the plain list: the answer is a batch at or before the one sought, and no more than one interval and
        /// the largest batch away.
        #[test]
        fn finds_what_a_plain_list_finds(batches in batches()) {
            let plain = plain(batches);
            let (older, newer) = plain.split_at(plain.len() / 3);
            let mut index = indexed(newer);
            index.prepend(indexed(older));
            for wanted in 0..plain.last().unwrap().1 {
                let exact = plain.iter().find(|(base, end, ..)| (*base..*end).contains(&wanted)).unwrap().2;
                let found = index.find(Offset::new(wanted)).unwrap();
                prop_assert!(found <= exact);
                prop_assert!(exact.bytes_since(found) < INDEX_INTERVAL_BYTES + 9000);
            }
            for wanted in 0..1001 {
                let exact = plain.iter().find(|(.., timestamp)| *timestamp >= wanted).map(|found| found.2);
                let found = index.find_by_time(wanted);
                prop_assert_eq!(found.is_some(), exact.is_some());
                if let (Some(found), Some(exact)) = (found, exact) {
                    prop_assert!(found <= exact);
                    prop_assert!(exact.bytes_since(found) < INDEX_INTERVAL_BYTES + 9000);
                }
            }
        }

        /// Cut and pushed on, the index is that of the log as it is then; through its file, it stays the same.
        #[test]
        fn truncated_it_is_the_index_of_what_is_left(batches in batches(), cut in 0_usize..81, entries_again: bool) {
            let plain = plain(batches);
            let left = &plain[..cut.min(plain.len())];
            let mut index = indexed(&plain);
            let end = plain.get(left.len()).map_or(Position::new(1 << 40), |batch| batch.2);
            let again_from = index.truncate_to(end);
            prop_assert_eq!(again_from.is_none(), left.is_empty());
            if entries_again {
                index = OffsetIndex::from_entries(index.entries().to_vec(), index.timestamp_max());
            }
            for (base, _, position, timestamp) in left.iter().filter(|batch| Some(batch.2) >= again_from) {
                index.push(Offset::new(*base), *position, *timestamp);
            }
            prop_assert_eq!(index, indexed(left));
        }
    }

    #[test]
    fn a_long_segment_has_a_coarse_start_and_a_fine_end() {
        let batch_count = 300_000;
        let plain = plain((0..batch_count).map(|number| (INDEX_INTERVAL_BYTES, 1, number)).collect());
        let index = indexed(&plain);
        assert!(index.entries().len() < ENTRIES_MAX);
        assert!(index.memory_bytes() <= 2 * ENTRIES_MAX * size_of::<IndexEntry>());
        for (base, _, position, timestamp) in &plain {
            let allowed_bytes = if *base > batch_count - 2000 { 0 } else { 256 * 1024 };
            for found in [index.find(Offset::new(*base)), index.find_by_time(*timestamp)] {
                let found = found.unwrap();
                assert!(found <= *position);
                assert!(position.bytes_since(found) <= allowed_bytes + INDEX_INTERVAL_BYTES, "{base}");
            }
        }
    }
}
