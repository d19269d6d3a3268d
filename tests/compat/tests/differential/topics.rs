//! Topics from their creation to their end, in every version of what is asked.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest as ProducersTopic;
use kafka_protocol::messages::describe_topic_partitions_request::TopicRequest;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{
    BrokerId, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, DescribeProducersRequest, DescribeTopicPartitionsRequest, ElectLeadersRequest,
    IncrementalAlterConfigsRequest, ListOffsetsRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::settings::in_order;
use crate::transcript::Peer;

/// A string of the codec.
pub(crate) fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

/// A topic's name.
pub(crate) fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    for version in peer.versions::<CreateTopicsRequest>() {
        create(peer, version);
    }
    let topic = "settled";
    let layout = CreatableTopic::default().with_num_partitions(3).with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![layout.with_name(name(topic))]).with_timeout_ms(5000);
    peer.ask("a topic to look at", 7, &request);
    peer.settle_topic(topic, 3);
    describe(peer, topic);
    look_up(peer, topic);
    for version in peer.versions::<IncrementalAlterConfigsRequest>() {
        alter(peer, version, topic);
    }
    for version in peer.versions::<DescribeConfigsRequest>() {
        configs(peer, version, topic);
    }
    for version in peer.versions::<CreatePartitionsRequest>() {
        widen(peer, version, topic);
    }
    for version in peer.versions::<DeleteTopicsRequest>() {
        delete(peer, version);
    }
}

fn create(peer: &mut Peer, version: i16) {
    let plain = CreatableTopic::default().with_num_partitions(2).with_replication_factor(1);
    let topic = format!("made-{version}");
    let assigned = |broker: i32| {
        let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(broker)]);
        CreatableTopic::default().with_num_partitions(-1).with_replication_factor(-1).with_assignments(vec![assignment])
    };
    let with_config = |key: &str, value: &str| {
        let config = CreatableTopicConfig::default().with_name(text(key)).with_value(Some(text(value)));
        plain.clone().with_name(name("configured")).with_configs(vec![config])
    };
    let mut ask = |step: &str, topics: Vec<CreatableTopic>, validate_only: bool| {
        let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(5000);
        peer.ask(step, version, &request.with_validate_only(validate_only));
    };
    ask("nothing", vec![], false);
    ask("only validated", vec![plain.clone().with_name(name(&topic))], true);
    ask("a topic", vec![plain.clone().with_name(name(&topic))], false);
    ask("the same again", vec![plain.clone().with_name(name(&topic))], false);
    ask("twice at once", vec![plain.clone().with_name(name("twice")); 2], false);
    for bad in ["", ".", "..", "a/b", &"x".repeat(250)] {
        ask(&format!("a name of {} letters: {bad:.3}", bad.len()), vec![plain.clone().with_name(name(bad))], false);
    }
    ask("no partitions", vec![plain.clone().with_name(name("none")).with_num_partitions(0)], false);
    ask("five replicas", vec![plain.clone().with_name(name("five")).with_replication_factor(5)], false);
    ask("no replicas", vec![plain.clone().with_name(name("zero")).with_replication_factor(0)], false);
    ask("on a broker that is not there", vec![assigned(7).with_name(name("elsewhere"))], false);
    ask("assigned and counted", vec![assigned(1).with_name(name("both")).with_num_partitions(2)], false);
    ask("a key that is not there", vec![with_config("no.such.key", "1")], true);
    ask("a value that is not legal", vec![with_config("retention.ms", "long")], true);
    ask("a value below the least", vec![with_config("retention.ms", "-2")], true);
}

fn describe(peer: &mut Peer, topic: &str) {
    let by_name = |topic: &str| MetadataRequestTopic::default().with_name(Some(name(topic)));
    for version in peer.versions::<MetadataRequest>() {
        // Before version 4 a topic that is not there is made, whatever the request says.
        let wanted =
            if version < 4 { vec![by_name(topic)] } else { vec![by_name(topic), by_name("unknown"), by_name("a/b")] };
        let request = MetadataRequest::default().with_allow_auto_topic_creation(version < 4);
        peer.ask("some topics", version, &request.with_topics(Some(wanted)));
    }
    let wanted = ["unknown", topic].map(|topic| TopicRequest::default().with_name(name(topic)));
    let request = DescribeTopicPartitionsRequest::default().with_topics(wanted.to_vec());
    peer.ask("some topics", 0, &request.clone().with_response_partition_limit(2000));
    peer.ask("two partitions at a time", 0, &request.with_response_partition_limit(2));
    for version in peer.versions::<ElectLeadersRequest>() {
        for (step, topic, partitions) in [("known", topic, vec![0, 9]), ("unknown", "unknown", vec![0])] {
            let partitions = vec![TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions)];
            let request = ElectLeadersRequest::default().with_topic_partitions(Some(partitions)).with_timeout_ms(5000);
            peer.ask(step, version, &request);
        }
    }
    for (step, topic) in [("known", topic), ("unknown", "unknown")] {
        let wanted = ListPartitionReassignmentsTopics::default().with_name(name(topic)).with_partition_indexes(vec![0]);
        let request = ListPartitionReassignmentsRequest::default().with_topics(Some(vec![wanted]));
        peer.ask(step, 0, &request.with_timeout_ms(5000));
    }
    let wanted = ProducersTopic::default().with_partition_indexes(vec![0, 9]);
    let wanted = [topic, "unknown"].map(|topic| wanted.clone().with_name(name(topic)));
    peer.ask("some partitions", 0, &DescribeProducersRequest::default().with_topics(wanted.to_vec()));
}

fn look_up(peer: &mut Peer, topic: &str) {
    for version in peer.versions::<ListOffsetsRequest>() {
        for (step, topic, partition, epoch, time) in [
            ("the end", topic, 0, -1, -1),
            ("the start", topic, 0, -1, -2),
            ("the newest record", topic, 0, -1, -3),
            ("the start on the broker", topic, 0, -1, -4),
            ("the end in the remote tier", topic, 0, -1, -5),
            ("the start of what is not in the remote tier", topic, 0, -1, -6),
            ("a time", topic, 0, -1, 1_000),
            ("the leader's epoch", topic, 0, 0, -1),
            ("an epoch to come", topic, 0, 9, -1),
            ("a partition that is not there", topic, 9, -1, -1),
            ("a topic that is not there", "unknown", 0, -1, -1),
        ] {
            let partition = ListOffsetsPartition::default()
                .with_partition_index(partition)
                .with_current_leader_epoch(if version < 4 { -1 } else { epoch })
                .with_timestamp(time);
            let wanted = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![wanted]);
            peer.ask(step, version, &request);
        }
    }
    for version in peer.versions::<OffsetForLeaderEpochRequest>() {
        let partitions = [(0, -1, 0), (0, 0, 5), (0, 9, 0), (9, -1, 0)].map(|(partition, current, epoch)| {
            let wanted = OffsetForLeaderPartition::default().with_partition(partition).with_leader_epoch(epoch);
            wanted.with_current_leader_epoch(current)
        });
        let wanted = OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(partitions.to_vec());
        let request = OffsetForLeaderEpochRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![wanted]);
        peer.ask("some epochs", version, &request);
    }
    for version in peer.versions::<DeleteRecordsRequest>() {
        for (step, topic, partition, offset) in [
            ("up to the end", topic, 0, -1),
            ("past the end", topic, 0, 5),
            ("below anything", topic, 0, -2),
            ("of a partition that is not there", topic, 9, 0),
            ("of a topic that is not there", "unknown", 0, 0),
        ] {
            let partition = DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
            let wanted = DeleteRecordsTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
            peer.ask(step, version, &DeleteRecordsRequest::default().with_topics(vec![wanted]).with_timeout_ms(5000));
        }
    }
}

fn alter(peer: &mut Peer, version: i16, topic: &str) {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    for (step, kind, resource, key, operation, value) in [
        ("a value", 2, topic, "retention.ms", SET, Some("86400000")),
        ("a list grows", 2, topic, "cleanup.policy", APPEND, Some("compact")),
        ("a number does not grow", 2, topic, "retention.ms", APPEND, Some("1")),
        ("back to the default", 2, topic, "retention.ms", DELETE, None),
        ("back again", 2, topic, "retention.ms", DELETE, None),
        ("no such key", 2, topic, "no.such.key", SET, Some("1")),
        ("no legal value", 2, topic, "segment.bytes", SET, Some("many")),
        ("no value", 2, topic, "segment.bytes", SET, None),
        ("no such topic", 2, "unknown", "segment.bytes", SET, Some("1048576")),
        ("no such kind", 99, topic, "segment.bytes", SET, Some("1048576")),
    ] {
        let config = AlterableConfig::default().with_name(text(key)).with_config_operation(operation);
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configs(vec![config.with_value(value.map(text))]);
        peer.ask(step, version, &IncrementalAlterConfigsRequest::default().with_resources(vec![resource]));
    }
}

fn configs(peer: &mut Peer, version: i16, topic: &str) {
    for (step, kind, resource) in [("a topic", 2, topic), ("no such topic", 2, "unknown"), ("no such kind", 99, topic)]
    {
        let keys = ["cleanup.policy", "retention.ms", "segment.bytes", "no.such.key"].map(text);
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configuration_keys(Some(keys.to_vec()));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
        peer.ask_sorted(step, version, &request, in_order);
    }
}

fn widen(peer: &mut Peer, version: i16, topic: &str) {
    let count = 4 + i32::from(version);
    for (step, topic, count, validate_only) in [
        ("only validated", topic, count, true),
        ("one more", topic, count, false),
        ("as many", topic, count, false),
        ("fewer", topic, 1, false),
        ("none", topic, 0, false),
        ("a topic that is not there", "unknown", 3, false),
    ] {
        let wanted = CreatePartitionsTopic::default().with_name(name(topic)).with_count(count).with_assignments(None);
        let request = CreatePartitionsRequest::default().with_topics(vec![wanted]).with_timeout_ms(5000);
        peer.ask(step, version, &request.with_validate_only(validate_only));
    }
    peer.settle_topic(topic, usize::try_from(count).expect("a few partitions"));
}

fn delete(peer: &mut Peer, version: i16) {
    let topic = format!("made-{}", version.max(2));
    for (step, topic) in [("a topic", topic.as_str()), ("it is gone", topic.as_str()), ("unknown", "unknown")] {
        let request = DeleteTopicsRequest::default().with_timeout_ms(5000);
        let request = match version {
            ..6 => request.with_topic_names(vec![name(topic)]),
            _ => request.with_topics(vec![DeleteTopicState::default().with_name(Some(name(topic)))]),
        };
        peer.ask(step, version, &request);
        peer.settle_topic(topic, 0);
    }
}
