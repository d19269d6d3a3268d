//! What a shard's logs must hold: the plain truth that the engine is compared with. Pure.
//!
//! Per partition there is the list of batches in the order in which the engine took them, and two counts:
//!
//! - the first `certain` outlive the end of the process and failing writes: they were acknowledged, or a reader saw them,
//!   or a recovery did not cut them;
//! - the first `flushed` of these outlive the loss of power too. With `flush.policy=commit` that is all of them.
//!
//! Of the others any prefix may be there after a crash, or after the log was rebuilt because a write of it failed, and
//! nothing else. When a log is rebuilt while its clients go on, the model learns how much of that prefix is there from the
//! next base offset that the engine gives.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_protocol::batch::BatchHeader;

use crate::cleanup::Cleanup;
use crate::keyed::Keyed;

/// A batch that the engine took.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Who it is.
    pub identity: u64,
    /// As it was handed to the engine.
    pub bytes: Rc<[u8]>,
    /// Its records, for a log that is compacted; else none.
    pub keyed: Rc<[Keyed]>,
    /// Offset of its first record.
    pub base: Offset,
    /// Offset behind its last record.
    pub end: Offset,
    /// The leader epoch it was appended under.
    pub epoch: LeaderEpoch,
    /// The batch that its idempotent producer sent before it: it has to be somewhere before this one.
    pub follows: Option<u64>,
}

impl Sent {
    /// The largest timestamp of its records.
    ///
    /// # Panics
    /// When the bytes are not a batch.
    pub fn timestamp(&self) -> i64 {
        let (header, _) = BatchHeader::parse(&self.bytes).expect("what is sent is a batch");
        header.max_timestamp.get()
    }

    /// Whether `stored` is this batch: the same bytes, but for base offset and leader epoch, which the engine assigns.
    pub fn is_stored_as(&self, stored: &[u8]) -> bool {
        stored.len() == self.bytes.len()
            && stored[..8] == self.base.get().to_be_bytes()
            && stored[8..12] == self.bytes[8..12]
            && stored[12..16] == self.epoch.get().to_be_bytes()
            && stored[16..] == self.bytes[16..]
    }
}

/// What an acknowledgement, or being shown to a reader, promises in the present life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    /// The batch outlives the loss of power: `flush.policy=commit`.
    #[default]
    Flushed,
    /// The batch outlives the end of the process, and soon the loss of power: `interval`.
    Soon,
    /// The batch outlives the end of the process: `none`.
    Written,
    /// Nothing: the other policies on a disk whose flushes may fail, which is as good as the loss of power.
    Nothing,
}

/// Whether a log is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It is.
    #[default]
    There,
    /// Its deletion was asked for: a start may find it, whole or not, and has to be asked again.
    Deleted,
    /// A start did not find it. It never comes back.
    Gone,
}

/// One partition's batches.
#[derive(Clone, Debug, Default)]
pub struct LogModel {
    /// In order.
    pub sent: Vec<Sent>,
    /// So many of them must be there as long as the power stays on. Invariant: at most `sent.len()`.
    pub certain: usize,
    /// So many of them must be there, whatever happens. Invariant: at most `certain`.
    pub flushed: usize,
    /// What an acknowledgement promises.
    pub acknowledged: Promise,
    /// A deletion of all records below it was acknowledged, or somebody saw the log start there.
    pub start: Offset,
    /// A deletion of all records below it was asked for. Invariant: at least `start`.
    pub start_asked: Offset,
    /// Whether the log was deleted as a whole.
    pub presence: Presence,
    /// What the log may lose by itself.
    pub cleanup: Cleanup,
    /// How many times batches went from the end of the list because the engine gave their offsets to others.
    pub cuts: u64,
}

impl LogModel {
    /// The log end offset.
    pub fn end(&self) -> Offset {
        self.sent.last().map_or(Offset::ZERO, |batch| batch.end)
    }

    /// End of what must be there.
    pub fn certain_end(&self) -> Offset {
        self.end_of(self.certain)
    }

    /// End of the first `count` batches.
    pub fn end_of(&self, count: usize) -> Offset {
        count.checked_sub(1).map_or(Offset::ZERO, |last| self.sent[last].end)
    }

    /// Index of the batch that holds `offset`.
    pub fn find(&self, offset: Offset) -> Option<usize> {
        let index = self.sent.partition_point(|batch| batch.end <= offset);
        (index < self.sent.len()).then_some(index)
    }

    /// How many batches end at or below `offset`.
    ///
    /// # Panics
    /// When it is not the end of a batch.
    pub fn count_below(&self, offset: Offset) -> usize {
        let count = self.sent.partition_point(|batch| batch.end <= offset);
        assert_eq!(self.end_of(count), offset, "an end offset lies between two batches");
        count
    }

    /// The first `count` batches were acknowledged, or shown to somebody.
    pub fn promise(&mut self, count: usize) {
        assert!(count <= self.sent.len(), "only what was taken is promised");
        if self.acknowledged != Promise::Nothing {
            self.certain = self.certain.max(count);
        }
        if self.acknowledged == Promise::Flushed {
            self.flushed = self.flushed.max(count);
        }
    }

    /// Everything up to the batch was promised to be on the device.
    ///
    /// # Panics
    /// When it is not in the list, or was not even acknowledged.
    pub fn promise_flushed(&mut self, identity: u64) {
        let count = self.position(identity).expect("what was acknowledged stays in the log") + 1;
        assert!(count <= self.certain, "what is flushed was acknowledged before");
        self.flushed = self.flushed.max(count);
    }

    /// Index of a batch by who it is.
    pub fn position(&self, identity: u64) -> Option<usize> {
        self.sent.iter().rposition(|batch| batch.identity == identity)
    }

    /// A start found the first `count` batches; the others are gone for ever. What a start finds is on the device.
    ///
    /// # Panics
    /// When some of the others were promised to somebody.
    pub fn settle(&mut self, count: usize) {
        self.cut(count);
        (self.certain, self.flushed) = (count, count);
    }

    /// A reader found exactly the first `count` batches while nobody appended; the others are gone for ever.
    ///
    /// # Panics
    /// When some of the others were promised to somebody.
    pub fn settle_running(&mut self, count: usize) {
        self.cut(count);
        self.promise(count);
    }

    /// Only the first `count` batches are left.
    fn cut(&mut self, count: usize) {
        assert!(count >= self.certain, "{} batches were promised and {count} are left", self.certain);
        // Retention may have counted what is lost now.
        self.note_retention();
        if count < self.sent.len() {
            self.sent.truncate(count);
            self.cuts += 1;
        }
    }

    /// Notes what the engine made of a batch: `sent.base` is the base offset that it answered.
    fn take(&mut self, sent: Sent, tail_may_be_gone: bool) {
        if let Some(index) = self.position(sent.identity) {
            let (first, again) = (self.sent[index].base, sent.base);
            assert!(again <= first, "batch {} is in the log at {first} and once more at {again}", sent.identity);
            if again == first {
                // Recognised as sent before. Or it was lost, and is the first one behind what was not: then what is
                // listed behind it is gone, and the next batch that is taken tells.
                return;
            }
        }
        if sent.base != self.end() {
            assert!(tail_may_be_gone, "a batch gets {}, the log end offset is {}", sent.base, self.end());
            assert!(sent.base < self.end(), "a batch gets {}, only {} were sent", sent.base, self.end());
            self.cut(self.count_below(sent.base));
        }
        if let Some(earlier) = sent.follows {
            assert!(self.position(earlier).is_some(), "batch {} is in, the one before it is not", sent.identity);
        }
        self.sent.push(sent);
    }
}

/// All partitions of a directory, shared by the tasks of a scenario.
#[derive(Clone, Debug, Default)]
pub struct Model(Rc<RefCell<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    logs: BTreeMap<PartitionId, LogModel>,
    identity_next: u64,
    suspects: BTreeSet<PartitionId>,
    /// How often a partition was deleted and made again, with another topic id.
    incarnations: BTreeMap<PartitionId, u8>,
}

impl Model {
    /// A copy that goes its own way from here on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }

    /// An identity that no batch has yet. Batches that are lost take theirs along.
    pub fn identity(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        state.identity_next += 1;
        state.identity_next
    }

    /// The partitions that were ever appended to.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.0.borrow().logs.keys().copied().collect()
    }

    /// The log that a partition of a workload is now. Each time it was deleted it has been made again under another id.
    pub fn present(&self, partition: PartitionId) -> PartitionId {
        let incarnation = self.0.borrow().incarnations.get(&partition).copied().unwrap_or(0);
        let first = partition.topic.as_bytes()[0];
        assert!(first < 16, "the topics of a workload are few");
        PartitionId { topic: TopicId::from_bytes([first + 16 * incarnation; 16]), ..partition }
    }

    /// Notes that the present log of a partition is being deleted; false when it may not be, or is already.
    pub fn delete(&self, partition: PartitionId, id: PartitionId) -> bool {
        let may_be = self.present(partition) == id && !self.is_deleted(id);
        let mut state = self.0.borrow_mut();
        let incarnation = state.incarnations.entry(partition).or_default();
        if !may_be || *incarnation == 15 {
            return false;
        }
        *incarnation += 1;
        state.logs.entry(id).or_default().presence = Presence::Deleted;
        true
    }

    /// Whether the log was deleted.
    pub fn is_deleted(&self, id: PartitionId) -> bool {
        self.with(id, |log| log.presence != Presence::There)
    }

    /// From now on this log may be damaged, as long as it says so.
    pub fn suspect(&self, id: PartitionId) {
        self.0.borrow_mut().suspects.insert(id);
    }

    /// Whether this log may be damaged, as long as it says so.
    pub fn is_suspect(&self, id: PartitionId) -> bool {
        self.0.borrow().suspects.contains(&id)
    }

    /// Whether any log may be damaged.
    pub fn has_suspects(&self) -> bool {
        !self.0.borrow().suspects.is_empty()
    }

    /// Looks at or changes one partition.
    pub fn with<T>(&self, id: PartitionId, body: impl FnOnce(&mut LogModel) -> T) -> T {
        body(self.0.borrow_mut().logs.entry(id).or_default())
    }

    /// Notes what the engine made of a batch. `tail_may_be_gone` says whether the log may have been rebuilt without some
    /// of what nobody was promised.
    ///
    /// # Panics
    /// When the base offset is not one that the engine may give.
    pub fn take(&self, id: PartitionId, batch: Sent, tail_may_be_gone: bool) {
        self.with(id, |log| log.take(batch, tail_may_be_gone));
    }

    /// A life begins. What acknowledgements mean in it is said when its clients begin.
    pub fn begin_life(&self) {
        for log in self.0.borrow_mut().logs.values_mut() {
            log.acknowledged = Promise::default();
            log.cleanup.end_config();
        }
    }

    /// The power is gone: what was only acknowledged as written may be gone with it.
    pub fn lose_power(&self) {
        for log in self.0.borrow_mut().logs.values_mut() {
            log.certain = log.flushed;
        }
    }

    /// The time, in milliseconds since the epoch. It never goes back, even when a disk is looked at in another world.
    pub fn advance(&self, now_ms: i64) {
        for log in self.0.borrow_mut().logs.values_mut() {
            log.cleanup.advance(now_ms);
        }
    }

    /// The stores were closed in order: everything acknowledged is on the device.
    pub fn flush_all(&self) {
        for log in self.0.borrow_mut().logs.values_mut() {
            log.flushed = log.certain;
        }
    }

    /// Bytes of all batches that must be there.
    pub fn certain_bytes(&self) -> usize {
        let state = self.0.borrow();
        state.logs.values().flat_map(|log| &log.sent[..log.certain]).map(|batch| batch.bytes.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(identity: u64, base: i64, follows: Option<u64>) -> Sent {
        let (base, end) = (Offset::new(base), Offset::new(base + 1));
        Sent { identity, bytes: [].into(), keyed: [].into(), base, end, epoch: LeaderEpoch::new(0), follows }
    }

    fn log(identities: std::ops::Range<u64>) -> LogModel {
        let mut log = LogModel::default();
        identities.zip(0..).for_each(|(identity, base)| log.take(sent(identity, base, None), false));
        log
    }

    #[test]
    fn a_rebuilt_log_loses_a_part_of_what_nobody_was_promised() {
        let mut log = log(0..5);
        log.promise(2);
        log.take(sent(9, 3, None), true);
        assert_eq!(log.sent.iter().map(|batch| batch.identity).collect::<Vec<_>>(), [0, 1, 2, 9]);
        assert_eq!(log.cuts, 1);
    }

    #[test]
    fn a_batch_that_was_sent_again_is_in_the_log_once() {
        let mut log = log(0..4);
        log.take(sent(2, 2, Some(1)), true);
        assert_eq!(log.sent.len(), 4, "recognised");
        log.take(sent(2, 1, Some(0)), true);
        assert_eq!(log.sent.iter().map(|batch| batch.identity).collect::<Vec<_>>(), [0, 2], "appended again");
    }

    #[test]
    #[should_panic(expected = "once more")]
    fn a_batch_that_is_in_the_log_twice_is_noticed() {
        log(0..4).take(sent(2, 4, None), true);
    }

    #[test]
    #[should_panic(expected = "the one before it is not")]
    fn a_batch_that_overtakes_the_one_before_it_is_noticed() {
        log(0..4).take(sent(9, 3, Some(3)), true);
    }

    #[test]
    #[should_panic(expected = "were promised")]
    fn a_promised_batch_that_is_gone_is_noticed() {
        let mut log = log(0..4);
        log.promise(3);
        log.take(sent(9, 2, None), true);
    }

    #[test]
    #[should_panic(expected = "the log end offset is")]
    fn a_log_that_did_not_fail_keeps_its_end() {
        log(0..4).take(sent(9, 3, None), false);
    }
}
