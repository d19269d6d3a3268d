//! What is asked of a group, and what it answers. Everything is owned: it crosses shards.
//!
//! An answer carries Kafka's error codes, because the protocol of groups consists of them: a member acts on the code.

use std::collections::BTreeSet;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::wire::Uuid;

/// A question to one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupRequest {
    /// The group's id.
    pub group: String,
    /// The question.
    pub question: Question,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Become a member, or stay one for the next generation. Waits for the others.
    Join(Join),
    /// What am I to read? Waits for the leader.
    Sync(Sync),
    /// I am still here.
    Heartbeat(Membership),
    /// I join, am still here, read other topics, have given partitions back, or go: what is mine now (KIP-848)?
    Beat(Box<Beat>),
    /// These members go.
    Leave(Vec<Leaver>),
    /// This is how far we have read.
    Commit(Commit),
    /// How far have we read?
    Fetch(Fetch),
    /// Who is in it? Of a group of the classic protocol.
    Describe,
    /// The same of a group of KIP-848.
    DescribeConsumer,
    /// The group is to go, with its offsets.
    Delete,
    /// These offsets are to go.
    DeleteOffsets(Vec<TopicPartition>),
}

impl Question {
    /// Kafka keeps offsets for the group without a name, for old clients, but lets nobody join it.
    pub(super) fn needs_name(&self) -> bool {
        match self {
            Self::Join(_)
            | Self::Beat(_)
            | Self::Sync(_)
            | Self::Heartbeat(_)
            | Self::Leave(_)
            | Self::DeleteOffsets(_) => true,
            Self::Commit(_) | Self::Fetch(_) | Self::Describe | Self::DescribeConsumer | Self::Delete => false,
        }
    }
}

/// A member's request to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// Who asks; empty for somebody new.
    pub member_id: String,
    /// The name by which a static member is known across restarts (KIP-345).
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// It is gone after this long without a word.
    pub session_timeout_ms: i32,
    /// How long others are to wait for it in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// What kind of group; consumers say `consumer`.
    pub protocol_type: String,
    /// Ways to share out the work, the preferred one first.
    pub protocols: Vec<JoinProtocol>,
    /// Whether somebody new must come back with the id that it is given (KIP-394).
    pub requires_known_member: bool,
    /// Whether a leader understands that it need not assign anything (KIP-814).
    pub can_skip_assignment: bool,
    /// Becomes part of a new member's id. Invariant: never the same twice.
    pub fresh_id: u128,
}

/// One way to share out the work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinProtocol {
    /// Its name.
    pub name: String,
    /// What the member says about itself, for the leader's eyes.
    pub metadata: Vec<u8>,
}

/// A heartbeat of KIP-848: what is `None` is as before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    /// Who says so; empty for somebody new whose id the coordinator makes.
    pub member_id: String,
    /// The epoch that the member knows; 0 joins, -1 leaves, -2 leaves and keeps the place of a static member.
    pub epoch: i32,
    /// The name by which a static member is known across restarts.
    pub instance_id: Option<String>,
    /// Where its machine stands.
    pub rack_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// How long it may take to give partitions back.
    pub rebalance_timeout_ms: Option<i32>,
    /// Topics that it reads.
    pub names: Option<BTreeSet<String>>,
    /// Topics that it reads besides, by a regular expression; an empty one takes the former back.
    pub regex: Option<String>,
    /// How it wants partitions shared out.
    pub assignor: Option<String>,
    /// What it reads now.
    pub owned: Option<BTreeSet<IdPartition>>,
    /// Whether members make their ids themselves (KIP-1082).
    pub makes_own_id: bool,
    /// Becomes a new member's id. Invariant: never the same twice.
    pub fresh_id: String,
}

/// A partition by the id of its topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdPartition {
    /// The topic's id.
    pub topic_id: Uuid,
    /// Index in it.
    pub partition: i32,
}

/// Who a member says it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Its id.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// The generation it knows.
    pub generation: i32,
}

impl Membership {
    /// What a request says.
    pub fn new(member_id: &str, instance_id: Option<&str>, generation: i32) -> Self {
        Self { member_id: member_id.to_owned(), instance_id: instance_id.map(str::to_owned), generation }
    }
}

/// A member's question for its assignment; the leader's carries everybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sync {
    /// Who asks.
    pub member: Membership,
    /// The kind of group the member believes in; `None` does not say.
    pub protocol_type: Option<String>,
    /// The protocol the member believes in; `None` does not say.
    pub protocol: Option<String>,
    /// By member id.
    pub assignments: Vec<(String, Vec<u8>)>,
}

/// A member that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaver {
    /// Its id; empty if only the name of a static member is known.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
}

/// Offsets to commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Who commits; generation -1 and an empty id are somebody who is no member.
    pub member: Membership,
    /// How long to keep them; `None` is as long as the broker does.
    pub retention_ms: Option<i64>,
    /// Whether the client knows epochs (KIP-848), and with them `GROUP_ID_NOT_FOUND` and `STALE_MEMBER_EPOCH`.
    pub knows_epochs: bool,
    /// The offsets.
    pub offsets: Vec<CommitOffset>,
}

/// One offset to commit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitOffset {
    /// Topic and partition.
    pub place: TopicPartition,
    /// The topic's id, if the client named it so.
    pub topic_id: Uuid,
    /// First offset not read yet.
    pub offset: i64,
    /// Leader epoch of the last record read; -1 if unknown.
    pub leader_epoch: i32,
    /// The consumer's own note.
    pub metadata: String,
}

/// A question for offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetch {
    /// Who asks, and the epoch it knows; `None` is somebody who is no member, or does not say.
    pub member: Option<(String, i32)>,
    /// Which offsets; `None` asks for everything.
    pub wanted: Option<Vec<WantedOffset>>,
}

/// A partition by the name of its topic: names are what is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// Index in it.
    pub partition: i32,
}

/// One offset that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WantedOffset {
    /// Topic and partition.
    pub place: TopicPartition,
    /// The topic's id, if the client named it so: what was committed for another topic of the name does not count.
    pub topic_id: Uuid,
}

/// What a group says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing of it.
    Refused(ErrorCode),
    /// Come back with this id.
    MemberIdRequired {
        /// The id.
        member_id: String,
    },
    /// You are in.
    Joined(Joined),
    /// That is yours to read.
    Synced(Synced),
    /// Heard.
    Alive,
    /// Heard, and what is yours.
    Beaten(Beaten),
    /// What became of each, in order.
    Left(Vec<LeftMember>),
    /// What became of each offset, in order.
    Committed(Vec<ErrorCode>),
    /// In the order of the question.
    Fetched(Vec<FetchedOffset>),
    /// Who is in it.
    Described(Description),
    /// Who is in it, if it is of KIP-848.
    ConsumerDescribed(ConsumerDescription),
    /// It is gone.
    Deleted,
    /// What became of each, in order.
    OffsetsDeleted(Vec<ErrorCode>),
}

/// A member of a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The kind of group.
    pub protocol_type: String,
    /// How the work is shared out.
    pub protocol: String,
    /// Whose work it is to share it out.
    pub leader: String,
    /// Who you are.
    pub member_id: String,
    /// Whether the leader has nothing to assign.
    pub skip_assignment: bool,
    /// For the leader: everybody.
    pub members: Vec<JoinedMember>,
}

/// What the leader learns of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// What it said about itself.
    pub metadata: Vec<u8>,
}

/// A member's part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// The kind of group.
    pub protocol_type: String,
    /// How the work was shared out.
    pub protocol: String,
    /// The part.
    pub assignment: Vec<u8>,
}

/// What a member of KIP-848 is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beaten {
    /// Who it is.
    pub member_id: String,
    /// The epoch it is in.
    pub epoch: i32,
    /// How often it is to be heard of; 0 when it is gone.
    pub interval_ms: i32,
    /// What it is to read; `None` is as before.
    pub assigned: Option<BTreeSet<IdPartition>>,
}

/// What became of a member that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// The member, as it was named.
    pub leaver: Leaver,
    /// Whether it went.
    pub error: ErrorCode,
}

/// A committed offset, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// Topic and partition.
    pub place: TopicPartition,
    /// The topic's id, if it was committed with one.
    pub topic_id: Uuid,
    /// The offset; -1 for none.
    pub offset: i64,
    /// Leader epoch; -1 if unknown.
    pub leader_epoch: i32,
    /// The consumer's own note.
    pub metadata: String,
}

impl FetchedOffset {
    /// That nothing is committed.
    pub fn none(place: TopicPartition, topic_id: Uuid) -> Self {
        Self { place, topic_id, offset: -1, leader_epoch: -1, metadata: String::new() }
    }
}

/// What DescribeGroups shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Kafka's name of the state.
    pub state: &'static str,
    /// The kind of group.
    pub protocol_type: String,
    /// How the work is shared out; empty unless the group is stable.
    pub protocol: String,
    /// Everybody.
    pub members: Vec<DescribedMember>,
}

/// What DescribeGroups shows of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// What it said about itself; empty unless the group is stable.
    pub metadata: Vec<u8>,
    /// Its part; empty unless the group is stable.
    pub assignment: Vec<u8>,
}

/// What ConsumerGroupDescribe shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Kafka's name of the state.
    pub state: &'static str,
    /// How often the group has changed.
    pub epoch: i32,
    /// As of which epoch its partitions are shared out.
    pub assignment_epoch: i32,
    /// How they are.
    pub assignor: &'static str,
    /// Everybody.
    pub members: Vec<DescribedConsumer>,
}

/// What ConsumerGroupDescribe shows of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// Its id.
    pub member_id: String,
    /// Its name, if it is a static member.
    pub instance_id: Option<String>,
    /// Where its machine stands.
    pub rack_id: Option<String>,
    /// The epoch it is in.
    pub epoch: i32,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// Topics that it reads.
    pub names: Vec<String>,
    /// Those it reads by a regular expression.
    pub regex: Option<String>,
    /// What it has.
    pub assigned: Vec<IdPartition>,
    /// What it is to have.
    pub target: Vec<IdPartition>,
    /// Whether it speaks the classic protocol.
    pub is_classic: bool,
}

/// What ListGroups shows of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// The kind of group.
    pub protocol_type: String,
    /// Kafka's name of the state.
    pub state: &'static str,
    /// Kafka's name of the protocol by which it rebalances.
    pub group_type: &'static str,
}
