//! A disk that fills up: producers are refused, everything else goes on, and space can be made again.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::flushes::Flushes;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::recovery;
use millrace_engine::store::{AppendError, FirstBatch, Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env};

const MIB: u64 = 1024 * 1024;
const DISK_BYTES: u64 = 96 * MIB;
const RESERVE_BYTES: u64 = 8 * MIB;

fn partition(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition }
}

async fn open(env: &SimEnv) -> Store<SimEnv> {
    let config = StoreConfig {
        journal_bytes: RING_BYTES_MIN,
        retention_interval: Duration::from_secs(1),
        reserve_bytes: RESERVE_BYTES,
        ..StoreConfig::at("/data".into())
    };
    let store = Store::open(env.clone(), config, |_| true).await.unwrap();
    let log = LogConfig { segment_bytes: 4 * MIB, retention_age_max: None, ..LogConfig::default() };
    store.create(partition(0), log.clone());
    store.create(partition(1), LogConfig { internal: true, ..log });
    store
}

async fn append(store: &Store<SimEnv>, id: PartitionId, value_bytes: usize) -> Result<(), AppendError> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(0, None, Some(&vec![7; value_bytes]));
    let bytes = builder.build();
    let appended = store.append(id, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await?;
    appended.ticket.durable().await.unwrap();
    Ok(())
}

/// Appends to the first log until it is refused, and says how many batches it took.
async fn fill(store: &Store<SimEnv>, env: &SimEnv) -> i64 {
    let mut count = 0;
    loop {
        match append(store, partition(0), 200_000).await {
            Ok(()) => count += 1,
            Err(AppendError::DiskFull { .. }) => return count,
            Err(error) => panic!("{error} after {count} batches"),
        }
        env.clock().sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_full_disk_refuses_producers_and_nothing_else() {
    for seed in 0..10 {
        let world = World::new(seed, WorldConfig::default());
        world.disk().resize(DISK_BYTES);
        let count = world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            append(&store, partition(1), 100).await.unwrap();
            let count = fill(&store, &env).await;
            assert!(count > 200, "seed {seed}: {count} batches fit");
            // Another program takes what was left.
            world.disk().resize(DISK_BYTES - world.disk().available_bytes());
            for _ in 0..20 {
                append(&store, partition(1), 50_000).await.unwrap();
            }
            let read = store.read(partition(0), Offset::new(count - 1), 1, FirstBatch::WholeEvenIfLarger).await;
            assert!(read.unwrap().bytes > 200_000);
            count
        });
        if seed % 2 == 0 {
            world.crash_shards();
        } else {
            world.kill_shards();
        }
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            assert_eq!(store.offsets(partition(0)).await.unwrap().log_end.get(), count, "seed {seed}");
            assert_eq!(store.offsets(partition(1)).await.unwrap().log_end.get(), 21, "seed {seed}");
            env.clock().sleep(Duration::from_secs(3)).await;
            assert!(matches!(append(&store, partition(0), 100).await, Err(AppendError::DiskFull { .. })));
            append(&store, partition(1), 50_000).await.unwrap();
            store.delete_records(partition(0), Offset::new(count)).await.unwrap();
            env.clock().sleep(Duration::from_secs(5)).await;
            append(&store, partition(0), 100).await.unwrap();
            store.close().await.unwrap();
        });
    }
}

#[test]
fn the_reserve_shrinks_with_the_setting_and_the_number_of_shards() {
    let world = World::new(5, WorldConfig::default());
    let reserved = |shard: u16| world.disk().read(format!("/data/reserve-{shard:03}")).map(|bytes| bytes.len());
    world.run(async {
        let env = world.env(0);
        let config = |shard_index, shard_count, reserve_bytes| StoreConfig {
            journal_bytes: RING_BYTES_MIN,
            shard_index,
            shard_count,
            flushes: Flushes::new(shard_count),
            reserve_bytes,
            ..StoreConfig::at("/data".into())
        };
        for shard in 0..2 {
            let store = Store::open(env.clone(), config(shard, 2, MIB), |_| false).await.unwrap();
            env.clock().sleep(Duration::from_secs(2)).await;
            store.close().await.unwrap();
        }
        assert_eq!((reserved(0), reserved(1)), (Some(1 << 20), Some(1 << 20)));
        recovery::redistribute(&env, "/data".as_ref(), 1).await.unwrap();
        assert_eq!(reserved(1), None);
        let store = Store::open(env.clone(), config(0, 1, MIB / 4), |_| true).await.unwrap();
        env.clock().sleep(Duration::from_secs(2)).await;
        store.close().await.unwrap();
        assert_eq!(reserved(0), Some(1 << 18));
        let store = Store::open(env.clone(), config(0, 1, 0), |_| true).await.unwrap();
        env.clock().sleep(Duration::from_secs(2)).await;
        store.close().await.unwrap();
        assert_eq!(reserved(0), Some(0));
    });
}

/// Logs of small segments, and batches of each that are under way at the same time.
const LOGS: i32 = 8;
const DEPTH: usize = 6;

async fn open_small(env: &SimEnv) -> Store<SimEnv> {
    let store = open(env).await;
    for number in 2..2 + LOGS {
        let config = LogConfig { segment_bytes: MIB / 2, retention_age_max: None, ..LogConfig::default() };
        store.create(partition(number), config);
    }
    store
}

/// Appends batches to all logs at once; raises what is acknowledged of each.
async fn append_to_all(store: &Store<SimEnv>, acknowledged: &mut BTreeMap<i32, i64>) {
    let appends = (2..2 + LOGS).flat_map(|number| std::iter::repeat_n(number, DEPTH)).map(async |number| {
        let mut builder = BatchBuilder::new(BatchFields::default());
        builder.push(0, None, Some(&vec![7; 60_000]));
        let bytes = builder.build();
        let batch = BatchView::parse(&bytes).unwrap();
        let appended = store.append(partition(number), &batch, LeaderEpoch::new(0)).await.ok()?;
        appended.ticket.durable().await.ok()?;
        Some((number, appended.base_offset.get() + 1))
    });
    for (number, end) in futures_util::future::join_all(appends).await.into_iter().flatten() {
        let known = acknowledged.entry(number).or_default();
        *known = end.max(*known);
    }
}

#[track_caller]
fn assert_kept(ends: &BTreeMap<i32, Option<i64>>, acknowledged: &BTreeMap<i32, i64>, seed: u64) {
    for (number, acknowledged) in acknowledged {
        let end = ends[number];
        assert!(end >= Some(*acknowledged), "seed {seed}, log {number}: {acknowledged} acknowledged, {end:?} there");
    }
}

async fn ends(store: &Store<SimEnv>) -> BTreeMap<i32, Option<i64>> {
    let mut ends = BTreeMap::new();
    for number in 2..2 + LOGS {
        let offsets = store.offsets(partition(number)).await;
        ends.insert(number, offsets.ok().map(|offsets| offsets.log_end.get()));
    }
    ends
}

#[test]
fn a_disk_that_is_full_before_anybody_looks_loses_nothing() {
    for seed in 0..10 {
        let world = World::new(seed, WorldConfig::default());
        world.disk().resize(DISK_BYTES / 2 + seed * 523_456);
        let acknowledged = world.run(async {
            let env = world.env(0);
            let store = open_small(&env).await;
            let mut acknowledged = BTreeMap::new();
            for _ in 0..40 {
                append_to_all(&store, &mut acknowledged).await;
            }
            env.clock().sleep(Duration::from_secs(2)).await;
            assert_kept(&ends(&store).await, &acknowledged, seed);
            acknowledged
        });
        world.crash_shards();
        world.run(async {
            let store = open_small(&world.env(0)).await;
            assert_kept(&ends(&store).await, &acknowledged, seed);
        });
    }
}
