//! Wakes every shard now and then, and notices shards that no longer run.
//!
//! Guard: a glommio executor takes "was preempted before anything ran" for "is idle" and parks with runnable tasks; the
//! cross-thread wake-up of another executor may be lost as well. Nothing on the shard itself can help, for it would be
//! just another task that is not run. So a thread of its own wakes one task per shard every [`TICK`], which ends any
//! such sleep; and since the task writes down when it ran, the thread also sees which shards are stuck.
//!
//! Before its first task has run there is none to wake. A shard that parks by mistake as early as that is interrupted by a
//! signal; glommio takes one for a reason to look again.
//!
//! A wake costs a parked shard ten system calls. So when no shard has run a task of its own for a while, the next wake
//! comes after [`IDLE_TICK`]: each shard had several full turns and found nothing to run.

use std::future::poll_fn;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
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
        // SAFETY: the action does nothing, which a signal handler may do. Who else listens to the signal still hears it.
        unsafe { signal_hook::low_level::register(INTERRUPTION, || {}) }?;
        let pulses: Arc<[Arc<Pulse>]> = pulses.into();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name(thread_name).spawn({
            let (pulses, stop) = (Arc::clone(&pulses), Arc::clone(&stop));
            move || {
                abort_on_panic_of_this_thread();
                while !stop.load(Ordering::Acquire) {
                    let is_idle = pulses.iter().all(|pulse| pulse.is_quiet());
                    std::thread::park_timeout(if is_idle { IDLE_TICK } else { TICK });
                    for (shard_index, pulse) in pulses.iter().enumerate() {
                        pulse.wake();
                        pulse.report(shard_index, now());
                    }
                }
            }
        })?;
        Ok(Self { pulses, stop, thread })
    }

    /// Indexes of the shards that have not run for [`STALL_MIN`].
    pub(super) fn stalled_shards(&self) -> Vec<u16> {
        let stalled = |(index, pulse): (u16, &Arc<Pulse>)| pulse.stalled_for(now()).map(|_| index);
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
    /// The thread of a shard whose first task has not run yet, by the kernel's number; 0 for none.
    unbegun_thread: AtomicI32,
    last_seen_nanos: AtomicU64,
    /// Wakes sent since the shard last ran.
    wakes_unanswered: AtomicU32,
    /// Beats in a row between which the shard ran nothing else.
    quiet_beats: AtomicU32,
    is_reported: AtomicBool,
    is_ended: AtomicBool,
    /// Wakes the task that [`Pulse::beat`] started; `None` before the shard has begun and after it has ended.
    #[expect(clippy::disallowed_types, reason = "see the import")]
    waker: Mutex<Option<Waker>>,
}

impl Pulse {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            unbegun_thread: AtomicI32::new(0),
            last_seen_nanos: AtomicU64::new(now().as_nanos()),
            wakes_unanswered: AtomicU32::new(0),
            quiet_beats: AtomicU32::new(0),
            is_reported: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            waker: Mutex::new(None),
        })
    }

    /// Says that the calling thread is about to run the shard. The shard then calls [`Self::beat`].
    pub(super) fn begin(&self) {
        // SAFETY: takes and touches no memory.
        self.unbegun_thread.store(unsafe { libc::gettid() }, Ordering::Relaxed);
    }

    /// Starts the task to wake. Called on the shard.
    pub(super) fn beat(self: &Arc<Self>) {
        let pulse = Arc::clone(self);
        let mut is_known = false;
        let beat = poll_fn(move |context| {
            pulse.last_seen_nanos.store(now().as_nanos(), Ordering::Relaxed);
            pulse.wakes_unanswered.store(0, Ordering::Relaxed);
            // Since the last beat, because asking resets the count; it includes the last beat itself.
            let is_quiet = ::glommio::executor().executor_stats().tasks_executed() <= 1;
            let quiet_beats = if is_quiet { pulse.quiet_beats.load(Ordering::Relaxed).saturating_add(1) } else { 0 };
            pulse.quiet_beats.store(quiet_beats, Ordering::Relaxed);
            if !is_known {
                *pulse.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
                pulse.unbegun_thread.store(0, Ordering::Relaxed);
                is_known = true;
            }
            if pulse.is_ended.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
        });
        ::glommio::spawn_local(beat).detach();
    }

    /// Says that the shard ends on purpose, and ends the task. Called on the shard.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::Relaxed);
        if let Some(waker) = self.take_waker() {
            waker.wake();
        }
    }

    /// Ends the shard's sleep, if it sleeps.
    fn wake(&self) {
        let unbegun_thread = self.unbegun_thread.load(Ordering::Relaxed);
        if unbegun_thread != 0 {
            // SAFETY: takes and touches no memory, and what the signal does is nothing (see `Watchdog::start`).
            unsafe { libc::tgkill(libc::getpid(), unbegun_thread, INTERRUPTION) };
        }
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

    /// Whether the shard has had nothing to do for some time.
    fn is_quiet(&self) -> bool {
        self.quiet_beats.load(Ordering::Relaxed) >= QUIET_BEATS_MIN
    }

    /// Logs once that the shard has stalled, and once that it runs again.
    fn report(&self, shard_index: usize, at: Moment) {
        let stalled_for = self.stalled_for(at);
        if self.is_reported.swap(stalled_for.is_some(), Ordering::Relaxed) == stalled_for.is_some() {
            return;
        }
        if let Some(duration) = stalled_for {
            tracing::warn!(shard_index, stalled_ms = duration.as_millis(), "shard does not run");
        } else {
            tracing::warn!(shard_index, "shard runs again");
        }
    }

    /// How long the shard has not run, if that is too long.
    fn stalled_for(&self, at: Moment) -> Option<Duration> {
        let last_seen = Moment::from_nanos(self.last_seen_nanos.load(Ordering::Relaxed));
        let elapsed = at.saturating_since(last_seen);
        (self.is_beating() && elapsed >= STALL_MIN).then_some(elapsed)
    }

    /// Whether the shard can be woken: its task has run once, and has not ended.
    fn is_beating(&self) -> bool {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take_waker(&self) -> Option<Waker> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// How often shards are woken: the longest that a lost wake-up delays a task while any shard has work.
const TICK: Duration = Duration::from_millis(10);

/// How often shards are woken that all had nothing to do: the longest that a lost wake-up delays the first task.
const IDLE_TICK: Duration = Duration::from_millis(40);

const QUIET_BEATS_MIN: u32 = 5;

/// A shard that has not run for this long is stalled.
const STALL_MIN: Duration = Duration::from_secs(1);

/// What interrupts a shard's sleep before there is a task to wake: a signal that is ignored where nobody listens to it.
const INTERRUPTION: libc::c_int = libc::SIGURG;

const WAKES_UNANSWERED_MAX: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    use std::collections::HashSet;

    use ::glommio::{Latency, LocalExecutorBuilder, Shares};

    #[test]
    fn an_executor_that_parks_with_runnable_tasks_still_gets_its_work_done() {
        let pulse = Pulse::new();
        let watchdog = Watchdog::start("watchdog".to_owned(), vec![Arc::clone(&pulse)]).unwrap();
        // Preempts often enough to park by mistake every few turns: without the watchdog this test does not end. On a slow
        // machine nearly every turn is one of them, and the beats end the test early.
        let executor = LocalExecutorBuilder::default().io_memory(0).preempt_timer(Duration::from_micros(20));
        let executor = executor.make().unwrap();
        pulse.begin();
        executor.run(async {
            pulse.beat();
            let queue = ::glommio::executor().create_task_queue(Shares::default(), Latency::NotImportant, "work");
            let last_beat = Arc::clone(&pulse);
            let yields = async move {
                let mut beats = HashSet::new();
                for _ in 0..200_000 {
                    beats.insert(last_beat.last_seen_nanos.load(Ordering::Relaxed));
                    if beats.len() > 50 {
                        break;
                    }
                    ::glommio::executor().yield_task_queue_now().await;
                }
            };
            ::glommio::spawn_local_into(yields, queue).unwrap().await;
            pulse.end();
        });
        watchdog.stop();
    }

    #[test]
    fn a_shard_stalls_after_a_second_without_a_beat_and_not_once_it_has_ended() {
        let pulse = Pulse::new();
        let seen = Moment::from_nanos(pulse.last_seen_nanos.load(Ordering::Relaxed));
        let late = seen + Duration::from_secs(2);
        assert_eq!(pulse.stalled_for(late), None, "it has not begun");
        *pulse.waker.lock().unwrap() = Some(Waker::noop().clone());
        assert_eq!(pulse.stalled_for(seen + Duration::from_millis(999)), None);
        assert_eq!(pulse.stalled_for(late), Some(Duration::from_secs(2)));
        pulse.end();
        assert_eq!(pulse.stalled_for(late), None);
    }

    #[test]
    fn a_shard_that_does_not_answer_is_not_woken_without_end() {
        let pulse = Pulse::new();
        *pulse.waker.lock().unwrap() = Some(Waker::noop().clone());
        for _ in 0..2 * WAKES_UNANSWERED_MAX {
            pulse.wake();
        }
        assert_eq!(pulse.wakes_unanswered.load(Ordering::Relaxed), WAKES_UNANSWERED_MAX);
    }
}
