//! Answers of many megabytes: how large they may be, and that they are whole.

use millrace_protocol::messages::fetch::FetchRequest;

use crate::client::{Client, fetch_request};
use crate::each_seed_of;
use crate::start::{Running, client_env};

/// Memory of which a shard's answers get 96 MiB, and one answer 12 MiB.
const ROOMY: &[&str] = &["num.partitions=2", "millrace.memory.bytes=2GiB", "message.max.bytes=3500000"];
const BATCH_BYTES: usize = 900_000;

fn request(max_bytes: i32, partition_max_bytes: i32) -> FetchRequest<'static> {
    let mut request = FetchRequest { max_bytes, ..fetch_request("weather", &[(0, 0), (1, 0)], 0, 1) };
    request.topics[0].partitions.iter_mut().for_each(|partition| partition.partition_max_bytes = partition_max_bytes);
    request
}

async fn produce_batches(
    client: &mut Client<impl millrace_runtime::Env>,
    partition: i32,
    batch_count: u8,
    bytes: usize,
) {
    for number in 0..batch_count {
        client.produce("weather", partition, &vec![number; bytes]).await;
    }
}

/// How many batches of each partition an answer has. They must be the first ones, whole.
async fn fetch(client: &mut Client<impl millrace_runtime::Env>, request: &FetchRequest<'_>) -> Vec<usize> {
    let found = client.fetch(request).await;
    for values in &found {
        for (number, value) in (0..).zip(values) {
            assert!(value.iter().all(|byte| *byte == number), "batch {number} is damaged");
        }
    }
    found.iter().map(Vec::len).collect()
}

#[test]
fn an_answer_is_as_large_as_the_client_allows() {
    each_seed_of(0..2, async |world| {
        let broker = Running::start(world, ROOMY).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        // Partition 0 is on one shard, partition 1 on the other: one of them crosses.
        produce_batches(&mut client, 0, 10, BATCH_BYTES).await;
        produce_batches(&mut client, 1, 10, BATCH_BYTES).await;
        assert_eq!(fetch(&mut client, &request(50 << 20, 50 << 20)).await, [10, 10]);
        assert_eq!(fetch(&mut client, &request(50 << 20, 3_000_000)).await, [3, 3], "of each partition");
        assert_eq!(fetch(&mut client, &request(8_000_000, 50 << 20)).await, [4, 4], "half of it from each shard");
        assert_eq!(fetch(&mut client, &request(50 << 20, 1)).await, [1, 0], "one batch in any case");
        broker.stop().await;

        // From the device now.
        let broker = Running::start(world, ROOMY).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        assert_eq!(fetch(&mut client, &request(50 << 20, 50 << 20)).await, [10, 10]);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn batches_larger_than_a_step_are_read_one_after_the_other() {
    each_seed_of(0..2, async |world| {
        let broker = Running::start(world, ROOMY).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        client.produce("weather", 0, &[0; 10]).await;
        for number in 1..4 {
            client.produce("weather", 0, &vec![number; 3_000_000]).await;
        }
        client.produce("weather", 0, &[4; 10]).await;
        assert_eq!(fetch(&mut client, &request(50 << 20, 50 << 20)).await, [5, 0]);
        assert_eq!(fetch(&mut client, &request(50 << 20, 7 << 20)).await, [3, 0]);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn the_broker_bounds_answers_too() {
    each_seed_of(0..2, async |world| {
        let settings = ["num.partitions=2", "millrace.memory.bytes=2GiB", "fetch.max.bytes=4000000"];
        let broker = Running::start(world, &settings).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        produce_batches(&mut client, 0, 10, BATCH_BYTES).await;
        // Half of the limit for each shard.
        assert_eq!(fetch(&mut client, &request(i32::MAX, i32::MAX)).await, [2, 0]);
        broker.stop().await;

        // 2 MiB for the answers of a shard, so 1 MiB for one of them. More bytes are wanted than it can ever have: it is
        // answered all the same, and at once.
        let broker = Running::start(world, &["num.partitions=2", "millrace.memory.bytes=64MiB"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let patient = FetchRequest { max_wait_ms: 250_000, min_bytes: 20 << 20, ..request(i32::MAX, i32::MAX) };
        assert_eq!(fetch(&mut client, &patient).await, [1, 0]);
        client.close();
        broker.stop().await;
    });
}
