//! Commands and printed text of groups of KIP-848.

use std::collections::BTreeSet;

use millrace_engine::model::{LeaderEpoch, TopicId};
use millrace_protocol::group_data::consumer_protocol_assignment::ConsumerProtocolAssignment;
use millrace_protocol::group_data::consumer_protocol_subscription::{ConsumerProtocolSubscription, TopicPartition};
use millrace_protocol::wire::{Reader, Uuid, Writer};

use super::super::consumer::member::MemberState;
use super::super::records::StoredConsumer;
use super::super::request::{Beat, Beaten, ConsumerDescription, IdPartition};
use super::super::{Moment, Outcome, Token};
use super::{Scene, Words};
use crate::metadata::record::{Entry, NodeId, Partition, Record};

impl Scene {
    pub(super) fn cancel(&mut self, token: Token) -> Outcome {
        self.coordinator.cancel(Moment { now: self.now, image: &self.image }, "g", token)
    }

    pub(super) fn expire(&mut self) -> Outcome {
        self.coordinator.expire(Moment { now: self.now, image: &self.image })
    }

    /// Makes a topic, or gives it more partitions.
    pub(super) fn set_topic(&mut self, name: &str, count: i32) {
        let mut records = Vec::new();
        let known = self.image.find_topic_by_name(name).map(|topic| (topic.id, topic.partitions.len()));
        let (topic, known_count) = known.unwrap_or_else(|| {
            self.topic_count += 1;
            let topic = TopicId::from_bytes([self.topic_count; 16]);
            records.push(Record::Topic { topic, name: name.to_owned() });
            (topic, 0)
        });
        let node = NodeId::new(1).unwrap();
        for partition in i32::try_from(known_count).unwrap()..count {
            let (replicas, isr, leader) = (vec![node], vec![node], Some(node));
            let (leader_epoch, partition_epoch) = (LeaderEpoch::new(0), 0);
            let partition = Partition { partition, replicas, isr, leader, leader_epoch, partition_epoch };
            records.push(Record::Partition { topic, partition });
        }
        self.apply(records);
    }

    pub(super) fn remove_topic(&mut self, name: &str) {
        let topic = self.image.find_topic_id(name).unwrap();
        self.apply(vec![Record::RemoveTopic { topic }]);
    }

    fn apply(&mut self, records: Vec<Record>) {
        let index = self.image.applied_index() + 1;
        self.image.apply_entry(&Entry { term: 1, index, records }).unwrap();
    }

    pub(super) fn beat(&mut self, words: &Words<'_>) -> Beat {
        let epoch = words.number("epoch", 0);
        let is_joining = epoch == 0;
        let owned = match words.option("owned") {
            Some(_) => Some(words.list("owned").into_iter().filter(|text| !text.is_empty()).map(place).collect()),
            None => is_joining.then(BTreeSet::new),
        };
        let names = words
            .option("names")
            .map(|_| words.list("names").into_iter().filter(|name| !name.is_empty()).map(str::to_owned).collect());
        let rebalance_timeout_ms = words.option("rebalance").map(|text| text.parse().unwrap());
        let version = words.number("version", 1);
        let fresh_id = if version == 0 { format!("made-{}", self.fresh_id()) } else { String::new() };
        Beat {
            member_id: words.option("id").unwrap_or_else(|| if version == 0 { "" } else { words.name }.to_owned()),
            epoch,
            instance_id: words.option("instance"),
            rack_id: words.option("rack"),
            client_id: words.name.to_owned(),
            client_host: "/10.0.0.1".to_owned(),
            rebalance_timeout_ms: rebalance_timeout_ms.or(is_joining.then_some(60_000)).filter(|ms| *ms >= 0),
            names,
            regex: words.option("regex"),
            assignor: words.option("assignor"),
            owned,
            makes_own_id: version >= 1,
            fresh_id,
        }
    }
}

/// What a classic consumer says that reads these topics and has these partitions.
pub(super) fn subscription(topics: &[&str], owned: &[&str]) -> Vec<u8> {
    let owned = owned.iter().map(|text| {
        let (topic, partition) = text.split_once('/').unwrap();
        TopicPartition { topic, partitions: vec![partition.parse().unwrap()] }
    });
    let owned_partitions = owned.collect();
    let subscription = ConsumerProtocolSubscription { topics: topics.to_vec(), owned_partitions, ..Default::default() };
    let mut writer = Writer::new();
    writer.write_i16(1);
    subscription.encode(&mut writer, 1).unwrap();
    writer.into_bytes()
}

fn place(text: &str) -> IdPartition {
    let (topic, partition) = text.split_once('/').unwrap();
    IdPartition { topic_id: Uuid([topic.parse().unwrap(); 16]), partition: partition.parse().unwrap() }
}

/// `1/0,1 2/0`
fn places<'a>(places: impl IntoIterator<Item = &'a IdPartition>) -> String {
    let topics = super::super::consumer::member::by_topic(places).into_iter();
    let topic = |(topic, partitions): (Uuid, Vec<i32>)| {
        let partitions: Vec<_> = partitions.iter().map(i32::to_string).collect();
        format!("{}/{}", topic.0[0], partitions.join(","))
    };
    format!("[{}]", topics.map(topic).collect::<Vec<_>>().join(" "))
}

pub(super) fn describe_beaten(beaten: &Beaten) -> String {
    let assigned = beaten.assigned.as_ref().map_or_else(|| "as before".to_owned(), places);
    format!("{} in epoch {}: {assigned}", beaten.member_id, beaten.epoch)
}

pub(super) fn describe(described: &ConsumerDescription) -> String {
    let members = described.members.iter().map(|member| {
        let kind = if member.is_classic { " classic" } else { "" };
        let (assigned, target) = (places(&member.assigned), places(&member.target));
        format!("\n  {}{kind} in epoch {}: {assigned} of {target}", member.member_id, member.epoch)
    });
    let ConsumerDescription { state, epoch, assignment_epoch, assignor, .. } = described;
    format!("{state} epoch {epoch} assignment {assignment_epoch} {assignor}{}", members.collect::<String>())
}

/// `weather/0+weather/1` as a consumer reads it.
pub(super) fn encode_assignment(text: &str) -> Vec<u8> {
    use millrace_protocol::group_data::consumer_protocol_assignment::TopicPartition;
    let places = text.split('+').map(|place| {
        let (topic, partition) = place.split_once('/').unwrap();
        TopicPartition { topic, partitions: vec![partition.parse().unwrap()] }
    });
    let assignment = ConsumerProtocolAssignment { assigned_partitions: places.collect(), user_data: None };
    let mut writer = Writer::new();
    writer.write_i16(0);
    assignment.encode(&mut writer, 0).unwrap();
    writer.into_bytes()
}

pub(super) fn describe_assignment(bytes: &[u8]) -> String {
    let mut reader = Reader::new(bytes);
    let assignment = reader.read_i16().ok().filter(|version| *version == 0);
    match assignment.and_then(|version| ConsumerProtocolAssignment::decode(&mut reader, version).ok()) {
        Some(assignment) => {
            let topics = assignment.assigned_partitions.iter();
            let topics: Vec<_> = topics.map(|topic| format!("{} {:?}", topic.topic, topic.partitions)).collect();
            topics.join(" ")
        }
        None => format!("{:?}", String::from_utf8_lossy(bytes)),
    }
}

pub(super) fn describe_record(group: &str, stored: &StoredConsumer<'_>) -> String {
    let what = match stored {
        StoredConsumer::Group(Some(value)) => format!("epoch {}", value.epoch),
        StoredConsumer::Member(id, Some(value)) => format!("member {id} {:?}", value.subscribed_topic_names),
        StoredConsumer::TargetEpoch(Some(value)) => format!("assignment {}", value.assignment_epoch),
        StoredConsumer::Target(id, Some(value)) => format!("target of {id} in {} topics", value.topic_partitions.len()),
        StoredConsumer::Current(id, Some(value)) => {
            format!("{id} in epoch {} {}", value.member_epoch, MemberState::from_code(value.state).name())
        }
        StoredConsumer::Regex(regex, Some(value)) => format!("{regex} matches {:?}", value.topics),
        StoredConsumer::Group(None) => return format!("removes {group}: the group"),
        StoredConsumer::Member(id, None) => return format!("removes {group}: member {id}"),
        StoredConsumer::TargetEpoch(None) => return format!("removes {group}: assignment"),
        StoredConsumer::Target(id, None) => return format!("removes {group}: target of {id}"),
        StoredConsumer::Current(id, None) => return format!("removes {group}: {id}"),
        StoredConsumer::Regex(regex, None) => return format!("removes {group}: {regex}"),
        StoredConsumer::Partitions => panic!("nobody writes those"),
    };
    format!("stores {group}: {what}")
}
