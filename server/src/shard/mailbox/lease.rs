//! Memory of one shard that another shard reads in place.
//!
//! 1. The owner gives the slices of an answer to its [`LeaseTable`], which keeps them.
//! 2. In their place it gets a [`Lent`]: addresses and lengths, free to cross to another thread.
//! 3. The borrower claims it as a [`Borrowed`] and reads, for as long as it likes.
//! 4. Dropping the last clone of the [`Borrowed`] tells the owner, by message, which drops the slices.
//!
//! Invariants: the table holds a slice for as long as anyone may read it; when a table is dropped with leases still out,
//! their memory is leaked rather than freed. The number of leases and their bytes are bounded; when a bound is reached the
//! table refuses and the answer carries fewer bytes. What the shard's own connections hold counts as well ([`Pin`]): memory
//! that waits for a slow client is the same memory on whichever shard the client is.
//!
//! This is the broker's only unsafe code.
#![expect(unsafe_code, reason = "lending memory across threads is what this module is for")]

use std::cell::Cell;
use std::mem;
use std::ptr::NonNull;
use std::rc::Rc;

use millrace_engine::io::Slice;
use millrace_runtime::Buffer;

use crate::shard::placement::ShardIndex;

/// Memory that may be lent.
///
/// # Safety
/// For as long as the value or a clone of it exists, wherever it is moved, `bytes` gives the same address and length,
/// and nobody writes to those bytes.
pub unsafe trait Lendable {
    /// The memory.
    fn bytes(&self) -> &[u8];
}

// SAFETY: a slice refers to reference-counted memory of its own and to bytes of it that were appended before the slice
// was made; the engine never writes an appended byte again.
unsafe impl<B: Buffer> Lendable for Slice<B> {
    fn bytes(&self) -> &[u8] {
        self.as_slice()
    }
}

/// Number of a lease in its owner's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseId {
    slot: u32,
    /// Tells uses of one slot apart.
    generation: u32,
}

/// What one shard has lent out.
pub struct LeaseTable<S: Lendable> {
    owner: ShardIndex,
    slots: Vec<Slot<S>>,
    slots_free: Vec<u32>,
    lease_count_max: usize,
    lease_bytes_max: usize,
    /// Invariant: the sum of all slots' bytes.
    lease_bytes: usize,
    /// What this shard's own connections hold. Invariant: with `lease_bytes` at most `lease_bytes_max`.
    pinned_bytes: Rc<Cell<usize>>,
}

struct Slot<S> {
    generation: u32,
    slices: Vec<S>,
    bytes: usize,
    is_lent: bool,
}

impl<S: Lendable> LeaseTable<S> {
    /// An empty table.
    pub fn new(owner: ShardIndex, lease_count_max: usize, lease_bytes_max: usize) -> Self {
        let (slots, slots_free) = (Vec::new(), Vec::new());
        let pinned_bytes = Rc::default();
        Self { owner, slots, slots_free, lease_count_max, lease_bytes_max, lease_bytes: 0, pinned_bytes }
    }

    /// Lends `slices`, in order. Gives them back when a bound is reached.
    pub fn lend(&mut self, slices: Vec<S>) -> Result<Lent, Vec<S>> {
        let bytes = slices.iter().map(|slice| slice.bytes().len()).sum::<usize>();
        if bytes > self.room_bytes() || self.lease_count() == self.lease_count_max {
            return Err(slices);
        }
        let Some(slot) = self.take_slot() else { return Err(slices) };
        let pieces = slices.iter().map(|slice| RawPiece::of(slice.bytes())).collect();
        let index = usize::try_from(slot).expect("slots are counted in memory");
        let entry = &mut self.slots[index];
        assert!(!entry.is_lent, "a free slot is not lent");
        entry.slices = slices;
        entry.bytes = bytes;
        entry.is_lent = true;
        self.lease_bytes += bytes;
        Ok(Lent { owner: self.owner, id: LeaseId { slot, generation: entry.generation }, pieces })
    }

    /// Takes a lease back and lets go of its memory.
    ///
    /// # Panics
    /// When the lease is not out: it was returned twice, or to the wrong shard.
    pub fn take_back(&mut self, id: LeaseId) {
        let index = usize::try_from(id.slot).expect("slots are counted in memory");
        let entry = self.slots.get_mut(index).expect("a lease comes back to the table it came from");
        assert!(entry.is_lent, "a lease comes back once");
        assert!(entry.generation == id.generation, "a lease comes back in its own generation");
        entry.is_lent = false;
        entry.generation = entry.generation.wrapping_add(1);
        entry.slices = Vec::new();
        self.lease_bytes -= mem::take(&mut entry.bytes);
        self.slots_free.push(id.slot);
    }

    /// Counts bytes that a connection of this shard holds; `None` when there is no room for them.
    pub fn pin(&self, bytes: usize) -> Option<Rc<Pin>> {
        if bytes > self.room_bytes() {
            return None;
        }
        self.pinned_bytes.set(self.pinned_bytes.get() + bytes);
        Some(Rc::new(Pin { bytes, total: Rc::clone(&self.pinned_bytes) }))
    }

    /// Bytes that may still be lent or pinned.
    pub fn room_bytes(&self) -> usize {
        self.lease_bytes_max - self.lease_bytes - self.pinned_bytes.get()
    }

    /// Bytes that one answer may take: a part of the room there is, so that answers become smaller as readers become
    /// slower, and those that come later still find some.
    pub fn share_bytes(&self) -> usize {
        (self.room_bytes() / SHARE_DIVISOR).max(SHARE_BYTES_MIN)
    }

    /// Leases that are out.
    pub fn lease_count(&self) -> usize {
        self.slots.len() - self.slots_free.len()
    }

    /// Bytes that are lent out.
    pub fn lease_bytes(&self) -> usize {
        self.lease_bytes
    }

    fn take_slot(&mut self) -> Option<u32> {
        if let Some(slot) = self.slots_free.pop() {
            return Some(slot);
        }
        if self.slots.len() == self.lease_count_max {
            return None;
        }
        let slot = u32::try_from(self.slots.len()).expect("the bound on leases fits 32 bits");
        self.slots.push(Slot { generation: 0, slices: Vec::new(), bytes: 0, is_lent: false });
        Some(slot)
    }
}

impl<S: Lendable> Drop for LeaseTable<S> {
    /// A borrower may still read what is out, and nothing can tell it to stop: that memory is never freed.
    fn drop(&mut self) {
        for slot in &mut self.slots {
            mem::forget(mem::take(&mut slot.slices));
        }
    }
}

/// Bytes that one of the shard's own connections holds; no longer when this is dropped.
#[derive(Debug)]
pub struct Pin {
    bytes: usize,
    total: Rc<Cell<usize>>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.total.set(self.total.get() - self.bytes);
    }
}

/// Lent memory on its way to the borrower.
///
/// Dropped on its way, because the borrower is gone, it leaves its lease open: the owner keeps the memory.
#[derive(Debug)]
#[must_use = "an unclaimed lease is never returned"]
pub struct Lent {
    owner: ShardIndex,
    id: LeaseId,
    pieces: Vec<RawPiece>,
}

// SAFETY: a `Lent` is a read-only view of memory that stays where it is and is not written while the lease is out (see
// `Lendable`), and the lease is out until a message from the borrower says otherwise. The channel that carries the
// `Lent` orders the writes that filled the memory before every read through it.
unsafe impl Send for Lent {}

/// One piece of lent memory.
#[derive(Debug)]
struct RawPiece {
    start: NonNull<u8>,
    bytes: usize,
}

impl RawPiece {
    fn of(memory: &[u8]) -> Self {
        Self { start: NonNull::from(memory).cast(), bytes: memory.len() }
    }
}

/// Tells an owner that a lease is over.
pub trait ReturnLease {
    /// Sends the lease back. Called once per lease.
    fn return_lease(&self, owner: ShardIndex, id: LeaseId);
}

/// Lent memory in the borrower's hands. Clones share the lease.
pub struct Borrowed<R: ReturnLease> {
    inner: Rc<Inner<R>>,
}

struct Inner<R: ReturnLease> {
    lent: Lent,
    returns: R,
}

impl<R: ReturnLease> Borrowed<R> {
    /// Takes lent memory over. `returns` is told when it is no longer needed.
    pub fn claim(lent: Lent, returns: R) -> Self {
        Self { inner: Rc::new(Inner { lent, returns }) }
    }

    /// How many pieces were lent.
    pub fn piece_count(&self) -> usize {
        self.inner.lent.pieces.len()
    }

    /// Piece `index` in the order of lending.
    pub fn piece(&self, index: usize) -> &[u8] {
        let piece = &self.inner.lent.pieces[index];
        // SAFETY: the address and length come from a slice that the owner's table keeps until this lease is returned,
        // which happens when `Inner` is dropped and not before; the result borrows from `self`, which keeps `Inner`.
        // Nobody writes to the memory meanwhile (`Lendable`).
        unsafe { std::slice::from_raw_parts(piece.start.as_ptr(), piece.bytes) }
    }
}

impl<R: ReturnLease> Clone for Borrowed<R> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

impl<R: ReturnLease> Drop for Inner<R> {
    fn drop(&mut self) {
        self.returns.return_lease(self.lent.owner, self.lent.id);
    }
}

/// One answer takes at most this part of the room,
const SHARE_DIVISOR: usize = 8;
/// or this much, if there is so much: in small parts it would be asked for all the more often.
const SHARE_BYTES_MIN: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    const OWNER: ShardIndex = ShardIndex::new(3);

    struct Memory(Rc<[u8]>);

    // SAFETY: the bytes of an `Rc<[u8]>` stay put and are never written while it is shared.
    unsafe impl Lendable for Memory {
        fn bytes(&self) -> &[u8] {
            &self.0
        }
    }

    #[derive(Clone, Default)]
    struct Returned(Rc<RefCell<Vec<LeaseId>>>);

    impl ReturnLease for Returned {
        fn return_lease(&self, owner: ShardIndex, id: LeaseId) {
            assert_eq!(owner, OWNER);
            self.0.borrow_mut().push(id);
        }
    }

    fn memory(text: &str) -> (Memory, Rc<[u8]>) {
        let bytes: Rc<[u8]> = Rc::from(text.as_bytes());
        (Memory(Rc::clone(&bytes)), bytes)
    }

    #[test]
    fn memory_is_kept_until_the_last_borrower_is_done() {
        let mut table = LeaseTable::new(OWNER, 4, 100);
        let returned = Returned::default();
        let ((hello, hello_witness), (world, _)) = (memory("hello"), memory("world"));
        let lent = table.lend(vec![hello, world]).ok().unwrap();
        assert_eq!((table.lease_count(), table.lease_bytes()), (1, 10));

        let borrowed = Borrowed::claim(lent, returned.clone());
        let clone = borrowed.clone();
        drop(borrowed);
        assert_eq!((clone.piece(0), clone.piece(1)), (&b"hello"[..], &b"world"[..]));
        assert!(returned.0.borrow().is_empty());
        drop(clone);

        let id = returned.0.borrow_mut().pop().unwrap();
        assert_eq!(Rc::strong_count(&hello_witness), 2, "the table keeps it until the message has arrived");
        table.take_back(id);
        assert_eq!(Rc::strong_count(&hello_witness), 1);
        assert_eq!((table.lease_count(), table.lease_bytes()), (0, 0));
    }

    #[test]
    fn both_bounds_give_the_slices_back() {
        let mut table = LeaseTable::new(OWNER, 2, 8);
        let first = table.lend(vec![memory("12345").0]).ok().unwrap();
        assert_eq!(table.room_bytes(), 3);
        assert_eq!(table.lend(vec![memory("1234").0]).err().unwrap().len(), 1);
        let pin = table.pin(1).unwrap();
        assert!(table.pin(3).is_none());
        assert_eq!(table.lend(vec![memory("123").0]).err().unwrap().len(), 1, "what is pinned counts");
        drop(pin);
        let second = table.lend(vec![memory("12").0]).ok().unwrap();
        assert_eq!(table.room_bytes(), 1);
        assert!(table.lend(vec![memory("1").0]).is_err(), "one byte is left, but no lease");
        table.take_back(first.id);
        table.take_back(second.id);
        assert_eq!(table.room_bytes(), 8);
    }

    #[test]
    fn a_share_becomes_smaller_with_the_room() {
        let mut table = LeaseTable::<Memory>::new(OWNER, 2, 64 << 20);
        assert_eq!(table.share_bytes(), 8 << 20);
        let pins = [table.pin(32 << 20).unwrap(), table.pin(28 << 20).unwrap()];
        assert_eq!((table.room_bytes(), table.share_bytes()), (4 << 20, 1 << 20));
        drop(pins);
        table = LeaseTable::new(OWNER, 2, 5);
        assert_eq!(table.share_bytes(), 1 << 20, "what there is bounds it besides");
    }

    #[test]
    #[should_panic(expected = "a lease comes back once")]
    fn a_lease_comes_back_once() {
        let mut table = LeaseTable::new(OWNER, 2, 8);
        let lent = table.lend(vec![memory("1").0]).ok().unwrap();
        table.take_back(lent.id);
        table.take_back(lent.id);
    }

    #[test]
    fn a_table_that_goes_first_leaks_what_is_out() {
        let mut table = LeaseTable::new(OWNER, 2, 8);
        let (text, witness) = memory("text");
        let borrowed = Borrowed::claim(table.lend(vec![text]).ok().unwrap(), Returned::default());
        drop(table);
        assert_eq!(Rc::strong_count(&witness), 2);
        assert_eq!(borrowed.piece(0), b"text");
    }

    #[test]
    fn lent_memory_crosses_threads() {
        let mut table = LeaseTable::new(OWNER, 2, 8);
        let lent = table.lend(vec![memory("text").0]).ok().unwrap();
        let borrower = std::thread::Builder::new().name("borrower".into());
        let read = borrower
            .spawn(move || {
                struct Nobody;
                impl ReturnLease for Nobody {
                    fn return_lease(&self, _: ShardIndex, _: LeaseId) {}
                }
                Borrowed::claim(lent, Nobody).piece(0).to_vec()
            })
            .unwrap();
        assert_eq!(read.join().unwrap(), b"text");
    }
}
