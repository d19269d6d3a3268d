//! Memory for what a request is decoded into, and for what its handler makes of that.
//!
//! A frame counts in the budget of requests with its length, but a request of tiny elements is decoded into up to
//! [`AMPLIFICATION_MAX`] times as much.
//!
//! 1. What takes no more than [`FREE_BYTES`] is decoded without asking anybody: nearly every request there is.
//! 2. A request that takes more is refused by the decoder, before anything was done for it. It then reserves twice as much as
//!    before, in line with others, and is decoded anew, until it fits. To reserve the most that it could need would be one step,
//!    but for a Fetch of some thousand partitions that is the whole budget, and it needs a twentieth.
//! 3. Once decoded it gives back what it did not need, and keeps the rest until it is answered.
//! 4. One for which the whole budget is too little is malformed: its connection is closed.
//!
//! A connection that waits for this memory holds none of it: it gives back what was too little, and answers its earlier
//! requests first.

use std::cell::{Cell, RefCell};

use millrace_protocol::wire::{AMPLIFICATION_MAX, DecodeError};

use super::connection::Close;
use crate::shard::budget::{Budget, Reservation};

/// What one request may be decoded into.
#[derive(Debug)]
pub struct Decoding {
    bytes_max: Cell<usize>,
    reservation: RefCell<Option<Reservation>>,
}

impl Default for Decoding {
    fn default() -> Self {
        Self { bytes_max: Cell::new(FREE_BYTES), reservation: RefCell::new(None) }
    }
}

impl Decoding {
    /// Most that the arrays of the request may take.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max.get()
    }

    /// Whether `attempt` to decode a request of `frame_bytes` failed for want of memory, and there is more to be had.
    pub fn is_too_little<T>(&self, attempt: &Result<T, Close>, budget: &Budget, frame_bytes: usize) -> bool {
        let is_exceeded = matches!(attempt, Err(Close::Decode(DecodeError::MemoryExceeded { .. })));
        // Past this the decoder refuses by itself.
        let useful_bytes = frame_bytes.saturating_mul(AMPLIFICATION_MAX).min(budget.capacity_bytes() / WEIGHT);
        is_exceeded && self.bytes_max() < useful_bytes
    }

    /// Reserves twice as much, if nobody has to wait for it.
    pub fn try_widen(&self, budget: &Budget) -> bool {
        self.give_back();
        let reservation = budget.try_reserve(self.wider_bytes(budget));
        reservation.map(|reservation| self.hold(reservation)).is_some()
    }

    /// Reserves twice as much.
    pub async fn widen(&self, budget: &Budget) {
        self.give_back();
        let turn = budget.enqueue(self.wider_bytes(budget)).expect("no more is asked for than there is");
        self.hold(turn.await);
    }

    fn wider_bytes(&self, budget: &Budget) -> usize {
        (2 * self.bytes_max() * WEIGHT).min(budget.capacity_bytes())
    }

    /// Whoever waited while holding some could wait for somebody who does the same.
    fn give_back(&self) {
        let reservation = self.reservation.borrow_mut().take();
        drop(reservation);
    }

    fn hold(&self, reservation: Reservation) {
        self.bytes_max.set(reservation.bytes() / WEIGHT);
        *self.reservation.borrow_mut() = Some(reservation);
    }

    /// The request is decoded and took `bytes`.
    pub fn settle(&self, bytes: usize) {
        let unneeded = self.reservation.borrow_mut().as_mut().map(|reservation| {
            let kept_bytes = (bytes * WEIGHT).min(reservation.bytes());
            reservation.split_off(reservation.bytes() - kept_bytes)
        });
        drop(unneeded);
    }
}

/// What a request is decoded into at no charge: some 30 partitions of a Fetch. A connection serves one request at a time,
/// and of Produce at most [`crate::shard::limits::PIPELINE_COUNT_MAX`].
const FREE_BYTES: usize = 2 << 10;

/// What a request counts for, in multiples of what it is decoded into: that, and what a handler makes of it, its answer
/// included.
const WEIGHT: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn exceeded() -> Result<(), Close> {
        Err(DecodeError::MemoryExceeded { position: 9 }.into())
    }

    #[test]
    fn it_doubles_until_it_is_enough_and_gives_back_what_is_not_needed() {
        let budget = Budget::new(1 << 20);
        let decoding = Decoding::default();
        assert_eq!(decoding.bytes_max(), FREE_BYTES);
        for step in 1..=4 {
            assert!(decoding.is_too_little(&exceeded(), &budget, 1000));
            assert!(decoding.try_widen(&budget));
            assert_eq!(decoding.bytes_max(), FREE_BYTES << step);
            assert_eq!(budget.used_bytes(), (FREE_BYTES << step) * WEIGHT);
        }
        decoding.settle(20_000);
        assert_eq!(budget.used_bytes(), 20_000 * WEIGHT);
        drop(decoding);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn nobody_gets_more_than_the_budget_or_than_it_could_need() {
        let budget = Budget::new(40_000);
        let (first, second) = (Decoding::default(), Decoding::default());
        while first.is_too_little(&exceeded(), &budget, 1 << 30) {
            assert!(first.try_widen(&budget));
        }
        assert_eq!((budget.used_bytes(), first.bytes_max()), (40_000, 40_000 / WEIGHT));
        assert!(second.is_too_little(&exceeded(), &budget, 1000));
        assert!(!second.try_widen(&budget), "there is none left");
        assert_eq!(second.bytes_max(), FREE_BYTES);
        assert!(!second.is_too_little(&exceeded(), &budget, FREE_BYTES / AMPLIFICATION_MAX));
        assert!(!second.is_too_little(&Ok(()), &budget, 1000));
    }

    #[test]
    fn what_was_free_stays_free() {
        let decoding = Decoding::default();
        decoding.settle(FREE_BYTES);
        assert_eq!(decoding.bytes_max(), FREE_BYTES);
    }
}
