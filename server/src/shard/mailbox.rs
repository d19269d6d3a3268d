//! The only module that crosses cores. Everything shards tell each other is a [`Message`] and goes through here.
//!
//! There is one link for each ordered pair of shards, made before the shards start. On each shard every peer has
//!
//! 1. an [`Outbox`]: messages that the link has no room for yet, or that may come late. Sending puts a message into the
//!    outbox and never waits;
//! 2. a sending task, which moves the outbox into the link and waits for room there;
//! 3. a task that sends late messages if no other has taken them along;
//! 4. a receiving task, which takes messages out of the link and hands each to a function that must not wait.
//!
//! # Why two shards with full links do not block each other
//!
//! A receiving task never waits for anything but its link: to answer, it puts a message into an outbox. So every link is
//! always being emptied, whatever the links in the other direction look like, and every sending task gets its room. What
//! must wait (an append for room, a read for the disk) waits in a task of its own.
//!
//! # Why an outbox is bounded
//!
//! It holds at most one message for each thing that is counted elsewhere: requests of this shard (bounded by
//! [`super::limits::CALL_COUNT_MAX`], see the router), replies to the peer's requests (bounded by the peer's same count),
//! watches the peer may hold here or we there, leases, connections, and one question to a group for each connection of ours
//! or the peer's, with its cancellation. [`Outbox::push`] asserts the sum.
//!
//! `Arc` and atomics appear here and in the rooms of this module, nowhere else on the shards. [`question`] is the way in for
//! the one thread beside them that asks how they are.

pub mod frame;
pub mod lease;
pub mod message;
pub mod question;
pub mod seats;
pub mod stop;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use millrace_runtime::links::{ConnectedReceiver, ConnectedSender};
use millrace_runtime::local::Event;
use millrace_runtime::{Clock as _, Env, LinkReceiver, LinkSender, TaskClass};

use self::lease::{LeaseId, ReturnLease};
use self::message::Message;
use super::limits;
use super::placement::ShardIndex;
use super::task_set::TaskSet;

/// The ends of all links of one shard, not bound to it yet.
pub struct Links<E: Env> {
    /// By peer; `None` at the shard's own place.
    ends: Vec<Option<Ends<E>>>,
}

struct Ends<E: Env> {
    sender: E::Sender<Message<E>>,
    receiver: E::Receiver<Message<E>>,
}

impl<E: Env> Links<E> {
    /// The links of all shards of a broker, in the order of the shards.
    pub fn all(shard_count: u16) -> Vec<Self> {
        let slots = usize::from(shard_count);
        // Both directions of a pair are made together, so that each shard's ends can be put together at once.
        let mut all: Vec<Self> = (0..slots).map(|_| Self { ends: (0..slots).map(|_| None).collect() }).collect();
        for first in 0..slots {
            for second in first + 1..slots {
                let (to_second, from_first) = E::link(LINK_MESSAGE_COUNT);
                let (to_first, from_second) = E::link(LINK_MESSAGE_COUNT);
                all[first].ends[second] = Some(Ends { sender: to_second, receiver: from_second });
                all[second].ends[first] = Some(Ends { sender: to_first, receiver: from_first });
            }
        }
        all
    }
}

/// One shard's outboxes. Clones are the same outboxes.
pub struct Mailbox<E: Env> {
    outboxes: Rc<Vec<Outbox<E>>>,
}

impl<E: Env> Clone for Mailbox<E> {
    fn clone(&self) -> Self {
        Self { outboxes: Rc::clone(&self.outboxes) }
    }
}

impl<E: Env> Mailbox<E> {
    /// Outboxes for `shard_count` shards. What is sent before [`Mailbox::start`] waits in them.
    pub fn new(shard_count: u16) -> Self {
        Self { outboxes: Rc::new((0..shard_count).map(|_| Outbox::default()).collect()) }
    }

    /// Starts the tasks that carry messages. Each message that arrives goes to `receive`, in the order of its link.
    pub fn start(
        &self,
        links: Links<E>,
        tasks: &TaskSet<E>,
        receive: impl Fn(ShardIndex, Message<E>) + Clone + 'static,
    ) {
        let peers = ShardIndex::all(u16::try_from(links.ends.len()).expect("shards are counted in 16 bits"));
        for (peer, ends) in peers.zip(links.ends) {
            let Some(ends) = ends else { continue };
            let outboxes = Rc::clone(&self.outboxes);
            // A task for each end: connecting waits for the peer, and the peers start in any order.
            tasks.spawn("mailbox sender", TaskClass::Network, async move {
                let sender = ends.sender.connect().await;
                outboxes[peer.slot()].carry(sender).await;
            });
            let (outboxes, clock) = (Rc::clone(&self.outboxes), tasks.env().clock().clone());
            tasks.spawn("mailbox late sender", TaskClass::Network, async move {
                outboxes[peer.slot()].push_on(&clock).await;
            });
            let receive = receive.clone();
            tasks.spawn("mailbox receiver", TaskClass::Network, async move {
                let receiver = ends.receiver.connect().await;
                while let Some(message) = receiver.receive().await {
                    receive(peer, message);
                }
            });
        }
    }

    /// Sends to another shard, without waiting.
    pub fn send(&self, target: ShardIndex, message: Message<E>) {
        let outbox = &self.outboxes[target.slot()];
        outbox.push(message);
        outbox.changed.notify();
    }

    /// Sends what nobody waits for: with the next message to the same shard, and at the latest after [`LATE_MAX`]. A
    /// message of its own could wake that shard up for nothing else.
    pub fn send_late(&self, target: ShardIndex, message: Message<E>) {
        let outbox = &self.outboxes[target.slot()];
        outbox.push(message);
        outbox.late.notify();
    }

    /// Messages that wait for room in a link.
    pub fn message_count(&self) -> usize {
        self.outboxes.iter().map(|outbox| outbox.queue.borrow().len()).sum()
    }

    /// Lets the sending tasks end once everything is sent; the peers' receiving tasks end then.
    pub fn close(&self) {
        for outbox in self.outboxes.iter() {
            outbox.is_closed.set(true);
            outbox.changed.notify();
            outbox.late.notify();
        }
    }
}

impl<E: Env> ReturnLease for Mailbox<E> {
    fn return_lease(&self, owner: ShardIndex, id: LeaseId) {
        self.send_late(owner, Message::ReturnLease { lease: id });
    }
}

/// Messages for one peer that are not in its link yet.
struct Outbox<E: Env> {
    queue: RefCell<VecDeque<Message<E>>>,
    /// There is a message to send now.
    changed: Event,
    /// There is one that may come late.
    late: Event,
    is_closed: Cell<bool>,
}

impl<E: Env> Default for Outbox<E> {
    fn default() -> Self {
        let (changed, late) = Default::default();
        Self { queue: RefCell::default(), changed, late, is_closed: Cell::new(false) }
    }
}

impl<E: Env> Outbox<E> {
    fn push(&self, message: Message<E>) {
        assert!(!self.is_closed.get(), "nothing is sent after the mailbox is closed");
        let mut queue = self.queue.borrow_mut();
        queue.push_back(message);
        assert!(queue.len() <= OUTBOX_MESSAGE_COUNT_MAX, "everything that is sent is counted and bounded elsewhere");
    }

    /// Has late messages sent, until the outbox is closed.
    async fn push_on(&self, clock: &E::Clock) {
        while !self.is_closed.get() {
            self.late.changed(self.late.version()).await;
            clock.sleep(LATE_MAX).await;
            self.changed.notify();
        }
    }

    /// Moves messages into the link until the outbox is closed and empty, or the peer is gone.
    async fn carry(&self, sender: impl ConnectedSender<Message<E>>) {
        loop {
            let version = self.changed.version();
            let message = self.queue.borrow_mut().pop_front();
            match message {
                // A peer that is gone gets nothing more; its broker is stopping too.
                Some(message) => {
                    if sender.send(message).await.is_err() {
                        self.queue.borrow_mut().clear();
                    }
                }
                None if self.is_closed.get() => return,
                None => self.changed.changed(version).await,
            }
        }
    }
}

/// Messages a link carries before its sender waits. Waiting costs a wake-up across cores; memory costs little.
const LINK_MESSAGE_COUNT: usize = 1024;

/// How late a message may come that nobody waits for. Leases that are on their way back hold memory for so long.
const LATE_MAX: Duration = Duration::from_millis(5);

/// See the module's text: requests, replies, watches in both directions, leases, connections, questions to groups
/// with their cancellations and answers, and the few of shutdown.
const OUTBOX_MESSAGE_COUNT_MAX: usize = 2 * limits::CALL_COUNT_MAX
    + 2 * limits::WATCH_COUNT_MAX
    + limits::LEASE_COUNT_MAX
    + 4 * limits::CONNECTION_COUNT_MAX
    + 16;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use millrace_runtime::sim::{SimEnv, World, WorldConfig};

    use super::message::WatchId;
    use super::*;

    #[test]
    fn late_messages_go_along_with_the_next_one_or_alone_after_a_while() {
        let world = World::new(9, WorldConfig::default());
        let (mut mailboxes, mut sets) = (Vec::new(), Vec::new());
        let arrived: Rc<RefCell<Vec<u64>>> = Rc::default();
        for (index, links) in (0..2).zip(Links::<SimEnv>::all(2)) {
            let (mailbox, tasks) = (Mailbox::<SimEnv>::new(2), TaskSet::new(&world.env(index)));
            let seen = Rc::clone(&arrived);
            mailbox.start(links, &tasks, move |_, message| match message {
                Message::Wake { watch } => seen.borrow_mut().push(watch.0),
                _ => unreachable!("only this is sent"),
            });
            mailboxes.push(mailbox);
            sets.push(tasks);
        }
        let (peer, wake) = (ShardIndex::new(1), |number| Message::Wake { watch: WatchId(number) });
        let clock = world.env(0).clock().clone();
        world.run(async {
            mailboxes[0].send(peer, wake(0));
            clock.sleep(LATE_MAX).await;
            mailboxes[0].send_late(peer, wake(1));
            clock.sleep(LATE_MAX * 9 / 10).await;
            assert_eq!(*arrived.borrow(), [0], "nothing has woken the sender");
            clock.sleep(LATE_MAX).await;
            assert_eq!(*arrived.borrow(), [0, 1]);

            mailboxes[0].send_late(peer, wake(2));
            mailboxes[0].send(peer, wake(3));
            clock.sleep(LATE_MAX / 2).await;
            assert_eq!(*arrived.borrow(), [0, 1, 2, 3]);

            mailboxes[0].send_late(peer, wake(4));
            mailboxes.iter().for_each(Mailbox::close);
            for tasks in &sets {
                tasks.join().await;
            }
            assert_eq!(*arrived.borrow(), [0, 1, 2, 3, 4]);
        });
    }

    const SHARD_COUNT: u16 = 3;
    /// Far more than a link holds.
    const MESSAGE_COUNT: u64 = 4 * 1024;

    /// Every shard sends to every other without a pause and answers every message it gets. Were a receiving task to wait
    /// for room in the other direction, all would stand still.
    #[test]
    fn full_links_in_all_directions_do_not_block_each_other() {
        for seed in 0..5 {
            let world = World::new(seed, WorldConfig::default());
            let mut shards = Vec::new();
            for (index, links) in (0..SHARD_COUNT).zip(Links::<SimEnv>::all(SHARD_COUNT)) {
                let env = world.env(index);
                let (mailbox, tasks) = (Mailbox::<SimEnv>::new(SHARD_COUNT), TaskSet::new(&env));
                let arrived: Rc<RefCell<Vec<(ShardIndex, u64)>>> = Rc::default();
                let (replies, seen) = (mailbox.clone(), Rc::clone(&arrived));
                mailbox.start(links, &tasks, move |source, message| match message {
                    Message::CancelWatch { watch } => replies.send(source, Message::Wake { watch }),
                    Message::Wake { watch } => seen.borrow_mut().push((source, watch.0)),
                    _ => unreachable!("only these two are sent"),
                });
                shards.push((mailbox, tasks, arrived));
            }
            for (own, (mailbox, _, _)) in ShardIndex::all(SHARD_COUNT).zip(&shards) {
                for watch in (0..MESSAGE_COUNT).map(WatchId) {
                    for peer in ShardIndex::all(SHARD_COUNT).filter(|peer| *peer != own) {
                        mailbox.send(peer, Message::CancelWatch { watch });
                    }
                }
            }
            let expected_count = MESSAGE_COUNT * u64::from(SHARD_COUNT - 1);
            let expected_count = usize::try_from(expected_count).unwrap();
            world.run(async {
                while shards.iter().any(|(_, _, arrived)| arrived.borrow().len() < expected_count) {
                    millrace_runtime::Tasks::yield_now(world.env(0).tasks()).await;
                }
                for (mailbox, _, _) in &shards {
                    mailbox.close();
                }
                for (_, tasks, _) in &shards {
                    tasks.join().await;
                }
            });
            for (_, _, arrived) in &shards {
                for peer in ShardIndex::all(SHARD_COUNT) {
                    let arrived = arrived.borrow();
                    let of_peer = arrived.iter().filter(|(source, _)| *source == peer).map(|(_, number)| *number);
                    assert!(of_peer.is_sorted(), "messages of one shard arrive in order");
                }
            }
        }
    }
}
