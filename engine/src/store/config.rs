//! What a store needs to know: where it is, and how much it may take of everything.

use std::path::PathBuf;
use std::time::Duration;

use crate::flushes::Flushes;
use crate::producer_state::PRODUCERS_KNOWN_MAX;

/// What a store needs to know.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The data directory.
    pub directory: PathBuf,
    /// The shard this store belongs to.
    pub shard_index: u16,
    /// How many shards there are.
    pub shard_count: u16,
    /// What the directory's shards know of each other's flushes: the same for all of them.
    pub flushes: Flushes,
    /// Length of the journal's ring in bytes; a multiple of the block size, at least [`crate::journal::RING_BYTES_MIN`].
    pub journal_bytes: u64,
    /// A round takes no further log once it has this many bytes.
    pub round_bytes_max: usize,
    /// Bytes that may be appended and not yet durable before [`super::Store::room`] waits.
    pub write_buffer_bytes_max: usize,
    /// Memory for bytes that are durable already and kept for readers at the tail.
    pub tail_cache_bytes_max: usize,
    /// Logs with `flush.policy=interval` are flushed at least this often, if anything was written.
    pub flush_interval: Duration,
    /// A flush is due once this many bytes were written without one.
    pub flush_interval_bytes: usize,
    /// How often logs are looked through for segments to delete.
    pub retention_interval: Duration,
    /// Space on the disk that is kept for the broker itself, in bytes; this shard's part of it.
    pub reserve_bytes: u64,
    /// How often logs are looked through for something to compact.
    pub compaction_interval: Duration,
    /// Memory for the keys of one compaction pass.
    pub key_map_bytes_max: usize,
    /// The most that the records of one batch may take when they are decompressed.
    pub records_bytes_max: usize,
    /// Memory for what was read from segments, and is being read.
    pub read_cache_bytes_max: usize,
    /// Segment files that are open at the same time, beside those in use.
    pub open_file_count_max: usize,
    /// Memory for the indexes of segments that take no more appends.
    pub index_bytes_max: usize,
    /// A log that nobody used for this long keeps no open file and no memory of its records. May take three times as long.
    pub idle_interval: Duration,
    /// A log with more idempotent producers in memory spills them to a file.
    pub producer_count_max: usize,
    /// Memory for the idempotent producers of all logs.
    pub producer_bytes_max: usize,
    /// A producer whose last batch is older is forgotten (`producer.id.expiration.ms`).
    pub producer_age_max: Duration,
}

impl StoreConfig {
    /// The only shard of the directory, with limits that suit a small machine.
    pub fn at(directory: PathBuf) -> Self {
        Self {
            directory,
            shard_index: 0,
            shard_count: 1,
            flushes: Flushes::new(1),
            journal_bytes: 16 * 1024 * 1024,
            round_bytes_max: 4 * 1024 * 1024,
            write_buffer_bytes_max: 16 * 1024 * 1024,
            tail_cache_bytes_max: 16 * 1024 * 1024,
            flush_interval: Duration::from_secs(1),
            flush_interval_bytes: 16 * 1024 * 1024,
            retention_interval: Duration::from_secs(30),
            reserve_bytes: 0,
            compaction_interval: Duration::from_secs(15),
            key_map_bytes_max: 16 * 1024 * 1024,
            records_bytes_max: 32 * 1024 * 1024,
            read_cache_bytes_max: 32 * 1024 * 1024,
            open_file_count_max: 512,
            index_bytes_max: 16 * 1024 * 1024,
            idle_interval: Duration::from_secs(30),
            producer_count_max: PRODUCERS_KNOWN_MAX,
            producer_bytes_max: 16 * 1024 * 1024,
            producer_age_max: Duration::from_hours(24),
        }
    }
}
