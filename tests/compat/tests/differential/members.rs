//! Members that the other scripts have none of: static ones, and those of the protocol of KIP-848.

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DescribeGroupsRequest, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, SyncGroupRequest,
};

use crate::groups::{TOPIC, group};
use crate::topics::{name, text};
use crate::transcript::Peer;

/// The version from which consumers choose their ids and may subscribe by regular expression.
const BY_EXPRESSION: i16 = 1;

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    settle(peer, "static");
    fixed(peer);
    for version in peer.versions::<ConsumerGroupHeartbeatRequest>() {
        for id in ["new", "none"].map(|id| format!("{id}-{version}")) {
            settle(peer, &id);
        }
        consumer(peer, version);
    }
    for version in peer.versions::<ListGroupsRequest>().filter(|version| *version >= 4) {
        let request = ListGroupsRequest::default();
        peer.ask("those with members", version, &request.clone().with_states_filter(vec![text("Stable")]));
        peer.ask("those without", version, &request.clone().with_states_filter(vec![text("empty")]));
        peer.ask("no such state", version, &request.clone().with_states_filter(vec![text("Nonsense")]));
        if version >= 5 {
            peer.ask("consumers", version, &request.clone().with_types_filter(vec![text("consumer")]));
            peer.ask("no such kind", version, &request.with_types_filter(vec![text("nonsense")]));
        }
    }
}

/// Waits until the broker coordinates the group.
pub(crate) fn settle(peer: &mut Peer, id: &str) {
    let request = DescribeGroupsRequest::default().with_groups(vec![group(id)]);
    peer.settle(0, &request, |response| !crate::groups::NOT_READY.contains(&response.groups[0].error_code));
}

/// A static member goes and comes back (KIP-345).
fn fixed(peer: &mut Peer) {
    let instance = Some(text("desk"));
    let protocol = JoinGroupRequestProtocol::default().with_name(text("range"));
    let join = JoinGroupRequest::default()
        .with_group_id(group("static"))
        .with_session_timeout_ms(30_000)
        .with_rebalance_timeout_ms(30_000)
        .with_protocol_type(text("consumer"))
        .with_group_instance_id(instance.clone())
        .with_protocols(vec![protocol.with_metadata(Bytes::from_static(b"me"))]);
    let first = peer.ask("a static member", 9, &join).expect("the connection stays");
    let sync = SyncGroupRequest::default()
        .with_group_id(group("static"))
        .with_generation_id(first.generation_id)
        .with_group_instance_id(instance.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")));
    let work = SyncGroupRequestAssignment::default().with_assignment(Bytes::from_static(b"work"));
    let own = vec![work.with_member_id(first.member_id.clone())];
    peer.ask("by it", 5, &sync.clone().with_member_id(first.member_id.clone()).with_assignments(own));
    let second = peer.ask("it comes back", 9, &join).expect("the connection stays");
    peer.ask("in its second life", 5, &sync.with_member_id(second.member_id.clone()));
    let beat = HeartbeatRequest::default().with_group_id(group("static")).with_generation_id(second.generation_id);
    let beat = beat.with_group_instance_id(instance.clone());
    peer.ask("in its first life", 4, &beat.clone().with_member_id(first.member_id.clone()));
    peer.ask("in its second life", 4, &beat.clone().with_member_id(second.member_id.clone()));
    peer.ask("of another name", 4, &beat.with_member_id(second.member_id).with_group_instance_id(Some(text("chair"))));
    peer.ask("in its first life", 9, &join.clone().with_member_id(first.member_id.clone()));
    peer.ask("a static group", 6, &DescribeGroupsRequest::default().with_groups(vec![group("static")]));
    let consumers = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("static"), group("unknown")]);
    peer.ask("a classic group and none", 1, &consumers);
    let leave = LeaveGroupRequest::default().with_group_id(group("static"));
    let named = MemberIdentity::default().with_group_instance_id(instance);
    let members = vec![named.clone().with_member_id(first.member_id), named, MemberIdentity::default()];
    peer.ask("in its first life, by name, and nobody", 5, &leave.with_members(members));
}

/// A group of the protocol of KIP-848 from its first member to its end.
fn consumer(peer: &mut Peer, version: i16) {
    let id = format!("new-{version}");
    let beat = ConsumerGroupHeartbeatRequest::default().with_group_id(group(&id)).with_member_id(text("me"));
    let join = beat
        .clone()
        .with_rebalance_timeout_ms(30_000)
        .with_subscribed_topic_names(Some(vec![name(TOPIC)]))
        .with_topic_partitions(Some(vec![]));
    peer.ask("without a group", version, &join.clone().with_group_id(group("")));
    peer.ask("without a subscription", version, &join.clone().with_subscribed_topic_names(None));
    peer.ask("without a timeout", version, &join.clone().with_rebalance_timeout_ms(-1));
    peer.ask("without partitions", version, &join.clone().with_topic_partitions(None));
    peer.ask("no such assignor", version, &join.clone().with_server_assignor(Some(text("none"))));
    peer.ask("a strange epoch", version, &join.clone().with_member_epoch(-7));
    peer.ask("of a group that is not there", version, &beat.clone().with_member_epoch(3));
    if version >= BY_EXPRESSION {
        let expression = join.clone().with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text("(")));
        peer.ask("no expression", version, &expression);
        peer.ask("without an id", version, &join.clone().with_member_id(text("")));
    }
    let joined = peer.ask("a member", version, &join).expect("the connection stays");
    let epoch = joined.member_epoch;
    peer.ask("again", version, &beat.clone().with_member_epoch(epoch));
    peer.ask("of an epoch to come", version, &beat.clone().with_member_epoch(epoch + 5));
    peer.ask("of somebody else", version, &beat.clone().with_member_id(text("nobody")).with_member_epoch(epoch));
    let describe = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group(&id)]);
    peer.ask("a group with a member", version, &describe);
    peer.ask("of the new protocol", 6, &DescribeGroupsRequest::default().with_groups(vec![group(&id)]));
    let fixed = join.with_member_id(text("fixed")).with_instance_id(Some(text("desk")));
    peer.ask("a static member", version, &fixed);
    peer.ask("the same name", version, &fixed.clone().with_member_id(text("other")));
    peer.ask("the static one is away", version, &fixed.clone().with_member_epoch(-2));
    peer.ask("the same name once more", version, &fixed.clone().with_member_id(text("other")));
    peer.ask("the static one goes", version, &fixed.with_member_id(text("other")).with_member_epoch(-1));
    peer.ask("the member goes", version, &beat.clone().with_member_epoch(-1));
    peer.ask("it is gone", version, &beat.with_member_epoch(epoch));
    peer.ask("an empty group", version, &describe);
}
