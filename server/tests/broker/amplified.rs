//! Requests that are small on the wire and large in memory: what they are decoded into is counted and bounded.

use std::time::Duration;

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use millrace_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use millrace_protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use millrace_protocol::wire::{Request, Writer};
use millrace_runtime::Clock;
use millrace_runtime::Env;
use millrace_runtime::sim::{SimEnv, World};
use millrace_server::shard::mailbox::question::Question;

use crate::client::Client;
use crate::each_seed_of;
use crate::start::{Running, client_env};

/// A small broker of two shards: each has 1 MiB to decode into, a quarter of which one request may fill.
const SMALL: &[&str] = &["num.partitions=4", "millrace.memory.bytes=64MiB"];
const DECODING_BYTES: usize = 1 << 20;

/// What is decoded into on both shards.
async fn used_bytes(broker: &Running) -> usize {
    let mut used_bytes = 0;
    for shard in broker.asker.shards() {
        let report = *broker.asker.ask(shard, Question::Report).await.unwrap();
        let budget = report.budgets.iter().find(|budget| budget.class == "decoding").unwrap();
        assert_eq!(budget.limit_bytes, DECODING_BYTES);
        assert!(budget.used_bytes <= budget.limit_bytes);
        used_bytes += budget.used_bytes;
    }
    used_bytes
}

fn metadata(count: usize) -> MetadataRequest<'static> {
    let topic = MetadataRequestTopic { name: Some(""), ..MetadataRequestTopic::default() };
    MetadataRequest { topics: Some(vec![topic; count]), ..MetadataRequest::default() }
}

fn commit(count: usize) -> OffsetCommitRequest<'static> {
    let partition = OffsetCommitRequestPartition { partition_index: 9, ..OffsetCommitRequestPartition::default() };
    let topic = OffsetCommitRequestTopic {
        name: "weather",
        partitions: vec![partition; count],
        ..OffsetCommitRequestTopic::default()
    };
    let topics = vec![topic];
    OffsetCommitRequest {
        group_id: "readers",
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics,
        ..OffsetCommitRequest::default()
    }
}

/// A Fetch that waits for records of one partition, many times over.
fn fetch(count: usize, max_wait_ms: i32) -> FetchRequest<'static> {
    let partitions = vec![FetchPartition { partition_max_bytes: 1, ..FetchPartition::default() }; count];
    let topics = vec![FetchTopic { topic: "weather", partitions, ..FetchTopic::default() }];
    FetchRequest { max_wait_ms, min_bytes: 1, max_bytes: 1 << 20, topics, ..FetchRequest::default() }
}

fn produce(count: usize) -> ProduceRequest<'static> {
    let partition_data = vec![PartitionProduceData { index: 9, records: None }; count];
    let topic = TopicProduceData { name: "weather", partition_data, ..TopicProduceData::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() }
}

/// Sends a request that nobody may answer.
async fn is_closed_for<'r, R: Request<'r>>(env: &SimEnv, broker: &Running, version: i16, request: &R) -> bool {
    let mut client = Client::connect(env, broker.address).await;
    let mut writer = Writer::new();
    client.push(&mut writer, version, request);
    client.send(writer.bytes()).await;
    client.receive(R::API_KEY, version).await.is_none()
}

async fn start(world: &World) -> (Running, SimEnv, Client<SimEnv>) {
    let broker = Running::start(world, SMALL).await;
    let env = client_env(world);
    let mut client = Client::connect(&env, broker.address).await;
    client.make_topic("weather").await;
    (broker, env, client)
}

#[test]
fn requests_of_many_elements_are_answered_up_to_a_bound() {
    each_seed_of(0..4, async |world| {
        let (broker, env, mut client) = start(world).await;
        // Each of them has 256 KiB, of which an element takes 32, 40, 56, and twice 40 bytes.
        let answer = client.call(1, &metadata(8000)).await;
        assert_eq!(answer.decode::<MetadataResponse<'_>>(1).topics.len(), 1);
        let answer = client.call(8, &commit(6000)).await;
        let response: OffsetCommitResponse<'_> = answer.decode(8);
        let codes = response.topics[0].partitions.iter().map(|partition| partition.error_code);
        assert!(codes.eq([ErrorCode::UnknownTopicOrPartition.code()].repeat(6000)));
        let answer = client.call(12, &fetch(3000, 0)).await;
        assert_eq!(
            answer.decode::<FetchResponse<'_>>(12).responses[0].partitions.len(),
            1,
            "named often, answered once"
        );
        let answer = client.call(9, &produce(3000)).await;
        assert_eq!(answer.decode::<ProduceResponse<'_>>(9).responses[0].partition_responses.len(), 3000);
        assert_eq!(used_bytes(&broker).await, 0);

        assert!(is_closed_for(&env, &broker, 1, &metadata(9000)).await);
        assert!(is_closed_for(&env, &broker, 8, &commit(9000)).await);
        assert!(is_closed_for(&env, &broker, 12, &fetch(9000, 0)).await);
        assert!(is_closed_for(&env, &broker, 9, &produce(9000)).await);
        // As large as a request may be: with 2 bytes for each topic, a hundred million bytes in memory.
        assert!(is_closed_for(&env, &broker, 1, &metadata(3_400_000)).await);
        assert_eq!(used_bytes(&broker).await, 0);
        client.produce("weather", 0, b"and nobody else is the worse for it").await;
        client.close();
        broker.stop().await;
    });
}

#[test]
fn what_waits_is_counted_and_the_rest_waits_for_it() {
    each_seed_of(0..4, async |world| {
        let (broker, env, mut client) = start(world).await;
        // Each counts with four times 56 bytes for a partition: five have room on a shard, of seven.
        let mut waiting = Vec::new();
        for _ in 0..14 {
            let mut fetcher = Client::connect(&env, broker.address).await;
            let mut writer = Writer::new();
            fetcher.push(&mut writer, 12, &fetch(800, 2000));
            fetcher.send(writer.bytes()).await;
            waiting.push(fetcher);
        }
        env.clock().sleep(Duration::from_secs(1)).await;
        let used_bytes_parked = used_bytes(&broker).await;
        assert!(used_bytes_parked > DECODING_BYTES, "{used_bytes_parked} of two shards");
        // What needs little waits for nobody.
        let before = env.clock().now();
        client.produce("weather", 0, b"rain").await;
        assert!(env.clock().now() - before < Duration::from_millis(500));
        for mut fetcher in waiting {
            let answer = fetcher.receive(ApiKey::Fetch, 12).await.expect("every one is answered in the end");
            assert_eq!(answer.decode::<FetchResponse<'_>>(12).responses[0].partitions.len(), 1);
            fetcher.close();
        }
        assert_eq!(used_bytes(&broker).await, 0);
        client.close();
        broker.stop().await;
    });
}

/// Each takes most of the memory, so none can be decoded before those ahead of it are answered.
#[test]
fn pipelined_produces_of_many_partitions_do_not_wait_for_each_other() {
    each_seed_of(0..4, async |world| {
        let (broker, env, client) = start(world).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::connect(&env, broker.address).await;
            let mut writer = Writer::new();
            for _ in 0..5 {
                client.push(&mut writer, 9, &produce(3000));
            }
            client.send(writer.bytes()).await;
            clients.push(client);
        }
        for mut client in clients {
            for _ in 0..5 {
                let answer = client.receive(ApiKey::Produce, 9).await.expect("every one is answered");
                assert_eq!(answer.decode::<ProduceResponse<'_>>(9).responses[0].partition_responses.len(), 3000);
            }
            client.close();
        }
        assert_eq!(used_bytes(&broker).await, 0);
        client.close();
        broker.stop().await;
    });
}
