//! The file of spilled producers: what memory keeps of it, and how the next one is written.

#[cfg(test)]
mod tests;

use std::iter::Peekable;
use std::rc::Rc;
use std::vec::IntoIter;

use super::{Known, Older};
use crate::format::producers::{Producer, ProducersHeader, ProducersWriter};
use crate::model::{Offset, PartitionId};

/// Bits of the filter for each producer. With [`FILTER_PROBES`] about one in forty that are not in the file seems to be.
const FILTER_BITS: u64 = 8;
const FILTER_PROBES: u64 = 5;

/// Which block may tell of a producer, asked for by a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpillRead {
    pub(super) id: i64,
    /// The file's, and no other's even if it says the same: it tells the file from those before and after it.
    header: Rc<ProducersHeader>,
    pub(super) block_index: u32,
}

impl SpillRead {
    /// The block to read, counted from 0.
    pub fn block_index(&self) -> u32 {
        self.block_index
    }

    /// What the file says of itself.
    pub fn header(&self) -> &ProducersHeader {
        &self.header
    }

    pub(super) fn is_of(&self, spill: &Spill) -> bool {
        Rc::ptr_eq(&self.header, &spill.header)
    }
}

/// What memory keeps of a file of spilled producers: which block to read, if any. About 1.3 bytes for each producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spill {
    pub(super) header: Rc<ProducersHeader>,
    /// The first id of each block; empty when there is no producer.
    first_ids: Vec<i64>,
    filter: Filter,
    /// Producers of the file whose last timestamp is below this have expired since it was begun.
    pub(super) expired_before: i64,
}

impl Spill {
    /// The block to read for a producer; `None` when it is certainly not in the file.
    pub(super) fn read_for(&self, id: i64) -> Option<SpillRead> {
        let after = self.first_ids.partition_point(|first| *first <= id);
        let block_index = after.checked_sub(1).filter(|_| self.filter.may_hold(id))?;
        let block_index = u32::try_from(block_index).expect("a file has far fewer than 2^32 blocks");
        Some(SpillRead { id, header: Rc::clone(&self.header), block_index })
    }

    /// Whether the producer may be in the file.
    pub(super) fn may_hold(&self, id: i64) -> bool {
        self.read_for(id).is_some()
    }

    /// What the file says of itself.
    pub fn header(&self) -> &ProducersHeader {
        &self.header
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.first_ids.len() * size_of::<i64>() + self.filter.words.len() * size_of::<u64>()
    }
}

/// Reads a producers file, block by block, for what memory is to keep of it.
pub struct SpillBuilder {
    spill: Spill,
    block_index_next: u32,
    producer_count: u64,
    last_id: Option<i64>,
}

impl SpillBuilder {
    /// Starts with the file's header and its size in bytes, which bounds what the header can promise; `None` when the
    /// header promises more.
    pub fn new(header: ProducersHeader, file_bytes: u64) -> Option<Self> {
        let producer_count = header.producer_count;
        let fits = producer_count <= file_bytes / Producer::ENCODED_BYTES_MIN;
        let filter = Filter::new(fits.then_some(producer_count)?);
        let spill = Spill { header: Rc::new(header), first_ids: Vec::new(), filter, expired_before: i64::MIN };
        Some(Self { spill, block_index_next: 0, producer_count: 0, last_id: None })
    }

    /// Takes the next block, from block 0 on; `None` when it is damaged.
    pub fn add_block(&mut self, block: &[u8]) -> Option<()> {
        let producers = self.spill.header.decode_block(self.block_index_next, block)?;
        for producer in &producers {
            self.last_id.is_none_or(|last| last < producer.id).then_some(())?;
            self.last_id = Some(producer.id);
            self.spill.filter.insert(producer.id);
        }
        self.spill.first_ids.extend(producers.first().map(|first| first.id));
        self.producer_count += u64::try_from(producers.len()).expect("a block's producers are counted");
        self.block_index_next += 1;
        Some(())
    }

    /// Ends with the file's last block; `None` when that was not the last one, or the header does not agree.
    pub fn finish(self) -> Option<Spill> {
        let header = &self.spill.header;
        let whole = self.block_index_next == header.block_count && self.producer_count == header.producer_count;
        // A block without a producer is only ever the first of an empty file.
        let blocks = u32::try_from(self.spill.first_ids.len()).ok()?;
        (whole && (blocks == header.block_count || self.producer_count == 0)).then_some(self.spill)
    }
}

/// Merges what changed in memory with the old file into the next one.
pub struct SpillMerge {
    changed: Peekable<IntoIter<(i64, Known)>>,
    old: Option<(ProducersHeader, i64)>,
    block_index_next: u32,
    writer: ProducersWriter,
    filter: Filter,
}

/// The last pieces of the next file.
pub struct FinishedSpill {
    /// Its first block.
    pub first: Vec<u8>,
    /// The blocks behind those that [`SpillMerge::take_blocks`] gave out.
    pub rest: Vec<u8>,
    /// What memory is to keep of it.
    pub spill: Spill,
}

impl SpillMerge {
    pub(super) fn new(partition: PartitionId, end: Offset, old: Option<&Spill>, changed: Vec<(i64, Known)>) -> Self {
        let changed_count = u64::try_from(changed.len()).expect("a count in memory fits");
        let old_count = old.map_or(0, |old| old.header.producer_count);
        Self {
            changed: changed.into_iter().peekable(),
            old: old.map(|old| (*old.header, old.expired_before)),
            block_index_next: 0,
            writer: ProducersWriter::new(partition, end),
            filter: Filter::new(old_count + changed_count),
        }
    }

    /// The block of the old file that is to be added next; `None` after the last one.
    pub fn block_wanted(&self) -> Option<u32> {
        self.old.filter(|(header, _)| self.block_index_next < header.block_count).map(|_| self.block_index_next)
    }

    /// Adds the block that is wanted; `None` when it is damaged: the file has to be made again, from the log.
    ///
    /// # Panics
    /// When none is wanted.
    pub fn add_block(&mut self, block: &[u8]) -> Option<()> {
        let (header, expired_before) = self.old.expect("a block is added where one is wanted");
        for spilled in header.decode_block(self.block_index_next, block)? {
            while let Some((_, known)) = self.changed.next_if(|(id, _)| *id < spilled.id) {
                self.push(known.producer.as_ref());
            }
            match self.changed.next_if(|(id, _)| *id == spilled.id) {
                Some((_, mut known)) => {
                    if known.older != Older::None {
                        known.complete(Some(spilled));
                    }
                    self.push(known.producer.as_ref());
                }
                None => self.push(Some(&spilled).filter(|spilled| spilled.last().timestamp >= expired_before)),
            }
        }
        self.block_index_next += 1;
        Some(())
    }

    /// The blocks that became full since the last call, to be written one after the other from block 1 on.
    pub fn take_blocks(&mut self) -> Vec<u8> {
        self.writer.take_blocks()
    }

    /// Ends the file.
    ///
    /// # Panics
    /// When a block of the old one is missing.
    pub fn finish(mut self) -> FinishedSpill {
        assert_eq!(self.block_wanted(), None, "the whole old file was added");
        while let Some((_, known)) = self.changed.next() {
            self.push(known.producer.as_ref());
        }
        let finished = self.writer.finish();
        let spill = Spill {
            header: Rc::new(finished.header),
            first_ids: finished.first_ids,
            filter: self.filter,
            expired_before: i64::MIN,
        };
        FinishedSpill { first: finished.first, rest: finished.rest, spill }
    }

    fn push(&mut self, producer: Option<&Producer>) {
        if let Some(producer) = producer {
            self.writer.push(producer);
            self.filter.insert(producer.id);
        }
    }
}

/// A Bloom filter over producer ids: says of most that are not in the file that they are not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    words: Vec<u64>,
}

impl Filter {
    fn new(producer_count: u64) -> Self {
        let words = usize::try_from((producer_count * FILTER_BITS).div_ceil(64)).expect("a filter fits memory");
        Self { words: vec![0; words.max(1)] }
    }

    fn insert(&mut self, id: i64) {
        for (word, bit) in self.probes(id) {
            self.words[word] |= bit;
        }
    }

    fn may_hold(&self, id: i64) -> bool {
        self.probes(id).all(|(word, bit)| self.words[word] & bit != 0)
    }

    /// Words and the bits in them. Ids are consecutive numbers, so they are mixed first (the finalizer of `splitmix64`);
    /// the probes are then as many steps from one half of the mix by the other.
    fn probes(&self, id: i64) -> impl Iterator<Item = (usize, u64)> + use<> {
        let mut mixed = id.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bits = u64::try_from(self.words.len()).expect("a length fits") * 64;
        let step = mixed.rotate_left(32) | 1;
        (0..FILTER_PROBES).map(move |probe| {
            let bit = mixed.wrapping_add(step.wrapping_mul(probe)) % bits;
            (usize::try_from(bit / 64).expect("a word of the filter"), 1 << (bit % 64))
        })
    }
}
