//! Topics as they are seldom asked for: laid out by hand, by their ids, twice, not at all.

use kafka_protocol::messages::create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    MetadataResponse,
};
use uuid::Uuid;

use crate::topics::{name, text};
use crate::transcript::Peer;

/// The topic that is looked at; made by the other script, with three partitions.
const TOPIC: &str = "settled";

/// An id that no topic has.
const NOBODY: Uuid = Uuid::from_u128(7);

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    for version in peer.versions::<CreateTopicsRequest>() {
        lay_out(peer, version);
    }
    for version in peer.versions::<MetadataRequest>() {
        look(peer, version);
    }
    describe(peer);
    for version in peer.versions::<ElectLeadersRequest>() {
        elect(peer, version);
    }
    for version in peer.versions::<DescribeLogDirsRequest>() {
        let twice = DescribableLogDirTopic::default().with_topic(name(TOPIC)).with_partitions(vec![0, 0]);
        for (step, topics) in [("no partitions", vec![]), ("a partition twice", vec![twice])] {
            peer.ask(step, version, &DescribeLogDirsRequest::default().with_topics(Some(topics)));
        }
    }
    for version in peer.versions::<CreatePartitionsRequest>() {
        widen(peer, version);
    }
    for version in peer.versions::<DeleteTopicsRequest>() {
        delete(peer, version);
    }
}

fn lay_out(peer: &mut Peer, version: i16) {
    let assigned = |topic: &str, assignments: &[(i32, &[i32])]| {
        let assignments = assignments.iter().map(|(partition, brokers)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*partition)
                .with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
        });
        let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(-1);
        topic.with_replication_factor(-1).with_assignments(assignments.collect())
    };
    let counted = |topic: &str, partitions, replicas| {
        let topic = CreatableTopic::default().with_name(name(topic)).with_num_partitions(partitions);
        topic.with_replication_factor(replicas)
    };
    let configured = |configs: &[(&str, Option<&str>)]| {
        let configs = configs
            .iter()
            .map(|(key, value)| CreatableTopicConfig::default().with_name(text(*key)).with_value(value.map(text)));
        counted("configured", 1, 1).with_configs(configs.collect())
    };
    for (step, topic) in [
        ("laid out by hand", assigned("by-hand", &[(0, &[1]), (1, &[1])])),
        ("laid out with a gap", assigned("gap", &[(0, &[1]), (2, &[1])])),
        ("laid out from one on", assigned("gap", &[(1, &[1])])),
        ("a broker twice", assigned("doubled", &[(0, &[1, 1])])),
        ("a partition twice", assigned("doubled", &[(0, &[1]), (0, &[1])])),
        ("a partition without brokers", assigned("bare", &[(0, &[])])),
        ("as many as the broker says", counted("defaults", -1, -1)),
        ("fewer than the broker says", counted("less", -2, 1)),
        ("a name like another one", counted(&format!("made.{version}"), 1, 1)),
        ("a name that differs in a point", counted(&format!("made_{version}"), 1, 1)),
        ("a key without value", configured(&[("retention.ms", None)])),
        ("several keys", configured(&[("retention.ms", Some("9")), ("cleanup.policy", Some("compact"))])),
        ("a key twice", configured(&[("retention.ms", Some("9")), ("retention.ms", Some("8"))])),
        ("compacted and deleted", configured(&[("cleanup.policy", Some("compact,delete"))])),
        ("no such policy", configured(&[("cleanup.policy", Some("shrink"))])),
        ("an empty value", configured(&[("cleanup.policy", Some(""))])),
        ("remote storage", configured(&[("remote.storage.enable", Some("true"))])),
    ] {
        let request = CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5000);
        peer.ask(step, version, &request.with_validate_only(true));
    }
    for wrong in ["gap", "made_x"] {
        let topics = vec![counted("right", 1, 1), assigned(wrong, &[(3, &[1])])];
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(5000);
        peer.ask("a right and a wrong one", version, &request.with_validate_only(true));
    }
}

fn look(peer: &mut Peer, version: i16) {
    let request = MetadataRequest::default().with_allow_auto_topic_creation(version < 4);
    // In version 0 no topics are all topics.
    peer.ask_sorted("no topics", version, &request.clone().with_topics(Some(vec![])), in_order);
    if version > 0 {
        peer.ask_sorted("all topics", version, &request.clone().with_topics(None), in_order);
    }
    let by_name = MetadataRequestTopic::default().with_name(Some(name(TOPIC)));
    peer.ask_sorted(
        "a topic twice",
        version,
        &request.clone().with_topics(Some(vec![by_name.clone(), by_name.clone()])),
        in_order,
    );
    if version >= 4 {
        let wanted = ["", "..", "unknown", "settled"].map(|topic| by_name.clone().with_name(Some(name(topic))));
        peer.ask_sorted("names that are none", version, &request.clone().with_topics(Some(wanted.to_vec())), in_order);
        let made = request.clone().with_allow_auto_topic_creation(true);
        let wanted = ["", "a/b"].map(|topic| by_name.clone().with_name(Some(name(topic))));
        peer.ask_sorted("names that cannot be made", version, &made.with_topics(Some(wanted.to_vec())), in_order);
    }
    if version >= 10 {
        let by_id = MetadataRequestTopic::default().with_topic_id(NOBODY);
        let unnamed = MetadataRequestTopic::default().with_name(None);
        for (step, topic) in [
            ("by an id that no topic has", by_id.clone().with_name(None)),
            ("by an id and a name", by_id.with_name(Some(name(TOPIC)))),
            ("by nothing", unnamed),
        ] {
            peer.ask_sorted(step, version, &request.clone().with_topics(Some(vec![topic])), in_order);
        }
    }
}

/// Kafka tells topics and partitions in no order.
fn in_order(response: &mut MetadataResponse) {
    response.topics.sort_by_key(|topic| (topic.name.clone(), topic.topic_id));
    for topic in &mut response.topics {
        topic.partitions.sort_by_key(|partition| partition.partition_index);
    }
}

fn describe(peer: &mut Peer) {
    let by_name = |topic: &str| TopicRequest::default().with_name(name(topic));
    let cursor =
        |topic: &str, partition| Some(Cursor::default().with_topic_name(name(topic)).with_partition_index(partition));
    let (all, one) = (vec![], vec![by_name(TOPIC)]);
    let two = vec![by_name(TOPIC), by_name("made-2")];
    for (step, topics, limit, cursor) in [
        ("all", all.clone(), 2000, None),
        ("all, three at a time", all.clone(), 3, None),
        ("all from one on", all.clone(), 2000, cursor(TOPIC, 1)),
        ("all from a topic that is not there", all, 2000, cursor("n", 0)),
        ("one from its middle", one.clone(), 1, cursor(TOPIC, 1)),
        ("one from behind its end", one.clone(), 5, cursor(TOPIC, 9)),
        ("one from before its start", one.clone(), 5, cursor(TOPIC, -1)),
        ("one, none at a time", one.clone(), 0, None),
        ("one, fewer than none", one, -1, None),
        ("two from the first one's middle", two.clone(), 2000, cursor("made-2", 1)),
        ("two from behind both", two.clone(), 2000, cursor("z", 0)),
        ("two, out of order", two, 2000, None),
        ("one twice", vec![by_name(TOPIC), by_name(TOPIC)], 2000, None),
        ("a name that is none", vec![by_name("a/b")], 2000, None),
    ] {
        let request = DescribeTopicPartitionsRequest::default().with_topics(topics).with_cursor(cursor);
        peer.ask(step, 0, &request.with_response_partition_limit(limit));
    }
    let request = ListPartitionReassignmentsRequest::default().with_timeout_ms(5000);
    peer.ask("all", 0, &request.clone().with_topics(None));
    peer.ask("none", 0, &request.clone().with_topics(Some(vec![])));
    let wanted = ListPartitionReassignmentsTopics::default().with_name(name(TOPIC)).with_partition_indexes(vec![99, 0]);
    peer.ask("a partition that is not there", 0, &request.with_topics(Some(vec![wanted.clone(), wanted])));
}

fn elect(peer: &mut Peer, version: i16) {
    const UNCLEAN: i8 = 1;
    let wanted = TopicPartitions::default().with_topic(name(TOPIC)).with_partitions(vec![0]);
    let request = ElectLeadersRequest::default().with_timeout_ms(5000);
    peer.ask("all", version, &request.clone().with_topic_partitions(None));
    peer.ask("none", version, &request.clone().with_topic_partitions(Some(vec![])));
    let request = request.with_topic_partitions(Some(vec![wanted]));
    if version > 0 {
        peer.ask("unclean", version, &request.clone().with_election_type(UNCLEAN));
        peer.ask("of no such kind", version, &request.with_election_type(9));
    }
}

fn widen(peer: &mut Peer, version: i16) {
    let wanted = |count, brokers: &[&[i32]]| {
        let assignments = brokers.iter().map(|brokers| {
            CreatePartitionsAssignment::default().with_broker_ids(brokers.iter().copied().map(BrokerId).collect())
        });
        let topic = CreatePartitionsTopic::default().with_name(name("made-2")).with_count(count);
        topic.with_assignments(Some(assignments.collect()))
    };
    let free = CreatePartitionsTopic::default().with_name(name("made-2")).with_assignments(None);
    for (step, topics) in [
        ("by hand", vec![wanted(4, &[&[1], &[1]])]),
        ("by hand, one too few", vec![wanted(4, &[&[1]])]),
        ("by hand, one too many", vec![wanted(3, &[&[1], &[1]])]),
        ("by hand, none", vec![wanted(3, &[])]),
        ("by hand, without brokers", vec![wanted(3, &[&[]])]),
        ("by hand, a broker twice", vec![wanted(3, &[&[1, 1]])]),
        ("by hand, a broker that is not there", vec![wanted(3, &[&[7]])]),
        ("by hand, with another count of replicas", vec![wanted(4, &[&[1], &[1, 2]])]),
        ("a topic twice", vec![free.clone().with_count(3), free.clone().with_count(4)]),
        ("a negative count", vec![free.with_count(-3)]),
        ("nothing", vec![]),
    ] {
        let request = CreatePartitionsRequest::default().with_topics(topics).with_timeout_ms(5000);
        peer.ask(step, version, &request.with_validate_only(true));
    }
}

fn delete(peer: &mut Peer, version: i16) {
    let request = DeleteTopicsRequest::default().with_timeout_ms(5000);
    let by_name = |topic: &str| DeleteTopicState::default().with_name(Some(name(topic)));
    let by_id = |id| DeleteTopicState::default().with_name(None).with_topic_id(id);
    if version < 6 {
        peer.ask("nothing", version, &request.clone().with_topic_names(vec![]));
        peer.ask("one twice", version, &request.clone().with_topic_names(vec![name(TOPIC), name(TOPIC)]));
        peer.ask("no name", version, &request.with_topic_names(vec![name("")]));
        return;
    }
    for (step, topics) in [
        ("nothing", vec![]),
        ("one twice", vec![by_name(TOPIC), by_name(TOPIC)]),
        ("no name", vec![by_name("")]),
        ("by an id that no topic has", vec![by_id(NOBODY)]),
        ("by neither", vec![by_id(Uuid::nil())]),
        ("by both", vec![by_name(TOPIC).with_topic_id(NOBODY)]),
    ] {
        peer.ask(step, version, &request.clone().with_topics(topics));
    }
}
