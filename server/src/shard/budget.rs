//! Bytes of one class of memory on one shard, reserved first in, first out.
//!
//! [`Ledger`] is the pure core: it decides who holds what. [`Budget`] adds waiting: [`Budget::enqueue`] takes a place in
//! line at once, the returned [`Turn`] completes when the bytes are there, and the [`Reservation`] gives them back when
//! it is dropped. A budget of 1 of which everybody takes 1 is a fair lock.
//!
//! Invariants: `used <= capacity`; nobody overtakes: a small request behind a large one waits with it, or the large one
//! would starve.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use thiserror::Error;

/// A budget shared by all who reserve from it. Clones are the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Rc<RefCell<Shared>>,
}

#[derive(Debug)]
struct Shared {
    ledger: Ledger,
    /// Those in line who were polled.
    wakers: BTreeMap<Ticket, Waker>,
}

impl Budget {
    /// A budget of `capacity_bytes`, all of it free.
    pub fn new(capacity_bytes: usize) -> Self {
        let shared = Shared { ledger: Ledger::new(capacity_bytes), wakers: BTreeMap::new() };
        Self { shared: Rc::new(RefCell::new(shared)) }
    }

    /// Takes a place in line for `bytes`. The place is taken now, not when the turn is first polled.
    pub fn enqueue(&self, bytes: usize) -> Result<Turn, ExceedsBudget> {
        let (ticket, placement) = self.shared.borrow_mut().ledger.enqueue(bytes)?;
        let granted = match placement {
            Placement::Granted => Some(Reservation { budget: self.clone(), bytes }),
            Placement::Waiting => None,
        };
        Ok(Turn { budget: self.clone(), bytes, ticket, granted, is_done: false })
    }

    /// Takes `bytes` if they are free and nobody is in line.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        let is_taken = self.shared.borrow_mut().ledger.try_take(bytes);
        is_taken.then(|| Reservation { budget: self.clone(), bytes })
    }

    /// Bytes the budget has in all.
    pub fn capacity_bytes(&self) -> usize {
        self.shared.borrow().ledger.capacity_bytes
    }

    /// Whether anybody waits for bytes.
    pub fn is_contended(&self) -> bool {
        !self.shared.borrow().ledger.queue.is_empty()
    }

    /// Bytes that are reserved now.
    pub fn used_bytes(&self) -> usize {
        self.shared.borrow().ledger.used_bytes
    }

    /// How many wait in line.
    pub fn waiting_count(&self) -> usize {
        self.shared.borrow().ledger.queue.len()
    }

    fn release(&self, bytes: usize) {
        self.shared.borrow_mut().ledger.release(bytes);
        self.wake_granted();
    }

    /// Wakes those whose bytes have come free. A waker may run code that reserves, so none runs under a borrow.
    fn wake_granted(&self) {
        let mut wakers = Vec::new();
        {
            let shared = &mut *self.shared.borrow_mut();
            for ticket in shared.ledger.grant() {
                wakers.extend(shared.wakers.remove(&ticket));
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

/// A place in line: a future of the reservation. Dropping it leaves the line.
#[derive(Debug)]
pub struct Turn {
    budget: Budget,
    bytes: usize,
    ticket: Ticket,
    granted: Option<Reservation>,
    is_done: bool,
}

impl Future for Turn {
    type Output = Reservation;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reservation> {
        assert!(!self.is_done, "a turn completes once");
        if let Some(reservation) = self.granted.take() {
            self.is_done = true;
            return Poll::Ready(reservation);
        }
        let is_granted = {
            let shared = &mut *self.budget.shared.borrow_mut();
            let is_granted = shared.ledger.claim(self.ticket);
            if !is_granted {
                shared.wakers.insert(self.ticket, context.waker().clone());
            }
            is_granted
        };
        if !is_granted {
            return Poll::Pending;
        }
        self.is_done = true;
        Poll::Ready(Reservation { budget: self.budget.clone(), bytes: self.bytes })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A reservation that was granted at once gives itself back.
        if self.is_done || self.granted.is_some() {
            return;
        }
        {
            let shared = &mut *self.budget.shared.borrow_mut();
            shared.wakers.remove(&self.ticket);
            shared.ledger.cancel(self.ticket, self.bytes);
        }
        self.budget.wake_granted();
    }
}

/// Bytes held; given back on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    bytes: usize,
}

impl Reservation {
    /// How many bytes are held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Parts with `bytes`, which are given back on their own.
    #[must_use = "what is not kept is given back at once"]
    pub fn split_off(&mut self, bytes: usize) -> Self {
        self.bytes = self.bytes.checked_sub(bytes).expect("no more is split off than is held");
        Self { budget: self.budget.clone(), bytes }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// More than the whole budget was asked for; waiting would never end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{bytes} bytes exceed the whole budget of {capacity_bytes}")]
pub struct ExceedsBudget {
    /// Bytes asked for.
    pub bytes: usize,
    /// Bytes there are.
    pub capacity_bytes: usize,
}

/// Who holds how much and who is next. Pure.
#[derive(Debug)]
struct Ledger {
    capacity_bytes: usize,
    /// Invariant: at most `capacity_bytes`. Counts what is granted, claimed or not.
    used_bytes: usize,
    queue: VecDeque<(Ticket, usize)>,
    /// Granted while waiting, not yet claimed.
    granted: Vec<Ticket>,
    ticket_next: u64,
}

/// A place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket(u64);

#[derive(Debug, PartialEq, Eq)]
enum Placement {
    Granted,
    Waiting,
}

impl Ledger {
    fn new(capacity_bytes: usize) -> Self {
        Self { capacity_bytes, used_bytes: 0, queue: VecDeque::new(), granted: Vec::new(), ticket_next: 0 }
    }

    fn enqueue(&mut self, bytes: usize) -> Result<(Ticket, Placement), ExceedsBudget> {
        if bytes > self.capacity_bytes {
            return Err(ExceedsBudget { bytes, capacity_bytes: self.capacity_bytes });
        }
        let ticket = Ticket(self.ticket_next);
        self.ticket_next += 1;
        if self.try_take(bytes) {
            return Ok((ticket, Placement::Granted));
        }
        self.queue.push_back((ticket, bytes));
        Ok((ticket, Placement::Waiting))
    }

    fn try_take(&mut self, bytes: usize) -> bool {
        let fits = self.queue.is_empty() && bytes <= self.capacity_bytes - self.used_bytes;
        if fits {
            self.used_bytes += bytes;
        }
        fits
    }

    fn release(&mut self, bytes: usize) {
        self.used_bytes = self.used_bytes.checked_sub(bytes).expect("no more is released than was reserved");
    }

    /// Grants to as many at the head of the line as fit, and names them.
    fn grant(&mut self) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while let Some(&(ticket, bytes)) = self.queue.front() {
            if bytes > self.capacity_bytes - self.used_bytes {
                break;
            }
            self.used_bytes += bytes;
            self.queue.pop_front();
            self.granted.push(ticket);
            tickets.push(ticket);
        }
        tickets
    }

    /// Whether the ticket was granted; if so it is used up.
    fn claim(&mut self, ticket: Ticket) -> bool {
        let position = self.granted.iter().position(|granted| *granted == ticket);
        position.map(|position| self.granted.swap_remove(position)).is_some()
    }

    /// Gives a place up, granted or not. The caller grants to those behind it.
    fn cancel(&mut self, ticket: Ticket, bytes: usize) {
        if self.claim(ticket) {
            self.release(bytes);
        } else {
            self.queue.retain(|(waiting, _)| *waiting != ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
        Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_split_off_comes_back_on_its_own() {
        let budget = Budget::new(10);
        let mut whole = budget.try_reserve(7).unwrap();
        let part = whole.split_off(3);
        assert_eq!((whole.bytes(), part.bytes(), budget.used_bytes()), (4, 3, 7));
        drop(whole);
        assert_eq!(budget.used_bytes(), 3);
        drop(part);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn bytes_come_back_on_drop() {
        let budget = Budget::new(10);
        let held = budget.try_reserve(7).unwrap();
        assert_eq!((held.bytes(), budget.used_bytes()), (7, 7));
        assert!(budget.try_reserve(4).is_none());
        drop(held);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn nobody_overtakes() {
        let budget = Budget::new(10);
        let held = budget.try_reserve(7).unwrap();
        let mut large = budget.enqueue(8).unwrap();
        let mut small = budget.enqueue(1).unwrap();
        assert!(budget.try_reserve(1).is_none(), "the line is not jumped");
        assert_eq!(budget.waiting_count(), 2);
        assert!(poll_once(&mut large).is_pending());
        assert!(poll_once(&mut small).is_pending());
        drop(held);
        // Polled in the other order, served in the order of arrival.
        let Poll::Ready(small) = poll_once(&mut small) else { panic!("both fit") };
        let Poll::Ready(large) = poll_once(&mut large) else { panic!("both fit") };
        assert_eq!(budget.used_bytes(), 9);
        drop((small, large));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn the_place_is_taken_before_the_first_poll() {
        let lock = Budget::new(1);
        let held = lock.try_reserve(1).unwrap();
        let mut first = lock.enqueue(1).unwrap();
        let mut second = lock.enqueue(1).unwrap();
        assert!(poll_once(&mut second).is_pending());
        drop(held);
        assert!(poll_once(&mut second).is_pending(), "the first has it, although it was never polled");
        assert!(poll_once(&mut first).is_ready());
        assert!(poll_once(&mut second).is_ready());
    }

    #[test]
    fn leaving_the_line_lets_those_behind_through() {
        let budget = Budget::new(10);
        let held = budget.try_reserve(5).unwrap();
        let large = budget.enqueue(8).unwrap();
        let mut small = budget.enqueue(5).unwrap();
        assert!(poll_once(&mut small).is_pending());
        drop(large);
        assert!(poll_once(&mut small).is_ready());
        drop(held);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_turn_dropped_after_its_grant_gives_the_bytes_back() {
        let budget = Budget::new(10);
        let held = budget.try_reserve(10).unwrap();
        let granted_unseen = budget.enqueue(10).unwrap();
        drop(held);
        assert_eq!(budget.used_bytes(), 10);
        drop(granted_unseen);
        assert_eq!(budget.used_bytes(), 0);
        drop(budget.enqueue(10).unwrap());
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn more_than_everything_is_refused() {
        let refusal = Budget::new(10).enqueue(11).unwrap_err();
        assert_eq!(refusal, ExceedsBudget { bytes: 11, capacity_bytes: 10 });
    }
}
