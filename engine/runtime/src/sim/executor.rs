//! The executor: tasks of all shards of all machines in one thread, in an order drawn from the seed.
//!
//! One step:
//! 1. fire every event that is due;
//! 2. pick one runnable task at random and poll it, which costs a little virtual time, so that timers fire between
//!    runnable tasks too;
//! 3. when nothing is runnable, move the clock to the next event; when there is none, the world is deadlocked.
//!
//! No `RefCell` is borrowed while a future is polled or dropped or an event runs: each may come back here.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use super::events::{Action, EventKey, Events, Owner};
use super::machine::MachineState;
use super::net::Network;
use super::random::{Stream, Trace};
use super::shared::Shared;
use super::{Crashed, WorldConfig};
use crate::TaskClass;

/// The state of one world.
pub(super) struct Core {
    pub(super) seed: u64,
    pub(super) config: WorldConfig,
    pub(super) trace: Rc<Trace>,
    pub(super) machines: RefCell<BTreeMap<u16, Rc<MachineState>>>,
    pub(super) network: Network,
    pub(super) link_random: Stream,
    random: Stream,
    now_ns: Cell<u64>,
    events: RefCell<Events>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    task_sequence: Cell<u64>,
    ready: Shared<Ready>,
    yielding: RefCell<Vec<Yielding>>,
    /// The owner of the task that is being polled.
    current_owner: Cell<Option<Owner>>,
}

/// A task; its future is absent while it is polled.
struct Task {
    owner: Owner,
    shard_index: u16,
    class: TaskClass,
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Waker,
}

/// A task that lets others run first.
struct Yielding {
    waker: Waker,
    /// Tasks that were runnable when it yielded and have not run since.
    others: BTreeSet<u64>,
}

/// Id of the future given to [`Core::drive`].
const MAIN: u64 = 0;

/// Work away from its shard takes up to 10 ms: a mebibyte through a slow codec, behind another's.
const OFFLOAD_NS_MAX: u64 = 10_000_000;

impl Core {
    pub(super) fn new(seed: u64, config: WorldConfig) -> Rc<Self> {
        let trace = Trace::new();
        Rc::new(Self {
            seed,
            config,
            machines: RefCell::default(),
            network: Network::new(Stream::new(seed, &[2], &trace)),
            link_random: Stream::new(seed, &[3], &trace),
            random: Stream::new(seed, &[1], &trace),
            trace,
            now_ns: Cell::new(0),
            events: RefCell::default(),
            tasks: RefCell::default(),
            task_sequence: Cell::new(MAIN),
            ready: Shared::new(Ready::default()),
            yielding: RefCell::default(),
            current_owner: Cell::new(None),
        })
    }

    /// Runs `main` and every other task until `main` ends, or until the life `watched` ends in a crash.
    pub(super) fn drive<T>(
        self: &Rc<Self>,
        main: impl Future<Output = T>,
        watched: Option<(&MachineState, Owner)>,
    ) -> Result<T, Crashed> {
        let _seed_on_panic = SeedOnPanic(self.seed);
        let _entered = Entered::enter(self);
        let mut main = Box::pin(main);
        let main_waker = self.waker(MAIN);
        let main_owner = watched.map(|(_, owner)| owner);
        main_waker.wake_by_ref();
        for _ in 0..self.config.step_budget {
            self.fire_due_events();
            if watched.is_some_and(|(machine, owner)| machine.owner() != owner) {
                return Err(Crashed);
            }
            let Some(id) = self.pick() else {
                self.advance();
                continue;
            };
            self.trace.fold(id ^ self.now_ns.get().rotate_left(32));
            if id == MAIN {
                self.current_owner.set(main_owner);
                if let Poll::Ready(value) = main.as_mut().poll(&mut Context::from_waker(&main_waker)) {
                    self.current_owner.set(None);
                    return Ok(value);
                }
            } else {
                self.poll_task(id);
            }
            self.current_owner.set(None);
            self.network.close_abandoned(self);
            let cost_ns = 1 + self.random.below(self.config.step_ns_max);
            self.now_ns.set(self.now_ns.get() + cost_ns);
        }
        panic!("livelock: no end after {} steps, seed {}{}", self.config.step_budget, self.seed, self.describe_tasks());
    }

    pub(super) fn spawn(
        &self,
        owner: Owner,
        shard_index: u16,
        class: TaskClass,
        future: impl Future<Output = ()> + 'static,
    ) {
        let id = self.task_sequence.get() + 1;
        self.task_sequence.set(id);
        let waker = self.waker(id);
        waker.wake_by_ref();
        let task = Task { owner, shard_index, class, future: Some(Box::pin(future)), waker };
        self.tasks.borrow_mut().insert(id, task);
    }

    /// Wakes `waker` once every task of the shard that is runnable now has run.
    pub(super) fn wake_after_others(&self, owner: Owner, shard_index: u16, waker: &Waker) {
        let tasks = self.tasks.borrow();
        let on_shard =
            |id: &u64| tasks.get(id).is_some_and(|task| task.owner == owner && task.shard_index == shard_index);
        let others: BTreeSet<u64> = self.ready.with(|ready| ready.queued.iter().copied().filter(on_shard).collect());
        if others.is_empty() {
            waker.wake_by_ref();
        } else {
            self.yielding.borrow_mut().push(Yielding { waker: waker.clone(), others });
        }
    }

    pub(super) fn now_ns(&self) -> u64 {
        self.now_ns.get()
    }

    pub(super) fn current_owner(&self) -> Option<Owner> {
        self.current_owner.get()
    }

    /// Wakes `waker` at a moment, for the task that is being polled.
    pub(super) fn wake_at(&self, at_ns: u64, waker: Waker) -> EventKey {
        self.schedule(at_ns, self.current_owner.get(), Action::Wake(waker))
    }

    /// Runs `body` after `delay_ns`, unless `owner` has crashed by then.
    pub(super) fn call_after(&self, delay_ns: u64, owner: Option<Owner>, body: impl FnOnce() + 'static) {
        self.schedule(self.now_ns.get().saturating_add(delay_ns), owner, Action::Call(Box::new(body)));
    }

    /// How long the next piece of work that left its shard is away.
    pub(super) fn offload_delay_ns(&self) -> u64 {
        self.random.below(OFFLOAD_NS_MAX)
    }

    pub(super) fn rearm(&self, key: EventKey, waker: &Waker) -> bool {
        self.events.borrow_mut().rearm(key, waker)
    }

    pub(super) fn cancel(&self, key: EventKey) {
        let cancelled = self.events.borrow_mut().cancel(key);
        drop(cancelled);
    }

    /// Drops the tasks and events of one machine, or of all of them.
    pub(super) fn purge(&self, machine: Option<u16>) {
        let events = self.events.borrow_mut().purge(machine);
        let mut tasks = Vec::new();
        self.tasks.borrow_mut().retain(|_, task| {
            let doomed = machine.is_none_or(|machine| task.owner.machine == machine);
            tasks.extend(doomed.then(|| task.future.take()).flatten());
            !doomed
        });
        drop(events);
        drop(tasks);
    }

    fn schedule(&self, at_ns: u64, owner: Option<Owner>, action: Action) -> EventKey {
        let tie_breaker = self.random.next_u64();
        self.events.borrow_mut().schedule(at_ns, tie_breaker, owner, action)
    }

    fn waker(&self, id: u64) -> Waker {
        Waker::from(Arc::new(TaskWaker { id, ready: self.ready.clone() }))
    }

    fn fire_due_events(&self) {
        loop {
            let due = self.events.borrow_mut().pop_due(self.now_ns.get());
            match due {
                Some(Action::Wake(waker)) => waker.wake(),
                Some(Action::Call(body)) => body(),
                None => return,
            }
        }
    }

    /// Takes a runnable task off the queue.
    fn pick(&self) -> Option<u64> {
        let id = self.ready.with(|ready| {
            if ready.order.is_empty() {
                return None;
            }
            let id = ready.order.swap_remove(self.random.index(ready.order.len()));
            ready.queued.remove(&id);
            Some(id)
        })?;
        let mut released = Vec::new();
        self.yielding.borrow_mut().retain_mut(|yielding| {
            yielding.others.remove(&id);
            let keep = !yielding.others.is_empty();
            if !keep {
                released.push(yielding.waker.clone());
            }
            keep
        });
        for waker in released {
            waker.wake();
        }
        Some(id)
    }

    fn poll_task(&self, id: u64) {
        // A task that ended, or crashed, may still have been woken.
        let Some((mut future, waker, owner)) = self.tasks.borrow_mut().get_mut(&id).and_then(|task| {
            let future = task.future.take()?;
            Some((future, task.waker.clone(), task.owner))
        }) else {
            return;
        };
        self.current_owner.set(Some(owner));
        let ended = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.tasks.borrow_mut();
        if ended {
            tasks.remove(&id);
        } else if let Some(task) = tasks.get_mut(&id) {
            task.future = Some(future);
            return;
        }
        // Ended, or its machine crashed while it ran: the future goes only now that nothing is borrowed.
        drop(tasks);
        drop(future);
    }

    fn advance(&self) {
        let next = self.events.borrow().next_at_ns();
        let Some(next_ns) = next else {
            panic!(
                "deadlock: the main future waits, nothing is runnable and no event is due, seed {}{}",
                self.seed,
                self.describe_tasks()
            );
        };
        self.now_ns.set(self.now_ns.get().max(next_ns));
    }

    fn describe_tasks(&self) -> String {
        let mut counts: BTreeMap<(u16, u16, String), u64> = BTreeMap::new();
        for task in self.tasks.borrow().values() {
            *counts.entry((task.owner.machine, task.shard_index, format!("{:?}", task.class))).or_default() += 1;
        }
        let mut text = format!(", at {} ns", self.now_ns.get());
        for ((machine, shard, class), count) in counts {
            write!(text, "; machine {machine} shard {shard}: {count} {class}").expect("a String takes all text");
        }
        text
    }
}

/// The runnable tasks.
#[derive(Default)]
struct Ready {
    order: Vec<u64>,
    /// The same ids, to keep each from being queued twice.
    queued: BTreeSet<u64>,
}

struct TaskWaker {
    id: u64,
    ready: Shared<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.with(|ready| {
            if ready.queued.insert(self.id) {
                ready.order.push(self.id);
            }
        });
    }
}

thread_local! {
    /// The world that is running on this thread; link ends have no other way to learn it.
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The world whose task is being polled.
pub(super) fn current_core() -> Rc<Core> {
    CURRENT.with_borrow(Clone::clone).expect("link ends are connected by a task of a running world")
}

/// Marks a world as the running one.
struct Entered;

impl Entered {
    fn enter(core: &Rc<Core>) -> Self {
        let previous = CURRENT.with_borrow_mut(|current| current.replace(Rc::clone(core)));
        assert!(previous.is_none(), "a world runs inside no other world");
        Self
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.with_borrow_mut(Option::take);
    }
}

/// Tells the seed when anything panics, an assertion of the code under test included.
struct SeedOnPanic(u64);

impl Drop for SeedOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulated world had seed {}", self.0);
        }
    }
}
