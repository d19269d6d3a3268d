//! What crashes leave.

use std::path::Path;
use std::time::Duration;

use super::super::{Crashed, DiskConfig, Operation, SimEnv, World};
use super::{create, world, write};
use crate::disk::OpenMode;
use crate::{Clock, Disk, Env, File, FlushScope, TaskClass, Tasks};

const SEEDS: std::ops::Range<u64> = 0..200;

/// A file of two synced blocks of ones, whose name is durable.
async fn durable_file(env: &SimEnv) -> super::SimFile {
    let file = create(env, "file").await;
    write(env.disk(), &file, 0, 2, 1).await.unwrap();
    file.sync_data().await.unwrap();
    env.disk().sync_dir("/".as_ref()).await.unwrap();
    file
}

#[test]
fn synced_data_always_survives() {
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(durable_file(&env));
        world.crash_shards();
        assert_eq!(world.disk().read("file"), Some(vec![1; 8192]), "seed {seed}");
    }
}

#[test]
fn unsynced_writes_survive_are_lost_or_torn() {
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let file = durable_file(&env).await;
            write(env.disk(), &file, 1, 1, 2).await.unwrap();
        });
        world.crash_shards();
        let bytes = world.disk().read("file").unwrap();
        assert!(bytes[..4096].iter().all(|&byte| byte == 1), "only the written block is in doubt, seed {seed}");
        let (sectors, _) = bytes[4096..].as_chunks::<512>();
        assert!(sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])), "sectors are atomic");
        match sectors.iter().filter(|sector| sector[0] == 2).count() {
            0 => lost += 1,
            8 => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(kept > 20 && lost > 20 && torn > 20, "kept {kept}, lost {lost}, torn {torn}");
}

#[test]
fn synchronous_writes_are_durable_with_their_length() {
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let file = durable_file(&env).await;
            // An older image of the same block, not durable, must not come back over it.
            write(env.disk(), &file, 2, 1, 3).await.unwrap();
            let synchronous = env.disk().open("file".as_ref(), OpenMode::Synchronous).await.unwrap();
            write(env.disk(), &synchronous, 2, 2, 4).await.unwrap();
        });
        world.crash_shards();
        let mut expected = vec![1; 8192];
        expected.extend([4; 8192]);
        assert_eq!(world.disk().read("file"), Some(expected), "seed {seed}");
    }
}

#[test]
fn a_sync_covers_only_what_completed_before_it_began() {
    let mut lost = 0;
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let file = durable_file(&env).await;
            let (disk, writer) = (env.disk().clone(), file.clone());
            env.tasks().spawn(TaskClass::Flush, async move {
                write(&disk, &writer, 0, 1, 2).await.unwrap();
            });
            env.tasks().yield_now().await;
            file.sync_data().await.unwrap();
        });
        world.crash_shards();
        lost += u32::from(world.disk().read("file").unwrap()[..4096].contains(&1));
    }
    assert!(lost > 20, "lost {lost}");
}

#[test]
fn lengths_survive_as_a_prefix() {
    let mut lengths = Vec::new();
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let file = durable_file(&env).await;
            file.allocate(0, 4 * 4096).await.unwrap();
            file.truncate(4096).await.unwrap();
            file.truncate(3 * 4096).await.unwrap();
        });
        world.crash_shards();
        let bytes = world.disk().read("file").unwrap();
        let second_block = bytes.get(4096).copied();
        assert!(bytes.len() != 3 * 4096 || second_block == Some(0), "a later length implies the cut before it");
        lengths.push(bytes.len() / 4096);
    }
    lengths.sort_unstable();
    lengths.dedup();
    assert_eq!(lengths, [1, 2, 3, 4]);
}

#[test]
fn names_are_durable_after_a_sync_and_a_prefix_before() {
    let mut survivors = Vec::new();
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let disk = env.disk();
            disk.create_dir_all("/dir".as_ref()).await.unwrap();
            disk.sync_dir("/".as_ref()).await.unwrap();
            create(&env, "/dir/synced").await;
            create(&env, "/dir/old").await;
            disk.sync_dir("/dir".as_ref()).await.unwrap();
            create(&env, "/dir/a").await;
            disk.rename("/dir/old".as_ref(), "/dir/new".as_ref()).await.unwrap();
            disk.remove_file("/dir/synced".as_ref()).await.unwrap();
        });
        world.crash_shards();
        survivors.push(world.disk().files().join(" "));
    }
    survivors.sort();
    survivors.dedup();
    let prefixes =
        ["/dir/a /dir/new", "/dir/a /dir/new /dir/synced", "/dir/a /dir/old /dir/synced", "/dir/old /dir/synced"];
    assert_eq!(survivors, prefixes);
}

#[test]
fn a_rename_between_directories_happens_or_does_not() {
    let mut outcomes = Vec::new();
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let disk = env.disk();
            disk.create_dir_all("/a".as_ref()).await.unwrap();
            disk.create_dir_all("/b".as_ref()).await.unwrap();
            disk.sync_dir("/".as_ref()).await.unwrap();
            create(&env, "/a/file").await;
            disk.sync_dir("/a".as_ref()).await.unwrap();
            disk.rename("/a/file".as_ref(), "/b/file".as_ref()).await.unwrap();
            disk.sync_dir("/a".as_ref()).await.unwrap();
            if seed % 2 == 0 {
                disk.sync_dir("/b".as_ref()).await.unwrap();
            }
        });
        world.crash_shards();
        let files = world.disk().files();
        assert_eq!(files.len(), 1, "neither lost nor doubled, seed {seed}");
        assert!(seed % 2 == 1 || files == ["/b/file"], "durable once both were synced, seed {seed}");
        outcomes.extend(files);
    }
    assert!(outcomes.contains(&"/a/file".to_owned()));
}

#[test]
fn removed_trees_stay_removed_after_a_sync_of_the_parent() {
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let disk = env.disk();
            disk.create_dir_all("/dir/sub".as_ref()).await.unwrap();
            create(&env, "/dir/sub/file").await;
            disk.sync_dir("/".as_ref()).await.unwrap();
            disk.remove_dir_all("/dir".as_ref()).await.unwrap();
            disk.sync_dir("/".as_ref()).await.unwrap();
            disk.create_dir_all("/dir".as_ref()).await.unwrap();
            create(&env, "/dir/new").await;
            disk.sync_dir("/dir".as_ref()).await.unwrap();
            disk.sync_dir("/".as_ref()).await.unwrap();
        });
        world.crash_shards();
        assert_eq!(world.disk().files(), ["/dir/new"], "seed {seed}");
    }
}

#[test]
fn a_failed_sync_loses_writes_and_the_next_one_lies() {
    let mut lost = 0;
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let file = durable_file(&env).await;
            write(env.disk(), &file, 0, 1, 2).await.unwrap();
            world.faults().fail_nth(Some(Operation::SyncData), 1, super::super::Failure::Io);
            file.sync_data().await.unwrap_err();
            file.sync_data().await.unwrap();
        });
        world.crash_shards();
        lost += u32::from(world.disk().read("file").unwrap()[..4096].contains(&1));
    }
    assert!(lost > 50, "lost {lost}");
}

#[test]
fn a_failed_flush_of_the_device_loses_writes_of_other_files_and_the_next_one_lies() {
    for (operation, scope) in [
        (Operation::SyncData, FlushScope::Device),
        (Operation::SyncDir, FlushScope::Device),
        (Operation::SyncData, FlushScope::File),
    ] {
        let (mut lost, mut forgotten) = (0, 0);
        for seed in SEEDS {
            let disk = DiskConfig { flush_scope: scope, ..DiskConfig::default() };
            let world = World::new(seed, super::WorldConfig { disk, ..super::WorldConfig::default() });
            let env = world.env(0);
            world.run(async {
                let (file, other) = (durable_file(&env).await, create(&env, "other").await);
                write(env.disk(), &file, 0, 1, 2).await.unwrap();
                world.faults().fail_nth(Some(operation), 1, super::super::Failure::Io);
                let failed = match operation {
                    Operation::SyncDir => env.disk().sync_dir("/".as_ref()).await,
                    _ => other.sync_data().await,
                };
                failed.unwrap_err();
                file.sync_data().await.unwrap();
            });
            forgotten += u32::from(world.disk().read("file").unwrap()[..4096].contains(&1));
            world.crash_shards();
            lost += u32::from(world.disk().read("file").unwrap()[..4096].contains(&1));
        }
        if scope == FlushScope::Device {
            assert!(lost > 50 && forgotten > 20 && forgotten < lost, "{operation:?}: {lost} lost, {forgotten} at once");
        } else {
            assert_eq!((lost, forgotten), (0, 0), "the other file is not concerned");
        }
    }
}

#[test]
fn ignored_syncs_lose_data() {
    let mut lost = 0;
    for seed in SEEDS {
        let world = world(seed);
        let env = world.env(0);
        world.faults().ignore_syncs(true);
        world.run(durable_file(&env));
        world.crash_shards();
        lost += u32::from(world.disk().read("file") != Some(vec![1; 8192]));
    }
    assert!(lost > 50, "lost {lost}");
}

/// Appends one block after another, each made durable; says what is durable.
async fn append(env: SimEnv, durable_blocks: &std::cell::Cell<u64>) {
    let file = create(&env, "log").await;
    env.disk().sync_dir("/".as_ref()).await.unwrap();
    for block in 0..4 {
        write(env.disk(), &file, block, 1, 5).await.unwrap();
        file.sync_data().await.unwrap();
        durable_blocks.set(block + 1);
    }
}

#[test]
fn every_operation_can_be_the_last() {
    for seed in 0..20 {
        let mut k = 0;
        loop {
            k += 1;
            let world = world(seed);
            let durable_blocks = std::cell::Cell::new(0);
            world.faults().crash_after(k);
            let outcome = world.run_until_crash(append(world.env(0), &durable_blocks));
            let expected_bytes = usize::try_from(durable_blocks.get()).unwrap() * 4096;
            let bytes = world.disk().read("log").unwrap_or_default();
            assert!(bytes.len() >= expected_bytes, "seed {seed}, k {k}");
            assert!(bytes[..expected_bytes].iter().all(|&byte| byte == 5), "seed {seed}, k {k}");
            if outcome == Ok(()) {
                break;
            }
            assert_eq!(outcome, Err(Crashed));
            assert_eq!(world.machine(0).crash_count(), 1);
            // The next life finds the disk and works on it.
            let env = world.env(0);
            world.run(async { create(&env, "next").await });
        }
        assert_eq!(k, 11, "ten operations, then a run without a crash");
    }
}

/// Tries to write when it is dropped.
struct LastWish(SimEnv);

impl Drop for LastWish {
    fn drop(&mut self) {
        let env = self.0.clone();
        self.0.tasks().spawn(TaskClass::Flush, async move {
            create(&env, "ghost").await;
        });
    }
}

#[test]
fn dying_tasks_do_nothing() {
    let world = world(11);
    let env = world.env(0);
    let wish = LastWish(env.clone());
    env.tasks().spawn(TaskClass::Flush, async move {
        let _wish = wish;
        std::future::pending::<()>().await;
    });
    let stale = env.clone();
    world.run(async { env.clock().sleep(Duration::from_millis(1)).await });
    world.crash_shards();
    let env = world.env(0);
    world.run(async {
        env.clock().sleep(Duration::from_secs(1)).await;
        let error = stale.disk().open("ghost".as_ref(), OpenMode::New).await.err();
        assert!(error.is_some(), "handles do not outlive a crash");
    });
    assert!(world.disk().files().is_empty());
}

#[test]
fn a_killed_process_leaves_what_completed() {
    for seed in 0..50 {
        let world = world(seed);
        let env = world.env(0);
        world.run(async {
            let file = create(&env, "file").await;
            write(env.disk(), &file, 0, 1, 6).await.unwrap();
        });
        world.kill_shards();
        assert_eq!(world.disk().read("file"), Some(vec![6; 4096]));
        assert_eq!(world.disk().durable_files(), Vec::<String>::new());
    }
}

#[test]
fn one_image_crashes_in_many_ways() {
    let first = world(1);
    let env = first.env(0);
    first.run(async {
        let file = durable_file(&env).await;
        write(env.disk(), &file, 0, 2, 2).await.unwrap();
    });
    let image = first.disk().fork();
    let mut outcomes = Vec::new();
    for seed in 0..50 {
        let world = World::new(seed, super::WorldConfig::default());
        world.machine(0).mount(&image);
        outcomes.push(world.disk().read("file").unwrap());
    }
    outcomes.sort();
    outcomes.dedup();
    assert!(outcomes.len() > 10);
    assert_eq!(first.disk().read("file"), Some(vec![2; 8192]), "the original is untouched");
}

#[test]
fn an_image_holds_writes_in_flight() {
    let mut outcomes = Vec::new();
    for seed in 0..50 {
        let first = world(seed);
        let env = first.env(0);
        let image = first.run(async {
            let file = durable_file(&env).await;
            let disk = env.disk().clone();
            env.tasks().spawn(TaskClass::Flush, async move { write(&disk, &file, 0, 1, 2).await });
            env.tasks().yield_now().await;
            first.disk().fork()
        });
        assert_eq!(first.disk().read("file"), Some(vec![1; 8192]), "in flight is not visible");
        let second = world(seed);
        second.machine(0).mount(&image);
        let bytes = second.disk().read("file").unwrap();
        outcomes.push(bytes.contains(&2));
        assert!(bytes[4096..].iter().all(|&byte| byte == 1));
    }
    assert!(outcomes.contains(&false) && outcomes.contains(&true));
}

#[test]
fn a_full_disk_counts_what_a_crash_brought_back() {
    for seed in 0..50 {
        let world = world(seed);
        world.disk().resize(4 * 4096);
        let env = world.env(0);
        world.run(async {
            let file = durable_file(&env).await;
            file.truncate(0).await.unwrap();
            write(env.disk(), &file, 0, 4, 3).await.unwrap();
        });
        world.crash_shards();
        let env = world.env(0);
        world.run(async {
            let free_bytes = env.disk().available_bytes("/".as_ref()).await.unwrap();
            let file = create(&env, "next").await;
            assert!(file.allocate(0, free_bytes + 4096).await.is_err(), "seed {seed}");
            if free_bytes > 0 {
                file.allocate(0, free_bytes).await.unwrap();
            }
        });
    }
}

#[test]
fn machines_crash_alone() {
    let world = world(12);
    let (first, second) = (world.machine(0), world.machine(1));
    let (first_env, second_env) = (first.env(0), second.env(0));
    second_env.clone().tasks().spawn(TaskClass::Background, async move {
        second_env.clock().sleep(Duration::from_millis(10)).await;
        create(&second_env, "alive").await;
    });
    first_env.clone().tasks().spawn(TaskClass::Background, async move {
        first_env.clock().sleep(Duration::from_millis(10)).await;
        create(&first_env, "alive").await;
    });
    let clock = world.machine(2).env(0).clock().clone();
    world.run(async {
        clock.sleep(Duration::from_millis(5)).await;
        first.crash();
        clock.sleep(Duration::from_millis(20)).await;
    });
    assert!(first.disk().files().is_empty());
    assert_eq!(second.disk().files(), [Path::new("/alive").to_str().unwrap()]);
}
