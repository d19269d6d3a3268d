//! The tasks of one shard: each has a name, none outlives the shard's shutdown.
//!
//! Everything the broker starts is started here. A task is never cancelled: a cancelled task takes its pending I/O with
//! it. Whoever wants a task to end tells it so and waits with [`TaskSet::join`].

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_runtime::local::Event;
use millrace_runtime::{Env, TaskClass, Tasks};

/// The running tasks of one shard. Clones are the same set.
pub struct TaskSet<E: Env> {
    env: E,
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    running: RefCell<BTreeMap<u64, &'static str>>,
    number_next: Cell<u64>,
    changed: Event,
}

impl<E: Env> Clone for TaskSet<E> {
    fn clone(&self) -> Self {
        Self { env: self.env.clone(), shared: Rc::clone(&self.shared) }
    }
}

impl<E: Env> TaskSet<E> {
    /// An empty set.
    pub fn new(env: &E) -> Self {
        Self { env: env.clone(), shared: Rc::default() }
    }

    /// Where the tasks run.
    pub fn env(&self) -> &E {
        &self.env
    }

    /// Starts a task. `name` says what it is for, in reports of what still runs.
    pub fn spawn(&self, name: &'static str, class: TaskClass, future: impl Future<Output = ()> + 'static) {
        let number = self.shared.number_next.get();
        self.shared.number_next.set(number + 1);
        self.shared.running.borrow_mut().insert(number, name);
        let shared = Rc::clone(&self.shared);
        // The handle is not kept: the set knows the task by its number, and a finished task leaves nothing behind.
        drop(self.env.tasks().spawn(class, async move {
            future.await;
            let name = shared.running.borrow_mut().remove(&number);
            assert!(name.is_some(), "a task ends once");
            shared.changed.notify();
        }));
    }

    /// Waits until no task runs, those included that are started meanwhile.
    pub async fn join(&self) {
        loop {
            let version = self.shared.changed.version();
            if self.shared.running.borrow().is_empty() {
                return;
            }
            self.shared.changed.changed(version).await;
        }
    }

    /// Names of the running tasks with how many run under each.
    pub fn running(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for name in self.shared.running.borrow().values() {
            *counts.entry(*name).or_default() += 1;
        }
        counts
    }
}
