//! Waiting for logs to grow, across shards.
//!
//! A Fetch that found too little waits on the connection's shard. While reading, each owner arms a one-shot watch that
//! carries the number of the wait:
//!
//! 1. [`Waits::open`] gives the wait its number, which is never used again.
//! 2. The owner arms the logs it has read, in the same step as the read: [`Watches::arm`] for another shard's wait. Its own
//!    shard's waits hand their event to the logs directly.
//! 3. The first log to grow sends one wake. A wake whose number is not known any more is dropped.
//! 4. Dropping the [`Wait`] (answered, timed out, connection closed) cancels the watches of all owners that armed one.
//!
//! Invariant: a wait is dropped only after all its reads were answered, so no cancellation overtakes the arming.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_runtime::local::Event;
use millrace_runtime::{Env, TaskClass};

use super::limits;
use super::mailbox::Mailbox;
use super::mailbox::message::{Message, WatchId};
use super::placement::ShardIndex;
use super::task_set::TaskSet;

/// The waits of one shard's own connections.
pub struct Waits<E: Env> {
    mailbox: Mailbox<E>,
    open: Rc<RefCell<BTreeMap<WatchId, Rc<Event>>>>,
    number_next: Cell<u64>,
}

impl<E: Env> Waits<E> {
    /// No waits yet.
    pub fn new(mailbox: &Mailbox<E>) -> Self {
        Self { mailbox: mailbox.clone(), open: Rc::default(), number_next: Cell::new(0) }
    }

    /// Opens a wait.
    pub fn open(&self) -> Wait<E> {
        let id = WatchId(self.number_next.get());
        self.number_next.set(id.0 + 1);
        let event = Rc::new(Event::default());
        self.open.borrow_mut().insert(id, Rc::clone(&event));
        Wait { id, event, armed_at: Vec::new(), mailbox: self.mailbox.clone(), open: Rc::clone(&self.open) }
    }

    /// A watch has fired somewhere.
    pub fn wake(&self, id: WatchId) {
        let event = self.open.borrow().get(&id).cloned();
        if let Some(event) = event {
            event.notify();
        }
    }

    /// Wakes everyone, so that they answer with what there is.
    pub fn wake_all(&self) {
        let events: Vec<_> = self.open.borrow().values().cloned().collect();
        for event in events {
            event.notify();
        }
    }
}

/// One wait of one Fetch.
pub struct Wait<E: Env> {
    id: WatchId,
    event: Rc<Event>,
    armed_at: Vec<ShardIndex>,
    mailbox: Mailbox<E>,
    open: Rc<RefCell<BTreeMap<WatchId, Rc<Event>>>>,
}

impl<E: Env> Wait<E> {
    /// The number that other shards know the wait by.
    pub fn id(&self) -> WatchId {
        self.id
    }

    /// Notified by the first wake.
    pub fn event(&self) -> &Rc<Event> {
        &self.event
    }

    /// Notes that another shard has armed a watch for this wait.
    pub fn note_armed(&mut self, owner: ShardIndex) {
        self.armed_at.push(owner);
    }
}

impl<E: Env> Drop for Wait<E> {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.id);
        for owner in &self.armed_at {
            self.mailbox.send(*owner, Message::CancelWatch { watch: self.id });
        }
    }
}

/// Watches on one shard's logs for waits of other shards.
pub struct Watches<E: Env> {
    mailbox: Mailbox<E>,
    tasks: TaskSet<E>,
    armed: Rc<RefCell<ArmedByWait>>,
}

type ArmedByWait = BTreeMap<(ShardIndex, WatchId), Rc<Armed>>;

struct Armed {
    event: Rc<Event>,
    is_cancelled: Cell<bool>,
}

impl<E: Env> Watches<E> {
    /// No watches yet.
    pub fn new(mailbox: &Mailbox<E>, tasks: &TaskSet<E>) -> Self {
        Self { mailbox: mailbox.clone(), tasks: tasks.clone(), armed: Rc::default() }
    }

    /// Arms a watch for a wait of `source`. `attach` hands the event to the logs.
    ///
    /// False when no more watches may be held; nothing is armed then.
    pub fn arm(&self, source: ShardIndex, id: WatchId, attach: impl FnOnce(&Rc<Event>)) -> bool {
        if self.armed.borrow().len() >= limits::WATCH_COUNT_MAX {
            return false;
        }
        let armed = Rc::new(Armed { event: Rc::default(), is_cancelled: Cell::new(false) });
        let replaced = self.armed.borrow_mut().insert((source, id), Rc::clone(&armed));
        assert!(replaced.is_none(), "a wait arms one watch on each shard");
        let version = armed.event.version();
        attach(&armed.event);
        let (mailbox, watches) = (self.mailbox.clone(), Rc::clone(&self.armed));
        self.tasks.spawn("watch", TaskClass::Network, async move {
            armed.event.changed(version).await;
            watches.borrow_mut().remove(&(source, id));
            if !armed.is_cancelled.get() {
                mailbox.send(source, Message::Wake { watch: id });
            }
        });
        true
    }

    /// A wait of `source` is over. Its watch may have fired meanwhile.
    pub fn cancel(&self, source: ShardIndex, id: WatchId) {
        let armed = self.armed.borrow().get(&(source, id)).cloned();
        if let Some(armed) = armed {
            armed.is_cancelled.set(true);
            armed.event.notify();
        }
    }

    /// Watches that are armed.
    pub fn count(&self) -> usize {
        self.armed.borrow().len()
    }
}
