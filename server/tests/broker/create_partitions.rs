//! CreatePartitions: what it adds, what it leaves alone, and every refusal.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use millrace_protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use millrace_runtime::sim::SimEnv;

use crate::client::{Client, fetch_request};
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed, each_shard_count};

fn topic<'a>(name: &'a str, count: i32, assignments: Option<&[&[i32]]>) -> CreatePartitionsTopic<'a> {
    let assign = |broker_ids: &&[i32]| CreatePartitionsAssignment { broker_ids: broker_ids.to_vec() };
    CreatePartitionsTopic { name, count, assignments: assignments.map(|all| all.iter().map(assign).collect()) }
}

/// Asks for partitions; gives names and errors.
async fn create(
    client: &mut Client<SimEnv>,
    version: i16,
    topics: Vec<CreatePartitionsTopic<'_>>,
    validate_only: bool,
) -> Vec<(String, i16)> {
    let answer = client.call(version, &CreatePartitionsRequest { topics, timeout_ms: 30_000, validate_only }).await;
    let response: CreatePartitionsResponse<'_> = answer.decode(version);
    assert!(response.results.iter().all(|result| (result.error_code == 0) == result.error_message.is_none()));
    response.results.iter().map(|result| (result.name.to_owned(), result.error_code)).collect()
}

/// The partitions that a topic is told to have: index, leader, leader epoch.
async fn partitions(client: &mut Client<SimEnv>, name: &str) -> Vec<(i32, i32, i32)> {
    let topics = Some(vec![MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() }]);
    let answer = client.call(12, &MetadataRequest { topics, ..MetadataRequest::default() }).await;
    let response: MetadataResponse<'_> = answer.decode(12);
    let partitions = response.topics[0].partitions.iter();
    partitions.map(|partition| (partition.partition_index, partition.leader_id, partition.leader_epoch)).collect()
}

#[test]
fn new_partitions_are_usable_at_once_and_after_a_restart() {
    each_shard_count(async |world, shards| {
        let settings = ["num.partitions=2", shards];
        let broker = Running::start(world, &settings).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        let mut other = Client::connect(&env, broker.address).await;
        let id = client.make_topic("weather").await;
        for partition in 0..2 {
            client.produce("weather", partition, b"old").await;
        }
        for (version, count) in (0..=3).zip([4, 5, 7, 8]) {
            let wanted = || vec![topic("weather", count, None)];
            let before = partitions(&mut client, "weather").await.len();
            assert_eq!(create(&mut client, version, wanted(), true).await, [("weather".to_owned(), 0)]);
            assert_eq!(partitions(&mut client, "weather").await.len(), before, "it was only checked");
            assert_eq!(create(&mut client, version, wanted(), false).await, [("weather".to_owned(), 0)]);
            // The other connection is served by the other shard, where there is one.
            let expected: Vec<_> = (0..count).map(|partition| (partition, 1, 0)).collect();
            assert_eq!(partitions(&mut other, "weather").await, expected);
        }
        for partition in 2..8 {
            assert_eq!(other.produce("weather", partition, b"new").await, 0, "a new partition starts from nothing");
        }
        assert_eq!(client.produce("weather", 0, b"next").await, 1, "an old one goes on");
        client.close();
        other.close();
        broker.stop().await;

        let broker = Running::start(world, &settings).await;
        let mut client = Client::connect(&env, broker.address).await;
        assert_eq!(client.make_topic("weather").await, id, "it is the same topic");
        assert_eq!(partitions(&mut client, "weather").await.len(), 8);
        let positions: Vec<_> = (0..8).map(|partition| (partition, 0)).collect();
        let found = client.fetch(&fetch_request("weather", &positions, 0, 1)).await;
        let new = vec![b"new".to_vec()];
        let mut expected = vec![new; 8];
        expected[0] = vec![b"old".to_vec(), b"next".to_vec()];
        expected[1] = vec![b"old".to_vec()];
        assert_eq!(found, expected);
        assert_eq!(client.produce("weather", 7, b"more").await, 1);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn what_cannot_be_added_is_refused_by_topic() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        client.make_topic("other").await;
        // What Kafka 4.3.1 answers to the same, except where a comment says otherwise.
        let cases = [
            (topic("nowhere", 9, None), ErrorCode::UnknownTopicOrPartition),
            (topic("no spaces", 9, None), ErrorCode::UnknownTopicOrPartition),
            (topic("", 9, None), ErrorCode::UnknownTopicOrPartition),
            (topic("weather", 4, None), ErrorCode::InvalidPartitions),
            (topic("weather", 3, None), ErrorCode::InvalidPartitions),
            (topic("weather", 0, None), ErrorCode::InvalidPartitions),
            (topic("weather", -1, None), ErrorCode::InvalidPartitions),
            // Kafka has no limit of its own, but one for each request.
            (topic("weather", 10_001, None), ErrorCode::InvalidPartitions),
            (topic("weather", i32::MAX, None), ErrorCode::InvalidPartitions),
            (topic("weather", 6, Some(&[&[1]])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 5, Some(&[&[1], &[1]])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 5, Some(&[])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 5, Some(&[&[]])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 5, Some(&[&[2]])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 5, Some(&[&[-1]])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 5, Some(&[&[1, 1]])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 5, Some(&[&[1, 2]])), ErrorCode::InvalidReplicaAssignment),
            (topic("weather", 10_000, None), ErrorCode::None),
            (topic("weather", 5, Some(&[&[1]])), ErrorCode::None),
        ];
        for version in 0..=3 {
            for (wanted, error) in &cases {
                // A good one beside it is not held back.
                let asked = vec![wanted.clone(), topic("other", 5, None)];
                let expected = [(wanted.name.to_owned(), error.code()), ("other".to_owned(), 0)];
                assert_eq!(create(&mut client, version, asked, true).await, expected, "{wanted:?}");
            }
        }
        let asked = vec![topic("weather", 5, None), topic("other", 5, None), topic("weather", 6, None)];
        let expected = [("weather".to_owned(), ErrorCode::InvalidRequest.code()), ("other".to_owned(), 0)];
        assert_eq!(create(&mut client, 3, asked, false).await, expected);
        assert_eq!(create(&mut client, 3, Vec::new(), false).await, []);
        assert_eq!(partitions(&mut client, "weather").await.len(), 4);
        assert_eq!(partitions(&mut client, "other").await.len(), 5);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn the_topic_of_groups_keeps_its_number_of_partitions() {
    each_seed(async |world| {
        let broker = Running::start(world, &["offsets.topic.num.partitions=3"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let answer =
            client.call(3, &FindCoordinatorRequest { key: "group", ..FindCoordinatorRequest::default() }).await;
        assert_eq!(answer.decode::<FindCoordinatorResponse<'_>>(3).error_code, 0);
        // Kafka adds them, and looks for most groups in another partition after its next start.
        let cases = [
            (2, ErrorCode::InvalidPartitions),
            (3, ErrorCode::InvalidPartitions),
            (4, ErrorCode::InvalidTopicException),
        ];
        for (count, error) in cases {
            let refused = create(&mut client, 3, vec![topic("__consumer_offsets", count, None)], false).await;
            assert_eq!(refused, [("__consumer_offsets".to_owned(), error.code())]);
        }
        assert_eq!(partitions(&mut client, "__consumer_offsets").await.len(), 3);
        client.close();
        broker.stop().await;
    });
}
