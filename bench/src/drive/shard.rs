//! One core of a run: opens its connections, runs them, and hands in what they saw.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;
use millrace_runtime::{Clock as _, Connection as _, Env, Net as _, TaskClass, TaskHandle as _, Tasks as _};

use super::control::Control;
use super::outcome::Outcome;
use super::plan::Plan;
use super::reader::{self, Reader};
use super::sender::Sender;

/// What a shard tells the main thread.
pub(super) enum Message {
    /// Its connections are open.
    Ready,
    /// They could not be opened.
    Failed(anyhow::Error),
    /// All that its producers sent is answered.
    SendersDone,
    /// The shard is done.
    Done(Box<Outcome>),
}

/// What the tasks of a shard share.
pub(super) struct Shard<E: Env> {
    pub(super) env: E,
    pub(super) plan: Arc<Plan>,
    pub(super) control: Arc<Control>,
    /// Where every connection leaves what it saw.
    pub(super) outcome: RefCell<Outcome>,
    senders_left: Cell<usize>,
    tasks_left: Cell<usize>,
}

/// Runs this shard's share of the plan.
pub(super) async fn run<E: Env>(env: E, plan: Arc<Plan>, control: Arc<Control>, messages: mpsc::Sender<Message>) {
    let outcome = RefCell::new(Outcome::new(&plan));
    let shard = Rc::new(Shard { env, plan, control, outcome, senders_left: Cell::new(0), tasks_left: Cell::new(0) });
    if let Err(error) = drive(&shard, &messages).await {
        messages.send(Message::Failed(error)).ok();
    }
}

async fn drive<E: Env>(shard: &Rc<Shard<E>>, messages: &mpsc::Sender<Message>) -> anyhow::Result<()> {
    let (senders, readers, connections) = open(shard).await?;
    messages.send(Message::Ready).ok();
    let Some(window) = wait_for_start(shard).await else { return Ok(()) };

    shard.senders_left.set(senders.len());
    shard.tasks_left.set(senders.len() + readers.len());
    if senders.is_empty() {
        messages.send(Message::SendersDone).ok();
    }
    let mut handles = Vec::new();
    for sender in senders {
        let (task_shard, messages) = (Rc::clone(shard), messages.clone());
        handles.push(shard.env.tasks().spawn(TaskClass::Network, async move {
            sender.run(window).await;
            task_shard.tasks_left.set(task_shard.tasks_left.get() - 1);
            task_shard.senders_left.set(task_shard.senders_left.get() - 1);
            if task_shard.senders_left.get() == 0 {
                messages.send(Message::SendersDone).ok();
            }
        }));
    }
    for reader in readers {
        let task_shard = Rc::clone(shard);
        handles.push(shard.env.tasks().spawn(TaskClass::Network, async move {
            reader.run(window).await;
            task_shard.tasks_left.set(task_shard.tasks_left.get() - 1);
        }));
    }
    watch(shard, &connections).await;
    for handle in handles {
        handle.join().await;
    }
    messages.send(Message::Done(Box::new(shard.outcome.take()))).ok();
    Ok(())
}

type Opened<E> = (Vec<Sender<E>>, Vec<Reader<E>>, Vec<<<E as Env>::Net as millrace_runtime::Net>::Connection>);

async fn open<E: Env>(shard: &Rc<Shard<E>>) -> anyhow::Result<Opened<E>> {
    let (mut senders, mut readers, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    let shard_index = shard.env.shard_index();
    for seat in shard.plan.send_seats(shard_index) {
        let address = seat.leader.address;
        let connection = shard.env.net().connect(address).await.with_context(|| format!("connecting to {address}"))?;
        connections.push(connection.clone());
        senders.push(Sender::new(Rc::clone(shard), connection, &seat)?);
    }
    let throttles = reader::throttles(&shard.plan);
    for seat in shard.plan.read_seats(shard_index) {
        let address = seat.leader.address;
        let connection = shard.env.net().connect(address).await.with_context(|| format!("connecting to {address}"))?;
        connections.push(connection.clone());
        readers.push(Reader::new(Rc::clone(shard), connection, seat, throttles));
    }
    Ok((senders, readers, connections))
}

async fn wait_for_start<E: Env>(shard: &Shard<E>) -> Option<super::control::Window> {
    loop {
        if shard.control.has_failed() {
            return None;
        }
        if let Some(window) = shard.control.window() {
            return Some(window);
        }
        shard.env.clock().sleep(START_TICK).await;
    }
}

/// Ends connections that wait for answers long after the end of the run: the broker has failed.
async fn watch<E: Env>(shard: &Shard<E>, connections: &[<E::Net as millrace_runtime::Net>::Connection]) {
    let mut over_since = None;
    while shard.tasks_left.get() > 0 {
        shard.env.clock().sleep(WATCH_TICK).await;
        let now = shard.env.clock().now();
        if !shard.control.is_over(now) {
            continue;
        }
        let since = *over_since.get_or_insert(now);
        if shard.control.has_failed() || now - since >= DRAIN_MAX {
            for connection in connections {
                connection.shutdown();
            }
        }
    }
}

const START_TICK: Duration = Duration::from_millis(1);
const WATCH_TICK: Duration = Duration::from_millis(20);
/// A broker that has not answered for this long after the end does not count as slow.
const DRAIN_MAX: Duration = Duration::from_secs(30);
