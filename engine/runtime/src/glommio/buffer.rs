//! Block-aligned memory for direct I/O.
//!
//! A buffer either owns its memory or is a view of what a read delivered; the latter is copied only when it is changed
//! or written.

use std::ptr::NonNull;
use std::rc::Rc;

use ::glommio::io::{DmaBuffer, ReadResult};

use crate::{BLOCK_BYTES, Buffer, Unwritten};

/// The buffer of [`super::disk::GlommioDisk`].
pub struct GlommioBuffer {
    memory: Memory,
}

enum Memory {
    /// Shared with the writes in flight, and only with them: [`Rc::get_mut`] proves that none is.
    Owned(Rc<DmaBuffer>),
    /// Invariant: whole blocks, not empty.
    Read(ReadResult),
}

impl GlommioBuffer {
    /// `bytes` zeros.
    pub(super) fn zeroed(bytes: usize) -> Self {
        Self { memory: Memory::Owned(Rc::new(zeroed_memory(bytes))) }
    }

    /// `bytes` of memory as the allocator gives it.
    pub(super) fn unwritten(bytes: usize) -> Unwritten<Self> {
        assert_block_count(bytes);
        Unwritten::new(Self { memory: Memory::Owned(Rc::new(::glommio::allocate_dma_buffer_global(bytes))) })
    }

    /// What a read delivered.
    pub(super) fn from_read(read: ReadResult) -> Self {
        assert_block_count(read.len());
        Self { memory: Memory::Read(read) }
    }

    /// The memory to hand to a write. While the write holds it, [`Buffer::as_mut_slice`] panics.
    pub(super) fn to_written(&self) -> Rc<DmaBuffer> {
        match &self.memory {
            Memory::Owned(memory) => Rc::clone(memory),
            Memory::Read(read) => Rc::new(copied_memory(read)),
        }
    }

    fn owned_mut(&mut self) -> &mut DmaBuffer {
        if let Memory::Read(read) = &self.memory {
            self.memory = Memory::Owned(Rc::new(copied_memory(read)));
        }
        let Memory::Owned(memory) = &mut self.memory else {
            unreachable!("the buffer was made an owned one just above");
        };
        Rc::get_mut(memory).expect("a buffer that is being written never changes")
    }
}

impl Buffer for GlommioBuffer {
    fn as_slice(&self) -> &[u8] {
        match &self.memory {
            Memory::Owned(memory) => memory.as_bytes(),
            Memory::Read(read) => read,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        self.owned_mut().as_bytes_mut()
    }

    fn memory(&mut self) -> NonNull<[u8]> {
        let memory = self.owned_mut();
        let start = NonNull::new(memory.as_mut_ptr()).expect("an allocation has an address");
        NonNull::slice_from_raw_parts(start, memory.len())
    }

    fn trim(&mut self, bytes: usize) {
        assert_block_count(bytes);
        let length = match &self.memory {
            Memory::Owned(memory) => memory.len(),
            Memory::Read(read) => read.len(),
        };
        assert!(bytes <= length, "a buffer is trimmed, not grown");
        match &mut self.memory {
            Memory::Owned(_) => self.owned_mut().trim_to_size(bytes),
            Memory::Read(read) => *read = ReadResult::slice(read, 0, bytes).expect("the length was checked just above"),
        }
    }
}

/// Zeroed memory of `bytes`.
pub(super) fn zeroed_memory(bytes: usize) -> DmaBuffer {
    assert_block_count(bytes);
    let mut memory = ::glommio::allocate_dma_buffer_global(bytes);
    // SAFETY: the allocation holds `bytes` bytes. It is written through the pointer because glommio hands it out
    // uninitialised: a slice of it must not exist before this line.
    unsafe { std::ptr::write_bytes(memory.as_mut_ptr(), 0, bytes) };
    memory
}

/// Memory that holds a copy of `source`.
pub(super) fn copied_memory(source: &[u8]) -> DmaBuffer {
    let mut memory = zeroed_memory(source.len());
    memory.as_bytes_mut().copy_from_slice(source);
    memory
}

/// Asserts that `bytes` is a non-zero count of whole blocks.
pub(super) fn assert_block_count(bytes: usize) {
    assert!(bytes > 0, "direct I/O moves at least one block");
    assert!(bytes.is_multiple_of(BLOCK_BYTES), "direct I/O moves whole blocks, not {bytes} bytes");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_buffer_is_aligned_and_zero_although_its_memory_was_used_before() {
        for _ in 0..8 {
            let mut buffer = GlommioBuffer::zeroed(4 * BLOCK_BYTES);
            assert_eq!(buffer.as_slice().as_ptr().align_offset(BLOCK_BYTES), 0);
            assert!(buffer.as_slice().iter().all(|&byte| byte == 0));
            buffer.as_mut_slice().fill(0xA5);
        }
    }

    #[test]
    fn trim_keeps_the_front() {
        let mut buffer = GlommioBuffer::zeroed(2 * BLOCK_BYTES);
        buffer.as_mut_slice()[..BLOCK_BYTES].fill(1);
        buffer.trim(BLOCK_BYTES);
        assert_eq!(buffer.as_slice(), [1; BLOCK_BYTES]);
    }

    #[test]
    #[should_panic(expected = "never changes")]
    fn a_buffer_that_is_being_written_cannot_be_changed() {
        let mut buffer = GlommioBuffer::zeroed(BLOCK_BYTES);
        let _in_flight = buffer.to_written();
        buffer.as_mut_slice();
    }
}
