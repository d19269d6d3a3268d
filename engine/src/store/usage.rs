//! What a store's logs take at the moment: of the disk, and of what is bounded.

use millrace_runtime::Env;

use super::{ReadError, Store, extents, open};
use crate::model::PartitionId;
use crate::read_cache::CacheCounters;

impl<E: Env> Store<E> {
    /// Bytes of a log's records, as retention by size counts them. What is filled ahead is not in it.
    pub async fn log_bytes(&self, id: PartitionId) -> Result<u64, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        log.borrow_mut().used = true;
        loop {
            open::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
            let life = log.borrow().life;
            let loaded = extents::load_heads(&self.inner, &log).await;
            // A log that failed meanwhile does not know its segments.
            if log.borrow().life == life && log.borrow().recorded.is_none() {
                return loaded.map(|()| log.borrow().record_bytes());
            }
        }
    }

    /// How often what readers wanted of segments was in memory.
    pub fn read_cache_counters(&self) -> CacheCounters {
        self.inner.read_cache.counters()
    }

    /// Memory of what was read from segments, in bytes.
    pub fn read_cache_bytes(&self) -> usize {
        self.inner.read_cache.memory_bytes()
    }

    /// Open files of all logs' segments.
    pub fn open_file_count(&self) -> usize {
        let logs = self.inner.logs.borrow();
        logs.values().map(|log| log.borrow().open_file_count()).sum()
    }

    /// Memory of all indexes of segments that take no more appends, in bytes.
    pub fn index_bytes(&self) -> usize {
        let logs = self.inner.logs.borrow();
        logs.values().map(|log| log.borrow().sealed_index_bytes()).sum()
    }

    /// Memory of the records at the ends of all logs, in bytes.
    pub fn tail_bytes(&self) -> usize {
        self.inner.tail_bytes.get()
    }

    /// Memory of all logs' idempotent producers, in bytes.
    pub fn producer_bytes(&self) -> usize {
        self.inner.logs.borrow().values().map(|log| log.borrow().producers.memory_bytes()).sum()
    }
}
