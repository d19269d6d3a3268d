//! The simulator's own tests: what it promises to the code that is tested on it.

mod crash;
mod disk;
mod executor;
mod links;
mod net;

use std::io;
use std::rc::Rc;

use super::{SimDisk, SimEnv, SimFile, World, WorldConfig};
use crate::disk::OpenMode;
use crate::{BLOCK_BYTES, Buffer, Disk, Env, File};

fn world(seed: u64) -> World {
    World::new(seed, WorldConfig::default())
}

/// A file in the root directory.
async fn create(env: &SimEnv, path: &str) -> SimFile {
    env.disk().open(path.as_ref(), OpenMode::New).await.unwrap()
}

/// Writes `blocks` blocks of one byte.
async fn write(disk: &SimDisk, file: &SimFile, block: u64, blocks: usize, byte: u8) -> io::Result<()> {
    let mut buffer = disk.buffer(blocks * BLOCK_BYTES);
    buffer.as_mut_slice().fill(byte);
    file.write_at(Rc::new(buffer), block * 4096).await
}
