//! Offsets by time, inside batches of every codec.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use futures_util::future::join_all;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{Store, StoreConfig, TimeQuery};
use millrace_protocol::batch::compression::Compressor;
use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchBuilder, BatchFields, BatchView, Compression};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};

const ID: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
const CODECS: [(u8, Compression); 5] = [
    (0, Compression::None),
    (1, Compression::Gzip),
    (2, Compression::Snappy),
    (3, Compression::Lz4),
    (4, Compression::Zstd),
];

async fn open(env: SimEnv, records_bytes_max: usize) -> Store<SimEnv> {
    let config = StoreConfig { journal_bytes: RING_BYTES_MIN, records_bytes_max, ..StoreConfig::at("/data".into()) };
    let store = Store::open(env, config, |_| true).await.unwrap();
    store.create(ID, LogConfig { segment_bytes: 20_000, retention_age_max: None, ..LogConfig::default() });
    store
}

fn batch(timestamps: &[i64], (code, codec): (u8, Compression)) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    for timestamp in timestamps {
        builder.push(*timestamp, None, Some(&[7; 50]));
    }
    let plain = builder.build();
    let mut bytes = plain[..BATCH_BYTES_MIN].to_vec();
    bytes.extend_from_slice(Compressor::default().compress(codec, &plain[BATCH_BYTES_MIN..]).unwrap());
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] = code;
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

async fn append(store: &Store<SimEnv>, bytes: &[u8]) -> i64 {
    let appended = store.append(ID, &BatchView::parse(bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
    appended.ticket.durable().await.unwrap();
    appended.base_offset.get()
}

async fn find(store: &Store<SimEnv>, query: TimeQuery) -> Option<(i64, i64)> {
    let found = store.offset_by_time(ID, query).await.unwrap();
    found.map(|found| (found.offset.get(), found.timestamp))
}

#[test]
fn the_first_record_is_found_whatever_the_codec_and_the_order() {
    let world = World::new(1, WorldConfig::default());
    let mut times = Vec::new();
    world.run(async {
        let store = open(world.env(0), 1 << 20).await;
        for number in 0..200_i64 {
            // Times rise over the log, and go up and down inside a batch.
            let of_batch: Vec<_> = (0..7).map(|record| number * 10 + (record * 5 + number) % 13).collect();
            assert_eq!(append(&store, &batch(&of_batch, CODECS[times.len() / 7 % 5])).await, number * 7);
            times.extend(of_batch);
        }
    });
    world.kill_shards();
    world.run(async {
        let store = open(world.env(0), 1 << 20).await;
        let expected = |start: usize, target: i64| {
            let place = (start..times.len()).find(|place| times[*place] >= target)?;
            Some((i64::try_from(place).unwrap(), times[place]))
        };
        for target in -1..2_030 {
            assert_eq!(find(&store, TimeQuery::AtOrAfter(target)).await, expected(0, target), "from {target}");
        }
        let largest = *times.iter().max().unwrap();
        assert_eq!(find(&store, TimeQuery::Largest).await, expected(0, largest));
        // Many at once wait for each other.
        let all = join_all((0..100).map(|target| find(&store, TimeQuery::AtOrAfter(target * 20)))).await;
        assert_eq!(all, (0..100).map(|target| expected(0, target * 20)).collect::<Vec<_>>());
        store.delete_records(ID, Offset::new(703)).await.unwrap();
        assert_eq!(find(&store, TimeQuery::AtOrAfter(0)).await, expected(703, 0), "what is deleted is not found");
    });
}

#[test]
fn a_batch_that_cannot_be_decompressed_answers_for_itself() {
    let world = World::new(2, WorldConfig::default());
    world.run(async {
        let store = open(world.env(0), 1_000).await;
        append(&store, &batch(&[10, 11], CODECS[0])).await;
        append(&store, &batch(&(20..70).collect::<Vec<_>>(), CODECS[4])).await;
        assert_eq!(find(&store, TimeQuery::AtOrAfter(11)).await, Some((1, 11)));
        assert_eq!(find(&store, TimeQuery::AtOrAfter(30)).await, Some((2, 69)), "it takes more than 1,000 bytes");
        let mut nonsense = batch(&[80, 81], CODECS[4]);
        *nonsense.last_mut().unwrap() ^= 1;
        nonsense[BATCH_BYTES_MIN] ^= 1;
        let crc = crc32c::crc32c(&nonsense[21..]);
        nonsense[17..21].copy_from_slice(&crc.to_be_bytes());
        append(&store, &nonsense).await;
        assert_eq!(find(&store, TimeQuery::AtOrAfter(81)).await, Some((52, 81)));
    });
}

#[test]
fn a_header_that_promises_too_late_a_time_is_passed_over() {
    let world = World::new(3, WorldConfig::default());
    world.run(async {
        let store = open(world.env(0), 1 << 20).await;
        let mut boasting = batch(&[10, 11], CODECS[3]);
        boasting[35..43].copy_from_slice(&500_i64.to_be_bytes());
        let crc = crc32c::crc32c(&boasting[21..]);
        boasting[17..21].copy_from_slice(&crc.to_be_bytes());
        append(&store, &boasting).await;
        append(&store, &batch(&[20, 21], CODECS[1])).await;
        assert_eq!(find(&store, TimeQuery::AtOrAfter(15)).await, Some((2, 20)));
        assert_eq!(find(&store, TimeQuery::AtOrAfter(400)).await, None);
    });
}
