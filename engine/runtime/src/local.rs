//! Channels within one shard. They need only wakers, so they are the same on every executor and not part of the seam.
//!
//! [`Event`] wakes all who wait; [`oneshot`] carries one value. Neither is `Send`.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Wakes every task that waits at the time of [`Event::notify`].
///
/// Use: read [`Event::version`], check the condition, then await [`Event::changed`] with that version; a notification
/// between the two is not lost.
#[derive(Debug, Default)]
pub struct Event {
    version: Cell<u64>,
    /// By the number of the wait, so that they are woken in the order in which they came.
    waiters: RefCell<BTreeMap<u64, Waker>>,
    number_next: Cell<u64>,
}

impl Event {
    /// How often the event was notified so far.
    pub fn version(&self) -> u64 {
        self.version.get()
    }

    /// Wakes every waiter.
    pub fn notify(&self) {
        self.version.set(self.version.get() + 1);
        // Taken out first: a waker may run code that waits again.
        let waiters = std::mem::take(&mut *self.waiters.borrow_mut());
        for waiter in waiters.into_values() {
            waiter.wake();
        }
    }

    /// Completes once the event was notified after `version` was read.
    pub fn changed(&self, version: u64) -> Changed<'_> {
        Changed { event: self, version, number: None }
    }
}

/// The wait of [`Event::changed`]. Dropped early it leaves nothing behind: an event that is hardly ever notified would
/// otherwise gather every task that ever waited for it beside something else.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Changed<'a> {
    event: &'a Event,
    version: u64,
    /// Its place among the waiters, once it was polled.
    number: Option<u64>,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.event.version.get() != self.version {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            let number = self.event.number_next.get();
            self.event.number_next.set(number + 1);
            number
        });
        self.number = Some(number);
        let waker = context.waker();
        let mut waiters = self.event.waiters.borrow_mut();
        if !waiters.get(&number).is_some_and(|waiter| waiter.will_wake(waker)) {
            let replaced = waiters.insert(number, waker.clone());
            drop(waiters);
            // Outside the borrow, as in `drop`.
            drop(replaced);
        }
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            // Dropped outside the borrow: the last waker of a task may drop the task, and with it other waits.
            let waiter = self.event.waiters.borrow_mut().remove(&number);
            drop(waiter);
        }
    }
}

/// Makes a channel for one value.
pub fn oneshot<T>() -> (OneshotSender<T>, OneshotReceiver<T>) {
    let slot = Rc::new(Slot { value: RefCell::new(None), sender_alive: Cell::new(true), waiter: RefCell::new(None) });
    (OneshotSender { slot: Rc::clone(&slot) }, OneshotReceiver { slot })
}

struct Slot<T> {
    value: RefCell<Option<T>>,
    sender_alive: Cell<bool>,
    waiter: RefCell<Option<Waker>>,
}

/// The sending half of [`oneshot`].
pub struct OneshotSender<T> {
    slot: Rc<Slot<T>>,
}

impl<T> OneshotSender<T> {
    /// Delivers the value; it is dropped if nobody waits any more.
    pub fn send(self, value: T) {
        *self.slot.value.borrow_mut() = Some(value);
        // Dropping `self` wakes the receiver.
    }

    /// Whether the receiver is still there.
    pub fn is_wanted(&self) -> bool {
        Rc::strong_count(&self.slot) > 1
    }
}

impl<T> Drop for OneshotSender<T> {
    fn drop(&mut self) {
        self.slot.sender_alive.set(false);
        if let Some(waiter) = self.slot.waiter.take() {
            waiter.wake();
        }
    }
}

/// The receiving half of [`oneshot`]: a future of the value, or of `None` when the sender went without sending.
pub struct OneshotReceiver<T> {
    slot: Rc<Slot<T>>,
}

impl<T> Future for OneshotReceiver<T> {
    type Output = Option<T>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.slot.value.take() {
            return Poll::Ready(Some(value));
        }
        if !self.slot.sender_alive.get() {
            return Poll::Ready(None);
        }
        *self.slot.waiter.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Wake;

    fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        struct Quiet;
        impl Wake for Quiet {
            fn wake(self: std::sync::Arc<Self>) {}
        }
        future.poll(&mut Context::from_waker(&Waker::from(std::sync::Arc::new(Quiet))))
    }

    #[test]
    fn oneshot_delivers_and_reports_a_lost_sender() {
        let (sender, receiver) = oneshot();
        let mut receiver = Box::pin(receiver);
        assert!(poll_once(receiver.as_mut()).is_pending());
        sender.send(7);
        assert_eq!(poll_once(receiver.as_mut()), Poll::Ready(Some(7)));

        let (sender, receiver) = oneshot::<u8>();
        drop(sender);
        assert_eq!(poll_once(Box::pin(receiver).as_mut()), Poll::Ready(None));
    }

    #[test]
    fn a_wait_that_is_given_up_leaves_nothing_behind() {
        let event = Event::default();
        for _ in 0..3 {
            let mut wait = Box::pin(event.changed(0));
            assert!(poll_once(wait.as_mut()).is_pending());
            assert!(poll_once(wait.as_mut()).is_pending());
            assert_eq!(event.waiters.borrow().len(), 1);
        }
        assert!(event.waiters.borrow().is_empty());
        let mut wait = Box::pin(event.changed(0));
        assert!(poll_once(wait.as_mut()).is_pending());
        event.notify();
        assert!(poll_once(wait.as_mut()).is_ready());
    }

    #[test]
    fn event_keeps_a_notification_between_check_and_wait() {
        let event = Event::default();
        let seen = event.version();
        event.notify();
        assert!(poll_once(Box::pin(event.changed(seen)).as_mut()).is_ready());
        assert!(poll_once(Box::pin(event.changed(event.version())).as_mut()).is_pending());
    }
}
