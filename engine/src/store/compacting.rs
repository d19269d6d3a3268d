//! Drives compaction: reads a log's sealed segments in windows, has [`crate::compaction`] work on them off the shard, and
//! puts what remains in the place of the old segments.
//!
//! One log of the shard is compacted at a time, the dirtiest first. A pass may cover only a part of the dirty records, and
//! stops between windows when the store closes or the log is dropped.
//!
//! # Replacing segments
//!
//! Neighbours that have become small are written into one file. Its header says up to which offset it stands for others.
//!
//! 1. Write it as `<base>.log.new`, flush it, rename it to `<base>.swap` and make that name durable.
//! 2. Let readers use it in place of the old ones.
//! 3. Remove the old segments and their indexes; make that durable.
//! 4. Rename it to `<base>.log`, and write its index.
//!
//! Recovery finishes 3 and 4 when it finds a `.swap` file. When one of the steps fails once that name may be there, the log
//! goes offline for it.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use millrace_runtime::{Clock, Disk, Env, Random, Tasks};
use thiserror::Error;

use super::{Inner, ReadError, SharedLog, Store, extents, open, producers};
use crate::compaction::{Cleaner, Damage, Indexer, PassConfig, Unread};
use crate::log::Log;
use crate::log::sealed::SealedSegment;
use crate::model::{Offset, PartitionId};
use crate::segment_files;

mod replacement;
mod windows;

use replacement::Replacement;
use windows::Windows;

/// Why a pass ended early. The log goes on as before; only its compaction waits.
#[derive(Debug, Error)]
pub(super) enum CompactionError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("segment {segment}: {damage}")]
    Damage { segment: Offset, damage: Damage },
    #[error("the log was dropped, or the store closes")]
    Interrupted,
}

/// What one pass is to do.
struct Plan {
    /// First offsets of the segments, rising.
    bases: Vec<Offset>,
    /// The dirty records.
    dirty: std::ops::Range<Offset>,
    /// Bytes of the segments below the dirty ones, and of those.
    clean_bytes: u64,
    dirty_bytes: u64,
}

impl Plan {
    fn dirty_permille(&self) -> u64 {
        self.dirty_bytes * 1000 / (self.clean_bytes + self.dirty_bytes).max(1)
    }
}

impl<E: Env> Store<E> {
    /// Why compaction of a log did not get through, or what it could not read; the newest reason for each log. Empties
    /// when a pass succeeds.
    pub fn compaction_failures(&self) -> BTreeMap<PartitionId, String> {
        self.inner.compaction_failures.borrow().clone()
    }
}

/// Compacts logs until the store closes.
pub(super) async fn run<E: Env>(inner: Rc<Inner<E>>) {
    while !inner.closing.get() {
        inner.env.clock().sleep(inner.config.compaction_interval).await;
        for log in by_dirtiness(&inner).await {
            if inner.closing.get() {
                return;
            }
            compact(&inner, &log).await;
        }
    }
}

/// The logs that are worth a pass, the dirtiest first.
async fn by_dirtiness<E: Env>(inner: &Rc<Inner<E>>) -> Vec<SharedLog<E>> {
    let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
    let mut due = Vec::new();
    for log in logs {
        if !log.borrow().config.cleanup_policy.compacts() || open::ensure(inner, &log).await.is_err() {
            continue;
        }
        if let Ok(Some(permille)) = urgency(inner, &log).await {
            due.push((permille, log));
        }
        inner.env.tasks().yield_now().await;
    }
    due.sort_by_key(|(permille, _)| std::cmp::Reverse(*permille));
    due.into_iter().map(|(_, log)| log).collect()
}

/// How dirty a log is, in thousandths; `None` when it is not worth a pass yet.
async fn urgency<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> Result<Option<u64>, ReadError> {
    let bases: Vec<_> = log.borrow().sealed.iter().map(|sealed| sealed.base_offset).collect();
    for base in bases {
        extents::load_head(inner, log, base).await?;
    }
    let now_ms = inner.env.clock().unix_ms();
    let Some(plan) = plan(&log.borrow(), now_ms) else { return Ok(None) };
    let config = log.borrow().config.clone();
    let permille = plan.dirty_permille();
    if permille >= u64::from(config.dirty_permille_min) {
        return Ok(Some(permille));
    }
    if config.compaction_lag_max == Duration::MAX {
        return Ok(None);
    }
    // The segment that holds the first dirty record is the one before the first that begins behind it.
    let after = plan.bases.partition_point(|base| *base <= plan.dirty.start);
    let oldest_ms = extents::first_timestamp(inner, log, plan.bases[after.saturating_sub(1)]).await?;
    let age_ms = oldest_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
    let overdue = u128::try_from(age_ms).is_ok_and(|age_ms| age_ms > config.compaction_lag_max.as_millis());
    Ok(overdue.then_some(permille))
}

/// What a pass may cover now: sealed segments that are finished, visible and old enough.
fn plan<E: Env>(log: &Log<E>, now_ms: i64) -> Option<Plan> {
    let lag_ms = i64::try_from(log.config.compaction_lag_min.as_millis()).unwrap_or(i64::MAX);
    let visible = log.visible().offset;
    let may_be_compacted = |sealed: &&SealedSegment<E>| {
        let old = lag_ms == 0 || sealed.timestamp_max.is_some_and(|newest| now_ms.saturating_sub(newest) >= lag_ms);
        sealed.finished && sealed.end_offset <= visible && old
    };
    let segments: Vec<_> = log.sealed.iter().take_while(may_be_compacted).collect();
    let start = log.clean_end.max(log.offsets.start());
    let end = segments.last()?.end_offset;
    let bytes = |is_dirty: bool| -> u64 {
        let of_kind = segments.iter().filter(|sealed| (sealed.end_offset > start) == is_dirty);
        of_kind.map(|sealed| sealed.bytes).sum()
    };
    (start < end && log.recorded.is_none() && !log.cutting).then(|| Plan {
        bases: segments.iter().map(|sealed| sealed.base_offset).collect(),
        dirty: start..end,
        clean_bytes: bytes(false),
        dirty_bytes: bytes(true),
    })
}

/// Runs one pass over a log, if there is something to do.
async fn compact<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    let now_ms = inner.env.clock().unix_ms();
    let Some(plan) = plan(&log.borrow(), now_ms) else { return };
    log.borrow_mut().compacting = true;
    let mut pass =
        Pass { inner, log, life: log.borrow().life, id: log.borrow().id, unread_count: 0, first_unread: None };
    let result = pass.run(&plan, now_ms).await;
    log.borrow_mut().compacting = false;
    let outcome = match result {
        Ok(()) => Ok(pass.first_unread.map(|reason| {
            format!("{} batches were kept because they could not be read, the first: {reason}", pass.unread_count)
        })),
        Err(error) => Err(error),
    };
    let (partition, shard) = (pass.id, inner.config.shard_index);
    let mut failures = inner.compaction_failures.borrow_mut();
    match outcome {
        Ok(None) => drop(failures.remove(&partition)),
        // Said once: it is so at every interval until somebody does something about it.
        Ok(Some(reason)) if is_news(&mut failures, partition, &reason) => {
            tracing::warn!(%partition, shard, reason, "log not compacted as a whole");
        }
        Err(CompactionError::Interrupted) | Ok(Some(_)) => {}
        Err(error) if is_news(&mut failures, partition, &error.to_string()) => {
            tracing::error!(%partition, shard, %error, "log not compacted");
        }
        Err(_) => {}
    }
    drop(failures);
    inner.prepared.notify();
}

/// Notes why a log was not compacted; true when that is another reason than the last time.
fn is_news(failures: &mut BTreeMap<PartitionId, String>, id: PartitionId, reason: &str) -> bool {
    failures.insert(id, reason.to_owned()).as_deref() != Some(reason)
}

/// A pass over one log.
struct Pass<'a, E: Env> {
    inner: &'a Rc<Inner<E>>,
    log: &'a SharedLog<E>,
    life: u64,
    id: PartitionId,
    /// Batches that could not be read.
    unread_count: usize,
    /// Which was the first of them, and why.
    first_unread: Option<String>,
}

impl<E: Env> Pass<'_, E> {
    async fn run(&mut self, plan: &Plan, now_ms: i64) -> Result<(), CompactionError> {
        let random = self.inner.env.random();
        let producers = producers::last_offsets(self.inner, self.log).await?;
        let config = PassConfig {
            dirty: plan.dirty.clone(),
            now_ms,
            tombstone_age_max: self.log.borrow().config.tombstone_age_max,
            producers,
            // There are no transactions yet, so none was aborted.
            aborted: crate::compaction::AbortedTransactions::default(),
            key_map_bytes_max: self.inner.config.key_map_bytes_max,
            records_bytes_max: self.inner.config.records_bytes_max,
            hash_key: [random.next_u64(), random.next_u64()],
        };
        let mut cleaner = self.index(Indexer::new(config), plan).await?.into_cleaner();
        let covered_end = cleaner.covered_end();
        let covered: Vec<_> = plan.bases.iter().copied().filter(|base| *base < covered_end).collect();
        for group in self.groups(&covered) {
            cleaner = self.rewrite(cleaner, &group).await?;
        }
        self.check_life()?;
        self.log.borrow_mut().clean_end = covered_end;
        tracing::debug!(partition = %self.id, %covered_end, "log compacted");
        Ok(())
    }

    /// Notes the keys of the dirty records.
    async fn index(&mut self, mut indexer: Indexer, plan: &Plan) -> Result<Indexer, CompactionError> {
        let first = plan.bases.partition_point(|base| *base <= plan.dirty.start).saturating_sub(1);
        for base in &plan.bases[first..] {
            let mut windows = Windows::open(self.inner, self.log, *base).await?;
            while let Some(window) = windows.next().await? {
                self.check_life()?;
                let work = move || {
                    let result = indexer.index(&window);
                    (indexer, result)
                };
                let (back, result) = self.inner.env.tasks().offload(work).await;
                indexer = back;
                let indexed = result.map_err(|damage| CompactionError::Damage { segment: *base, damage })?;
                if indexed.is_done {
                    return Ok(indexer);
                }
                windows.consume(indexed.consumed_bytes, indexed.needed_bytes)?;
            }
        }
        Ok(indexer)
    }

    /// Neighbouring segments that fit into one.
    fn groups(&self, bases: &[Offset]) -> Vec<Vec<Offset>> {
        let log = self.log.borrow();
        let (mut groups, mut group_bytes) = (Vec::<Vec<Offset>>::new(), 0);
        for sealed in log.sealed.iter().filter(|sealed| bases.contains(&sealed.base_offset)) {
            if let Some(group) = groups.last_mut().filter(|_| group_bytes + sealed.bytes <= log.config.segment_bytes) {
                group.push(sealed.base_offset);
            } else {
                groups.push(vec![sealed.base_offset]);
                group_bytes = 0;
            }
            group_bytes += sealed.bytes;
        }
        groups
    }

    /// Writes what remains of a group of segments and puts it in their place.
    async fn rewrite(&mut self, mut cleaner: Cleaner, group: &[Offset]) -> Result<Cleaner, CompactionError> {
        let mut replacement = Replacement::create(self.inner, self.id, group[0]).await?;
        let mut changed = group.len() > 1;
        cleaner.begin_segment();
        for base in group {
            let mut windows = Windows::open(self.inner, self.log, *base).await?;
            while let Some(window) = windows.next().await? {
                if let Err(interrupted) = self.check_life() {
                    replacement.abandon().await?;
                    return Err(interrupted);
                }
                let work = move || {
                    let mut output = Vec::with_capacity(window.len());
                    let result = cleaner.clean(&window, &mut output);
                    (cleaner, output, result)
                };
                let (back, output, result) = self.inner.env.tasks().offload(work).await;
                cleaner = back;
                let cleaned = match result {
                    Ok(cleaned) => cleaned,
                    Err(damage) => {
                        replacement.abandon().await?;
                        return Err(CompactionError::Damage { segment: *base, damage });
                    }
                };
                self.unread_count += cleaned.unread.len();
                let first = cleaned.unread.first().filter(|_| self.first_unread.is_none());
                if let Some(Unread { base_offset, reason }) = first {
                    self.first_unread = Some(format!("the one at offset {base_offset}, {reason}"));
                }
                changed |= cleaned.changed;
                replacement.push(&output).await?;
                windows.consume(cleaned.consumed_bytes, cleaned.needed_bytes)?;
            }
        }
        if changed {
            replacement.put_in_place(self.log, self.life, group).await?;
        } else {
            replacement.abandon().await?;
        }
        Ok(cleaner)
    }

    fn check_life(&self) -> Result<(), CompactionError> {
        let log = self.log.borrow();
        let alive = log.life == self.life && log.recorded.is_none() && !log.cutting;
        if alive && !self.inner.closing.get() { Ok(()) } else { Err(CompactionError::Interrupted) }
    }
}

/// Removes the files of segments that were replaced.
async fn remove_replaced<E: Env>(inner: &Inner<E>, id: PartitionId, group: &[Offset]) -> io::Result<()> {
    let directory = inner.logs_directory.join(id.directory_name());
    for base in group {
        inner.env.disk().remove_file(&directory.join(crate::segment::file_name(*base))).await?;
        segment_files::remove_index(&inner.env, &directory, *base).await?;
    }
    inner.env.disk().sync_dir(&directory).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TopicId;

    #[test]
    fn a_reason_is_news_once_for_each_log() {
        let id = |partition| PartitionId { topic: TopicId::from_bytes([1; 16]), partition };
        let mut failures = BTreeMap::new();
        assert!(is_news(&mut failures, id(0), "damaged"));
        assert!(!is_news(&mut failures, id(0), "damaged"));
        assert!(is_news(&mut failures, id(1), "damaged"));
        assert!(is_news(&mut failures, id(0), "full"));
        assert!(is_news(&mut failures, id(0), "damaged"), "it has come back");
        assert_eq!(failures[&id(0)], "damaged");
    }
}
