//! Opening a log that was not closed in order: one segment of 16 MiB, read, checked batch by batch, indexed, and what no
//! flush is known of written once more.
//!
//! The disk is the simulator's, in memory: its copying is in the figures, the device's time is not.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::cell::LazyCell;
use std::path::{Path, PathBuf};

use millrace_engine::format::segment_header::SegmentHeader;
use millrace_engine::model::{Offset, PartitionId, Position, TopicId};
use millrace_engine::segment::file_name;
use millrace_engine::store::{Store, StoreConfig};
use millrace_microbench::{Benchmarks, Work};
use millrace_protocol::batch::{BatchBuilder, BatchFields, assign_offsets};
use millrace_runtime::sim::{DiskImage, World, WorldConfig};
use millrace_runtime::{BLOCK_BYTES, Disk, Env, OpenMode};

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
const SEGMENT_BYTES: usize = 16 << 20;

/// A disk with one segment of batches of this size.
fn image(batch_bytes: usize) -> DiskImage {
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(0, Some(b"key"), Some(&vec![b'v'; batch_bytes - 80]));
    let mut batch = builder.build();
    let mut file = vec![0; BLOCK_BYTES];
    SegmentHeader { partition: PARTITION, base_offset: Offset::ZERO, filled_end: Position::default(), compacted: None }
        .encode(&mut file);
    for offset in 0.. {
        if file.len() + batch.len() > SEGMENT_BYTES {
            break;
        }
        assign_offsets(&mut batch, offset, 0);
        file.extend_from_slice(&batch);
    }
    let world = World::new(1, WorldConfig::default());
    let directory = Path::new("/data/logs").join(PARTITION.directory_name());
    let path = directory.join(file_name(Offset::ZERO));
    world.run(async {
        let env = world.env(0);
        env.disk().create_dir_all(&directory).await.unwrap();
        env.disk().open(&path, OpenMode::New).await.unwrap();
        for directory in directory.ancestors() {
            env.disk().sync_dir(directory).await.unwrap();
        }
    });
    world.disk().corrupt(&path, 0, &file);
    world.disk().fork()
}

fn main() {
    Benchmarks::run(|benchmarks| {
        for batch_bytes in [200, 1000, 16_000, 1 << 20] {
            // Made at most once, and only for those who ask for it.
            let image = LazyCell::new(|| image(batch_bytes));
            let mounted = || {
                let world = World::new(1, WorldConfig::default());
                world.machine(0).mount(&image);
                world
            };
            let recover = |world: &mut World| {
                let config = StoreConfig { journal_bytes: 256 << 10, ..StoreConfig::at(PathBuf::from("/data")) };
                let report = world.run(async {
                    let store = Store::open(world.env(0), config, |_| true).await.unwrap();
                    store.recovered().await
                });
                assert!(report.damage.is_empty() && report.scanned_bytes > 14 << 20, "{report:?}");
            };
            let name = format!("recovery/batches of {batch_bytes}");
            benchmarks.on_fresh_inputs(&name, Work::bytes(SEGMENT_BYTES), mounted, recover);
        }
    });
}
