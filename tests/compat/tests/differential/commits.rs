//! Offsets of groups as they are seldom asked for, and what members of the protocol of KIP-848 may commit.

use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest,
    HeartbeatRequest, JoinGroupRequest, MetadataRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use uuid::Uuid;

use crate::groups::{TOPIC, group};
use crate::members::settle;
use crate::topics::{name, text};
use crate::transcript::Peer;

/// The versions from which topics have ids in place of names, and members have epochs.
const BY_ID: i16 = 10;
const FETCH_BY_MEMBER: i16 = 9;
const FETCH_OF_GROUPS: i16 = 8;

/// An id that no topic has.
const NOBODY: Uuid = Uuid::from_u128(7);

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    for id in ["odd", "modern"] {
        settle(peer, id);
    }
    let id = id_of(peer);
    for version in peer.versions::<OffsetCommitRequest>() {
        commit(peer, version, id);
    }
    for version in peer.versions::<OffsetFetchRequest>().filter(|version| *version >= FETCH_OF_GROUPS) {
        fetch(peer, version, id);
    }
    for version in peer.versions::<FindCoordinatorRequest>() {
        find(peer, version);
    }
    modern(peer, id);
    for version in peer.versions::<DeleteGroupsRequest>() {
        let twice = vec![group("unknown"), group("unknown")];
        peer.ask("one twice", version, &DeleteGroupsRequest::default().with_groups_names(twice));
        peer.ask("none", version, &DeleteGroupsRequest::default());
    }
    for version in peer.versions::<DescribeGroupsRequest>() {
        for (step, groups) in [("none", vec![]), ("no name", vec![""]), ("one twice", vec!["odd", "odd"])] {
            let request = DescribeGroupsRequest::default().with_groups(groups.into_iter().map(group).collect());
            peer.ask(step, version, &request);
        }
    }
    let nothing = OffsetDeleteRequest::default();
    peer.ask("nothing", 0, &nothing.clone().with_group_id(group("odd")));
    peer.ask("without a group", 0, &nothing);
}

fn id_of(peer: &mut Peer) -> Uuid {
    let wanted = kafka_protocol::messages::metadata_request::MetadataRequestTopic::default();
    let request = MetadataRequest::default().with_topics(Some(vec![wanted.with_name(Some(name(TOPIC)))]));
    let mut found = Uuid::nil();
    peer.ask_sorted("the topic's id", 12, &request, |response| {
        response.topics[0].partitions.sort_by_key(|partition| partition.partition_index);
    })
    .iter()
    .for_each(|response| found = response.topics[0].topic_id);
    found
}

fn commit_request(version: i16, (topic, id): (&str, Uuid), partitions: &[(i32, i64, i32)]) -> OffsetCommitRequest {
    let partitions = partitions.iter().map(|(partition, offset, epoch)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*partition)
            .with_committed_offset(*offset)
            .with_committed_leader_epoch(if version < 6 { -1 } else { *epoch })
    });
    let wanted = OffsetCommitRequestTopic::default().with_partitions(partitions.collect());
    let wanted = if version < BY_ID { wanted.with_name(name(topic)) } else { wanted.with_topic_id(id) };
    OffsetCommitRequest::default()
        .with_group_id(group("odd"))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![wanted])
}

fn commit(peer: &mut Peer, version: i16, id: Uuid) {
    let known = (TOPIC, id);
    for (step, topic, partitions) in [
        ("with an epoch", known, &[(0, 7, 0)][..]),
        ("with an epoch to come", known, &[(1, 7, 9)]),
        ("a partition twice", known, &[(0, 8, 0), (0, 9, 0)]),
        ("a negative offset", known, &[(0, -1, -1)]),
        ("right and wrong", known, &[(0, 9, -1), (99, 9, -1), (-1, 9, -1)]),
        ("no partitions", known, &[]),
        ("by an id that no topic has", ("unknown", NOBODY), &[(0, 9, -1)]),
        ("by no id", ("", Uuid::nil()), &[(0, 9, -1)]),
    ] {
        // Kafka tells the errors first.
        peer.ask_sorted(step, version, &commit_request(version, topic, partitions), |response| {
            for topic in &mut response.topics {
                topic.partitions.sort_by_key(|partition| partition.partition_index);
            }
        });
    }
    peer.ask("nothing", version, &commit_request(version, known, &[]).with_topics(vec![]));
    if version >= 7 {
        let named = commit_request(version, known, &[(0, 9, -1)]).with_group_instance_id(Some(text("desk")));
        peer.ask("by name", version, &named.clone().with_member_id(text("me")));
        let of_members = named.with_group_id(group("static"));
        peer.ask("by name in a group without members", version, &of_members.with_member_id(text("me")));
    }
}

fn fetch(peer: &mut Peer, version: i16, id: Uuid) {
    let wanted = |topic: &str, id, partitions| {
        let wanted = OffsetFetchRequestTopics::default().with_partition_indexes(partitions);
        if version < BY_ID { wanted.with_name(name(topic)) } else { wanted.with_topic_id(id) }
    };
    let of = |id: &str, topics| OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(topics);
    let one = Some(vec![wanted(TOPIC, id, vec![0, 1, 2, 99])]);
    let unknown = Some(vec![wanted("unknown", NOBODY, vec![0])]);
    for (step, groups) in [
        ("no groups", vec![]),
        ("of two groups", vec![of("odd", one.clone()), of("unknown", one.clone())]),
        ("of one group twice", vec![of("odd", one.clone()), of("odd", None)]),
        ("no topics", vec![of("odd", Some(vec![]))]),
        ("a topic that is not there", vec![of("odd", unknown)]),
        ("all of it", vec![of("odd", None)]),
        ("a partition twice", vec![of("odd", Some(vec![wanted(TOPIC, id, vec![0, 0])]))]),
    ] {
        let request = OffsetFetchRequest::default().with_groups(groups);
        peer.ask_sorted(step, version, &request.clone().with_require_stable(true), |response| {
            response.groups.sort_by_key(|group| group.group_id.clone());
            for topic in response.groups.iter_mut().flat_map(|group| &mut group.topics) {
                topic.partitions.sort_by_key(|partition| partition.partition_index);
            }
        });
    }
}

fn find(peer: &mut Peer, version: i16) {
    let request = FindCoordinatorRequest::default();
    if version < 4 {
        peer.ask("of no group", version, &request.with_key(text("")));
        return;
    }
    for (step, kind, keys) in [
        ("of nothing", 0, vec![]),
        ("of no group", 0, vec![text("")]),
        ("of a group twice", 0, vec![text("odd"), text("odd")]),
        ("of something else", 9, vec![text("odd")]),
    ] {
        peer.ask(step, version, &request.clone().with_key_type(kind).with_coordinator_keys(keys));
    }
}

/// A member of the protocol of KIP-848: what it may commit and fetch, and what classic requests say of its group.
fn modern(peer: &mut Peer, id: Uuid) {
    let join = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group("modern"))
        .with_member_id(text("me"))
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![name(TOPIC)]))
        .with_topic_partitions(Some(vec![]));
    let epoch = peer.ask("a member that commits", 1, &join).expect("the connection stays").member_epoch;
    let members = [("me", epoch), ("me", epoch + 7), ("me", epoch - 1), ("me", -1), ("nobody", epoch), ("", -1)];
    for version in peer.versions::<OffsetCommitRequest>() {
        for (index, (member, epoch)) in members.iter().enumerate() {
            let request = commit_request(version, (TOPIC, id), &[(0, 5, -1)]).with_group_id(group("modern"));
            let request = request.with_member_id(text(*member)).with_generation_id_or_member_epoch(*epoch);
            peer.ask(&format!("of a modern group, way {index}"), version, &request);
        }
    }
    for version in peer.versions::<OffsetFetchRequest>().filter(|version| *version >= FETCH_BY_MEMBER) {
        for (index, (member, epoch)) in members[..5].iter().enumerate() {
            let wanted = OffsetFetchRequestTopics::default().with_partition_indexes(vec![0]);
            let wanted = if version < BY_ID { wanted.with_name(name(TOPIC)) } else { wanted.with_topic_id(id) };
            let asked = OffsetFetchRequestGroup::default().with_group_id(group("modern"));
            let asked = asked.with_topics(Some(vec![wanted])).with_member_id(Some(text(*member)));
            let request = OffsetFetchRequest::default().with_groups(vec![asked.with_member_epoch(*epoch)]);
            let way = if *epoch < 0 { "without an epoch".to_owned() } else { format!("way {index}") };
            peer.ask(&format!("of a modern group, {way}"), version, &request);
        }
    }
    let beat = HeartbeatRequest::default().with_group_id(group("modern")).with_generation_id(epoch);
    peer.ask("of a modern member", 4, &beat.with_member_id(text("me")));
    let sync = SyncGroupRequest::default().with_group_id(group("modern")).with_generation_id(epoch);
    peer.ask("of a modern member", 5, &sync.with_member_id(text("me")));
    let other = JoinGroupRequest::default().with_group_id(group("modern")).with_protocol_type(text("connect"));
    let other = other.with_session_timeout_ms(30_000).with_rebalance_timeout_ms(30_000);
    let protocol = kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol::default();
    // Before version 4, from which on Millrace asks to come back with an id first.
    peer.ask("of another kind to a modern group", 3, &other.with_protocols(vec![protocol.with_name(text("range"))]));
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
    let topic = OffsetDeleteRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
    peer.ask(
        "of a modern group",
        0,
        &OffsetDeleteRequest::default().with_group_id(group("modern")).with_topics(vec![topic]),
    );
    peer.ask("a modern one", 2, &DeleteGroupsRequest::default().with_groups_names(vec![group("modern")]));
    peer.ask("the member that commits goes", 1, &join.with_member_epoch(-1));
}
