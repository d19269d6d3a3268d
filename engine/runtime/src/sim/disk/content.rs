//! Bytes of a file: sparse, shared between copies, written by whole sectors.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::BLOCK_BYTES;

/// What the device writes all or nothing, in bytes.
pub(in crate::sim) const SECTOR_BYTES: usize = 512;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));

const BLOCK_BYTES_U64: u64 = 4096;
const _: () = assert!(BLOCK_BYTES == 4096);

/// A block of content, or a reserved one that was never written and reads as zeros.
type Block = Option<Rc<[u8; BLOCK_BYTES]>>;

/// Sparse content with a length.
#[derive(Clone, Default)]
pub(in crate::sim) struct Content {
    /// Invariant: bytes of `blocks` past it are zero, save while a crash is being resolved.
    length_bytes: u64,
    /// By index. Absent ones are holes.
    blocks: BTreeMap<u64, Block>,
}

impl Content {
    /// Writes without touching the length.
    pub(in crate::sim) fn write(&mut self, position: u64, bytes: &[u8]) {
        let mut position = position;
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = to_usize(position % BLOCK_BYTES_U64);
            let (piece, later) = rest.split_at(rest.len().min(BLOCK_BYTES - start));
            let block = self.blocks.entry(position / BLOCK_BYTES_U64).or_default();
            let block = block.get_or_insert_with(|| Rc::new([0; BLOCK_BYTES]));
            Rc::make_mut(block)[start..start + piece.len()].copy_from_slice(piece);
            position += to_u64(piece.len());
            rest = later;
        }
    }

    /// Reserves the blocks of `start..end`.
    pub(in crate::sim) fn reserve(&mut self, start: u64, end: u64) {
        for index in block_range(start, end) {
            self.blocks.entry(index).or_default();
        }
    }

    /// Sets the length. Bytes cut off are gone and read as zeros when the file grows again.
    pub(in crate::sim) fn resize(&mut self, bytes: u64) {
        self.length_bytes = bytes;
        self.blocks.split_off(&bytes.div_ceil(BLOCK_BYTES_U64));
        let kept = to_usize(bytes % BLOCK_BYTES_U64);
        if kept != 0
            && let Some(Some(block)) = self.blocks.get_mut(&(bytes / BLOCK_BYTES_U64))
        {
            Rc::make_mut(block)[kept..].fill(0);
        }
    }

    /// Drops what was written past the end.
    pub(in crate::sim) fn cut_to_length(&mut self) {
        self.resize(self.length_bytes);
    }

    pub(in crate::sim) fn grow(&mut self, bytes: u64) {
        self.length_bytes = self.length_bytes.max(bytes);
    }

    /// Flips one bit, if the byte lies in a block that was written.
    pub(in crate::sim) fn flip_bit(&mut self, position: u64, bit: u8) {
        if let Some(Some(block)) = self.blocks.get_mut(&(position / BLOCK_BYTES_U64)) {
            Rc::make_mut(block)[to_usize(position % BLOCK_BYTES_U64)] ^= 1 << bit;
        }
    }

    /// Fills `target` from `position` on; holes, and what lies past the end, read as zeros.
    pub(in crate::sim) fn read(&self, position: u64, target: &mut [u8]) {
        let mut position = position;
        let mut rest = target;
        while !rest.is_empty() {
            let start = to_usize(position % BLOCK_BYTES_U64);
            let (piece, later) = rest.split_at_mut((BLOCK_BYTES - start).min(rest.len()));
            match self.blocks.get(&(position / BLOCK_BYTES_U64)) {
                Some(Some(block)) => piece.copy_from_slice(&block[start..start + piece.len()]),
                _ => piece.fill(0),
            }
            position += to_u64(piece.len());
            rest = later;
        }
    }

    pub(in crate::sim) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; to_usize(self.length_bytes)];
        self.read(0, &mut bytes);
        bytes
    }

    pub(in crate::sim) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    pub(in crate::sim) fn allocated_bytes(&self) -> u64 {
        to_u64(self.blocks.len()) * BLOCK_BYTES_U64
    }

    /// Whether every block of `start..end` was written before and lies inside the length: a write there changes bytes only.
    pub(in crate::sim) fn is_written(&self, start: u64, end: u64) -> bool {
        let range = block_range(start, end);
        let written = self.blocks.range(range.clone()).filter(|(_, block)| block.is_some()).count();
        end <= self.length_bytes && to_u64(written) == range.end - range.start
    }

    /// Bytes that a write to `start..end` would have to allocate.
    pub(in crate::sim) fn missing_bytes(&self, start: u64, end: u64) -> u64 {
        let range = block_range(start, end);
        let present = to_u64(self.blocks.range(range.clone()).count());
        (range.end - range.start - present) * BLOCK_BYTES_U64
    }
}

fn block_range(start: u64, end: u64) -> std::ops::Range<u64> {
    start / BLOCK_BYTES_U64..end.div_ceil(BLOCK_BYTES_U64)
}

pub(in crate::sim) fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("sizes of simulated files fit memory")
}

pub(in crate::sim) fn to_u64(value: usize) -> u64 {
    u64::try_from(value).expect("lengths fit 64 bits")
}
