//! The group coordinators of one shard: one seat for each of its partitions of `__consumer_offsets`.
//!
//! ```text
//! question -> coordinator (pure) -> queue -> one batch of the seat's log -> durable -> answers, here or at other shards
//! ```
//!
//! 1. A seat is made when the image gives the shard the partition. Until the partition is read back its groups answer
//!    `COORDINATOR_LOAD_IN_PROGRESS`. One partition of the shard is read at a time, so reading takes bounded memory.
//! 2. A question is decided on at once. What it leads to is queued behind everything before it, so no answer leaves before
//!    what it was decided on is durable. Nothing is queued while nothing is being written.
//! 3. When an append fails, everybody who waits is refused, the coordinator is thrown away, and the partition is read again.
//! 4. One task sleeps until the earliest deadline of all seats.
//!
//! Asking never takes one of the router's slots: JoinGroup and SyncGroup wait for other clients. A connection asks one
//! question at a time, which bounds them.

mod seat;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use millrace_engine::model::{PartitionId, TopicId};
use millrace_protocol::error_code::ErrorCode;
use millrace_runtime::local::{Event, OneshotReceiver};
use millrace_runtime::{Clock, Env, TaskClass, Tasks};

use self::seat::Seat;
use super::budget::Budget;
use super::mailbox::message::{CallId, GroupCall, Message, Proposal, ProposalMode, Reply, Request};
use super::placement::ShardIndex;
use super::router::{Answer as CallAnswer, ShardGone};
use super::{Shard, Stage};
use crate::config::GroupConfig;
use crate::group::request::{Answer, ListedGroup};
use crate::group::{Moment, Now, Outcome, Settings, Token};
use crate::metadata::controller::{CreateTopic, OFFSETS_TOPIC, REPLICATION_FACTOR_MAX};
use crate::metadata::image::Topic;
use crate::metrics::report::GroupsReport;

/// The coordinators of one shard.
pub struct Groups<E: Env> {
    settings: Settings,
    bytes_max: usize,
    /// By partition. Invariant: those of `topic` that the shard owns.
    seats: RefCell<BTreeMap<i32, Rc<Seat<E>>>>,
    topic: Cell<Option<TopicId>>,
    /// One partition is read back at a time.
    load_line: Budget,
    /// Notified when a deadline comes closer than the one that is slept for.
    earlier: Event,
    sleeps_until_ms: Cell<i64>,
    env: PhantomData<E>,
}

impl<E: Env> Groups<E> {
    /// No seats yet.
    pub fn new(config: &GroupConfig, bytes_max: usize) -> Self {
        Self {
            settings: Settings::new(config),
            bytes_max,
            seats: RefCell::default(),
            topic: Cell::new(None),
            load_line: Budget::new(1),
            earlier: Event::default(),
            sleeps_until_ms: Cell::new(i64::MAX),
            env: PhantomData,
        }
    }

    /// Makes the seats follow the image: those of the topic there is, and no others.
    pub fn follow(&self, shard: &Shard<E>) {
        let image = shard.image();
        let topic = image.find_topic_by_name(OFFSETS_TOPIC);
        if self.topic.get() != topic.map(|topic| topic.id) {
            let seats = std::mem::take(&mut *self.seats.borrow_mut());
            for seat in seats.into_values() {
                seat.close(shard);
            }
            self.topic.set(topic.map(|topic| topic.id));
        }
        for partition in topic.into_iter().flat_map(|topic| &topic.partitions) {
            let id = PartitionId { topic: topic.expect("it has partitions").id, partition: partition.partition };
            if shard.owner(id) == shard.index() && !self.seats.borrow().contains_key(&id.partition) {
                let seat = Rc::new(Seat::new(id, partition.leader_epoch));
                self.seats.borrow_mut().insert(id.partition, Rc::clone(&seat));
                seat::start(shard, seat);
            }
        }
    }

    /// A topic was deleted: what was committed for it goes.
    pub fn forget_topic(&self, shard: &Shard<E>, topic: &str) {
        let seats: Vec<_> = self.seats.borrow().values().cloned().collect();
        for seat in seats {
            seat.step(shard, |coordinator| coordinator.forget_topic(topic));
        }
    }

    /// Takes a question in. Its answer goes to where it came from, now or later.
    pub fn take_in(&self, shard: &Shard<E>, token: Token, call: GroupCall) {
        let seat = self.seats.borrow().get(&call.partition).cloned();
        let Some(seat) = seat else {
            return deliver(shard, token, Answer::Refused(ErrorCode::NotCoordinator));
        };
        let (now, room_bytes) = (now(shard), self.room_bytes());
        let (request, image) = (call.request, shard.image());
        let at = Moment { now, image: &image };
        let is_taken = seat.step(shard, |coordinator| coordinator.handle(at, token, request, room_bytes));
        if !is_taken {
            deliver(shard, token, Answer::Refused(ErrorCode::CoordinatorLoadInProgress));
        }
    }

    /// Whoever asked no longer waits.
    pub fn cancel(&self, shard: &Shard<E>, token: Token, partition: i32, group: &str) {
        let seat = self.seats.borrow().get(&partition).cloned();
        if let Some(seat) = seat {
            let image = shard.image();
            let at = Moment { now: now(shard), image: &image };
            seat.step(shard, |coordinator| coordinator.cancel(at, group, token));
        }
    }

    /// The groups of this shard, unless some of them are not known yet.
    pub fn list(&self) -> Result<Vec<ListedGroup>, ErrorCode> {
        let mut groups = Vec::new();
        for seat in self.seats.borrow().values() {
            groups.extend(seat.list().ok_or(ErrorCode::CoordinatorLoadInProgress)?);
        }
        Ok(groups)
    }

    /// The groups of this shard as far as they are known, and what they have committed.
    pub async fn report(&self, shard: &Shard<E>) -> GroupsReport {
        let mut report = GroupsReport::default();
        let seats: Vec<_> = self.seats.borrow().values().cloned().collect();
        let image = shard.image();
        for seat in seats {
            seat.add_to(&mut report, &image);
            shard.env().tasks().yield_now().await;
        }
        report
    }

    /// Memory of all groups, roughly.
    pub fn bytes(&self) -> usize {
        self.seats.borrow().values().map(|seat| seat.bytes()).sum()
    }

    fn room_bytes(&self) -> usize {
        self.bytes_max.saturating_sub(self.bytes())
    }

    /// Something is due at `deadline_ms`.
    fn expect(&self, deadline_ms: i64) {
        if deadline_ms < self.sleeps_until_ms.get() {
            self.sleeps_until_ms.set(deadline_ms);
            self.earlier.notify();
        }
    }

    /// Does what is due at every seat, with a pause after each step; gives when something is due next.
    async fn expire(&self, shard: &Shard<E>) -> i64 {
        let seats: Vec<_> = self.seats.borrow().values().cloned().collect();
        let mut next_ms = i64::MAX;
        for seat in seats {
            while seat.next_deadline_ms() <= now(shard).steady_ms {
                {
                    let image = shard.image();
                    let at = Moment { now: now(shard), image: &image };
                    seat.step(shard, |coordinator| coordinator.expire(at));
                }
                shard.env().tasks().yield_now().await;
            }
            next_ms = next_ms.min(seat.next_deadline_ms());
        }
        next_ms
    }
}

/// Starts the task that sleeps until something is due. It ends when the shard drains.
pub fn start<E: Env>(shard: &Shard<E>) {
    let own = shard.clone();
    shard.tasks().spawn("group deadlines", TaskClass::Metadata, async move {
        while own.stage() < Stage::Draining {
            let groups = own.groups();
            let version = groups.earlier.version();
            // While this runs nobody has to wake it.
            groups.sleeps_until_ms.set(i64::MIN);
            let until_ms = groups.expire(&own).await;
            groups.sleeps_until_ms.set(until_ms);
            let pause_ms = until_ms.saturating_sub(now(&own).steady_ms);
            let pause = Duration::from_millis(u64::try_from(pause_ms).unwrap_or(0)).min(SLEEP_MAX);
            let earlier = std::pin::pin!(groups.earlier.changed(version));
            let pause = std::pin::pin!(own.env().clock().sleep(pause));
            let draining = std::pin::pin!(own.reached(Stage::Draining));
            select(select(earlier, pause), draining).await;
        }
    });
}

/// Who asked, as groups know it.
pub fn token(source: ShardIndex, call: CallId) -> Token {
    Token { source: source.get(), number: call.0 }
}

/// Sends an answer to whoever waits for it.
fn deliver<E: Env>(shard: &Shard<E>, token: Token, answer: Answer) {
    let (source, call) = (ShardIndex::new(token.source), CallId(token.number));
    if source == shard.index() {
        shard.router().complete(call, Reply::Group(answer));
    } else {
        shard.mailbox().send(source, Message::Reply { call, reply: Reply::Group(answer) });
    }
}

fn deliver_all<E: Env>(shard: &Shard<E>, outcome: Outcome) {
    for (token, answer) in outcome.answers {
        deliver(shard, token, answer);
    }
}

/// Tells everybody whose answer was decided and did not come to hold.
fn refuse_all<E: Env>(shard: &Shard<E>, outcomes: impl IntoIterator<Item = Outcome>, error: ErrorCode) {
    for (token, _) in outcomes.into_iter().flat_map(|outcome| outcome.answers) {
        deliver(shard, token, Answer::Refused(error));
    }
}

/// The time on this shard.
fn now<E: Env>(shard: &Shard<E>) -> Now {
    let clock = shard.env().clock();
    let steady_ms = clock.now().as_nanos() / 1_000_000;
    Now { steady_ms: i64::try_from(steady_ms).expect("2^63 ms are for ever"), unix_ms: clock.unix_ms() }
}

/// A question whose answer is awaited. Dropped early, its owner hears that nobody waits any more.
pub struct Asked<E: Env> {
    shard: Shard<E>,
    owner: ShardIndex,
    call: CallId,
    partition: i32,
    group: String,
    receiver: OneshotReceiver<CallAnswer<E>>,
    is_answered: bool,
}

impl<E: Env> Asked<E> {
    /// The answer.
    pub async fn answer(&mut self) -> Result<Answer, ShardGone> {
        let answer = (&mut self.receiver).await;
        self.is_answered = true;
        match answer {
            Some(CallAnswer::Group(answer)) => Ok(answer),
            _ => Err(ShardGone),
        }
    }
}

impl<E: Env> Drop for Asked<E> {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let group = std::mem::take(&mut self.group);
        if self.owner == self.shard.index() {
            self.shard.groups().cancel(&self.shard, token(self.owner, self.call), self.partition, &group);
        } else {
            let (call, partition) = (self.call, self.partition);
            self.shard.mailbox().send(self.owner, Message::CancelGroup { call, partition, group });
        }
    }
}

impl<E: Env> Shard<E> {
    /// Asks a group, wherever it is coordinated. It is asked when this returns.
    pub fn ask_group(&self, owner: ShardIndex, call: GroupCall) -> Asked<E> {
        let (partition, group) = (call.partition, call.request.group.clone());
        let (number, receiver) = self.router().expect_answer();
        if owner == self.index() {
            self.groups().take_in(self, token(owner, number), call);
        } else {
            self.mailbox().send(owner, Message::Request { call: number, request: Request::Group(call) });
        }
        Asked { shard: self.clone(), owner, call: number, partition, group, receiver, is_answered: false }
    }

    /// The groups that a shard coordinates.
    pub async fn list_groups(&self, owner: ShardIndex) -> Result<Result<Vec<ListedGroup>, ErrorCode>, ShardGone> {
        if owner == self.index() {
            return Ok(self.groups().list());
        }
        match self.router().call(owner, Request::ListGroups).await {
            Some(CallAnswer::ListGroups(groups)) => Ok(groups),
            _ => Err(ShardGone),
        }
    }

    /// Has the topic made that groups are stored in, unless it is there. False if that cannot be.
    pub async fn make_offsets_topic(&self) -> Result<bool, ShardGone> {
        if self.image().find_topic_id(OFFSETS_TOPIC).is_some() {
            return Ok(true);
        }
        let config = &self.broker().config.groups;
        // More replicas than brokers would keep groups from working at all.
        let broker_count = self.image().brokers().len().min(REPLICATION_FACTOR_MAX);
        let replication_factor = config.replication_factor.min(i16::try_from(broker_count).unwrap_or(i16::MAX));
        let settings = [("cleanup.policy", "compact".to_owned()), ("segment.bytes", config.segment_bytes.to_string())];
        let request = CreateTopic {
            name: OFFSETS_TOPIC.to_owned(),
            partition_count: config.partition_count,
            replication_factor,
            assignments: Vec::new(),
            config: settings.into_iter().map(|(key, value)| (key.to_owned(), Some(value))).collect(),
        };
        let proposal = Proposal::CreateTopic { request, mode: ProposalMode::Propose };
        if let Err(error) = self.propose(proposal).await?
            && self.image().find_topic_id(OFFSETS_TOPIC).is_none()
        {
            tracing::error!(?error, "the topic that groups are stored in cannot be made");
            return Ok(false);
        }
        Ok(true)
    }
}

/// The partition that has the group: Kafka's hash, on which clients and tools rely.
pub fn partition_of(group: &str, topic: &Topic) -> i32 {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    let count = i32::try_from(topic.partitions.len()).expect("bounded by TOPIC_PARTITION_COUNT_MAX");
    (hash & i32::MAX) % count.max(1)
}

/// Longest sleep without looking.
const SLEEP_MAX: Duration = Duration::from_hours(1);
