//! State behind a lock, for the few things whose trait wants them `Send`.
//!
//! Wakers, link ends and accepted connections may leave their shard on a real machine, so the traits ask for `Send`. The
//! simulator has one thread and never contends: the lock only satisfies the type. Everything else uses `Rc`.
#![expect(clippy::disallowed_types, reason = "the traits want Send; there is one thread, so the lock never contends")]

use std::sync::{Arc, Mutex};

pub(super) struct Shared<T>(Arc<Mutex<T>>);

impl<T> Shared<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    /// Runs `body` on the state. `body` must not reach the same state again.
    pub(super) fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> R {
        let mut guard = self.0.try_lock().expect("one thread, and no body reaches its own state again");
        body(&mut guard)
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
