//! What will happen later: timers, completions of I/O, arrivals of messages.
//!
//! Events of one moment fire in random order. An event of a machine is forgotten when the machine crashes.

use std::collections::BTreeMap;
use std::task::Waker;

/// One life of one machine. A crash ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) machine: u16,
    pub(super) incarnation: u64,
}

/// Names a scheduled event. Ordered by time, then at random, then by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EventKey {
    at_ns: u64,
    tie_breaker: u64,
    sequence: u64,
}

pub(super) enum Action {
    Wake(Waker),
    Call(Box<dyn FnOnce()>),
}

pub(super) struct Event {
    owner: Option<Owner>,
    action: Action,
}

#[derive(Default)]
pub(super) struct Events {
    queue: BTreeMap<EventKey, Event>,
    sequence: u64,
}

impl Events {
    pub(super) fn schedule(&mut self, at_ns: u64, tie_breaker: u64, owner: Option<Owner>, action: Action) -> EventKey {
        self.sequence += 1;
        let key = EventKey { at_ns, tie_breaker, sequence: self.sequence };
        self.queue.insert(key, Event { owner, action });
        key
    }

    /// Replaces the waker of a timer. False when it has fired.
    pub(super) fn rearm(&mut self, key: EventKey, waker: &Waker) -> bool {
        match self.queue.get_mut(&key) {
            Some(Event { action: Action::Wake(old), .. }) => {
                old.clone_from(waker);
                true
            }
            Some(_) => unreachable!("only timers are rearmed"),
            None => false,
        }
    }

    /// Forgets an event. What it held is handed back, to be dropped once nothing is borrowed.
    pub(super) fn cancel(&mut self, key: EventKey) -> Option<Event> {
        self.queue.remove(&key)
    }

    /// The first event that is due at `now_ns`.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Action> {
        let first = self.queue.first_entry()?;
        (first.key().at_ns <= now_ns).then(|| first.remove().action)
    }

    pub(super) fn next_at_ns(&self) -> Option<u64> {
        self.queue.first_key_value().map(|(key, _)| key.at_ns)
    }

    /// Takes out the events of one machine, or all of them, to be dropped once nothing is borrowed.
    pub(super) fn purge(&mut self, machine: Option<u16>) -> Vec<Event> {
        let purged = self.queue.extract_if(.., |_, event| match machine {
            Some(machine) => event.owner.is_some_and(|owner| owner.machine == machine),
            None => true,
        });
        purged.map(|(_, event)| event).collect()
    }
}
