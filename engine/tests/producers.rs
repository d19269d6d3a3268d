//! Idempotent producers of a log with room for few of them: judged as if all were in memory.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::time::Duration;

use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::{CleanupPolicy, LogConfig};
use millrace_engine::model::{LeaderEpoch, PartitionId, TopicId};
use millrace_engine::store::{AppendError, Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView, ProducerFields};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, Random};

const DIRECTORY: &str = "/data";
const PRODUCERS: u64 = 400;

fn id(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition }
}

/// Log 0 of a store with little room and log 1 of one with enough, which get the same batches.
fn config(producer_count_max: usize) -> StoreConfig {
    let compaction_interval = Duration::from_millis(500);
    let directory = format!("{DIRECTORY}-{producer_count_max}").into();
    StoreConfig { journal_bytes: RING_BYTES_MIN, producer_count_max, compaction_interval, ..StoreConfig::at(directory) }
}

async fn open(env: &SimEnv, producer_count_max: usize, log: &LogConfig) -> Store<SimEnv> {
    let store = Store::open(env.clone(), config(producer_count_max), |_| true).await.unwrap();
    store.create(id(0), log.clone());
    store
}

fn batch(producer: u64, base_sequence: i32, value_bytes: usize) -> Vec<u8> {
    let producer = Some(ProducerFields { id: i64::try_from(producer).unwrap() * 3, epoch: 0, base_sequence });
    let mut builder = BatchBuilder::new(BatchFields { producer, ..BatchFields::default() });
    builder.push(1, Some(b"key"), Some(&vec![7; value_bytes]));
    builder.build()
}

/// What the store said: the first offset, or why not.
async fn send(store: &Store<SimEnv>, bytes: &[u8]) -> Result<i64, String> {
    match store.append(id(0), &BatchView::parse(bytes).unwrap(), LeaderEpoch::new(0)).await {
        Ok(appended) => {
            appended.ticket.durable().await.unwrap();
            Ok(appended.base_offset.get())
        }
        Err(AppendError::Sequence(error)) => Err(error.to_string()),
        Err(error) => panic!("{error}"),
    }
}

/// Sends what is next, what was sent before, and what leaves a gap, to both stores; their answers are the same.
async fn send_many(env: &SimEnv, stores: [&Store<SimEnv>; 2], next: &mut [i32], count: usize, value_bytes: usize) {
    for _ in 0..count {
        // Some producers come back soon, most after all others.
        let producer = env.random().next_u64() % if env.random().next_u64().is_multiple_of(3) { 12 } else { PRODUCERS };
        let place = usize::try_from(producer).unwrap();
        let sequence = match env.random().next_u64() % 8 {
            0 => next[place] + 1,
            1..=3 if next[place] > 0 => next[place] - 1,
            4 if next[place] > 7 => next[place] - 7,
            _ => next[place],
        };
        let bytes = batch(producer, sequence, value_bytes);
        let (few, all) = (send(stores[0], &bytes).await, send(stores[1], &bytes).await);
        assert_eq!(few, all, "producer {producer}, sequence {sequence}, {} is next", next[place]);
        // An unknown producer may begin anywhere.
        if few.is_ok() && (sequence == next[place] || next[place] == 0) {
            next[place] = sequence + 1;
        }
    }
}

#[test]
fn verdicts_are_those_of_a_store_with_room_for_all() {
    for seed in 0..8 {
        let world = World::new(seed, WorldConfig::default());
        let cleanup_policy = if seed % 4 == 3 { CleanupPolicy::Compact } else { CleanupPolicy::Delete };
        let log = LogConfig { segment_bytes: 100_000, retention_age_max: None, cleanup_policy, ..LogConfig::default() };
        let mut next = vec![0; usize::try_from(PRODUCERS).unwrap()];
        for life in 0..4 {
            world.run(async {
                let env = world.env(0);
                let few = open(&env, 20, &log).await;
                let all = open(&env, 100_000, &log).await;
                send_many(&env, [&few, &all], &mut next, 700, if life == 2 { 600 } else { 40 }).await;
                assert_eq!(few.failure(id(0)), None);
                assert!(few.compaction_failures().is_empty(), "{:?}", few.compaction_failures());
                let file = format!("{DIRECTORY}-20/logs/{}/producers.spill", id(0).directory_name());
                assert!(world.disk().read(&file).is_some(), "producers were spilled");
                let known = few.active_producers(id(0)).await.unwrap();
                assert_eq!(Ok(&known), all.active_producers(id(0)).await.as_ref(), "spilled ones are known as well");
                // Of every producer that was heard of, what it sent last.
                let heard =
                    (0..).zip(&next).filter(|(_, next)| **next > 0).map(|(producer, next)| (producer * 3, next - 1));
                let told = known.iter().map(|producer| (producer.id, producer.last_sequence));
                assert_eq!(told.collect::<Vec<_>>(), heard.collect::<Vec<_>>());
                assert!(known.iter().all(|producer| (producer.epoch, producer.last_timestamp_ms) == (0, 1)));
                if life % 2 == 0 {
                    few.close().await.unwrap();
                    all.close().await.unwrap();
                }
            });
            world.crash_shards();
        }
    }
}

#[test]
fn a_damaged_or_missing_file_is_made_again_from_the_log() {
    for damage in 0..3 {
        let world = World::new(damage, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let log = LogConfig { retention_age_max: None, ..LogConfig::default() };
            let (few, all) = (open(&env, 20, &log).await, open(&env, 100_000, &log).await);
            let mut next = vec![0; usize::try_from(PRODUCERS).unwrap()];
            send_many(&env, [&few, &all], &mut next, 900, 40).await;
            // Whatever was being written is written.
            env.clock().sleep(Duration::from_secs(2)).await;
            let file = format!("{DIRECTORY}-20/logs/{}/producers.spill", id(0).directory_name());
            match damage {
                0 => {
                    let blocks = world.disk().read(&file).unwrap().len() / 4096;
                    (1..blocks)
                        .for_each(|block| world.disk().flip_bit(&file, u64::try_from(block * 4096 + 99).unwrap(), 3));
                }
                1 => world.disk().flip_bit(&file, 30, 3),
                _ => world.disk().truncate(&file, 0),
            }
            // Whoever meets the damage first has the log opened again, and is the only one to be told.
            assert!(few.active_producers(id(0)).await.is_err());
            assert_eq!(few.active_producers(id(0)).await, all.active_producers(id(0)).await);
            send_many(&env, [&few, &all], &mut next, 900, 40).await;
            assert_eq!(few.failure(id(0)), None, "it is online again");
        });
    }
}

#[test]
fn the_logs_that_have_most_make_room_for_all() {
    let world = World::new(5, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let config = StoreConfig { producer_bytes_max: 300_000, ..config(100_000) };
        let store = Store::open(env.clone(), config, |_| true).await.unwrap();
        for partition in 0..4 {
            store.create(id(partition), LogConfig::default());
            for producer in 0..500 {
                let bytes = batch(producer, 0, 40);
                let batch = BatchView::parse(&bytes).unwrap();
                store.append(id(partition), &batch, LeaderEpoch::new(0)).await.unwrap().ticket.durable().await.unwrap();
            }
        }
        env.clock().sleep(Duration::from_secs(10)).await;
        assert!(store.producer_bytes() <= 300_000, "{} bytes are in memory", store.producer_bytes());
        for partition in 0..4 {
            for producer in (0..500).step_by(37) {
                let bytes = batch(producer, 0, 40);
                let batch = BatchView::parse(&bytes).unwrap();
                let again = store.append(id(partition), &batch, LeaderEpoch::new(0)).await;
                assert_eq!(again.unwrap().base_offset.get(), i64::try_from(producer).unwrap());
            }
        }
    });
}
