//! The first half of a pass: which is the newest record of each key.

use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{BatchView, Record};

use super::cleaner::Cleaner;
use super::key_map::{Full, KeyMap};
use super::window::{Damage, ReadRecords, Unread, Walk};
use super::{PassConfig, is_aborted};
use crate::model::Offset;

/// Notes the keys of the dirty records.
pub struct Indexer {
    config: PassConfig,
    map: KeyMap,
    /// Every dirty record below has been noted.
    covered_end: Offset,
    /// Offset behind the last batch seen.
    next: Offset,
    is_done: bool,
    decompressor: Decompressor,
}

/// What the indexer did with one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexed {
    /// Bytes of the window that were dealt with: whole batches.
    pub consumed_bytes: usize,
    /// Size of the batch that the window does not hold whole, if it ends inside one: at least its header's.
    pub needed_bytes: Option<usize>,
    /// No window after this one matters: the map is full, or the dirty records have ended.
    pub is_done: bool,
    /// Batches whose keys are not known because they could not be read. The cleaner will keep them.
    pub unread: Vec<Unread>,
}

impl Indexer {
    /// An indexer that has seen nothing. Takes the memory of its map.
    pub fn new(config: PassConfig) -> Self {
        let offset_count = config.dirty.end.get().saturating_sub(config.dirty.start.get());
        let map = KeyMap::new(config.hash_key, config.key_map_bytes_max, u64::try_from(offset_count).unwrap_or(0));
        let decompressor = Decompressor::new(config.records_bytes_max);
        let covered_end = config.dirty.start;
        Self { config, map, covered_end, next: Offset::ZERO, is_done: false, decompressor }
    }

    /// Takes the next batches of the log. The first window begins at or before the batch that holds the first dirty
    /// record, each further one where the last was consumed to; segments follow each other.
    pub fn index(&mut self, window: &[u8]) -> Result<Indexed, Damage> {
        let mut walk = Walk::new(window);
        let mut unread = Vec::new();
        while !self.is_done
            && let Some(batch) = walk.next_batch(&mut self.next)?
        {
            if let Err(kept) = self.index_batch(batch) {
                unread.push(kept);
            }
        }
        let (consumed_bytes, needed_bytes) = (walk.consumed_bytes(), walk.needed_bytes());
        Ok(Indexed { consumed_bytes, needed_bytes, is_done: self.is_done, unread })
    }

    /// Ends the first half. Called once a window was [`Indexed::is_done`], or all dirty records were handed in.
    pub fn into_cleaner(self) -> Cleaner {
        let covered_end = if self.is_done { self.covered_end } else { self.config.dirty.end };
        Cleaner::new(self.config, self.map, covered_end, self.decompressor)
    }

    fn index_batch(&mut self, batch: BatchView<'_>) -> Result<(), Unread> {
        let Self { config, map, covered_end, is_done, decompressor, .. } = self;
        let header = batch.header();
        let base_offset = Offset::new(header.base_offset.get());
        if base_offset >= config.dirty.end {
            *covered_end = config.dirty.end;
            *is_done = true;
            return Ok(());
        }
        let behind = self.next.min(config.dirty.end);
        if behind <= config.dirty.start {
            return Ok(());
        }
        let mut outcome = Ok(());
        if !header.attributes().is_control() && !is_aborted(config, header) {
            // Nothing is noted of a batch that turns out to be malformed: no consumer reads the records in it, so they
            // must not outdate those that can be read.
            match ReadRecords::read(batch, decompressor, |_| ()) {
                Ok(records) => {
                    let mut dirty = records.again().filter(|record| config.dirty.contains(&offset_of(record)));
                    let unnoted = dirty.find(|record| note(map, record) == Err(Full));
                    if let Some(record) = unnoted {
                        *covered_end = offset_of(&record);
                        *is_done = true;
                        return Ok(());
                    }
                }
                Err(reason) => outcome = Err(Unread { base_offset, reason }),
            }
        }
        *covered_end = behind;
        outcome
    }
}

fn note(map: &mut KeyMap, record: &Record<'_>) -> Result<(), Full> {
    match record.key {
        Some(key) => map.note(key, offset_of(record)),
        None => Ok(()),
    }
}

fn offset_of(record: &Record<'_>) -> Offset {
    Offset::new(record.offset)
}
