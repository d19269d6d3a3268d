//! From a classic group to one of KIP-848 and back, while members stay (`group.consumer.migration.policy`).
//!
//! Up, when the first member of KIP-848 joins: generation and assignments go on as epoch and targets, so nobody loses what
//! it reads. Down, when the last one goes: the classic members are told to join again, which gives them a leader.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::group_data::consumer_protocol_assignment::ConsumerProtocolAssignment;
use millrace_protocol::wire::Reader;

use super::Consumer;
use super::classic_member::{Subscription, encode_assignment, identify};
use super::member::{ClassicProfile, Current, Member, MemberState, Profile};
use crate::group::Step;
use crate::group::classic::member::{Member as ClassicMember, Waits};
use crate::group::classic::{CONSUMER, Classic};
use crate::group::records::Record;
use crate::group::request::IdPartition;
use crate::metadata::Image;

impl Consumer {
    /// The group with the members of a classic one; `None` if it cannot go on, which leaves the classic one as it is.
    pub(in crate::group) fn from_classic(step: &mut Step<'_>, classic: &Classic) -> Option<Self> {
        let settings = &step.settings.consumer;
        if classic.is_deserted() {
            // Nobody notices, whatever kind of group it was.
            if !classic.is_blank() {
                step.outcome.records.push(Record::group(step.group, None));
            }
            return Some(Self::default());
        }
        let is_small = classic.members().len() <= settings.member_count_max;
        if !settings.migration.may_upgrade() || classic.protocol_type() != CONSUMER || !is_small {
            return None;
        }
        let epoch = classic.generation().max(1);
        let mut group = Self { epoch, assignment_epoch: epoch, ..Self::default() };
        for member in classic.members() {
            let moved = move_member(member, epoch, step.image)?;
            if let Some(instance) = &member.instance_id {
                group.static_members.insert(instance.clone(), member.id.clone());
            }
            let current = moved.current.clone();
            group.members.insert(member.id.clone(), Member { current: Current::default(), ..moved });
            group.set_current(&member.id, current);
            let session_timeout_ms = settings.session_timeout_ms;
            group.members.get_mut(&member.id).expect("it was put there").touch(step.now, session_timeout_ms);
        }
        group.refresh(step, false);
        step.outcome.records.push(Record::group(step.group, None));
        group.store_epoch(step);
        group.store_target_epoch(step);
        let member_ids: Vec<_> = group.members.keys().cloned().collect();
        for member_id in member_ids {
            group.store_profile(step, &member_id);
            group.store_target(step, &member_id);
            group.store_current(step, &member_id);
        }
        Some(group)
    }

    /// Whether only classic members are left.
    pub(in crate::group) fn is_all_classic(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(Member::is_classic)
    }

    /// The classic group with the members of this one. They are to join again.
    pub(in crate::group) fn to_classic(&self, step: &mut Step<'_>) -> Classic {
        step.outcome.records.extend(self.gone(step.group));
        let members = self.members.iter().map(|(member_id, member)| {
            let profile = &member.profile;
            let classic = profile.classic.clone().unwrap_or_default();
            let mut moved = ClassicMember {
                id: member_id.clone(),
                instance_id: profile.instance_id.clone(),
                client_id: profile.client_id.clone(),
                client_host: profile.client_host.clone(),
                session_timeout_ms: classic.session_timeout_ms,
                rebalance_timeout_ms: profile.rebalance_timeout_ms,
                protocols: classic.protocols,
                assignment: encode_assignment(&member.target, step.image),
                waits: Waits::Nothing,
                is_new: false,
                deadline_ms: 0,
            };
            moved.touch(step.now);
            moved
        });
        let members: BTreeMap<_, _> = members.map(|member| (member.id.clone(), member)).collect();
        Classic::from_members(step, self.epoch, members)
    }
}

/// A classic member with what it reads; `None` if that cannot be understood.
fn move_member(member: &ClassicMember, epoch: i32, image: &Image) -> Option<Member> {
    let said = Subscription::parse(&member.protocols.first()?.metadata, image)?;
    let target = parse_assignment(&member.assignment, image)?;
    let assigned = target.iter().map(|place| (*place, epoch)).collect();
    let current = Current { epoch, previous_epoch: epoch, state: MemberState::Stable, assigned, ..Current::default() };
    let profile = Profile {
        instance_id: member.instance_id.clone(),
        rack_id: said.rack_id,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        names: said.names,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        classic: Some(ClassicProfile {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
        ..Profile::default()
    };
    Some(Member { profile, current, target, ..Member::default() })
}

fn parse_assignment(bytes: &[u8], image: &Image) -> Option<BTreeSet<IdPartition>> {
    if bytes.is_empty() {
        // The leader has not said yet.
        return Some(BTreeSet::new());
    }
    let mut reader = Reader::new(bytes);
    let version = reader.read_i16().ok().filter(|version| *version >= 0)?;
    let version = version.min(ConsumerProtocolAssignment::VERSIONS.max);
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, version).ok()?;
    let topics = assignment.assigned_partitions.iter().map(|topic| (topic.topic, topic.partitions.as_slice()));
    Some(identify(topics, image))
}
