//! Memory for simulated direct I/O, aligned as the real one is.

use std::ptr::NonNull;

use crate::sim::random::hash_bytes;
use crate::{BLOCK_BYTES, Buffer};

/// A block-aligned buffer.
pub struct SimBuffer {
    /// One block longer than needed, so that an aligned start exists.
    memory: Vec<u8>,
    start: usize,
    /// Invariant: a non-zero multiple of [`BLOCK_BYTES`].
    length_bytes: usize,
}

impl SimBuffer {
    pub(in crate::sim) fn new(bytes: usize) -> Self {
        assert_length(bytes);
        let memory = vec![0; bytes + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        assert!(start < BLOCK_BYTES, "byte pointers can be aligned");
        Self { memory, start, length_bytes: bytes }
    }

    pub(in crate::sim) fn hash(&self) -> u64 {
        hash_bytes(self.as_slice())
    }
}

impl Buffer for SimBuffer {
    fn as_slice(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length_bytes]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length_bytes]
    }

    fn memory(&mut self) -> NonNull<[u8]> {
        NonNull::from(self.as_mut_slice())
    }

    fn trim(&mut self, bytes: usize) {
        assert_length(bytes);
        assert!(bytes <= self.length_bytes, "a buffer is trimmed to at most its length");
        self.length_bytes = bytes;
    }
}

/// Asserts that a length is one that direct I/O takes.
pub(in crate::sim) fn assert_length(bytes: usize) {
    assert!(bytes > 0, "length of direct I/O is not zero");
    assert!(bytes.is_multiple_of(BLOCK_BYTES), "length {bytes} of direct I/O is a multiple of the block");
}
