//! The end of a log in memory: chunks of record bytes, the last of which takes appends.
//!
//! ```text
//! file      |  block  |  block  |  block  |  block  |  block  |
//! chunk 0   [==================>    sealed, written
//! chunk 1                       [=========>    sealed, being written
//! chunk 2                                 [====>        open
//! ```
//!
//! - A chunk starts on a block boundary. When a chunk is sealed inside a block, the next one begins with a copy of that
//!   partial block. It is then written with the next chunk, and only with that one if they are written together: no block
//!   is written twice at a time, so the chunks of a log may be written in any order.
//! - A chunk is written once: it is sealed first, and a sealed chunk takes no more bytes.
//! - A batch never spans two chunks, except that its end may be repeated as the next chunk's prefix.
//! - An open chunk that is small grows by moving to twice the memory; slices of the old memory stay valid.

use std::collections::VecDeque;
use std::rc::Rc;

use millrace_runtime::{BLOCK_BYTES, Buffer};

use crate::io::{AppendBuffer, Slice};
use crate::model::Position;

/// A quiet log's chunk starts with this much memory, in bytes.
pub const CHUNK_BYTES_MIN: usize = 2 * BLOCK_BYTES;
/// An open chunk grows in place up to here, in bytes; past it, it is sealed and a new one begins.
pub const CHUNK_GROWTH_BYTES_MAX: usize = 64 * 1024;
/// The largest chunk, in bytes, unless a single batch is larger.
pub const CHUNK_BYTES_MAX: usize = 1024 * 1024;

const _: () = assert!(CHUNK_BYTES_MIN.is_multiple_of(BLOCK_BYTES) && CHUNK_GROWTH_BYTES_MAX <= CHUNK_BYTES_MAX);

struct Chunk<B: Buffer> {
    /// Invariant: on a block boundary.
    start: Position,
    buffer: Rc<AppendBuffer<B>>,
    state: ChunkState,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ChunkState {
    Open,
    Sealed,
    Written,
}

impl<B: Buffer> Chunk<B> {
    fn end(&self) -> Position {
        self.start.plus(self.buffer.filled())
    }
}

/// A sealed chunk on its way to the device.
pub struct SealedChunk<B> {
    /// Where it belongs in the segment.
    pub start: Position,
    /// Whole blocks.
    pub buffer: Rc<B>,
}

/// The chunks of a log, oldest first.
pub struct Tail<B: Buffer> {
    chunks: VecDeque<Chunk<B>>,
    /// Memory of all chunks, in bytes.
    memory_bytes: usize,
    /// Size of the next chunk: doubles with every chunk that fills up, so that busy logs get large ones, and halves with
    /// every one that is sealed while it is not half full.
    chunk_bytes_next: usize,
}

impl<B: Buffer> Default for Tail<B> {
    fn default() -> Self {
        Self { chunks: VecDeque::new(), memory_bytes: 0, chunk_bytes_next: CHUNK_BYTES_MIN }
    }
}

impl<B: Buffer> Tail<B> {
    /// Position from which on the log's bytes are in memory; `None` when none are.
    pub fn start(&self) -> Option<Position> {
        self.chunks.front().map(|chunk| chunk.start)
    }

    /// Memory held, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// Whether an append at `end`, in the middle of a block, needs that block's bytes first: after a restart nothing of
    /// it is in memory.
    pub fn needs_prefix(&self, end: Position) -> bool {
        self.chunks.is_empty() && end != end.block_floor()
    }

    /// Puts the bytes of a partial last block in front of the first append.
    ///
    /// # Panics
    /// When there are chunks already, or `prefix` is not exactly what lies between the block's start and `end`.
    pub fn load_prefix(&mut self, end: Position, prefix: &[u8], allocate: impl FnOnce(usize) -> AppendBuffer<B>) {
        assert!(self.needs_prefix(end), "only an empty tail takes a prefix");
        assert_eq!(end.bytes_since(end.block_floor()), prefix.len(), "the prefix reaches up to the end");
        self.open_chunk(end.block_floor(), prefix, CHUNK_BYTES_MIN, allocate);
    }

    /// Appends a copy of `batch` at `end`, the end of the log, and lets `adjust` change the copy.
    ///
    /// # Panics
    /// When [`Self::needs_prefix`] holds.
    pub fn append(
        &mut self,
        end: Position,
        batch: &[u8],
        adjust: impl FnOnce(&mut [u8]),
        allocate: impl FnOnce(usize) -> AppendBuffer<B>,
    ) {
        assert!(!self.needs_prefix(end), "the partial last block is loaded first");
        let room = self.chunks.back().filter(|chunk| chunk.state == ChunkState::Open).map(|chunk| chunk.buffer.room());
        if room.is_none_or(|room| room < batch.len()) {
            self.make_room(end, batch.len(), allocate);
        }
        let chunk = self.chunks.back().expect("there is a chunk with room now");
        assert_eq!(chunk.end(), end, "appends continue where the log ends");
        chunk.buffer.append(batch, adjust);
    }

    fn make_room(&mut self, end: Position, bytes: usize, allocate: impl FnOnce(usize) -> AppendBuffer<B>) {
        let Some(last) = self.chunks.back_mut() else {
            return self.open_chunk(end, &[], bytes, allocate);
        };
        let filled = last.buffer.filled();
        if last.state == ChunkState::Open && filled + bytes <= CHUNK_GROWTH_BYTES_MAX {
            let grown = allocate((filled + bytes).next_multiple_of(BLOCK_BYTES).max(2 * last.buffer.capacity()));
            let grown = Rc::new(grown);
            grown.append(last.buffer.slice(0, filled), |_| ());
            self.memory_bytes += grown.capacity() - last.buffer.capacity();
            last.buffer = grown;
            return;
        }
        if last.state == ChunkState::Open {
            last.state = ChunkState::Sealed;
            self.chunk_bytes_next = (2 * self.chunk_bytes_next).min(CHUNK_BYTES_MAX);
        }
        let last = Rc::clone(&last.buffer);
        let prefix_start = end.bytes_since(end.block_floor());
        self.open_chunk(end.block_floor(), last.slice(filled - prefix_start, filled), bytes, allocate);
    }

    fn open_chunk(
        &mut self,
        start: Position,
        prefix: &[u8],
        bytes: usize,
        allocate: impl FnOnce(usize) -> AppendBuffer<B>,
    ) {
        assert_eq!(start, start.block_floor(), "a chunk starts on a block");
        let needed = (prefix.len() + bytes).next_multiple_of(BLOCK_BYTES);
        let buffer = Rc::new(allocate(needed.max(self.chunk_bytes_next)));
        buffer.append(prefix, |_| ());
        self.memory_bytes += buffer.capacity();
        self.chunks.push_back(Chunk { start, buffer, state: ChunkState::Open });
    }

    /// Ends the open chunk: the next append goes to another segment, and starts a chunk of its own there.
    pub fn roll(&mut self) {
        if let Some(last) = self.chunks.back_mut().filter(|chunk| chunk.state == ChunkState::Open) {
            last.state = ChunkState::Sealed;
        }
    }

    /// Drops all chunks.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Seals all that is not sealed yet and returns the chunks that are to be written, oldest first.
    ///
    /// The caller writes all of them before it calls this again.
    pub fn seal(&mut self) -> Vec<SealedChunk<B>> {
        let mut sealed = Vec::new();
        let mut next_start = None;
        for chunk in self.chunks.iter_mut().rev().take_while(|chunk| chunk.state != ChunkState::Written) {
            let is_half_empty = 2 * chunk.buffer.filled() < chunk.buffer.capacity();
            if chunk.state == ChunkState::Open && is_half_empty {
                self.chunk_bytes_next = (self.chunk_bytes_next / 2).max(CHUNK_BYTES_MIN);
            }
            chunk.state = ChunkState::Sealed;
            // What the next chunk repeats is written with that one.
            let end = next_start.map_or(chunk.end(), |next: Position| next.min(chunk.end()));
            let bytes = end.bytes_since(chunk.start).next_multiple_of(BLOCK_BYTES);
            if bytes > 0 {
                sealed.push(SealedChunk { start: chunk.start, buffer: chunk.buffer.seal(bytes) });
            }
            next_start = Some(chunk.start);
        }
        sealed.reverse();
        sealed
    }

    /// Notes that every chunk that ends at or before `end` is in the segment.
    pub fn mark_written(&mut self, end: Position) {
        for chunk in &mut self.chunks {
            if chunk.state == ChunkState::Sealed && chunk.end() <= end {
                chunk.state = ChunkState::Written;
            }
        }
    }

    /// Drops the oldest chunk if it is written and not the last one. Says how much memory that freed, in bytes.
    ///
    /// The last chunk stays while it ends inside a block: the next append copies that partial block from it.
    pub fn evict_oldest(&mut self) -> Option<usize> {
        let written = self.chunks.front().is_some_and(|chunk| chunk.state == ChunkState::Written);
        if !written || self.chunks.len() < 2 {
            return None;
        }
        let freed = self.chunks.pop_front().map(|chunk| chunk.buffer.capacity());
        self.memory_bytes -= freed.unwrap_or(0);
        freed
    }

    /// The bytes `start..end` as slices in order. Both positions lie in memory and in one segment.
    ///
    /// # Panics
    /// When they do not.
    pub fn slices(&self, start: Position, end: Position) -> Vec<Slice<B>> {
        assert!(start >= end || self.start().is_some_and(|first| first <= start), "the range is in memory");
        let mut slices = Vec::new();
        let mut position = start;
        for (index, chunk) in self.chunks.iter().enumerate() {
            // Where the next chunk repeats the end of this one, the next chunk's copy is used only from its own records on.
            let chunk_end = chunk.end().min(end);
            if position < chunk_end && chunk.start <= position {
                let slice_end = chunk_end.bytes_since(chunk.start);
                slices.push(Slice::new(Rc::clone(&chunk.buffer), position.bytes_since(chunk.start), slice_end));
                position = chunk_end;
            }
            assert!(index + 1 < self.chunks.len() || position >= end, "the range is in memory");
        }
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::segment_header::RECORDS_START;
    use crate::io::Memory;
    use proptest::prelude::*;

    fn allocate(bytes: usize) -> AppendBuffer<Memory> {
        Memory::unwritten(bytes)
    }

    proptest! {
        /// Random appends, seals and evictions against a plain byte vector: what is written to the "file" and what is in
        /// memory together are always the log, and each sealed chunk goes out once.
        #[test]
        fn memory_and_file_together_are_the_log(steps in prop::collection::vec((0_u8..10, 1_usize..150_000), 1..60)) {
            let (mut tail, mut model, mut file) = (Tail::<Memory>::default(), Vec::<u8>::new(), Vec::<u8>::new());
            let base = RECORDS_START;
            for (step, (action, bytes)) in steps.into_iter().enumerate() {
                match action {
                    0..=5 => {
                        let bytes = if action < 3 { bytes % 3000 + 1 } else { bytes };
                        let batch = vec![u8::try_from(step % 251).unwrap(); bytes];
                        tail.append(base.plus(model.len()), &batch, |copy| copy[0] = 255, allocate);
                        model.extend_from_slice(&batch);
                        let start = model.len() - bytes;
                        model[start] = 255;
                    }
                    6..=7 => {
                        let mut written_end = 0;
                        let mut chunks = tail.seal();
                        for chunk in &chunks {
                            let start = chunk.start.bytes_since(base);
                            prop_assert!(start >= written_end, "no block is written twice");
                            written_end = start + chunk.buffer.as_slice().len();
                        }
                        chunks.reverse();
                        for chunk in chunks {
                            let start = chunk.start.bytes_since(base);
                            let end = start + chunk.buffer.as_slice().len();
                            file.resize(file.len().max(end), 0);
                            file[start..end].copy_from_slice(chunk.buffer.as_slice());
                        }
                        tail.mark_written(base.plus(model.len()));
                        prop_assert_eq!(&file[..model.len()], &model[..]);
                        prop_assert!(tail.seal().is_empty());
                    }
                    _ => { tail.evict_oldest(); }
                }
                let end = base.plus(model.len());
                if let Some(start) = tail.start() {
                    let memory: Vec<u8> = tail.slices(start, end).iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
                    prop_assert_eq!(&memory[..], &model[start.bytes_since(base)..]);
                    prop_assert_eq!(&file[..start.bytes_since(base)], &model[..start.bytes_since(base)]);
                }
            }
        }
    }

    #[test]
    fn a_prefix_from_the_device_comes_first() {
        let mut tail = Tail::<Memory>::default();
        let end = RECORDS_START.plus(10);
        assert!(tail.needs_prefix(end));
        tail.load_prefix(end, b"0123456789", allocate);
        tail.append(end, b"batch", |_| (), allocate);
        let slices = tail.slices(RECORDS_START.plus(8), end.plus(5));
        assert_eq!(slices[0].as_slice(), b"89batch");
    }
}
