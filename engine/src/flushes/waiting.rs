//! Those who wait for others' flushes to end, on all shards of a directory.

use std::fmt;
use std::task::Waker;

#[expect(
    clippy::disallowed_types,
    reason = "held for a few instructions, once or twice for each flush of the device"
)]
use std::sync::{Mutex, PoisonError};

/// Wakers of tasks that want to know of the next flush that ends.
#[derive(Default)]
pub(super) struct Waiting {
    #[expect(clippy::disallowed_types, reason = "see the import")]
    wakers: Mutex<Vec<Waker>>,
}

impl Waiting {
    /// Has `waker` woken by the next [`Self::wake_all`].
    pub(super) fn add(&self, waker: &Waker) {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
    }

    /// Wakes everybody who was added since the last time.
    pub(super) fn wake_all(&self) {
        let wakers = std::mem::take(&mut *self.wakers.lock().unwrap_or_else(PoisonError::into_inner));
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Waiting")
    }
}
