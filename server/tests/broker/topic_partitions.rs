//! DescribeTopicPartitions: topics by name, in pieces, from a cursor on.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};
use millrace_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, RequestCursor, TopicRequest,
};
use millrace_protocol::messages::find_coordinator::FindCoordinatorRequest;
use millrace_protocol::wire::Uuid;
use millrace_runtime::sim::SimEnv;

use crate::client::Client;
use crate::each_seed;
use crate::start::{Running, client_env};

/// A topic that was described: its error, its name, its partitions.
type Described = (i16, String, Vec<i32>);

/// Describes topics from a cursor on; gives them and the next cursor.
async fn describe(
    client: &mut Client<SimEnv>,
    names: &[&'static str],
    limit: i32,
    cursor: Option<(&'static str, i32)>,
) -> (Vec<Described>, Option<(String, i32)>) {
    let request = DescribeTopicPartitionsRequest {
        topics: names.iter().map(|name| TopicRequest { name }).collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(topic_name, partition_index)| RequestCursor { topic_name, partition_index }),
    };
    let answer = client.call(0, &request).await;
    let response: DescribeTopicPartitionsResponse<'_> = answer.decode(0);
    let mut described = Vec::new();
    for topic in &response.topics {
        let name = topic.name.unwrap();
        assert_eq!(topic.topic_id == Uuid::ZERO, topic.error_code != 0, "{name}");
        assert_eq!(topic.is_internal, name == "__consumer_offsets");
        let is_refused = topic.error_code == ErrorCode::InvalidRequest.code();
        let operations = if is_refused { i32::MIN } else { EVERYTHING };
        assert_eq!(topic.topic_authorized_operations, operations, "{name}");
        for partition in &topic.partitions {
            assert_eq!((partition.error_code, partition.leader_id, partition.leader_epoch), (0, 1, 0));
            assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![1], &vec![1]));
            assert_eq!(
                (&partition.eligible_leader_replicas, &partition.last_known_elr),
                (&Some(vec![]), &Some(vec![]))
            );
            assert!(partition.offline_replicas.is_empty());
        }
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        described.push((topic.error_code, name.to_owned(), indexes));
    }
    (described, response.next_cursor.map(|cursor| (cursor.topic_name.to_owned(), cursor.partition_index)))
}

/// Read, write, create, delete, alter, describe, and describe and alter configurations.
const EVERYTHING: i32 = 0b1101_1111_1000;

fn ok(name: &str, partitions: std::ops::Range<i32>) -> Described {
    (0, name.to_owned(), partitions.collect())
}

/// What Kafka 4.3.1 answers to the same.
#[test]
fn topics_are_described_in_order_and_from_a_cursor_on() {
    each_seed(async |world| {
        let broker = Running::start(world, &["num.partitions=4", "offsets.topic.num.partitions=2"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let client = &mut client;
        client.call(3, &FindCoordinatorRequest { key: "group", ..FindCoordinatorRequest::default() }).await;
        for name in ["weather", "b.topic", "a-topic"] {
            client.make_topic(name).await;
        }
        let at = |name: &str, index| Some((name.to_owned(), index));
        let three = ["weather", "b.topic", "a-topic"];
        let (first, second, third) = (ok("a-topic", 0..4), ok("b.topic", 0..4), ok("weather", 0..4));

        let all = vec![ok("__consumer_offsets", 0..2), first.clone(), second.clone(), third.clone()];
        assert_eq!(describe(client, &[], 2000, None).await, (all, None));
        let named = describe(client, &["weather", "a-topic", "weather"], 2000, None).await;
        assert_eq!(named, (vec![first.clone(), third.clone()], None), "each once");
        // A full answer ends at the next topic, be there one or not; an answer that is too small within one.
        assert_eq!(describe(client, &three, 3, None).await, (vec![ok("a-topic", 0..3)], at("a-topic", 3)));
        assert_eq!(describe(client, &three, 4, None).await, (vec![first.clone()], at("b.topic", 0)));
        assert_eq!(
            describe(client, &["a-topic", "a-unknown"], 4, None).await,
            (vec![first.clone()], at("a-unknown", 0))
        );
        for limit in [1, 0, -5] {
            assert_eq!(describe(client, &three, limit, None).await, (vec![ok("a-topic", 0..1)], at("a-topic", 1)));
        }
        let rest = describe(client, &three, 5, Some(("b.topic", 1))).await;
        assert_eq!(rest, (vec![ok("b.topic", 1..4), ok("weather", 0..2)], at("weather", 2)));
        let rest = describe(client, &[], 2, Some(("a-topic", 2))).await;
        assert_eq!(rest, (vec![ok("a-topic", 2..4)], at("b.topic", 0)));
        // A cursor at or behind the last partition, and one at a topic that is gone.
        for index in [4, 70, i32::MAX] {
            let found = describe(client, &["weather"], 2, Some(("weather", index))).await;
            assert_eq!(found, (vec![ok("weather", 4..4)], None));
        }
        let found = describe(client, &[], 2000, Some(("aa", 2))).await;
        assert_eq!(found, (vec![second, third], None));
        assert_eq!(describe(client, &[], 2000, Some(("zzz", 0))).await, (vec![], None));
        client.close();
        broker.stop().await;
    });
}

#[test]
fn topics_that_are_not_there_and_cursors_that_cannot_be_are_told() {
    each_seed(async |world| {
        let broker = Running::start(world, &["num.partitions=2"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let client = &mut client;
        client.make_topic("weather").await;
        let told = |error: ErrorCode, name: &str| (error.code(), name.to_owned(), vec![]);
        let (unknown, invalid) = (ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException);
        // Kafka answers UNKNOWN_SERVER_ERROR for all topics when one name is empty.
        let found = describe(client, &["nowhere", "no spaces", "weather", ""], 2000, None).await;
        let expected =
            vec![told(invalid, ""), told(invalid, "no spaces"), told(unknown, "nowhere"), ok("weather", 0..2)];
        assert_eq!(found, (expected, None));
        let found = describe(client, &["weather", "nowhere"], 1, Some(("nowhere", 3))).await;
        let next = Some(("weather".to_owned(), 1));
        assert_eq!(found, (vec![told(unknown, "nowhere"), ok("weather", 0..1)], next));
        // As in Kafka, in the order of the request and as often.
        let refused = ErrorCode::InvalidRequest;
        for cursor in [("other", 0), ("weather", -1)] {
            let found = describe(client, &["weather", "nowhere", "weather"], 2000, Some(cursor)).await;
            let expected = vec![told(refused, "weather"), told(refused, "nowhere"), told(refused, "weather")];
            assert_eq!(found, (expected, None));
        }
        assert_eq!(describe(client, &[], 2000, Some(("weather", -2))).await, (vec![], None));
        client.close();
        broker.stop().await;
    });
}

#[test]
fn an_answer_has_two_thousand_partitions_at_most() {
    let world = crate::start::world(1);
    world.run(async {
        let broker = Running::start(&world, &["num.partitions=1"]).await;
        let mut client = Client::connect(&client_env(&world), broker.address).await;
        client.make_topic("weather").await;
        let topics = vec![CreatePartitionsTopic { name: "weather", count: 2001, assignments: None }];
        let answer = client.call(3, &CreatePartitionsRequest { topics, ..CreatePartitionsRequest::default() }).await;
        assert_eq!(answer.decode::<CreatePartitionsResponse<'_>>(3).results[0].error_code, 0);
        let found = describe(&mut client, &["weather"], i32::MAX, None).await;
        assert_eq!(found, (vec![ok("weather", 0..2000)], Some(("weather".to_owned(), 2000))));
        let found = describe(&mut client, &["weather"], i32::MAX, Some(("weather", 2000))).await;
        assert_eq!(found, (vec![ok("weather", 2000..2001)], None));
        client.close();
        broker.stop().await;
    });
}
