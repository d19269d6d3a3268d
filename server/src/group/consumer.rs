//! The members of a group whose coordinator shares out the partitions (KIP-848).
//!
//! ```text
//! heartbeat -> who is it -> what does it read now -> group epoch -> target of everybody -> what the member has -> answer
//! ```
//!
//! Three epochs follow each other. The group's grows when members come, go or read other topics, and when those topics
//! change. The assignment's says for which of them the partitions were shared out. A member's says how far it has come: it
//! is the assignment's once the member has given back whatever others are to have.
//!
//! - `member`: one member; `reconcile`: its next step; `heartbeat`: the request, and going; `deadlines`: who is late.
//! - `subscription`: which topics are read, by name and by expression; `stored`: the records.
//! - `classic_member`: members that speak JoinGroup and SyncGroup in such a group; `migration`: from one kind of group to
//!   the other.

mod classic_member;
mod deadlines;
pub mod heartbeat;
pub mod member;
mod migration;
mod reconcile;
mod stored;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::error_code::ErrorCode;

use self::member::{Current, Member, PARTITION_BYTES};
use super::assignor::Assignor;
use super::offsets::UnusedSince;
use super::request::{Commit, ConsumerDescription, DescribedConsumer, IdPartition};
use super::{Now, Settings, Step};

/// The members of one group.
#[derive(Clone, Debug, Default)]
pub struct Consumer {
    epoch: i32,
    assignment_epoch: i32,
    /// Of the topics that are read, as of `epoch`.
    metadata_hash: i64,
    members: BTreeMap<String, Member>,
    /// Member ids by the names of static members. Invariant: exactly those of `members` that have a name.
    static_members: BTreeMap<String, String>,
    /// Expressions that members read by. Invariant: once a step is over, exactly those of `members`.
    regexes: BTreeMap<String, Resolved>,
    /// How many members have a partition: one, unless records were lost.
    held: BTreeMap<IdPartition, u32>,
    /// The image that the hash was made from; `None` if that is not known.
    hash_index: Option<u64>,
    /// The image in which topics were looked for, and when.
    regex_index: Option<u64>,
    regex_steady_ms: i64,
}

/// What an expression matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolved {
    topics: BTreeSet<String>,
}

impl Consumer {
    /// Gives the members of a group that was read back time to be heard of.
    pub fn resume(&mut self, now: Now, settings: &Settings) {
        for member in self.members.values_mut() {
            member.touch(now, settings.consumer.session_timeout_ms);
            if member.current.state == member::MemberState::UnrevokedPartitions {
                let until_ms = now.steady_ms.saturating_add(i64::from(member.profile.rebalance_timeout_ms));
                member.revoke_until_ms = Some(until_ms);
            }
        }
    }

    /// Kafka's name of where it is in its life.
    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.assignment_epoch {
            "Assigning"
        } else if self.members.values().all(|member| member.is_settled_in(self.assignment_epoch)) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// Whether nobody is in it.
    pub fn is_deserted(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether nothing would be lost with it: nobody is in it, and nobody ever was.
    pub fn is_blank(&self) -> bool {
        self.members.is_empty() && self.epoch == 0
    }

    /// Since when the group's offsets are not used, save for those of topics that are read.
    pub fn unused_since(&self) -> UnusedSince {
        UnusedSince::Commit
    }

    /// Whether a member reads the topic.
    pub fn is_subscribed(&self, topic: &str) -> bool {
        self.members.values().any(|member| member.profile.names.contains(topic))
            || self.regexes.values().any(|resolved| resolved.topics.contains(topic))
    }

    /// Whether these offsets may be committed now.
    pub(super) fn check_commit(&mut self, step: &Step<'_>, commit: &Commit) -> Result<(), ErrorCode> {
        let Commit { member: said, .. } = commit;
        if said.generation < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self.members.get_mut(&said.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if member.is_classic() {
            if said.generation != member.current.epoch {
                return Err(ErrorCode::IllegalGeneration);
            }
            member.touch(step.now, step.consumer_session_timeout_ms());
            return Ok(());
        }
        if !commit.knows_epochs {
            return Err(ErrorCode::UnsupportedVersion);
        }
        if said.generation == member.current.epoch {
            return Ok(());
        }
        // An older epoch does for a partition that the member has had since (KIP-1251).
        let has_since = |offset: &super::request::CommitOffset| {
            let topic = step.image.find_topic_by_name(&offset.place.topic)?;
            let topic_id = subscription::uuid(topic.id);
            let place = IdPartition { topic_id, partition: offset.place.partition };
            member.current.assigned.get(&place).filter(|epoch| **epoch <= said.generation)
        };
        let is_older = said.generation < member.current.epoch;
        if is_older && commit.offsets.iter().all(|offset| has_since(offset).is_some()) {
            Ok(())
        } else {
            Err(ErrorCode::StaleMemberEpoch)
        }
    }

    /// Whether a member may ask for offsets.
    pub fn check_fetch(&self, member_id: &str, epoch: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        match () {
            () if member.current.epoch == epoch => Ok(()),
            () if member.is_classic() => Err(ErrorCode::IllegalGeneration),
            () => Err(ErrorCode::StaleMemberEpoch),
        }
    }

    /// Who is in it.
    pub fn describe(&self, settings: &Settings) -> ConsumerDescription {
        let members = self.members.iter().map(|(member_id, member)| DescribedConsumer {
            member_id: member_id.clone(),
            instance_id: member.profile.instance_id.clone(),
            rack_id: member.profile.rack_id.clone(),
            epoch: member.current.epoch,
            client_id: member.profile.client_id.clone(),
            client_host: member.profile.client_host.clone(),
            names: member.profile.names.iter().cloned().collect(),
            regex: member.profile.regex.clone(),
            assigned: member.current.assigned.keys().copied().collect(),
            target: member.target.iter().copied().collect(),
            is_classic: member.is_classic(),
        });
        ConsumerDescription {
            state: self.state_name(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.assignor(settings).name(),
            members: members.collect(),
        }
    }

    /// Memory it takes, roughly.
    pub fn bytes(&self) -> usize {
        let members: usize = self.members.iter().map(|(member_id, member)| 2 * member_id.len() + member.bytes()).sum();
        let names = self.regexes.iter().flat_map(|(regex, resolved)| std::iter::once(regex).chain(&resolved.topics));
        let names: usize = names.map(|name| name.len() + PARTITION_BYTES).sum();
        members + names + self.held.len() * PARTITION_BYTES
    }

    /// The assignor that most members want; the broker's first one if nobody wants any.
    fn assignor(&self, settings: &Settings) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(assignor) = member.profile.assignor.as_deref().and_then(Assignor::parse) {
                *votes.entry(assignor).or_default() += 1;
            }
        }
        let most = votes.values().max().copied();
        let wanted = votes.into_iter().find(|(_, count)| Some(*count) == most).map(|(assignor, _)| assignor);
        wanted.unwrap_or(settings.consumer.assignors[0])
    }

    /// The only way in which what a member has changes.
    fn set_current(&mut self, member_id: &str, current: Current) {
        let member = self.members.get_mut(member_id).expect("the member is known");
        for place in member.current.held() {
            let count = self.held.get_mut(place).expect("what members have is counted");
            *count -= 1;
            if *count == 0 {
                self.held.remove(place);
            }
        }
        for place in current.held() {
            *self.held.entry(*place).or_default() += 1;
        }
        member.current = current;
    }

    /// Takes a member out of every table.
    fn drop_member(&mut self, member_id: &str) {
        if !self.members.contains_key(member_id) {
            return;
        }
        self.set_current(member_id, Current::default());
        let member = self.members.remove(member_id).expect("it was there");
        if let Some(instance) = &member.profile.instance_id
            && self.static_members.get(instance).is_some_and(|known| known == member_id)
        {
            self.static_members.remove(instance);
        }
    }

    /// Makes the group follow what members and topics are now: expressions, epoch, and what everybody is to have.
    fn follow(&mut self, step: &mut Step<'_>, is_changed: bool) {
        if self.refresh(step, is_changed) {
            self.epoch = self.epoch.saturating_add(1);
            self.store_epoch(step);
        }
    }

    /// Shares the partitions out, unless that was done for this epoch.
    fn retarget(&mut self, step: &mut Step<'_>) {
        if self.assignment_epoch >= self.epoch {
            return;
        }
        let assignor = self.assignor(step.settings);
        let parts = assignor.assign(&self.work(step.image));
        let mut changed = Vec::new();
        for ((member_id, member), part) in self.members.iter_mut().zip(parts) {
            if member.target != part {
                member.target = part;
                changed.push(member_id.clone());
            }
        }
        for member_id in changed {
            self.store_target(step, &member_id);
        }
        self.assignment_epoch = self.epoch;
        self.store_target_epoch(step);
    }

    /// Lets a member take its next step. Whether what it may read has changed.
    fn reconcile(&mut self, step: &mut Step<'_>, member_id: &str, owned: Option<&BTreeSet<IdPartition>>) -> bool {
        let member = &self.members[member_id];
        if member.is_settled_in(self.assignment_epoch) {
            return false;
        }
        let wanted = reconcile::Wanted { epoch: self.assignment_epoch, target: &member.target, owned };
        let next = reconcile::reconcile(&member.current, wanted, |place| !self.held.contains_key(place));
        if next == member.current {
            return false;
        }
        let is_changed = !next.assigned.keys().eq(member.current.assigned.keys());
        let rebalance_timeout_ms = i64::from(member.profile.rebalance_timeout_ms);
        let is_revoking = next.state == member::MemberState::UnrevokedPartitions;
        self.set_current(member_id, next);
        let until_ms = step.now.steady_ms.saturating_add(rebalance_timeout_ms);
        let member = self.members.get_mut(member_id).expect("it was there");
        member.revoke_until_ms = is_revoking.then_some(until_ms);
        self.store_current(step, member_id);
        is_changed
    }

    /// Removes members that go or are gone, and makes the rest follow.
    fn remove_all(&mut self, step: &mut Step<'_>, member_ids: &[String]) {
        for member_id in member_ids {
            Self::unstore_member(step, member_id);
            self.drop_member(member_id);
        }
        if !member_ids.is_empty() {
            self.follow(step, true);
        }
    }
}

#[cfg(test)]
impl Consumer {
    /// What two coordinators that know the same agree on.
    pub fn essence(&self) -> String {
        let member = |(id, member): (&String, &Member)| {
            format!("{id}: {:?} {:?} {:?}", member.profile, member.current, member.target)
        };
        let members: Vec<_> = self.members.iter().map(member).collect();
        let (epoch, assignment_epoch, hash) = (self.epoch, self.assignment_epoch, self.metadata_hash);
        let rest = format!("{:?} {:?} {:?}", self.static_members, self.regexes, self.held);
        format!("{epoch} {assignment_epoch} {hash} {rest}\n{}", members.join("\n"))
    }
}
