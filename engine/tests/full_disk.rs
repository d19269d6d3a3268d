//! A disk that fills up: producers are refused, everything else goes on, and space can be made again.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::time::Duration;

use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
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
