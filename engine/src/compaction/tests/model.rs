//! Compaction by its definition, on batches that were taken apart: slow, and plain enough to be seen to be right.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::batch::Compression;

use super::logs::{Batch, ControlledBy};
use crate::compaction::PassConfig;
use crate::model::Offset;

/// What remains of a log when everything below `covered_end` is covered.
pub(super) fn clean(batches: &[Batch], config: &PassConfig, covered_end: i64) -> Vec<Batch> {
    let mut newest = BTreeMap::new();
    for batch in batches.iter().filter(|batch| counts(batch, config)) {
        for record in batch.records.iter().filter(|record| record.offset < covered_end) {
            newest.insert(record.key.clone(), record.offset);
        }
    }
    let age_max_ms = i64::try_from(config.tombstone_age_max.as_millis()).unwrap();
    let mut remaining = Vec::new();
    let mut leader_epoch = None;
    for batch in batches {
        let mut batch = batch.clone();
        let begins_epoch = leader_epoch.replace(batch.leader_epoch) != Some(batch.leader_epoch);
        if batch.controlled_by == ControlledBy::Broker || batch.base >= covered_end {
            remaining.push(batch);
            continue;
        }
        let is_covered_whole = batch.last < covered_end;
        let is_expired = batch.horizon_ms.is_some_and(|horizon_ms| horizon_ms <= config.now_ms);
        let is_aborted = !counts(&batch, config);
        batch.records.retain(|record| {
            let is_newest = record.key.is_some() && newest.get(&record.key) == Some(&record.offset);
            let is_gone = record.value.is_none() && is_expired;
            !is_aborted && (record.offset >= covered_end || (is_newest && !is_gone))
        });
        if batch.records.is_empty() {
            let is_last = config.producers.get(&batch.producer.0).map(|last| last.get()) == Some(batch.last);
            if !is_last && !begins_epoch {
                continue;
            }
            (batch.codec, batch.horizon_ms) = (Compression::None, None);
        } else {
            let has_tombstone = batch.records.iter().any(|record| record.value.is_none());
            if is_covered_whole && has_tombstone && batch.horizon_ms.is_none() {
                batch.horizon_ms = Some(config.now_ms + age_max_ms);
            }
            if !batch.has_append_time {
                batch.max_time_ms = batch.records.iter().map(|record| record.time_ms).max().unwrap();
            }
        }
        remaining.push(batch);
    }
    remaining
}

/// The records below `covered_end` have as many keys as the map says, and it ended early only for want of room.
pub(super) fn check_coverage(batches: &[Batch], config: &PassConfig, covered_end: i64, key_count: usize) {
    let (dirty_start, dirty_end) = (config.dirty.start.get(), config.dirty.end.get());
    let keys_below = |end: i64| {
        let records = batches.iter().filter(|batch| counts(batch, config)).flat_map(|batch| &batch.records);
        let dirty = records.filter(|record| (dirty_start..end).contains(&record.offset));
        dirty.filter_map(|record| record.key.clone()).collect::<BTreeSet<_>>()
    };
    assert_eq!(keys_below(covered_end).len(), key_count);
    assert!(covered_end <= dirty_end);
    if covered_end < dirty_end {
        assert!(covered_end > dirty_start, "a pass covers something");
        assert!(keys_below(covered_end + 1).len() > key_count, "the next record has a new key");
        let slot_bytes = crate::compaction::key_map::SLOT_BYTES;
        assert!(key_count >= (config.key_map_bytes_max / slot_bytes * 7 / 8).max(1), "the map was full");
    }
}

/// Whether the batch's records are there for clients.
fn counts(batch: &Batch, config: &PassConfig) -> bool {
    let is_aborted = batch.transactional && config.aborted.contains(batch.producer.0, Offset::new(batch.base));
    batch.controlled_by == ControlledBy::Client && !is_aborted
}
