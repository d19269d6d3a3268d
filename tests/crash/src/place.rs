//! Puts an image where a store can be opened on it, and recovers it: on the simulator's disk, or in a real directory.
//!
//! The simulator's is the place for the many: an image is there in a millisecond, no device has to be waited for, and what
//! recovery does next can be recorded and crashed again. Recovery is the same code on both, and what it needs of a disk is
//! only that it gives back what was put there; a part of the images goes through a real directory all the same, with real
//! names, holes and direct I/O.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;

use millrace_engine::model::PartitionId;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::sim::{SimEnv, World, WorldConfig};
use millrace_runtime::{Buffer, Disk, Env, File, OpenMode};
use millrace_sim::broker::Tuning;

use crate::device::{Bytes, Image};
use crate::ledger::Recovered;
use crate::load;

/// Where images are on the simulator's disk.
pub const ROOT: &str = "/srv";

/// A simulated machine on whose disk `image` is, all of it durable.
pub fn simulated(image: &Image, seed: u64) -> World {
    let world = World::new(seed, WorldConfig::default());
    world.run(async { fill(&world.env(0), image).await.expect("an empty simulated disk takes an image") });
    world
}

async fn fill(env: &SimEnv, image: &Image) -> io::Result<()> {
    let (disk, root) = (env.disk(), Path::new(ROOT));
    disk.create_dir_all(root).await?;
    for directory in &image.directories {
        disk.create_dir_all(&root.join(directory)).await?;
    }
    for (path, bytes) in &image.files {
        let file = disk.open(&root.join(path), OpenMode::New).await?;
        file.truncate(bytes.length()).await?;
        for (position, run) in runs(bytes) {
            let mut buffer = disk.buffer(run.len());
            buffer.as_mut_slice().copy_from_slice(&run);
            file.write_at(Rc::new(buffer), position).await?;
        }
        file.sync_data().await?;
    }
    Ok(())
}

/// The blocks of a file that are not zeros, neighbours together: a few large writes take less time than many small ones.
fn runs(bytes: &Bytes) -> Vec<(u64, Vec<u8>)> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut end = 0;
    for (position, block) in bytes.blocks() {
        match runs.last_mut() {
            Some((_, run)) if position == end => run.extend_from_slice(block),
            _ => runs.push((position, block.to_vec())),
        }
        end = position + u64::try_from(block.len()).expect("a block fits u64");
    }
    runs
}

/// Recovers an image in the simulator. A panic of the engine is an error like any other.
pub fn recover_simulated(image: &Image, seed: u64, tuning: &Tuning, logs: &[PartitionId]) -> Result<Recovered, String> {
    let recovery = || {
        let world = simulated(image, seed);
        world.run(async {
            let (_store, recovered) = load::recover(&world.env(0), Path::new(ROOT), tuning, logs.to_vec()).await?;
            Ok(recovered)
        })
    };
    catch_unwind(AssertUnwindSafe(recovery)).unwrap_or_else(|panic| Err(format!("panic: {}", said(&*panic))))
}

/// What a panic said.
pub fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "no words".to_owned())
}

/// Makes `image` below the directory `root`, which is empty.
pub fn materialise(image: &Image, root: &Path) -> io::Result<()> {
    for directory in &image.directories {
        fs::create_dir_all(root.join(directory))?;
    }
    for (path, bytes) in &image.files {
        let file = fs::File::create_new(root.join(path))?;
        for (position, block) in bytes.blocks() {
            file.write_all_at(block, position)?;
        }
        file.set_len(bytes.length())?;
    }
    Ok(())
}

/// Recovers what lies below `root` on the machine.
pub fn recover_real(root: &Path, tuning: &Tuning, logs: &[PartitionId]) -> Result<Recovered, String> {
    let (sender, receiver) = mpsc::channel();
    let (root, tuning, logs) = (root.to_owned(), tuning.clone(), logs.to_vec());
    let main = move |env| {
        let (root, tuning, logs, sender) = (root.clone(), tuning.clone(), logs.clone(), sender.clone());
        async move {
            let recovered = load::recover(&env, &root, &tuning, logs).await.map(|(_store, recovered)| recovered);
            sender.send(recovered).expect("the test waits for the answer");
        }
    };
    Shards::start(&ShardsConfig::default(), main).expect("io_uring works here").join();
    receiver.recv().expect("the shard answers before it ends")
}
