//! Telling a broker from outside, once, that it should stop: from a thread that is no shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::task::AtomicWaker;
use std::future::poll_fn;
use std::task::Poll;

/// Makes the two ends of a switch.
pub fn stop_switch() -> (StopSwitch, StopSignal) {
    let shared = Arc::new(Shared::default());
    (StopSwitch { shared: Arc::clone(&shared) }, StopSignal { shared })
}

/// The end that is thrown. It may be held by any thread; clones throw the same switch.
#[derive(Clone, Debug)]
pub struct StopSwitch {
    shared: Arc<Shared>,
}

/// The end that a shard waits at.
#[derive(Debug)]
pub struct StopSignal {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    is_stopped: AtomicBool,
    waiter: AtomicWaker,
}

impl StopSwitch {
    /// Asks for the stop. Asking again changes nothing.
    pub fn stop(&self) {
        // Release, paired with the acquire below: what the stopping thread did before is seen by the shard after.
        self.shared.is_stopped.store(true, Ordering::Release);
        self.shared.waiter.wake();
    }
}

impl StopSignal {
    /// Completes once the switch was thrown. For one waiter at a time.
    pub async fn stopped(&self) {
        poll_fn(|context| {
            // Registered before the check, so that a stop between the two wakes us.
            self.shared.waiter.register(context.waker());
            if self.shared.is_stopped.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
