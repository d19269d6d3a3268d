//! One session: its partitions in the order in which they are read, and what the client was told of each.

use std::collections::BTreeMap;
use std::mem::size_of;

use millrace_runtime::Moment;

use super::{FetchPosition, Marks, Naming, Outcome, PartitionKey, Wanted};

/// What one client fetches.
#[derive(Debug)]
pub(super) struct Session {
    naming: Naming,
    /// Of the next request. Invariant: at least 1.
    epoch: i32,
    /// By the turn in which they are read. Invariant: the same partitions as in `turns`.
    partitions: BTreeMap<u64, Cached>,
    turns: BTreeMap<PartitionKey, u64>,
    turn_next: u64,
    /// What the session counts as.
    bytes: usize,
    pub(super) created_at: Moment,
    /// When its last request came. Sessions are sorted by this.
    pub(super) used_at: Moment,
    /// The number of partitions by which it was sorted last.
    pub(super) sorted_partition_count: usize,
}

#[derive(Debug)]
struct Cached {
    key: PartitionKey,
    position: FetchPosition,
    told: Marks,
}

impl Session {
    /// A session whose first request was answered with these outcomes.
    pub(super) fn new(now: Moment, naming: Naming, wanted: &[Wanted], outcomes: &[Outcome]) -> Self {
        let mut session = Self {
            naming,
            epoch: 1,
            partitions: BTreeMap::new(),
            turns: BTreeMap::new(),
            turn_next: 0,
            bytes: SESSION_BYTES,
            created_at: now,
            used_at: now,
            sorted_partition_count: wanted.len(),
        };
        for (wanted, outcome) in wanted.iter().zip(outcomes) {
            let told = if outcome.has_error { Marks::UNKNOWN } else { outcome.marks };
            session.insert(Cached { key: wanted.key.clone(), position: wanted.position, told });
        }
        session
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn naming(&self) -> Naming {
        self.naming
    }

    pub(super) fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Everything that is wanted, in the order in which it is read.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let wanted = |cached: &Cached| Wanted { key: cached.key.clone(), position: cached.position };
        self.partitions.values().map(wanted).collect()
    }

    /// Takes in what a request says. A partition that it both asks for and forgets is forgotten, as in Kafka.
    pub(super) fn update(&mut self, asked: &[Wanted], forgotten: &[PartitionKey]) {
        for wanted in asked {
            if let Some(turn) = self.turns.get(&wanted.key) {
                let cached = self.partitions.get_mut(turn).expect("a partition with a turn is there");
                cached.position = wanted.position;
            } else {
                let key = wanted.key.clone();
                self.insert(Cached { key, position: wanted.position, told: Marks::UNKNOWN });
            }
        }
        for key in forgotten {
            if let Some(turn) = self.turns.remove(key) {
                self.partitions.remove(&turn);
                self.bytes -= partition_bytes(key);
            }
        }
    }

    /// One request further. After the largest number comes 1 again: 0 and less have other meanings.
    pub(super) fn advance(&mut self) {
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    #[cfg(test)]
    pub(super) fn set_epoch(&mut self, epoch: i32) {
        self.epoch = epoch;
    }

    /// Which partitions have news for the client, which is told now. Those with records are read last from now on.
    pub(super) fn tell(&mut self, wanted: &[Wanted], outcomes: &[Outcome]) -> Vec<bool> {
        assert!(self.partitions.len() == wanted.len(), "a session changes only between its requests");
        let (mut is_told, mut served) = (Vec::with_capacity(wanted.len()), Vec::new());
        for (((turn, cached), wanted), outcome) in self.partitions.iter_mut().zip(wanted).zip(outcomes) {
            assert!(cached.key == wanted.key, "outcomes come in the session's order");
            is_told.push(outcome.has_records || outcome.has_error || outcome.marks != cached.told);
            // An error's end is news, whatever the log looks like then.
            cached.told = if outcome.has_error { Marks::UNKNOWN } else { outcome.marks };
            if outcome.has_records {
                served.push(*turn);
            }
        }
        for turn in served {
            let cached = self.partitions.remove(&turn).expect("it was there above");
            let turn_next = self.take_turn();
            self.turns.insert(cached.key.clone(), turn_next);
            self.partitions.insert(turn_next, cached);
        }
        is_told
    }

    fn insert(&mut self, cached: Cached) {
        let turn = self.take_turn();
        self.bytes += partition_bytes(&cached.key);
        let replaced = self.turns.insert(cached.key.clone(), turn);
        assert!(replaced.is_none(), "a partition is in a session once");
        self.partitions.insert(turn, cached);
    }

    fn take_turn(&mut self) -> u64 {
        let turn = self.turn_next;
        self.turn_next += 1;
        turn
    }
}

/// Each partition once, at its first place and with its last position.
pub(super) fn merge_duplicates(asked: Vec<Wanted>) -> Vec<Wanted> {
    let mut places = BTreeMap::new();
    // By place, where in `asked` its partition stands last.
    let mut latest = Vec::with_capacity(asked.len());
    for (index, wanted) in asked.iter().enumerate() {
        let place = *places.entry(&wanted.key).or_insert(latest.len());
        if place == latest.len() {
            latest.push(index);
        } else {
            latest[place] = index;
        }
    }
    if latest.len() == asked.len() {
        return asked;
    }
    latest.into_iter().map(|index| asked[index].clone()).collect()
}

/// What a session of these partitions counts as.
pub(super) fn bytes(wanted: &[Wanted]) -> usize {
    SESSION_BYTES + wanted.iter().map(|wanted| partition_bytes(&wanted.key)).sum::<usize>()
}

/// What one partition counts as. Partitions that one request has named share their topic's name; each counts it all the
/// same, because they may come in a request of their own.
fn partition_bytes(key: &PartitionKey) -> usize {
    PARTITION_BYTES + key.topic.name_bytes()
}

/// A session and what sorts it, in maps that are half full.
const SESSION_BYTES: usize = 2 * size_of::<Session>() + 256;
/// Both maps' entries, half full, and the name's own allocation.
const PARTITION_BYTES: usize = 2 * (size_of::<Cached>() + size_of::<PartitionKey>() + 16) + 32;
