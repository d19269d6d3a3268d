//! All groups of one partition of `__consumer_offsets`: finds the group that is meant, bounds memory, keeps deadlines.
//!
//! Deadlines are one entry per group, for the earliest thing that is due. Hearing of a member only moves its own deadline
//! further away, so a heartbeat does not touch the entry: when it comes up early, it is put back for the true time.
//!
//! Invariant: a group without members, offsets and anything stored is not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::wire::DecodeError;

use super::classic::Classic;
use super::classic::member::{MEMBER_BYTES, bytes_of};
use super::consumer::{self, Consumer};
use super::offsets::{Committed, Offsets};
use super::protocol::{GROUP_BYTES, Group, Protocol};
use super::records::{Record, Stored};
use super::request::{
    Answer, Beat, Commit, CommitOffset, Fetch, GroupRequest, Join, LeftMember, ListedGroup, Question, TopicPartition,
};
use super::{Moment, Now, Outcome, Settings, Step, Token};

/// The groups of one partition.
#[derive(Debug)]
pub struct Coordinator {
    settings: Settings,
    groups: BTreeMap<String, Group>,
    /// Invariant: exactly the `armed_ms` of the groups.
    deadlines: BTreeSet<(i64, String)>,
    /// When expired offsets are looked for next.
    cleanup_ms: i64,
    /// The group that this begins with; `None` for the first.
    cleanup_from: Option<String>,
    /// Memory of all groups, roughly.
    bytes: usize,
}

impl Coordinator {
    /// No groups yet.
    pub fn new(settings: Settings, now: Now) -> Self {
        let cleanup_ms = now.steady_ms.saturating_add(settings.offset_check_interval_ms);
        Self { settings, groups: BTreeMap::new(), deadlines: BTreeSet::new(), cleanup_ms, cleanup_from: None, bytes: 0 }
    }

    /// Takes a stored record in, while the partition is read back.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), DecodeError> {
        let name = match Stored::parse(key, value)? {
            Stored::Offset(key, Some(value)) => {
                let group = self.groups.entry(key.group.to_owned()).or_default();
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
                let group = self.groups.entry(key.group.to_owned()).or_default();
                group.protocol = Protocol::Classic(Classic::from_stored(&value));
                key.group
            }
            Stored::Group(key, None) => {
                if let Some(group) = self.groups.get_mut(key.group)
                    && group.protocol.classic().is_some()
                {
                    group.protocol = Protocol::Classic(Classic::default());
                }
                key.group
            }
            Stored::Consumer(name, stored) => {
                let group = self.groups.entry(name.to_owned()).or_default();
                group.protocol.replay_consumer(&stored);
                name
            }
            Stored::Unknown(_) => return Ok(()),
        };
        self.count(name);
        if self.groups.get(name).is_some_and(Group::is_nothing) {
            self.forget(name);
        }
        Ok(())
    }

    /// Everything was read back: members have their session to be heard of.
    pub fn resume(&mut self, now: Now) {
        let names: Vec<_> = self.groups.keys().cloned().collect();
        for name in names {
            let group = self.groups.get_mut(&name).expect("it was listed");
            group.protocol.resume(now, &self.settings);
            self.settle(&name);
        }
    }

    /// Answers a question, now or later. `room_bytes` is how much more memory the groups may take.
    pub fn handle(&mut self, at: Moment<'_>, token: Token, request: GroupRequest, room_bytes: usize) -> Outcome {
        let mut outcome = Outcome::default();
        let GroupRequest { group: name, question } = request;
        if name.is_empty() && question.needs_name() {
            let is_beat = matches!(question, Question::Beat(_));
            outcome.refuse(token, if is_beat { ErrorCode::InvalidRequest } else { ErrorCode::InvalidGroupId });
            return outcome;
        }
        match question {
            Question::Join(join) => self.join(at, token, &name, join, room_bytes, &mut outcome),
            Question::Beat(beat) => self.beat(at, token, &name, *beat, room_bytes, &mut outcome),
            Question::Commit(commit) => self.commit(at, token, &name, commit, room_bytes, &mut outcome),
            Question::Sync(sync) => {
                // What the leader assigns is kept; a leader without room for it gets another try later.
                let bytes: usize = sync.assignments.iter().map(|(_, assignment)| assignment.len()).sum();
                let classic = self.groups.get(&name).and_then(|group| group.protocol.classic());
                if bytes > room_bytes.saturating_add(classic.map_or(0, Classic::assignment_bytes)) {
                    outcome.refuse(token, ErrorCode::CoordinatorNotAvailable);
                    return outcome;
                }
                self.with_member(at, token, &name, &mut outcome, |protocol, step| protocol.sync(step, token, sync));
            }
            Question::Heartbeat(member) => {
                let beat = |protocol: &mut Protocol, step: &mut Step<'_>| protocol.heartbeat(step, token, &member);
                self.with_member(at, token, &name, &mut outcome, beat);
                // Not settled: a heartbeat changes nothing that would have to be, but for the deadline to join again.
                if outcome.answers.iter().all(|(_, answer)| *answer == Answer::Alive) {
                    return outcome;
                }
            }
            Question::Leave(leavers) => {
                if self.groups.contains_key(&name) {
                    let leave = |protocol: &mut Protocol, step: &mut Step<'_>| protocol.leave(step, token, leavers);
                    self.with_member(at, token, &name, &mut outcome, leave);
                } else {
                    let error = ErrorCode::UnknownMemberId;
                    let left = leavers.into_iter().map(|leaver| LeftMember { leaver, error });
                    outcome.answers.push((token, Answer::Left(left.collect())));
                }
            }
            Question::Fetch(fetch) => {
                outcome.answers.push((token, self.fetch(&name, fetch)));
                return outcome;
            }
            Question::Describe | Question::DescribeConsumer => {
                outcome.answers.push((token, self.describe(&name, &question)));
                return outcome;
            }
            Question::Delete => self.delete(token, &name, &mut outcome),
            Question::DeleteOffsets(places) => self.delete_offsets(token, &name, places, &mut outcome),
        }
        self.settle(&name);
        outcome
    }

    /// Whoever asked no longer waits. Its token is answered, unless it was already.
    pub fn cancel(&mut self, at: Moment<'_>, name: &str, token: Token) -> Outcome {
        let mut outcome = Outcome::default();
        if let Some(group) = self.groups.get_mut(name) {
            let mut step = at.step(&self.settings, name, &mut outcome);
            group.protocol.cancel(&mut step, token);
            self.settle(name);
        }
        outcome
    }

    /// When something is to happen although nobody asks, in steady milliseconds.
    pub fn next_deadline_ms(&self) -> i64 {
        self.deadlines.first().map_or(self.cleanup_ms, |(deadline_ms, _)| self.cleanup_ms.min(*deadline_ms))
    }

    /// Does what is due for one group, or looks for expired offsets; the caller asks again while something is due.
    pub fn expire(&mut self, at: Moment<'_>) -> Outcome {
        let now = at.now;
        let mut outcome = Outcome::default();
        if let Some((_, name)) = self.deadlines.first().filter(|(deadline_ms, _)| *deadline_ms <= now.steady_ms) {
            let name = name.clone();
            let group = self.groups.get_mut(&name).expect("deadlines are of groups");
            let mut step = at.step(&self.settings, &name, &mut outcome);
            group.protocol.expire(&mut step);
            self.settle(&name);
        } else if self.cleanup_ms <= now.steady_ms {
            self.clean_up(now, &mut outcome);
            if self.cleanup_from.is_none() {
                self.cleanup_ms = now.steady_ms.saturating_add(self.settings.offset_check_interval_ms);
            }
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
        self.groups.iter().map(|(name, group)| group.list(name))
    }

    /// What is committed: each group with each of its topics, and the partitions of it with their offsets.
    pub fn committed(&self) -> impl Iterator<Item = (&str, &str, impl Iterator<Item = (i32, i64)>)> {
        self.groups.iter().flat_map(|(name, group)| {
            group.offsets.by_topic().map(move |(topic, offsets)| (name.as_str(), topic, offsets))
        })
    }

    /// Everyone who waits for an answer.
    pub fn waiting(&self) -> Vec<Token> {
        self.groups.values().flat_map(|group| group.protocol.waiting()).collect()
    }

    /// Memory the groups take, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn join(&mut self, at: Moment<'_>, token: Token, name: &str, join: Join, room_bytes: usize, outcome: &mut Outcome) {
        let timeouts = self.settings.session_timeout_min_ms..=self.settings.session_timeout_max_ms;
        if !timeouts.contains(&join.session_timeout_ms) {
            return outcome.refuse(token, ErrorCode::InvalidSessionTimeout);
        }
        let classic = self.groups.get(name).and_then(|group| group.protocol.classic());
        let known_bytes = classic.map_or(0, |classic| classic.protocol_bytes(&join.member_id));
        let new_bytes = if known_bytes > 0 { MEMBER_BYTES } else { MEMBER_BYTES + GROUP_BYTES };
        if bytes_of(&join.protocols) + new_bytes > room_bytes.saturating_add(known_bytes) {
            return outcome.refuse(token, ErrorCode::CoordinatorNotAvailable);
        }
        let group = self.groups.entry(name.to_owned()).or_default();
        let mut step = at.step(&self.settings, name, outcome);
        if let Protocol::Consumer(consumer) = &group.protocol
            && consumer.is_deserted()
        {
            // Nobody notices that it is another kind of group now.
            step.outcome.records.extend(consumer.gone(name));
            group.protocol = Protocol::Classic(Classic::default());
        }
        match &mut group.protocol {
            Protocol::Classic(classic) => classic.join(&mut step, token, join),
            Protocol::Consumer(consumer) => consumer.join(&mut step, token, join),
        }
        group.protocol.downgrade(&mut step);
    }

    /// A member of KIP-848 says what it says.
    fn beat(&mut self, at: Moment<'_>, token: Token, name: &str, beat: Beat, room_bytes: usize, outcome: &mut Outcome) {
        if let Err(error) = consumer::heartbeat::check(&beat, &self.settings) {
            return outcome.refuse(token, error);
        }
        let is_joining = beat.epoch == consumer::member::JOIN_EPOCH;
        if !is_joining && !self.groups.contains_key(name) {
            return outcome.refuse(token, ErrorCode::GroupIdNotFound);
        }
        let group = self.groups.entry(name.to_owned()).or_default();
        match &mut group.protocol {
            Protocol::Consumer(consumer) => {
                let mut step = at.step(&self.settings, name, outcome);
                consumer.beat(&mut step, token, beat, room_bytes);
                group.protocol.downgrade(&mut step);
            }
            Protocol::Classic(classic) => {
                // Only what comes of a member that gets in counts: otherwise the classic group goes on as it was.
                let mut attempt = Outcome::default();
                let mut step = at.step(&self.settings, name, &mut attempt);
                let upgraded = if is_joining { Consumer::from_classic(&mut step, classic) } else { None };
                let Some(mut upgraded) = upgraded else {
                    return outcome.refuse(token, ErrorCode::GroupIdNotFound);
                };
                let room_bytes = room_bytes.saturating_sub(upgraded.bytes().saturating_sub(classic.bytes()));
                upgraded.beat(&mut step, token, beat, room_bytes);
                if let [(_, Answer::Refused(error))] = attempt.answers.as_slice() {
                    return outcome.refuse(token, *error);
                }
                let mut step = at.step(&self.settings, name, &mut attempt);
                classic.refuse_waiting(&mut step);
                group.protocol = Protocol::Consumer(upgraded);
                *outcome = attempt;
            }
        }
    }

    /// Runs `act` on the group, which has members only if it is there.
    fn with_member(
        &mut self,
        at: Moment<'_>,
        token: Token,
        name: &str,
        outcome: &mut Outcome,
        act: impl FnOnce(&mut Protocol, &mut Step<'_>),
    ) {
        match self.groups.get_mut(name) {
            Some(group) => act(&mut group.protocol, &mut at.step(&self.settings, name, outcome)),
            None => outcome.refuse(token, ErrorCode::UnknownMemberId),
        }
    }

    fn commit(
        &mut self,
        at: Moment<'_>,
        token: Token,
        name: &str,
        commit: Commit,
        room_bytes: usize,
        outcome: &mut Outcome,
    ) {
        let now = at.now;
        let checked = match self.groups.get_mut(name) {
            Some(group) => group.protocol.check_commit(&at.step(&self.settings, name, outcome), &commit),
            // Somebody who keeps offsets and is no member, be it an administrator.
            None if commit.member.generation < 0 => Ok(()),
            None if commit.knows_epochs => Err(ErrorCode::GroupIdNotFound),
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
        let group = self.groups.entry(name.to_owned()).or_default();
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

    fn fetch(&self, name: &str, fetch: Fetch) -> Answer {
        let Fetch { member, wanted } = fetch;
        let group = self.groups.get(name);
        if let (Some(Protocol::Consumer(consumer)), Some((member_id, epoch))) =
            (group.map(|group| &group.protocol), member)
            && let Err(error) = consumer.check_fetch(&member_id, epoch)
        {
            return Answer::Refused(error);
        }
        let nothing = Offsets::default();
        let offsets = group.map_or(&nothing, |group| &group.offsets);
        Answer::Fetched(match wanted {
            Some(wanted) => wanted.iter().map(|wanted| offsets.fetch(wanted)).collect(),
            None => offsets.fetch_all(),
        })
    }

    /// Each protocol has a question of its own, and knows nothing of groups of the other.
    fn describe(&self, name: &str, question: &Question) -> Answer {
        match (self.groups.get(name).map(|group| &group.protocol), question) {
            (Some(Protocol::Classic(classic)), Question::Describe) => Answer::Described(classic.describe()),
            (Some(Protocol::Consumer(consumer)), Question::DescribeConsumer) => {
                Answer::ConsumerDescribed(consumer.describe(&self.settings))
            }
            _ => Answer::Refused(ErrorCode::GroupIdNotFound),
        }
    }

    fn delete(&mut self, token: Token, name: &str, outcome: &mut Outcome) {
        let Some(group) = self.groups.get(name) else { return outcome.refuse(token, ErrorCode::GroupIdNotFound) };
        if !group.protocol.is_deserted() {
            return outcome.refuse(token, ErrorCode::NonEmptyGroup);
        }
        let places = group.offsets.places();
        self.remove_offsets(name, &places, outcome);
        outcome.records.extend(self.known(name).gone(name));
        outcome.answers.push((token, Answer::Deleted));
        self.forget(name);
    }

    fn delete_offsets(&mut self, token: Token, name: &str, places: Vec<TopicPartition>, outcome: &mut Outcome) {
        let Some(group) = self.groups.get(name) else { return outcome.refuse(token, ErrorCode::GroupIdNotFound) };
        if !group.protocol.may_delete_offsets() {
            return outcome.refuse(token, ErrorCode::NonEmptyGroup);
        }
        let is_read = |place: &TopicPartition| group.protocol.is_subscribed(&place.topic);
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

    /// Removes expired offsets, and groups of which nothing is left: of some groups, as many as take a bounded time unless one
    /// alone takes longer.
    fn clean_up(&mut self, now: Now, outcome: &mut Outcome) {
        let retention_ms = self.settings.offset_retention_ms;
        let mut next = self.cleanup_from.take();
        for _ in 0..CLEANUP_GROUP_COUNT_MAX {
            let from = next.map_or(Bound::Unbounded, Bound::Included);
            let mut names = self.groups.range((from, Bound::Unbounded)).map(|(name, _)| name.clone());
            let Some(name) = names.next() else { return };
            next = names.next();
            drop(names);
            let group = &self.groups[&name];
            let protocol = &group.protocol;
            if let Some(since) = protocol.unused_since() {
                let is_used = |topic: &str| protocol.is_subscribed(topic);
                let expired = group.offsets.expired(now.unix_ms, retention_ms, since, is_used);
                self.remove_offsets(&name, &expired, outcome);
            }
            let group = &self.groups[&name];
            if group.protocol.is_deserted() && group.offsets.is_empty() {
                outcome.records.extend(group.gone(&name));
                self.forget(&name);
            } else {
                self.settle(&name);
            }
            if next.is_none() {
                return;
            }
            if outcome.records.len() >= CLEANUP_RECORD_COUNT_MAX {
                break;
            }
        }
        self.cleanup_from = next;
    }

    /// Counts the group's memory and arms its deadline anew, or forgets it when there is nothing of it.
    fn settle(&mut self, name: &str) {
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.is_nothing() {
            return self.forget(name);
        }
        let deadline_ms = group.protocol.next_deadline_ms();
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

#[cfg(test)]
impl Coordinator {
    /// What two coordinators that know the same agree on, of a group of KIP-848.
    pub fn essence(&self, name: &str) -> Option<String> {
        match &self.groups.get(name)?.protocol {
            Protocol::Classic(_) => None,
            Protocol::Consumer(consumer) => Some(consumer.essence()),
        }
    }
}

/// Groups whose offsets are looked at in one step.
const CLEANUP_GROUP_COUNT_MAX: usize = 64;
/// A step in which so much has expired ends with the group it is at.
const CLEANUP_RECORD_COUNT_MAX: usize = 1024;
