//! Clients that send more than they read, leave in the middle, or send what nobody serves.

use std::time::Duration;

use futures_util::future::{Either, join, select};
use millrace_protocol::api_key::ApiKey;
use millrace_protocol::batch::{Attributes, BatchBuilder, BatchFields, ProducerFields};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::api_versions::ApiVersionsResponse;
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use millrace_protocol::messages::produce::ProduceResponse;
use millrace_protocol::wire::Writer;
use millrace_runtime::sim::{DiskConfig, SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, Moment, TaskClass, TaskHandle, Tasks};

use crate::client::{Client, batch, fetch_request, produce_request};
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed};

/// More requests at the other shard than a shard may have there. Each connection has so many on their way that it waits
/// for a slot before it looks at an answer.
#[test]
fn more_pipelined_requests_than_slots_are_all_answered() {
    const CONNECTIONS: usize = 100;
    const REQUESTS: i64 = 400;
    // A slow device, so that everybody gets far ahead of the answers.
    let disk = DiskConfig { sync_latency_ns: 20_000_000..40_000_000, ..DiskConfig::default() };
    let world = World::new(3, WorldConfig { disk, ..WorldConfig::default() });
    world.run(async {
        let broker = Running::start(&world, PARTITIONS).await;
        let env = client_env(&world);
        Client::connect(&env, broker.address).await.make_topic("weather").await;
        let small = batch(&[b"small"]);
        let mut answered = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = Client::connect(&env, broker.address).await;
            let mut writer = Writer::new();
            for _ in 0..REQUESTS {
                client.push(&mut writer, 9, &produce_request("weather", &[(0, &small), (1, &small)], -1));
            }
            answered.push(env.tasks().spawn(TaskClass::Network, async move {
                client.send(writer.bytes()).await;
                for _ in 0..REQUESTS {
                    client.receive(ApiKey::Produce, 9).await.unwrap();
                }
            }));
        }
        for client in answered {
            client.join().await;
        }
        broker.stop().await;
    });
}

/// There is always another request to start. The answers that are ready do not wait for the last one.
#[test]
fn answers_leave_although_requests_keep_coming() {
    const REQUESTS: usize = 2000;
    let disk = DiskConfig { sync_latency_ns: 5_000_000..10_000_000, ..DiskConfig::default() };
    let world = World::new(5, WorldConfig { disk, ..WorldConfig::default() });
    world.run(async {
        let broker = Running::start(&world, PARTITIONS).await;
        let env = client_env(&world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        let (small, mut writer) = (batch(&[b"small"]), Writer::new());
        for _ in 0..REQUESTS {
            client.push(&mut writer, 9, &produce_request("weather", &[(0, &small)], -1));
        }
        let start = env.clock().now();
        let sending = client.sending(writer.bytes());
        let receiving = async {
            let mut answered_after = Vec::new();
            for _ in 0..REQUESTS {
                client.receive(ApiKey::Produce, 9).await.unwrap();
                answered_after.push(env.clock().now() - start);
            }
            answered_after
        };
        let ((), answered_after) = join(sending, receiving).await;
        let (first, last) = (answered_after[0], answered_after[REQUESTS - 1]);
        assert!(first < last / 4, "the first answer after {first:?}, the last after {last:?}");
        broker.stop().await;
    });
}

#[test]
fn a_client_that_reads_nothing_does_not_keep_the_broker_from_stopping() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        for _ in 0..4 {
            client.produce("weather", 0, &vec![b'x'; 900_000]).await;
        }
        let mut deaf = Client::connect(&env, broker.address).await;
        let mut writer = Writer::new();
        for _ in 0..100 {
            deaf.push(&mut writer, 12, &fetch_request("weather", &[(0, 0)], 0, 1));
        }
        deaf.send(writer.bytes()).await;
        env.clock().sleep(Duration::from_millis(100)).await;
        let stopped = std::pin::pin!(broker.stop());
        let patience = std::pin::pin!(env.clock().sleep(Duration::from_secs(20)));
        let has_stopped = matches!(select(stopped, patience).await, Either::Left(_));
        assert!(has_stopped, "the broker waits for a client");
    });
}

#[test]
fn a_refused_version_is_answered_after_the_requests_before_it() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let small = batch(&[b"small"]);
        let mut writer = Writer::new();
        client.push(&mut writer, 9, &produce_request("weather", &[(0, &small), (1, &small)], -1));
        let mut bytes = writer.bytes().to_vec();
        // ApiVersions 99 with the next correlation id, null client id, no tags, a body that nobody knows.
        bytes.extend_from_slice(b"\0\0\0\x0e\0\x12\0\x63\0\0\0\x02\xff\xff\0\x01\x02\x03");
        client.send(&bytes).await;
        let answer = client.receive(ApiKey::Produce, 9).await.unwrap();
        let response: ProduceResponse<'_> = answer.decode(9);
        assert_eq!(response.responses[0].partition_responses.len(), 2);
        let answer = client.receive(ApiKey::ApiVersions, 0).await.unwrap();
        assert_ne!(answer.decode::<ApiVersionsResponse<'_>>(0).error_code, 0);
        client.close();
        broker.stop().await;
    });
}

/// librdkafka 2.16 asks for all topics, in version 13, with three bytes too many.
#[test]
fn bytes_behind_a_request_are_ignored() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let mut writer = Writer::new();
        client.push(&mut writer, 13, &MetadataRequest { topics: None, ..MetadataRequest::default() });
        let mut bytes = writer.bytes().to_vec();
        bytes.extend_from_slice(b"\x01\0\0");
        let length = u32::try_from(bytes.len() - 4).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        client.send(&bytes).await;
        let answer = client.receive(ApiKey::Metadata, 13).await.expect("the broker answers");
        let response: MetadataResponse<'_> = answer.decode(13);
        assert_eq!(response.topics.len(), 1);
        client.close();
        broker.stop().await;
    });
}

/// An idempotent producer's batch with the transactional bit, in a request that names no transaction.
#[test]
fn a_transactional_batch_is_refused() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let attributes = Attributes::default().with_transactional();
        let producer = Some(ProducerFields { id: 5, epoch: 0, base_sequence: 0 });
        let mut builder = BatchBuilder::new(BatchFields { attributes, producer, ..BatchFields::default() });
        builder.push(1_750_000_000_000, None, Some(b"open"));
        let answer = client.call(9, &produce_request("weather", &[(0, &builder.build())], -1)).await;
        let response: ProduceResponse<'_> = answer.decode(9);
        let result = &response.responses[0].partition_responses[0];
        assert_eq!(result.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
        assert_eq!(client.produce("weather", 0, b"first").await, 0, "nothing of it is in the log");
        client.close();
        broker.stop().await;
    });
}

/// The receiving task is at its bound and does not see that the client has gone, and the Fetch could wait for 24 days.
#[test]
fn a_client_that_leaves_many_requests_behind_a_waiting_fetch_is_forgotten() {
    each_seed(async |world| {
        let broker = Running::start(world, &["max.connections=1"]).await;
        let env = client_env(world);
        let mut leaver = Client::connect(&env, broker.address).await;
        leaver.make_topic("weather").await;
        let mut writer = Writer::new();
        leaver.push(&mut writer, 12, &fetch_request("weather", &[(0, 0)], i32::MAX, 1));
        for _ in 0..1000 {
            leaver.push(&mut writer, 1, &MetadataRequest { topics: None, ..MetadataRequest::default() });
        }
        leaver.send(writer.bytes()).await;
        env.clock().sleep(Duration::from_secs(1)).await;
        leaver.close();
        env.clock().sleep(Duration::from_mins(6)).await;
        let mut client = Client::connect(&env, broker.address).await;
        assert_eq!(client.produce("weather", 0, b"there is room again").await, 0);
        client.close();
        broker.stop().await;
    });
}

/// The first shard's connection ends with an append at the other shard unanswered, and the broker stops just then.
#[test]
fn an_append_that_nobody_waits_for_is_answered_before_the_shards_part() {
    each_seed(async |world| {
        for step in 0..40 {
            let broker = Running::start(world, PARTITIONS).await;
            let env = client_env(world);
            let mut client = Client::connect(&env, broker.address).await;
            client.make_topic("weather").await;
            let large = batch(&[&vec![b'x'; 300_000]]);
            let mut writer = Writer::new();
            client.push(&mut writer, 9, &produce_request("weather", &[(0, &large), (1, &large)], -1));
            let mut bytes = writer.bytes().to_vec();
            // An API that is not served ends the connection.
            bytes.extend_from_slice(b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\0\xff\xff");
            client.send(&bytes).await;
            env.clock().sleep(Duration::from_micros(step * 50)).await;
            broker.stop().await;
        }
    });
}

/// Produces, a Fetch and metadata requests, all in one send with something that ends the connection behind them.
#[test]
fn a_request_that_breaks_the_protocol_does_not_take_earlier_answers_with_it() {
    let endings: &[&[u8]] = &[
        // An API that is not served; a Metadata body that ends too early; a length that makes no sense.
        b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\0\xff\xff",
        b"\0\0\0\x0a\0\x03\0\x01\0\0\0\0\xff\xff",
        b"\xff\xff\xff\xff",
    ];
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        Client::connect(&env, broker.address).await.make_topic("weather").await;
        for ending in endings {
            let mut client = Client::connect(&env, broker.address).await;
            let large = batch(&[&vec![b'x'; 30_000]]);
            let mut writer = Writer::new();
            client.push(&mut writer, 1, &MetadataRequest { topics: None, ..MetadataRequest::default() });
            client.push(&mut writer, 12, &fetch_request("weather", &[(0, 0), (1, 0)], 0, 1));
            for _ in 0..3 {
                client.push(&mut writer, 9, &produce_request("weather", &[(0, &large), (1, &large)], -1));
            }
            let mut bytes = writer.bytes().to_vec();
            bytes.extend_from_slice(ending);
            // What comes behind is not even looked at.
            bytes.extend_from_slice(&[7; 1000]);
            client.send(&bytes).await;
            assert!(client.receive(ApiKey::Metadata, 1).await.is_some(), "{ending:?}");
            assert!(client.receive(ApiKey::Fetch, 12).await.is_some(), "{ending:?}");
            for _ in 0..3 {
                let answer = client.receive(ApiKey::Produce, 9).await.expect("what came before is answered");
                let response: ProduceResponse<'_> = answer.decode(9);
                assert!(response.responses[0].partition_responses.iter().all(|result| result.error_code == 0));
            }
            assert!(client.receive(ApiKey::Metadata, 1).await.is_none(), "and then the connection is closed");
        }
        broker.stop().await;
    });
}

/// A small broker: requests of one shard have 7 MiB.
const SMALL: &[&str] = &["num.partitions=4", "millrace.memory.bytes=64MiB"];

/// Has clients declare 3 MiB each, send `first_bytes`, and then a byte a second for as long as the broker listens.
async fn start_dribblers(env: &SimEnv, broker: &Running, count: usize, first_bytes: usize) {
    for _ in 0..count {
        let client = Client::connect(env, broker.address).await;
        let own = env.clone();
        env.tasks().spawn(TaskClass::Network, async move {
            client.send(&(3_i32 << 20).to_be_bytes()).await;
            client.send(&vec![0; first_bytes]).await;
            while client.is_heard().await {
                own.clock().sleep(Duration::from_secs(1)).await;
            }
        });
    }
    env.clock().sleep(Duration::from_secs(1)).await;
}

#[test]
fn clients_that_declare_much_and_send_little_hold_nobody_up() {
    each_seed(async |world| {
        let broker = Running::start(world, SMALL).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        start_dribblers(&env, &broker, 20, 100).await;
        let before = env.clock().now();
        client.produce("weather", 0, &vec![b'x'; 900_000]).await;
        let waited = env.clock().now() - before;
        assert!(waited < Duration::from_secs(1), "{waited:?}");
        client.close();
        broker.stop().await;
    });
}

#[test]
fn clients_that_send_slowly_are_closed_when_others_wait_for_their_memory() {
    each_seed(async |world| {
        let broker = Running::start(world, SMALL).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        // Four on each shard, of which two have memory and two are in line.
        start_dribblers(&env, &broker, 8, 100_000).await;
        let before = env.clock().now();
        client.produce("weather", 0, &vec![b'x'; 900_000]).await;
        let waited = env.clock().now() - before;
        assert!(waited < Duration::from_secs(20), "{waited:?}");
        client.close();
        broker.stop().await;
    });
}

/// Many more slow readers than the leases have room for, on both shards; some take nothing, some a little.
#[test]
fn slow_readers_make_room_for_others() {
    each_seed(async |world| {
        let broker = Running::start(world, SMALL).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        for partition in 0..4 {
            for _ in 0..3 {
                client.produce("weather", partition, &vec![b'x'; 300_000]).await;
            }
        }
        let request = fetch_request("weather", &[(0, 0), (1, 0), (2, 0), (3, 0)], 30_000, 1);
        for number in 0..30 {
            let mut slow = Client::connect(&env, broker.address).await;
            let mut writer = Writer::new();
            slow.push(&mut writer, 12, &request);
            slow.send(writer.bytes()).await;
            let own = env.clone();
            env.tasks().spawn(TaskClass::Network, async move {
                // A connection that nobody reads from stays open for as long as this task.
                while own.clock().now() < Moment::default() + Duration::from_mins(10) {
                    own.clock().sleep(Duration::from_secs(1)).await;
                    if number % 2 == 0 && !slow.discard(1000).await {
                        return;
                    }
                }
            });
        }
        env.clock().sleep(Duration::from_millis(100)).await;
        let before = env.clock().now();
        for partition in 0..4 {
            let request = fetch_request("weather", &[(partition, 0)], 30_000, 1);
            assert!(!client.fetch(&request).await[0].is_empty(), "partition {partition} has records");
        }
        let waited = env.clock().now() - before;
        assert!(waited < Duration::from_secs(20), "{waited:?}");
        client.close();
        broker.stop().await;
    });
}
