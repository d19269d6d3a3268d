//! Millrace's storage engine: partitions as logs of Kafka record batches, on direct I/O.
//!
//! A [`store::Store`] lives on one shard and owns that shard's logs, their files and the shard's journal. It knows no
//! network, no requests and no cluster; the broker above it decides who may append and what a client may see.
//!
//! Modules in reading order: [`model`] names the quantities; [`mod@format`] fixes the bytes on disk; [`io`] holds the memory
//! that is appended to and lent out; [`producer_state`] and [`epoch_cache`] are what batches say of producers and leaders;
//! [`log`] is one partition in memory; [`segment`] its file; [`journal`] makes a round of appends durable; [`read_cache`]
//! keeps what was read; [`store`] ties them together; [`checkpoint`] and [`recovery`] bring them back after a crash.
//! [`compaction`] takes outdated records out of batches; [`histogram`] counts how long things take. [`flushes`] is what the
//! shards of a directory tell each other: whose flush of the device failed.
#![deny(unsafe_code)]

pub mod model;

pub mod format;
pub mod io;

pub mod checkpoint;
pub mod compaction;
pub mod epoch_cache;
pub mod flushes;
pub mod histogram;
pub mod journal;
pub mod log;
pub mod producer_state;
pub mod read_cache;
pub mod recovery;
pub mod segment;
pub mod segment_files;
pub mod store;
