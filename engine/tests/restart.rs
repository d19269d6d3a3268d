//! Crashes and faults that once lost data or stopped a start, each reduced to its smallest form.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::cell::Cell;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join;
use millrace_engine::flushes::Flushes;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::recovery::redistribute;
use millrace_engine::store::{FirstBatch, ReadError, Store, StoreConfig, TimeQuery};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{Failure, Operation, SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, Random, Tasks};

const DIRECTORY: &str = "/srv/broker/data";

async fn open(env: &SimEnv) -> Store<SimEnv> {
    Store::open(env.clone(), config(), |_| true).await.unwrap()
}

fn config() -> StoreConfig {
    StoreConfig {
        journal_bytes: RING_BYTES_MIN,
        round_bytes_max: 1024 * 1024,
        write_buffer_bytes_max: 1024 * 1024,
        tail_cache_bytes_max: 1024 * 1024,
        ..StoreConfig::at(Path::new(DIRECTORY).to_owned())
    }
}

fn partition(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition }
}

fn batch(value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(0, None, Some(&vec![7; value_bytes]));
    builder.build()
}

async fn append(store: &Store<SimEnv>, id: PartitionId, value_bytes: usize) {
    let bytes = batch(value_bytes);
    let appended = store.append(id, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
    appended.ticket.durable().await.unwrap();
}

/// The log end offset of a log that was recovered and found whole.
async fn log_end(store: &Store<SimEnv>, id: PartitionId) -> i64 {
    let offsets = store.offsets(id).await;
    assert_eq!(store.failure(id), None);
    offsets.unwrap().log_end.get()
}

#[test]
fn the_data_directory_survives_when_its_parents_are_new() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), LogConfig::default());
            append(&store, partition(0), 100).await;
        });
        world.crash_shards();
        assert_eq!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }), 1);
    }
}

#[test]
fn names_that_a_killed_process_left_are_made_durable_before_they_are_relied_on() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        let name = format!("{DIRECTORY}/logs/{}/00000000000000000000.log", partition(0).directory_name());
        let (machine, disk) = (world.machine(0), world.disk());
        // Killed as soon as the segment has its name, which is not durable yet.
        let _ = world.run_until_crash(async {
            let store = open(&machine.env(0)).await;
            store.create(partition(0), LogConfig::default());
            let bytes = batch(100);
            let _ticket = store.append(partition(0), &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await;
            loop {
                if disk.files().contains(&name) {
                    machine.kill();
                }
                machine.env(0).tasks().yield_now().await;
            }
        });
        let end = world.run(async {
            let store = open(&world.env(0)).await;
            append(&store, partition(0), 100).await;
            log_end(&store, partition(0)).await
        });
        world.crash_shards();
        assert_eq!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }), end, "seed {seed}");
    }
}

#[test]
fn a_round_may_be_torn_where_it_overwrites_rounds_that_were_let_go() {
    for seed in 0..400 {
        let world = World::new(seed, WorldConfig::default());
        world.faults().crash_after(60 + seed % 200);
        let work = world.run_until_crash(async {
            let store = open(&world.env(0)).await;
            for id in (0..3).map(partition) {
                store.create(id, LogConfig::default());
            }
            loop {
                futures_util::join!(
                    append(&store, partition(0), 20_000),
                    append(&store, partition(1), 20_000),
                    append(&store, partition(2), 20_000),
                );
            }
        });
        work.unwrap_err();
        // An error here was a false report of damage.
        world.run(async { drop(open(&world.env(0)).await) });
    }
}

#[test]
fn a_checkpoint_does_not_let_go_of_the_round_under_way() {
    // One log fills the journal with notes of its segment writes; now and then another log has a piece in it.
    for seed in 0..200 {
        let world = World::new(seed, WorldConfig::default());
        let acknowledged = Cell::new(0);
        world.faults().crash_after(300 + 3 * seed);
        let work = world.run_until_crash(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), LogConfig::default());
            store.create(partition(1), LogConfig::default());
            let large = async {
                loop {
                    append(&store, partition(0), 40_000).await;
                }
            };
            let small = async {
                loop {
                    env.clock().sleep(Duration::from_millis(env.random().below(60))).await;
                    append(&store, partition(1), 100).await;
                    acknowledged.set(acknowledged.get() + 1);
                }
            };
            futures_util::join!(large, small)
        });
        work.unwrap_err();
        let end = world.run(async {
            let store = open(&world.env(0)).await;
            if store.contains(partition(1)) { log_end(&store, partition(1)).await } else { 0 }
        });
        assert!(end >= acknowledged.get(), "seed {seed}: {end} of {}", acknowledged.get());
    }
}

#[test]
fn a_journal_whose_making_failed_is_made_again() {
    for seed in 0..100 {
        let world = World::new(seed, WorldConfig::default());
        world.faults().fail_nth(Some(Operation::SyncData), 1 + seed % 3, Failure::Io);
        let failed = world.run(async { Store::open(world.env(0), config(), |_| true).await.is_err() });
        assert!(failed, "the sync of a start failed");
        world.kill_shards();
        world.run(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), LogConfig::default());
            append(&store, partition(0), 100).await;
        });
        world.crash_shards();
        assert_eq!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }), 1, "seed {seed}");
    }
}

#[test]
fn nobody_waits_for_a_log_that_went_offline() {
    for seed in 0..40 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), LogConfig::default());
            let bytes = vec![batch(700_000), batch(700_000)];
            world.faults().fail_nth(Some(Operation::Allocate), 1, Failure::NoSpace);
            for bytes in &bytes {
                drop(store.append(partition(0), &BatchView::parse(bytes).unwrap(), LeaderEpoch::new(0)).await);
            }
            // Without an answer the simulator calls this a deadlock.
            futures_util::join!(store.room(), async { store.clone().close().await.unwrap() });
        });
    }
}

#[test]
fn a_log_made_on_an_offline_shard_is_offline() {
    let world = World::new(3, WorldConfig::default());
    world.run(async {
        let store = open(&world.env(0)).await;
        store.create(partition(0), LogConfig::default());
        append(&store, partition(0), 100).await;
        world.faults().fail_nth(Some(Operation::SyncData), 1, Failure::Io);
        let bytes = batch(100);
        let batch = BatchView::parse(&bytes).unwrap();
        let appended = store.append(partition(0), &batch, LeaderEpoch::new(0)).await.unwrap();
        appended.ticket.durable().await.unwrap_err();
        store.create(partition(1), LogConfig::default());
        assert!(store.append(partition(1), &batch, LeaderEpoch::new(0)).await.is_err());
    });
    world.crash_shards();
    // A round behind a failed one would have made the start refuse the journal.
    assert!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }) >= 1);
}

#[test]
fn damage_is_still_reported_after_another_shard_count() {
    let world = World::new(5, WorldConfig::default());
    world.run(async {
        let store = open(&world.env(0)).await;
        store.create(partition(0), LogConfig::default());
        append(&store, partition(0), 40_000).await;
        append(&store, partition(0), 40_000).await;
        store.close().await.unwrap();
    });
    world.kill_shards();
    let name = format!("{DIRECTORY}/logs/{}/00000000000000000000.log", partition(0).directory_name());
    world.disk().flip_bit(name, 50_000, 3);
    for shard_count in [2, 1] {
        world.run(async {
            let changed = redistribute(&world.env(0), Path::new(DIRECTORY), shard_count).await;
            assert!(changed.unwrap().is_some());
            let config = StoreConfig { shard_count, flushes: Flushes::new(shard_count), ..config() };
            let store = Store::open(world.env(0), config, |_| true).await.unwrap();
            // After a stop in order nothing is read before it is used.
            assert!(store.offsets(partition(0)).await.is_err());
            assert_eq!(store.recovered().await.damage.len(), 1);
            assert!(store.failure(partition(0)).is_some());
        });
        world.kill_shards();
    }
}

#[test]
fn a_change_of_the_shard_count_that_was_cut_off_may_be_taken_back() {
    let number = |id: PartitionId| u16::try_from(id.partition).unwrap();
    for seed in 0..80 {
        let world = World::new(seed, WorldConfig::default());
        for (round, shard_count) in [3, 1, 3].into_iter().enumerate() {
            // The second start, the one with another count, is cut off at each of its operations.
            if round == 1 {
                world.faults().crash_after(1 + seed);
            }
            let started = world.run_until_crash(async {
                let owner = |id: PartitionId| number(id) % shard_count;
                redistribute(&world.env(0), Path::new(DIRECTORY), shard_count).await.unwrap();
                if round == 1 {
                    return;
                }
                let flushes = Flushes::new(shard_count);
                for shard_index in 0..shard_count {
                    let flushes = flushes.clone();
                    let config = StoreConfig { shard_index, shard_count, flushes, ..config() };
                    let opened = Store::open(world.env(shard_index), config, |id| owner(id) == shard_index).await;
                    let (store, id) = (opened.unwrap(), partition(i32::from(shard_index)));
                    store.create(id, LogConfig::default());
                    for _ in 0..3 {
                        append(&store, id, 20_000).await;
                    }
                    let expected = if round == 0 { 3 } else { 6 };
                    assert_eq!(log_end(&store, id).await, expected, "seed {seed}, shard {shard_index}");
                }
            });
            assert!(round == 1 || started.is_ok());
            world.crash_shards();
        }
    }
}

#[test]
fn damage_under_a_running_store_ends_reads_with_an_error() {
    let world = World::new(7, WorldConfig::default());
    // Nothing of it stays in memory but the partial last block.
    let uncached = StoreConfig { read_cache_bytes_max: 0, ..config() };
    world.run(async {
        let store = open(&world.env(0)).await;
        store.create(partition(0), LogConfig::default());
        for _ in 0..3 {
            append(&store, partition(0), 1000).await;
        }
        append(&store, partition(0), 9000).await;
        store.close().await.unwrap();
    });
    let bytes = i32::try_from(batch(1000).len()).unwrap();
    let name = format!("{DIRECTORY}/logs/{}/00000000000000000000.log", partition(0).directory_name());
    // The second batch's length: it ends in the middle of the third, in the middle of itself, before itself.
    for damaged in [2 * bytes - 12 - 30, 20, -100] {
        let read_all = world.run(async {
            let store = Store::open(world.env(0), uncached.clone(), |_| true).await.unwrap();
            let read = async |from| {
                let read = store.read(partition(0), Offset::new(from), 1, FirstBatch::WholeEvenIfLarger).await;
                read.map(|read| read.bytes)
            };
            assert_eq!(read(0).await, Ok(batch(1000).len()));
            let place = 4096 + u64::try_from(bytes).unwrap() + 8;
            world.disk().corrupt(&name, place, &damaged.to_be_bytes());
            let outcomes = (read(2).await, store.offset_by_time(partition(0), TimeQuery::AtOrAfter(1)).await);
            world.disk().corrupt(&name, place, &(bytes - 12).to_be_bytes());
            store.close().await.unwrap();
            outcomes
        });
        assert!(matches!(read_all.0, Err(ReadError::Corrupt(_))), "{read_all:?}");
    }
}

/// A store with two batches of two records, and where in its segment the second one's base offset stands.
async fn two_batches(env: &SimEnv) -> (Store<SimEnv>, u64) {
    let store = open(env).await;
    store.create(partition(0), LogConfig::default());
    let mut builder = BatchBuilder::new(BatchFields::default());
    (0..2).for_each(|_| builder.push(0, None, Some(b"value")));
    let bytes = builder.build();
    for _ in 0..2 {
        let batch = BatchView::parse(&bytes).unwrap();
        let appended = store.append(partition(0), &batch, LeaderEpoch::new(0)).await.unwrap();
        appended.ticket.durable().await.unwrap();
    }
    (store, 4096 + u64::try_from(bytes.len()).unwrap())
}

#[test]
fn a_deleted_log_stays_deleted_over_any_number_of_starts() {
    for seed in 0..40 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), LogConfig::default());
            append(&store, partition(0), 100).await;
            // The last checkpoint may still name the log.
            let delete = async {
                env.clock().sleep(Duration::from_micros(50 * seed)).await;
                store.delete(partition(0));
            };
            join(store.clone().close(), delete).await.0.unwrap();
        });
        // At the first start the directory may still be there; it is asked for once more then, as a broker does.
        let mut is_gone = false;
        for _ in 0..4 {
            world.crash_shards();
            world.run(async {
                let env = world.env(0);
                let store = open(&env).await;
                let is_there = store.contains(partition(0));
                assert!(!(is_gone && is_there), "seed {seed}: was gone, and is back");
                is_gone = !is_there;
                store.delete(partition(0));
                env.clock().sleep(Duration::from_secs(1)).await;
            });
        }
        assert!(is_gone, "seed {seed}");
    }
}

#[test]
fn a_base_offset_may_be_any_number() {
    // No checksum covers it.
    let name = format!("{DIRECTORY}/logs/{}/00000000000000000000.log", partition(0).directory_name());
    for base_offset in [i64::MIN, -1, i64::MAX] {
        let world = World::new(9, WorldConfig::default());
        let read = world.run(async {
            let (store, second) = two_batches(&world.env(0)).await;
            store.close().await.unwrap();
            let store = open(&world.env(0)).await;
            assert_eq!(log_end(&store, partition(0)).await, 4);
            world.disk().corrupt(&name, second, &base_offset.to_be_bytes());
            let read = store.read(partition(0), Offset::new(1), 1 << 20, FirstBatch::WholeEvenIfLarger).await;
            read.map(|read| read.bytes)
        });
        assert!(read.is_ok_and(|bytes| bytes > 0), "{base_offset}");

        let world = World::new(9, WorldConfig::default());
        let second = world.run(async { two_batches(&world.env(0)).await.1 });
        world.crash_shards();
        // The first start brings both batches from the journal to the segment, and notes where the log ends.
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.recovered().await;
            env.clock().sleep(Duration::from_millis(100)).await;
            assert_eq!(log_end(&store, partition(0)).await, 4);
        });
        world.kill_shards();
        world.disk().corrupt(&name, second, &base_offset.to_be_bytes());
        world.run(async {
            let store = open(&world.env(0)).await;
            assert_eq!(store.recovered().await.damage.len(), 1, "{base_offset}");
        });
    }
}
