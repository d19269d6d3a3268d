//! The glommio environment on the real machine: a disk that takes direct I/O, loopback sockets, threads.
//!
//! Each test names the guard that it is about. A failed assertion on a shard aborts the process by design; the message is
//! on standard error.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod disk;
mod links;
mod net;
mod offload;
mod shards;

use std::path::Path;

use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use tempfile::TempDir;

/// Runs `main` on one shard, to its end.
fn on_one_shard<F, Main>(main: F)
where
    F: Fn(GlommioEnv) -> Main + Clone + Send + 'static,
    Main: Future<Output = ()> + 'static,
{
    Shards::start(&ShardsConfig::default(), main).unwrap().join();
}

/// A directory on a disk: temporary directories of the system may be in memory, which direct I/O does not reach.
fn disk_directory() -> TempDir {
    tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}
