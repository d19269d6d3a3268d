//! Logs of many segments: rolling, reading across, restarting, deleting from the start, deleting as a whole.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::path::Path;
use std::time::Duration;

use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{FirstBatch, ReadError, Store, StoreConfig, TimeQuery};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{Failure, Operation, SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Disk, Env};

const DIRECTORY: &str = "/data";
const ID: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
const SEGMENT_BYTES: u64 = 64 * 1024;

fn config() -> StoreConfig {
    let retention_interval = Duration::from_secs(5);
    StoreConfig { journal_bytes: RING_BYTES_MIN, retention_interval, ..StoreConfig::at(DIRECTORY.into()) }
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: SEGMENT_BYTES, retention_age_max: None, ..LogConfig::default() }
}

async fn open(env: &SimEnv, log: &LogConfig) -> Store<SimEnv> {
    let store = Store::open(env.clone(), config(), |_| true).await.unwrap();
    store.create(ID, log.clone());
    store
}

/// Appends batches of one record with the value's length and the timestamp given, each in a round of its own.
async fn append(store: &Store<SimEnv>, count: i64, value_bytes: usize, timestamp: i64) {
    for number in 0..count {
        let mut builder = BatchBuilder::new(BatchFields::default());
        builder.push(timestamp + number, None, Some(&vec![b'v'; value_bytes]));
        let bytes = builder.build();
        let appended = store.append(ID, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
        appended.ticket.durable().await.unwrap();
    }
}

/// The offsets of all records from `from` to the end.
async fn read_all(store: &Store<SimEnv>, from: i64) -> Vec<i64> {
    let (mut offsets, mut from) = (Vec::new(), Offset::new(from));
    loop {
        let read = store.read(ID, from, 20_000, FirstBatch::WholeEvenIfLarger).await.unwrap();
        if read.bytes == 0 {
            assert_eq!(from, read.offsets.high_watermark);
            return offsets;
        }
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let batch = BatchView::parse(rest).unwrap();
            rest = &rest[batch.bytes().len()..];
            offsets.push(batch.header().base_offset.get());
            from = Offset::new(batch.header().last_offset() + 1);
        }
    }
}

async fn file_names(env: &SimEnv) -> Vec<String> {
    let directory = Path::new(DIRECTORY).join("logs").join(ID.directory_name());
    let names = env.disk().read_dir(&directory).await.unwrap_or_default();
    names.into_iter().map(|entry| entry.name).collect()
}

fn segment_count(names: &[String]) -> usize {
    names.iter().filter(|name| name.strip_suffix(".log").is_some()).count()
}

#[test]
fn a_log_rolls_and_is_read_across_its_segments_before_and_after_a_restart() {
    for (seed, value_bytes) in [(1, 3_000), (2, 20_000), (3, 50_000)] {
        let world = World::new(seed, WorldConfig::default());
        let count = 600_000 / i64::try_from(value_bytes).unwrap();
        world.run(async {
            let env = world.env(0);
            let store = open(&env, &small_segments()).await;
            append(&store, count, value_bytes, 1_000).await;
            assert_eq!(read_all(&store, 0).await, (0..count).collect::<Vec<_>>());
            assert_eq!(read_all(&store, count / 2).await, (count / 2..count).collect::<Vec<_>>());
            let timed = store.offset_by_time(ID, TimeQuery::AtOrAfter(1_000 + count / 3)).await.unwrap().unwrap();
            assert_eq!(timed.offset.get(), count / 3);
            store.close().await.unwrap();
            assert!(segment_count(&file_names(&env).await) >= 3, "{:?}", file_names(&env).await);
        });
        world.kill_shards();
        for life in 0..3 {
            world.run(async {
                let store = open(&world.env(0), &small_segments()).await;
                let end = count + life * 5;
                assert_eq!(store.offsets(ID).await.unwrap().log_end.get(), end);
                assert_eq!(read_all(&store, 0).await, (0..end).collect::<Vec<_>>());
                let largest = store.offset_by_time(ID, TimeQuery::Largest).await.unwrap().unwrap();
                assert_eq!(largest.offset.get(), end - 1);
                append(&store, 5, value_bytes, 1_000 + end).await;
            });
            world.crash_shards();
        }
    }
}

#[test]
fn an_old_segment_is_rolled_and_old_segments_are_deleted() {
    let world = World::new(4, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let day = Duration::from_hours(24);
        let log = LogConfig { segment_age_max: day, retention_age_max: Some(3 * day), ..small_segments() };
        let store = open(&env, &log).await;
        let now = env.clock().unix_ms();
        for age in (0..8_i64).rev() {
            append(&store, 2, 100, now - age * 24 * 3_600_000 - 3_600_000).await;
            env.clock().sleep(Duration::from_millis(100)).await;
        }
        env.clock().sleep(Duration::from_secs(20)).await;
        let start = store.offsets(ID).await.unwrap().start.get();
        assert!((8..=12).contains(&start), "the log starts at {start}");
        assert_eq!(read_all(&store, start).await, (start..16).collect::<Vec<_>>());
        let before = store.read(ID, Offset::new(start - 1), 1, FirstBatch::WholeEvenIfLarger).await;
        assert!(matches!(before, Err(ReadError::OffsetOutOfRange(_))));
        env.clock().sleep(4 * day).await;
        env.clock().sleep(Duration::from_secs(20)).await;
        let offsets = store.offsets(ID).await.unwrap();
        assert_eq!((offsets.start.get(), offsets.log_end.get()), (16, 16), "all is too old");
        append(&store, 1, 100, env.clock().unix_ms()).await;
        assert_eq!(read_all(&store, 16).await, [16]);
    });
    world.crash_shards();
    world.run(async {
        let store = open(&world.env(0), &small_segments()).await;
        assert_eq!(store.offsets(ID).await.unwrap().start.get(), 16);
        assert_eq!(read_all(&store, 16).await, [16]);
    });
}

#[test]
fn a_log_is_kept_at_its_size() {
    let world = World::new(5, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let log = LogConfig { retention_bytes: Some(3 * SEGMENT_BYTES), ..small_segments() };
        let store = open(&env, &log).await;
        append(&store, 100, 10_000, 0).await;
        env.clock().sleep(Duration::from_secs(20)).await;
        let offsets = store.offsets(ID).await.unwrap();
        let kept = offsets.log_end.get() - offsets.start.get();
        assert!((18..=27).contains(&kept), "{kept} records are kept");
        assert!(segment_count(&file_names(&env).await) <= 5);
    });
}

/// Found by the simulation: what a segment's file has besides records is not what a log is to keep.
#[test]
fn the_headers_of_segments_do_not_count_as_records() {
    let world = World::new(6, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let log = LogConfig { segment_bytes: 16 * 1024, retention_bytes: Some(100_000), ..small_segments() };
        let store = open(&env, &log).await;
        append(&store, 300, 1_000, 0).await;
        env.clock().sleep(Duration::from_secs(20)).await;
        let offsets = store.offsets(ID).await.unwrap();
        let kept = offsets.log_end.get() - offsets.start.get();
        assert!((95..=125).contains(&kept), "{kept} records of more than 1,000 bytes are kept");
    });
}

/// Found by the simulation: a segment of which the next start knows only the name, and that no segment follows any more,
/// looked damaged and ended retention for good.
#[test]
fn a_segment_whose_removal_failed_does_not_stop_retention() {
    let world = World::new(7, WorldConfig::default());
    let log = LogConfig { retention_bytes: Some(3 * SEGMENT_BYTES), ..small_segments() };
    world.run(async {
        let store = open(&world.env(0), &small_segments()).await;
        append(&store, 60, 10_000, 0).await;
        // Finishing the rolled segments removes files as well.
        world.env(0).clock().sleep(Duration::from_secs(5)).await;
        world.faults().fail_nth(Some(Operation::Remove), 1, Failure::Io);
        store.delete_records(ID, Offset::new(40)).await.unwrap();
        world.env(0).clock().sleep(Duration::from_secs(1)).await;
        assert!(file_names(&world.env(0)).await.contains(&"00000000000000000000.log".to_owned()), "its removal failed");
        store.close().await.unwrap();
    });
    world.kill_shards();
    world.run(async {
        let env = world.env(0);
        let store = open(&env, &log).await;
        append(&store, 60, 10_000, 0).await;
        env.clock().sleep(Duration::from_secs(20)).await;
        assert!(segment_count(&file_names(&env).await) <= 5);
    });
}

#[test]
fn deleted_records_stay_deleted() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let store = open(&world.env(0), &small_segments()).await;
            append(&store, 40, 10_000, 0).await;
            assert!(store.delete_records(ID, Offset::new(41)).await.is_err());
            assert_eq!(store.delete_records(ID, Offset::new(33)).await.unwrap().get(), 33);
            assert_eq!(store.delete_records(ID, Offset::new(3)).await.unwrap().get(), 33);
        });
        world.crash_shards();
        world.run(async {
            let env = world.env(0);
            let store = open(&env, &small_segments()).await;
            assert_eq!(store.offsets(ID).await.unwrap().start.get(), 33, "seed {seed}");
            assert_eq!(read_all(&store, 33).await, (33..40).collect::<Vec<_>>());
            env.clock().sleep(Duration::from_secs(20)).await;
            store.delete_records(ID, Offset::new(40)).await.unwrap();
            append(&store, 1, 100, 0).await;
            assert_eq!(read_all(&store, 40).await, [40]);
        });
    }
}

#[test]
fn a_deleted_log_leaves_nothing_and_does_not_come_back() {
    for seed in 0..30 {
        let world = World::new(seed, WorldConfig::default());
        if seed > 2 {
            world.faults().crash_after(60 + seed * 4);
        }
        let deleted = world.run_until_crash(async {
            let env = world.env(0);
            let store = open(&env, &small_segments()).await;
            append(&store, 10, 10_000, 0).await;
            store.delete(ID);
            assert!(matches!(store.offsets(ID).await, Err(ReadError::UnknownLog)));
            env.clock().sleep(Duration::from_mins(1)).await;
            assert!(file_names(&env).await.is_empty());
            if seed == 1 {
                store.close().await.unwrap();
            }
        });
        assert!(deleted.is_ok() || seed > 2);
        world.crash_shards();
        world.run(async {
            let env = world.env(0);
            let store = Store::open(env.clone(), config(), |_| true).await.unwrap();
            let report = store.recovered().await;
            assert_eq!(report.damage, [], "seed {seed}");
            if deleted.is_ok() {
                assert!(!store.contains(ID), "seed {seed}");
            }
        });
    }
}
