//! DescribeProducers: who writes with a producer id, on whichever shard the partition is.

use millrace_protocol::batch::{BatchBuilder, BatchFields, ProducerFields};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, TopicRequest,
};
use millrace_protocol::messages::produce::ProduceResponse;
use millrace_runtime::sim::SimEnv;

use crate::client::{Client, produce_request};
use crate::each_shard_count;
use crate::start::{Running, client_env};

/// Producer id, epoch, last sequence, last timestamp.
type Producer = (i64, i32, i32, i64);

/// Asks who writes; gives the error and the producers of each partition, by topic.
async fn producers(
    client: &mut Client<SimEnv>,
    topics: &[(&'static str, &[i32])],
) -> Vec<(String, Vec<(i32, i16, Vec<Producer>)>)> {
    let request = |(name, indexes): &(&'static str, &[i32])| TopicRequest { name, partition_indexes: indexes.to_vec() };
    let answer = client.call(0, &DescribeProducersRequest { topics: topics.iter().map(request).collect() }).await;
    let response: DescribeProducersResponse<'_> = answer.decode(0);
    let mut found = Vec::new();
    for topic in &response.topics {
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let mut producers = Vec::new();
            for state in &partition.active_producers {
                assert_eq!((state.coordinator_epoch, state.current_txn_start_offset), (-1, -1), "no transaction");
                producers.push((state.producer_id, state.producer_epoch, state.last_sequence, state.last_timestamp));
            }
            partitions.push((partition.partition_index, partition.error_code, producers));
        }
        found.push((topic.name.to_owned(), partitions));
    }
    found
}

/// Appends a batch of `count` records of an idempotent producer.
async fn produce(client: &mut Client<SimEnv>, partition: i32, producer: ProducerFields, count: i64, time_ms: i64) {
    let mut builder = BatchBuilder::new(BatchFields { producer: Some(producer), ..BatchFields::default() });
    (0..count).for_each(|number| builder.push(time_ms + number, None, Some(b"value")));
    let bytes = builder.build();
    let answer = client.call(9, &produce_request("weather", &[(partition, &bytes)], -1)).await;
    let response: ProduceResponse<'_> = answer.decode(9);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn idempotent_producers_are_told_by_partition() {
    each_shard_count(async |world, shards| {
        let settings = ["num.partitions=3", "producer.id.expiration.ms=86400000", shards];
        let broker = Running::start(world, &settings).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        let now_ms = 1_750_000_000_000;
        let fields = |id, epoch, base_sequence| ProducerFields { id, epoch, base_sequence };
        produce(&mut client, 0, fields(9, 2, 0), 3, now_ms).await;
        produce(&mut client, 0, fields(9, 2, 3), 2, now_ms + 50).await;
        produce(&mut client, 0, fields(4, 0, 0), 1, now_ms + 7).await;
        produce(&mut client, 1, fields(9, 3, 0), 1, now_ms).await;
        client.produce("weather", 2, b"without an id").await;
        let of = |topic: &str, partitions: &[(i32, ErrorCode, &[Producer])]| {
            let partition =
                |(index, error, found): &(i32, ErrorCode, &[Producer])| (*index, error.code(), found.to_vec());
            (topic.to_owned(), partitions.iter().map(partition).collect::<Vec<_>>())
        };
        let none = ErrorCode::None;
        let first: &[Producer] = &[(4, 0, 0, now_ms + 7), (9, 2, 4, now_ms + 51)];
        let second: &[Producer] = &[(9, 3, 0, now_ms)];
        let all = of("weather", &[(0, none, first), (1, none, second), (2, none, &[])]);
        assert_eq!(producers(&mut client, &[("weather", &[0, 1, 2])]).await, std::slice::from_ref(&all));

        // What Kafka 4.3.1 answers to the same, except that a partition named twice is told once.
        let (unknown, invalid) = (ErrorCode::UnknownTopicOrPartition, ErrorCode::InvalidTopicException);
        let asked: [(&str, &[i32]); 6] = [
            ("weather", &[1, 3, -1, 1]),
            ("nowhere", &[0]),
            ("no spaces", &[0]),
            ("", &[0]),
            ("weather", &[]),
            ("weather", &[2, 1]),
        ];
        let expected = vec![
            of("weather", &[(1, none, second), (3, unknown, &[]), (-1, unknown, &[])]),
            of("nowhere", &[(0, unknown, &[])]),
            of("no spaces", &[(0, invalid, &[])]),
            of("", &[(0, invalid, &[])]),
            of("weather", &[]),
            of("weather", &[(2, none, &[])]),
        ];
        assert_eq!(producers(&mut client, &asked).await, expected);
        client.close();
        broker.stop().await;

        let broker = Running::start(world, &settings).await;
        let mut client = Client::connect(&env, broker.address).await;
        assert_eq!(producers(&mut client, &[("weather", &[0, 1, 2])]).await, [all], "a restart forgets nobody");
        client.close();
        broker.stop().await;
    });
}
