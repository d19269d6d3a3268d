//! Spawning and yielding. Work classes are recorded for messages only: the order of tasks is the seed's.

use std::future::{pending, poll_fn};
use std::rc::Rc;
use std::task::Poll;

use super::env::Place;
use crate::local::{OneshotReceiver, oneshot};
use crate::{TaskClass, TaskHandle, Tasks};

/// The tasks of one shard.
#[derive(Clone)]
pub struct SimTasks {
    place: Rc<Place>,
}

impl SimTasks {
    pub(super) fn new(place: &Rc<Place>) -> Self {
        Self { place: Rc::clone(place) }
    }
}

impl Tasks for SimTasks {
    type Handle<T: 'static> = SimTaskHandle<T>;

    /// On a machine that has crashed since this handle was made the future is dropped unpolled.
    fn spawn<T: 'static>(&self, class: TaskClass, future: impl Future<Output = T> + 'static) -> SimTaskHandle<T> {
        let (sender, receiver) = oneshot();
        if self.place.is_alive() {
            self.place.core.spawn(self.place.owner, self.place.shard_index, class, async move {
                sender.send(future.await);
            });
        }
        SimTaskHandle { result: receiver }
    }

    async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            self.place.core.wake_after_others(self.place.owner, self.place.shard_index, context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Runs the work after a while of virtual time, in which other tasks run. It takes no time itself.
    async fn offload<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = oneshot();
        if self.place.is_alive() {
            let delay_ns = self.place.core.offload_delay_ns();
            self.place.core.call_after(delay_ns, Some(self.place.owner), move || sender.send(work()));
        }
        SimTaskHandle { result: receiver }.join().await
    }
}

/// A spawned task.
pub struct SimTaskHandle<T> {
    result: OneshotReceiver<T>,
}

impl<T: 'static> TaskHandle<T> for SimTaskHandle<T> {
    /// Never completes when the task was lost in a crash.
    async fn join(self) -> T {
        match self.result.await {
            Some(value) => value,
            None => pending().await,
        }
    }
}
