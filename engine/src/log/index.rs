//! Sparse index of a segment: which batch starts where, about every [`INDEX_INTERVAL_BYTES`] of the file.
//!
//! Always rebuildable from the segment. Also answers look-ups by time, for which every entry carries the largest record
//! timestamp of all batches before it.

use crate::model::{Offset, Position};

/// Distance in bytes that lies at least between two entries.
pub const INDEX_INTERVAL_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    base_offset: Offset,
    position: Position,
    /// Largest timestamp of the batches in front of this one, in milliseconds; `i64::MIN` when there are none.
    timestamp_before: i64,
}

/// The index of one segment. Entries rise in offset, position and timestamp.
#[derive(Debug, Default)]
pub struct OffsetIndex {
    entries: Vec<Entry>,
    /// Largest timestamp of all batches pushed; `None` before the first.
    timestamp_max: Option<i64>,
}

impl OffsetIndex {
    /// Notes a batch. Batches are pushed in the order of the log.
    pub fn push(&mut self, base_offset: Offset, position: Position, timestamp_max: i64) {
        let due = self.entries.last().is_none_or(|last| position.bytes_since(last.position) >= INDEX_INTERVAL_BYTES);
        if due {
            let timestamp_before = self.timestamp_max.unwrap_or(i64::MIN);
            self.entries.push(Entry { base_offset, position, timestamp_before });
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the plain list: the answer is a batch at or before the one sought, and no more than one interval and
        /// the largest batch away.
        #[test]
        fn finds_what_a_plain_list_finds(batches in prop::collection::vec((1_usize..9000, 1_i64..50, 0_i64..1000), 1..80)) {
            let (mut older, mut index) = (OffsetIndex::default(), OffsetIndex::default());
            let (mut plain, mut position, mut offset) = (Vec::new(), Position::new(4096), 0);
            let older_count = batches.len() / 3;
            for (number, (bytes, records, timestamp)) in batches.into_iter().enumerate() {
                let half = if number < older_count { &mut older } else { &mut index };
                half.push(Offset::new(offset), position, timestamp);
                plain.push((offset, offset + records, position, timestamp));
                position = position.plus(bytes);
                offset += records;
            }
            index.prepend(older);
            for wanted in 0..offset {
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
    }
}
