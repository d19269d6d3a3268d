//! A group of the classic protocol with two members, through its states; each member on a connection of its own.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use kafka_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, OffsetCommitRequest, OffsetDeleteRequest, SyncGroupRequest,
};
use kafka_protocol::protocol::StrBytes;

use crate::groups::{MEMBER_ID_REQUIRED, TOPIC, group};
use crate::members::settle;
use crate::topics::{name, text};
use crate::transcript::Peer;

/// The answer to a member that is to join again.
const REBALANCE_IN_PROGRESS: i16 = 27;

/// What a consumer says that subscribes to [`TOPIC`]: version 0, one topic, no data of its own.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x07settled\xff\xff\xff\xff";

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    for version in peer.versions::<JoinGroupRequest>() {
        for kind in ["consumer", "connect"] {
            let id = format!("{kind}-{version}");
            settle(peer, &id);
            Group { id, kind, version }.live(peer);
        }
    }
}

/// A group, and in which version of JoinGroup its members are; other requests are in the last version there was then.
struct Group {
    id: String,
    kind: &'static str,
    version: i16,
}

impl Group {
    fn live(&self, peer: &mut Peer) {
        let version = self.version;
        let joined = self.enter(peer, "first");
        let first = joined.member_id;
        peer.ask("alone", version.min(5), &self.sync(&first, joined.generation_id, &[(&first, "all")]));

        let other = self.join("", "second");
        peer.ask("of another kind", version, &other.clone().with_protocol_type(text("other")));
        peer.ask("of no kind", version, &other.clone().with_protocol_type(text("")));
        let protocol = JoinGroupRequestProtocol::default().with_name(text("sticky"));
        peer.ask("with nothing in common", version, &other.with_protocols(vec![protocol]));

        let mut elsewhere = peer.another();
        let second = self.knock(peer);
        elsewhere.send(version, &self.join(&second, "second"));
        let beat = self.beat(&first, joined.generation_id);
        peer.settle(version.min(4), &beat, |response| response.error_code == REBALANCE_IN_PROGRESS);
        self.look(peer, "while others join", &first, joined.generation_id);

        let again = peer.ask_sorted("again", version, &self.join(&first, "first"), in_order);
        let generation = again.expect("the connection stays").generation_id;
        let answer = peer.answer::<JoinGroupRequest>(&mut elsewhere, "beside the first", version);
        let second = answer.expect("the connection stays").member_id;
        self.look(peer, "while the leader thinks", &first, generation);

        elsewhere.send(version.min(5), &self.sync(&second, generation, &[]));
        let shares = [(&first, "one"), (&second, "two")];
        peer.ask("by the leader of two", version.min(5), &self.sync(&first, generation, &shares));
        peer.answer::<SyncGroupRequest>(&mut elsewhere, "of the other", version.min(5));
        self.look(peer, "when all is shared out", &first, generation);
        peer.ask("again", version.min(5), &self.sync(&second, generation, &[]));
        if version >= 5 {
            let sync = self.sync(&second, generation, &[]);
            peer.ask("of another kind", 5, &sync.clone().with_protocol_type(Some(text("other"))));
            peer.ask("of another protocol", 5, &sync.clone().with_protocol_name(Some(text("sticky"))));
            peer.ask("of no protocol", 5, &sync.clone().with_protocol_name(None));
            peer.ask("of a static member", 5, &sync.with_group_instance_id(Some(text("desk"))));
        }

        self.leave(peer, &second);
        self.look(peer, "when one has left", &first, generation);
        self.leave(peer, &first);
        self.look(peer, "when all have left", &first, generation);
        peer.ask("of a member that has left", version, &self.join(&first, "first"));
    }

    /// Joins an empty group.
    fn enter(&self, peer: &mut Peer, metadata: &'static str) -> JoinGroupResponse {
        let answer = peer.ask("alone", self.version, &self.join("", metadata)).expect("the connection stays");
        if answer.error_code != MEMBER_ID_REQUIRED {
            return answer;
        }
        let again = self.join(&answer.member_id, metadata);
        peer.ask("alone, with an id", self.version, &again).expect("the connection stays")
    }

    /// The id to join with; before version 4 there is none.
    fn knock(&self, peer: &mut Peer) -> StrBytes {
        if self.version < 4 {
            return text("");
        }
        let answer = peer.ask("a second one", self.version, &self.join("", "second"));
        answer.expect("the connection stays").member_id
    }

    /// What a member and others are told in a state of the group.
    fn look(&self, peer: &mut Peer, state: &str, member: &StrBytes, generation: i32) {
        let version = self.version;
        peer.ask(state, version.min(4), &self.beat(member, generation));
        let describe = DescribeGroupsRequest::default().with_groups(vec![group(&self.id)]);
        peer.ask(state, version.min(6), &describe);
        let own = OffsetCommitRequestPartition::default().with_committed_offset(3).with_committed_leader_epoch(0);
        let own = OffsetCommitRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![own]);
        let commit = OffsetCommitRequest::default().with_group_id(group(&self.id)).with_topics(vec![own]);
        let commit = commit.with_member_id(member.clone()).with_generation_id_or_member_epoch(generation);
        peer.ask(state, version.max(2), &commit);
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
        let topic = OffsetDeleteRequestTopic::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
        peer.ask(state, 0, &OffsetDeleteRequest::default().with_group_id(group(&self.id)).with_topics(vec![topic]));
        if state != "when all have left" {
            peer.ask(state, 2, &DeleteGroupsRequest::default().with_groups_names(vec![group(&self.id)]));
        }
        if self.kind != "consumer" {
            let join = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(group(&self.id))
                .with_member_id(text("modern"))
                .with_rebalance_timeout_ms(30_000)
                .with_subscribed_topic_names(Some(vec![name(TOPIC)]))
                .with_topic_partitions(Some(vec![]));
            if state != "when all have left" {
                peer.ask(state, 1, &join);
            }
        }
    }

    fn join(&self, member: &str, metadata: &'static str) -> JoinGroupRequest {
        let metadata = match self.kind {
            "consumer" => Bytes::from_static(SUBSCRIPTION),
            _ => Bytes::from_static(metadata.as_bytes()),
        };
        let protocols = ["range", "roundrobin"].map(|protocol| {
            JoinGroupRequestProtocol::default().with_name(text(protocol)).with_metadata(metadata.clone())
        });
        JoinGroupRequest::default()
            .with_group_id(group(&self.id))
            .with_member_id(text(member))
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(if self.version < 1 { -1 } else { 30_000 })
            .with_protocol_type(text(self.kind))
            .with_protocols(protocols.to_vec())
    }

    fn sync(&self, member: &StrBytes, generation: i32, shares: &[(&StrBytes, &'static str)]) -> SyncGroupRequest {
        let assignments = shares.iter().map(|(member, share)| {
            let assignment = SyncGroupRequestAssignment::default().with_member_id((*member).clone());
            assignment.with_assignment(Bytes::from_static(share.as_bytes()))
        });
        let sync = SyncGroupRequest::default()
            .with_group_id(group(&self.id))
            .with_generation_id(generation)
            .with_member_id(member.clone())
            .with_assignments(assignments.collect());
        match self.version {
            ..5 => sync,
            _ => sync.with_protocol_type(Some(text(self.kind))).with_protocol_name(Some(text("range"))),
        }
    }

    fn beat(&self, member: &StrBytes, generation: i32) -> HeartbeatRequest {
        let beat = HeartbeatRequest::default().with_group_id(group(&self.id));
        beat.with_member_id(member.clone()).with_generation_id(generation)
    }

    fn leave(&self, peer: &mut Peer, member: &StrBytes) {
        let request = LeaveGroupRequest::default().with_group_id(group(&self.id));
        let request = match self.version {
            ..3 => request.with_member_id(member.clone()),
            _ => request.with_members(vec![MemberIdentity::default().with_member_id(member.clone())]),
        };
        peer.ask("of one of two", self.version.min(5), &request);
    }
}

/// The leader is told the members in no order.
fn in_order(response: &mut JoinGroupResponse) {
    let leader = response.leader.clone();
    response.members.sort_by_key(|member| member.member_id != leader);
}
