//! Asking the shard that owns something to do something with it, and getting the answer back.
//!
//! A request to this shard itself takes the same function as one that came by message, without a message.
//!
//! The number of requests waiting at other shards is bounded: who wants to ask first takes [`Slots`]. Serving a request
//! never takes any, so whoever holds slots gets an answer, and whoever waits for slots gets its turn. The slot of an append
//! ends when its answer arrives, whether or not anybody looks at the answer: a connection looks only after it has started
//! its next request, for which it may be waiting for a slot.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_engine::model::{Offset, PartitionId};
use millrace_engine::store::{ActiveProducer, EpochEnd, ReadError};
use millrace_protocol::error_code::ErrorCode;
use millrace_runtime::local::{OneshotReceiver, OneshotSender, oneshot};
use millrace_runtime::{Env, TaskClass};
use thiserror::Error;

use super::budget::{Budget, Reservation};
use super::mailbox::Mailbox;
use super::mailbox::lease::{Borrowed, Pin};
use super::mailbox::message::{
    Append, AppendRefusal, AppendedBatch, CallId, Decision, DeleteRecords, EpochQuery, FoundOffset, ListOffsets,
    Message, Proposal, ProposeError, Read, ReadPartition, ReadReply, Reply, Request,
};
use super::placement::ShardIndex;
use super::watch::Wait;
use super::{LogSlice, Shard, limits, metadata_log, read, serve};
use crate::group::request::{Answer as GroupAnswer, ListedGroup};

/// The requests of one shard that wait at others.
pub struct Router<E: Env> {
    mailbox: Mailbox<E>,
    slots: Budget,
    waiting: RefCell<BTreeMap<CallId, Waiting<E>>>,
    number_next: Cell<u64>,
}

/// Who waits for one answer.
struct Waiting<E: Env> {
    sender: OneshotSender<Answer<E>>,
    /// Given back when the answer arrives.
    slot: Option<Slots>,
}

impl<E: Env> Router<E> {
    /// Nothing asked yet.
    pub fn new(mailbox: &Mailbox<E>) -> Self {
        let slots = Budget::new(limits::CALL_COUNT_MAX);
        Self { mailbox: mailbox.clone(), slots, waiting: RefCell::default(), number_next: Cell::new(0) }
    }

    /// Waits for the right to have `count` requests waiting at other shards.
    pub async fn slots(&self, count: usize) -> Option<Slots> {
        if count == 0 {
            return None;
        }
        let turn = self.slots.enqueue(count);
        Some(turn.expect("one request asks each shard at most once, and there are fewer than slots").await)
    }

    /// Sends a request to another shard. It is on its way when this returns; the receiver is for the answer.
    pub fn call(&self, owner: ShardIndex, request: Request) -> OneshotReceiver<Answer<E>> {
        self.call_with(owner, request, None)
    }

    /// A number for a question that the caller sends on its way itself, be it to this shard; the receiver is for the answer.
    pub fn expect_answer(&self) -> (CallId, OneshotReceiver<Answer<E>>) {
        self.expect_with(None)
    }

    fn expect_with(&self, slot: Option<Slots>) -> (CallId, OneshotReceiver<Answer<E>>) {
        let call = CallId(self.number_next.get());
        self.number_next.set(call.0 + 1);
        let (sender, receiver) = oneshot();
        self.waiting.borrow_mut().insert(call, Waiting { sender, slot });
        (call, receiver)
    }

    /// Tells another shard to do something. False when too many requests are waiting: it is not told then.
    pub fn try_tell(&self, owner: ShardIndex, request: Request) -> bool {
        let slot = self.slots.try_reserve(1);
        let is_told = slot.is_some();
        if is_told {
            drop(self.call_with(owner, request, slot));
        }
        is_told
    }

    /// The same as a call with a slot that ends with the answer.
    fn call_with(&self, owner: ShardIndex, request: Request, slot: Option<Slots>) -> OneshotReceiver<Answer<E>> {
        let (call, receiver) = self.expect_with(slot);
        self.mailbox.send(owner, Message::Request { call, request });
        receiver
    }

    /// An answer has arrived. It is dropped, and lent memory with it returned, when nobody waits for it any more.
    pub fn complete(&self, call: CallId, reply: Reply) {
        let answer = Answer::receive(reply, &self.mailbox);
        let waiting = self.waiting.borrow_mut().remove(&call);
        let Waiting { sender, slot } = waiting.expect("a request is answered once");
        sender.send(answer);
        drop(slot);
    }

    /// Requests that were not answered yet.
    pub fn waiting_count(&self) -> usize {
        self.waiting.borrow().len()
    }
}

/// A reply as this shard uses it: memory that was lent is claimed the moment it arrives, so that it is returned whatever
/// happens to the answer.
pub enum Answer<E: Env> {
    /// One result per batch, in order.
    Append(Vec<Result<AppendedBatch, AppendRefusal>>),
    /// What was read.
    Read(ReadAnswer<E>),
    /// One result per query, in order.
    ListOffsets(Vec<Result<Option<FoundOffset>, ReadError>>),
    /// One result per log, in order.
    DeleteRecords(Vec<Result<Offset, ReadError>>),
    /// One result per log, in order: the bytes of its records.
    LogBytes(Vec<Result<u64, ReadError>>),
    /// One result per query, in order.
    EpochEnds(Vec<Result<EpochEnd, ReadError>>),
    /// One result per log, in order.
    ActiveProducers(Vec<Result<Vec<ActiveProducer>, ReadError>>),
    /// What the group says.
    Group(GroupAnswer),
    /// A shard's groups.
    ListGroups(Result<Vec<ListedGroup>, ErrorCode>),
    /// Whether the change is in force on every shard.
    Propose(Result<Decision, ProposeError>),
    /// The records are in force on that shard.
    Apply,
    /// That shard has looked for room.
    FreeRoom,
    /// That shard has no connection left.
    Drain,
}

impl<E: Env> Answer<E> {
    fn receive(reply: Reply, mailbox: &Mailbox<E>) -> Self {
        match reply {
            Reply::Append(results) => Self::Append(results),
            Reply::Read(reply) => Self::Read(ReadAnswer::receive(reply, mailbox)),
            Reply::ListOffsets(results) => Self::ListOffsets(results),
            Reply::DeleteRecords(results) => Self::DeleteRecords(results),
            Reply::LogBytes(results) => Self::LogBytes(results),
            Reply::EpochEnds(results) => Self::EpochEnds(results),
            Reply::ActiveProducers(results) => Self::ActiveProducers(results),
            Reply::Group(answer) => Self::Group(answer),
            Reply::ListGroups(groups) => Self::ListGroups(groups),
            Reply::Propose(result) => Self::Propose(result),
            Reply::Apply => Self::Apply,
            Reply::FreeRoom => Self::FreeRoom,
            Reply::Drain => Self::Drain,
        }
    }
}

/// What one shard found for a Fetch.
pub struct ReadAnswer<E: Env> {
    /// One result per partition, in order.
    pub partitions: Vec<Result<ReadPartition, ReadError>>,
    /// The pieces of all partitions, one after the other.
    pub pieces: Vec<Piece<E>>,
    /// Whether a watch was armed that will be heard of.
    pub is_watched: bool,
    /// Whether there is more, and memory for no more: waiting brings nothing.
    pub is_full: bool,
}

impl<E: Env> ReadAnswer<E> {
    fn receive(reply: ReadReply, mailbox: &Mailbox<E>) -> Self {
        let mut pieces = Vec::new();
        for lent in reply.lent {
            let lease = Borrowed::claim(lent, mailbox.clone());
            pieces.extend((0..lease.piece_count()).map(|index| Piece::Lent { lease: lease.clone(), index }));
        }
        let partition_pieces: usize = reply.partitions.iter().flatten().map(|partition| partition.piece_count).sum();
        assert!(partition_pieces == pieces.len(), "every piece belongs to a partition");
        Self { partitions: reply.partitions, pieces, is_watched: reply.is_watched, is_full: reply.is_full }
    }
}

/// A run of stored bytes, wherever they are.
pub enum Piece<E: Env> {
    /// In this shard's memory.
    Own {
        /// The bytes.
        slice: LogSlice<E>,
        /// Counts the bytes of this piece and its neighbours for as long as any of them is held.
        pin: Rc<Pin>,
    },
    /// In another shard's memory.
    Lent {
        /// The lease it came with.
        lease: Borrowed<Mailbox<E>>,
        /// Which of the lease's pieces.
        index: usize,
    },
}

impl<E: Env> Piece<E> {
    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Own { slice, pin: _ } => slice.as_slice(),
            Self::Lent { lease, index } => lease.piece(*index),
        }
    }
}

impl<E: Env> Shard<E> {
    /// How many of `owners` are other shards, and so how many slots asking all of them takes.
    pub fn remote_count(&self, owners: impl Iterator<Item = ShardIndex>) -> usize {
        owners.filter(|owner| *owner != self.index()).count()
    }

    /// Appends on the owning shard. The place in its line is taken when this returns; the receiver is for the results.
    /// Another shard takes one of `slots`.
    pub fn append(&self, owner: ShardIndex, request: Append, slots: &mut Option<Slots>) -> OneshotReceiver<Answer<E>> {
        if owner != self.index() {
            let slot = slots.as_mut().map(|slots| slots.split_off(1));
            return self.router().call_with(owner, Request::Append(request), slot);
        }
        let turn = self.append_line().enqueue();
        let (sender, receiver) = oneshot();
        let shard = self.clone();
        // A task of its own, because the line behind must not wait for a connection that is busy sending.
        self.tasks().spawn("append", TaskClass::Network, async move {
            sender.send(Answer::Append(serve::append(&shard, request, turn).await));
        });
        receiver
    }

    /// Reads on the owning shard, which wakes `wait` when more comes than was found.
    pub async fn read(
        &self,
        owner: ShardIndex,
        mut request: Read,
        wait: Option<&Wait<E>>,
    ) -> Result<ReadAnswer<E>, ShardGone> {
        if owner == self.index() {
            return Ok(read::read_own(self, &request, wait.map(Wait::event)).await);
        }
        request.watch = wait.map(Wait::id);
        match self.router().call(owner, Request::Read(request)).await {
            Some(Answer::Read(answer)) => Ok(answer),
            _ => Err(ShardGone),
        }
    }

    /// Finds offsets on the owning shard.
    pub async fn list_offsets(
        &self,
        owner: ShardIndex,
        request: ListOffsets,
    ) -> Result<Vec<Result<Option<FoundOffset>, ReadError>>, ShardGone> {
        if owner == self.index() {
            return Ok(serve::list_offsets(self, &request).await);
        }
        match self.router().call(owner, Request::ListOffsets(request)).await {
            Some(Answer::ListOffsets(results)) => Ok(results),
            _ => Err(ShardGone),
        }
    }

    /// Moves the start of logs forward on the owning shard.
    pub async fn delete_records(
        &self,
        owner: ShardIndex,
        request: DeleteRecords,
    ) -> Result<Vec<Result<Offset, ReadError>>, ShardGone> {
        if owner == self.index() {
            return Ok(serve::delete_records(self, &request).await);
        }
        match self.router().call(owner, Request::DeleteRecords(request)).await {
            Some(Answer::DeleteRecords(results)) => Ok(results),
            _ => Err(ShardGone),
        }
    }

    /// How large logs are, from the shard that owns them.
    pub async fn log_bytes(
        &self,
        owner: ShardIndex,
        request: Vec<PartitionId>,
    ) -> Result<Vec<Result<u64, ReadError>>, ShardGone> {
        if owner == self.index() {
            return Ok(serve::log_bytes(self, &request).await);
        }
        match self.router().call(owner, Request::LogBytes(request)).await {
            Some(Answer::LogBytes(results)) => Ok(results),
            _ => Err(ShardGone),
        }
    }

    /// Finds where leader epochs end, on the owning shard.
    pub async fn epoch_ends(
        &self,
        owner: ShardIndex,
        request: Vec<EpochQuery>,
    ) -> Result<Vec<Result<EpochEnd, ReadError>>, ShardGone> {
        if owner == self.index() {
            return Ok(serve::epoch_ends(self, &request).await);
        }
        match self.router().call(owner, Request::EpochEnds(request)).await {
            Some(Answer::EpochEnds(results)) => Ok(results),
            _ => Err(ShardGone),
        }
    }

    /// Who has written to logs with a producer id, from the shard that owns them.
    pub async fn active_producers(
        &self,
        owner: ShardIndex,
        request: Vec<PartitionId>,
    ) -> Result<Vec<Result<Vec<ActiveProducer>, ReadError>>, ShardGone> {
        if owner == self.index() {
            return Ok(serve::active_producers(self, &request).await);
        }
        match self.router().call(owner, Request::ActiveProducers(request)).await {
            Some(Answer::ActiveProducers(results)) => Ok(results),
            _ => Err(ShardGone),
        }
    }

    /// Changes the metadata; the change is in force on every shard when this completes.
    pub async fn propose(&self, proposal: Proposal) -> Result<Result<Decision, ProposeError>, ShardGone> {
        if self.index() == ShardIndex::FIRST {
            return Ok(metadata_log::propose(self, proposal).await);
        }
        let _slot = self.router().slots(1).await;
        match self.router().call(ShardIndex::FIRST, Request::Propose(proposal)).await {
            Some(Answer::Propose(result)) => Ok(result),
            _ => Err(ShardGone),
        }
    }
}

/// The right to have requests waiting at other shards.
pub type Slots = Reservation;

/// The other shard has stopped, or answered something else than what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the owning shard has stopped")]
pub struct ShardGone;

const _: () = assert!(limits::CALL_COUNT_MAX > 256, "a request that asks every shard fits");
