//! Links between shards, on glommio's shared channels.
//!
//! A round trip costs about 100 us when both shards are parked, 20 us when they spin. Links are made and connected once,
//! at start: an end that waits for its peer to connect keeps its shard busy until then.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
#[expect(clippy::disallowed_types, reason = "a waker must be Sync by its type; only one shard ever locks it")]
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ::glommio::channels::shared_channel::{self, ConnectedReceiver, ConnectedSender, SharedReceiver, SharedSender};
use ::glommio::{GlommioError, ResourceType};

use crate::links::{self, LinkReceiver, LinkSender};

/// Makes the two unconnected ends of a link. Its capacity is `capacity` or the next power of two.
pub(super) fn link<T: Send + 'static>(capacity: usize) -> (GlommioSender<T>, GlommioReceiver<T>) {
    assert!(capacity > 0, "a link holds at least one message");
    let (sender, receiver) = shared_channel::new_bounded(capacity);
    (GlommioSender { sender }, GlommioReceiver { receiver })
}

/// The sending end of a link.
pub struct GlommioSender<T: Send + 'static> {
    sender: SharedSender<T>,
}

impl<T: Send + 'static> LinkSender<T> for GlommioSender<T> {
    type Connected = GlommioConnectedSender<T>;

    async fn connect(self) -> GlommioConnectedSender<T> {
        GlommioConnectedSender { sender: self.sender.connect().await }
    }
}

/// The receiving end of a link.
pub struct GlommioReceiver<T: Send + 'static> {
    receiver: SharedReceiver<T>,
}

impl<T: Send + 'static> LinkReceiver<T> for GlommioReceiver<T> {
    type Connected = GlommioConnectedReceiver<T>;

    async fn connect(self) -> GlommioConnectedReceiver<T> {
        GlommioConnectedReceiver { receiver: self.receiver.connect().await, arrival: Arc::default() }
    }
}

/// A bound sending end.
pub struct GlommioConnectedSender<T: Send + 'static> {
    sender: ConnectedSender<T>,
}

impl<T: Send + 'static> GlommioConnectedSender<T> {
    fn send_or_refuse(&self, message: T) -> Result<(), Refusal<T>> {
        match self.sender.try_send(message) {
            Ok(()) => Ok(()),
            Err(GlommioError::WouldBlock(ResourceType::Channel(message))) => Err(Refusal::Full(message)),
            Err(GlommioError::Closed(ResourceType::Channel(message))) => Err(Refusal::ReceiverGone(message)),
            Err(_) => unreachable!("a channel refuses a message for one of two reasons"),
        }
    }
}

impl<T: Send + 'static> links::ConnectedSender<T> for GlommioConnectedSender<T> {
    fn try_send(&self, message: T) -> Result<(), T> {
        self.send_or_refuse(message).map_err(|refusal| match refusal {
            Refusal::Full(message) | Refusal::ReceiverGone(message) => message,
        })
    }

    /// Guard: glommio's own `send` to a full channel whose receiver has gone never completes and is woken all the time.
    /// A full link is looked at again after a pause instead; links are sized so that this is rare.
    async fn send(&self, message: T) -> Result<(), T> {
        let mut message = message;
        loop {
            match self.send_or_refuse(message) {
                Ok(()) => return Ok(()),
                Err(Refusal::ReceiverGone(message)) => return Err(message),
                Err(Refusal::Full(refused)) => message = refused,
            }
            ::glommio::timer::sleep(FULL_PAUSE).await;
        }
    }
}

enum Refusal<T> {
    Full(T),
    ReceiverGone(T),
}

/// A bound receiving end. One task receives at a time.
pub struct GlommioConnectedReceiver<T: Send + 'static> {
    receiver: ConnectedReceiver<T>,
    arrival: Arc<Arrival>,
}

impl<T: Send + 'static> links::ConnectedReceiver<T> for GlommioConnectedReceiver<T> {
    async fn receive(&self) -> Option<T> {
        poll_fn(|context| {
            if self.arrival.is_awaited.load(Ordering::Relaxed) {
                self.arrival.set_waiter(context.waker());
                return Poll::Pending;
            }
            let waker = Waker::from(Arc::clone(&self.arrival));
            let outcome = pin!(self.receiver.recv()).poll(&mut Context::from_waker(&waker));
            if outcome.is_pending() {
                self.arrival.is_awaited.store(true, Ordering::Relaxed);
                self.arrival.set_waiter(context.waker());
            }
            outcome
        })
        .await
    }
}

/// Guard: glommio's receiver keeps a clone of the waker for every poll that finds nothing, and the 32,768th clone of a
/// task's waker panics; a task that waits for a link and for something busier gets there in minutes. So glommio is
/// given this waker, and asked again only after it was woken.
#[derive(Default)]
struct Arrival {
    /// Whether glommio holds the waker.
    is_awaited: AtomicBool,
    #[expect(clippy::disallowed_types, reason = "see the import")]
    waiter: Mutex<Option<Waker>>,
}

impl Arrival {
    fn set_waiter(&self, waker: &Waker) {
        let mut waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waiter {
            Some(known) => known.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }
}

impl Wake for Arrival {
    fn wake(self: Arc<Self>) {
        self.is_awaited.store(false, Ordering::Relaxed);
        let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// How long a sender waits before it looks at a full link again.
const FULL_PAUSE: Duration = Duration::from_micros(200);
