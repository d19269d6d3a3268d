//! A log that retention rolls, by the age of its records, while its clients go on.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::time::Duration;

use futures_util::future::join_all;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, Random};

const ID: PartitionId = id(0);

const fn id(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition }
}

/// A store that keeps nothing longer than it has to: neither files nor records.
async fn open(env: &SimEnv) -> Store<SimEnv> {
    let config = StoreConfig {
        journal_bytes: RING_BYTES_MIN,
        retention_interval: Duration::from_millis(1),
        open_file_count_max: 1,
        tail_cache_bytes_max: 0,
        ..StoreConfig::at("/data".into())
    };
    let store = Store::open(env.clone(), config, |_| true).await.unwrap();
    let retention_age_max = Some(Duration::from_millis(1));
    let log = LogConfig { segment_bytes: 64 * 1024, retention_age_max, ..LogConfig::default() };
    (0..3).for_each(|partition| store.create(id(partition), log.clone()));
    store
}

fn batch(env: &SimEnv) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    let bytes = [10, 500, 5_000, 150_000][usize::try_from(env.random().next_u64() % 4).unwrap()];
    builder.push(env.clock().unix_ms(), None, Some(&vec![b'v'; bytes]));
    builder.build()
}

/// Appends without waiting for the answers, with pauses of up to a few passes of retention.
async fn append(env: &SimEnv, store: &Store<SimEnv>, id: PartitionId, count: i64) {
    let mut tickets = Vec::new();
    for _ in 0..count {
        let bytes = batch(env);
        let appended = store.append(id, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
        tickets.push(appended.ticket);
        let pause_us = [0, 300, 6_000][usize::try_from(env.random().next_u64() % 3).unwrap()];
        env.clock().sleep(Duration::from_micros(pause_us)).await;
    }
    for ticket in tickets {
        ticket.durable().await.unwrap();
    }
}

#[test]
fn every_append_is_acknowledged_whenever_the_log_is_rolled() {
    for seed in 0..40 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            join_all((0..6).map(|number| append(&env, &store, id(number % 3), 100))).await;
            env.clock().sleep(Duration::from_millis(100)).await;
            let offsets = store.offsets(ID).await.unwrap();
            assert_eq!((offsets.start.get(), offsets.log_end.get()), (200, 200), "seed {seed}");
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_start_that_somebody_saw_is_there_after_a_kill() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        let seen = world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            let watch = async {
                loop {
                    let start = store.offsets(ID).await.unwrap().start;
                    if start > Offset::ZERO {
                        return start;
                    }
                    env.clock().sleep(Duration::from_micros(10)).await;
                }
            };
            let appending = append(&env, &store, ID, 40);
            match futures_util::future::select(std::pin::pin!(watch), std::pin::pin!(appending)).await {
                futures_util::future::Either::Left((start, _)) => start,
                futures_util::future::Either::Right(((), watch)) => watch.await,
            }
        });
        if seed % 2 == 0 {
            world.kill_shards();
        } else {
            world.crash_shards();
        }
        world.run(async {
            let start = open(&world.env(0)).await.offsets(ID).await.unwrap().start;
            assert!(start >= seen, "seed {seed}: the log starts at {start}, and somebody saw {seen}");
        });
    }
}
