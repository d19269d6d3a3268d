//! What an append costs the processor, from the checked batch to the durable ticket, rounds included.
//!
//! The disk is the simulator's, in memory: its own work is in the figures, the device's time is not. `one` appends a batch
//! and waits for it, so a round carries one batch; `pipelined` appends 64 before it waits.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::path::PathBuf;

use criterion::{BatchSize, Criterion, Throughput};
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, PartitionId, TopicId};
use millrace_engine::store::{Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
const BATCHES: usize = 64;

fn open() -> (World, Store<SimEnv>) {
    let world = World::new(1, WorldConfig::default());
    let config = StoreConfig { journal_bytes: 8 << 20, ..StoreConfig::at(PathBuf::from("/data")) };
    let store = world.run(async { Store::open(world.env(0), config, |_| true).await.unwrap() });
    store.create(PARTITION, LogConfig::default());
    (world, store)
}

async fn append(store: &Store<SimEnv>, bytes: &[u8], in_flight: usize) {
    for _ in 0..BATCHES / in_flight {
        let mut tickets = Vec::with_capacity(in_flight);
        for _ in 0..in_flight {
            let view = BatchView::parse(bytes).unwrap();
            tickets.push(store.append(PARTITION, &view, LeaderEpoch::new(0)).await.unwrap().ticket);
        }
        for ticket in tickets {
            ticket.durable().await.unwrap();
        }
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for value_bytes in [100, 1000, 100_000] {
        let mut builder = BatchBuilder::new(BatchFields::default());
        builder.push(0, Some(b"key"), Some(&vec![b'v'; value_bytes]));
        let bytes = builder.build();
        let mut group = criterion.benchmark_group(format!("append/{value_bytes}"));
        group.throughput(Throughput::Elements(u64::try_from(BATCHES).unwrap()));
        for (name, in_flight) in [("one", 1), ("pipelined", BATCHES)] {
            group.bench_function(name, |bencher| {
                let run = |(world, store): (World, Store<SimEnv>)| {
                    world.run(append(&store, &bytes, in_flight));
                    (world, store)
                };
                bencher.iter_batched(open, run, BatchSize::PerIteration);
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
