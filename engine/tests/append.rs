//! The first test of the engine, the same on the machine and in the simulator: append, read, stop, start, read again.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::path::{Path, PathBuf};
use std::rc::Rc;

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{FirstBatch, ReadError, Store, StoreConfig, TimeQuery};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::Env;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::local::Event;
use millrace_runtime::sim::{World, WorldConfig};

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };

fn config(directory: &Path) -> StoreConfig {
    StoreConfig {
        journal_bytes: 1024 * 1024,
        round_bytes_max: 4 * 1024 * 1024,
        write_buffer_bytes_max: 8 * 1024 * 1024,
        tail_cache_bytes_max: 512 * 1024,
        ..StoreConfig::at(directory.to_owned())
    }
}

/// A batch of `records` records of `value_bytes` each, stamped `timestamp` and up.
fn batch(records: i64, value_bytes: usize, timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    for record in 0..records {
        builder.push(timestamp + record, Some(b"key"), Some(&vec![b'v'; value_bytes]));
    }
    builder.build()
}

async fn append<E: Env>(store: &Store<E>, bytes: &[u8]) -> Offset {
    let appended = store.append(PARTITION, &BatchView::parse(bytes).unwrap(), LeaderEpoch::new(3)).await.unwrap();
    appended.ticket.durable().await.unwrap();
    appended.base_offset
}

/// Reads from `from` to the end, `bytes_max` at a time, and returns the base offsets and bytes of all batches.
async fn read_all<E: Env>(store: &Store<E>, from: Offset, bytes_max: usize) -> Vec<(i64, Vec<u8>)> {
    let (mut batches, mut from) = (Vec::new(), from);
    loop {
        let read = store.read(PARTITION, from, bytes_max, FirstBatch::WholeEvenIfLarger).await.unwrap();
        if read.bytes == 0 {
            assert_eq!(from, read.offsets.high_watermark);
            return batches;
        }
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let batch = BatchView::parse(rest).unwrap();
            rest = &rest[batch.bytes().len()..];
            from =
                Offset::new(batch.header().base_offset.get() + i64::from(batch.header().last_offset_delta.get()) + 1);
            batches.push((batch.header().base_offset.get(), batch.bytes().to_vec()));
        }
    }
}

async fn append_and_read<E: Env>(env: E, directory: &Path) {
    let store = Store::open(env.clone(), config(directory), |_| true).await.unwrap();
    let report = store.recovered().await;
    assert!(!report.clean && report.log_count == 0);
    store.create(PARTITION, LogConfig::default());
    // Small batches that go through the journal, large ones that go straight to the segment, and both in turn.
    let sent: Vec<Vec<u8>> =
        (0..40).map(|n| batch(n % 5 + 1, if n % 7 == 6 { 50_000 } else { 400 }, n * 100)).collect();
    let (mut expected, mut end) = (Vec::new(), 0);
    for bytes in &sent {
        assert_eq!(append(&store, bytes).await.get(), end);
        expected.push(end);
        end += i64::from(BatchView::parse(bytes).unwrap().header().record_count.get());
    }
    check_reads(&store, &sent, &expected).await;
    store.close().await.unwrap();

    let store = Store::open(env.clone(), config(directory), |_| true).await.unwrap();
    let report = store.recovered().await;
    assert!(report.clean && report.log_count == 1 && report.scanned_bytes == 0, "{report:?}");
    check_reads(&store, &sent, &expected).await;
    assert_eq!(append(&store, &batch(2, 10, 9_000)).await.get(), end);
    check_times_and_watches(&store, end).await;
    store.close().await.unwrap();
}

async fn check_reads<E: Env>(store: &Store<E>, sent: &[Vec<u8>], expected: &[i64]) {
    for bytes_max in [1, 5_000, 1_000_000] {
        let read = read_all(store, Offset::ZERO, bytes_max).await;
        assert_eq!(read.iter().map(|(base, _)| *base).collect::<Vec<_>>(), expected);
        for ((base, bytes), sent) in read.iter().zip(sent) {
            // What is served is what was sent, but for base offset and leader epoch.
            assert_eq!((&bytes[8..12], &bytes[16..]), (&sent[8..12], &sent[16..]), "batch at {base}");
            assert_eq!(bytes[12..16], [0, 0, 0, 3]);
        }
    }
    // An offset inside a batch gives the whole batch.
    let read = read_all(store, Offset::new(expected[3] + 1), 1).await;
    assert_eq!(read[0].0, expected[3]);
    let within = store.read(PARTITION, Offset::ZERO, 10, FirstBatch::WithinLimit).await.unwrap();
    assert_eq!(within.bytes, 0);
}

async fn check_times_and_watches<E: Env>(store: &Store<E>, end: i64) {
    let found = store.offset_by_time(PARTITION, TimeQuery::AtOrAfter(9_001)).await.unwrap().unwrap();
    assert_eq!((found.offset.get(), found.timestamp), (end + 1, 9_001));
    let found = store.offset_by_time(PARTITION, TimeQuery::Largest).await.unwrap().unwrap();
    assert_eq!((found.offset.get(), found.timestamp), (end + 1, 9_001));
    assert_eq!(store.offset_by_time(PARTITION, TimeQuery::AtOrAfter(9_002)).await.unwrap(), None);
    let past = store.read(PARTITION, Offset::new(end + 3), 1, FirstBatch::WholeEvenIfLarger).await;
    assert!(matches!(past.err(), Some(ReadError::OffsetOutOfRange(_))));

    let event = Rc::new(Event::default());
    assert!(store.watch(PARTITION, Offset::new(end), &event), "what is there already needs no watch");
    let version = event.version();
    assert!(!store.watch(PARTITION, Offset::new(end + 2), &event));
    append(store, &batch(1, 10, 0)).await;
    event.changed(version).await;
}

#[test]
fn on_the_machine() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path: PathBuf = directory.path().to_owned();
    let shards = Shards::start(&ShardsConfig::default(), move |env| {
        let path = path.clone();
        async move { append_and_read(env, &path).await }
    });
    shards.unwrap().join();
}

#[test]
fn in_the_simulator() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        world.run(append_and_read(world.env(0), Path::new("/data")));
    }
}
