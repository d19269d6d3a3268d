//! Members that speak the classic protocol in a group whose coordinator shares out the partitions.
//!
//! To them the epoch is a generation, nobody is the leader, and SyncGroup gives what the coordinator decided. Nobody waits
//! for others: a member whose epoch is behind is told to join again, and finds its next part when it does.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::group_data::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use millrace_protocol::group_data::consumer_protocol_subscription::ConsumerProtocolSubscription;
use millrace_protocol::wire::{Reader, Uuid, Writer};

use super::member::{ClassicProfile, Member, MemberState, Profile, by_topic};
use super::{Consumer, subscription};
use crate::group::classic::CONSUMER;
use crate::group::classic::join::fresh_member_id;
use crate::group::request::{Answer, IdPartition, Join, Joined, Leaver, LeftMember, Membership, Sync, Synced};
use crate::group::{Step, Token};
use crate::metadata::Image;
use crate::metadata::image::Topic;

/// What a classic consumer says that it reads.
pub(super) struct Subscription {
    pub(super) names: BTreeSet<String>,
    pub(super) rack_id: Option<String>,
    owned: BTreeSet<IdPartition>,
}

impl Subscription {
    /// Reads what stands in the metadata of a classic consumer; `None` if it is none's.
    pub(super) fn parse(metadata: &[u8], image: &Image) -> Option<Self> {
        let mut reader = Reader::new(metadata);
        let version = reader.read_i16().ok().filter(|version| *version >= 0)?;
        // A newer version begins with what is known of it.
        let version = version.min(ConsumerProtocolSubscription::VERSIONS.max);
        let said = ConsumerProtocolSubscription::decode(&mut reader, version).ok()?;
        let owned = said.owned_partitions.iter().map(|owned| (owned.topic, owned.partitions.as_slice()));
        Some(Self {
            names: said.topics.iter().map(|topic| (*topic).to_owned()).collect(),
            rack_id: said.rack_id.map(str::to_owned),
            owned: identify(owned, image),
        })
    }
}

/// Partitions by the ids of their topics; those of topics that are gone are left out.
pub(super) fn identify<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>, image: &Image) -> BTreeSet<IdPartition> {
    let mut places = BTreeSet::new();
    for (name, partitions) in topics {
        let Some(topic) = image.find_topic_by_name(name) else { continue };
        let topic_id = subscription::uuid(topic.id);
        places.extend(partitions.iter().map(|partition| IdPartition { topic_id, partition: *partition }));
    }
    places
}

/// Partitions as a classic consumer reads them.
pub(super) fn encode_assignment<'a>(places: impl IntoIterator<Item = &'a IdPartition>, image: &Image) -> Vec<u8> {
    let names: BTreeMap<Uuid, &Topic> = image.topics().map(|topic| (subscription::uuid(topic.id), topic)).collect();
    let topics = by_topic(places).into_iter().filter_map(|(topic_id, partitions)| {
        let topic = names.get(&topic_id)?;
        Some(TopicPartition { topic: &topic.name, partitions })
    });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: topics.collect(), user_data: None };
    let mut writer = Writer::new();
    writer.write_i16(ASSIGNMENT_VERSION);
    assignment.encode(&mut writer, ASSIGNMENT_VERSION).expect("the names of topics are short");
    writer.into_bytes()
}

impl Consumer {
    /// A classic member joins, or joins again to go on to the group's epoch.
    pub(in crate::group) fn join(&mut self, step: &mut Step<'_>, token: Token, join: Join) {
        if join.member_id.is_empty() && join.instance_id.is_none() && join.requires_known_member {
            let member_id = fresh_member_id(&join);
            return step.answer(token, Answer::MemberIdRequired { member_id });
        }
        match self.try_join(step, join) {
            Ok(joined) => step.answer(token, Answer::Joined(joined)),
            Err(error) => step.refuse(token, error),
        }
    }

    fn try_join(&mut self, step: &mut Step<'_>, join: Join) -> Result<Joined, ErrorCode> {
        let is_member = self.members.contains_key(&join.member_id);
        if !is_member && self.members.len() >= step.settings.consumer.member_count_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        if join.protocol_type != CONSUMER || !self.shares_protocol(&join) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        let Some(preferred) = join.protocols.first() else { return Err(ErrorCode::InconsistentGroupProtocol) };
        let said = Subscription::parse(&preferred.metadata, step.image).ok_or(ErrorCode::InconsistentGroupProtocol)?;
        let protocol = preferred.name.clone();
        let (member_id, is_new) = self.admit_classic(step, &join)?;
        let profile = Profile {
            instance_id: join.instance_id,
            rack_id: said.rack_id,
            client_id: join.client_id,
            client_host: join.client_host,
            names: said.names,
            regex: None,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            assignor: None,
            classic: Some(ClassicProfile { session_timeout_ms: join.session_timeout_ms, protocols: join.protocols }),
        };
        let is_changed = self.set_profile(step, &member_id, profile) || is_new;
        self.follow(step, is_changed);
        self.retarget(step);
        self.reconcile(step, &member_id, Some(&said.owned));
        self.await_classic(step, &member_id, false);
        Ok(Joined {
            generation: self.members[&member_id].current.epoch,
            protocol_type: CONSUMER.to_owned(),
            protocol,
            member_id,
            ..Joined::default()
        })
    }

    /// Who joins, and whether there is one more member.
    fn admit_classic(&mut self, step: &mut Step<'_>, join: &Join) -> Result<(String, bool), ErrorCode> {
        let instance_id = join.instance_id.as_deref();
        if !join.member_id.is_empty() {
            self.check_name(&join.member_id, instance_id)?;
            let is_new = self.admit(step, &join.member_id, None)?;
            return Ok((join.member_id.clone(), is_new));
        }
        let member_id = fresh_member_id(join);
        // A static member that is back takes its place, whether it said goodbye or not (KIP-345).
        if let Some(former_id) = instance_id.and_then(|instance| self.static_members.get(instance)).cloned() {
            self.replace(step, &former_id, &member_id);
            return Ok((member_id, false));
        }
        let is_new = self.admit(step, &member_id, None)?;
        Ok((member_id, is_new))
    }

    fn shares_protocol(&self, join: &Join) -> bool {
        let classic = || self.members.values().filter_map(|member| member.profile.classic.as_ref());
        let knows = |classic: &ClassicProfile, name: &str| classic.protocols.iter().any(|known| known.name == name);
        join.protocols.iter().any(|protocol| classic().all(|classic| knows(classic, &protocol.name)))
    }

    /// The member is there, and has its rebalance timeout for its next request; `is_first` lets an earlier limit stand.
    fn await_classic(&mut self, step: &Step<'_>, member_id: &str, is_first: bool) {
        let session_timeout_ms = step.settings.consumer.session_timeout_ms;
        let member = self.members.get_mut(member_id).expect("the member is known");
        member.touch(step.now, session_timeout_ms);
        let until_ms = step.now.steady_ms.saturating_add(i64::from(member.profile.rebalance_timeout_ms));
        match member.classic_until_ms {
            Some(_) if is_first => {}
            _ => member.classic_until_ms = Some(until_ms),
        }
    }

    /// A classic member asks for its part.
    pub(in crate::group) fn sync(&mut self, step: &mut Step<'_>, token: Token, sync: &Sync) {
        let member_id = &sync.member.member_id;
        let member = match self.check_classic(&sync.member) {
            Ok(member) => member,
            Err(error) => return step.refuse(token, error),
        };
        let protocol = member.profile.classic.as_ref().and_then(|classic| classic.protocols.first());
        let protocol = protocol.map(|protocol| protocol.name.clone()).unwrap_or_default();
        let is_same = |said: &Option<String>, known: &str| said.as_ref().is_none_or(|said| said == known);
        if !is_same(&sync.protocol_type, CONSUMER) || !is_same(&sync.protocol, &protocol) {
            return step.refuse(token, ErrorCode::InconsistentGroupProtocol);
        }
        // A member that gives partitions back has joined already, and goes on once it has them given back.
        if self.epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            self.await_classic(step, member_id, true);
            return step.refuse(token, ErrorCode::RebalanceInProgress);
        }
        let assignment = encode_assignment(member.current.assigned.keys(), step.image);
        self.await_classic(step, member_id, false);
        self.members.get_mut(member_id).expect("it was checked").classic_until_ms = None;
        step.answer(token, Answer::Synced(Synced { protocol_type: CONSUMER.to_owned(), protocol, assignment }));
    }

    /// A classic member says that it is still there.
    pub(in crate::group) fn heartbeat(&mut self, step: &mut Step<'_>, token: Token, said: &Membership) {
        let member = match self.check_classic(said) {
            Ok(member) => member,
            Err(error) => return step.refuse(token, error),
        };
        let is_behind = member.current.epoch < self.epoch
            || match member.current.state {
                MemberState::Stable => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(member),
            };
        if is_behind {
            self.await_classic(step, &said.member_id, true);
            return step.refuse(token, ErrorCode::RebalanceInProgress);
        }
        let session_timeout_ms = step.settings.consumer.session_timeout_ms;
        self.members.get_mut(&said.member_id).expect("it was checked").touch(step.now, session_timeout_ms);
        step.answer(token, Answer::Alive);
    }

    /// Whether others still have what the member is to have.
    fn waits_for_others(&self, member: &Member) -> bool {
        let missing = |place: &&IdPartition| !member.current.assigned.contains_key(*place);
        member.target.iter().filter(missing).any(|place| self.held.contains_key(place))
    }

    /// Classic members go, each by itself.
    pub(in crate::group) fn leave(&mut self, step: &mut Step<'_>, token: Token, leavers: Vec<Leaver>) {
        let (mut left, mut gone) = (Vec::with_capacity(leavers.len()), Vec::new());
        for leaver in leavers {
            let error = match self.find_leaver(&leaver) {
                Ok(member_id) if gone.contains(&member_id) => ErrorCode::UnknownMemberId,
                Ok(member_id) => {
                    gone.push(member_id);
                    ErrorCode::None
                }
                Err(error) => error,
            };
            left.push(LeftMember { leaver, error });
        }
        self.remove_all(step, &gone);
        step.answer(token, Answer::Left(left));
    }

    fn find_leaver(&self, leaver: &Leaver) -> Result<String, ErrorCode> {
        let member_id = match &leaver.instance_id {
            None => &leaver.member_id,
            Some(instance) => {
                let known = self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
                // An operator who removes a static member knows its name only.
                if !leaver.member_id.is_empty() && leaver.member_id != *known {
                    return Err(ErrorCode::FencedInstanceId);
                }
                known
            }
        };
        let is_classic = self.members.get(member_id).is_some_and(Member::is_classic);
        if is_classic { Ok(member_id.clone()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// The classic member, if it is in the epoch that it says.
    fn check_classic(&self, said: &Membership) -> Result<&Member, ErrorCode> {
        self.check_name(&said.member_id, said.instance_id.as_deref())?;
        let member = self.members.get(&said.member_id).filter(|member| member.is_classic());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if said.generation == member.current.epoch { Ok(member) } else { Err(ErrorCode::IllegalGeneration) }
    }
}

/// The version in which consumers of every age read what they are assigned.
const ASSIGNMENT_VERSION: i16 = 0;
