//! JoinGroup: who may join, and what that does to the group.

use millrace_protocol::error_code::ErrorCode;

use super::member::{Member, Waits};
use super::{Classic, Rebalance, State};
use crate::group::request::{Answer, Join, Joined};
use crate::group::{Step, Token};

impl Classic {
    /// Somebody wants to be in the next generation.
    pub(in crate::group) fn join(&mut self, step: &mut Step<'_>, token: Token, join: Join) {
        if !self.has_room_for(&join.member_id, step.settings.member_count_max) {
            return step.refuse(token, ErrorCode::GroupMaxSizeReached);
        }
        if !self.supports(&join) {
            return step.refuse(token, ErrorCode::InconsistentGroupProtocol);
        }
        if join.member_id.is_empty() {
            self.join_as_new(step, token, join);
        } else {
            self.join_again(step, token, join);
        }
    }

    fn has_room_for(&self, member_id: &str, member_count_max: usize) -> bool {
        match self.state {
            State::Empty => true,
            // Those who have not come back may not come at all.
            State::PreparingRebalance => {
                let is_waiting = self.members.get(member_id).is_some_and(Member::has_joined);
                is_waiting || self.members.values().filter(|member| member.has_joined()).count() < member_count_max
            }
            State::CompletingRebalance | State::Stable => {
                self.members.contains_key(member_id) || self.members.len() < member_count_max
            }
        }
    }

    /// Whether there is a protocol that the one who joins shares with everybody.
    fn supports(&self, join: &Join) -> bool {
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let is_shared = |name: &str| self.members.values().all(|member| member.supports(name));
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join.protocols.iter().any(|protocol| is_shared(&protocol.name))
    }

    fn join_as_new(&mut self, step: &mut Step<'_>, token: Token, join: Join) {
        let member_id = fresh_member_id(&join);
        if let Some(instance) = &join.instance_id {
            return match self.static_members.get(instance).cloned() {
                Some(former_id) => self.replace(step, token, join, &former_id, &member_id),
                None => self.add(step, token, join, member_id),
            };
        }
        if join.requires_known_member {
            let until_ms = step.now.steady_ms + i64::from(join.session_timeout_ms);
            self.pending.insert(member_id.clone(), until_ms);
            return step.answer(token, Answer::MemberIdRequired { member_id });
        }
        self.add(step, token, join, member_id);
    }

    fn join_again(&mut self, step: &mut Step<'_>, token: Token, join: Join) {
        if join.instance_id.is_none() && self.pending.contains_key(&join.member_id) {
            let member_id = join.member_id.clone();
            return self.add(step, token, join, member_id);
        }
        if let Err(error) = self.check_identity(&join.member_id, join.instance_id.as_deref()) {
            return step.refuse(token, error);
        }
        let member_id = join.member_id.clone();
        let is_same = self.members[&member_id].protocols == join.protocols;
        let is_settled = match self.state {
            State::PreparingRebalance => false,
            // The answer to the first attempt was lost.
            State::CompletingRebalance => is_same,
            // A leader that joins wants the work shared out anew.
            State::Stable => is_same && !self.is_leader(&member_id),
            State::Empty => unreachable!("an empty group has no members"),
        };
        if is_settled {
            self.known(&member_id).touch(step.now);
            let joined = self.joined(&member_id);
            return step.answer(token, Answer::Joined(joined));
        }
        let member = self.known(&member_id);
        supersede(step, member);
        member.update(join);
        member.waits = Waits::Join(token);
        self.rebalance_or_complete(step);
    }

    /// Adds a member and starts a rebalance for it.
    fn add(&mut self, step: &mut Step<'_>, token: Token, join: Join, member_id: String) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        if let Some(Rebalance::Initial { has_new_member, .. }) = &mut self.rebalance {
            *has_new_member = true;
        }
        self.pending.remove(&member_id);
        if let Some(instance) = &join.instance_id {
            self.static_members.insert(instance.clone(), member_id.clone());
        }
        let member = Member::new(member_id.clone(), join, token, step.now);
        self.members.insert(member_id, member);
        self.rebalance_or_complete(step);
    }

    /// A static member is back after a restart, under a new id (KIP-345).
    fn replace(&mut self, step: &mut Step<'_>, token: Token, join: Join, former_id: &str, member_id: &str) {
        let mut member = self.members.remove(former_id).expect("names of static members are of members");
        if let Some(former) = member.waits.token() {
            step.refuse(former, ErrorCode::FencedInstanceId);
        }
        member.waits = Waits::Nothing;
        member.is_new = false;
        member_id.clone_into(&mut member.id);
        let (former_leader, can_skip) = (self.leader.clone(), join.can_skip_assignment);
        if self.is_leader(former_id) {
            self.leader = Some(member_id.to_owned());
        }
        if self.unsynced.remove(former_id) {
            self.unsynced.insert(member_id.to_owned());
        }
        let instance = member.instance_id.clone().expect("it is a static member");
        self.static_members.insert(instance, member_id.to_owned());
        member.update(join);
        member.touch(step.now);
        self.members.insert(member_id.to_owned(), member);

        if self.state == State::Stable && self.vote() == self.protocol {
            // Nothing changes for anybody: it gets its old part back without a rebalance.
            step.outcome.records.push(self.stored(step.group));
            let mut joined = self.joined(member_id);
            if can_skip {
                joined.skip_assignment = self.is_leader(member_id);
            } else {
                // A client that does not know that it may skip the assignment must not learn that it leads.
                joined.leader = former_leader.unwrap_or_default();
                joined.members = Vec::new();
            }
            return step.answer(token, Answer::Joined(joined));
        }
        self.known(member_id).waits = Waits::Join(token);
        self.rebalance_or_complete(step);
    }

    /// What a member is told of the current generation.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let mut members = Vec::new();
        if self.is_leader(member_id) {
            members.extend(self.members.values().map(|member| member.introduce(&protocol)));
        }
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type().to_owned(),
            protocol,
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }
}

/// Answers what the member asked before: it has asked anew.
pub(super) fn supersede(step: &mut Step<'_>, member: &mut Member) {
    if let Some(former) = member.waits.token() {
        step.refuse(former, ErrorCode::RebalanceInProgress);
    }
    member.waits = Waits::Nothing;
}

/// An id for somebody who has none.
pub fn fresh_member_id(join: &Join) -> String {
    format!("{}-{}", join.instance_id.as_ref().unwrap_or(&join.client_id), dashed(join.fresh_id))
}

/// The id as people write it.
fn dashed(id: u128) -> String {
    let hex = format!("{id:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
