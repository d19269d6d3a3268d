//! Descriptors are closed. A program of its own with one test, because it counts those of the whole process.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use millrace_runtime::disk::OpenMode;
use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::{Clock, Disk, Env, Listener, Net};

/// Descriptors of the process but for event counters: glommio leaks one of these per executor, and so per run.
fn descriptor_count() -> usize {
    let is_counted = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() != "anon_inode:[eventfd]")
    };
    std::fs::read_dir("/proc/self/fd").unwrap().map(Result::unwrap).filter(is_counted).count()
}

/// Waits until as many descriptors are open as before; glommio closes them at its next turns.
async fn descriptors_return_to(env: &GlommioEnv, count: usize) {
    for _ in 0..1000 {
        if descriptor_count() == count {
            return;
        }
        env.clock().sleep(Duration::from_millis(5)).await;
    }
    panic!("{} descriptors are open, {count} were before", descriptor_count());
}

#[test]
fn connections_and_files_give_their_descriptors_back() {
    // Guard: glommio's accepted streams leak theirs when they are dropped.
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let root = directory.path().to_owned();
    let main = move |env: GlommioEnv| {
        let root = root.clone();
        async move {
            let listener = env.net().listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let baseline = descriptor_count();

            for _ in 0..100 {
                let _near = env.net().connect(listener.local_address()).await.unwrap();
                drop(listener.accept().await.unwrap());
            }
            descriptors_return_to(&env, baseline).await;

            for _ in 0..100 {
                let _near = env.net().connect(listener.local_address()).await.unwrap();
                let far = env.net().adopt(listener.accept().await.unwrap()).unwrap();
                drop((far.clone(), far));
            }
            descriptors_return_to(&env, baseline).await;

            for file_index in 0..100 {
                let path = root.join(file_index.to_string());
                let file = env.disk().open(&path, OpenMode::New).await.unwrap();
                drop((file.clone(), file));
            }
            descriptors_return_to(&env, baseline).await;

            // The last operation of the shard: it must be closed before the executor ends, nobody does it later.
            drop(env.disk().open(&root.join("0"), OpenMode::Existing).await.unwrap());
        }
    };
    Shards::start(&ShardsConfig::default(), main.clone()).unwrap().join();
    let baseline = descriptor_count();
    for file_index in 0..100 {
        std::fs::remove_file(directory.path().join(file_index.to_string())).unwrap();
    }
    Shards::start(&ShardsConfig::default(), main).unwrap().join();
    assert_eq!(descriptor_count(), baseline);
}
