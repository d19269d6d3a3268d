//! Truncating logs that others use at the same time, that were compacted, and whose producers go on.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::rc::Rc;
use std::time::Duration;

use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::{CleanupPolicy, FlushPolicy, LogConfig};
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{Appended, FirstBatch, ReadError, Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView, ProducerFields};
use millrace_runtime::local::Event;
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env};

const ID: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };

async fn open(env: &SimEnv, log: LogConfig) -> Store<SimEnv> {
    let interval = Duration::from_secs(1);
    let config = StoreConfig {
        journal_bytes: RING_BYTES_MIN,
        compaction_interval: interval,
        retention_interval: interval,
        ..StoreConfig::at("/data".into())
    };
    let store = Store::open(env.clone(), config, |_| true).await.unwrap();
    store.create(ID, log);
    store
}

fn small_segments() -> LogConfig {
    LogConfig { segment_bytes: 16 * 1024, retention_age_max: None, ..LogConfig::default() }
}

fn compacted() -> LogConfig {
    LogConfig { cleanup_policy: CleanupPolicy::Compact, dirty_permille_min: 100, ..small_segments() }
}

async fn send(store: &Store<SimEnv>, key: i64, epoch: i32, producer: Option<ProducerFields>) -> Appended {
    let mut builder = BatchBuilder::new(BatchFields { producer, ..BatchFields::default() });
    builder.push(0, Some(&key.to_be_bytes()), Some(&[7; 1000]));
    store.append(ID, &BatchView::parse(&builder.build()).unwrap(), LeaderEpoch::new(epoch)).await.unwrap()
}

async fn truncate(store: &Store<SimEnv>, to: i64) -> i64 {
    store.truncate(ID, Offset::new(to)).await.unwrap().get()
}

/// Offset and epoch of each record that can be read.
async fn read_all(store: &Store<SimEnv>) -> Vec<(i64, i32)> {
    let (mut records, mut from) = (Vec::new(), store.offsets(ID).await.unwrap().start);
    loop {
        let read = store.read(ID, from, 20_000, FirstBatch::WholeEvenIfLarger).await.unwrap();
        if read.bytes == 0 {
            return records;
        }
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let batch = BatchView::parse(rest).unwrap();
            let epoch = batch.header().leader_epoch.get();
            records.extend(batch.records().unwrap().map(|record| (record.unwrap().offset, epoch)));
            rest = &rest[batch.bytes().len()..];
            from = Offset::new(batch.header().last_offset() + 1);
        }
    }
}

/// Checks every answer about epochs against the epochs that the records from offset 0 on were appended in.
async fn check_epochs(store: &Store<SimEnv>, start: i64, appended: &[i32]) {
    let end = i64::try_from(appended.len()).unwrap();
    let records: Vec<_> = (0..).zip(appended.iter().copied()).filter(|(offset, _)| *offset >= start).collect();
    for asked in 0..appended.last().unwrap() + 2 {
        let later = records.iter().find(|(_, epoch)| *epoch > asked).map_or(end, |(offset, _)| *offset);
        let largest = records.iter().rev().find(|(_, epoch)| *epoch <= asked).map_or(asked, |(_, epoch)| *epoch);
        let found = store.epoch_end_offset(ID, LeaderEpoch::new(asked)).await.unwrap().unwrap();
        let found = (found.leader_epoch.get(), found.end_offset.get());
        assert_eq!(found, (largest, later), "epoch {asked} of {start}..{end}");
    }
}

/// Compaction takes away most batches that epochs begin with, and the truncation falls into what it left.
#[test]
fn a_compacted_log_is_cut_and_knows_where_its_epochs_began() {
    for (seed, to) in (0..).zip([0, 1, 5, 16, 63, 64, 65, 66, 67, 100, 150, 185, 188, 189]) {
        let world = World::new(seed, WorldConfig::default());
        let mut epochs: Vec<i32> = (0..190).map(|number| 2 * (number / 11)).collect();
        let mut left = world.run(async {
            let env = world.env(0);
            let store = open(&env, compacted()).await;
            for (number, epoch) in (0..).zip(&epochs) {
                send(&store, number % 3, *epoch, None).await.ticket.durable().await.unwrap();
            }
            env.clock().sleep(Duration::from_secs(10)).await;
            let records = read_all(&store).await;
            assert!(records.len() < 60, "{} of 190 records are left", records.len());
            check_epochs(&store, 0, &epochs).await;
            assert_eq!(truncate(&store, to).await, to, "no batch has more than one record");
            epochs.truncate(usize::try_from(to).unwrap());
            let left: Vec<_> = records.into_iter().filter(|(offset, _)| *offset < to).collect();
            assert_eq!(read_all(&store).await, left, "cut at {to}");
            left
        });
        for life in 0..4 {
            if life % 2 == 0 {
                world.crash_shards();
            } else {
                world.kill_shards();
            }
            world.run(async {
                // From the second life on it is only appended to: what is left is known exactly.
                let store = open(&world.env(0), small_segments()).await;
                assert_eq!(read_all(&store).await, left, "cut at {to}, life {life}");
                for _ in 0..12 {
                    let offset = i64::try_from(epochs.len()).unwrap();
                    let epoch = 40 + i32::try_from(offset / 7).unwrap();
                    let appended = send(&store, 0, epoch, None).await;
                    assert_eq!(appended.base_offset.get(), offset, "cut at {to}");
                    appended.ticket.durable().await.unwrap();
                    epochs.push(epoch);
                    left.push((offset, epoch));
                }
                check_epochs(&store, 0, &epochs).await;
                assert_eq!(store.recovered().await.damage, [], "cut at {to}");
            });
        }
    }
}

#[test]
fn epochs_begin_where_the_log_starts_after_compaction_and_deletion() {
    let world = World::new(5, WorldConfig::default());
    let epochs: Vec<i32> = (0..190).map(|number| number / 20).collect();
    world.run(async {
        let env = world.env(0);
        let store = open(&env, compacted()).await;
        for (number, epoch) in (0..).zip(&epochs) {
            send(&store, number % 3, *epoch, None).await.ticket.durable().await.unwrap();
        }
        env.clock().sleep(Duration::from_secs(10)).await;
        for start in [1, 19, 20, 21, 90, 185, 189] {
            store.delete_records(ID, Offset::new(start)).await.unwrap();
            env.clock().sleep(Duration::from_secs(2)).await;
            check_epochs(&store, start, &epochs).await;
        }
    });
    world.kill_shards();
    world.run(async {
        let store = open(&world.env(0), compacted()).await;
        check_epochs(&store, 189, &epochs).await;
        store.delete_records(ID, Offset::new(190)).await.unwrap();
        assert_eq!(store.epoch_end_offset(ID, LeaderEpoch::new(9)).await.unwrap(), None, "no record is left");
    });
}

/// Appends, reads, queries, deletions and truncations of one log all at once: each is answered, and what an append was told
/// to be durable is there unless a truncation took it.
#[test]
fn others_may_go_on_while_a_log_is_cut() {
    for seed in 0..40 {
        let policy = [FlushPolicy::Commit, FlushPolicy::Interval][usize::try_from(seed % 2).unwrap()];
        let world = World::new(seed, WorldConfig::default());
        let end = world.run(async {
            let env = world.env(0);
            let store = open(&env, LogConfig { flush_policy: policy, ..small_segments() }).await;
            for _ in 0..30 {
                send(&store, 0, 0, None).await.ticket.durable().await.unwrap();
            }
            let woken = Rc::new(Event::default());
            let version = woken.version();
            assert!(!store.watch(ID, Offset::new(1_000), &woken));
            let unsettled: Vec<_> = futures_util::future::join_all((0..5).map(|_| send(&store, 0, 0, None))).await;
            let appends = async {
                for _ in 0..40 {
                    send(&store, 0, 0, None).await.ticket.durable().await.unwrap();
                }
            };
            let reads = async {
                for from in (0..80).map(|step| Offset::new(step / 2)) {
                    match store.read(ID, from, 5_000, FirstBatch::WholeEvenIfLarger).await {
                        Ok(_) | Err(ReadError::OffsetOutOfRange(_)) => {}
                        Err(error) => panic!("seed {seed}: {error}"),
                    }
                    store.epoch_end_offset(ID, LeaderEpoch::new(0)).await.unwrap();
                }
            };
            let cuts = async {
                for to in [28, 20, 24, 11] {
                    assert!(truncate(&store, to).await <= to, "seed {seed}");
                    env.clock().sleep(Duration::from_millis(3)).await;
                }
            };
            let other_cut = async {
                let end = truncate(&store, 22).await;
                assert!(end <= 22, "seed {seed}: {end}");
            };
            futures_util::join!(appends, reads, cuts, other_cut, woken.changed(version));
            for appended in unsettled {
                appended.ticket.durable().await.unwrap();
            }
            let offsets = store.offsets(ID).await.unwrap();
            let records = read_all(&store).await;
            assert_eq!(
                records,
                (0..offsets.log_end.get()).map(|offset| (offset, 0)).collect::<Vec<_>>(),
                "seed {seed}"
            );
            store.close().await.unwrap();
            offsets.log_end.get()
        });
        world.crash_shards();
        world.run(async {
            let store = open(&world.env(0), small_segments()).await;
            assert_eq!(read_all(&store).await.len(), usize::try_from(end).unwrap(), "seed {seed}");
        });
    }
}

#[test]
fn producers_go_on_behind_what_is_left_of_them() {
    let world = World::new(9, WorldConfig::default());
    let numbered = |base_sequence| Some(ProducerFields { id: 4, epoch: 0, base_sequence });
    world.run(async {
        let store = open(&world.env(0), small_segments()).await;
        for sequence in 0..10 {
            send(&store, 0, 0, numbered(sequence)).await.ticket.durable().await.unwrap();
        }
        assert_eq!(truncate(&store, 6).await, 6);
        // What was cut is not taken for a duplicate, what is left is.
        for sequence in 6..9 {
            assert_eq!(send(&store, 0, 1, numbered(sequence)).await.base_offset.get(), i64::from(sequence));
        }
        assert_eq!(send(&store, 0, 1, numbered(5)).await.base_offset.get(), 5, "a duplicate");
        assert_eq!(truncate(&store, 0).await, 0);
        // Of a producer of which nothing is left, nothing is known.
        assert_eq!(send(&store, 0, 2, numbered(77)).await.base_offset.get(), 0);
        let unknown = PartitionId { partition: 9, ..ID };
        assert_eq!(store.truncate(unknown, Offset::ZERO).await, Err(ReadError::UnknownLog));
        store.create(unknown, small_segments());
        assert_eq!(store.truncate(unknown, Offset::new(5)).await, Ok(Offset::ZERO), "nothing was appended");
    });
}

/// Offsets above a cut are given to other batches: a state that was saved of the old ones would pass for theirs.
#[test]
fn no_saved_state_tells_of_more_than_is_left() {
    let world = World::new(3, WorldConfig::default());
    let saved = || {
        let names = world.disk().files().into_iter();
        let offsets = names.filter_map(|name| name.strip_suffix(".producers")?.rsplit('/').next()?.parse::<i64>().ok());
        offsets.max()
    };
    world.run(async {
        let env = world.env(0);
        let store = open(&env, small_segments()).await;
        for sequence in 0..40 {
            let producer = Some(ProducerFields { id: 4, epoch: 0, base_sequence: sequence });
            send(&store, 0, 0, producer).await.ticket.durable().await.unwrap();
        }
        env.clock().sleep(Duration::from_secs(2)).await;
        let before = saved().unwrap();
        assert!(before > 15, "a state was saved at {before}");
        assert_eq!(truncate(&store, before - 1).await, before - 1);
        assert!(saved().is_none_or(|offset| offset < before), "the state at {before} is still there");
    });
}
