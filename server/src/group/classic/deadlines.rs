//! Who is late.

use super::{Classic, Rebalance, State};
use crate::group::Step;

impl Classic {
    /// When something is to happen although nobody asks. Hearing of a member only ever moves it further away.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let members = self.members.values().filter_map(super::Member::deadline_ms);
        let rebalance = self.rebalance.map(Rebalance::until_ms);
        members.chain(self.pending.values().copied()).chain(rebalance).chain(self.sync_until_ms).min()
    }

    /// Does what is due.
    pub(in crate::group) fn expire(&mut self, step: &mut Step<'_>) {
        let now_ms = step.now.steady_ms;
        let pending_count = self.pending.len();
        self.pending.retain(|_, until_ms| *until_ms > now_ms);
        let is_silent = |deadline_ms: Option<i64>| deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        let silent = self.members.values().filter(|member| is_silent(member.deadline_ms()));
        let silent: Vec<_> = silent.map(|member| member.id.clone()).collect();
        for member_id in &silent {
            self.remove(step, member_id);
        }
        let is_awaited_less = self.pending.len() < pending_count && self.state == State::PreparingRebalance;
        if !silent.is_empty() || is_awaited_less {
            self.follow_removal(step);
        }

        if self.sync_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            self.sync_until_ms = None;
            let late = std::mem::take(&mut self.unsynced);
            for member_id in &late {
                self.remove(step, member_id);
            }
            if !late.is_empty() {
                self.follow_removal(step);
            }
        }
        if self.rebalance.is_some_and(|rebalance| rebalance.until_ms() <= now_ms) {
            self.end_joining(step);
        }
    }
}
