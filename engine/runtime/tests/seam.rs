//! What every implementation of `Env` must do, written once and run on each.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::path::Path;
use std::rc::Rc;

use millrace_runtime::disk::OpenMode;
use millrace_runtime::links::{ConnectedReceiver, ConnectedSender};
use millrace_runtime::sim::{World, WorldConfig};
use millrace_runtime::{
    BLOCK_BYTES, Buffer, Clock, Disk, Env, File, LinkReceiver, LinkSender, TaskClass, TaskHandle, Tasks,
};

/// Creates a file, writes two blocks, makes them durable, reads them back, renames and lists.
async fn append_and_read<E: Env>(env: E, dir: &Path) {
    let disk = env.disk();
    disk.create_dir_all(dir).await.unwrap();
    let file = disk.open(&dir.join("new"), OpenMode::New).await.unwrap();
    for index in 0..2_u8 {
        let mut buffer = disk.buffer(BLOCK_BYTES);
        assert!(buffer.as_slice().iter().all(|&byte| byte == 0));
        buffer.as_mut_slice().fill(index + 1);
        file.write_at(Rc::new(buffer), u64::from(index) * 4096).await.unwrap();
    }
    file.sync_data().await.unwrap();
    disk.sync_dir(dir).await.unwrap();
    assert_eq!(file.size_bytes().await.unwrap(), 8192);

    let read = file.read_at(0, 4 * BLOCK_BYTES).await.unwrap().expect("the file has two blocks");
    assert_eq!(read.as_slice().len(), 2 * BLOCK_BYTES);
    assert!(read.as_slice()[..BLOCK_BYTES].iter().all(|&byte| byte == 1));
    assert!(read.as_slice()[BLOCK_BYTES..].iter().all(|&byte| byte == 2));
    assert!(file.read_at(8192, BLOCK_BYTES).await.unwrap().is_none());

    disk.rename(&dir.join("new"), &dir.join("renamed")).await.unwrap();
    disk.sync_dir(dir).await.unwrap();
    let names: Vec<String> = disk.read_dir(dir).await.unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["renamed"]);
    let error = disk.open(&dir.join("new"), OpenMode::Existing).await.err().expect("the old name is gone");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);

    disk.remove_file(&dir.join("renamed")).await.unwrap();
    assert!(file.read_at(0, BLOCK_BYTES).await.unwrap().is_some(), "open handles stay usable");
}

/// Time passes during a sleep, tasks run and are joined, and messages pass a link in order.
async fn sleep_spawn_and_link<E: Env>(env: E) {
    let start = env.clock().now();
    let pause = std::time::Duration::from_millis(2);
    env.clock().sleep(pause).await;
    assert!(env.clock().now() - start >= pause);

    let (sender, receiver) = E::link::<u32>(4);
    let sending = env.tasks().spawn(TaskClass::Network, async move {
        let sender = sender.connect().await;
        for number in 0..100 {
            sender.send(number).await.unwrap();
        }
        "sent"
    });
    env.tasks().yield_now().await;
    let receiver = receiver.connect().await;
    for number in 0..100 {
        assert_eq!(receiver.receive().await, Some(number));
    }
    assert_eq!(receiver.receive().await, None);
    assert_eq!(sending.join().await, "sent");
}

/// Work leaves the shard with what it needs and comes back with its output, while other tasks of the shard run.
async fn offload_and_return<E: Env>(env: E) {
    let text = "borrowed from nobody".to_owned();
    assert_eq!(env.tasks().offload(move || text.len()).await, 20);
    let waits: Vec<_> = (0..50_u64)
        .map(|number| {
            let task_env = env.clone();
            env.tasks().spawn(TaskClass::Background, async move {
                let square = task_env.tasks().offload(move || number * number).await;
                task_env.tasks().yield_now().await;
                square
            })
        })
        .collect();
    let mut sum = 0;
    for wait in waits {
        sum += wait.join().await;
    }
    assert_eq!(sum, 40_425);
}

#[test]
fn the_simulator_appends_and_reads() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        world.run(append_and_read(world.env(0), Path::new("/data/topic-0")));
    }
}

#[test]
fn the_simulator_sleeps_spawns_and_links() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        world.run(sleep_spawn_and_link(world.env(0)));
    }
}

#[test]
fn the_simulator_offloads() {
    for seed in 0..20 {
        let world = World::new(seed, WorldConfig::default());
        world.run(offload_and_return(world.env(0)));
    }
}
