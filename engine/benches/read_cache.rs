//! What a look into the read cache costs: chunks that are there, and chunks that push others out.
//!
//! A read from the device is a zeroed buffer here, so `miss` is the cache's own work, one task and the making of 128 KiB.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on fails")]

use millrace_engine::read_cache::{CHUNK_BYTES, ChunkExtent, ChunkKey, ReadCache};
use millrace_microbench::{Benchmarks, Work};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Disk, Env};

const CHUNKS: u32 = 256;
const WHOLE: ChunkExtent = ChunkExtent { needed_bytes: CHUNK_BYTES, readable_bytes: CHUNK_BYTES };

struct Cached {
    world: World,
    env: SimEnv,
    cache: ReadCache<SimEnv>,
    /// The chunk with which the next run begins.
    start: u32,
    /// So many chunks are read in turn.
    among: u32,
}

impl Cached {
    fn new(among: u32) -> Self {
        let world = World::new(1, WorldConfig::default());
        let env = world.env(0);
        let cache = ReadCache::new(env.clone(), usize::try_from(CHUNKS).unwrap() * CHUNK_BYTES);
        let cached = Self { world, env, cache, start: 0, among };
        cached.world.run(cached.read());
        cached
    }

    /// Reads the next [`CHUNKS`] chunks, jumping about, and says how many were not there.
    fn go_on(&mut self) -> u64 {
        // Misses take all chunks in turn: what they find was pushed out long ago.
        self.start = (self.start + CHUNKS) % self.among;
        let misses_before = self.cache.counters().misses;
        self.world.run(self.read());
        self.cache.counters().misses - misses_before
    }

    async fn read(&self) {
        for number in self.start..self.start + CHUNKS {
            let key = ChunkKey { segment: 1, index: number * 97 % self.among };
            let env = self.env.clone();
            self.cache.read(key, WHOLE, || async move { Ok(Some(env.disk().buffer(CHUNK_BYTES))) }).await.unwrap();
        }
    }
}

fn main() {
    Benchmarks::run(|benchmarks| {
        let work = Work::of(usize::try_from(CHUNKS).unwrap(), "chunk");
        benchmarks.on_shared_input(
            "read cache/hit",
            work,
            || Cached::new(CHUNKS),
            |cached| {
                assert_eq!(cached.go_on(), 0, "every chunk is there");
            },
        );
        benchmarks.on_shared_input(
            "read cache/miss",
            work,
            || Cached::new(8 * CHUNKS),
            |cached| {
                assert_eq!(cached.go_on(), u64::from(CHUNKS), "no chunk is there");
            },
        );
    });
}
