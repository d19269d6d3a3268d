//! Reads of records that are not in memory any more: by way of the cache, never stale, and never damaged.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::time::Duration;

use futures_util::future::join;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::{CleanupPolicy, LogConfig};
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::read_cache::CHUNK_BYTES;
use millrace_engine::store::{FirstBatch, Read, ReadError, Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env};

const DIRECTORY: &str = "/data";
const ID: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };

fn config() -> StoreConfig {
    StoreConfig { journal_bytes: RING_BYTES_MIN, tail_cache_bytes_max: 0, ..StoreConfig::at(DIRECTORY.into()) }
}

fn forever(segment_bytes: u64) -> LogConfig {
    LogConfig { segment_bytes, retention_age_max: None, ..LogConfig::default() }
}

async fn open(env: &SimEnv, config: StoreConfig, log: LogConfig) -> Store<SimEnv> {
    let store = Store::open(env.clone(), config, |_| true).await.unwrap();
    store.create(ID, log);
    store
}

/// Appends batches of one record whose value is its number, repeated.
async fn append(store: &Store<SimEnv>, numbers: std::ops::Range<i64>, value_bytes: usize) {
    for number in numbers {
        let mut builder = BatchBuilder::new(BatchFields::default());
        let value = number.to_le_bytes().repeat(value_bytes / 8);
        builder.push(number, Some(&(number % 7).to_le_bytes()), Some(&value));
        let bytes = builder.build();
        let appended = store.append(ID, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
        assert_eq!(appended.base_offset.get(), number);
        appended.ticket.durable().await.unwrap();
    }
}

fn bytes_of(read: &Read<SimEnv>) -> Vec<u8> {
    read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect()
}

/// The offsets of all records from `from` to the end, each with the value that belongs to it.
async fn read_all(store: &Store<SimEnv>, from: i64, bytes_max: usize) -> Vec<i64> {
    let (mut offsets, mut from) = (Vec::new(), Offset::new(from));
    loop {
        let read = store.read(ID, from, bytes_max, FirstBatch::WholeEvenIfLarger).await.unwrap();
        let bytes = bytes_of(&read);
        assert_eq!(bytes.len(), read.bytes);
        if bytes.is_empty() {
            assert_eq!(from, read.offsets.high_watermark);
            return offsets;
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let batch = BatchView::parse(rest).unwrap();
            rest = &rest[batch.bytes().len()..];
            for record in batch.records().unwrap().map(Result::unwrap) {
                assert!(record.value.unwrap().starts_with(&record.offset.to_le_bytes()));
                offsets.push(record.offset);
            }
            from = Offset::new(batch.header().last_offset() + 1);
        }
    }
}

#[test]
fn a_scan_reads_each_chunk_once_and_mostly_before_it_is_wanted() {
    let world = World::new(1, WorldConfig::default());
    let count = 3_000;
    world.run(async {
        let store = open(&world.env(0), config(), forever(4 << 20)).await;
        append(&store, 0..count, 4_000).await;
        store.close().await.unwrap();
    });
    world.kill_shards();
    world.run(async {
        let store = open(&world.env(0), config(), forever(4 << 20)).await;
        assert_eq!(read_all(&store, 0, 100_000).await, (0..count).collect::<Vec<_>>());
        let counters = store.read_cache_counters();
        let chunks = u64::try_from(4_100 * usize::try_from(count).unwrap() / CHUNK_BYTES).unwrap();
        assert!(counters.loads <= chunks + 6, "{counters:?} for {chunks} chunks");
        let waited = counters.misses - counters.joined;
        assert!(waited <= 15, "read-ahead knows all but the first chunks of a segment: {counters:?}");
        // What fits the cache and was wanted twice is read from memory.
        for _ in 0..3 {
            read_all(&store, count - 300, 100_000).await;
        }
        let before = store.read_cache_counters();
        read_all(&store, count - 300, 100_000).await;
        assert_eq!(store.read_cache_counters().loads, before.loads);
        assert!(store.read_cache_bytes() <= config().read_cache_bytes_max);
    });
}

#[test]
fn a_chunk_that_is_still_being_written_is_never_stale() {
    for seed in 0..12 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let value_bytes = [160, 3_000, 9_000][usize::try_from(seed % 3).unwrap()];
            let cache = [0, CHUNK_BYTES, 32 << 20][usize::try_from(seed / 3 % 3).unwrap()];
            let config = StoreConfig { read_cache_bytes_max: cache, ..config() };
            let store = open(&world.env(0), config, forever(200_000)).await;
            for end in 1..60 {
                append(&store, (end - 1) * 3..end * 3, value_bytes).await;
                let from = end * 3 / 4;
                assert_eq!(read_all(&store, from, 30_000).await, (from..end * 3).collect::<Vec<_>>(), "seed {seed}");
            }
        });
        world.crash_shards();
        world.run(async {
            let store = open(&world.env(0), config(), forever(200_000)).await;
            for end in 60..70 {
                assert_eq!(read_all(&store, 0, 30_000).await, (0..(end - 1) * 3).collect::<Vec<_>>(), "seed {seed}");
                append(&store, (end - 1) * 3..end * 3, 2_000).await;
            }
        });
    }
}

#[test]
fn a_flipped_bit_is_reported_and_reaches_nobody() {
    let world = World::new(3, WorldConfig::default());
    world.run(async {
        let store = open(&world.env(0), config(), forever(100_000)).await;
        append(&store, 0..60, 4_000).await;
        store.close().await.unwrap();
    });
    world.kill_shards();
    let file = format!("{DIRECTORY}/logs/{}/00000000000000000000.log", ID.directory_name());
    let header = 61;
    let content = world.disk().read(&file).unwrap();
    let second = content[4096..].windows(8).position(|bytes| bytes == [0, 0, 0, 0, 0, 0, 0, 1]).unwrap();
    let second = u64::try_from(4096 + second).unwrap();
    // Of offset 1, except for the leader epoch: nothing tells what that should be.
    let places = (0..header).filter(|place| !(12..16).contains(place)).chain([100, 2_000, 4_000]);
    for (number, place) in places.enumerate() {
        let bit = u8::try_from(number % 8).unwrap();
        world.disk().flip_bit(&file, second + place, bit);
        world.run(async {
            let store = open(&world.env(0), config(), forever(100_000)).await;
            for from in [0, 1] {
                let read = store.read(ID, Offset::new(from), 12_000, FirstBatch::WholeEvenIfLarger).await;
                let found = read.as_ref().map(|read| read.bytes);
                assert!(matches!(read, Err(ReadError::Corrupt(_))), "byte {place}, bit {bit}: {found:?}");
            }
            let behind = store.read(ID, Offset::new(2), 12_000, FirstBatch::WholeEvenIfLarger).await;
            // Only a length is needed to get past the batch.
            assert!(behind.is_ok_and(|read| read.bytes > 4_000) || (8..12).contains(&place) || place < 8);
        });
        world.kill_shards();
        world.disk().flip_bit(&file, second + place, bit);
    }
}

#[test]
fn what_is_deleted_leaves_the_cache() {
    let world = World::new(4, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let store = open(&env, config(), forever(100_000)).await;
        append(&store, 0..200, 4_000).await;
        read_all(&store, 0, 100_000).await;
        let before = store.read_cache_bytes();
        assert!(before > 700_000, "{before}");
        store.delete_records(ID, Offset::new(150)).await.unwrap();
        env.clock().sleep(Duration::from_secs(5)).await;
        assert!(store.read_cache_bytes() < before / 2);
        store.delete(ID);
        assert_eq!(store.read_cache_bytes(), 0);
    });
}

#[test]
fn readers_go_on_while_segments_are_compacted() {
    for seed in 0..10 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let log = LogConfig { cleanup_policy: CleanupPolicy::Compact, ..forever(60_000) };
            let config = StoreConfig { compaction_interval: Duration::from_millis(300), ..config() };
            let store = open(&env, config, log).await;
            append(&store, 0..100, 4_000).await;
            let appending = async {
                for number in 100..160 {
                    append(&store, number..number + 1, 4_000).await;
                    env.clock().sleep(Duration::from_millis(100)).await;
                }
            };
            let reading = async {
                let mut fewest = usize::MAX;
                for round in 0..400 {
                    let offsets = read_all(&store, 0, 5_000 + 1_000 * (round % 20)).await;
                    assert!(offsets.is_sorted_by(|first, second| first < second), "seed {seed}: {offsets:?}");
                    fewest = fewest.min(offsets.len());
                    env.clock().sleep(Duration::from_millis(13)).await;
                }
                assert!(fewest < 60, "seed {seed}: {fewest} records are the fewest that were read");
            };
            join(appending, reading).await;
            assert!(store.compaction_failures().is_empty());
        });
    }
}
