//! What a look into the read cache costs: chunks that are there, and chunks that push others out.
//!
//! A read from the device is a zeroed buffer here, so `miss` is the cache's own work, one task and the making of 128 KiB.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use criterion::{Criterion, Throughput};
use millrace_engine::read_cache::{CHUNK_BYTES, ChunkExtent, ChunkKey, ReadCache};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Disk, Env};

const CHUNKS: u32 = 256;
const WHOLE: ChunkExtent = ChunkExtent { needed_bytes: CHUNK_BYTES, readable_bytes: CHUNK_BYTES };

/// Reads [`CHUNKS`] chunks from the `start`th on, jumping about in `0..among`.
async fn read(env: &SimEnv, cache: &ReadCache<SimEnv>, start: u32, among: u32) {
    for number in start..start + CHUNKS {
        let key = ChunkKey { segment: 1, index: number * 97 % among };
        let env = env.clone();
        cache.read(key, WHOLE, || async move { Ok(Some(env.disk().buffer(CHUNK_BYTES))) }).await.unwrap();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("read cache");
    group.throughput(Throughput::Elements(u64::from(CHUNKS)));
    for (name, among) in [("hit", CHUNKS), ("miss", 8 * CHUNKS)] {
        let world = World::new(1, WorldConfig::default());
        let env = world.env(0);
        let cache = ReadCache::new(env.clone(), usize::try_from(CHUNKS).unwrap() * CHUNK_BYTES);
        world.run(read(&env, &cache, 0, among));
        let mut start = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                // Misses take all chunks in turn: what they find was pushed out long ago.
                start = (start + CHUNKS) % among;
                world.run(read(&env, &cache, start, among));
            });
        });
        let counters = cache.counters();
        assert_eq!(counters.misses > u64::from(CHUNKS), name == "miss", "{counters:?}");
    }
    group.finish();
    criterion.final_summary();
}
