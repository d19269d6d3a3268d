//! What a store reports of itself follows what was done with it.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{FirstBatch, Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};

fn id(topic: u8, partition: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([topic; 16]), partition }
}

/// Appends one batch and waits until it is durable; gives its size.
async fn append(store: &Store<SimEnv>, id: PartitionId, record_count: usize) -> u64 {
    let mut builder = BatchBuilder::new(BatchFields::default());
    for _ in 0..record_count {
        builder.push(0, None, Some(b"rain"));
    }
    let bytes = builder.build();
    let appended = store.append(id, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
    appended.ticket.durable().await.unwrap();
    u64::try_from(bytes.len()).unwrap()
}

#[test]
fn appends_reads_and_rounds_are_counted_by_topic_and_in_all() {
    let world = World::new(1, WorldConfig::default());
    world.run(async {
        let config = StoreConfig { journal_bytes: RING_BYTES_MIN, ..StoreConfig::at("/data".into()) };
        let store = Store::open(world.env(0), config, |_| true).await.unwrap();
        for id in [id(1, 0), id(1, 1), id(2, 0)] {
            store.create(id, LogConfig::default());
        }
        let before = store.report().await;
        assert_eq!((before.log_count, before.rounds.count(), before.traffic.appended_batches), (3, 0, 0));

        let mut bytes = [0_u64; 2];
        bytes[0] += append(&store, id(1, 0), 3).await;
        bytes[0] += append(&store, id(1, 1), 2).await;
        bytes[1] += append(&store, id(2, 0), 1).await;
        let read = store.read(id(2, 0), Offset::ZERO, 1 << 20, FirstBatch::WholeEvenIfLarger).await.unwrap();

        let report = store.report().await;
        let [first, second] = [1, 2].map(|topic| report.topics[&TopicId::from_bytes([topic; 16])]);
        assert_eq!((first.appended_batches, first.appended_records, first.appended_bytes), (2, 5, bytes[0]));
        assert_eq!((second.appended_batches, second.appended_records, second.appended_bytes), (1, 1, bytes[1]));
        assert_eq!((first.read_bytes, second.read_bytes), (0, u64::try_from(read.bytes).unwrap()));
        assert_eq!(report.traffic.appended_bytes, bytes[0] + bytes[1]);
        // Each append waited for its round, and each round flushed.
        assert_eq!((report.rounds.count(), report.flushes.count()), (3, 3));
        assert_eq!((report.offline_count, report.queued_count, report.unstored_bytes), (0, 0, 0));
        assert!(report.tail_bytes > 0 && !report.disk_full);
        assert_eq!(store.known_high_watermark(id(1, 0)), Some(Offset::new(3)));
        assert_eq!((store.known_high_watermark(id(3, 0)), store.shard_failure()), (None, None));
    });
}

#[test]
fn what_a_deleted_topic_has_had_stays_in_the_sum() {
    let world = World::new(2, WorldConfig::default());
    world.run(async {
        let config = StoreConfig { journal_bytes: RING_BYTES_MIN, ..StoreConfig::at("/data".into()) };
        let store = Store::open(world.env(0), config, |_| true).await.unwrap();
        store.create(id(1, 0), LogConfig::default());
        let bytes = append(&store, id(1, 0), 1).await;
        store.delete(id(1, 0));
        let report = store.report().await;
        assert_eq!((report.topics.len(), report.traffic.appended_bytes), (0, bytes));
    });
}
