//! Files, indexes and memory of records: bounded however many logs there are, and none of it for logs that nobody uses.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::time::Duration;

use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{FirstBatch, Store, StoreConfig, TimeQuery};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, Random};

fn id(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition }
}

fn config() -> StoreConfig {
    StoreConfig { journal_bytes: RING_BYTES_MIN, ..StoreConfig::at("/data".into()) }
}

async fn append(store: &Store<SimEnv>, partition: i32, timestamp: i64, value_bytes: usize) -> i64 {
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(timestamp, None, Some(&vec![7; value_bytes]));
    let bytes = builder.build();
    let appended = store.append(id(partition), &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
    appended.ticket.durable().await.unwrap();
    appended.base_offset.get()
}

async fn first_offset(store: &Store<SimEnv>, partition: i32, from: i64) -> i64 {
    let read = store.read(id(partition), Offset::new(from), 1, FirstBatch::WholeEvenIfLarger).await.unwrap();
    let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
    BatchView::parse(&bytes).unwrap().header().base_offset.get()
}

#[test]
fn few_files_and_little_memory_serve_many_segments() {
    for seed in 0..6 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let config = StoreConfig {
                open_file_count_max: 6,
                index_bytes_max: 2_000,
                tail_cache_bytes_max: 0,
                read_cache_bytes_max: 0,
                ..config()
            };
            let store = Store::open(env.clone(), config, |_| true).await.unwrap();
            let log = LogConfig { segment_bytes: 70_000, retention_age_max: None, ..LogConfig::default() };
            let mut ends = [0_i64; 12];
            (0..12).for_each(|partition| store.create(id(partition), log.clone()));
            let (mut most_files, mut most_bytes) = (0, 0);
            for step in 0..1500_i64 {
                let partition = i32::try_from(env.random().next_u64() % 12).unwrap();
                let end = &mut ends[usize::try_from(partition).unwrap()];
                if step < 400 || env.random().next_u64().is_multiple_of(4) {
                    assert_eq!(append(&store, partition, *end, 9_000).await, *end);
                    *end += 1;
                } else if *end > 0 {
                    let from = i64::try_from(env.random().next_u64() % 1_000).unwrap() % *end;
                    assert_eq!(first_offset(&store, partition, from).await, from, "seed {seed}, log {partition}");
                    let timed = store.offset_by_time(id(partition), TimeQuery::AtOrAfter(from)).await.unwrap();
                    assert_eq!(timed.unwrap().offset.get(), from);
                    if step % 50 == 0 {
                        let largest = store.offset_by_time(id(partition), TimeQuery::Largest).await.unwrap();
                        assert_eq!(largest.unwrap().offset.get(), *end - 1);
                    }
                    most_files = most_files.max(store.open_file_count());
                    most_bytes = most_bytes.max(store.index_bytes());
                }
            }
            // A log that was just appended to has its next segment prepared or its last one not finished, whose index cannot
            // be dropped: of eight batches, and less than 350 bytes.
            assert!(most_files <= 6 + 12, "{most_files} files were open");
            assert!(most_bytes <= 2_000 + 12 * 350, "{most_bytes} bytes of indexes were in memory");
        });
    }
}

#[test]
fn more_logs_than_files_are_written_at_once() {
    for seed in 0..4 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let config = StoreConfig { open_file_count_max: 8, ..config() };
            let store = Store::open(env.clone(), config, |_| true).await.unwrap();
            let mut most_files = 0;
            for round in 0..3 {
                for partition in 0..300 {
                    store.create(id(partition), LogConfig { retention_age_max: None, ..LogConfig::default() });
                }
                let appends = (0..300).map(|partition| append(&store, partition, 5, 100));
                let ends = futures_util::future::join_all(appends).await;
                assert!(ends.iter().all(|end| *end == round), "seed {seed}: {ends:?}");
                most_files = most_files.max(store.open_file_count());
            }
            // 32 logs are prepared at a time.
            assert!(most_files <= 8 + 32, "seed {seed}: {most_files} files were open");
            for partition in 0..300 {
                assert_eq!(first_offset(&store, partition, 2).await, 2);
            }
            store.close().await.unwrap();
        });
    }
}

#[test]
fn a_few_files_less_than_logs_hold_nothing_up() {
    let world = World::new(3, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        // More than are looked at without a pause.
        let config = StoreConfig { open_file_count_max: 590, ..config() };
        let store = Store::open(env.clone(), config, |_| true).await.unwrap();
        for partition in 0..600 {
            store.create(id(partition), LogConfig { retention_age_max: None, ..LogConfig::default() });
        }
        for round in 0..3 {
            let started = env.clock().now();
            for partition in 0..600 {
                assert_eq!(append(&store, partition, 5, 100).await, round);
            }
            // The first time files are made. Later nothing has to be opened for the journal.
            let took = env.clock().now() - started;
            assert!(round == 0 || took < Duration::from_secs(2), "600 appends took {took:?}");
        }
        assert!(store.open_file_count() <= 590, "{} files are open", store.open_file_count());
        store.close().await.unwrap();
    });
}

#[test]
fn a_log_that_nobody_uses_costs_neither_files_nor_memory() {
    let world = World::new(7, WorldConfig::default());
    let count = 300;
    world.run(async {
        let env = world.env(0);
        let config = StoreConfig { open_file_count_max: 100_000, idle_interval: Duration::from_secs(10), ..config() };
        let store = Store::open(env.clone(), config, |_| true).await.unwrap();
        for partition in 0..count {
            store.create(id(partition), LogConfig { retention_age_max: None, ..LogConfig::default() });
            append(&store, partition, 5, 100).await;
        }
        assert!(store.open_file_count() >= 300 && store.tail_bytes() > 0);
        for _ in 0..20 {
            env.clock().sleep(Duration::from_secs(3)).await;
            append(&store, 0, 5, 100).await;
        }
        assert!(store.open_file_count() <= 1, "{} files are open", store.open_file_count());
        assert!(store.tail_bytes() <= 128 * 1024, "{} bytes are in memory", store.tail_bytes());
        for partition in 1..count {
            assert_eq!(first_offset(&store, partition, 0).await, 0);
            assert_eq!(append(&store, partition, 5, 100).await, 1);
            assert_eq!(first_offset(&store, partition, 1).await, 1);
        }
        store.close().await.unwrap();
    });
}
