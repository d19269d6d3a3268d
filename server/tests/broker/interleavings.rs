//! Producers, waiting readers and readers that leave, on both shards at once, in an order that the seed decides.
//!
//! What may go wrong between two shards is a wake that is lost: an append between an owner's look and the watch it arms, a
//! watch that is taken back for another request, an answer that comes for a connection that has closed. A reader that was
//! not woken comes back with nothing when its time is over, long after the last append, and that is what is looked for.

use std::time::Duration;

use millrace_runtime::sim::SimEnv;
use millrace_runtime::{Clock, Env, Random, TaskClass, TaskHandle, Tasks};

use crate::client::{Client, fetch_request};
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed_of};

const SEEDS: std::ops::Range<u64> = 0..60;
const PARTITION_COUNT: usize = 4;
const PRODUCER_COUNT: usize = 3;
/// What each producer sends.
const RECORD_COUNT: usize = 12;
/// Longer than everything here takes.
const MAX_WAIT_MS: i32 = 600_000;

/// Nothing, or up to 4 ms: a round trip across shards takes less, and a flush about as much.
async fn pause(env: &SimEnv) {
    let microseconds = match env.random().below(3) {
        0 => return,
        1 => env.random().below(200),
        _ => env.random().below(4_000),
    };
    env.clock().sleep(Duration::from_micros(microseconds)).await;
}

fn positions(read: &[Vec<Vec<u8>>]) -> Vec<(i32, i64)> {
    (0..).zip(read).map(|(partition, values)| (partition, i64::try_from(values.len()).unwrap())).collect()
}

/// Sends records to partitions of both shards; gives them with their partitions, in order.
async fn produce(mut client: Client<SimEnv>, env: SimEnv, number: usize) -> Vec<(usize, Vec<u8>)> {
    let mut sent = Vec::new();
    for count in 0..RECORD_COUNT {
        pause(&env).await;
        let partition = usize::try_from(env.random().below(4)).unwrap();
        let value = format!("{number}/{count}").into_bytes();
        client.produce("weather", i32::try_from(partition).unwrap(), &value).await;
        sent.push((partition, value));
    }
    client.close();
    sent
}

/// Reads everything, waiting for what is not there yet.
async fn read_all(mut client: Client<SimEnv>, env: SimEnv) -> Vec<Vec<Vec<u8>>> {
    let mut read = vec![Vec::new(); PARTITION_COUNT];
    while read.iter().map(Vec::len).sum::<usize>() < PRODUCER_COUNT * RECORD_COUNT {
        let found = client.fetch(&fetch_request("weather", &positions(&read), MAX_WAIT_MS, 1)).await;
        assert!(found.iter().any(|values| !values.is_empty()), "a reader was not woken, with {read:?}");
        for (all, new) in read.iter_mut().zip(found) {
            all.extend(new);
        }
        pause(&env).await;
    }
    client.close();
    read
}

/// Asks, and leaves before or after there is an answer, again and again.
async fn ask_and_leave(env: SimEnv, broker: std::net::SocketAddr) {
    for _ in 0..6 {
        let mut client = Client::connect(&env, broker).await;
        let at_end: Vec<_> = (0..4).map(|partition| (partition, 0)).collect();
        let mut writer = millrace_protocol::wire::Writer::new();
        client.push(&mut writer, 12, &fetch_request("weather", &at_end, MAX_WAIT_MS, 1 << 19));
        client.send(writer.bytes()).await;
        pause(&env).await;
        client.close();
    }
}

#[test]
fn no_reader_misses_a_wake_however_shards_take_turns() {
    each_seed_of(SEEDS, async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        Client::connect(&env, broker.address).await.make_topic("weather").await;
        let mut readers = Vec::new();
        // More than shards, so that each shard has some that wait for the other's partitions.
        for _ in 0..3 {
            let client = Client::connect(&env, broker.address).await;
            readers.push(env.tasks().spawn(TaskClass::Network, read_all(client, env.clone())));
        }
        let leaver = env.tasks().spawn(TaskClass::Network, ask_and_leave(env.clone(), broker.address));
        let mut producers = Vec::new();
        for number in 0..PRODUCER_COUNT {
            let client = Client::connect(&env, broker.address).await;
            producers.push(env.tasks().spawn(TaskClass::Network, produce(client, env.clone(), number)));
        }
        let mut sent = Vec::new();
        for producer in producers {
            sent.push(producer.join().await);
        }
        leaver.join().await;
        let mut reads = Vec::new();
        for reader in readers {
            reads.push(reader.join().await);
        }
        for read in &reads {
            assert_eq!(read, &reads[0], "everybody reads the same");
        }
        for (partition, read) in reads[0].iter().enumerate() {
            for sent in &sent {
                let of_one: Vec<_> =
                    read.iter().filter(|value| sent.contains(&(partition, (*value).clone()))).collect();
                let expected: Vec<_> = sent.iter().filter(|(to, _)| *to == partition).map(|(_, value)| value).collect();
                assert_eq!(of_one, expected, "a producer's records are there once, in its order");
            }
        }
        broker.stop().await;
    });
}
