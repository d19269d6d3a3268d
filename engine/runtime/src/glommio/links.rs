//! Links between shards: a bounded queue without locks, and the wakers of whoever waits at its ends.
//!
//! glommio's own shared channel is not used: it wakes the sending shard for every message that is taken out, whether anybody
//! there waits for room or not, and a wake-up costs a parked shard a dozen system calls. Here a message wakes the receiver
//! if it waits, and room wakes the sender if that waits.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam_queue::ArrayQueue;

use crate::links::{ConnectedReceiver, ConnectedSender, LinkReceiver, LinkSender};

/// Makes the two ends of a link for up to `capacity` messages.
pub(super) fn link<T: Send + 'static>(capacity: usize) -> (GlommioSender<T>, GlommioReceiver<T>) {
    assert!(capacity > 0, "a link holds at least one message");
    let link =
        Arc::new(Link { messages: ArrayQueue::new(capacity), receiver: Side::default(), sender: Side::default() });
    (GlommioSender { link: Arc::clone(&link) }, GlommioReceiver { link })
}

struct Link<T> {
    messages: ArrayQueue<T>,
    /// Woken by messages, and by the end of the sender.
    receiver: Side,
    /// Woken by room, and by the end of the receiver.
    sender: Side,
}

/// One end, as the other sees it.
#[derive(Default)]
struct Side {
    waiter: AtomicWaker,
    is_gone: AtomicBool,
}

impl Side {
    fn is_gone(&self) -> bool {
        self.is_gone.load(Ordering::Acquire)
    }

    /// Polls `attempt`, and once more with the waker in place: what came in between would wake nobody.
    fn poll<R>(&self, context: &Context<'_>, mut attempt: impl FnMut() -> Poll<R>) -> Poll<R> {
        let first = attempt();
        if first.is_ready() {
            return first;
        }
        self.waiter.register(context.waker());
        attempt()
    }

    /// This end is gone: `other` need not wait for it. The own waker must not outlive its shard in the other's hands.
    fn leave(&self, other: &Self) {
        self.is_gone.store(true, Ordering::Release);
        drop(self.waiter.take());
        other.waiter.wake();
    }
}

/// The sending end of a link.
pub struct GlommioSender<T: Send + 'static> {
    link: Arc<Link<T>>,
}

impl<T: Send + 'static> LinkSender<T> for GlommioSender<T> {
    type Connected = Self;

    async fn connect(self) -> Self {
        self
    }
}

impl<T: Send + 'static> ConnectedSender<T> for GlommioSender<T> {
    fn try_send(&self, message: T) -> Result<(), T> {
        if self.link.receiver.is_gone() {
            return Err(message);
        }
        self.link.messages.push(message)?;
        self.link.receiver.waiter.wake();
        Ok(())
    }

    async fn send(&self, message: T) -> Result<(), T> {
        let mut unsent = Some(message);
        poll_fn(|context| {
            self.link.sender.poll(context, || {
                let message = unsent.take().expect("it is put back unless this is the end");
                match self.try_send(message) {
                    Ok(()) => Poll::Ready(Ok(())),
                    Err(message) if self.link.receiver.is_gone() => Poll::Ready(Err(message)),
                    Err(message) => {
                        unsent = Some(message);
                        Poll::Pending
                    }
                }
            })
        })
        .await
    }
}

impl<T: Send + 'static> Drop for GlommioSender<T> {
    fn drop(&mut self) {
        self.link.sender.leave(&self.link.receiver);
    }
}

/// The receiving end of a link. One task receives at a time.
pub struct GlommioReceiver<T: Send + 'static> {
    link: Arc<Link<T>>,
}

impl<T: Send + 'static> LinkReceiver<T> for GlommioReceiver<T> {
    type Connected = Self;

    async fn connect(self) -> Self {
        self
    }
}

impl<T: Send + 'static> ConnectedReceiver<T> for GlommioReceiver<T> {
    async fn receive(&self) -> Option<T> {
        poll_fn(|context| {
            self.link.receiver.poll(context, || {
                // Asked before the queue is: what was sent before the end is received.
                let is_last = self.link.sender.is_gone();
                match self.link.messages.pop() {
                    Some(message) => {
                        self.link.sender.waiter.wake();
                        Poll::Ready(Some(message))
                    }
                    None if is_last => Poll::Ready(None),
                    None => Poll::Pending,
                }
            })
        })
        .await
    }
}

impl<T: Send + 'static> Drop for GlommioReceiver<T> {
    fn drop(&mut self) {
        self.link.receiver.leave(&self.link.sender);
    }
}
