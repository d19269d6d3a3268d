//! What an append costs the processor, from the checked batch to the durable ticket, rounds included.
//!
//! The disk takes every write at once and forgets it; the executor is the simulator's. `one` appends a batch
//! and waits for it, so a round carries one batch; `pipelined` appends all before it waits. The log has taken a batch
//! before, so that the making of its first segment is not in the figures.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::path::PathBuf;
use std::time::Duration;

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, PartitionId, TopicId};
use millrace_engine::store::{Store, StoreConfig};
use millrace_microbench::forgetful::ForgetfulEnv;
use millrace_microbench::inputs::BatchShape;
use millrace_microbench::{Benchmarks, Work};
use millrace_protocol::batch::BatchView;
use millrace_runtime::sim::{World, WorldConfig};
use millrace_runtime::{Clock, Env};

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
/// Simulated, so it costs nothing: long enough for whatever the first append has set off.
const SETTLING: Duration = Duration::from_secs(5);

struct Appending {
    world: World,
    store: Store<ForgetfulEnv>,
    batch: Vec<u8>,
}

impl Appending {
    fn new(value_bytes: usize) -> Self {
        let world = World::new(1, WorldConfig::default());
        let config = StoreConfig { journal_bytes: 8 << 20, ..StoreConfig::at(PathBuf::from("/data")) };
        let env = ForgetfulEnv::new(world.env(0));
        let store = world.run(async { Store::open(env.clone(), config, |_| true).await.unwrap() });
        store.create(PARTITION, LogConfig::default());
        let appending = Self { world, store, batch: BatchShape { record_count: 1, value_bytes }.build() };
        appending.world.run(async {
            appending.append(1).await;
            env.clock().sleep(SETTLING).await;
        });
        env.forget();
        appending
    }

    /// Appends so many batches, then waits until all are durable.
    async fn append(&self, batches: usize) {
        let mut tickets = Vec::with_capacity(batches);
        for _ in 0..batches {
            let view = BatchView::parse(&self.batch).unwrap();
            tickets.push(self.store.append(PARTITION, &view, LeaderEpoch::new(0)).await.unwrap().ticket);
        }
        for ticket in tickets {
            ticket.durable().await.unwrap();
        }
    }
}

fn main() {
    Benchmarks::run(|benchmarks| {
        for (value_bytes, batches) in [(100, 64), (1000, 64), (100_000, 64), (1_000_000, 8)] {
            for (name, in_flight) in [("one", 1), ("pipelined", batches)] {
                let run = |appending: &mut Appending| {
                    appending.world.run(async {
                        for _ in 0..batches / in_flight {
                            appending.append(in_flight).await;
                        }
                    });
                };
                let name = format!("append/{value_bytes} B/{name}");
                benchmarks.on_fresh_inputs(&name, Work::of(batches, "batch"), || Appending::new(value_bytes), run);
            }
        }
    });
}
