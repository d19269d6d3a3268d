//! Compaction in a store: the newest record of each key stays, under crashes at any operation.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::{CleanupPolicy, LogConfig};
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{FirstBatch, Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{Failure, Operation, SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env};

const ID: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
const KEYS: i64 = 40;

async fn open(env: &SimEnv) -> Store<SimEnv> {
    let interval = Duration::from_secs(1);
    let config = StoreConfig {
        journal_bytes: RING_BYTES_MIN,
        compaction_interval: interval,
        retention_interval: interval,
        ..StoreConfig::at("/data".into())
    };
    let store = Store::open(env.clone(), config, |_| true).await.unwrap();
    let log = LogConfig {
        cleanup_policy: CleanupPolicy::Compact,
        segment_bytes: 32 * 1024,
        dirty_permille_min: 100,
        ..LogConfig::default()
    };
    store.create(ID, log);
    store
}

/// Appends records one by one, the n-th with the key n modulo [`KEYS`] and the value n.
async fn append(store: &Store<SimEnv>, numbers: std::ops::Range<i64>) {
    append_keys(store, numbers, |number| number % KEYS).await;
}

async fn append_keys(store: &Store<SimEnv>, numbers: std::ops::Range<i64>, key_of: fn(i64) -> i64) {
    for number in numbers {
        let mut builder = BatchBuilder::new(BatchFields::default());
        let mut value = vec![0; 2_000];
        value[..8].copy_from_slice(&number.to_be_bytes());
        builder.push(0, Some(&key_of(number).to_be_bytes()), Some(&value));
        let bytes = builder.build();
        let appended = store.append(ID, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
        assert_eq!(appended.base_offset.get(), number);
        appended.ticket.durable().await.unwrap();
    }
}

/// Offset, key and number of each record.
async fn read_all(store: &Store<SimEnv>) -> Vec<(i64, i64, i64)> {
    let (mut records, mut from) = (Vec::new(), Offset::ZERO);
    loop {
        let read = store.read(ID, from, 20_000, FirstBatch::WholeEvenIfLarger).await.unwrap();
        if read.bytes == 0 {
            return records;
        }
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let batch = BatchView::parse(rest).unwrap();
            for record in batch.records().unwrap().map(Result::unwrap) {
                let number = |bytes: &[u8]| i64::from_be_bytes(bytes[..8].try_into().unwrap());
                records.push((record.offset, number(record.key.unwrap()), number(record.value.unwrap())));
            }
            rest = &rest[batch.bytes().len()..];
            from = Offset::new(batch.header().last_offset() + 1);
        }
    }
}

/// Every record has the offset it was given, offsets rise, and the newest record of each key is there.
fn check(records: &[(i64, i64, i64)], end: i64, context: &str) {
    let mut newest = BTreeMap::new();
    for (place, (offset, key, number)) in records.iter().enumerate() {
        assert_eq!((offset, *key), (number, number % KEYS), "{context}");
        assert!(place == 0 || records[place - 1].0 < *offset, "{context}: offsets rise");
        newest.insert(*key, *number);
    }
    for number in end - KEYS.min(end)..end {
        assert_eq!(newest.get(&(number % KEYS)), Some(&number), "{context}: the newest record of a key");
    }
}

#[test]
fn the_newest_record_of_each_key_stays() {
    let world = World::new(1, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let store = open(&env).await;
        append(&store, 0..400).await;
        env.clock().sleep(Duration::from_secs(10)).await;
        let records = read_all(&store).await;
        check(&records, 400, "compacted");
        assert!(records.len() < 120, "{} of 400 records are left", records.len());
        assert_eq!(store.compaction_failures(), BTreeMap::new());
        append(&store, 400..800).await;
        env.clock().sleep(Duration::from_secs(10)).await;
        let records = read_all(&store).await;
        check(&records, 800, "compacted again");
        assert!(records.len() < 120, "{} of 800 records are left", records.len());
    });
    world.kill_shards();
    world.run(async {
        let store = open(&world.env(0)).await;
        check(&read_all(&store).await, 800, "after a kill");
        assert_eq!(store.offsets(ID).await.unwrap().log_end.get(), 800);
    });
}

#[test]
fn what_was_compacted_is_not_compacted_again_after_a_stop() {
    let world = World::new(3, WorldConfig::default());
    world.run(async {
        let env = world.env(0);
        let store = open(&env).await;
        append(&store, 0..200).await;
        env.clock().sleep(Duration::from_secs(10)).await;
        store.close().await.unwrap();
    });
    world.kill_shards();
    world.run(async {
        let env = world.env(0);
        let store = open(&env).await;
        store.offsets(ID).await.unwrap();
        // A pass that changes nothing removes the files that it has begun.
        let before = world.faults().operation_count(Some(Operation::Remove));
        env.clock().sleep(Duration::from_secs(10)).await;
        assert_eq!(world.faults().operation_count(Some(Operation::Remove)), before);
        append(&store, 200..400).await;
        env.clock().sleep(Duration::from_secs(10)).await;
        let records = read_all(&store).await;
        check(&records, 400, "compacted on");
        assert!(records.len() < 120, "{} of 400 records are left", records.len());
    });
}

/// The journal still holds rounds of what was compacted since: a recovery must not write them over what is left.
#[test]
fn the_journal_does_not_bring_back_what_was_compacted() {
    for seed in 0..4 {
        let world = World::new(seed, WorldConfig::default());
        let left = world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            append_keys(&store, 0..26, |number| number % 3).await;
            env.clock().sleep(Duration::from_secs(5)).await;
            let records = read_all(&store).await;
            assert!(records.len() < 20, "{} of 26 records are left", records.len());
            records
        });
        if seed % 2 == 0 {
            world.kill_shards();
        } else {
            world.crash_shards();
        }
        world.run(async {
            let store = open(&world.env(0)).await;
            assert_eq!(store.recovered().await.damage, [], "seed {seed}");
            assert_eq!(read_all(&store).await, left, "seed {seed}");
        });
    }
}

#[test]
fn a_crash_at_any_operation_of_a_pass_loses_nothing() {
    let operations = |crash_after: Option<u64>, seed: u64| {
        let world = World::new(seed, WorldConfig::default());
        world.run(async { append(&open(&world.env(0)).await, 0..150).await });
        world.kill_shards();
        let before = world.faults().operation_count(None);
        if let Some(operation) = crash_after {
            world.faults().crash_after(operation);
        }
        let done = world.run_until_crash(async {
            let store = open(&world.env(0)).await;
            world.env(0).clock().sleep(Duration::from_secs(5)).await;
            check(&read_all(&store).await, 150, &format!("seed {seed}"));
        });
        world.crash_shards();
        world.run(async {
            let store = open(&world.env(0)).await;
            check(&read_all(&store).await, 150, &format!("seed {seed}, crash at {crash_after:?}"));
            assert_eq!(store.recovered().await.damage, []);
            append(&store, 150..155).await;
            check(&read_all(&store).await, 155, "appended to");
        });
        (done.is_ok(), world.faults().operation_count(None) - before)
    };
    let (_, count) = operations(None, 3);
    let mut crash_count = 0;
    for operation in 1..count {
        let (done, _) = operations(Some(operation), 3 + operation);
        crash_count += u32::from(!done);
    }
    assert!(crash_count > 50, "only {crash_count} crashes happened");
}

/// A step of replacing segments that fails leaves files which only recovery may bring to an end. A later pass may leave
/// these segments as they are, and then they are deleted: the next start must not find a `.swap` that stands for them.
#[test]
fn a_failure_of_any_operation_of_a_pass_loses_nothing() {
    // Every tenth record outdates another one: what is left of two segments does not fit into one.
    let key_of = |number| if number % 10 == 0 { 0 } else { number };
    let mut failure_count = 0;
    for nth in 1..100 {
        let world = World::new(nth, WorldConfig::default());
        world.run(async { append_keys(&open(&world.env(0)).await, 0..60, key_of).await });
        world.kill_shards();
        world.run(async {
            let env = world.env(0);
            let store = open(&env).await;
            store.recovered().await;
            let before = world.faults().operation_count(None);
            world.faults().fail_nth(None, nth, Failure::NoSpace);
            env.clock().sleep(Duration::from_secs(5)).await;
            failure_count += u32::from(world.faults().operation_count(None) - before >= nth);
            world.faults().clear();
            let files = world.disk().files();
            let unfinished: Vec<_> = files.iter().filter(|file| file.ends_with("swap")).collect();
            assert!(unfinished.is_empty(), "operation {nth} failed: {unfinished:?}");
            // A write that found no space has producers refused until the space is measured again.
            env.clock().sleep(Duration::from_secs(2)).await;
            append_keys(&store, 60..75, key_of).await;
            env.clock().sleep(Duration::from_secs(5)).await;
            let values: BTreeMap<_, _> =
                read_all(&store).await.iter().map(|(_, key, number)| (*key, *number)).collect();
            let newest: BTreeMap<_, _> = (0..75).map(|number| (key_of(number), number)).collect();
            assert_eq!(values, newest, "operation {nth} failed");
            store.delete_records(ID, Offset::new(50)).await.unwrap();
            env.clock().sleep(Duration::from_secs(5)).await;
        });
        world.kill_shards();
        world.run(async {
            let store = open(&world.env(0)).await;
            assert_eq!(store.recovered().await.damage, [], "operation {nth} failed");
            let offsets = store.offsets(ID).await.unwrap();
            assert_eq!((offsets.start.get(), offsets.log_end.get()), (50, 75), "operation {nth} failed");
        });
    }
    assert!(failure_count > 40, "only {failure_count} failures happened");
}
