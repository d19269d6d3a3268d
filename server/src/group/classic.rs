//! The members of a group that rebalances by JoinGroup and SyncGroup, as Kafka's classic protocol has it.
//!
//! ```text
//! Empty --join--> PreparingRebalance --everybody joined, or time over--> CompletingRebalance --leader's sync--> Stable
//!   ^                  |    ^                                                   |                                 |
//!   +---nobody left----+    +----a member joins anew, leaves or falls silent----+---------------------------------+
//! ```
//!
//! A group that is not there is Dead. Each pass through CompletingRebalance is a generation with a number of its own. Only
//! what the leader assigned, and that nobody is left, is stored; a generation that was never stored is simply joined anew.
//!
//! - `member`: one member, and what it waits for.
//! - `join`, `sync`: the requests of these names; `rebalance`: from one generation to the next; `deadlines`: who is late.
//! - `handover`: to and from a group of KIP-848.

mod deadlines;
mod handover;
pub mod join;
pub mod member;
mod rebalance;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::group_data::consumer_protocol_subscription::ConsumerProtocolSubscription;
use millrace_protocol::group_data::group_metadata::{GroupMetadataValue, MemberMetadata};
use millrace_protocol::wire::Reader;

use self::member::{MEMBER_BYTES, Member, Waits, bytes_of};
use super::offsets::UnusedSince;
use super::records::Record;
use super::request::{Answer, Commit, DescribedMember, Description, Leaver, LeftMember, Membership};
use super::{Now, Step, Token};

/// The members of one group.
#[derive(Clone, Debug)]
pub struct Classic {
    state: State,
    /// When the state was entered, in milliseconds since the Unix epoch; `None` if that is not known.
    state_since_unix_ms: Option<i64>,
    /// What kind of group; `None` until somebody has joined.
    protocol_type: Option<String>,
    /// How the work of this generation is shared out.
    protocol: Option<String>,
    generation: i32,
    /// Invariant: a member.
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Member ids by the names of static members. Invariant: exactly those of `members` that have a name.
    static_members: BTreeMap<String, String>,
    /// Ids that were given out and have not come back yet, with the time until which they may.
    pending: BTreeMap<String, i64>,
    /// Invariant: present exactly in `PreparingRebalance`.
    rebalance: Option<Rebalance>,
    /// Members that have not asked for their assignment in this generation.
    unsynced: BTreeSet<String>,
    /// Until when they may.
    sync_until_ms: Option<i64>,
    /// Topics that the members read, as far as they say so in a way that is understood.
    subscribed: Option<BTreeSet<String>>,
}

/// Where a group is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody is in it; it is kept for its offsets.
    Empty,
    /// Members are joining.
    PreparingRebalance,
    /// The leader is sharing out the work.
    CompletingRebalance,
    /// Everybody knows their part.
    Stable,
}

/// What ends the joining, besides that everybody has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rebalance {
    /// The first one of a group that was empty gives further members time to come.
    Initial {
        until_ms: i64,
        /// How much longer it may be extended.
        remaining_ms: i64,
        has_new_member: bool,
    },
    /// The members that are known have until then.
    Joining { until_ms: i64 },
}

impl Rebalance {
    /// When the joining ends, unless it is extended.
    fn until_ms(self) -> i64 {
        match self {
            Self::Initial { until_ms, .. } | Self::Joining { until_ms } => until_ms,
        }
    }
}

impl State {
    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

impl Default for Classic {
    /// A group without members.
    fn default() -> Self {
        Self {
            state: State::Empty,
            state_since_unix_ms: None,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            rebalance: None,
            unsynced: BTreeSet::new(),
            sync_until_ms: None,
            subscribed: None,
        }
    }
}

impl Classic {
    /// The group as it was stored. Its members get their timers by [`Classic::resume`].
    pub fn from_stored(value: &GroupMetadataValue<'_>) -> Self {
        let mut group = Self {
            protocol_type: Some(value.protocol_type.to_owned()).filter(|text| !text.is_empty()),
            protocol: value.protocol.map(str::to_owned),
            generation: value.generation,
            state_since_unix_ms: Some(value.current_state_timestamp).filter(|time| *time >= 0),
            ..Self::default()
        };
        for stored in &value.members {
            let member = Member::from_stored(stored, value.protocol.unwrap_or_default());
            if let Some(instance) = &member.instance_id {
                group.static_members.insert(instance.clone(), member.id.clone());
            }
            group.members.insert(member.id.clone(), member);
        }
        if !group.members.is_empty() {
            group.state = State::Stable;
            let leader = value.leader.filter(|leader| group.members.contains_key(*leader));
            group.leader = leader.map(str::to_owned).or_else(|| group.members.keys().next().cloned());
        }
        group.subscribed = group.find_subscribed();
        group
    }

    /// Gives the members of a group that was read back time to be heard of.
    pub fn resume(&mut self, now: Now) {
        for member in self.members.values_mut() {
            member.touch(now);
        }
    }

    /// Where the group is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// The kind of group; empty if nobody ever joined.
    pub fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or_default()
    }

    /// Whether nothing would be lost with it: nobody is in it, on the way in, and nobody ever was.
    pub fn is_blank(&self) -> bool {
        self.is_deserted() && self.generation == 0
    }

    /// Whether nobody is in it or on the way in.
    pub fn is_deserted(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// Since when the group's offsets are not used; `None` while they are.
    pub fn unused_since(&self) -> Option<UnusedSince> {
        match (&self.protocol_type, self.state) {
            (None, State::Empty) => Some(UnusedSince::Commit),
            (Some(_), State::Empty) => {
                let since = self.state_since_unix_ms;
                Some(since.map_or(UnusedSince::Commit, |unix_ms| UnusedSince::Moment { unix_ms }))
            }
            // A consumer that no longer subscribes to a topic does not need its offsets.
            (Some(_), State::Stable) if self.subscribed.is_some() => Some(UnusedSince::Commit),
            (_, State::PreparingRebalance | State::CompletingRebalance | State::Stable) => None,
        }
    }

    /// Whether a member reads the topic, or might.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed {
            Some(topics) => topics.contains(topic),
            None => self.state != State::Empty && self.protocol_type() == CONSUMER,
        }
    }

    /// Whether offsets may be deleted one by one: Kafka lets consumers keep what they read, and nobody else anything.
    pub fn may_delete_offsets(&self) -> bool {
        self.state == State::Empty || self.protocol_type() == CONSUMER
    }

    /// A member says that it is still there.
    pub(super) fn heartbeat(&mut self, step: &mut Step<'_>, token: Token, member: &Membership) {
        if let Err(error) = self.check_member(member) {
            return step.refuse(token, error);
        }
        self.known(&member.member_id).touch(step.now);
        match self.state {
            State::PreparingRebalance => step.refuse(token, ErrorCode::RebalanceInProgress),
            State::Empty | State::CompletingRebalance | State::Stable => step.answer(token, Answer::Alive),
        }
    }

    /// Members go, each by itself.
    pub(super) fn leave(&mut self, step: &mut Step<'_>, token: Token, leavers: Vec<Leaver>) {
        let mut left = Vec::with_capacity(leavers.len());
        let mut is_changed = false;
        for leaver in leavers {
            let error = match self.find_leaver(&leaver) {
                Err(error) => error,
                Ok(member_id) => {
                    is_changed = true;
                    if self.pending.remove(&member_id).is_none() {
                        self.remove(step, &member_id);
                    }
                    ErrorCode::None
                }
            };
            left.push(LeftMember { leaver, error });
        }
        step.answer(token, Answer::Left(left));
        if is_changed {
            self.follow_removal(step);
        }
    }

    fn find_leaver(&self, leaver: &Leaver) -> Result<String, ErrorCode> {
        if leaver.instance_id.is_none() && self.pending.contains_key(&leaver.member_id) {
            return Ok(leaver.member_id.clone());
        }
        if let Some(instance) = &leaver.instance_id {
            let known = self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
            // An operator who removes a static member knows its name only.
            if !leaver.member_id.is_empty() && leaver.member_id != *known {
                return Err(ErrorCode::FencedInstanceId);
            }
            return Ok(known.clone());
        }
        if self.members.contains_key(&leaver.member_id) {
            return Ok(leaver.member_id.clone());
        }
        Err(ErrorCode::UnknownMemberId)
    }

    /// Whether these offsets may be committed now.
    pub(super) fn check_commit(&mut self, now: Now, commit: &Commit) -> Result<(), ErrorCode> {
        let member = &commit.member;
        if member.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if member.generation < 0 && member.member_id.is_empty() && member.instance_id.is_none() {
            // Somebody who is no member may not interfere with those who are.
            return Err(ErrorCode::UnknownMemberId);
        }
        self.check_member(member)?;
        if self.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        self.known(&member.member_id).touch(now);
        Ok(())
    }

    /// Who is in it. What the members said and got is shown only while it holds.
    pub fn describe(&self) -> Description {
        let shown = self.protocol.as_deref().filter(|_| self.state == State::Stable);
        let members = self.members.values().map(|member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: shown.map_or_else(Vec::new, |protocol| member.metadata(protocol).to_vec()),
            assignment: shown.map_or_else(Vec::new, |_| member.assignment.clone()),
        });
        Description {
            state: self.state.name(),
            protocol_type: self.protocol_type().to_owned(),
            protocol: shown.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }

    /// Somebody no longer waits for an answer. The member has its session to be heard of again.
    pub(super) fn cancel(&mut self, step: &mut Step<'_>, token: Token) {
        for member in self.members.values_mut() {
            if member.waits.token() == Some(token) {
                member.waits = Waits::Nothing;
                member.is_new = false;
                member.touch(step.now);
                step.refuse(token, ErrorCode::NotCoordinator);
                return;
            }
        }
    }

    /// Everyone who waits for an answer.
    pub fn waiting(&self) -> impl Iterator<Item = Token> {
        self.members.values().filter_map(|member| member.waits.token())
    }

    /// Memory that a member takes by what it says about itself; nothing for one that is not there.
    pub fn protocol_bytes(&self, member_id: &str) -> usize {
        self.members.get(member_id).map_or(0, |member| bytes_of(&member.protocols) + MEMBER_BYTES)
    }

    /// Memory of what the leader assigned.
    pub fn assignment_bytes(&self) -> usize {
        self.members.values().map(|member| member.assignment.len()).sum()
    }

    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        let members: usize = self.members.values().map(Member::bytes).sum();
        let subscribed: usize = self.subscribed.iter().flatten().map(|topic| topic.len() + NAME_BYTES).sum();
        members + subscribed + self.pending.len() * PENDING_BYTES
    }

    /// Whether `member` is one of this generation, and who it says.
    fn check_member(&self, member: &Membership) -> Result<(), ErrorCode> {
        self.check_identity(&member.member_id, member.instance_id.as_deref())?;
        if member.generation == self.generation { Ok(()) } else { Err(ErrorCode::IllegalGeneration) }
    }

    fn check_identity(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance) = instance_id {
            let known = self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
            if known != member_id {
                return Err(ErrorCode::FencedInstanceId);
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    fn known(&mut self, member_id: &str) -> &mut Member {
        self.members.get_mut(member_id).expect("the member was checked")
    }

    fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Takes a member out. Whoever waits for it is told.
    fn remove(&mut self, step: &mut Step<'_>, member_id: &str) {
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(token) = member.waits.token() {
            step.refuse(token, ErrorCode::UnknownMemberId);
        }
        self.unsynced.remove(member_id);
        if let Some(instance) = &member.instance_id {
            self.static_members.remove(instance);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// The record that says what the group is now.
    fn stored(&self, group: &str) -> Record {
        let protocol = self.protocol.as_deref();
        let members = self.members.values().map(|member| MemberMetadata {
            member_id: &member.id,
            group_instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.metadata(protocol.unwrap_or_default()),
            assignment: &member.assignment,
        });
        let value = GroupMetadataValue {
            protocol_type: self.protocol_type(),
            generation: self.generation,
            protocol,
            leader: self.leader.as_deref(),
            current_state_timestamp: self.state_since_unix_ms.unwrap_or(-1),
            members: members.collect(),
        };
        Record::group(group, Some(&value))
    }

    fn enter(&mut self, now: Now, state: State) {
        self.state = state;
        self.state_since_unix_ms = Some(now.unix_ms);
        if state != State::PreparingRebalance {
            self.rebalance = None;
        }
    }

    /// The topics that the members of a consumer group subscribe to; `None` if one of them cannot be understood.
    fn find_subscribed(&self) -> Option<BTreeSet<String>> {
        let protocol = self.protocol.as_deref().filter(|_| self.protocol_type() == CONSUMER)?;
        let mut subscribed = BTreeSet::new();
        for member in self.members.values() {
            let mut reader = Reader::new(member.metadata(protocol));
            let version = reader.read_i16().ok().filter(|version| *version >= 0)?;
            // A newer version begins with what is known of it.
            let version = version.min(ConsumerProtocolSubscription::VERSIONS.max);
            let subscription = ConsumerProtocolSubscription::decode(&mut reader, version).ok()?;
            subscribed.extend(subscription.topics.into_iter().map(str::to_owned));
        }
        Some(subscribed)
    }
}

/// The kind of group that consumers make.
pub const CONSUMER: &str = "consumer";
/// Memory of a name besides its letters.
const NAME_BYTES: usize = 64;
/// Memory of an id that was given out.
const PENDING_BYTES: usize = 256;
