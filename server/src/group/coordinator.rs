//! All groups of one partition of `__consumer_offsets`: finds the group that is meant, bounds memory, keeps deadlines.
//!
//! Deadlines are one entry per group, for the earliest thing that is due. Hearing of a member only moves its own deadline
//! further away, so a heartbeat does not touch the entry: when it comes up early, it is put back for the true time.
//!
//! Invariant: a group without members, offsets and anything stored is not kept.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::wire::DecodeError;

use super::classic::Classic;
use super::classic::member::{MEMBER_BYTES, bytes_of};
use super::offsets::{Committed, Offsets};
use super::records::{Record, Stored};
use super::request::{
    Answer, Commit, CommitOffset, FetchedOffset, GroupRequest, Join, LeftMember, ListedGroup, Question, TopicPartition,
    WantedOffset,
};
use super::{Now, Outcome, Settings, Step, Token};

/// The groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    groups: BTreeMap<String, Group>,
    /// Invariant: exactly the `armed_ms` of the groups.
    deadlines: BTreeSet<(i64, String)>,
    /// When expired offsets are looked for next.
    cleanup_ms: i64,
    /// Memory of all groups, roughly.
    bytes: usize,
}

/// One group.
#[derive(Debug)]
pub struct Group {
    protocol: Protocol,
    offsets: Offsets,
    armed_ms: Option<i64>,
    /// What it counts for in the coordinator's memory.
    bytes: usize,
}

/// How a group rebalances.
#[derive(Debug)]
pub enum Protocol {
    /// By JoinGroup and SyncGroup.
    Classic(Classic),
}

impl Group {
    fn new() -> Self {
        let protocol = Protocol::Classic(Classic::default());
        Self { protocol, offsets: Offsets::default(), armed_ms: None, bytes: 0 }
    }

    fn classic(&mut self) -> &mut Classic {
        let Protocol::Classic(classic) = &mut self.protocol;
        classic
    }

    fn known_classic(&self) -> &Classic {
        let Protocol::Classic(classic) = &self.protocol;
        classic
    }

    fn count_bytes(&self, name: &str) -> usize {
        GROUP_BYTES + 2 * name.len() + self.known_classic().bytes() + self.offsets.bytes()
    }
}

impl Coordinator {
    /// No groups yet.
    pub fn new(settings: Settings, now: Now) -> Self {
        let cleanup_ms = now.steady_ms.saturating_add(settings.offset_check_interval_ms);
        Self { settings, groups: BTreeMap::new(), deadlines: BTreeSet::new(), cleanup_ms, bytes: 0 }
    }

    /// Takes a stored record in, while the partition is read back.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        let name = match Stored::parse(key, value)? {
            Stored::Offset(key, Some(value)) => {
                let group = self.groups.entry(key.group.to_owned()).or_insert_with(Group::new);
                group.offsets.commit(key.topic, key.partition, Committed::from_stored(&value));
                key.group
            }
            Stored::Offset(key, None) => {
                if let Some(group) = self.groups.get_mut(key.group) {
                    group.offsets.remove(key.topic, key.partition);
                }
                key.group
            }
            Stored::Group(key, Some(value)) => {
                let group = self.groups.entry(key.group.to_owned()).or_insert_with(Group::new);
                group.protocol = Protocol::Classic(Classic::from_stored(&value));
                key.group
            }
            Stored::Group(key, None) => {
                if let Some(group) = self.groups.get_mut(key.group) {
                    group.protocol = Protocol::Classic(Classic::default());
                }
                key.group
            }
            Stored::Unknown(_) => return Ok(()),
        };
        self.count(name);
        if self.groups.get(name).is_some_and(|group| group.known_classic().is_blank() && group.offsets.is_empty()) {
            self.forget(name);
        }
        Ok(())
    }

    /// Everything was read back: members have their session to be heard of.
    pub fn resume(&mut self, now: Now) {
        let names: Vec<_> = self.groups.keys().cloned().collect();
        for name in names {
            self.known(&name).classic().resume(now);
            self.settle(&name);
        }
    }

    /// Answers a question, now or later. `room_bytes` is how much more memory the groups may take.
    pub fn handle(&mut self, now: Now, token: Token, request: GroupRequest, room_bytes: usize) -> Outcome {
        let mut outcome = Outcome::default();
        let GroupRequest { group: name, question } = request;
        if name.is_empty() && needs_name(&question) {
            outcome.refuse(token, ErrorCode::InvalidGroupId);
            return outcome;
        }
        match question {
            Question::Join(join) => self.join(now, token, &name, join, room_bytes, &mut outcome),
            Question::Commit(commit) => self.commit(now, token, &name, commit, room_bytes, &mut outcome),
            Question::Sync(sync) => {
                // What the leader assigns is kept; a leader without room for it gets another try later.
                let bytes: usize = sync.assignments.iter().map(|(_, assignment)| assignment.len()).sum();
                let known = self.groups.get(&name).map_or(0, |group| group.known_classic().assignment_bytes());
                if bytes > room_bytes.saturating_add(known) {
                    outcome.refuse(token, ErrorCode::CoordinatorNotAvailable);
                    return outcome;
                }
                self.with_member(now, token, &name, &mut outcome, |classic, step| classic.sync(step, token, sync));
            }
            Question::Heartbeat(member) => {
                let Some(group) = self.groups.get_mut(&name) else {
                    outcome.refuse(token, ErrorCode::UnknownMemberId);
                    return outcome;
                };
                let mut step = Step { now, settings: &self.settings, group: &name, outcome: &mut outcome };
                group.classic().heartbeat(&mut step, token, &member);
                // Not settled: a heartbeat changes nothing that would have to be.
                return outcome;
            }
            Question::Leave(leavers) => {
                if self.groups.contains_key(&name) {
                    let leave = |classic: &mut Classic, step: &mut Step<'_>| classic.leave(step, token, leavers);
                    self.with_member(now, token, &name, &mut outcome, leave);
                } else {
                    let error = ErrorCode::UnknownMemberId;
                    let left = leavers.into_iter().map(|leaver| LeftMember { leaver, error });
                    outcome.answers.push((token, Answer::Left(left.collect())));
                }
            }
            Question::Fetch(wanted) => {
                outcome.answers.push((token, Answer::Fetched(self.fetch(&name, wanted))));
                return outcome;
            }
            Question::Describe => {
                outcome.answers.push((token, self.describe(&name)));
                return outcome;
            }
            Question::Delete => self.delete(token, &name, &mut outcome),
            Question::DeleteOffsets(places) => self.delete_offsets(token, &name, places, &mut outcome),
        }
        self.settle(&name);
        outcome
    }

    /// Whoever asked no longer waits. Its token is answered, unless it was already.
    pub fn cancel(&mut self, now: Now, name: &str, token: Token) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(group) = self.groups.get_mut(name) {
            let mut step = Step { now, settings: &self.settings, group: name, outcome: &mut outcome };
            group.classic().cancel(&mut step, token);
            self.settle(name);
        }
        outcome
    }

    /// When something is to happen although nobody asks, in steady milliseconds.
    pub fn next_deadline_ms(&self) -> i64 {
        self.deadlines.first().map_or(self.cleanup_ms, |(deadline_ms, _)| self.cleanup_ms.min(*deadline_ms))
    }

    /// Does what is due for one group, or looks for expired offsets; the caller asks again while something is due.
    pub fn expire(&mut self, now: Now) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some((_, name)) = self.deadlines.first().filter(|(deadline_ms, _)| *deadline_ms <= now.steady_ms) {
            let name = name.clone();
            let group = self.groups.get_mut(&name).expect("deadlines are of groups");
            let mut step = Step { now, settings: &self.settings, group: &name, outcome: &mut outcome };
            group.classic().expire(&mut step);
            self.settle(&name);
        } else if self.cleanup_ms <= now.steady_ms {
            self.cleanup_ms = now.steady_ms.saturating_add(self.settings.offset_check_interval_ms);
            self.clean_up(now, &mut outcome);
        }
        outcome
    }

    /// A topic is gone, and what was committed for it.
    pub fn forget_topic(&mut self, topic: &str) -> Outcome {
        let mut outcome = Outcome::default();
        let places = |(name, group): (&String, &Group)| (name.clone(), group.offsets.places_of(topic));
        let found: Vec<_> = self.groups.iter().map(places).filter(|(_, places)| !places.is_empty()).collect();
        for (name, places) in found {
            self.remove_offsets(&name, &places, &mut outcome);
            self.settle(&name);
        }
        outcome
    }

    /// All groups.
    pub fn list(&self) -> impl Iterator<Item = ListedGroup> {
        self.groups.iter().map(|(name, group)| ListedGroup {
            group: name.clone(),
            protocol_type: group.known_classic().protocol_type().to_owned(),
            state: group.known_classic().state().name(),
            group_type: CLASSIC,
        })
    }

    /// What is committed: each group with each of its topics, and the partitions of it with their offsets.
    pub fn committed(&self) -> impl Iterator<Item = (&str, &str, impl Iterator<Item = (i32, i64)>)> {
        self.groups.iter().flat_map(|(name, group)| {
            group.offsets.by_topic().map(move |(topic, offsets)| (name.as_str(), topic, offsets))
        })
    }

    /// Everyone who waits for an answer.
    pub fn waiting(&self) -> Vec<Token> {
        self.groups.values().flat_map(|group| group.known_classic().waiting()).collect()
    }

    /// Memory the groups take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn join(&mut self, now: Now, token: Token, name: &str, join: Join, room_bytes: usize, outcome: &mut Outcome) {
        let timeouts = self.settings.session_timeout_min_ms..=self.settings.session_timeout_max_ms;
        if !timeouts.contains(&join.session_timeout_ms) {
            return outcome.refuse(token, ErrorCode::InvalidSessionTimeout);
        }
        if !join.member_id.is_empty() && !self.groups.contains_key(name) {
            return outcome.refuse(token, ErrorCode::UnknownMemberId);
        }
        // Who is in already may stay.
        let known_bytes =
            self.groups.get(name).map_or(0, |group| group.known_classic().protocol_bytes(&join.member_id));
        let new_bytes = if known_bytes > 0 { MEMBER_BYTES } else { MEMBER_BYTES + GROUP_BYTES };
        if bytes_of(&join.protocols) + new_bytes > room_bytes.saturating_add(known_bytes) {
            return outcome.refuse(token, ErrorCode::CoordinatorNotAvailable);
        }
        let group = self.groups.entry(name.to_owned()).or_insert_with(Group::new);
        let mut step = Step { now, settings: &self.settings, group: name, outcome };
        group.classic().join(&mut step, token, join);
    }

    /// Runs `act` on the group, which has members only if it is there.
    fn with_member(
        &mut self,
        now: Now,
        token: Token,
        name: &str,
        outcome: &mut Outcome,
        act: impl FnOnce(&mut Classic, &mut Step<'_>),
    ) {
        match self.groups.get_mut(name) {
            Some(group) => {
                let mut step = Step { now, settings: &self.settings, group: name, outcome };
                act(group.classic(), &mut step);
            }
            None => outcome.refuse(token, ErrorCode::UnknownMemberId),
        }
    }

    fn commit(&mut self, now: Now, token: Token, name: &str, commit: Commit, room_bytes: usize, outcome: &mut Outcome) {
        let checked = match self.groups.get_mut(name) {
            Some(group) => group.classic().check_commit(now, &commit),
            // Somebody who keeps offsets and is no member, be it an administrator.
            None if commit.member.generation < 0 => Ok(()),
            None if commit.knows_missing_group => Err(ErrorCode::GroupIdNotFound),
            None => Err(ErrorCode::IllegalGeneration),
        };
        let nothing = Offsets::default();
        let known = self.groups.get(name).map_or(&nothing, |group| &group.offsets);
        let growth = |offset: &CommitOffset| known.growth_bytes(&offset.place, &offset.metadata);
        let bytes: usize = commit.offsets.iter().map(growth).sum();
        let checked = checked.and(if bytes > room_bytes { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(()) });
        if let Err(error) = checked {
            return outcome.refuse(token, error);
        }
        let expire_unix_ms = commit.retention_ms.map(|retention_ms| now.unix_ms.saturating_add(retention_ms));
        let mut results = Vec::with_capacity(commit.offsets.len());
        let group = self.groups.entry(name.to_owned()).or_insert_with(Group::new);
        for CommitOffset { place, topic_id, offset, leader_epoch, metadata } in commit.offsets {
            if metadata.len() > self.settings.offset_metadata_bytes_max {
                results.push(ErrorCode::OffsetMetadataTooLarge);
                continue;
            }
            let commit_unix_ms = now.unix_ms;
            let committed = Committed { offset, leader_epoch, metadata, commit_unix_ms, expire_unix_ms, topic_id };
            outcome.records.push(Record::offset(name, &place.topic, place.partition, Some(&committed)));
            group.offsets.commit(&place.topic, place.partition, committed);
            results.push(ErrorCode::None);
        }
        outcome.answers.push((token, Answer::Committed(results)));
    }

    fn fetch(&self, name: &str, wanted: Option<Vec<WantedOffset>>) -> Vec<FetchedOffset> {
        let nothing = Offsets::default();
        let offsets = self.groups.get(name).map_or(&nothing, |group| &group.offsets);
        match wanted {
            Some(wanted) => wanted.iter().map(|wanted| offsets.fetch(wanted)).collect(),
            None => offsets.fetch_all(),
        }
    }

    fn describe(&self, name: &str) -> Answer {
        match self.groups.get(name) {
            Some(group) => Answer::Described(group.known_classic().describe()),
            None => Answer::Refused(ErrorCode::GroupIdNotFound),
        }
    }

    fn delete(&mut self, token: Token, name: &str, outcome: &mut Outcome) {
        let Some(group) = self.groups.get(name) else { return outcome.refuse(token, ErrorCode::GroupIdNotFound) };
        if !group.known_classic().is_deserted() {
            return outcome.refuse(token, ErrorCode::NonEmptyGroup);
        }
        let places = group.offsets.places();
        self.remove_offsets(name, &places, outcome);
        outcome.records.push(Record::group(name, None));
        outcome.answers.push((token, Answer::Deleted));
        self.forget(name);
    }

    fn delete_offsets(&mut self, token: Token, name: &str, places: Vec<TopicPartition>, outcome: &mut Outcome) {
        let Some(group) = self.groups.get(name) else { return outcome.refuse(token, ErrorCode::GroupIdNotFound) };
        if !group.known_classic().may_delete_offsets() {
            return outcome.refuse(token, ErrorCode::NonEmptyGroup);
        }
        let is_read = |place: &TopicPartition| group.known_classic().is_subscribed(&place.topic);
        let decide = |is_read: bool| if is_read { ErrorCode::GroupSubscribedToTopic } else { ErrorCode::None };
        let results = places.iter().map(|place| decide(is_read(place)));
        let results: Vec<_> = results.collect();
        let free = places.into_iter().zip(&results).filter(|(_, result)| **result == ErrorCode::None);
        let free: Vec<_> = free.map(|(place, _)| place).collect();
        self.remove_offsets(name, &free, outcome);
        outcome.answers.push((token, Answer::OffsetsDeleted(results)));
    }

    fn remove_offsets(&mut self, name: &str, places: &[TopicPartition], outcome: &mut Outcome) {
        let offsets = &mut self.known(name).offsets;
        for TopicPartition { topic, partition } in places {
            if offsets.remove(topic, *partition) {
                outcome.records.push(Record::offset(name, topic, *partition, None));
            }
        }
    }

    /// Removes expired offsets, and groups of which nothing is left.
    fn clean_up(&mut self, now: Now, outcome: &mut Outcome) {
        let retention_ms = self.settings.offset_retention_ms;
        let names: Vec<_> = self.groups.keys().cloned().collect();
        for name in names {
            let group = &self.groups[&name];
            let classic = group.known_classic();
            if let Some(since) = classic.unused_since() {
                let is_used = |topic: &str| classic.is_subscribed(topic);
                let expired = group.offsets.expired(now.unix_ms, retention_ms, since, is_used);
                self.remove_offsets(&name, &expired, outcome);
            }
            let group = &self.groups[&name];
            if group.known_classic().is_deserted() && group.offsets.is_empty() {
                outcome.records.push(Record::group(&name, None));
                self.forget(&name);
            } else {
                self.settle(&name);
            }
        }
    }

    /// Counts the group's memory and arms its deadline anew, or forgets it when there is nothing of it.
    fn settle(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.known_classic().is_blank() && group.offsets.is_empty() {
            return self.forget(name);
        }
        let deadline_ms = group.known_classic().next_deadline_ms();
        if deadline_ms != group.armed_ms {
            let former_ms = std::mem::replace(&mut group.armed_ms, deadline_ms);
            if let Some(former_ms) = former_ms {
                self.deadlines.remove(&(former_ms, name.to_owned()));
            }
            if let Some(deadline_ms) = deadline_ms {
                self.deadlines.insert((deadline_ms, name.to_owned()));
            }
        }
        self.count(name);
    }

    fn count(&mut self, name: &str) {
        if let Some(group) = self.groups.get_mut(name) {
            let bytes = group.count_bytes(name);
            self.bytes = self.bytes - std::mem::replace(&mut group.bytes, bytes) + bytes;
        }
    }

    fn forget(&mut self, name: &str) {
        let Some(group) = self.groups.remove(name) else { return };
        self.bytes -= group.bytes;
        if let Some(armed_ms) = group.armed_ms {
            self.deadlines.remove(&(armed_ms, name.to_owned()));
        }
    }

    fn known(&mut self, name: &str) -> &mut Group {
        self.groups.get_mut(name).expect("the group was found before")
    }
}

/// Kafka keeps offsets for the group without a name, for old clients, but lets nobody join it.
fn needs_name(question: &Question) -> bool {
    match question {
        Question::Join(_)
        | Question::Sync(_)
        | Question::Heartbeat(_)
        | Question::Leave(_)
        | Question::DeleteOffsets(_) => true,
        Question::Commit(_) | Question::Fetch(_) | Question::Describe | Question::Delete => false,
    }
}

/// Kafka's name of groups that rebalance by JoinGroup.
pub const CLASSIC: &str = "classic";
/// Memory of a group besides its name, members and offsets.
const GROUP_BYTES: usize = 512;
