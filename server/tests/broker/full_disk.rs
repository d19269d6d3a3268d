//! A full disk, as clients meet it: producers are refused and held up, everybody else is served, and deleting helps.

use std::time::Duration;

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use millrace_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use millrace_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use millrace_protocol::messages::produce::ProduceResponse;
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::sim::{SimEnv, World};
use millrace_runtime::{Clock, Env};

use crate::client::{Client, batch, fetch_request, produce_request};
use crate::start::{Running, client_env};
use crate::{each_seed, each_seed_of};

pub(crate) const SETTINGS: &[&str] = &["millrace.reserve.bytes=8MiB", "log.retention.ms=-1"];
/// Batches of each partition, and bytes of each: a topic takes about 50 MiB, in segments of 1 MiB.
const BATCH_COUNT: usize = 14;
const BATCH_BYTES: usize = 900_000;
const PARTITION_COUNT: i32 = 4;
/// Until both shards have looked at the disk, and until they have given back space and looked again.
const LOOK: Duration = Duration::from_secs(3);
const SETTLE: Duration = Duration::from_secs(8);

async fn pause(world: &World, time: Duration) {
    client_env(world).clock().sleep(time).await;
}

/// Makes a topic of small segments; gives the error.
pub(crate) async fn create(client: &mut Client<SimEnv>, name: &str) -> i16 {
    let configs = vec![CreatableTopicConfig { name: "segment.bytes", value: Some("1048576") }];
    let topic = CreatableTopic {
        name,
        num_partitions: PARTITION_COUNT,
        replication_factor: 1,
        configs,
        ..CreatableTopic::default()
    };
    let answer = client.call(7, &CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }).await;
    answer.decode::<CreateTopicsResponse<'_>>(7).topics[0].error_code
}

async fn fill(client: &mut Client<SimEnv>, topic: &str) {
    let batch = batch(&[&vec![b'x'; BATCH_BYTES]]);
    for _ in 0..BATCH_COUNT {
        for partition in 0..PARTITION_COUNT {
            let answer = client.call(9, &produce_request(topic, &[(partition, &batch)], -1)).await;
            let response: ProduceResponse<'_> = answer.decode(9);
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
    }
}

/// Another program takes all of the disk that is free, but one MiB, and again what the broker gives back then.
pub(crate) async fn take_free_space(world: &World) {
    const LARGE_BYTES: u64 = 1 << 40;
    const LEFT_BYTES: u64 = 1 << 20;
    let disk = world.machine(0).disk();
    while {
        disk.resize(LARGE_BYTES);
        disk.resize(LARGE_BYTES - disk.available_bytes() + LEFT_BYTES);
        pause(world, LOOK).await;
        disk.available_bytes() > LEFT_BYTES
    } {}
}

/// Produces to both shards; gives the errors, and for how long the client is to send nothing.
pub(crate) async fn produce(client: &mut Client<SimEnv>, topic: &str) -> ([i16; 2], i32) {
    let small = batch(&[b"small"]);
    let answer = client.call(9, &produce_request(topic, &[(0, &small), (1, &small)], -1)).await;
    let response: ProduceResponse<'_> = answer.decode(9);
    let results = &response.responses[0].partition_responses;
    ([results[0].error_code, results[1].error_code], response.throttle_time_ms)
}

pub(crate) const REFUSED: [i16; 2] = [ErrorCode::KafkaStorageError.code(); 2];

#[test]
fn deleting_goes_on_and_lets_producers_go_on() {
    each_seed_of(0..3, async |world| {
        let broker = Running::start(world, SETTINGS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        for topic in ["weather", "traffic"] {
            assert_eq!(create(&mut client, topic).await, 0);
            fill(&mut client, topic).await;
        }
        take_free_space(world).await;
        assert_eq!(produce(&mut client, "weather").await, (REFUSED, 1000));

        // Readers and administrators do not notice.
        let found = client.fetch(&fetch_request("weather", &[(0, 0), (1, 13)], 0, 1)).await;
        assert_eq!(found[0][0].len(), BATCH_BYTES);
        assert_eq!(create(&mut client, "late").await, 0);
        assert_eq!(produce(&mut client, "late").await, (REFUSED, 1000));

        let partition = |partition_index| DeleteRecordsPartition { partition_index, offset: -1 };
        let topics = vec![DeleteRecordsTopic { name: "weather", partitions: (0..4).map(partition).collect() }];
        let answer = client.call(2, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }).await;
        let response: DeleteRecordsResponse<'_> = answer.decode(2);
        assert!(
            response.topics[0].partitions.iter().all(|result| (result.error_code, result.low_watermark) == (0, 14))
        );
        pause(world, SETTLE).await;
        for topic in ["weather", "traffic", "late"] {
            assert_eq!(produce(&mut client, topic).await.0, [0; 2], "{topic}");
        }

        // Full again, over a restart that once was in order and once was not.
        take_free_space(world).await;
        assert_eq!(produce(&mut client, "weather").await, (REFUSED, 1000));
        client.close();
        if world.seed() % 2 == 0 {
            world.machine(0).kill();
            drop(broker);
        } else {
            broker.stop().await;
        }
        let broker = Running::start(world, SETTINGS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        pause(world, LOOK).await;
        assert_eq!(produce(&mut client, "weather").await, (REFUSED, 1000));
        let found = client.fetch(&fetch_request("weather", &[(0, 14), (1, 14), (2, 14)], 0, 1)).await;
        assert_eq!(found, [vec![b"small".to_vec()], vec![b"small".to_vec()], Vec::new()]);

        let topics = vec![DeleteTopicState { name: Some("traffic"), topic_id: Uuid::ZERO }];
        let request = DeleteTopicsRequest { topics, timeout_ms: 30_000, ..DeleteTopicsRequest::default() };
        let answer = client.call(6, &request).await;
        assert_eq!(answer.decode::<DeleteTopicsResponse<'_>>(6).responses[0].error_code, 0);
        pause(world, SETTLE).await;
        assert_eq!(produce(&mut client, "weather").await.0, [0; 2]);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn a_producer_is_told_at_once_and_then_not_listened_to() {
    each_seed(async |world| {
        let broker = Running::start(world, SETTINGS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        assert_eq!(create(&mut client, "weather").await, 0);
        take_free_space(world).await;
        let small = batch(&[b"small"]);

        for version in [7, 9] {
            let before = env.clock().now();
            let request = produce_request("weather", &[(0, &small), (1, &small)], -1);
            let answer = client.call(version, &request).await;
            assert!(env.clock().now() - before < Duration::from_millis(500), "answered at once");
            let response: ProduceResponse<'_> = answer.decode(version);
            assert_eq!(response.throttle_time_ms, 1000);
            let result = &response.responses[0].partition_responses[0];
            assert_eq!(result.error_code, ErrorCode::KafkaStorageError.code());
            let text = result.error_message;
            assert_eq!(text.is_some(), version >= 8);
            assert!(
                text.is_none_or(|text| text.contains("/data is full") && text.contains("retention.ms")),
                "{text:?}"
            );

            // A client that does not keep to it waits; another one is served meanwhile.
            let asked = env.clock().now();
            let mut other = Client::connect(&env, broker.address).await;
            other.make_topic("weather").await;
            assert!(env.clock().now() - asked < Duration::from_millis(500));
            other.close();
            let answer = client.call(12, &MetadataRequest { topics: None, ..MetadataRequest::default() }).await;
            assert_eq!(answer.decode::<MetadataResponse<'_>>(12).topics.len(), 1);
            let waited = env.clock().now() - before;
            assert!(waited >= Duration::from_secs(1) && waited < Duration::from_millis(1500), "{waited:?}");
        }

        // Many at once are all answered, and the broker stops without waiting for the end of the mute.
        let mut writer = Writer::new();
        for _ in 0..150 {
            client.push(&mut writer, 7, &produce_request("weather", &[(0, &small)], -1));
        }
        client.send(writer.bytes()).await;
        client.receive(ApiKey::Produce, 7).await.unwrap();
        let before = env.clock().now();
        broker.stop().await;
        assert!(env.clock().now() - before < Duration::from_millis(900), "{:?}", env.clock().now() - before);
    });
}
