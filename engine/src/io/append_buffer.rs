//! An append-only buffer: one writer adds bytes at the end while readers hold slices of what is there already.
//!
//! Why it is sound:
//! 1. `pointer` points to the memory of the buffer in `owner` for as long as `self` lives: the buffer is moved (from open
//!    to sealed) but never dropped before `self` is, and moving a buffer does not move its heap memory.
//! 2. Bytes below `filled` never change again. A slice covers only bytes below `filled`.
//! 3. The writer only touches bytes at or above `filled`, through a mutable slice of exactly the new bytes, before it
//!    raises `filled`. So no mutable slice ever overlaps a shared one.
//! 4. Nobody reads a byte that was not written: slices cover only bytes below `filled`, and before the buffer is handed out
//!    for writing, what is left of its last block is zeroed and the blocks behind are cut off.
//! 5. The type is neither `Send` nor `Sync`; memory lent to another shard is read there through a slice of bytes that no
//!    longer change, while the owner keeps the buffer alive.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::Rc;

use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Unwritten};

/// Memory that grows at its end, up to a fixed capacity, and is then sealed for writing.
pub struct AppendBuffer<B: Buffer> {
    pointer: NonNull<u8>,
    capacity: usize,
    /// Invariant: at most `capacity`; never falls.
    filled: Cell<usize>,
    owner: RefCell<Owner<B>>,
}

enum Owner<B> {
    Open(Unwritten<B>),
    Sealed(Rc<B>),
    /// Only while the buffer is moved from one of the others to the other.
    Moving,
}

impl<B: Buffer> AppendBuffer<B> {
    /// An empty buffer of `bytes`, a non-zero multiple of [`BLOCK_BYTES`].
    pub fn allocate<D: Disk<Buffer = B>>(disk: &D, bytes: usize) -> Self {
        Self::over(disk.unwritten_buffer(bytes))
    }

    fn over(mut buffer: Unwritten<B>) -> Self {
        let memory = buffer.memory();
        let (pointer, capacity) = (memory.cast(), memory.len());
        Self { pointer, capacity, filled: Cell::new(0), owner: RefCell::new(Owner::Open(buffer)) }
    }

    /// A full and sealed buffer, as a read from the device returns it.
    pub fn sealed(buffer: B) -> Self {
        let buffer = Self::over(Unwritten::new(buffer));
        buffer.filled.set(buffer.capacity);
        buffer.seal(buffer.capacity);
        buffer
    }

    /// Bytes that are there.
    pub fn filled(&self) -> usize {
        self.filled.get()
    }

    /// Bytes that still fit.
    pub fn room(&self) -> usize {
        self.capacity - self.filled.get()
    }

    /// Bytes that the buffer occupies.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Appends a copy of `bytes`, lets `adjust` change that copy before anyone sees it, and returns where it starts.
    ///
    /// # Panics
    /// When the bytes do not fit or the buffer is sealed.
    pub fn append(&self, bytes: &[u8], adjust: impl FnOnce(&mut [u8])) -> usize {
        assert!(bytes.len() <= self.room(), "the caller checks the room");
        assert!(matches!(*self.owner.borrow(), Owner::Open(_)), "a sealed buffer is not appended to");
        let start = self.filled.get();
        // SAFETY: the range lies inside the capacity (asserted) and at or above `filled`, so no other slice covers it
        // (points 1 to 3 of the module's argument). The slice is made of bytes that were just written. `filled` is raised
        // only after it has ended.
        let target = unsafe {
            let target = self.pointer.as_ptr().add(start);
            target.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            std::slice::from_raw_parts_mut(target, bytes.len())
        };
        adjust(target);
        self.filled.set(start + bytes.len());
        start
    }

    /// The bytes `start..end`.
    ///
    /// # Panics
    /// When the range is not filled.
    pub fn slice(&self, start: usize, end: usize) -> &[u8] {
        assert!(start <= end, "a range starts before it ends");
        assert!(end <= self.filled.get(), "only filled bytes are read");
        // SAFETY: the range lies below `filled`, whose bytes never change again (point 2), in memory that lives as long
        // as `self` (point 1).
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr().add(start), end - start) }
    }

    /// Ends appending and hands the first `bytes` out for writing: whole blocks, of which the last may be filled in part.
    /// The rest of that block is zero. Bytes behind stay readable. Sealing again returns the same memory.
    ///
    /// # Panics
    /// When the bytes are not whole blocks, or one of the blocks holds nothing.
    pub fn seal(&self, bytes: usize) -> Rc<B> {
        let mut owner = self.owner.borrow_mut();
        let sealed = match std::mem::replace(&mut *owner, Owner::Moving) {
            Owner::Open(buffer) => {
                let filled = self.filled.get();
                assert!(bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES), "whole blocks are written");
                assert!(bytes <= filled.next_multiple_of(BLOCK_BYTES), "of which each holds something");
                // SAFETY: the range ends inside the capacity, which is whole blocks, and lies at or above `filled`, so no
                // slice covers it (point 2).
                unsafe { self.pointer.as_ptr().add(filled).write_bytes(0, bytes.saturating_sub(filled)) };
                // SAFETY: the first `filled` bytes were written before, and that was the rest of the first `bytes`.
                Rc::new(unsafe { buffer.into_written(bytes) })
            }
            Owner::Sealed(buffer) => buffer,
            Owner::Moving => unreachable!("the move ends inside this function"),
        };
        *owner = Owner::Sealed(Rc::clone(&sealed));
        sealed
    }
}

/// A reference-counted range of an [`AppendBuffer`].
pub struct Slice<B: Buffer> {
    buffer: Rc<AppendBuffer<B>>,
    start: usize,
    end: usize,
}

impl<B: Buffer> Slice<B> {
    /// The bytes `start..end` of `buffer`.
    ///
    /// # Panics
    /// When the range is not filled.
    pub fn new(buffer: Rc<AppendBuffer<B>>, start: usize, end: usize) -> Self {
        assert!(start <= end, "a range starts before it ends");
        assert!(end <= buffer.filled(), "only filled bytes are lent");
        Self { buffer, start, end }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.buffer.slice(self.start, self.end)
    }

    /// How many bytes.
    pub fn bytes(&self) -> usize {
        self.end - self.start
    }

    /// The bytes `start..end` of this slice.
    ///
    /// # Panics
    /// When the range leaves the slice.
    #[must_use]
    pub fn part(&self, start: usize, end: usize) -> Self {
        assert!(end <= self.bytes(), "a part lies inside its whole");
        Self::new(Rc::clone(&self.buffer), self.start + start, self.start + end)
    }
}

impl<B: Buffer> Clone for Slice<B> {
    fn clone(&self) -> Self {
        Self { buffer: Rc::clone(&self.buffer), start: self.start, end: self.end }
    }
}

/// Memory for tests, of which nobody may assume that it is zeroed.
#[cfg(test)]
pub(crate) struct Memory {
    bytes: Vec<u8>,
    /// What it was trimmed to. The rest stays where it is, as of any buffer.
    length: usize,
}

#[cfg(test)]
impl Memory {
    pub(crate) fn unwritten(bytes: usize) -> AppendBuffer<Self> {
        assert!(bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES), "whole blocks");
        AppendBuffer::over(Unwritten::new(Self { bytes: vec![0xA5; bytes], length: bytes }))
    }
}

#[cfg(test)]
impl Buffer for Memory {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }

    fn memory(&mut self) -> NonNull<[u8]> {
        NonNull::from(&mut self.bytes[..self.length])
    }

    fn trim(&mut self, bytes: usize) {
        self.length = bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(blocks: usize) -> Rc<AppendBuffer<Memory>> {
        Rc::new(Memory::unwritten(blocks * BLOCK_BYTES))
    }

    #[test]
    fn slices_survive_appends_and_sealing() {
        let buffer = buffer(3);
        assert_eq!(buffer.append(b"first", |_| ()), 0);
        let first = Slice::new(Rc::clone(&buffer), 0, 5);
        assert_eq!(buffer.append(b"second", |copy| copy[0] = b'S'), 5);
        let sealed = buffer.seal(BLOCK_BYTES);
        assert_eq!(sealed.as_slice().len(), BLOCK_BYTES);
        assert_eq!(&sealed.as_slice()[..11], b"firstSecond");
        assert!(sealed.as_slice()[11..].iter().all(|byte| *byte == 0), "nothing of what was in memory before");
        assert_eq!(first.as_slice(), b"first");
        assert!(Rc::ptr_eq(&sealed, &buffer.seal(BLOCK_BYTES)));
        drop((sealed, buffer));
        assert_eq!(first.as_slice(), b"first");
    }

    #[test]
    fn bytes_behind_what_is_written_stay_readable() {
        let buffer = buffer(2);
        buffer.append(&[7; BLOCK_BYTES + 10], |_| ());
        assert_eq!(buffer.seal(BLOCK_BYTES).as_slice(), [7; BLOCK_BYTES]);
        assert_eq!(buffer.slice(BLOCK_BYTES - 1, BLOCK_BYTES + 10), [7; 11]);
    }

    #[test]
    #[should_panic(expected = "only filled bytes")]
    fn unfilled_bytes_cannot_be_read() {
        let buffer = buffer(1);
        buffer.append(b"abc", |_| ());
        let _ = buffer.slice(0, 4);
    }

    #[test]
    #[should_panic(expected = "sealed")]
    fn a_sealed_buffer_takes_nothing() {
        let buffer = buffer(1);
        buffer.append(b"abc", |_| ());
        buffer.seal(BLOCK_BYTES);
        buffer.append(b"d", |_| ());
    }
}
