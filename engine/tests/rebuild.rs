//! Faults and crashes that once lost data, or stopped a start or a close, with logs of many segments, logs that are flushed
//! late, and logs that are rebuilt while their clients go on. Each is reduced to its smallest form.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join;
use millrace_engine::flushes::Flushes;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::{FlushPolicy, LogConfig};
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::producer_state::SequenceError;
use millrace_engine::store::{AppendError, Appended, Store, StoreConfig, TimeQuery};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView, ProducerFields};
use millrace_runtime::sim::{DiskConfig, Failure, Operation, SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, FlushScope};

const EPOCH: LeaderEpoch = LeaderEpoch::new(3);

fn partition(partition: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition }
}

async fn open(env: &SimEnv) -> Store<SimEnv> {
    let config = StoreConfig {
        journal_bytes: RING_BYTES_MIN,
        flush_interval: Duration::from_hours(1),
        ..StoreConfig::at("/data".into())
    };
    Store::open(env.clone(), config, |_| true).await.unwrap()
}

fn policy(flush_policy: FlushPolicy) -> LogConfig {
    LogConfig { flush_policy, segment_bytes: 16 * 1024, retention_age_max: None, ..LogConfig::default() }
}

fn world_of(seed: u64, flush_scope: FlushScope) -> World {
    let disk = DiskConfig { flush_scope, ..DiskConfig::default() };
    World::new(seed, WorldConfig { disk, ..WorldConfig::default() })
}

async fn send(
    store: &Store<SimEnv>,
    id: PartitionId,
    producer: Option<ProducerFields>,
    value_bytes: usize,
) -> Result<Appended, AppendError> {
    let mut builder = BatchBuilder::new(BatchFields { producer, ..BatchFields::default() });
    builder.push(0, None, Some(&vec![7; value_bytes]));
    store.append(id, &BatchView::parse(&builder.build()).unwrap(), EPOCH).await
}

async fn append(store: &Store<SimEnv>, id: PartitionId, value_bytes: usize) {
    send(store, id, None, value_bytes).await.unwrap().ticket.durable().await.unwrap();
}

/// The log end offset of a log that is whole; 0 if there is none.
async fn log_end(store: &Store<SimEnv>, id: PartitionId) -> i64 {
    if !store.contains(id) {
        return 0;
    }
    let offsets = store.offsets(id).await.unwrap();
    let epoch = if offsets.log_end.get() == 0 { LeaderEpoch::new(-1) } else { EPOCH };
    assert_eq!(offsets.leader_epoch, epoch);
    offsets.log_end.get()
}

#[test]
fn rounds_that_were_not_flushed_may_be_lost_in_any_order() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), policy(FlushPolicy::None));
            for _ in 0..12 {
                append(&store, partition(0), 500).await;
            }
        });
        world.crash_shards();
        // A round that is missing in front of others was once taken for damage, and so was a segment of which only the
        // journal knew.
        assert!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }) <= 12);
    }
}

#[test]
fn a_roll_that_is_cut_off_anywhere_loses_nothing() {
    for seed in 0..150 {
        let world = world_of(seed, if seed % 2 == 0 { FlushScope::Device } else { FlushScope::File });
        let acknowledged = Cell::new(0);
        world.faults().crash_after(20 + seed);
        let work = world.run_until_crash(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), policy(FlushPolicy::Commit));
            loop {
                append(&store, partition(0), 6_000).await;
                acknowledged.set(acknowledged.get() + 1);
            }
        });
        work.unwrap_err();
        for _ in 0..3 {
            let end = world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await });
            assert!(end >= acknowledged.get(), "seed {seed}: {end} of {}", acknowledged.get());
            world.kill_shards();
        }
    }
}

#[test]
fn a_store_closes_when_only_the_journal_was_flushed() {
    for seed in 0..40 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), policy(FlushPolicy::None));
            store.create(partition(1), policy(FlushPolicy::Commit));
            append(&store, partition(0), 500).await;
            append(&store, partition(1), 500).await;
            // Without an end the simulator calls this a deadlock.
            store.close().await.unwrap();
        });
    }
}

#[test]
fn what_was_acknowledged_as_written_outlives_a_failing_write() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), policy(FlushPolicy::None));
            for _ in 0..4 {
                append(&store, partition(0), 500).await;
            }
            world.faults().fail_nth(Some(Operation::Write), 1, Failure::Io);
            let failing = send(&store, partition(0), None, 40_000).await;
            if let Ok(appended) = failing {
                assert!(appended.ticket.durable().await.is_err());
            }
            env.clock().sleep(Duration::from_secs(1)).await;
            assert!(log_end(&store, partition(0)).await >= 4, "seed {seed}");
            // What the journal still has of the log's former life must not meet this.
            append(&store, partition(0), 700).await;
            append(&store, partition(0), 40_000).await;
        });
        world.kill_shards();
        assert!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }) >= 6, "seed {seed}");
    }
}

#[test]
fn a_log_whose_making_failed_has_a_durable_name_once_it_is_back() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), policy(FlushPolicy::Commit));
            // The segment has its name; the directory that it lies in has not, for sure.
            world.faults().fail_nth(Some(Operation::SyncDir), 2, Failure::NoSpace);
            if let Ok(appended) = send(&store, partition(0), None, 100).await {
                assert!(appended.ticket.durable().await.is_err());
            }
            env.clock().sleep(Duration::from_secs(10)).await;
            append(&store, partition(0), 100).await;
        });
        world.faults().clear();
        world.crash_shards();
        assert!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }) >= 1, "seed {seed}");
    }
}

#[test]
fn a_log_that_is_opened_again_during_a_flush_keeps_its_own_marks() {
    for seed in 0..100 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), policy(FlushPolicy::None));
            store.create(partition(1), policy(FlushPolicy::Commit));
            append(&store, partition(0), 500).await;
            append(&store, partition(1), 500).await;
            for _ in 0..4 {
                append(&store, partition(0), 500).await;
            }
            // The log is dropped with a flush of it due; the other's round makes that flush while it is opened again.
            world.faults().fail_nth(Some(Operation::Write), 1, Failure::Io);
            let failing = send(&store, partition(0), None, 40_000).await.unwrap();
            assert!(failing.ticket.durable().await.is_err());
            let other = async {
                env.clock().sleep(Duration::from_micros(100 * seed)).await;
                append(&store, partition(1), 500).await;
            };
            let (end, ()) = join(log_end(&store, partition(0)), other).await;
            assert!(end >= 5, "seed {seed}");
        });
    }
}

#[test]
fn a_flush_that_fails_beside_a_round_is_heard_before_the_round_counts() {
    for seed in 0..400 {
        let world = world_of(seed, FlushScope::File);
        let acknowledged = Cell::new(0);
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), policy(FlushPolicy::Commit));
            append(&store, partition(0), 100).await;
            world.faults().fail_nth(Some(Operation::SyncData), 1 + seed % 8, Failure::Io);
            let mut tickets = Vec::new();
            for _ in 0..24 {
                let Ok(appended) = send(&store, partition(0), None, 6_000).await else { break };
                tickets.push(appended.ticket);
                env.clock().sleep(Duration::from_micros(300)).await;
            }
            for ticket in tickets {
                acknowledged.set(acknowledged.get() + i64::from(ticket.durable().await.is_ok()));
            }
        });
        world.faults().clear();
        world.crash_shards();
        let end = world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await });
        assert!(end > acknowledged.get(), "seed {seed}: {end} of {}", acknowledged.get() + 1);
    }
}

#[test]
fn a_batch_does_not_overtake_those_that_were_lost() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), policy(FlushPolicy::Commit));
            append(&store, partition(0), 100).await;
            let producer = |base_sequence| Some(ProducerFields { id: 9, epoch: 0, base_sequence });
            world.faults().fail_nth(Some(Operation::Write), 1, Failure::Io);
            let first = send(&store, partition(0), producer(0), 40_000).await.unwrap();
            first.ticket.durable().await.unwrap_err();
            env.clock().sleep(Duration::from_secs(1)).await;
            // The second was on its way when the first failed. It may come in only if the first one is there after all.
            match send(&store, partition(0), producer(1), 100).await {
                Err(AppendError::Sequence(SequenceError::OutOfOrder { found: 1, expected: 0 })) => {}
                Err(error) => panic!("seed {seed}: {error}"),
                Ok(second) => assert!(second.base_offset.get() == 2, "seed {seed}: before the first one"),
            }
            let first = send(&store, partition(0), producer(0), 40_000).await.unwrap();
            assert_eq!(first.base_offset.get(), 1, "seed {seed}");
        });
    }
}

#[test]
fn deleted_records_stay_deleted_whatever_is_known_of_the_log() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), policy(FlushPolicy::Commit));
            append(&store, partition(0), 500).await;
        });
        world.crash_shards();
        world.run(async {
            let store = open(&world.env(0)).await;
            assert_eq!(store.delete_records(partition(0), Offset::new(1)).await.unwrap().get(), 1);
        });
        // What the journal says of the start is to outlive the journal.
        for _ in 0..3 {
            world.crash_shards();
            let start = world.run(async { open(&world.env(0)).await.offsets(partition(0)).await.unwrap().start });
            assert_eq!(start.get(), 1, "seed {seed}");
        }
    }
}

/// A round that is one write is durable by itself, and makes nothing durable that was written before it.
#[test]
fn a_durable_write_is_no_flush_of_what_was_written_before() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        let large = LogConfig { segment_bytes: 1 << 30, ..policy(FlushPolicy::None) };
        world.run(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), large);
            store.create(partition(1), policy(FlushPolicy::Commit));
            // Segments that are made are flushed, and everything with them.
            append(&store, partition(0), 100).await;
            append(&store, partition(1), 100).await;
            // To the journal, or to the segment.
            append(&store, partition(0), if seed % 2 == 0 { 10_000 } else { 40_000 }).await;
            // The second says in the journal how far the first log is durable.
            append(&store, partition(1), 100).await;
            append(&store, partition(1), 100).await;
        });
        world.crash_shards();
        world.run(async {
            let store = open(&world.env(0)).await;
            assert_eq!(log_end(&store, partition(1)).await, 3, "seed {seed}");
            assert!(store.offsets(partition(0)).await.is_ok(), "seed {seed}: no damage, whatever was lost");
        });
    }
}

#[test]
fn a_file_that_grew_without_a_flush_is_filled_again() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        let config = LogConfig { segment_bytes: 1 << 30, ..policy(FlushPolicy::Commit) };
        world.run(async {
            let store = open(&world.env(0)).await;
            store.create(partition(0), config.clone());
            append(&store, partition(0), 34_000).await;
            // More than what is filled ahead. The file is made longer first, and then filled.
            world.faults().fail_nth(Some(Operation::Write), 1, Failure::NoSpace);
            let failing = send(&store, partition(0), None, 200_000).await.unwrap();
            assert!(failing.ticket.durable().await.is_err());
            assert_eq!(log_end(&store, partition(0)).await, 1);
            store.close().await.unwrap();
        });
        world.kill_shards();
        world.run(async { append(&open(&world.env(0)).await, partition(0), 34_000).await });
        world.crash_shards();
        assert_eq!(world.run(async { log_end(&open(&world.env(0)).await, partition(0)).await }), 2, "seed {seed}");
    }
}

#[test]
fn records_of_a_log_that_failed_while_its_start_moved_can_be_deleted() {
    for seed in 0..60 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.create(partition(0), policy(FlushPolicy::Commit));
            for _ in 0..4 {
                append(&store, partition(0), 500).await;
            }
            world.faults().fail_nth(Some(Operation::Write), 1, Failure::Io);
            let failing = send(&store, partition(0), None, 40_000).await.unwrap();
            env.clock().sleep(Duration::from_micros(20 * seed)).await;
            let first = store.delete_records(partition(0), Offset::new(1)).await;
            assert!(failing.ticket.durable().await.is_err());
            env.clock().sleep(Duration::from_secs(1)).await;
            // Without an end the simulator calls this a livelock.
            let second = store.delete_records(partition(0), Offset::new(2)).await;
            assert_eq!(second.unwrap().get(), 2, "seed {seed}, after {first:?}");
        });
        world.crash_shards();
        let start = world.run(async { open(&world.env(0)).await.offsets(partition(0)).await.unwrap().start });
        assert_eq!(start.get(), 2, "seed {seed}");
    }
}

#[test]
fn a_start_is_not_durable_before_the_records_below_it() {
    let mut lost = 0;
    for seed in 0..300 {
        let world = World::new(seed, WorldConfig::default());
        world.faults().crash_after(57 + seed % 3);
        let crashed = world.run_until_crash(async {
            let store = open(&world.env(0)).await;
            let one_segment = LogConfig { segment_bytes: 1 << 20, ..policy(FlushPolicy::None) };
            store.create(partition(0), one_segment);
            for _ in 0..8 {
                append(&store, partition(0), 50_000).await;
            }
            store.delete_records(partition(0), Offset::new(8)).await.unwrap();
            std::future::pending::<()>().await;
        });
        assert!(crashed.is_err());
        world.faults().clear();
        // What is appended now has the offsets of records that were lost. It was never deleted.
        let start = world.run(async {
            let store = open(&world.env(0)).await;
            if !store.contains(partition(0)) {
                return None;
            }
            let offsets = store.offsets(partition(0)).await.unwrap();
            lost += u32::from(offsets.log_end.get() < 8);
            store.create(partition(0), policy(FlushPolicy::Commit));
            for _ in 0..8 {
                append(&store, partition(0), 100).await;
            }
            Some(offsets.start)
        });
        world.crash_shards();
        let found = world.run(async {
            let store = open(&world.env(0)).await;
            if start.is_some() { Some(store.offsets(partition(0)).await.unwrap().start) } else { None }
        });
        assert_eq!(found, start, "seed {seed}");
    }
    assert!(lost > 10, "{lost} of the crashes took records along");
}

#[test]
fn a_query_by_time_finds_no_deleted_record() {
    let world = World::new(1, WorldConfig::default());
    world.run(async {
        let store = open(&world.env(0)).await;
        store.create(partition(0), policy(FlushPolicy::Commit));
        let mut builder = BatchBuilder::new(BatchFields::default());
        for timestamp in [5, 9, 7] {
            builder.push(timestamp, None, None);
        }
        let bytes = builder.build();
        for _ in 0..2 {
            let appended = store.append(partition(0), &BatchView::parse(&bytes).unwrap(), EPOCH).await.unwrap();
            appended.ticket.durable().await.unwrap();
        }
        store.delete_records(partition(0), Offset::new(2)).await.unwrap();
        for (timestamp, expected) in [(0, 2), (7, 2), (8, 4), (9, 4)] {
            let found = store.offset_by_time(partition(0), TimeQuery::AtOrAfter(timestamp)).await.unwrap();
            assert_eq!(found.map(|found| found.offset.get()), Some(expected), "at or after {timestamp}");
        }
    });
}

#[test]
fn logs_that_wait_for_their_turn_when_their_shard_fails_keep_what_they_have() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        world.run(async {
            let store = open(&world.env(0)).await;
            // More than are prepared at a time.
            let logs = 0..120;
            for id in logs.clone() {
                store.create(partition(id), LogConfig { retention_age_max: None, ..LogConfig::default() });
            }
            futures_util::future::join_all(logs.clone().map(|id| append(&store, partition(id), 30_000))).await;
            world.faults().fail_nth(Some(Operation::SyncData), 1 + seed % 4, Failure::Io);
            let larger = logs.clone().map(async |id| {
                if let Ok(appended) = send(&store, partition(id), None, 60_000).await {
                    drop(appended.ticket.durable().await);
                }
            });
            futures_util::future::join_all(larger).await;
            world.env(0).clock().sleep(Duration::from_secs(1)).await;
            // A task of the failed life once made the log's first segment in the place of the one that was there.
            for id in logs {
                assert!(log_end(&store, partition(id)).await >= 1, "seed {seed}, log {id}");
            }
        });
    }
}

/// Opens the stores of two shards over one directory. Each has the log whose partition is its index.
async fn open_shards(world: &World) -> Vec<Store<SimEnv>> {
    let flushes = Flushes::new(2);
    let open = |shard_index: u16| {
        let (env, flushes) = (world.env(shard_index), flushes.clone());
        async move {
            let config = StoreConfig {
                journal_bytes: RING_BYTES_MIN,
                shard_index,
                shard_count: 2,
                flushes,
                ..StoreConfig::at("/data".into())
            };
            let owned = move |id: PartitionId| id.partition == i32::from(shard_index);
            let store = Store::open(env, config, owned).await.unwrap();
            store.create(partition(i32::from(shard_index)), policy(FlushPolicy::Commit));
            store
        }
    };
    let (first, second) = join(open(0), open(1)).await;
    vec![first, second]
}

#[test]
fn a_flush_that_fails_is_heard_by_every_shard_of_the_device() {
    let ids = [partition(0), partition(1)];
    let mut refused = [0, 0];
    for seed in 0..300 {
        let world = world_of(seed, FlushScope::Device);
        let acknowledged = [Cell::new(0), Cell::new(0)];
        world.run(async {
            let stores = open_shards(&world).await;
            for (store, id) in stores.iter().zip(ids) {
                append(store, id, 500).await;
            }
            world.faults().fail_nth(Some(Operation::SyncData), 1 + seed % 12, Failure::Io);
            let work = |shard: usize, value_bytes| {
                let (store, env, end) = (&stores[shard], world.env(0), &acknowledged[shard]);
                async move {
                    let mut refused = 0;
                    for _ in 0..12 {
                        let durable = match send(store, ids[shard], None, value_bytes).await {
                            Ok(appended) => {
                                appended.ticket.durable().await.map(|()| appended.base_offset.get() + 1).ok()
                            }
                            Err(_) => None,
                        };
                        if let Some(durable) = durable {
                            end.set(durable);
                        } else {
                            refused += 1;
                            env.clock().sleep(Duration::from_millis(1)).await;
                        }
                    }
                    refused
                }
            };
            let counts = join(work(0, 500), work(1, 40_000)).await;
            refused = [refused[0] + counts.0, refused[1] + counts.1];
            // One failure takes each shard offline once, and no longer.
            world.env(0).clock().sleep(Duration::from_secs(5)).await;
            for (store, id) in stores.iter().zip(ids) {
                append(store, id, 500).await;
            }
        });
        world.faults().clear();
        world.crash_shards();
        world.run(async {
            let stores = open_shards(&world).await;
            for shard in 0..2 {
                let (end, acknowledged) = (log_end(&stores[shard], ids[shard]).await, acknowledged[shard].get());
                assert!(end > acknowledged, "seed {seed}, shard {shard}: {end} of {}", acknowledged + 1);
            }
        });
    }
    assert!(refused.iter().all(|refused| *refused > 100), "both shards heard of it: {refused:?}");
}
