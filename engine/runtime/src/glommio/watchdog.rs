//! Wakes every shard now and then, and notices shards that no longer run.
//!
//! Guard: a glommio executor takes "was preempted before anything ran" for "is idle" and parks with runnable tasks; the
//! cross-thread wake-up of another executor may be lost as well. Nothing on the shard itself can help, for it would be
//! just another task that is not run. So a thread of its own wakes one task per shard every [`TICK`], which ends any
//! such sleep; and since the task writes down when it ran, the thread also sees which shards are stuck.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
#[expect(
    clippy::disallowed_types,
    reason = "the watchdog is a thread of its own; a shard locks it once, at its start"
)]
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::Duration;

use super::clock::now;
use super::panics::abort_on_panic_of_this_thread;
use crate::Moment;

/// The watchdog of all shards.
pub(super) struct Watchdog {
    pulses: Arc<[Arc<Pulse>]>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watchdog {
    /// Watches the shards whose pulses these are, in the order of their indexes.
    pub(super) fn start(thread_name: String, pulses: Vec<Arc<Pulse>>) -> io::Result<Self> {
        let pulses: Arc<[Arc<Pulse>]> = pulses.into();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name(thread_name).spawn({
            let (pulses, stop) = (Arc::clone(&pulses), Arc::clone(&stop));
            move || {
                abort_on_panic_of_this_thread();
                while !stop.load(Ordering::Acquire) {
                    std::thread::park_timeout(TICK);
                    for (shard_index, pulse) in pulses.iter().enumerate() {
                        pulse.wake();
                        pulse.report(shard_index);
                    }
                }
            }
        })?;
        Ok(Self { pulses, stop, thread })
    }

    /// Indexes of the shards that have not run for [`STALL_MIN`].
    pub(super) fn stalled_shards(&self) -> Vec<u16> {
        let stalled = |(index, pulse): (u16, &Arc<Pulse>)| pulse.stalled_for().map(|_| index);
        (0..).zip(self.pulses.iter()).filter_map(stalled).collect()
    }

    pub(super) fn stop(self) {
        self.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        self.thread.join().expect("a panic of the watchdog aborts the process");
    }
}

/// A shard's sign of life.
pub(super) struct Pulse {
    last_seen_nanos: AtomicU64,
    /// Wakes sent since the shard last ran.
    wakes_unanswered: AtomicU32,
    is_reported: AtomicBool,
    /// Wakes the task that [`Pulse::beat`] started; `None` before the shard has begun and after it has ended.
    #[expect(clippy::disallowed_types, reason = "see the import")]
    waker: Mutex<Option<Waker>>,
}

impl Pulse {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            last_seen_nanos: AtomicU64::new(now().as_nanos()),
            wakes_unanswered: AtomicU32::new(0),
            is_reported: AtomicBool::new(false),
            waker: Mutex::new(None),
        })
    }

    /// Starts the task to wake. Called on the shard.
    pub(super) fn beat(self: &Arc<Self>) {
        let pulse = Arc::clone(self);
        let mut is_known = false;
        let beat = poll_fn(move |context| {
            pulse.last_seen_nanos.store(now().as_nanos(), Ordering::Relaxed);
            pulse.wakes_unanswered.store(0, Ordering::Relaxed);
            if !is_known {
                pulse.set_waker(Some(context.waker().clone()));
                is_known = true;
            }
            Poll::<()>::Pending
        });
        ::glommio::spawn_local(beat).detach();
    }

    /// Says that the shard ends on purpose. Called on the shard.
    pub(super) fn end(&self) {
        self.set_waker(None);
    }

    /// Ends the shard's sleep, if it sleeps.
    fn wake(&self) {
        // A wake that the shard does not take keeps a clone of the waker, and the 32,768th clone panics.
        if self.wakes_unanswered.load(Ordering::Relaxed) >= WAKES_UNANSWERED_MAX {
            return;
        }
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waker) = &*waker {
            self.wakes_unanswered.fetch_add(1, Ordering::Relaxed);
            waker.wake_by_ref();
        }
    }

    /// Logs once that the shard has stalled, and once that it runs again.
    fn report(&self, shard_index: usize) {
        let stalled_for = self.stalled_for();
        if self.is_reported.swap(stalled_for.is_some(), Ordering::Relaxed) == stalled_for.is_some() {
            return;
        }
        match stalled_for {
            Some(duration) => tracing::warn!(shard_index, stalled_ms = duration.as_millis(), "shard does not run"),
            None => tracing::warn!(shard_index, "shard runs again"),
        }
    }

    /// How long the shard has not run, if that is too long.
    fn stalled_for(&self) -> Option<Duration> {
        let is_beating = self.waker.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        let last_seen = Moment::from_nanos(self.last_seen_nanos.load(Ordering::Relaxed));
        let elapsed = now().saturating_since(last_seen);
        (is_beating && elapsed >= STALL_MIN).then_some(elapsed)
    }

    fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = waker;
    }
}

/// How often shards are woken: the longest that a lost wake-up can delay a task.
const TICK: Duration = Duration::from_millis(10);

/// A shard that has not run for this long is stalled.
const STALL_MIN: Duration = Duration::from_secs(1);

const WAKES_UNANSWERED_MAX: u32 = 10_000;
