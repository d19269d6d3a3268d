//! What a log remembers of idempotent producers (KIP-98): enough to refuse gaps and to recognise what is sent twice.
//!
//! Pure. For each producer id: its epoch and its last five batches, five being how many requests a producer may have in
//! flight. A batch counts from the moment it is appended, before it is durable. The state is a function of the log's
//! batches, so it is rebuilt by reading them, or by reading a snapshot and the batches behind it.
//!
//! A producer that is not known may start at any sequence: its batches may have been deleted (KIP-360). So memory must
//! not be saved by forgetting: what does not fit is *spilled* to a producers file, in which one block tells of a producer.
//!
//! 1. The caller finds that there is too much in memory. [`ProducerStates::begin_spill`] hands out what changed, as a
//!    [`SpillMerge`]; the caller feeds it the old file's blocks, writes a new file from what it gives out, and ends with
//!    [`ProducerStates::finish_spill`]. Meanwhile batches go on being judged and noted.
//! 2. What is in the file as it is in memory may now go: [`ProducerStates::shrink_to`].
//! 3. A batch of a producer that may be in the file only gets the verdict [`Verdict::NeedsSpilled`]: the caller reads that
//!    block, hands it to [`ProducerStates::restore`] and asks again.
//! 4. A batch may be noted without being judged, as when a log is read. Then memory holds the *newer part* of a producer,
//!    and the file the older one, until somebody asks or the two are merged into the next file.
//!
//! The file is a snapshot as well: it tells of every batch below the offset that it was begun at.

mod spill;

#[cfg(test)]
mod tests;

pub use spill::{FinishedSpill, Spill, SpillBuilder, SpillMerge, SpillRead};

use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_protocol::batch::BatchHeader;
use thiserror::Error;

use crate::format::producers::{self, BATCHES_MAX, Producer, ProducerBatch, ProducersHeader};
use crate::model::{Offset, PartitionId};

/// So many producers of one log in memory are a good reason to spill them.
pub const PRODUCERS_KNOWN_MAX: usize = 10_000;

/// Why a batch of an idempotent producer is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SequenceError {
    /// A batch before it is missing, or it is older than the remembered ones.
    #[error("sequence {found} where {expected} is next")]
    OutOfOrder {
        /// The batch's first sequence.
        found: i32,
        /// The one that comes next.
        expected: i32,
    },
    /// A newer incarnation of the producer has written already.
    #[error("producer epoch {found} is older than {current}")]
    StaleEpoch {
        /// The batch's epoch.
        found: i16,
        /// The newest one.
        current: i16,
    },
}

/// What to do with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new.
    Append,
    /// It is in the log already.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Offset behind its last record.
        end_offset: Offset,
        /// Its largest timestamp, in milliseconds: what the first answer told of it.
        timestamp: i64,
    },
    /// Its producer may be in the file of spilled ones: read this block, [`ProducerStates::restore`] it and ask again.
    NeedsSpilled(SpillRead),
}

/// The idempotent producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    known: BTreeMap<i64, Known>,
    /// The file with the producers that are not known, and older parts of those that are.
    spill: Option<Spill>,
    /// What producers that lost their batches are to send next; see [`Self::fence`].
    fences: BTreeMap<i64, Fence>,
    /// Set while the next file is written: the largest bound of the expirations since it was begun.
    spill_expired_before: Option<i64>,
}

/// The batch with which a producer is to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fence {
    epoch: i16,
    base_sequence: i32,
}

/// What memory knows of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    /// `None` for a producer that has no state, whatever the file says.
    producer: Option<Producer>,
    older: Older,
    /// The file, or the one that is being written, does not say the same.
    changed: bool,
    /// It was handed out to the file that is being written.
    in_merge: bool,
}

/// Batches of a producer before those that memory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Older {
    /// There are none, or they do not matter.
    None,
    /// The file may have some. They had expired before the newer ones came, if the last one's timestamp is below `floor`.
    Spilled { floor: i64 },
}

impl ProducerStates {
    /// The state that a snapshot of `partition` holds, and the offset it was made at; `None` when the bytes are no valid
    /// snapshot of it. The batches from that offset on are still to be noted.
    pub fn decode(partition: PartitionId, bytes: &[u8]) -> Option<(Offset, Self)> {
        let (header, producers) = producers::decode(bytes)?;
        let known =
            producers.into_iter().map(|producer| (producer.id, Known::changed(producer, Older::None))).collect();
        (header.partition == partition).then_some((header.offset, Self { known, ..Self::default() }))
    }

    /// The state that a snapshot holds which is too large for memory: all producers are spilled.
    pub fn spilled(spill: Spill) -> Self {
        Self { spill: Some(spill), ..Self::default() }
    }

    /// A snapshot, in whole blocks. `end` is the offset behind the last batch noted.
    ///
    /// # Panics
    /// When a batch behind `end` was noted, or producers are spilled: then the next file is the snapshot.
    pub fn encode(&self, partition: PartitionId, end: Offset) -> Vec<u8> {
        assert!(self.spill.is_none(), "memory has all producers");
        producers::encode(partition, end, self.known.values().filter_map(|known| known.producer.as_ref()))
    }

    /// Judges a batch that is about to be appended. Batches without a producer id are always new.
    pub fn check(&self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        let verdict = self.check_noted(header)?;
        let (id, epoch, found) = (header.producer_id.get(), header.producer_epoch.get(), header.base_sequence.get());
        let unknown = verdict == Verdict::Append && self.known.get(&id).is_none_or(|known| known.producer.is_none());
        match self.fences.get(&id).filter(|fence| unknown && fence.epoch == epoch && fence.base_sequence != found) {
            Some(fence) => Err(SequenceError::OutOfOrder { found, expected: fence.base_sequence }),
            None => Ok(verdict),
        }
    }

    /// A batch was refused because the log is offline or the disk full. If nothing is known of its producer, that is the one to go on with:
    /// see [`Self::fence`].
    pub fn refuse(&mut self, header: &BatchHeader) {
        let id = header.producer_id.get();
        if id >= 0 && !self.known.contains_key(&id) && self.fences.len() < PRODUCERS_KNOWN_MAX {
            let fence = Fence { epoch: header.producer_epoch.get(), base_sequence: header.base_sequence.get() };
            self.fences.entry(id).or_insert(fence);
        }
    }

    /// Takes over from `lost`, the state of the same log before it lost its batches from `end` on. A producer that is not
    /// known now may start at any sequence; but one of whose batches all were lost is about to send them again, with later
    /// ones perhaps on their way already: it has to go on with the first batch that was lost.
    pub fn fence(&mut self, lost: &Self, end: Offset) {
        let older = lost.fences.iter().map(|(id, fence)| (*id, *fence));
        let producers = lost.known.values().filter_map(|known| known.producer.as_ref());
        let newer = producers.filter_map(|producer| {
            let first = producer.batches().iter().find(|batch| batch.base_offset >= end)?;
            Some((producer.id, Fence { epoch: producer.epoch, base_sequence: first.base_sequence }))
        });
        // A fence that was still up when the log failed again is the older one, and stays.
        self.fences = newer.chain(older).collect();
    }

    fn check_noted(&self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        let id = header.producer_id.get();
        match self.known.get(&id) {
            Some(known) if known.is_all() => {
                known.producer.as_ref().map_or(Ok(Verdict::Append), |producer| judge(producer, header))
            }
            newer => match self.spill.as_ref().and_then(|spill| spill.read_for(id)) {
                Some(read) => Ok(Verdict::NeedsSpilled(read)),
                None => newer
                    .and_then(|known| known.producer.as_ref())
                    .map_or(Ok(Verdict::Append), |producer| judge(producer, header)),
            },
        }
    }

    /// Remembers a batch that was appended at `base_offset`. The header is the one in the log: a leader that assigns
    /// timestamps has done so.
    pub fn note(&mut self, header: &BatchHeader, base_offset: Offset, end_offset: Offset) {
        let batch = ProducerBatch {
            base_sequence: header.base_sequence.get(),
            last_sequence: last_sequence(header),
            base_offset,
            end_offset,
            timestamp: header.max_timestamp.get(),
        };
        if header.producer_id.get() >= 0 {
            self.note_batch(header.producer_id.get(), header.producer_epoch.get(), batch);
        }
    }

    fn note_batch(&mut self, id: i64, epoch: i16, batch: ProducerBatch) {
        self.fences.remove(&id);
        if let Some(known) = self.known.get_mut(&id) {
            known.changed = true;
            match &mut known.producer {
                Some(producer) => producer.push(epoch, batch),
                none => *none = Some(Producer::new(id, epoch, batch)),
            }
        } else {
            let holding = self.spill.as_ref().filter(|spill| spill.may_hold(id));
            let older = holding.map_or(Older::None, |spill| Older::Spilled { floor: spill.expired_before });
            self.known.insert(id, Known::changed(Producer::new(id, epoch, batch), older));
        }
    }

    /// Puts the state that older batches left in front of this one, which was built from later batches of the same log.
    ///
    /// # Panics
    /// When this one has spilled producers.
    pub fn prepend(&mut self, older: Self) {
        let newer = std::mem::replace(self, older);
        assert!(
            newer.spill.is_none() && newer.spill_expired_before.is_none(),
            "what is in the file of spilled ones is older"
        );
        for producer in newer.known.values().filter_map(|known| known.producer.as_ref()) {
            for batch in producer.batches() {
                self.note_batch(producer.id, producer.epoch, *batch);
            }
        }
    }

    /// Forgets the producers whose last batch has a timestamp below `before_timestamp_ms` (`producer.id.expiration.ms`).
    /// Kafka goes by the batch's own timestamp too, whoever assigned it.
    pub fn expire(&mut self, before_timestamp_ms: i64) {
        let spill = self.spill.as_ref();
        self.known.retain(|id, known| {
            let expired = known.producer.as_ref().is_some_and(|last| last.last().timestamp < before_timestamp_ms);
            if expired {
                // The file must not bring it back: its older part may have a later timestamp.
                *known = Known { producer: None, older: Older::None, changed: true, ..*known };
            }
            !expired || known.in_merge || spill.is_some_and(|spill| spill.may_hold(*id))
        });
        for expired_before in
            self.spill.iter_mut().map(|spill| &mut spill.expired_before).chain(&mut self.spill_expired_before)
        {
            *expired_before = before_timestamp_ms.max(*expired_before);
        }
    }

    /// Begins the next file of spilled producers, which tells of all batches noted so far; `end` is the offset behind the
    /// last one.
    ///
    /// # Panics
    /// When one is being written already.
    pub fn begin_spill(&mut self, partition: PartitionId, end: Offset) -> SpillMerge {
        assert!(self.spill_expired_before.is_none(), "one file is written at a time");
        self.spill_expired_before = Some(i64::MIN);
        let mut changed = Vec::new();
        for (id, known) in self.known.iter_mut().filter(|(_, known)| known.changed) {
            changed.push((*id, known.clone()));
            known.changed = false;
            known.in_merge = true;
        }
        SpillMerge::new(partition, end, self.spill.as_ref(), changed)
    }

    /// The file that was begun is written and takes the place of the old one, which nobody is to read from now on.
    ///
    /// # Panics
    /// When none was begun.
    pub fn finish_spill(&mut self, mut spill: Spill) {
        spill.expired_before = self.spill_expired_before.take().expect("a file was begun");
        self.spill = Some(spill);
        for known in self.known.values_mut().filter(|known| known.in_merge) {
            known.in_merge = false;
            if known.older != Older::None {
                // The new file has the older part together with some of the newer one, none of it expired.
                known.older = Older::Spilled { floor: i64::MIN };
            }
        }
    }

    /// The file that was begun is not going to be finished; the old one stays.
    pub fn abandon_spill(&mut self) {
        self.spill_expired_before = None;
        for known in self.known.values_mut().filter(|known| known.in_merge) {
            known.in_merge = false;
            known.changed = true;
        }
    }

    /// Drops from memory what the file says as well, those first who were silent for longest, until `known_count` producers
    /// are left or all that is left is in memory only. Batches from `durable_end` on may still be lost; who sent them
    /// stays, for [`Self::fence`].
    pub fn shrink_to(&mut self, known_count: usize, durable_end: Offset) {
        let excess = self.known.len().saturating_sub(known_count);
        let mut spilled: Vec<_> = self
            .known
            .iter()
            .filter(|(_, known)| !known.changed && !known.in_merge)
            .map(|(id, known)| (known.producer.as_ref().map(|producer| producer.last().end_offset), *id))
            .filter(|(end, _)| *end <= Some(durable_end))
            .collect();
        spilled.sort_unstable();
        for (_, id) in spilled.into_iter().take(excess) {
            self.known.remove(&id);
        }
    }

    /// Whether a verdict would ask for this block now: the file that it is of is still the one.
    pub fn expects(&self, read: &SpillRead) -> bool {
        self.spill.as_ref().is_some_and(|spill| read.is_of(spill))
    }

    /// What the file of spilled producers says of itself; `None` when nothing is spilled.
    pub fn spill_header(&self) -> Option<Rc<ProducersHeader>> {
        self.spill.as_ref().map(|spill| Rc::clone(&spill.header))
    }

    /// Takes a producer back from the block that a verdict asked for. `false` when the block is damaged: the file has to
    /// be made again, from the log. A block of a file that was replaced since is left alone; the next verdict asks anew.
    #[must_use = "a damaged file would be asked for again and again"]
    pub fn restore(&mut self, read: &SpillRead, block: &[u8]) -> bool {
        let Some(spill) = self.spill.as_ref().filter(|spill| read.is_of(spill)) else { return true };
        let Some(producers) = spill.header.decode_block(read.block_index, block) else { return false };
        let older = producers.into_iter().find(|producer| producer.id == read.id);
        match self.known.get_mut(&read.id) {
            Some(known) if known.is_all() => {}
            Some(known) => known.complete(older),
            None => {
                let producer = older.filter(|older| older.last().timestamp >= spill.expired_before);
                let known = Known { producer, older: Older::None, changed: false, in_merge: false };
                self.known.insert(read.id, known);
            }
        }
        true
    }

    /// Puts what memory knows over what the file of spilled producers says: what `pick` takes of each producer, and
    /// nothing of one that has no state any more.
    pub fn overlay<T>(&self, spilled: &mut BTreeMap<i64, T>, pick: impl Fn(&Producer) -> T) {
        for (id, known) in &self.known {
            match &known.producer {
                Some(producer) => spilled.insert(*id, pick(producer)),
                None => spilled.remove(id),
            };
        }
    }

    /// Spilled producers whose last batch has a timestamp below this have expired.
    pub fn spill_floor(&self) -> i64 {
        self.spill.as_ref().map_or(i64::MIN, |spill| spill.expired_before)
    }

    /// Producers in memory.
    pub fn known_count(&self) -> usize {
        self.known.len()
    }

    /// About how much memory all this takes, in bytes.
    pub fn memory_bytes(&self) -> usize {
        // A node of the map is two thirds full on average.
        let known_bytes = self.known.len() * size_of::<(i64, Known)>() / 2 * 3;
        known_bytes + self.spill.as_ref().map_or(0, Spill::memory_bytes)
    }
}

impl Known {
    /// A producer that the file does not know, or not so.
    fn changed(producer: Producer, older: Older) -> Self {
        Self { producer: Some(producer), older, changed: true, in_merge: false }
    }

    /// Whether memory knows all that is to be known.
    fn is_all(&self) -> bool {
        self.older == Older::None
            || self.producer.as_ref().is_some_and(|producer| producer.batches().len() == BATCHES_MAX)
    }

    /// Puts the file's part in front.
    fn complete(&mut self, spilled: Option<Producer>) {
        if let (Older::Spilled { floor }, Some(mut older), Some(newer)) = (self.older, spilled, &self.producer)
            && older.last().timestamp >= floor
        {
            // The file may have got some of the newer part too.
            let end = older.last().end_offset;
            for batch in newer.batches().iter().filter(|batch| batch.base_offset >= end) {
                older.push(newer.epoch, *batch);
            }
            self.producer = Some(older);
        }
        self.older = Older::None;
    }
}

fn judge(producer: &Producer, header: &BatchHeader) -> Result<Verdict, SequenceError> {
    let (epoch, base_sequence) = (header.producer_epoch.get(), header.base_sequence.get());
    if epoch < producer.epoch {
        return Err(SequenceError::StaleEpoch { found: epoch, current: producer.epoch });
    }
    let mut expected = 0;
    if epoch == producer.epoch {
        expected = advance(producer.last().last_sequence, 1);
        let last_sequence = last_sequence(header);
        let same =
            |batch: &&ProducerBatch| (batch.base_sequence, batch.last_sequence) == (base_sequence, last_sequence);
        if let Some(ProducerBatch { base_offset, end_offset, timestamp, .. }) =
            producer.batches().iter().find(same).copied()
        {
            return Ok(Verdict::Duplicate { base_offset, end_offset, timestamp });
        }
    }
    if base_sequence == expected {
        Ok(Verdict::Append)
    } else {
        Err(SequenceError::OutOfOrder { found: base_sequence, expected })
    }
}

fn last_sequence(header: &BatchHeader) -> i32 {
    advance(header.base_sequence.get(), header.last_offset_delta.get())
}

/// The sequence `count` after `sequence`: 0 follows the largest number.
fn advance(sequence: i32, count: i32) -> i32 {
    sequence.checked_add(count).unwrap_or_else(|| {
        let over = i64::from(sequence) + i64::from(count) - (i64::from(i32::MAX) + 1);
        i32::try_from(over).expect("two 32-bit numbers overflow less than once")
    })
}
