//! From one generation to the next.

use std::collections::BTreeMap;

use millrace_protocol::error_code::ErrorCode;

use super::member::{Member, Waits};
use super::{Classic, Rebalance, State};
use crate::group::Step;
use crate::group::request::Answer;

impl Classic {
    /// A member has joined: everybody else is to join, too, or everybody has.
    pub(super) fn rebalance_or_complete(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::PreparingRebalance => self.complete_if_joined(step),
            State::Empty | State::CompletingRebalance | State::Stable => self.prepare(step),
        }
    }

    /// Members have gone.
    pub(super) fn follow_removal(&mut self, step: &mut Step<'_>) {
        match self.state {
            State::Empty => {}
            State::PreparingRebalance => self.complete_if_joined(step),
            State::CompletingRebalance | State::Stable => self.prepare(step),
        }
    }

    /// Asks everybody to join.
    pub(super) fn prepare(&mut self, step: &mut Step<'_>) {
        if self.state == State::CompletingRebalance {
            self.refuse_syncs(step, ErrorCode::RebalanceInProgress);
        }
        self.unsynced.clear();
        self.sync_until_ms = None;
        let (is_initial, now_ms) = (self.state == State::Empty, step.now.steady_ms);
        let delay_ms = i64::from(step.settings.initial_rebalance_delay_ms);
        self.enter(step.now, State::PreparingRebalance);
        if is_initial && delay_ms > 0 {
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            let until_ms = now_ms + delay_ms;
            self.rebalance = Some(Rebalance::Initial { until_ms, remaining_ms, has_new_member: false });
            return;
        }
        self.rebalance = Some(Rebalance::Joining { until_ms: now_ms + self.rebalance_timeout_ms() });
        self.complete_if_joined(step);
    }

    fn complete_if_joined(&mut self, step: &mut Step<'_>) {
        let has_joined = self.pending.is_empty() && self.members.values().all(Member::has_joined);
        if has_joined && matches!(self.rebalance, Some(Rebalance::Joining { .. })) {
            self.complete(step);
        }
    }

    /// The time for joining is over.
    pub(super) fn end_joining(&mut self, step: &mut Step<'_>) {
        match self.rebalance {
            Some(Rebalance::Initial { until_ms, remaining_ms, has_new_member: true }) if remaining_ms > 0 => {
                let delay_ms = i64::from(step.settings.initial_rebalance_delay_ms).min(remaining_ms);
                self.rebalance = Some(Rebalance::Initial {
                    until_ms: until_ms.max(step.now.steady_ms) + delay_ms,
                    remaining_ms: remaining_ms - delay_ms,
                    has_new_member: false,
                });
            }
            _ => self.complete(step),
        }
    }

    /// Begins the next generation with those who have joined.
    fn complete(&mut self, step: &mut Step<'_>) {
        // A static member keeps its place for as long as its session lasts.
        let is_gone = |member: &&Member| !member.has_joined() && member.instance_id.is_none();
        let gone: Vec<_> = self.members.values().filter(is_gone).map(|member| member.id.clone()).collect();
        for member_id in gone {
            self.remove(step, &member_id);
        }
        if !self.members.is_empty() && !self.elect() {
            let until_ms = step.now.steady_ms + self.rebalance_timeout_ms().max(1);
            self.rebalance = Some(Rebalance::Joining { until_ms });
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.vote();
        self.subscribed = self.find_subscribed();
        if self.members.is_empty() {
            self.leader = None;
            self.subscribed = None;
            self.enter(step.now, State::Empty);
            step.outcome.records.push(self.stored(step.group));
            return;
        }
        self.enter(step.now, State::CompletingRebalance);
        self.sync_until_ms = Some(step.now.steady_ms + self.rebalance_timeout_ms());
        self.unsynced = self.members.keys().cloned().collect();
        for member_id in self.unsynced.clone() {
            let joined = self.joined(&member_id);
            let member = self.known(&member_id);
            member.is_new = false;
            member.touch(step.now);
            if let Waits::Join(token) = member.waits {
                member.waits = Waits::Nothing;
                step.answer(token, Answer::Joined(joined));
            }
        }
    }

    /// Makes sure that the leader is one of those who have joined. False if there is nobody.
    fn elect(&mut self) -> bool {
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if leader.is_some_and(Member::has_joined) {
            return true;
        }
        let elected = self.members.values().find(|member| member.has_joined());
        let Some(elected) = elected.map(|member| member.id.clone()) else { return false };
        self.leader = Some(elected);
        true
    }

    /// The protocol that most members prefer among those that all of them know.
    pub(super) fn vote(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let is_shared = |name: &str| self.members.values().all(|member| member.supports(name));
        for member in self.members.values() {
            let preferred = member.protocols.iter().find(|protocol| is_shared(&protocol.name))?;
            *votes.entry(&preferred.name).or_default() += 1;
        }
        // The first by name among equals, so that every run says the same.
        let most = votes.values().max().copied()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// The longest that any member wants others to wait for it.
    fn rebalance_timeout_ms(&self) -> i64 {
        i64::from(self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0).max(0))
    }
}
