//! ConsumerGroupHeartbeat: the one request by which members join, stay, change and go.

use std::collections::BTreeSet;

use millrace_protocol::error_code::ErrorCode;

use super::member::{
    Current, JOIN_EPOCH, LEAVE_EPOCH, MEMBER_BYTES, MemberState, PARTITION_BYTES, Profile, STATIC_LEAVE_EPOCH,
};
use super::{Consumer, subscription};
use crate::group::assignor::Assignor;
use crate::group::request::{Answer, Beat, Beaten, IdPartition};
use crate::group::{Settings, Step, Token};
use crate::metadata::Image;

/// Whether the request makes sense at all, whatever group it is for.
pub(in crate::group) fn check(beat: &Beat, settings: &Settings) -> Result<(), ErrorCode> {
    let is_empty = |text: &Option<String>| text.as_ref().is_some_and(String::is_empty);
    let needs_id = beat.makes_own_id || beat.epoch != JOIN_EPOCH;
    if (needs_id && beat.member_id.is_empty()) || is_empty(&beat.instance_id) || is_empty(&beat.rack_id) {
        return Err(ErrorCode::InvalidRequest);
    }
    match beat.epoch {
        JOIN_EPOCH => {
            let is_subscribed = beat.names.is_some() || beat.regex.as_ref().is_some_and(|regex| !regex.is_empty());
            let owns_nothing = beat.owned.as_ref().is_some_and(BTreeSet::is_empty);
            if beat.rebalance_timeout_ms.is_none() || !owns_nothing || !is_subscribed {
                return Err(ErrorCode::InvalidRequest);
            }
        }
        STATIC_LEAVE_EPOCH if beat.instance_id.is_none() => return Err(ErrorCode::InvalidRequest),
        epoch if epoch < STATIC_LEAVE_EPOCH => return Err(ErrorCode::InvalidRequest),
        _ => {}
    }
    let known = |name: &String| Assignor::parse(name).is_some_and(|found| settings.consumer.assignors.contains(&found));
    if beat.assignor.as_ref().is_some_and(|name| !known(name)) {
        return Err(ErrorCode::UnsupportedAssignor);
    }
    Ok(())
}

impl Consumer {
    /// A member says what it says, and hears what is its.
    pub(in crate::group) fn beat(&mut self, step: &mut Step<'_>, token: Token, beat: Beat, room_bytes: usize) {
        let result = match beat.epoch {
            LEAVE_EPOCH | STATIC_LEAVE_EPOCH => self.go(step, &beat),
            _ => self.stay(step, beat, room_bytes),
        };
        match result {
            Ok(beaten) => step.answer(token, Answer::Beaten(beaten)),
            Err(error) => step.refuse(token, error),
        }
    }

    fn stay(&mut self, step: &mut Step<'_>, mut beat: Beat, room_bytes: usize) -> Result<Beaten, ErrorCode> {
        let is_joining = beat.epoch == JOIN_EPOCH;
        let is_full = beat.rebalance_timeout_ms.is_some()
            && (beat.names.is_some() || beat.regex.is_some())
            && beat.owned.is_some();
        if beat.member_id.is_empty() {
            beat.member_id = std::mem::take(&mut beat.fresh_id);
        }
        let (member_id, owned) = (beat.member_id.clone(), beat.owned.take());
        let is_member = self.members.contains_key(&member_id);
        if !is_member && self.members.len() >= step.settings.consumer.member_count_max {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        let known_regex = self.members.get(&member_id).and_then(|member| member.profile.regex.as_ref());
        if let Some(regex) = beat.regex.as_ref().filter(|regex| !regex.is_empty() && known_regex != Some(*regex)) {
            subscription::compile(regex)?;
        }
        if self.growth_bytes(&beat, step.image) > room_bytes {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        let mut is_changed = false;
        if is_joining {
            is_changed = self.admit(step, &member_id, beat.instance_id.as_deref())?;
        } else {
            self.check_member(&beat, owned.as_ref())?;
        }
        is_changed |= self.update(step, &member_id, beat);
        self.follow(step, is_changed);
        self.retarget(step);
        let is_moved = self.reconcile(step, &member_id, owned.as_ref());
        let session_timeout_ms = step.consumer_session_timeout_ms();
        let member = self.members.get_mut(&member_id).expect("it was admitted or checked");
        member.touch(step.now, session_timeout_ms);
        member.classic_until_ms = None;
        let assigned = (is_joining || is_full || is_moved).then(|| member.current.assigned.keys().copied().collect());
        let (epoch, interval_ms) = (member.current.epoch, step.consumer_heartbeat_interval_ms());
        Ok(Beaten { member_id, epoch, interval_ms, assigned })
    }

    /// Lets somebody in who joins. A static member may take the place of the one of its name that went away. Whether there is
    /// one more member.
    pub(super) fn admit(
        &mut self,
        step: &mut Step<'_>,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<bool, ErrorCode> {
        let former_id = instance_id.and_then(|instance| self.static_members.get(instance)).cloned();
        let Some(former_id) = former_id.filter(|former_id| former_id != member_id) else {
            let session_timeout_ms = step.consumer_session_timeout_ms();
            let is_new = !self.members.contains_key(member_id);
            let member = self.members.entry(member_id.to_owned()).or_default();
            member.touch(step.now, session_timeout_ms);
            if member.current.epoch == STATIC_LEAVE_EPOCH {
                member.current.epoch = JOIN_EPOCH;
                member.current.previous_epoch = JOIN_EPOCH;
            }
            return Ok(is_new);
        };
        if self.members[&former_id].current.epoch != STATIC_LEAVE_EPOCH {
            return Err(ErrorCode::UnreleasedInstanceId);
        }
        self.replace(step, &former_id, member_id);
        Ok(false)
    }

    /// Gives the place of a static member to the one that comes instead.
    pub(super) fn replace(&mut self, step: &mut Step<'_>, former_id: &str, member_id: &str) {
        let former = self.members[former_id].clone();
        Self::unstore_member(step, former_id);
        self.drop_member(former_id);
        let Current { assigned, revoking, state, .. } = former.current.clone();
        let current = Current { epoch: JOIN_EPOCH, previous_epoch: JOIN_EPOCH, state, assigned, revoking };
        let instance = former.profile.instance_id.clone().expect("it is a static member");
        self.static_members.insert(instance, member_id.to_owned());
        let member = super::Member { current: Current::default(), revoke_until_ms: None, ..former };
        self.members.insert(member_id.to_owned(), member);
        self.set_current(member_id, current);
        self.store_profile(step, member_id);
        self.store_target(step, member_id);
        self.store_current(step, member_id);
    }

    /// Whether the member is one, and in the epoch that it says.
    fn check_member(&self, beat: &Beat, owned: Option<&BTreeSet<IdPartition>>) -> Result<(), ErrorCode> {
        self.check_name(&beat.member_id, beat.instance_id.as_deref())?;
        let current = &self.members.get(&beat.member_id).ok_or(ErrorCode::UnknownMemberId)?.current;
        if beat.epoch == current.epoch {
            return Ok(());
        }
        // The answer with the newer epoch was lost; the member has nothing that it should not have.
        let is_previous = beat.epoch < current.epoch && beat.epoch == current.previous_epoch;
        let is_subset = owned.is_some_and(|owned| owned.iter().all(|place| current.assigned.contains_key(place)));
        if is_previous && is_subset { Ok(()) } else { Err(ErrorCode::FencedMemberEpoch) }
    }

    /// Whether the id is the one that goes with the name of a static member.
    pub(super) fn check_name(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        let Some(instance) = instance_id else { return Ok(()) };
        let known = self.static_members.get(instance).ok_or(ErrorCode::UnknownMemberId)?;
        if known == member_id { Ok(()) } else { Err(ErrorCode::FencedInstanceId) }
    }

    /// Takes over what the member says. Whether it reads other topics now.
    fn update(&mut self, step: &mut Step<'_>, member_id: &str, beat: Beat) -> bool {
        let known = &self.members[member_id].profile;
        let profile = Profile {
            instance_id: beat.instance_id.or_else(|| known.instance_id.clone()),
            rack_id: beat.rack_id.or_else(|| known.rack_id.clone()),
            client_id: beat.client_id,
            client_host: beat.client_host,
            names: beat.names.unwrap_or_else(|| known.names.clone()),
            regex: beat.regex.or_else(|| known.regex.clone()).filter(|regex| !regex.is_empty()),
            rebalance_timeout_ms: beat.rebalance_timeout_ms.unwrap_or(known.rebalance_timeout_ms),
            assignor: beat.assignor.or_else(|| known.assignor.clone()),
            classic: None,
        };
        self.set_profile(step, member_id, profile)
    }

    /// Stores what the member says now, if that is new. Whether it reads other topics.
    pub(super) fn set_profile(&mut self, step: &mut Step<'_>, member_id: &str, profile: Profile) -> bool {
        let known = &self.members[member_id].profile;
        if *known == profile {
            return false;
        }
        let is_changed = (&known.names, &known.regex) != (&profile.names, &profile.regex);
        if let Some(instance) = &profile.instance_id {
            self.static_members.insert(instance.clone(), member_id.to_owned());
        }
        self.members.get_mut(member_id).expect("it was there").profile = profile;
        self.store_profile(step, member_id);
        is_changed
    }

    /// A member goes, or a static one goes away for a while.
    fn go(&mut self, step: &mut Step<'_>, beat: &Beat) -> Result<Beaten, ErrorCode> {
        self.check_name(&beat.member_id, beat.instance_id.as_deref())?;
        let member = self.members.get(&beat.member_id).ok_or(ErrorCode::UnknownMemberId)?;
        if beat.epoch == STATIC_LEAVE_EPOCH {
            // What it was to give back it does not read any more; the rest is kept for whoever comes in its place.
            let assigned = member.current.assigned.clone();
            let (epoch, previous_epoch) = (STATIC_LEAVE_EPOCH, member.current.epoch);
            let current = Current { epoch, previous_epoch, state: MemberState::Stable, assigned, ..Current::default() };
            self.set_current(&beat.member_id, current);
            self.members.get_mut(&beat.member_id).expect("it was there").revoke_until_ms = None;
            self.store_current(step, &beat.member_id);
        } else {
            self.remove_all(step, std::slice::from_ref(&beat.member_id));
        }
        Ok(Beaten { member_id: beat.member_id.clone(), epoch: beat.epoch, ..Beaten::default() })
    }

    /// Memory that the request may add, roughly and at most: nothing where it says nothing new.
    fn growth_bytes(&self, beat: &Beat, image: &Image) -> usize {
        let member = self.members.get(&beat.member_id);
        let mut bytes = if member.is_none() { MEMBER_BYTES } else { 0 };
        let known = |name: &String| member.is_some_and(|member| member.profile.names.contains(name));
        let mut topics = BTreeSet::new();
        for name in beat.names.iter().flatten().filter(|name| !known(name)) {
            bytes += name.len() + PARTITION_BYTES;
            topics.insert(name.clone());
        }
        if let Some(regex) = beat.regex.as_ref().filter(|regex| !self.regexes.contains_key(*regex)) {
            topics.extend(subscription::find_topics(regex, image));
            bytes += regex.len() + topics.iter().map(|name| name.len() + PARTITION_BYTES).sum::<usize>();
        }
        // Each partition stands with whoever has it, with whoever is to have it, and in the group's table.
        for topic in topics.iter().filter(|name| !self.is_subscribed(name)) {
            let partitions = image.find_topic_by_name(topic).map_or(0, |topic| topic.partitions.len());
            bytes += 3 * PARTITION_BYTES * partitions;
        }
        bytes
    }
}
