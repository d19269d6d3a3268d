//! Group commit: what it costs to bring batches of many logs to the device together, and to find out what a flush is worth.
//!
//! Every log has one batch on its way, so a round gathers as many as there are logs. Batches of 1 KiB become pieces of the
//! journal; those of 64 KiB go to the logs' own segments. The disk takes every write at once and forgets it; the executor is
//! the simulator's.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use std::path::PathBuf;
use std::time::Duration;

use millrace_engine::flushes::{Flushes, ShardFlushes, Verdict};
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, PartitionId, TopicId};
use millrace_engine::store::{Store, StoreConfig};
use millrace_microbench::forgetful::ForgetfulEnv;
use millrace_microbench::inputs::BatchShape;
use millrace_microbench::{Benchmarks, Work};
use millrace_protocol::batch::BatchView;
use millrace_runtime::sim::{World, WorldConfig};
use millrace_runtime::{Clock, Env};

/// Simulated, so it costs nothing: long enough for whatever the first appends have set off.
const SETTLING: Duration = Duration::from_secs(5);
const FLUSHES: usize = 1000;

struct Logs {
    world: World,
    store: Store<ForgetfulEnv>,
    log_count: i32,
    batch: Vec<u8>,
}

impl Logs {
    fn new(log_count: i32, value_bytes: usize) -> Self {
        let world = World::new(1, WorldConfig::default());
        let config = StoreConfig { journal_bytes: 8 << 20, ..StoreConfig::at(PathBuf::from("/data")) };
        let env = ForgetfulEnv::new(world.env(0));
        let store = world.run(async { Store::open(env.clone(), config, |_| true).await.unwrap() });
        (0..log_count).for_each(|number| store.create(partition(number), LogConfig::default()));
        let logs = Self { world, store, log_count, batch: BatchShape { record_count: 1, value_bytes }.build() };
        logs.world.run(async {
            logs.append().await;
            env.clock().sleep(SETTLING).await;
        });
        env.forget();
        logs
    }

    /// A batch for each log, then the wait until all are durable.
    async fn append(&self) {
        let view = BatchView::parse(&self.batch).unwrap();
        let mut tickets = Vec::new();
        for number in 0..self.log_count {
            tickets.push(self.store.append(partition(number), &view, LeaderEpoch::new(0)).await.unwrap().ticket);
        }
        for ticket in tickets {
            ticket.durable().await.unwrap();
        }
    }
}

fn partition(number: i32) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition: number }
}

fn main() {
    Benchmarks::run(|benchmarks| {
        for (name, log_count, value_bytes) in [
            ("1 KiB to 1 log", 1, 1000),
            ("1 KiB to 16 logs", 16, 1000),
            ("1 KiB to 256 logs", 256, 1000),
            ("64 KiB to 16 logs", 16, 65_000),
        ] {
            let work = Work::of(usize::try_from(log_count).unwrap(), "batch");
            let input = || Logs::new(log_count, value_bytes);
            benchmarks.on_fresh_inputs(&format!("rounds/{name}"), work, input, |logs| logs.world.run(logs.append()));
        }
        for (name, shard_count) in [("of 1 shard", 1), ("of 64 shards", 64)] {
            let input = || Flushes::new(shard_count).shard(0);
            benchmarks.on_shared_input(&format!("flushes/{name}"), Work::of(FLUSHES, "flush"), input, flush);
        }
    });
}

/// Flushes that nobody else's disturb.
fn flush(shard: &mut ShardFlushes) {
    for _ in 0..FLUSHES {
        let begun = shard.begin();
        let ended = shard.end_well(begun);
        assert_eq!(shard.verdict(ended), Verdict::Counts);
    }
}
