//! What a classic group hands over to one of KIP-848, and what it takes over from one.

use std::collections::BTreeMap;

use millrace_protocol::error_code::ErrorCode;

use super::member::{Member, Waits};
use super::{CONSUMER, Classic, State};
use crate::group::Step;

impl Classic {
    /// A consumer group that goes on with these members: stored as a generation of it, which everybody is to join anew.
    pub(in crate::group) fn from_members(
        step: &mut Step<'_>,
        generation: i32,
        members: BTreeMap<String, Member>,
    ) -> Self {
        let named = members.values().filter_map(|member| Some((member.instance_id.clone()?, member.id.clone())));
        let mut group = Self {
            state: State::Stable,
            state_since_unix_ms: Some(step.now.unix_ms),
            protocol_type: Some(CONSUMER.to_owned()),
            generation,
            leader: members.keys().next().cloned(),
            static_members: named.collect(),
            members,
            ..Self::default()
        };
        group.protocol = group.vote();
        group.subscribed = group.find_subscribed();
        step.outcome.records.push(group.stored(step.group));
        group.prepare(step);
        group
    }

    /// Everybody.
    pub(in crate::group) fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// The number of the generation.
    pub(in crate::group) fn generation(&self) -> i32 {
        self.generation
    }

    /// The group goes on as one of KIP-848: whoever waits is to join again.
    pub(in crate::group) fn refuse_waiting(&mut self, step: &mut Step<'_>) {
        for member in self.members.values_mut() {
            if let Some(token) = member.waits.token() {
                member.waits = Waits::Nothing;
                step.refuse(token, ErrorCode::RebalanceInProgress);
            }
        }
    }
}
