//! Records that leave: by age, by request, and with their topic.

use std::time::Duration;

use millrace_protocol::batch::{BatchBuilder, BatchFields, assign_max_timestamp};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use millrace_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse};
use millrace_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use millrace_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::sim::{SimEnv, World};
use millrace_runtime::{Clock, Env, TaskClass, TaskHandle, Tasks};

use crate::client::{Client, fetch_request, produce_request};
use crate::each_seed;
use crate::start::{Running, client_env};

/// A look at every log each second.
const SETTINGS: &[&str] = &["num.partitions=4", "log.retention.check.interval.ms=1000"];
const DAY_MS: i64 = 24 * 3600 * 1000;
const EARLIEST: i64 = -2;

/// The first offset of each of a topic's four partitions.
async fn starts(client: &mut Client<SimEnv>, topic: &str) -> Vec<i64> {
    let ask = |partition_index| ListOffsetsPartition { partition_index, timestamp: EARLIEST, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: topic, partitions: (0..4).map(ask).collect() }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
    let answer = client.call(6, &request).await;
    let response: ListOffsetsResponse<'_> = answer.decode(6);
    let partitions = &response.topics[0].partitions;
    assert!(partitions.iter().all(|partition| partition.error_code == 0));
    partitions.iter().map(|partition| partition.offset).collect()
}

async fn set(client: &mut Client<SimEnv>, topic: &str, name: &str, value: &str) {
    let configs = vec![AlterableConfig { name, config_operation: 0, value: Some(value) }];
    let resources = vec![AlterConfigsResource { resource_type: 2, resource_name: topic, configs }];
    let answer = client.call(1, &IncrementalAlterConfigsRequest { resources, validate_only: false }).await;
    let response: IncrementalAlterConfigsResponse<'_> = answer.decode(1);
    assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
}

async fn pause(world: &World, time: Duration) {
    client_env(world).clock().sleep(time).await;
}

#[test]
fn records_go_when_they_are_too_old_and_the_metadata_stays() {
    each_seed(async |world| {
        let broker = Running::start(world, SETTINGS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let ids = [client.make_topic("weather").await, client.make_topic("kept").await];
        set(&mut client, "kept", "retention.ms", "-1").await;
        for topic in ["weather", "kept"] {
            for partition in 0..4 {
                client.produce(topic, partition, b"old").await;
            }
        }
        world.machine(0).jump_wall_clock(1000 * DAY_MS);
        pause(world, Duration::from_secs(5)).await;
        assert_eq!(starts(&mut client, "kept").await, [0; 4]);
        assert_eq!(starts(&mut client, "weather").await, [1; 4]);

        // Changed while the broker runs.
        set(&mut client, "kept", "retention.ms", "1000").await;
        pause(world, Duration::from_secs(5)).await;
        assert_eq!(starts(&mut client, "kept").await, [1; 4]);

        world.machine(0).jump_wall_clock(100 * DAY_MS);
        pause(world, Duration::from_secs(5)).await;
        client.close();
        broker.stop().await;
        let broker = Running::start(world, SETTINGS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        for (name, id) in ["weather", "kept"].into_iter().zip(ids) {
            assert_eq!(client.make_topic(name).await, id, "the metadata is never too old");
            assert_eq!(client.produce(name, 0, b"new").await, 1);
        }
        client.close();
        broker.stop().await;
    });
}

/// As Sarama sends it: the header has the first record's time and not the largest.
#[test]
fn a_batch_whose_header_lacks_its_largest_time_is_kept_and_found() {
    const TIME: i64 = 1_750_000_000_000;
    each_seed(async |world| {
        let broker = Running::start(world, SETTINGS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let mut builder = BatchBuilder::new(BatchFields::default());
        for second in 0..3 {
            builder.push(TIME + second * 1000, None, Some(b"cold"));
        }
        let mut batch = builder.build();
        assign_max_timestamp(&mut batch, -1);
        client.call(9, &produce_request("weather", &[(0, &batch)], -1)).await;
        pause(world, Duration::from_secs(5)).await;
        assert_eq!(starts(&mut client, "weather").await, [0; 4], "it is not of 1970");
        let ask = |timestamp| ListOffsetsPartition { partition_index: 0, timestamp, ..Default::default() };
        let partitions = [TIME, TIME + 1, TIME + 2000, TIME + 2001].map(ask).to_vec();
        let topics = vec![ListOffsetsTopic { name: "weather", partitions }];
        let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
        let answer = client.call(6, &request).await;
        let response: ListOffsetsResponse<'_> = answer.decode(6);
        let offsets: Vec<i64> = response.topics[0].partitions.iter().map(|found| found.offset).collect();
        assert_eq!(offsets, [0, 1, 2, -1]);
        client.close();
        broker.stop().await;
    });
}

async fn delete_records(client: &mut Client<SimEnv>, targets: &[(i32, i64)]) -> Vec<(i64, i16)> {
    let target = |&(partition_index, offset): &(i32, i64)| DeleteRecordsPartition { partition_index, offset };
    let topics = vec![DeleteRecordsTopic { name: "weather", partitions: targets.iter().map(target).collect() }];
    let answer = client.call(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }).await;
    let response: DeleteRecordsResponse<'_> = answer.decode(2);
    let results = &response.topics[0].partitions;
    results.iter().map(|result| (result.low_watermark, result.error_code)).collect()
}

#[test]
fn deleted_records_do_not_come_back() {
    each_seed(async |world| {
        let settings = ["num.partitions=4", "log.retention.ms=-1"];
        let broker = Running::start(world, &settings).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        for partition in 0..4 {
            for _ in 0..5 {
                client.produce("weather", partition, b"value").await;
            }
        }
        // Whole, in the middle, not at all, and back and forth; on both shards.
        let targets = [(0, -1), (1, 2), (2, 0), (3, 4), (3, 2), (1, 6)];
        let out_of_range = (-1, ErrorCode::OffsetOutOfRange.code());
        let expected = [(5, 0), (2, 0), (0, 0), (4, 0), (4, 0), out_of_range];
        assert_eq!(delete_records(&mut client, &targets).await, expected);
        assert_eq!(starts(&mut client, "weather").await, [5, 2, 0, 4]);

        let found = client.fetch(&fetch_request("weather", &[(0, 5), (1, 2), (2, 0), (3, 4)], 0, 1)).await;
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [0, 3, 5, 1]);
        let answer = client.call(12, &fetch_request("weather", &[(1, 1)], 600_000, 1)).await;
        let response: FetchResponse<'_> = answer.decode(12);
        assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::OffsetOutOfRange.code());
        client.close();
        // Once the stop is in order, once it is not.
        if world.seed() % 2 == 0 {
            world.machine(0).kill();
            drop(broker);
        } else {
            broker.stop().await;
        }

        let broker = Running::start(world, &settings).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        assert_eq!(starts(&mut client, "weather").await, [5, 2, 0, 4]);
        assert_eq!(client.produce("weather", 0, b"next").await, 5);
        client.close();
        broker.stop().await;
    });
}

fn delete_request(name: &str) -> DeleteTopicsRequest<'_> {
    let topics = vec![DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO }];
    DeleteTopicsRequest { topics, timeout_ms: 30_000, ..DeleteTopicsRequest::default() }
}

#[test]
fn whoever_waits_for_a_topic_that_goes_is_told() {
    each_seed(async |world| {
        let broker = Running::start(world, SETTINGS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        for (version, expected) in [(12, ErrorCode::UnknownTopicOrPartition), (13, ErrorCode::UnknownTopicId)] {
            let topic_id = client.make_topic("weather").await;
            // Several connections, so that both shards serve waiting ones.
            let mut waiting = Vec::new();
            for partition in 0..4 {
                let mut consumer = Client::connect(&env, broker.address).await;
                waiting.push(env.tasks().spawn(TaskClass::Network, async move {
                    let request = fetch_request("weather", &[(partition, 0)], 600_000, 1);
                    let mut topic = request.topics[0].clone();
                    topic.topic_id = topic_id;
                    let answer = consumer.call(version, &FetchRequest { topics: vec![topic], ..request }).await;
                    let response: FetchResponse<'_> = answer.decode(version);
                    consumer.close();
                    response.responses[0].partitions[0].error_code
                }));
            }
            // Somewhere between before they are received and long after they have parked.
            pause(world, Duration::from_micros(world.seed() * 137 % 20 * 100)).await;
            let before = env.clock().now();
            let answer = client.call(6, &delete_request("weather")).await;
            assert_eq!(answer.decode::<DeleteTopicsResponse<'_>>(6).responses[0].error_code, 0);
            for waiting in waiting {
                assert_eq!(waiting.join().await, expected.code());
            }
            assert!(env.clock().now() - before < Duration::from_secs(10), "woken, not timed out");
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn the_files_of_a_deleted_topic_go_whenever_the_broker_is_killed() {
    each_seed(async |world| {
        let broker = Running::start(world, SETTINGS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("kept").await;
        client.produce("kept", 0, b"kept").await;
        let before = world.machine(0).disk().files().len();
        client.make_topic("weather").await;
        for partition in 0..4 {
            client.produce("weather", partition, b"gone").await;
        }
        pause(world, Duration::from_secs(2)).await;
        assert!(world.machine(0).disk().files().len() > before);

        let mut writer = Writer::new();
        client.push(&mut writer, 6, &delete_request("weather"));
        client.send(writer.bytes()).await;
        pause(world, Duration::from_micros(world.seed() * 300)).await;
        world.machine(0).kill();
        drop(broker);

        let broker = Running::start(world, SETTINGS).await;
        let mut client = Client::connect(&env, broker.address).await;
        // It may be there still, if the broker was killed before it was deleted.
        let answer = client.call(6, &delete_request("weather")).await;
        let code = answer.decode::<DeleteTopicsResponse<'_>>(6).responses[0].error_code;
        assert!([0, ErrorCode::UnknownTopicOrPartition.code()].contains(&code));
        pause(world, Duration::from_secs(10)).await;
        let files = world.machine(0).disk().files();
        assert!(files.len() <= before, "{files:?}");
        let found = client.fetch(&fetch_request("kept", &[(0, 0)], 0, 1)).await;
        assert_eq!(found[0], vec![b"kept".to_vec()]);
        client.close();
        broker.stop().await;
    });
}
