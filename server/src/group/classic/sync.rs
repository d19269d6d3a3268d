//! SyncGroup: the leader says who does what, and everybody is told.

use std::collections::BTreeMap;

use millrace_protocol::error_code::ErrorCode;

use super::join::supersede;
use super::member::Waits;
use super::{Classic, State};
use crate::group::request::{Answer, Sync, Synced};
use crate::group::{Step, Token};

impl Classic {
    /// A member asks for its part; the leader brings everybody's.
    pub(in crate::group) fn sync(&mut self, step: &mut Step<'_>, token: Token, sync: Sync) {
        if let Err(error) = self.check_sync(&sync) {
            return step.refuse(token, error);
        }
        let member_id = sync.member.member_id.clone();
        self.note_synced(&member_id);
        match self.state {
            State::Empty => step.refuse(token, ErrorCode::UnknownMemberId),
            State::PreparingRebalance => step.refuse(token, ErrorCode::RebalanceInProgress),
            State::CompletingRebalance => {
                let member = self.known(&member_id);
                supersede(step, member);
                member.waits = Waits::Sync(token);
                if self.is_leader(&member_id) {
                    self.assign(step, sync.assignments);
                }
            }
            State::Stable => {
                self.known(&member_id).touch(step.now);
                let synced = self.synced(&member_id);
                step.answer(token, Answer::Synced(synced));
            }
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), ErrorCode> {
        self.check_member(&sync.member)?;
        let is_same = |said: &Option<String>, known: &Option<String>| said.is_none() || said == known;
        if is_same(&sync.protocol_type, &self.protocol_type) && is_same(&sync.protocol, &self.protocol) {
            Ok(())
        } else {
            Err(ErrorCode::InconsistentGroupProtocol)
        }
    }

    fn note_synced(&mut self, member_id: &str) {
        self.unsynced.remove(member_id);
        if self.unsynced.is_empty() {
            self.sync_until_ms = None;
        }
    }

    /// Takes the leader's assignment over, once it is stored.
    fn assign(&mut self, step: &mut Step<'_>, assignments: Vec<(String, Vec<u8>)>) {
        let mut assignments: BTreeMap<_, _> = assignments.into_iter().collect();
        for member in self.members.values_mut() {
            member.assignment = assignments.remove(&member.id).unwrap_or_default();
        }
        let since = self.state_since_unix_ms.replace(step.now.unix_ms);
        let record = self.stored(step.group);
        if record.bytes() > step.settings.record_bytes_max {
            // It could never be stored. The members hear of it and try again with what their next leader says.
            self.state_since_unix_ms = since;
            self.refuse_syncs(step, ErrorCode::UnknownServerError);
            return self.prepare(step);
        }
        step.outcome.records.push(record);
        self.enter(step.now, State::Stable);
        let waiting: Vec<_> = self.members.values().map(|member| (member.id.clone(), member.waits)).collect();
        for (member_id, waits) in waiting {
            if let Waits::Sync(token) = waits {
                let synced = self.synced(&member_id);
                step.answer(token, Answer::Synced(synced));
                let member = self.known(&member_id);
                member.waits = Waits::Nothing;
                member.touch(step.now);
            }
        }
    }

    /// Tells everybody who waits for the leader that there will be nothing.
    pub(super) fn refuse_syncs(&mut self, step: &mut Step<'_>, error: ErrorCode) {
        for member in self.members.values_mut() {
            member.assignment = Vec::new();
            if let Waits::Sync(token) = member.waits {
                member.waits = Waits::Nothing;
                member.touch(step.now);
                step.refuse(token, error);
            }
        }
    }

    fn synced(&self, member_id: &str) -> Synced {
        Synced {
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol.clone().unwrap_or_default(),
            assignment: self.members[member_id].assignment.clone(),
        }
    }
}
