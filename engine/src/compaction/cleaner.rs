//! The second half of a pass: what remains of each batch.
//!
//! Kafka's `Cleaner` and `MemoryRecords.filterTo` are the model, with three differences. A batch gets its delete horizon only
//! once all of it is covered, so that no tombstone expires before the pass that takes away what it outdates. And control
//! batches are always kept; Kafka drops a transaction's markers some time after the last of its records. And the first batch
//! of each leader epoch is kept, if only as a header: Kafka has a file that says where epochs begin, here the batches do.

use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{BatchHeader, BatchRewriter, BatchView, Compression, Record, write_emptied};

use super::key_map::KeyMap;
use super::window::{Cleaned, Damage, ReadRecords, Unread, UnreadReason, Walk};
use super::{PassConfig, is_aborted};
use crate::model::Offset;

/// Writes what remains of a log.
pub struct Cleaner {
    config: PassConfig,
    map: KeyMap,
    covered_end: Offset,
    /// Offset behind the last batch seen.
    next: Offset,
    /// Leader epoch of the last batch seen; `None` before the first of a file.
    leader_epoch: Option<i32>,
    /// A batch before this one could not be read and may hold records that tombstones behind it outdate.
    has_unread: bool,
    decompressor: Decompressor,
    rewriter: BatchRewriter,
    /// For each record of the batch in hand, whether it stays.
    stays: Vec<bool>,
}

impl Cleaner {
    pub(super) fn new(config: PassConfig, map: KeyMap, covered_end: Offset, decompressor: Decompressor) -> Self {
        let (rewriter, stays) = (BatchRewriter::default(), Vec::new());
        Self {
            config,
            map,
            covered_end,
            next: Offset::ZERO,
            leader_epoch: None,
            has_unread: false,
            decompressor,
            rewriter,
            stays,
        }
    }

    /// What is handed in from here on belongs into another file: the first batch of it stays, if only as a header, so that its
    /// leader epoch is known when the files before it are deleted.
    pub fn begin_segment(&mut self) {
        self.leader_epoch = None;
    }

    /// Takes the next batches of the log and appends what remains of them to `output`. The first window begins at the
    /// log's first batch, each further one where the last was consumed to, up to the end of what is covered; segments
    /// follow each other.
    ///
    /// After an error the output holds what remains of the batches before the damage.
    pub fn clean(&mut self, window: &[u8], output: &mut Vec<u8>) -> Result<Cleaned, Damage> {
        let mut walk = Walk::new(window);
        let mut cleaned = Cleaned::default();
        while let Some(batch) = walk.next_batch(&mut self.next)? {
            let start = output.len();
            match self.clean_batch(batch, output) {
                Ok(removed) => {
                    cleaned.removed_count += removed.count;
                    cleaned.without_key_count += removed.without_key_count;
                }
                Err(reason) => {
                    self.has_unread = true;
                    let base_offset = Offset::new(batch.header().base_offset.get());
                    cleaned.unread.push(Unread { base_offset, reason });
                    output.extend_from_slice(batch.bytes());
                }
            }
            cleaned.changed |= output[start..] != *batch.bytes();
        }
        cleaned.consumed_bytes = walk.consumed_bytes();
        cleaned.needed_bytes = walk.needed_bytes();
        Ok(cleaned)
    }

    /// Where the next pass's dirty records begin. Segments from here on need not be handed in.
    pub fn covered_end(&self) -> Offset {
        self.covered_end
    }

    /// How many different keys the dirty records have, as far as they are covered.
    pub fn key_count(&self) -> usize {
        self.map.key_count()
    }

    /// Appends what remains of one batch, or nothing on an error.
    fn clean_batch(&mut self, batch: BatchView<'_>, output: &mut Vec<u8>) -> Result<Removed, UnreadReason> {
        let header = batch.header();
        let begins_epoch = self.leader_epoch.replace(header.leader_epoch.get()) != Some(header.leader_epoch.get());
        if header.attributes().is_control() || header.base_offset.get() >= self.covered_end.get() {
            output.extend_from_slice(batch.bytes());
            return Ok(Removed::default());
        }
        let record_count = u64::try_from(header.record_count.get()).expect("a checked count is not negative");
        if record_count == 0 || is_aborted(&self.config, header) {
            self.append_emptied(header, begins_epoch, output);
            return Ok(Removed { count: record_count, without_key_count: 0 });
        }

        let expired = header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.config.now_ms);
        let drops_tombstones = expired && !self.has_unread;
        let Self { map, covered_end, decompressor, stays, rewriter, .. } = self;
        stays.clear();
        let mut removed = Removed::default();
        let mut tombstone_stays = false;
        let records = ReadRecords::read(batch, decompressor, |record| {
            let fate = fate_of(record, map, *covered_end, drops_tombstones);
            removed.count += u64::from(fate != Fate::Stays);
            removed.without_key_count += u64::from(fate == Fate::HasNoKey);
            tombstone_stays |= fate == Fate::Stays && record.value.is_none();
            stays.push(fate == Fate::Stays);
        })?;

        let is_covered_whole = header.last_offset() < self.covered_end.get();
        let sets_horizon = tombstone_stays && is_covered_whole && header.delete_horizon_ms().is_none();
        if removed.count == record_count {
            self.append_emptied(header, begins_epoch, output);
        } else if removed.count == 0 && !sets_horizon {
            output.extend_from_slice(batch.bytes());
        } else {
            let age_max_ms = i64::try_from(self.config.tombstone_age_max.as_millis()).unwrap_or(i64::MAX);
            let horizon_ms = sets_horizon.then(|| self.config.now_ms.saturating_add(age_max_ms));
            push_remaining(rewriter, header, horizon_ms, &records, stays);
            // Times relative to a horizon take more bytes. A batch that no later pass could read for that would keep every
            // tombstone behind it for ever; without a horizon it keeps its own.
            let is_compressed = header.attributes().compression() != Some(Compression::None);
            if sets_horizon && is_compressed && rewriter.records_bytes() > self.config.records_bytes_max {
                push_remaining(rewriter, header, None, &records, stays);
            }
            rewriter.finish(output)?;
        }
        Ok(removed)
    }

    /// Appends the header of a batch without records, if somebody needs it.
    fn append_emptied(&self, header: &BatchHeader, begins_epoch: bool, output: &mut Vec<u8>) {
        let last_of_producer = self.config.producers.get(&header.producer_id.get());
        let is_last = header.has_producer() && last_of_producer.is_some_and(|last| last.get() == header.last_offset());
        if is_last || begins_epoch {
            write_emptied(header, output);
        }
    }
}

/// Begins the remainder of a batch with the records that stay.
fn push_remaining(
    rewriter: &mut BatchRewriter,
    header: &BatchHeader,
    horizon_ms: Option<i64>,
    records: &ReadRecords<'_>,
    stays: &[bool],
) {
    rewriter.begin(header, horizon_ms);
    for (record, stays) in records.again().zip(stays) {
        if *stays {
            rewriter.push(&record);
        }
    }
}

/// What was taken out of a batch.
#[derive(Clone, Copy, Default)]
struct Removed {
    count: u64,
    without_key_count: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// A newer record has its key.
    IsOutdated,
    /// A tombstone whose time is over.
    HasExpired,
    HasNoKey,
}

fn fate_of(record: &Record<'_>, map: &KeyMap, covered_end: Offset, drops_tombstones: bool) -> Fate {
    let offset = Offset::new(record.offset);
    if offset >= covered_end {
        return Fate::Stays;
    }
    match record.key {
        None => Fate::HasNoKey,
        Some(key) if map.is_outdated(key, offset) => Fate::IsOutdated,
        Some(_) if record.value.is_none() && drops_tombstones => Fate::HasExpired,
        Some(_) => Fate::Stays,
    }
}
