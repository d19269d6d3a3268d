//! What one shard says to another.
//!
//! Every type here is `Send` and owns what it carries: frames by reference count, lent memory by lease, the rest by value.
//! A request gets exactly one reply, unless its shard goes away; every other message is one-way and may arrive late.

use std::ops::Range;
use std::time::Duration;

use millrace_engine::log::Failure;
use millrace_engine::log::offsets::LogOffsets;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{ActiveProducer, AppendError, EpochEnd, FirstBatch, ReadError, TimeQuery};
use millrace_protocol::batch::BatchError;
use millrace_protocol::batch::compression::CompressionError;
use millrace_protocol::error_code::ErrorCode;
use millrace_runtime::{Env, Net};

use super::frame::Frame;
use super::lease::{LeaseId, Lent};
use crate::group::request::{Answer, GroupRequest, ListedGroup};
use crate::metadata::controller::alter::AlterConfig;
use crate::metadata::controller::partitions::CreatePartitions;
use crate::metadata::controller::{CreateTopic, DeleteTopic, PlannedTopic, Refusal};
use crate::metadata::record::{Broker, Entry, Record};

/// Anything that crosses from one shard to another.
pub enum Message<E: Env> {
    /// Asks for work; `call` comes back with the reply.
    Request {
        /// The caller's number for it.
        call: CallId,
        /// The work.
        request: Request,
    },
    /// Answers a request of the receiver.
    Reply {
        /// The receiver's number for it.
        call: CallId,
        /// The answer.
        reply: Reply,
    },
    /// A log that the receiver watches has grown. One per watch.
    Wake {
        /// The receiver's number for the watch.
        watch: WatchId,
    },
    /// The sender no longer waits for a wake.
    CancelWatch {
        /// The sender's number for the watch.
        watch: WatchId,
    },
    /// The sender no longer waits for a group's answer. It gets one all the same.
    CancelGroup {
        /// The sender's number for the question.
        call: CallId,
        /// The partition of `__consumer_offsets` that has the group.
        partition: i32,
        /// The group.
        group: String,
    },
    /// The sender no longer reads memory that the receiver lent.
    ReturnLease {
        /// The receiver's number for it.
        lease: LeaseId,
    },
    /// A connection for the receiver to serve.
    Adopt {
        /// The connection.
        accepted: Accepted<E>,
    },
    /// The sender has closed a connection that it was given.
    ConnectionClosed,
    /// The data directory is in the shape that this number of shards expects: open your logs.
    Open,
    /// No shard serves connections any more: let go of everything and stop.
    Close,
}

/// An accepted connection, with what its listener knows.
pub struct Accepted<E: Env> {
    /// The socket.
    pub socket: <E::Net as Net>::Accepted,
    /// Which of the configured listeners accepted it.
    pub listener_index: usize,
}

/// Number that a shard gives to a request of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CallId(pub u64);

/// Number that a shard gives to a waiting Fetch of its own. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatchId(pub u64);

/// Work for the shard that owns what it is about.
pub enum Request {
    /// Append batches to the owner's logs.
    Append(Append),
    /// Read the owner's logs.
    Read(Read),
    /// Find offsets in the owner's logs.
    ListOffsets(ListOffsets),
    /// Move the start of the owner's logs forward.
    DeleteRecords(DeleteRecords),
    /// Tell how large the owner's logs are.
    LogBytes(Vec<PartitionId>),
    /// Find where leader epochs end in the owner's logs.
    EpochEnds(Vec<EpochQuery>),
    /// Tell who has written to the owner's logs with a producer id.
    ActiveProducers(Vec<PartitionId>),
    /// Ask a group. May wait for other clients.
    Group(GroupCall),
    /// List the groups.
    ListGroups,
    /// Change the metadata. Only to the first shard.
    Propose(Proposal),
    /// Start from this image. Once, before any connection, only from the first shard.
    LoadImage {
        /// What the image consists of.
        records: Vec<Record>,
        /// The entry of the metadata log that it stands for.
        applied_index: u64,
    },
    /// Apply a durable entry of the metadata log. Only from the first shard.
    Apply(Entry),
    /// Close a connection that keeps other shards' memory for long, if there is one.
    FreeRoom,
    /// Finish the connections' requests and close them.
    Drain,
}

/// The answer to a [`Request`], of the same name.
pub enum Reply {
    /// One result per batch, in order.
    Append(Vec<Result<AppendedBatch, AppendRefusal>>),
    /// What was read.
    Read(ReadReply),
    /// One result per query, in order.
    ListOffsets(Vec<Result<Option<FoundOffset>, ReadError>>),
    /// One result per log, in order: where it starts now.
    DeleteRecords(Vec<Result<Offset, ReadError>>),
    /// One result per log, in order: the bytes of its records.
    LogBytes(Vec<Result<u64, ReadError>>),
    /// One result per query, in order.
    EpochEnds(Vec<Result<EpochEnd, ReadError>>),
    /// One result per log, in order.
    ActiveProducers(Vec<Result<Vec<ActiveProducer>, ReadError>>),
    /// What the group says.
    Group(Answer),
    /// The shard's groups.
    ListGroups(Result<Vec<ListedGroup>, ErrorCode>),
    /// Whether the change is in force on every shard.
    Propose(Result<Decision, ProposeError>),
    /// The image is in force on this shard.
    Apply,
    /// It was looked for.
    FreeRoom,
    /// No connection is left.
    Drain,
}

/// A question to a group of the receiver.
pub struct GroupCall {
    /// The partition of `__consumer_offsets` that has the group.
    pub partition: i32,
    /// The question.
    pub request: GroupRequest,
}

/// Batches of one Produce request that one shard owns.
pub struct Append {
    /// The request as it was received.
    pub frame: Frame,
    /// Where the batches lie in it.
    pub batches: Vec<BatchPlace>,
    /// When to reply.
    pub reply_when: ReplyWhen,
}

/// One batch, not looked into yet, and where it goes.
#[derive(Clone, Debug)]
pub struct BatchPlace {
    /// The log.
    pub partition: PartitionId,
    /// Epoch in which this broker leads the partition.
    pub leader_epoch: LeaderEpoch,
    /// Where the batch lies in the frame.
    pub range: Range<usize>,
    /// Whether its records may lack a key.
    pub keys: Keys,
}

/// Whether records may lack a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// They may.
    Optional,
    /// They may not: the log is compacted.
    Required,
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyWhen {
    /// As soon as the batches have their offsets: nobody is told that they are safe (acks=0).
    Appended,
    /// When they are on the device (acks=1 and acks=all).
    Durable,
}

/// Why a batch is not known to be safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendRefusal {
    /// It is not a batch that a producer may send.
    Invalid(BatchError),
    /// Records of it lack the key that they need in a compacted log.
    KeysMissing {
        /// How many do.
        count: usize,
        /// Their places in the batch, the first ones only.
        first: Vec<i32>,
    },
    /// It goes to a compacted log, and its records could not be looked at.
    Decompression(CompressionError),
    /// It was not taken.
    Refused(AppendError),
    /// It was taken, but may not be on the device.
    NotDurable(Failure),
}

/// A change of the metadata that somebody wants.
#[derive(Clone, Debug)]
pub enum Proposal {
    /// This broker is here.
    RegisterBroker(Broker),
    /// A new topic.
    CreateTopic {
        /// What is wanted of it.
        request: CreateTopic,
        /// Whether to make it or only to say whether it could be made.
        mode: ProposalMode,
    },
    /// Another configuration of a topic, a broker or a group.
    AlterConfig {
        /// What is to change.
        request: AlterConfig,
        /// Whether to change it or only to say whether it could be changed.
        mode: ProposalMode,
    },
    /// More partitions for a topic.
    CreatePartitions {
        /// What is wanted.
        request: CreatePartitions,
        /// Whether to make them or only to say whether they could be made.
        mode: ProposalMode,
    },
    /// The end of a topic.
    DeleteTopic(DeleteTopic),
    /// The next block of producer ids.
    AllocateProducerIds,
}

/// Whether a proposal is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProposalMode {
    /// It is.
    Propose,
    /// Only the decision is wanted (`validate_only`).
    Validate,
}

/// What became of a [`Proposal`] of the same name, in force on every shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The broker is registered.
    BrokerRegistered,
    /// The topic is there.
    TopicCreated(PlannedTopic),
    /// The partitions are there.
    PartitionsCreated,
    /// It is configured so.
    ConfigAltered,
    /// The topic is gone.
    TopicDeleted {
        /// Its id.
        topic: TopicId,
        /// Its name.
        name: String,
    },
    /// These ids are the asker's.
    ProducerIds {
        /// The first one.
        first: i64,
        /// How many, in sequence.
        count: i64,
    },
}

/// Why a change of the metadata is not known to be in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposeError {
    /// The controller does not allow it.
    Refused(Refusal),
    /// The metadata log could not take it.
    Log(AppendRefusal),
}

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendedBatch {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// First offset the log still has.
    pub log_start_offset: Offset,
    /// The broker's time that its records carry; `None` where they carry the producer's.
    pub log_append_time_ms: Option<i64>,
    /// How long the client is to be held up: the owner's disk is nearly full.
    pub throttle: Duration,
}

/// Partitions of one Fetch request that one shard owns.
#[derive(Clone, Debug)]
pub struct Read {
    /// The partitions, in the order of the request.
    pub partitions: Vec<ReadPosition>,
    /// Most bytes for all of them, save for `first`.
    pub bytes_max: usize,
    /// Whether the first batch found may exceed the limits (KIP-74).
    pub first: FirstBatch,
    /// The watch to arm in the same step, when the answer has fewer than `bytes_wanted` bytes and no error.
    pub watch: Option<WatchId>,
    /// Bytes with which the caller would be content.
    pub bytes_wanted: usize,
}

/// Where to read one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPosition {
    /// The log.
    pub partition: PartitionId,
    /// First offset wanted.
    pub offset: Offset,
    /// Most bytes of this partition.
    pub bytes_max: usize,
}

/// What one shard found for a [`Read`].
pub struct ReadReply {
    /// One result per partition, in order.
    pub partitions: Vec<Result<ReadPartition, ReadError>>,
    /// The memory of all results, one after the other, in parts that come back on their own.
    pub lent: Vec<Lent>,
    /// Whether the watch was armed and will be heard of.
    pub is_watched: bool,
    /// Whether there is more, and memory for no more: waiting brings nothing.
    pub is_full: bool,
}

/// What was found in one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPartition {
    /// How many pieces of the answer's memory are this partition's.
    pub piece_count: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Where the log stands.
    pub offsets: LogOffsets,
}

/// Partitions of one ListOffsets request that one shard owns.
#[derive(Clone, Debug)]
pub struct ListOffsets {
    /// The questions, in the order of the request.
    pub queries: Vec<OffsetQuery>,
}

/// One question about one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetQuery {
    /// The log.
    pub partition: PartitionId,
    /// Since which epoch it is led: that of a log without records.
    pub leader_epoch: LeaderEpoch,
    /// What is asked.
    pub position: OffsetPosition,
}

/// What ListOffsets may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetPosition {
    /// First offset the log still has.
    Earliest,
    /// Offset after the last one that a consumer may see.
    Latest,
    /// By timestamp.
    Time(TimeQuery),
}

/// Partitions of one DeleteRecords request that one shard owns.
#[derive(Clone, Debug)]
pub struct DeleteRecords {
    /// The logs, in the order of the request.
    pub targets: Vec<DeleteTarget>,
}

/// How far the records of one log are to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteTarget {
    /// The log.
    pub partition: PartitionId,
    /// The first offset that stays; `None` is the high watermark.
    pub before: Option<Offset>,
}

/// The question where the records of a leader end, and of those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochQuery {
    /// The log.
    pub partition: PartitionId,
    /// Of which epoch. Invariant: not negative, and not above `leader_epoch`.
    pub epoch: LeaderEpoch,
    /// Epoch in which this broker leads the partition.
    pub leader_epoch: LeaderEpoch,
}

/// What was found for an [`OffsetQuery`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundOffset {
    /// The offset.
    pub offset: Offset,
    /// Timestamp of the record there; `None` where the question was not about time.
    pub timestamp_ms: Option<i64>,
    /// Leader epoch at the offset; -1 when it is not known.
    pub leader_epoch: LeaderEpoch,
}
