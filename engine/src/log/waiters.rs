//! Who waits for a log to get further: appends for their acknowledgement, readers for new records.

use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use millrace_runtime::local::{Event, OneshotReceiver, OneshotSender, oneshot};

use super::{Durability, Failure};
use crate::model::Offset;

/// The waiters of one log.
#[derive(Default)]
pub struct Waiters {
    /// Sorted by the offset waited for.
    appends: VecDeque<(Offset, OneshotSender<Durability>)>,
    readers: Vec<(Offset, Weak<Event>)>,
}

impl Waiters {
    /// Resolves once the log is acknowledged up to `end`; it is up to `done` now.
    pub fn append(&mut self, end: Offset, done: Offset) -> OneshotReceiver<Durability> {
        let (sender, receiver) = oneshot();
        if end <= done {
            sender.send(Ok(()));
        } else {
            // Nearly always the last place; only one who waits for a duplicate comes in between.
            let place = self.appends.partition_point(|(other, _)| *other <= end);
            self.appends.insert(place, (end, sender));
        }
        receiver
    }

    /// Notifies `event`, once, when records behind `beyond` become visible.
    pub fn watch(&mut self, beyond: Offset, event: &Rc<Event>) {
        self.readers.retain(|(_, event)| event.strong_count() > 0);
        self.readers.push((beyond, Rc::downgrade(event)));
    }

    /// Tells whom it concerns that the log is visible, and acknowledged, up to `visible`.
    pub fn advance(&mut self, visible: Offset) {
        while self.appends.front().is_some_and(|(end, _)| *end <= visible) {
            if let Some((_, waiter)) = self.appends.pop_front() {
                waiter.send(Ok(()));
            }
        }
        self.readers.retain(|(beyond, event)| {
            let passed = visible > *beyond;
            if let Some(event) = event.upgrade().filter(|_| passed) {
                event.notify();
            }
            !passed
        });
    }

    /// Tells everyone that there is nothing to wait for any more.
    pub fn fail(&mut self, failure: &Failure) {
        for (_, waiter) in self.appends.drain(..) {
            waiter.send(Err(failure.clone()));
        }
        for (_, event) in self.readers.drain(..) {
            if let Some(event) = event.upgrade() {
                event.notify();
            }
        }
    }
}
