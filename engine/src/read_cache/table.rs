//! Which chunks stay in memory. Pure; knows nothing of files or loads.
//!
//! Two queues and a list of names, after 2Q (Johnson and Shasha, 1994):
//! 1. A new chunk goes to the end of *probation*. Being read there changes nothing: one reader that passes touches a
//!    chunk several times in a row, and that says nothing of whether anybody comes back.
//! 2. What leaves probation leaves its name in *ghosts*. A chunk that is loaded while its name is there was wanted twice
//!    at a distance, and goes to the end of *proven*.
//! 3. A proven chunk that was read since it was last looked at gets another turn, otherwise it leaves.
//! 4. Probation gives way while it has more than [`PROBATION_PERCENT`] of the budget, otherwise proven does. So a scan
//!    passes through a quarter of the memory, and takes nothing from what is read again and again.
//!
//! A reader may hold a chunk when it leaves. Its memory is then the reader's, until that lets go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use super::{CHUNK_BYTES, ChunkKey};

/// Probation may always have this much of the budget.
const PROBATION_PERCENT: usize = 25;
/// A proven chunk gets at most so many turns for reads in the past.
const TURNS_MAX: u8 = 3;

/// The chunks in memory.
pub(super) struct Table<T> {
    budget_bytes: usize,
    /// Set aside for chunks that are being loaded.
    reserved_bytes: usize,
    chunks: BTreeMap<ChunkKey, Chunk<T>>,
    probation: Queue,
    proven: Queue,
    /// Names of chunks that left probation, oldest first; as many as the budget has chunks.
    ghosts: VecDeque<ChunkKey>,
    ghost_names: BTreeSet<ChunkKey>,
}

struct Chunk<T> {
    value: Rc<T>,
    bytes: usize,
    proven: bool,
    /// Reads of a proven chunk since it was last looked at, up to [`TURNS_MAX`].
    turns: u8,
}

/// Chunks in the order in which they are looked at. Invariant: each chunk stands in exactly one queue, once.
#[derive(Default)]
struct Queue {
    keys: VecDeque<ChunkKey>,
    bytes: usize,
}

impl<T> Table<T> {
    /// An empty table that keeps up to `budget_bytes`.
    pub(super) fn new(budget_bytes: usize) -> Self {
        Self {
            budget_bytes,
            reserved_bytes: 0,
            chunks: BTreeMap::new(),
            probation: Queue::default(),
            proven: Queue::default(),
            ghosts: VecDeque::new(),
            ghost_names: BTreeSet::new(),
        }
    }

    /// The chunk, if it is here.
    pub(super) fn find(&mut self, key: ChunkKey) -> Option<Rc<T>> {
        let chunk = self.chunks.get_mut(&key)?;
        chunk.turns = (chunk.turns + 1).min(TURNS_MAX);
        Some(Rc::clone(&chunk.value))
    }

    /// Whether the chunk is here, without counting as a read of it.
    pub(super) fn peek(&self, key: ChunkKey) -> Option<&T> {
        self.chunks.get(&key).map(|chunk| &*chunk.value)
    }

    /// Sets `bytes` aside for a chunk that is going to be loaded, and makes room for them.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.reserved_bytes += bytes;
        self.make_room();
    }

    /// The load for which [`Self::reserve`] set `bytes` aside has ended.
    pub(super) fn release(&mut self, bytes: usize) {
        self.reserved_bytes -= bytes;
    }

    /// Puts a chunk in, in place of a shorter one of the same key. Where loads under way leave no room for it, it is left
    /// out.
    pub(super) fn insert(&mut self, key: ChunkKey, value: Rc<T>, bytes: usize) {
        let replaced = self.remove(key);
        self.reserve(bytes);
        self.release(bytes);
        if self.bytes() + self.reserved_bytes + bytes > self.budget_bytes {
            return;
        }
        let proven = replaced.is_some_and(|replaced| replaced.proven) || self.ghost_names.contains(&key);
        let queue = if proven { &mut self.proven } else { &mut self.probation };
        queue.keys.push_back(key);
        queue.bytes += bytes;
        self.chunks.insert(key, Chunk { value, bytes, proven, turns: 0 });
    }

    /// Drops all chunks of a segment, and their names.
    pub(super) fn remove_segment(&mut self, segment: u64) {
        let of_segment = ChunkKey { segment, index: 0 }..=ChunkKey { segment, index: u32::MAX };
        let keys: Vec<_> = self.chunks.range(of_segment.clone()).map(|(key, _)| *key).collect();
        for key in &keys {
            let chunk = self.chunks.remove(key).expect("it was listed above");
            let queue = if chunk.proven { &mut self.proven } else { &mut self.probation };
            queue.bytes -= chunk.bytes;
        }
        if !keys.is_empty() {
            self.probation.keys.retain(|key| key.segment != segment);
            self.proven.keys.retain(|key| key.segment != segment);
        }
        let names: Vec<_> = self.ghost_names.range(of_segment).copied().collect();
        for name in &names {
            self.ghost_names.remove(name);
        }
        if !names.is_empty() {
            self.ghosts.retain(|name| name.segment != segment);
        }
    }

    /// Bytes of all chunks here, without what is set aside.
    pub(super) fn bytes(&self) -> usize {
        self.probation.bytes + self.proven.bytes
    }

    fn remove(&mut self, key: ChunkKey) -> Option<Chunk<T>> {
        let chunk = self.chunks.remove(&key)?;
        let queue = if chunk.proven { &mut self.proven } else { &mut self.probation };
        queue.keys.retain(|other| *other != key);
        queue.bytes -= chunk.bytes;
        Some(chunk)
    }

    /// Lets chunks go until what is here and what is set aside fit the budget, or nothing is here any more.
    fn make_room(&mut self) {
        let probation_bytes_max = self.budget_bytes / 100 * PROBATION_PERCENT;
        while self.bytes() + self.reserved_bytes > self.budget_bytes {
            let probation_first = self.probation.bytes > probation_bytes_max || self.proven.keys.is_empty();
            let queue = if probation_first { &mut self.probation } else { &mut self.proven };
            let Some(key) = queue.keys.pop_front() else { return };
            let chunk = self.chunks.get_mut(&key).expect("what stands in a queue is here");
            if chunk.proven && chunk.turns > 0 {
                // Ends: every other turn round has one less.
                chunk.turns -= 1;
                queue.keys.push_back(key);
                continue;
            }
            queue.bytes -= chunk.bytes;
            if !chunk.proven {
                self.remember(key);
            }
            self.chunks.remove(&key);
        }
    }

    fn remember(&mut self, key: ChunkKey) {
        if !self.ghost_names.insert(key) {
            return;
        }
        self.ghosts.push_back(key);
        if self.ghosts.len() > self.budget_bytes / CHUNK_BYTES {
            let oldest = self.ghosts.pop_front().expect("one was just added");
            self.ghost_names.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
