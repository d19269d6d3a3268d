//! What is stored of a group, and the group as it was stored. Kafka's own records: what they hold is Kafka's choice.

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::group_data::consumer_group_current_member_assignment::{
    ConsumerGroupCurrentMemberAssignmentValue as CurrentValue, TopicPartitions,
};
use millrace_protocol::group_data::consumer_group_member_metadata::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMemberMetadataValue as MemberValue,
};
use millrace_protocol::group_data::consumer_group_metadata::ConsumerGroupMetadataValue as GroupValue;
use millrace_protocol::group_data::consumer_group_regular_expression::ConsumerGroupRegularExpressionValue as RegexValue;
use millrace_protocol::group_data::consumer_group_target_assignment_member::{
    ConsumerGroupTargetAssignmentMemberValue as TargetValue, TopicPartition,
};
use millrace_protocol::group_data::consumer_group_target_assignment_metadata::ConsumerGroupTargetAssignmentMetadataValue as TargetEpochValue;

use super::member::{ClassicProfile, Current, MemberState, Profile, by_topic};
use super::{Consumer, Resolved};
use crate::group::Step;
use crate::group::records::{ConsumerKey, Record, StoredConsumer};
use crate::group::request::{IdPartition, JoinProtocol};

impl Consumer {
    /// Takes a stored record in. False if the group itself was removed.
    pub fn replay(&mut self, stored: &StoredConsumer<'_>) -> bool {
        match stored {
            StoredConsumer::Group(Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            StoredConsumer::Group(None) => return false,
            StoredConsumer::TargetEpoch(value) => {
                self.assignment_epoch = value.as_ref().map_or(0, |value| value.assignment_epoch);
            }
            StoredConsumer::Member(member_id, Some(value)) => {
                let profile = profile(value);
                if let Some(instance) = &profile.instance_id {
                    self.static_members.insert(instance.clone(), (*member_id).to_owned());
                }
                self.stored_member(member_id).profile = profile;
            }
            StoredConsumer::Member(member_id, None) => self.drop_member(member_id),
            StoredConsumer::Target(member_id, Some(value)) => {
                let places = value.topic_partitions.iter().flat_map(|topic| {
                    let place = |partition: &i32| IdPartition { topic_id: topic.topic_id, partition: *partition };
                    topic.partitions.iter().map(place)
                });
                self.stored_member(member_id).target = places.collect();
            }
            StoredConsumer::Target(member_id, None) => {
                if let Some(member) = self.members.get_mut(*member_id) {
                    member.target.clear();
                }
            }
            StoredConsumer::Current(member_id, Some(value)) => {
                self.stored_member(member_id);
                self.set_current(member_id, current(value));
            }
            StoredConsumer::Current(member_id, None) => {
                if self.members.contains_key(*member_id) {
                    self.set_current(member_id, Current::default());
                }
            }
            StoredConsumer::Regex(regex, value) => {
                match value {
                    Some(value) => {
                        let topics = value.topics.iter().map(|topic| (*topic).to_owned()).collect();
                        self.regexes.insert((*regex).to_owned(), Resolved { topics });
                    }
                    None => drop(self.regexes.remove(*regex)),
                }
                // Looked for anew: topics may have come since.
                self.regex_index = None;
            }
            StoredConsumer::Partitions => {}
        }
        true
    }

    /// A member of which something was stored: its records may come in any order once the log is compacted.
    fn stored_member(&mut self, member_id: &str) -> &mut super::Member {
        self.members.entry(member_id.to_owned()).or_default()
    }

    pub(super) fn store_epoch(&self, step: &mut Step<'_>) {
        let value = GroupValue { epoch: self.epoch, metadata_hash: self.metadata_hash };
        let key = ConsumerKey::Group;
        step.outcome.records.push(Record::consumer(step.group, key, |writer| value.encode(writer, 0)));
    }

    pub(super) fn store_target_epoch(&self, step: &mut Step<'_>) {
        let (assignment_epoch, assignment_timestamp) = (self.assignment_epoch, step.now.unix_ms);
        let value = TargetEpochValue { assignment_epoch, assignment_timestamp };
        let key = ConsumerKey::TargetEpoch;
        step.outcome.records.push(Record::consumer(step.group, key, |writer| value.encode(writer, 0)));
    }

    pub(super) fn store_profile(&self, step: &mut Step<'_>, member_id: &str) {
        let profile = &self.members[member_id].profile;
        let classic = profile.classic.as_ref().map(|classic| {
            let protocol = |known: &'_ JoinProtocol| (known.name.clone(), known.metadata.clone());
            (classic.session_timeout_ms, classic.protocols.iter().map(protocol).collect::<Vec<_>>())
        });
        let classic = classic.as_ref().map(|(session_timeout_ms, protocols)| ClassicMemberMetadata {
            session_timeout_ms: *session_timeout_ms,
            supported_protocols: protocols.iter().map(|(name, metadata)| ClassicProtocol { name, metadata }).collect(),
        });
        let value = MemberValue {
            instance_id: profile.instance_id.as_deref(),
            rack_id: profile.rack_id.as_deref(),
            client_id: &profile.client_id,
            client_host: &profile.client_host,
            subscribed_topic_names: profile.names.iter().map(String::as_str).collect(),
            subscribed_topic_regex: profile.regex.as_deref(),
            rebalance_timeout_ms: profile.rebalance_timeout_ms,
            server_assignor: profile.assignor.as_deref(),
            classic_member_metadata: classic,
        };
        let key = ConsumerKey::Member(member_id);
        step.outcome.records.push(Record::consumer(step.group, key, |writer| value.encode(writer, 0)));
    }

    pub(super) fn store_target(&self, step: &mut Step<'_>, member_id: &str) {
        let topics = by_topic(&self.members[member_id].target).into_iter();
        let topics = topics.map(|(topic_id, partitions)| TopicPartition { topic_id, partitions });
        let value = TargetValue { topic_partitions: topics.collect() };
        let key = ConsumerKey::Target(member_id);
        step.outcome.records.push(Record::consumer(step.group, key, |writer| value.encode(writer, 0)));
    }

    pub(super) fn store_current(&self, step: &mut Step<'_>, member_id: &str) {
        let current = &self.members[member_id].current;
        let value = CurrentValue {
            member_epoch: current.epoch,
            previous_member_epoch: current.previous_epoch,
            state: current.state.code(),
            assigned_partitions: with_epochs(&current.assigned),
            partitions_pending_revocation: with_epochs(&current.revoking),
        };
        let key = ConsumerKey::Current(member_id);
        step.outcome.records.push(Record::consumer(step.group, key, |writer| value.encode(writer, 0)));
    }

    pub(super) fn store_regex(&self, step: &mut Step<'_>, regex: &str) {
        let value = RegexValue {
            topics: self.regexes[regex].topics.iter().map(String::as_str).collect(),
            version: i64::try_from(step.image.applied_index()).unwrap_or(i64::MAX),
            timestamp: step.now.unix_ms,
        };
        let key = ConsumerKey::Regex(regex);
        step.outcome.records.push(Record::consumer(step.group, key, |writer| value.encode(writer, 0)));
    }

    /// Takes back what was stored of a member.
    pub(super) fn unstore_member(step: &mut Step<'_>, member_id: &str) {
        for key in [ConsumerKey::Current(member_id), ConsumerKey::Target(member_id), ConsumerKey::Member(member_id)] {
            step.outcome.records.push(Record::consumer_gone(step.group, key));
        }
    }

    /// Takes everything back that was stored of the group. It comes in the order in which reading it back undoes it.
    pub fn gone(&self, group: &str) -> Vec<Record> {
        let mut keys = Vec::new();
        for member_id in self.members.keys() {
            keys.extend([ConsumerKey::Current(member_id), ConsumerKey::Target(member_id)]);
            keys.push(ConsumerKey::Member(member_id));
        }
        keys.extend(self.regexes.keys().map(|regex| ConsumerKey::Regex(regex)));
        keys.extend([ConsumerKey::TargetEpoch, ConsumerKey::Group]);
        keys.into_iter().map(|key| Record::consumer_gone(group, key)).collect()
    }
}

fn profile(value: &MemberValue<'_>) -> Profile {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let classic = value.classic_member_metadata.as_ref().map(|classic| {
        let protocol = |known: &ClassicProtocol<'_>| JoinProtocol {
            name: known.name.to_owned(),
            metadata: known.metadata.to_vec(),
        };
        ClassicProfile {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.iter().map(protocol).collect(),
        }
    });
    Profile {
        instance_id: text(value.instance_id),
        rack_id: text(value.rack_id),
        client_id: value.client_id.to_owned(),
        client_host: value.client_host.to_owned(),
        names: value.subscribed_topic_names.iter().map(|name| (*name).to_owned()).collect(),
        regex: text(value.subscribed_topic_regex).filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: text(value.server_assignor),
        classic,
    }
}

fn current(value: &CurrentValue) -> Current {
    let table = |topics: &[TopicPartitions]| {
        let mut places = BTreeMap::new();
        for topic in topics {
            let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
            for (index, partition) in topic.partitions.iter().enumerate() {
                // Older programs stored no epochs: the member has had it since its own at the latest.
                let epoch = epochs.get(index).copied().unwrap_or(value.member_epoch);
                places.insert(IdPartition { topic_id: topic.topic_id, partition: *partition }, epoch);
            }
        }
        places
    };
    Current {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_code(value.state),
        assigned: table(&value.assigned_partitions),
        revoking: table(&value.partitions_pending_revocation),
    }
}

fn with_epochs(places: &BTreeMap<IdPartition, i32>) -> Vec<TopicPartitions> {
    let topics: BTreeSet<_> = places.keys().map(|place| place.topic_id).collect();
    let topic = |topic_id| {
        let (first, last) =
            (IdPartition { topic_id, partition: i32::MIN }, IdPartition { topic_id, partition: i32::MAX });
        let (partitions, epochs) = places.range(first..=last).map(|(place, epoch)| (place.partition, *epoch)).unzip();
        TopicPartitions { topic_id, partitions, assignment_epochs: Some(epochs) }
    };
    topics.into_iter().map(topic).collect()
}
