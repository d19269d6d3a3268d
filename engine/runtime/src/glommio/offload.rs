//! Work that would hold a shard up, on threads beside the shards.
//!
//! The threads belong to all shards of a [`super::executor::Shards`]. They are started with them, from a thread that is
//! not tied to a core, so that they are not tied either, and they yield to the shards by their nice value. A shard hands
//! in [`IN_FLIGHT_MAX`] closures at a time; further ones wait on the shard.
//!
//! Guards:
//! - glommio's own blocking thread is one per shard, serves the disk, and is gone after the first panic. It is not used:
//!   a window that is compacted would hold up every flush behind it. A panic here aborts the process, as on a shard.
//! - A waker of glommio that is dropped on a foreign thread queues itself once more to an executor that may be gone by
//!   then. The worker only wakes by reference, under the lock of the slot; the shard takes the waker back out and drops
//!   it. [`super::operations`] keeps the executor alive until the closure has returned.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
#[expect(
    clippy::disallowed_types,
    reason = "shards and workers meet here; nobody holds a lock while anything runs"
)]
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::JoinHandle;

use super::operations::Operations;
use super::panics::abort_on_panic_of_this_thread;
use crate::local::Event;

/// The threads.
pub(super) struct Workers {
    jobs: JobSender,
    threads: Vec<JoinHandle<()>>,
}

/// How shards reach the threads. `None` ends one of them.
pub(super) type JobSender = mpsc::Sender<Option<Job>>;

type Job = Box<dyn FnOnce() + Send>;

impl Workers {
    /// Starts `thread_count` threads, which is at least one.
    #[expect(clippy::disallowed_types, reason = "see the import; only a thread without work waits in the lock")]
    pub(super) fn start(name_prefix: &str, thread_count: usize) -> io::Result<Self> {
        assert!(thread_count > 0, "work needs a thread");
        let (jobs, queue) = mpsc::channel::<Option<Job>>();
        let queue = Arc::new(Mutex::new(queue));
        let mut threads = Vec::new();
        for index in 0..thread_count {
            let queue = Arc::clone(&queue);
            let name = format!("{name_prefix}-worker-{index}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || {
                abort_on_panic_of_this_thread();
                yield_to_the_shards();
                loop {
                    // One thread waits for the next job in the lock, the others wait for the lock.
                    let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(Some(job)) = job else { return };
                    job();
                }
            })?);
        }
        Ok(Self { jobs, threads })
    }

    /// What a shard needs to hand in work.
    pub(super) fn sender(&self) -> JobSender {
        self.jobs.clone()
    }

    /// Ends the threads. The shards have ended, and with them all work.
    pub(super) fn join(self) {
        for _ in &self.threads {
            self.jobs.send(None).expect("the threads end here and nowhere else");
        }
        for thread in self.threads {
            thread.join().expect("a panic of a worker aborts the process");
        }
    }
}

/// A shard's way to the threads.
#[derive(Clone)]
pub(super) struct Offload {
    jobs: JobSender,
    operations: Operations,
    in_flight: Rc<InFlight>,
}

#[derive(Default)]
struct InFlight {
    count: Cell<usize>,
    returned: Event,
}

impl Offload {
    pub(super) fn new(jobs: JobSender, operations: Operations) -> Self {
        Self { jobs, operations, in_flight: Rc::default() }
    }

    /// Runs `work` on one of the threads. It runs to its end whether or not somebody waits for it.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (jobs, in_flight) = (self.jobs.clone(), Rc::clone(&self.in_flight));
        self.operations
            .run(async move {
                in_flight.enter().await;
                let slot = Arc::new(Slot::default());
                let worker_slot = Arc::clone(&slot);
                let job = Box::new(move || worker_slot.fill(work()));
                assert!(jobs.send(Some(job)).is_ok(), "the threads end after the shards");
                let output = poll_fn(|context| slot.poll(context)).await;
                in_flight.leave();
                output
            })
            .await
    }
}

impl InFlight {
    async fn enter(&self) {
        loop {
            let version = self.returned.version();
            if self.count.get() < IN_FLIGHT_MAX {
                self.count.set(self.count.get() + 1);
                return;
            }
            self.returned.changed(version).await;
        }
    }

    fn leave(&self) {
        self.count.set(self.count.get() - 1);
        self.returned.notify();
    }
}

/// Where the worker leaves the output and the shard its waker.
#[expect(clippy::disallowed_types, reason = "see the import")]
struct Slot<T>(Mutex<SlotState<T>>);

struct SlotState<T> {
    output: Option<T>,
    waiter: Option<Waker>,
}

impl<T> Default for Slot<T> {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    fn default() -> Self {
        Self(Mutex::new(SlotState { output: None, waiter: None }))
    }
}

impl<T> Slot<T> {
    /// Called on the worker. Leaves the waker where it is: the shard drops it.
    fn fill(&self, output: T) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.output = Some(output);
        if let Some(waiter) = &state.waiter {
            waiter.wake_by_ref();
        }
    }

    /// Called on the shard.
    fn poll(&self, context: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(output) = state.output.take() else {
            if !state.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(context.waker())) {
                state.waiter = Some(context.waker().clone());
            }
            return Poll::Pending;
        };
        let waiter = state.waiter.take();
        drop(state);
        // The worker's end of the slot may be the last one, so nothing of the shard stays in it.
        drop(waiter);
        Poll::Ready(output)
    }
}

/// Lets the shards run first where they share a core with this thread.
fn yield_to_the_shards() {
    // SAFETY: the call takes a number only. On Linux it changes the calling thread, and anyone may be nicer.
    unsafe { libc::nice(WORKER_NICE) };
}

/// Ten more than a shard's nice value gives a thread about a tenth of a core that it shares with a busy shard.
const WORKER_NICE: i32 = 10;

/// Closures that one shard may have handed in and not got back.
const IN_FLIGHT_MAX: usize = 16;
