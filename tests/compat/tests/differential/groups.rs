//! Groups of the classic protocol and their offsets, in every version of what is asked.

use bytes::Bytes;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::topics::{name, text};
use crate::transcript::Peer;

/// The topic that the groups read; made by the other script.
pub(crate) const TOPIC: &str = "settled";

/// The answer to somebody new who is to come back with the id in it (KIP-394).
pub(crate) const MEMBER_ID_REQUIRED: i16 = 79;

/// What Kafka says until it has become the coordinator: it is loading, not available, or not this one.
pub(crate) const NOT_READY: [i16; 3] = [14, 15, 16];

/// A group's id.
pub(crate) fn group(group: &str) -> GroupId {
    GroupId(text(group))
}

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    // Kafka makes the topic of the offsets now, and asks to be asked again meanwhile.
    let request = FindCoordinatorRequest::default().with_key(text("readers")).with_key_type(0);
    peer.settle(3, &request, |response| response.error_code == 0);
    let members = peer.versions::<JoinGroupRequest>().map(|version| format!("live-{version}"));
    for id in members.chain(["simple", "none yet", "unknown"].map(str::to_owned)) {
        let request = DescribeGroupsRequest::default().with_groups(vec![group(&id)]);
        peer.settle(0, &request, |response| !NOT_READY.contains(&response.groups[0].error_code));
    }
    for version in peer.versions::<FindCoordinatorRequest>() {
        find(peer, version);
    }
    for version in peer.versions::<OffsetCommitRequest>() {
        commit(peer, version);
    }
    for version in peer.versions::<OffsetFetchRequest>() {
        fetch(peer, version);
    }
    for version in peer.versions::<JoinGroupRequest>() {
        live(peer, version);
    }
    for version in peer.versions::<ListGroupsRequest>() {
        peer.ask("all", version, &ListGroupsRequest::default());
    }
    delete(peer);
}

fn find(peer: &mut Peer, version: i16) {
    let request = FindCoordinatorRequest::default();
    if version < 4 {
        peer.ask("of a group", version, &request.clone().with_key(text("readers")));
        if version > 0 {
            peer.ask("of something else", version, &request.with_key(text("readers")).with_key_type(9));
        }
    } else {
        let keys = vec![text("readers"), text("others")];
        peer.ask("of groups", version, &request.with_coordinator_keys(keys));
    }
}

fn commit(peer: &mut Peer, version: i16) {
    for (step, id, member, generation, topic, partition, metadata) in [
        ("without membership", "simple", "", -1, TOPIC, 0, Some("note")),
        ("without a note", "simple", "", -1, TOPIC, 1, None),
        ("with a long note", "simple", "", -1, TOPIC, 0, Some(&*"x".repeat(5000))),
        ("of a partition that is not there", "simple", "", -1, TOPIC, 99, Some("")),
        ("of a topic that is not there", "simple", "", -1, "unknown", 0, Some("")),
        ("without a group", "", "", -1, TOPIC, 0, Some("")),
        ("as a member that is not there", "simple", "nobody", 3, TOPIC, 0, Some("")),
        ("with a generation", "none yet", "", 3, TOPIC, 0, Some("")),
    ] {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(i64::from(version))
            .with_committed_metadata(metadata.map(text));
        let topic = OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group(id))
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic]);
        peer.ask(step, version, &request);
    }
}

fn fetch(peer: &mut Peer, version: i16) {
    for (step, id, wanted) in [
        ("some", "simple", Some(vec![0, 1, 2, 99])),
        ("all", "simple", None),
        ("of a group that is not there", "unknown", Some(vec![0])),
        ("all of a group that is not there", "unknown", None),
        ("without a group", "", Some(vec![0])),
    ] {
        // Before version 2 nobody can ask for all.
        if version < 2 && wanted.is_none() {
            continue;
        }
        let request = OffsetFetchRequest::default();
        let request = if version < 8 {
            let topic =
                |wanted| OffsetFetchRequestTopic::default().with_name(name(TOPIC)).with_partition_indexes(wanted);
            request.with_group_id(group(id)).with_topics(wanted.map(|wanted| vec![topic(wanted)]))
        } else {
            let topic =
                |wanted| OffsetFetchRequestTopics::default().with_name(name(TOPIC)).with_partition_indexes(wanted);
            let wanted = wanted.map(|wanted| vec![topic(wanted)]);
            let asked = OffsetFetchRequestGroup::default().with_group_id(group(id)).with_topics(wanted);
            request.with_groups(vec![asked.with_member_epoch(-1)])
        };
        peer.ask(step, version, &request);
    }
}

/// A group from its first member to its end; every request in the version that its JoinGroup allows.
fn live(peer: &mut Peer, version: i16) {
    let id = format!("live-{version}");
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(Bytes::from_static(b"me"));
    let join = JoinGroupRequest::default()
        .with_group_id(group(&id))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(if version < 1 { -1 } else { 30_000 })
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    peer.ask("too short a session", version, &join.clone().with_session_timeout_ms(10));
    peer.ask("without a group", version, &join.clone().with_group_id(group("")));
    peer.ask("without protocols", version, &join.clone().with_protocols(vec![]));
    peer.ask("as a member that is not there", version, &join.clone().with_member_id(text("nobody")));
    let first = peer.ask("somebody new", version, &join).expect("the connection stays");
    let joined = match first.error_code {
        MEMBER_ID_REQUIRED => {
            let again = join.clone().with_member_id(first.member_id);
            peer.ask("with the id", version, &again).expect("the connection stays")
        }
        _ => first,
    };
    let (member, generation) = (joined.member_id, joined.generation_id);
    let sync_version = version.min(5);
    let assignment = SyncGroupRequestAssignment::default().with_member_id(member.clone());
    let sync = SyncGroupRequest::default()
        .with_group_id(group(&id))
        .with_generation_id(generation)
        .with_member_id(member.clone())
        .with_assignments(vec![assignment.with_assignment(Bytes::from_static(b"work"))]);
    let sync = match sync_version {
        5 => sync.with_protocol_type(Some(text("consumer"))).with_protocol_name(Some(text("range"))),
        _ => sync,
    };
    peer.ask("of another generation", sync_version, &sync.clone().with_generation_id(generation + 1));
    peer.ask("of somebody else", sync_version, &sync.clone().with_member_id(text("nobody")));
    peer.ask("by the leader", sync_version, &sync);
    beat(peer, version.min(4), &id, &member, generation);
    let describe = DescribeGroupsRequest::default().with_groups(vec![group(&id), group("unknown")]);
    peer.ask("a group with a member", version.min(6), &describe);
    let own = OffsetCommitRequestPartition::default().with_committed_offset(5).with_committed_metadata(Some(text("")));
    let own = OffsetCommitRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![own]);
    let commit = OffsetCommitRequest::default().with_group_id(group(&id)).with_topics(vec![own]);
    let commit = commit.with_member_id(member.clone()).with_generation_id_or_member_epoch(generation);
    peer.ask("by a member", 7, &commit);
    peer.ask(
        "by a member of another generation",
        7,
        &commit.clone().with_generation_id_or_member_epoch(generation + 1),
    );
    peer.ask(
        "without membership in a group that has members",
        7,
        &commit.with_member_id(text("")).with_generation_id_or_member_epoch(-1),
    );
    peer.ask("with members", 2, &DeleteGroupsRequest::default().with_groups_names(vec![group(&id)]));
    leave(peer, version.min(5), &id, &member);
    peer.ask("an empty group", version.min(6), &describe);
}

fn beat(peer: &mut Peer, version: i16, id: &str, member: &StrBytes, generation: i32) {
    let beat = HeartbeatRequest::default().with_group_id(group(id)).with_generation_id(generation);
    let beat = beat.with_member_id(member.clone());
    peer.ask("of a member", version, &beat);
    peer.ask("of another generation", version, &beat.clone().with_generation_id(generation + 1));
    peer.ask("of somebody else", version, &beat.clone().with_member_id(text("nobody")));
    peer.ask("in a group that is not there", version, &beat.clone().with_group_id(group("unknown")));
    peer.ask("without a group", version, &beat.with_group_id(group("")));
}

fn leave(peer: &mut Peer, version: i16, id: &str, member: &StrBytes) {
    for (step, member) in [("of somebody else", text("nobody")), ("of the member", member.clone())] {
        let request = LeaveGroupRequest::default().with_group_id(group(id));
        let request = match version {
            ..3 => request.with_member_id(member),
            _ => request.with_members(vec![MemberIdentity::default().with_member_id(member)]),
        };
        peer.ask(step, version, &request);
    }
}

fn delete(peer: &mut Peer) {
    for (step, id, topic, partition) in [
        ("one", "simple", TOPIC, 0),
        ("one that is not there", "simple", TOPIC, 99),
        ("of a topic that is not there", "simple", "unknown", 0),
        ("of a group that is not there", "unknown", TOPIC, 0),
    ] {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
        let topic = OffsetDeleteRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        peer.ask(step, 0, &OffsetDeleteRequest::default().with_group_id(group(id)).with_topics(vec![topic]));
    }
    for version in peer.versions::<DeleteGroupsRequest>() {
        for id in [format!("live-{version}"), "unknown".to_owned(), String::new()] {
            let request = DeleteGroupsRequest::default().with_groups_names(vec![group(&id)]);
            let answer = peer.ask(&id, version, &request).expect("the connection stays");
            assert_eq!(answer.results.iter().map(result_of).collect::<Vec<_>>(), [id]);
        }
    }
}

fn result_of(result: &DeletableGroupResult) -> String {
    result.group_id.0.to_string()
}
