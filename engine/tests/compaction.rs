//! A pass the way a driver runs it: every window leaves the shard and comes back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::compaction::{AbortedTransactions, Indexer, PassConfig};
use millrace_engine::model::Offset;
use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{World, WorldConfig};
use millrace_runtime::{Env, Tasks};

const WINDOW_BYTES: usize = 200;

/// A log of a hundred batches of three records with twenty keys.
fn log() -> Vec<u8> {
    let mut log = Vec::new();
    for number in 0..100_i64 {
        let mut builder = BatchBuilder::new(BatchFields { base_offset: 3 * number, ..BatchFields::default() });
        for key in 3 * number..3 * number + 3 {
            builder.push(key, Some(&[u8::try_from(key % 20).unwrap()]), Some(b"value"));
        }
        log.extend(builder.build());
    }
    log
}

/// The next window, as it would be read from a segment.
fn window(log: &[u8], position: usize, bytes: usize) -> Vec<u8> {
    log[position..log.len().min(position + bytes)].to_vec()
}

async fn compact<E: Env>(env: E, log: &[u8], config: PassConfig) -> Vec<u8> {
    let mut indexer = Indexer::new(config);
    let (mut position, mut bytes) = (0, WINDOW_BYTES);
    while position < log.len() {
        let window = window(log, position, bytes);
        let (returned, indexed) = env
            .tasks()
            .offload(move || {
                let indexed = indexer.index(&window);
                (indexer, indexed.unwrap())
            })
            .await;
        indexer = returned;
        position += indexed.consumed_bytes;
        bytes = indexed.needed_bytes.unwrap_or(0).max(WINDOW_BYTES);
        if indexed.is_done {
            break;
        }
    }

    let mut cleaner = indexer.into_cleaner();
    let (mut position, mut bytes, mut compacted) = (0, WINDOW_BYTES, Vec::new());
    while position < log.len() {
        let window = window(log, position, bytes);
        let mut output = Vec::new();
        let (returned, output, cleaned) = env
            .tasks()
            .offload(move || {
                let cleaned = cleaner.clean(&window, &mut output);
                (cleaner, output, cleaned.unwrap())
            })
            .await;
        cleaner = returned;
        compacted.extend(output);
        position += cleaned.consumed_bytes;
        bytes = cleaned.needed_bytes.unwrap_or(0).max(WINDOW_BYTES);
    }
    assert_eq!(cleaner.covered_end(), Offset::new(300));
    compacted
}

#[test]
fn a_pass_whose_windows_leave_the_shard_leaves_the_newest_records() {
    let log = log();
    for seed in 0..5 {
        let world = World::new(seed, WorldConfig::default());
        let config = PassConfig {
            dirty: Offset::ZERO..Offset::new(300),
            now_ms: 0,
            tombstone_age_max: Duration::ZERO,
            producers: BTreeMap::new(),
            aborted: AbortedTransactions::default(),
            key_map_bytes_max: 1 << 16,
            records_bytes_max: 1 << 16,
            hash_key: [1, seed],
        };
        let compacted = world.run(compact(world.env(0), &log, config));
        let mut offsets = Vec::new();
        let mut rest = compacted.as_slice();
        while rest.len() >= BATCH_BYTES_MIN {
            let batch = BatchView::parse(rest).unwrap();
            offsets.extend(batch.records().unwrap().map(|record| record.unwrap().offset));
            rest = &rest[batch.bytes().len()..];
        }
        assert_eq!(offsets, (280..300).collect::<Vec<_>>());
        assert_eq!(rest.len(), 0);
    }
}
