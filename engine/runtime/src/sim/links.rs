//! Links between shards: first in first out, bounded, each message arriving after a random delay.
//!
//! Ends are made outside any world ([`crate::Env::link`] is a static function) and learn theirs when they are connected.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::executor::{Core, current_core};
use super::shared::Shared;
use crate::links::{ConnectedReceiver, ConnectedSender};
use crate::{LinkReceiver, LinkSender};

pub(super) fn link<T: Send + 'static>(capacity: usize) -> (SimSender<T>, SimReceiver<T>) {
    assert!(capacity > 0, "a link holds at least one message");
    let state = Shared::new(State {
        capacity,
        messages: VecDeque::new(),
        arrived_count: 0,
        last_arrival_ns: 0,
        sender: Side::Unbound,
        receiver: Side::Unbound,
        waiters: Vec::new(),
    });
    let sender = SimSender { end: End { state: state.clone(), is_sender: true } };
    (sender, SimReceiver { end: End { state, is_sender: false } })
}

struct State<T> {
    capacity: usize,
    messages: VecDeque<T>,
    /// How many of the first messages have arrived.
    arrived_count: usize,
    last_arrival_ns: u64,
    sender: Side,
    receiver: Side,
    /// Whoever waits for the other end, for room or for a message. Both ends look again at every change.
    waiters: Vec<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Unbound,
    Bound,
    Gone,
}

/// One end of a link; its drop tells the other.
struct End<T> {
    state: Shared<State<T>>,
    is_sender: bool,
}

impl<T> End<T> {
    /// Binds this end and waits for the other.
    async fn bind(&self) {
        self.set_side(Side::Bound);
        poll_fn(|context| {
            self.state.with(|state| {
                let other = if self.is_sender { state.receiver } else { state.sender };
                if other == Side::Unbound { state.wait(context) } else { Poll::Ready(()) }
            })
        })
        .await;
    }

    fn set_side(&self, side: Side) {
        let waiters = self.state.with(|state| {
            if self.is_sender {
                state.sender = side;
            } else {
                state.receiver = side;
            }
            std::mem::take(&mut state.waiters)
        });
        waiters.into_iter().for_each(Waker::wake);
    }
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.set_side(Side::Gone);
    }
}

impl<T> State<T> {
    fn wait<R>(&mut self, context: &Context<'_>) -> Poll<R> {
        if !self.waiters.iter().any(|waiter| waiter.will_wake(context.waker())) {
            self.waiters.push(context.waker().clone());
        }
        Poll::Pending
    }
}

/// The sending end, not yet connected.
pub struct SimSender<T> {
    end: End<T>,
}

/// The receiving end, not yet connected.
pub struct SimReceiver<T> {
    end: End<T>,
}

impl<T: Send + 'static> LinkSender<T> for SimSender<T> {
    type Connected = ConnectedSimSender<T>;

    async fn connect(self) -> ConnectedSimSender<T> {
        let core = current_core();
        self.end.bind().await;
        ConnectedSimSender { core, end: self.end }
    }
}

impl<T: Send + 'static> LinkReceiver<T> for SimReceiver<T> {
    type Connected = ConnectedSimReceiver<T>;

    async fn connect(self) -> ConnectedSimReceiver<T> {
        self.end.bind().await;
        ConnectedSimReceiver { end: self.end }
    }
}

/// The sending end on its shard.
pub struct ConnectedSimSender<T> {
    core: Rc<Core>,
    end: End<T>,
}

/// The receiving end on its shard.
pub struct ConnectedSimReceiver<T> {
    end: End<T>,
}

/// Why a message was not taken.
enum Refusal<T> {
    Full(T),
    Gone(T),
}

impl<T: Send + 'static> ConnectedSimSender<T> {
    fn offer(&self, message: T) -> Result<(), Refusal<T>> {
        let delay_ns = self.core.link_random.delay(&self.core.config.link_delay_ns);
        let arrival_ns = self.end.state.with(|state| {
            if state.receiver == Side::Gone {
                return Err(Refusal::Gone(message));
            }
            if state.messages.len() >= state.capacity {
                return Err(Refusal::Full(message));
            }
            state.messages.push_back(message);
            state.last_arrival_ns = state.last_arrival_ns.max(self.core.now_ns() + delay_ns);
            Ok(state.last_arrival_ns)
        })?;
        let state = self.end.state.clone();
        let owner = self.core.current_owner();
        self.core.call_after(arrival_ns - self.core.now_ns(), owner, move || {
            let waiters = state.with(|state| {
                state.arrived_count += 1;
                std::mem::take(&mut state.waiters)
            });
            waiters.into_iter().for_each(Waker::wake);
        });
        Ok(())
    }
}

impl<T: Send + 'static> ConnectedSender<T> for ConnectedSimSender<T> {
    fn try_send(&self, message: T) -> Result<(), T> {
        self.offer(message).map_err(|(Refusal::Full(message) | Refusal::Gone(message))| message)
    }

    async fn send(&self, message: T) -> Result<(), T> {
        let mut message = message;
        loop {
            match self.offer(message) {
                Ok(()) => return Ok(()),
                Err(Refusal::Gone(returned)) => return Err(returned),
                Err(Refusal::Full(returned)) => message = returned,
            }
            poll_fn(|context| {
                self.end.state.with(|state| {
                    let full = state.messages.len() >= state.capacity && state.receiver != Side::Gone;
                    if full { state.wait(context) } else { Poll::Ready(()) }
                })
            })
            .await;
        }
    }
}

impl<T: Send + 'static> ConnectedReceiver<T> for ConnectedSimReceiver<T> {
    async fn receive(&self) -> Option<T> {
        poll_fn(|context| {
            let (outcome, waiters) = self.end.state.with(|state| {
                if state.arrived_count > 0 {
                    state.arrived_count -= 1;
                    return (Poll::Ready(state.messages.pop_front()), std::mem::take(&mut state.waiters));
                }
                if state.messages.is_empty() && state.sender == Side::Gone {
                    return (Poll::Ready(None), Vec::new());
                }
                (state.wait(context), Vec::new())
            });
            waiters.into_iter().for_each(Waker::wake);
            outcome
        })
        .await
    }
}
