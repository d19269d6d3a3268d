//! A shard's cache of what it read from segments: aligned chunks, shared with the readers they were read for.
//!
//! - A chunk is [`CHUNK_BYTES`] of a segment file, or less where the file's last whole durable block lies inside it. A
//!   shorter chunk is read again when more of it is wanted and there.
//! - One chunk is read once, however many readers wait for it. The read is a task of its own: a reader that goes away
//!   takes no I/O with it.
//! - The budget holds for chunks and for reads under way. A chunk that has left the cache lives on while readers hold it;
//!   what they may hold is theirs to bound, and so is how many reads they wait for.
//! - [`ReadCache::invalidate`] ends a segment: nothing read before is ever returned after it, also not by a read that was
//!   under way. The caller calls it when a file was cut, replaced or removed.
//!
//! [`table`] decides what stays; what to load early the caller finds out with [`crate::log::read_ahead`]. Both are pure.

mod table;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use millrace_runtime::local::{OneshotReceiver, OneshotSender, oneshot};
use millrace_runtime::{BLOCK_BYTES, Disk, Env, TaskClass, Tasks};
use thiserror::Error;

use crate::io::AppendBuffer;
use table::Table;

/// Bytes of a whole chunk. A compromise: one read of this size costs a disk little more than one of a block, and a reader
/// of single batches does not push too much else out.
pub const CHUNK_BYTES: usize = 128 * 1024;
const _: () = assert!(CHUNK_BYTES.is_multiple_of(BLOCK_BYTES), "chunks are read in whole blocks");

/// Chunks that are loaded early at the same time. Past it nothing is loaded early.
const EARLY_LOADS_MAX: usize = 64;

/// Which chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChunkKey {
    /// The segment; a number that the caller gave to it and never gives to another one.
    pub segment: u64,
    /// The chunk that begins at this many times [`CHUNK_BYTES`] of the file.
    pub index: u32,
}

/// How much of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkExtent {
    /// So many bytes from its start are wanted. Invariant: at most `readable_bytes`.
    pub needed_bytes: usize,
    /// So many can be read from the file: up to its last whole durable block. Invariant: whole blocks, at most
    /// [`CHUNK_BYTES`].
    pub readable_bytes: usize,
}

/// Why a chunk could not be had.
#[derive(Clone, Debug, Error)]
pub enum ChunkError {
    /// Reading failed, or the file is shorter than it was said to be.
    #[error("reading a segment failed: {0}")]
    Io(Rc<io::Error>),
    /// The segment was cut, replaced or removed meanwhile.
    #[error("the segment changed while it was read")]
    Invalidated,
}

/// How the cache does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheCounters {
    /// Chunks that were in memory when they were wanted.
    pub hits: u64,
    /// Chunks that were wanted and had to be waited for.
    pub misses: u64,
    /// Of the misses, those for which another reader or read-ahead had begun to read.
    pub joined: u64,
    /// Reads of chunks from the device, early ones included.
    pub loads: u64,
}

/// The memory a chunk is in.
pub type ChunkBuffer<E> = AppendBuffer<<<E as Env>::Disk as Disk>::Buffer>;

type ChunkResult<E> = Result<Rc<ChunkBuffer<E>>, ChunkError>;

/// One shard's cache. Cheap to clone.
pub struct ReadCache<E: Env> {
    inner: Rc<Inner<E>>,
}

impl<E: Env> Clone for ReadCache<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

struct Inner<E: Env> {
    env: E,
    table: RefCell<Table<ChunkBuffer<E>>>,
    /// The reads under way that still count.
    loads: RefCell<BTreeMap<ChunkKey, Load<E>>>,
    /// Tells a read from an earlier one of the same chunk.
    load_number_next: Cell<u64>,
    early_loads: Cell<usize>,
    counters: Cell<CacheCounters>,
}

struct Load<E: Env> {
    number: u64,
    waiters: Vec<OneshotSender<ChunkResult<E>>>,
}

impl<E: Env> ReadCache<E> {
    /// An empty cache of up to `budget_bytes`.
    pub fn new(env: E, budget_bytes: usize) -> Self {
        let inner = Inner {
            env,
            table: RefCell::new(Table::new(budget_bytes)),
            loads: RefCell::default(),
            load_number_next: Cell::new(0),
            early_loads: Cell::new(0),
            counters: Cell::default(),
        };
        Self { inner: Rc::new(inner) }
    }

    /// The chunk with at least the bytes that are needed: from memory, or by `load`, which reads exactly the readable
    /// bytes of it. Dropped early, this leaves the read running.
    pub async fn read<F>(&self, key: ChunkKey, extent: ChunkExtent, load: impl FnOnce() -> F) -> ChunkResult<E>
    where
        F: Future<Output = io::Result<Option<<E::Disk as Disk>::Buffer>>> + 'static,
    {
        extent.check();
        if let Some(chunk) = self.inner.find(key, extent) {
            self.inner.count(|counters| counters.hits += 1);
            return Ok(chunk);
        }
        self.inner.count(|counters| counters.misses += 1);
        let under_way = self.inner.loads.borrow().contains_key(&key);
        self.inner.count(|counters| counters.joined += u64::from(under_way));
        while let Some(waiting) = self.inner.join(key) {
            let chunk = waiting.await.ok_or(ChunkError::Invalidated)??;
            // It may have been begun when less of the chunk could be read.
            if chunk.filled() >= extent.needed_bytes {
                return Ok(chunk);
            }
            // Another reader that waited as well may have had it read again already.
            if let Some(chunk) = self.inner.find(key, extent) {
                return Ok(chunk);
            }
        }
        let waiting = self.inner.start(key, extent, load(), None);
        let chunk = waiting.await.ok_or(ChunkError::Invalidated)??;
        if chunk.filled() < extent.needed_bytes {
            return Err(ChunkError::Io(Rc::new(io::ErrorKind::UnexpectedEof.into())));
        }
        Ok(chunk)
    }

    /// Begins to load a chunk that may be wanted soon, unless it is there, under way, or too many are.
    pub fn load_early<F>(&self, key: ChunkKey, readable_bytes: usize, load: impl FnOnce() -> F)
    where
        F: Future<Output = io::Result<Option<<E::Disk as Disk>::Buffer>>> + 'static,
    {
        let extent = ChunkExtent { needed_bytes: readable_bytes, readable_bytes };
        extent.check();
        let known = self.inner.table.borrow().peek(key).is_some_and(|chunk| chunk.filled() >= readable_bytes);
        let under_way = self.inner.loads.borrow().contains_key(&key);
        if !known && !under_way && self.inner.early_loads.get() < EARLY_LOADS_MAX {
            let early = EarlyLoad::new(&self.inner);
            // Nobody waits: the answer is dropped.
            drop(self.inner.start(key, extent, load(), Some(early)));
        }
    }

    /// Forgets all of a segment. Readers that wait for it get [`ChunkError::Invalidated`].
    pub fn invalidate(&self, segment: u64) {
        self.inner.table.borrow_mut().remove_segment(segment);
        let of_segment = ChunkKey { segment, index: 0 }..=ChunkKey { segment, index: u32::MAX };
        let keys: Vec<_> = self.inner.loads.borrow().range(of_segment).map(|(key, _)| *key).collect();
        for key in keys {
            let load = self.inner.loads.borrow_mut().remove(&key);
            for waiter in load.into_iter().flat_map(|load| load.waiters) {
                waiter.send(Err(ChunkError::Invalidated));
            }
        }
    }

    /// How the cache did so far.
    pub fn counters(&self) -> CacheCounters {
        self.inner.counters.get()
    }

    /// Bytes of the chunks in memory.
    pub fn memory_bytes(&self) -> usize {
        self.inner.table.borrow().bytes()
    }
}

impl ChunkExtent {
    fn check(self) {
        assert!(self.needed_bytes <= self.readable_bytes, "what is wanted can be read");
        assert!(self.readable_bytes <= CHUNK_BYTES, "a chunk is not longer");
        assert!(self.readable_bytes > 0, "there is something to read");
        assert!(self.readable_bytes.is_multiple_of(BLOCK_BYTES), "whole blocks are read");
    }
}

impl<E: Env> Inner<E> {
    fn find(&self, key: ChunkKey, extent: ChunkExtent) -> Option<Rc<ChunkBuffer<E>>> {
        self.table.borrow_mut().find(key).filter(|chunk| chunk.filled() >= extent.needed_bytes)
    }

    /// Waits for the read of the chunk that is under way, if one is.
    fn join(&self, key: ChunkKey) -> Option<OneshotReceiver<ChunkResult<E>>> {
        let (sender, receiver) = oneshot();
        self.loads.borrow_mut().get_mut(&key)?.waiters.push(sender);
        Some(receiver)
    }

    /// Begins to read a chunk of which no read is under way.
    fn start<F>(
        self: &Rc<Self>,
        key: ChunkKey,
        extent: ChunkExtent,
        load: F,
        early: Option<EarlyLoad<E>>,
    ) -> OneshotReceiver<ChunkResult<E>>
    where
        F: Future<Output = io::Result<Option<<E::Disk as Disk>::Buffer>>> + 'static,
    {
        let number = self.load_number_next.get();
        self.load_number_next.set(number + 1);
        let (sender, receiver) = oneshot();
        let replaced = self.loads.borrow_mut().insert(key, Load { number, waiters: vec![sender] });
        assert!(replaced.is_none(), "one read of a chunk at a time");
        self.table.borrow_mut().reserve(extent.readable_bytes);
        self.count(|counters| counters.loads += 1);
        let inner = Rc::clone(self);
        self.env.tasks().spawn(TaskClass::Background, async move {
            let result = load.await;
            inner.table.borrow_mut().release(extent.readable_bytes);
            inner.finish(key, number, result);
            drop(early);
        });
        receiver
    }

    fn finish(&self, key: ChunkKey, number: u64, result: io::Result<Option<<E::Disk as Disk>::Buffer>>) {
        let counts = self.loads.borrow().get(&key).is_some_and(|load| load.number == number);
        if !counts {
            return;
        }
        let load = self.loads.borrow_mut().remove(&key).expect("it was found above");
        let buffer = result.and_then(|buffer| buffer.ok_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        let result = buffer.map(|buffer| Rc::new(AppendBuffer::sealed(buffer)));
        if let Ok(chunk) = &result {
            self.table.borrow_mut().insert(key, Rc::clone(chunk), chunk.capacity());
        }
        let result = result.map_err(|error| ChunkError::Io(Rc::new(error)));
        for waiter in load.waiters {
            waiter.send(result.clone());
        }
    }

    fn count(&self, change: impl FnOnce(&mut CacheCounters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }
}

/// One of the [`EARLY_LOADS_MAX`]; lasts as long as the read, whatever becomes of it.
struct EarlyLoad<E: Env> {
    inner: Rc<Inner<E>>,
}

impl<E: Env> EarlyLoad<E> {
    fn new(inner: &Rc<Inner<E>>) -> Self {
        inner.early_loads.set(inner.early_loads.get() + 1);
        Self { inner: Rc::clone(inner) }
    }
}

impl<E: Env> Drop for EarlyLoad<E> {
    fn drop(&mut self) {
        self.inner.early_loads.set(self.inner.early_loads.get() - 1);
    }
}
