//! One read for many readers, nothing from before an invalidation, and what happens when reading fails.

use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::future::join_all;
use millrace_runtime::sim::{World, WorldConfig};
use millrace_runtime::{Buffer, Clock, Moment};

use super::*;

const KEY: ChunkKey = ChunkKey { segment: 7, index: 3 };
const WHOLE: ChunkExtent = ChunkExtent { needed_bytes: CHUNK_BYTES, readable_bytes: CHUNK_BYTES };

/// A file whose every byte is `content`, which takes a millisecond to read.
#[derive(Clone)]
struct Source<E: Env> {
    env: E,
    content: Rc<Cell<u8>>,
    reads: Rc<Cell<usize>>,
}

type Loading<E> = Pin<Box<dyn Future<Output = io::Result<Option<<<E as Env>::Disk as Disk>::Buffer>>>>>;

impl<E: Env> Source<E> {
    fn new(env: &E) -> Self {
        Self { env: env.clone(), content: Rc::new(Cell::new(1)), reads: Rc::default() }
    }

    /// What the cache is to call; the content is what it is when the read begins.
    fn load(&self, bytes: usize) -> impl FnOnce() -> Loading<E> + use<E> {
        let source = self.clone();
        move || {
            source.reads.set(source.reads.get() + 1);
            let content = source.content.get();
            Box::pin(async move {
                source.env.clock().sleep(Duration::from_millis(1)).await;
                let mut buffer = source.env.disk().buffer(bytes);
                buffer.as_mut_slice().fill(content);
                Ok(Some(buffer))
            })
        }
    }
}

fn in_world<F: Future<Output = ()>>(test: impl FnOnce(millrace_runtime::sim::SimEnv) -> F) {
    let world = World::new(11, WorldConfig::default());
    let env = world.env(0);
    world.run(test(env));
}

#[test]
fn many_readers_share_one_read() {
    in_world(|env| async move {
        let (cache, source) = (ReadCache::new(env.clone(), 8 * CHUNK_BYTES), Source::new(&env));
        let readers = (0..10).map(|_| cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)));
        let chunks = join_all(readers).await;
        assert!(chunks.iter().all(|chunk| chunk.as_ref().unwrap().filled() == CHUNK_BYTES));
        assert_eq!(source.reads.get(), 1);
        cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)).await.unwrap();
        assert_eq!(cache.counters(), CacheCounters { hits: 1, misses: 10, joined: 9, loads: 1 });
        assert_eq!(cache.memory_bytes(), CHUNK_BYTES);
    });
}

#[test]
fn a_chunk_that_grew_is_read_again_when_more_of_it_is_wanted() {
    in_world(|env| async move {
        let (cache, source) = (ReadCache::new(env.clone(), 8 * CHUNK_BYTES), Source::new(&env));
        let short = ChunkExtent { needed_bytes: 5000, readable_bytes: 2 * BLOCK_BYTES };
        let long = ChunkExtent { needed_bytes: 9000, readable_bytes: 3 * BLOCK_BYTES };
        // The second one begins while the first one's read is under way, and that is too short for it.
        let both = futures_util::join!(
            cache.read(KEY, short, source.load(2 * BLOCK_BYTES)),
            cache.read(KEY, long, source.load(3 * BLOCK_BYTES))
        );
        assert_eq!((both.0.unwrap().filled(), both.1.unwrap().filled()), (2 * BLOCK_BYTES, 3 * BLOCK_BYTES));
        assert_eq!((source.reads.get(), cache.memory_bytes()), (2, 3 * BLOCK_BYTES));
        let again = ChunkExtent { needed_bytes: 9000, readable_bytes: CHUNK_BYTES };
        cache.read(KEY, again, source.load(CHUNK_BYTES)).await.unwrap();
        assert_eq!(source.reads.get(), 2, "what is wanted is there");
    });
}

#[test]
fn nothing_from_before_an_invalidation_is_returned_after_it() {
    in_world(|env| async move {
        let (cache, source) = (ReadCache::new(env.clone(), 8 * CHUNK_BYTES), Source::new(&env));
        cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)).await.unwrap();
        cache.invalidate(KEY.segment);
        assert_eq!(cache.memory_bytes(), 0);

        let early = cache.read(KEY, WHOLE, source.load(CHUNK_BYTES));
        let late = async {
            // The first read is under way, and will be done before the second one.
            env.clock().sleep(Duration::from_micros(500)).await;
            cache.invalidate(KEY.segment);
            source.content.set(2);
            cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)).await
        };
        let (early, late) = futures_util::join!(early, late);
        assert!(matches!(early, Err(ChunkError::Invalidated)));
        assert_eq!(late.unwrap().slice(0, 1), [2]);
        let chunk = cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)).await.unwrap();
        assert_eq!((chunk.slice(0, 1), source.reads.get()), ([2].as_slice(), 3));
    });
}

#[test]
fn a_failed_or_short_read_is_told_to_all_and_not_kept() {
    in_world(|env| async move {
        let (cache, source) = (ReadCache::new(env.clone(), 8 * CHUNK_BYTES), Source::new(&env));
        let failing = || async { Err(io::Error::other("the disk is gone")) };
        let (first, second) =
            futures_util::join!(cache.read(KEY, WHOLE, failing), cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)));
        for result in [first, second] {
            assert!(matches!(result, Err(ChunkError::Io(error)) if error.to_string() == "the disk is gone"));
        }
        let short = cache.read(KEY, WHOLE, source.load(BLOCK_BYTES)).await;
        assert!(matches!(short, Err(ChunkError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
        let none = cache.read(ChunkKey { index: 9, ..KEY }, WHOLE, || async { Ok(None) }).await;
        assert!(matches!(none, Err(ChunkError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof));
        cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)).await.unwrap();
    });
}

#[test]
fn chunks_loaded_early_are_there_when_they_are_wanted() {
    in_world(|env| async move {
        let (cache, source) = (ReadCache::new(env.clone(), 200 * CHUNK_BYTES), Source::new(&env));
        let key = |index| ChunkKey { index, ..KEY };
        for index in 0..100 {
            cache.load_early(key(index), CHUNK_BYTES, source.load(CHUNK_BYTES));
            cache.load_early(key(index), CHUNK_BYTES, source.load(CHUNK_BYTES));
        }
        assert_eq!(source.reads.get(), EARLY_LOADS_MAX, "each once, and no more than that");
        let before: Moment = env.clock().now();
        cache.read(key(5), WHOLE, source.load(CHUNK_BYTES)).await.unwrap();
        assert_eq!(cache.counters().joined, 1);
        assert!(env.clock().now().saturating_since(before) <= Duration::from_millis(2));
        env.clock().sleep(Duration::from_millis(5)).await;
        cache.read(key(6), WHOLE, source.load(CHUNK_BYTES)).await.unwrap();
        assert_eq!((cache.counters().hits, source.reads.get()), (1, EARLY_LOADS_MAX));
        cache.load_early(key(99), CHUNK_BYTES, source.load(CHUNK_BYTES));
        assert_eq!(source.reads.get(), EARLY_LOADS_MAX + 1, "the earlier ones are done");
    });
}

#[test]
fn a_reader_that_goes_away_leaves_the_read_to_the_others() {
    in_world(|env| async move {
        let (cache, source) = (ReadCache::new(env.clone(), 8 * CHUNK_BYTES), Source::new(&env));
        {
            let first = pin!(cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)));
            let pause = pin!(env.clock().sleep(Duration::from_micros(10)));
            futures_util::future::select(first, pause).await;
        }
        cache.read(KEY, WHOLE, source.load(CHUNK_BYTES)).await.unwrap();
        assert_eq!(source.reads.get(), 1);
    });
}
