//! Virtual time. It passes a little with every step of the executor and jumps to the next event when nothing is runnable.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::env::Place;
use super::events::EventKey;
use super::executor::Core;
use crate::{Clock, Moment};

/// The clock of one shard. The monotonic clock is the world's; wall time can be moved per machine
/// ([`super::Machine::jump_wall_clock`]).
#[derive(Clone)]
pub struct SimClock {
    place: Rc<Place>,
}

impl SimClock {
    pub(super) fn new(place: &Rc<Place>) -> Self {
        Self { place: Rc::clone(place) }
    }
}

impl Clock for SimClock {
    fn now(&self) -> Moment {
        Moment::from_nanos(self.place.core.now_ns())
    }

    fn unix_ms(&self) -> i64 {
        let elapsed_ms = i64::try_from(self.place.core.now_ns() / 1_000_000).expect("292 years of virtual time");
        self.place.core.config.unix_start_ms + elapsed_ms + self.place.machine.wall_offset_ms.get()
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        Sleep::new(&self.place.core, duration)
    }
}

/// A timer. It waits at least once, even for no time at all, so that a loop over it cannot stop the world.
pub(super) struct Sleep {
    core: Rc<Core>,
    deadline_ns: u64,
    armed: Option<EventKey>,
}

impl Sleep {
    pub(super) fn new(core: &Rc<Core>, duration: Duration) -> Self {
        let deadline = Moment::from_nanos(core.now_ns()) + duration;
        Self { core: Rc::clone(core), deadline_ns: deadline.as_nanos(), armed: None }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match self.armed {
            None => {
                self.armed = Some(self.core.wake_at(self.deadline_ns, context.waker().clone()));
                Poll::Pending
            }
            Some(key) if self.core.rearm(key, context.waker()) => Poll::Pending,
            Some(_) => Poll::Ready(()),
        }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.armed {
            self.core.cancel(key);
        }
    }
}
