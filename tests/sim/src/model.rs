//! What a shard's logs must hold: the plain truth that the engine is compared with. Pure.
//!
//! Per partition there is the list of batches in the order in which the engine took them. The first `certain` of them must
//! outlive everything: they were acknowledged, or a reader saw them, or a recovery did not cut them. Of the others any
//! prefix may be there after a crash, nothing else.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use millrace_engine::model::{LeaderEpoch, Offset, PartitionId};

/// A batch that the engine took.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Who it is.
    pub identity: u64,
    /// As it was handed to the engine.
    pub bytes: Rc<[u8]>,
    /// Offset of its first record.
    pub base: Offset,
    /// Offset behind its last record.
    pub end: Offset,
    /// The leader epoch it was appended under.
    pub epoch: LeaderEpoch,
}

impl Sent {
    /// Whether `stored` is this batch: the same bytes, but for base offset and leader epoch, which the engine assigns.
    pub fn is_stored_as(&self, stored: &[u8]) -> bool {
        stored.len() == self.bytes.len()
            && stored[..8] == self.base.get().to_be_bytes()
            && stored[8..12] == self.bytes[8..12]
            && stored[12..16] == self.epoch.get().to_be_bytes()
            && stored[16..] == self.bytes[16..]
    }
}

/// One partition's batches.
#[derive(Clone, Debug, Default)]
pub struct LogModel {
    /// In order.
    pub sent: Vec<Sent>,
    /// So many of them must be there, whatever happens. Invariant: at most `sent.len()`.
    pub certain: usize,
}

impl LogModel {
    /// The log end offset.
    pub fn end(&self) -> Offset {
        self.sent.last().map_or(Offset::ZERO, |batch| batch.end)
    }

    /// End of what must be there.
    pub fn certain_end(&self) -> Offset {
        self.certain.checked_sub(1).map_or(Offset::ZERO, |last| self.sent[last].end)
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
        let end = count.checked_sub(1).map_or(Offset::ZERO, |last| self.sent[last].end);
        assert_eq!(end, offset, "an end offset lies between two batches");
        count
    }

    /// The first `count` batches were promised to somebody.
    pub fn promise(&mut self, count: usize) {
        assert!(count <= self.sent.len(), "only what was taken is promised");
        self.certain = self.certain.max(count);
    }

    /// A recovery kept the first `count` batches; the others are gone for ever.
    pub fn settle(&mut self, count: usize) {
        assert!(count >= self.certain, "{} batches were promised and {count} are left", self.certain);
        self.sent.truncate(count);
        self.certain = count;
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

    /// Notes that the engine took a batch. Returns how many the log has now.
    pub fn take(&self, id: PartitionId, batch: Sent) -> usize {
        self.with(id, |log| {
            assert_eq!(batch.base, log.end(), "{id}: a batch gets the log end offset as its base offset");
            log.sent.push(batch);
            log.sent.len()
        })
    }

    /// Bytes of all batches that must be there.
    pub fn certain_bytes(&self) -> usize {
        let state = self.0.borrow();
        state.logs.values().flat_map(|log| &log.sent[..log.certain]).map(|batch| batch.bytes.len()).sum()
    }
}
