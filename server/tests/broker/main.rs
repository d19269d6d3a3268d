//! A whole broker of two shards in one thread, from a seed: requests, waiting across shards, leases, the end.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

mod admin;
mod amplified;
mod client;
mod compacted;
mod config_resources;
mod configs;
mod consumer_groups;
mod create_partitions;
mod dynamic;
mod elections;
mod epochs;
mod fetch_sessions;
mod full_disk;
mod groups;
mod hostile;
mod interleavings;
mod large_fetches;
mod listeners;
mod log_dirs;
mod observed;
mod producers;
mod reassignments;
mod retention;
mod start;
mod topic_partitions;
mod versions;

use std::time::Duration;

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse};
use millrace_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use millrace_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use millrace_protocol::messages::produce::ProduceResponse;
use millrace_protocol::wire::Writer;
use millrace_runtime::sim::World;
use millrace_runtime::{Clock, Env, TaskClass, TaskHandle, Tasks};

use client::{Client, batch, fetch_request, produce_request};
use start::{Running, client_env, world};

const SEEDS: std::ops::Range<u64> = 0..8;

/// Four partitions: two on each shard.
const PARTITIONS: &[&str] = &["num.partitions=4"];

/// Runs a scenario with each seed.
fn each_seed(scenario: impl AsyncFn(&World)) {
    each_seed_of(SEEDS, scenario);
}

/// The same with other seeds, for a scenario that takes its time.
#[expect(clippy::needless_pass_by_value, reason = "a closure reads better by value")]
fn each_seed_of(seeds: std::ops::Range<u64>, scenario: impl AsyncFn(&World)) {
    for seed in seeds {
        let world = world(seed);
        world.run(scenario(&world));
    }
}

/// Runs a scenario with each seed, on a broker of one shard and on one of two.
#[expect(clippy::needless_pass_by_value, reason = "a closure reads better by value")]
fn each_shard_count(scenario: impl AsyncFn(&World, &str)) {
    for shards in ["millrace.shards=1", "millrace.shards=2"] {
        each_seed(async |world| scenario(world, shards).await);
    }
}

#[test]
fn one_connection_reaches_partitions_of_both_shards() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        for partition in 0..4 {
            for offset in 0..3 {
                let value = format!("{partition}/{offset}");
                assert_eq!(client.produce("weather", partition, value.as_bytes()).await, offset);
            }
        }
        let positions = [(3, 0), (0, 1), (2, 0), (1, 3)];
        let found = client.fetch(&fetch_request("weather", &positions, 0, 1)).await;
        let text =
            |values: &[Vec<u8>]| values.iter().map(|v| String::from_utf8(v.clone()).unwrap()).collect::<Vec<_>>();
        assert_eq!(text(&found[0]), ["3/0", "3/1", "3/2"]);
        assert_eq!(text(&found[1]), ["0/1", "0/2"]);
        assert_eq!(text(&found[2]), ["2/0", "2/1", "2/2"]);
        assert!(found[3].is_empty());
        client.close();
        broker.stop().await;
    });
}

#[test]
fn everything_is_there_after_a_restart() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let topic = client.make_topic("weather").await;
        for partition in 0..4 {
            client.produce("weather", partition, b"kept").await;
        }
        broker.stop().await;

        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        assert_eq!(client.make_topic("weather").await, topic, "it is the same topic");
        let found = client.fetch(&fetch_request("weather", &[(0, 0), (1, 0), (2, 0), (3, 0)], 0, 1)).await;
        assert_eq!(found, vec![vec![b"kept".to_vec()]; 4]);
        assert_eq!(client.produce("weather", 2, b"next").await, 1);
        broker.stop().await;
    });
}

#[test]
fn another_number_of_shards_finds_everything() {
    each_seed(async |world| {
        for (round, shards) in (0..).zip(["millrace.shards=2", "millrace.shards=3", "millrace.shards=1"]) {
            let broker = Running::start(world, &["num.partitions=4", shards]).await;
            let mut client = Client::connect(&client_env(world), broker.address).await;
            client.make_topic("weather").await;
            for partition in 0..4 {
                let value = format!("{partition}/{round}");
                assert_eq!(client.produce("weather", partition, value.as_bytes()).await, round);
            }
            let found = client.fetch(&fetch_request("weather", &[(0, 0), (1, 0), (2, 0), (3, 0)], 0, 1)).await;
            for (partition, values) in found.iter().enumerate() {
                let expected: Vec<_> = (0..=round).map(|round| format!("{partition}/{round}").into_bytes()).collect();
                assert_eq!(*values, expected);
            }
            if round == 1 {
                // Once the stop is in order, once it is not.
                world.machine(0).kill();
                drop(broker);
            } else {
                broker.stop().await;
            }
        }
    });
}

#[test]
fn an_append_wakes_a_fetch_that_waits_on_another_shard() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut producer = Client::connect(&env, broker.address).await;
        producer.make_topic("weather").await;
        for partition in 0..4 {
            let mut consumer = Client::connect(&env, broker.address).await;
            let waiting = env.tasks().spawn(TaskClass::Network, async move {
                let positions =
                    [(0, 0), (1, 0), (2, 0), (3, 0)].map(|(index, _)| (index, i64::from(index < partition)));
                consumer.fetch(&fetch_request("weather", &positions, 600_000, 1)).await
            });
            // Somewhere between before it is received and long after it has parked.
            let pause = world.seed() * 137 % 20 * 100;
            env.clock().sleep(Duration::from_micros(pause)).await;
            let before = env.clock().now();
            producer.produce("weather", partition, b"now").await;
            let found = waiting.join().await;
            let index = usize::try_from(partition).unwrap();
            assert_eq!(found[index], vec![b"now".to_vec()]);
            assert!(env.clock().now() - before < Duration::from_secs(10), "woken, not timed out");
        }
        broker.stop().await;
    });
}

#[test]
fn a_fetch_waits_for_enough_bytes_or_for_its_time() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut producer = Client::connect(&env, broker.address).await;
        producer.make_topic("weather").await;
        let mut consumer = Client::connect(&env, broker.address).await;

        let before = env.clock().now();
        let found = consumer.fetch(&fetch_request("weather", &[(0, 0), (1, 0)], 500, 1)).await;
        let waited = env.clock().now() - before;
        assert_eq!(found, vec![Vec::<Vec<u8>>::new(); 2]);
        assert!(waited >= Duration::from_millis(500) && waited < Duration::from_millis(700), "{waited:?}");

        // More than one batch is wanted: the first append wakes the request, the third one satisfies it.
        let waiting = env.tasks().spawn(TaskClass::Network, async move {
            let found = consumer.fetch(&fetch_request("weather", &[(0, 0), (1, 0)], 600_000, 2500)).await;
            found.iter().map(Vec::len).sum::<usize>()
        });
        for partition in [0, 1, 0] {
            env.clock().sleep(Duration::from_millis(50)).await;
            producer.produce("weather", partition, &[b'x'; 1000]).await;
        }
        assert_eq!(waiting.join().await, 3);
        broker.stop().await;
    });
}

#[test]
fn consecutive_produce_requests_keep_their_order_across_shards() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        // All in one send: different sizes, both shards, one answer each, in order.
        let batches: Vec<_> =
            (0..40_usize).map(|n| batch(&[&vec![b'a'; 1 + n * 7919 % 20_000], &n.to_be_bytes()])).collect();
        let mut writer = Writer::new();
        for batch in &batches {
            client.push(&mut writer, 9, &produce_request("weather", &[(0, batch), (1, batch)], -1));
        }
        client.send(writer.bytes()).await;
        for number in 0..40 {
            let answer = client.receive(ApiKey::Produce, 9).await.unwrap();
            let response: ProduceResponse<'_> = answer.decode(9);
            for result in &response.responses[0].partition_responses {
                assert_eq!((result.error_code, result.base_offset), (0, number * 2));
            }
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn what_cannot_be_appended_is_refused_by_partition() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let good = batch(&[b"good"]);
        let mut damaged = good.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let large = batch(&[&vec![0; 2 << 20]]);
        let request = produce_request("weather", &[(0, &good), (1, &damaged), (2, &large), (9, &good), (3, b"")], 1);
        let answer = client.call(9, &request).await;
        let response: ProduceResponse<'_> = answer.decode(9);
        let codes: Vec<_> = response.responses[0].partition_responses.iter().map(|result| result.error_code).collect();
        let expected = [
            ErrorCode::None,
            ErrorCode::CorruptMessage,
            ErrorCode::MessageTooLarge,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::InvalidRecord,
        ];
        assert_eq!(codes, expected.map(ErrorCode::code));

        let answer = client.call(9, &produce_request("weather", &[(0, &good)], 2)).await;
        let response: ProduceResponse<'_> = answer.decode(9);
        let code = response.responses[0].partition_responses[0].error_code;
        assert_eq!(code, ErrorCode::InvalidRequiredAcks.code());
        client.close();
        broker.stop().await;
    });
}

#[test]
fn without_acknowledgement_nothing_is_answered_and_an_error_closes() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let good = batch(&[b"good"]);
        let mut writer = Writer::new();
        let mut unanswered = Client::connect(&client_env(world), broker.address).await;
        unanswered.push(&mut writer, 9, &produce_request("weather", &[(1, &good)], 0));
        unanswered.push(&mut writer, 9, &produce_request("nowhere", &[(1, &good)], 0));
        unanswered.send(writer.bytes()).await;
        assert!(unanswered.receive(ApiKey::Produce, 9).await.is_none(), "closed without a word");
        let found = client.fetch(&fetch_request("weather", &[(1, 0)], 60_000, 1)).await;
        assert_eq!(found[0], vec![b"good".to_vec()]);
        broker.stop().await;
    });
}

#[test]
fn limits_of_a_fetch_hold_and_the_first_batch_always_comes() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        for partition in 0..4 {
            for _ in 0..3 {
                client.produce("weather", partition, &[b'x'; 10_000]).await;
            }
        }
        let positions = [(0, 0), (1, 0), (2, 0), (3, 0)];
        let limited = FetchRequest { max_bytes: 100, ..fetch_request("weather", &positions, 0, 1) };
        let found: Vec<_> = client.fetch(&limited).await.iter().map(Vec::len).collect();
        assert_eq!(found, [1, 0, 0, 0], "one batch, whatever its size, and only one");
        let limited = FetchRequest { max_bytes: 35_000, ..fetch_request("weather", &positions, 0, 1) };
        let found: usize = client.fetch(&limited).await.iter().map(Vec::len).sum();
        assert!((1..=3).contains(&found), "{found}");
        client.close();
        broker.stop().await;
    });
}

#[test]
fn offsets_out_of_range_and_stale_epochs_are_told_at_once() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        client.produce("weather", 0, b"one").await;
        let mut request = fetch_request("weather", &[(0, 2), (1, -1), (2, 1), (7, 0), (3, 0)], 600_000, 1);
        request.topics[0].partitions[2].current_leader_epoch = 5;
        let answer = client.call(12, &request).await;
        let response: FetchResponse<'_> = answer.decode(12);
        let codes: Vec<_> = response.responses[0].partitions.iter().map(|partition| partition.error_code).collect();
        let expected = [
            ErrorCode::OffsetOutOfRange,
            ErrorCode::OffsetOutOfRange,
            ErrorCode::UnknownLeaderEpoch,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::None,
        ];
        assert_eq!(codes, expected.map(ErrorCode::code));
        client.close();
        broker.stop().await;
    });
}

#[test]
fn list_offsets_finds_both_ends_and_times() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        for partition in 0..2 {
            client.produce("weather", partition, b"one").await;
        }
        let ask = |partition_index, timestamp| ListOffsetsPartition {
            partition_index,
            timestamp,
            ..ListOffsetsPartition::default()
        };
        let partitions =
            vec![ask(0, -1), ask(1, -1), ask(2, -1), ask(0, -2), ask(1, 1_750_000_000_000), ask(1, i64::MAX)];
        let topics = vec![ListOffsetsTopic { name: "weather", partitions }];
        for version in 1..=11 {
            let request =
                ListOffsetsRequest { replica_id: -1, topics: topics.clone(), ..ListOffsetsRequest::default() };
            let answer = client.call(version, &request).await;
            let response: ListOffsetsResponse<'_> = answer.decode(version);
            let offsets: Vec<_> = response.topics[0].partitions.iter().map(|p| (p.error_code, p.offset)).collect();
            assert_eq!(offsets, [(0, 1), (0, 1), (0, 0), (0, 0), (0, 0), (0, -1)], "version {version}");
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn producer_ids_differ_between_connections_and_shards() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut ids = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..4 {
            let mut client = Client::connect(&client_env(world), broker.address).await;
            let request = InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
            let answer = client.call(4, &request).await;
            let response: InitProducerIdResponse = answer.decode(4);
            assert_eq!(response.error_code, ErrorCode::None.code());
            ids.push(response.producer_id);
            clients.push(client);
        }
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4);

        let transactional = InitProducerIdRequest { transactional_id: Some("t"), ..InitProducerIdRequest::default() };
        let answer = clients[0].call(4, &transactional).await;
        let response: InitProducerIdResponse = answer.decode(4);
        assert_eq!(response.error_code, ErrorCode::TransactionalIdAuthorizationFailed.code());
        broker.stop().await;
    });
}

#[test]
fn metadata_answers_every_version() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        for version in 0..=13 {
            // Null is all topics; version 0 has no null, and empty is all there.
            let topics = if version == 0 { Some(Vec::new()) } else { None };
            let answer = client.call(version, &MetadataRequest { topics, ..MetadataRequest::default() }).await;
            let response: MetadataResponse<'_> = answer.decode(version);
            assert_eq!(response.topics.len(), 1, "version {version}");
            assert_eq!(response.topics[0].partitions.len(), 4);
            assert_eq!(response.brokers[0].port, 9092);
            if version > 0 {
                let none = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
                let answer = client.call(version, &none).await;
                assert!(answer.decode::<MetadataResponse<'_>>(version).topics.is_empty());
            }
            let topic = MetadataRequestTopic { name: Some("weather"), ..MetadataRequestTopic::default() };
            let thrice = MetadataRequest { topics: Some(vec![topic; 3]), ..MetadataRequest::default() };
            let answer = client.call(version, &thrice).await;
            let response: MetadataResponse<'_> = answer.decode(version);
            assert_eq!(response.topics.len(), 1, "version {version}: a topic is answered once");
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        // A frame as a newer client sends it: ApiVersions 99, correlation id 0, null client id, tags, unknown body.
        client.send(b"\0\0\0\x0e\0\x12\0\x63\0\0\0\0\xff\xff\0\x01\x02\x03").await;
        let answer = client.receive(ApiKey::ApiVersions, 0).await.unwrap();
        let response: ApiVersionsResponse<'_> = answer.decode(0);
        assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
        assert_eq!((response.api_keys[0].api_key, response.api_keys[0].max_version), (18, 4));

        let mut client = Client::connect(&client_env(world), broker.address).await;
        let request = ApiVersionsRequest { client_software_name: "test", client_software_version: "1" };
        let answer = client.call(4, &request).await;
        let response: ApiVersionsResponse<'_> = answer.decode(4);
        let produce = response.api_keys.iter().find(|api| api.api_key == 0).unwrap();
        assert_eq!((produce.min_version, produce.max_version), (0, 13));
        broker.stop().await;
    });
}

#[test]
fn frames_that_break_the_rules_close_the_connection() {
    each_seed(async |world| {
        let broker = Running::start(world, &["socket.request.max.bytes=2MiB"]).await;
        let frames: &[&[u8]] = &[
            b"\xff\xff\xff\xff",
            b"\0\0\0\x01\0",
            b"\x7f\xff\xff\xff\0\0\0\0",
            // Bodies of OffsetCommit and of Metadata that end too early, around Produce 2 and an API nobody knows.
            b"\0\0\0\x0a\0\x08\0\x02\0\0\0\0\xff\xff",
            b"\0\0\0\x0a\0\0\0\x02\0\0\0\0\xff\xff",
            b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\0\xff\xff",
            b"\0\0\0\x0a\0\x03\0\x01\0\0\0\0\xff\xff",
        ];
        for frame in frames {
            let mut client = Client::connect(&client_env(world), broker.address).await;
            client.send(frame).await;
            assert!(client.receive(ApiKey::Metadata, 0).await.is_none(), "{frame:?}");
        }
        broker.stop().await;
    });
}

#[test]
fn a_request_that_stalls_is_closed_and_a_slow_one_is_not() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let env = client_env(world);
        let mut writer = Writer::new();
        let mut slow = Client::connect(&env, broker.address).await;
        slow.push(&mut writer, 1, &MetadataRequest { topics: None, ..MetadataRequest::default() });
        for byte in writer.bytes() {
            slow.send(&[*byte]).await;
            env.clock().sleep(Duration::from_secs(5)).await;
        }
        assert!(slow.receive(ApiKey::Metadata, 1).await.is_some());

        let mut stalled = Client::connect(&env, broker.address).await;
        stalled.send(&writer.bytes()[..7]).await;
        let before = env.clock().now();
        assert!(stalled.receive(ApiKey::Metadata, 1).await.is_none());
        let waited = env.clock().now() - before;
        assert!(waited > Duration::from_secs(29) && waited < Duration::from_secs(33), "{waited:?}");
        broker.stop().await;
    });
}

#[test]
fn leases_come_back_when_a_client_leaves_in_the_middle() {
    // A small broker: the leases of one shard are 4 MiB, so leaks would show as empty answers.
    each_seed(async |world| {
        let settings = ["num.partitions=4", "millrace.memory.bytes=64MiB"];
        let broker = Running::start(world, &settings).await;
        let env = client_env(world);
        let mut producer = Client::connect(&env, broker.address).await;
        producer.make_topic("weather").await;
        for partition in 0..4 {
            for _ in 0..4 {
                producer.produce("weather", partition, &vec![b'x'; 200_000]).await;
            }
        }
        let positions = [(0, 0), (1, 0), (2, 0), (3, 0)];
        let request = fetch_request("weather", &positions, 0, 1);
        for _ in 0..12 {
            // Asks for much, reads nothing, and goes.
            let mut client = Client::connect(&env, broker.address).await;
            let mut writer = Writer::new();
            for _ in 0..3 {
                client.push(&mut writer, 12, &request);
            }
            client.send(writer.bytes()).await;
            env.clock().sleep(Duration::from_millis(world.seed() % 7)).await;
            client.close();
        }
        env.clock().sleep(Duration::from_secs(1)).await;
        let found: Vec<_> = producer.fetch(&request).await.iter().map(Vec::len).collect();
        assert!(found.iter().sum::<usize>() >= 4, "{found:?}");
        // Stopping waits until every lease is back; it would never end with one missing.
        broker.stop().await;
    });
}

#[test]
fn stopping_answers_what_is_under_way() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        let mut waiting = Vec::new();
        for _ in 0..3 {
            let mut consumer = Client::connect(&env, broker.address).await;
            waiting.push(env.tasks().spawn(TaskClass::Network, async move {
                let request = fetch_request("weather", &[(0, 0), (1, 0), (2, 0), (3, 0)], 600_000, 1);
                consumer.fetch(&request).await.len()
            }));
        }
        // Time enough for all of them to be waiting.
        env.clock().sleep(Duration::from_millis(50)).await;
        let batches: Vec<_> = (0..10).map(|_| batch(&[&[b'x'; 5000]])).collect();
        let mut writer = Writer::new();
        for batch in &batches {
            client.push(&mut writer, 9, &produce_request("weather", &[(0, batch), (1, batch)], -1));
        }
        client.send(writer.bytes()).await;
        env.clock().sleep(Duration::from_micros(world.seed() * 400)).await;
        broker.stop().await;
        // Each answer that came says the truth; the rest was never begun.
        while let Some(answer) = client.receive(ApiKey::Produce, 9).await {
            let response: ProduceResponse<'_> = answer.decode(9);
            assert!(response.responses[0].partition_responses.iter().all(|result| result.error_code == 0));
        }
        for waiting in waiting {
            assert_eq!(waiting.join().await, 4);
        }
    });
}
