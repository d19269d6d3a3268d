//! The disk while nothing crashes: contents, space, failures, and the defects of callers it names.

use std::io;
use std::path::Path;
use std::rc::Rc;

use super::super::{DiskConfig, Failure, Operation, World, WorldConfig};
use super::{create, world, write};
use crate::disk::{DirEntry, OpenMode};
use crate::{BLOCK_BYTES, Buffer, Disk, Env, File, TaskClass, TaskHandle, Tasks};

#[test]
fn files_grow_shrink_and_read_zeros_where_nothing_was_written() {
    let world = world(1);
    let env = world.env(0);
    world.run(async {
        let file = create(&env, "file").await;
        assert_eq!(file.size_bytes().await.unwrap(), 0);
        assert!(file.read_at(0, BLOCK_BYTES).await.unwrap().is_none());
        write(env.disk(), &file, 3, 1, 9).await.unwrap();
        let read = file.read_at(0, 8 * BLOCK_BYTES).await.unwrap().unwrap();
        assert_eq!(read.as_slice().len(), 4 * BLOCK_BYTES);
        assert!(read.as_slice()[..3 * BLOCK_BYTES].iter().all(|&byte| byte == 0));
        assert!(read.as_slice()[3 * BLOCK_BYTES..].iter().all(|&byte| byte == 9));

        file.truncate(3 * 4096 + 100).await.unwrap();
        assert_eq!(file.size_bytes().await.unwrap(), 3 * 4096 + 100);
        let read = file.read_at(3 * 4096, BLOCK_BYTES).await.unwrap().unwrap();
        assert!(read.as_slice()[..100].iter().all(|&byte| byte == 9));
        assert!(read.as_slice()[100..].iter().all(|&byte| byte == 0), "the partial block is padded");

        file.truncate(5 * 4096).await.unwrap();
        let read = file.read_at(3 * 4096, 2 * BLOCK_BYTES).await.unwrap().unwrap();
        assert!(read.as_slice()[100..].iter().all(|&byte| byte == 0), "what was cut does not come back");

        file.allocate(0, 10 * 4096).await.unwrap();
        assert_eq!(file.size_bytes().await.unwrap(), 10 * 4096);
    });
}

#[test]
fn buffers_are_aligned_zeroed_and_trimmed() {
    let world = world(1);
    let mut buffer = world.env(0).disk().buffer(3 * BLOCK_BYTES);
    assert!(buffer.as_slice().iter().all(|&byte| byte == 0));
    assert_eq!(buffer.as_slice().as_ptr().align_offset(BLOCK_BYTES), 0);
    buffer.trim(BLOCK_BYTES);
    assert_eq!(buffer.as_mut_slice().len(), BLOCK_BYTES);
}

#[test]
fn names_behave_as_names_do() {
    let world = world(2);
    let env = world.env(0);
    world.run(async {
        let disk = env.disk();
        disk.create_dir_all("/a/b/c".as_ref()).await.unwrap();
        disk.create_dir_all("/a/b/c".as_ref()).await.unwrap();
        create(&env, "/a/b/one").await;
        let kind = |error: io::Error| error.kind();
        let open = async |path: &str, mode| disk.open(path.as_ref(), mode).await.map(|_| ()).map_err(kind);
        assert_eq!(open("/a/b/one", OpenMode::New).await, Err(io::ErrorKind::AlreadyExists));
        assert_eq!(open("/a/b/two", OpenMode::Existing).await, Err(io::ErrorKind::NotFound));
        assert_eq!(open("/a/x/two", OpenMode::New).await, Err(io::ErrorKind::NotFound));
        assert_eq!(open("/a/b", OpenMode::Existing).await, Err(io::ErrorKind::IsADirectory));

        let entries = disk.read_dir("/a/b".as_ref()).await.unwrap();
        let entry = |name: &str, is_dir| DirEntry { name: name.to_owned(), is_dir };
        assert_eq!(entries, [entry("c", true), entry("one", false)]);

        create(&env, "/a/b/two").await;
        disk.rename("/a/b/one".as_ref(), "/a/b/two".as_ref()).await.unwrap();
        disk.rename("/a/b".as_ref(), "/z".as_ref()).await.unwrap();
        assert_eq!(world.disk().files(), ["/z/two"]);
        assert!(disk.rename("/z".as_ref(), "/z/c/z".as_ref()).await.is_err());
        disk.remove_dir_all("/z".as_ref()).await.unwrap();
        assert_eq!(disk.read_dir("/".as_ref()).await.unwrap(), [entry("a", true)]);
        assert_eq!(disk.remove_file("/z/two".as_ref()).await.map_err(kind), Err(io::ErrorKind::NotFound));
    });
}

#[test]
fn a_full_disk_refuses_and_removal_frees() {
    let disk = DiskConfig { capacity_bytes: 8 * 4096, ..DiskConfig::default() };
    let world = World::new(4, WorldConfig { disk, ..WorldConfig::default() });
    let env = world.env(0);
    world.run(async {
        let disk = env.disk();
        let file = create(&env, "file").await;
        file.allocate(0, 6 * 4096).await.unwrap();
        assert_eq!(disk.available_bytes(Path::new("/")).await.unwrap(), 2 * 4096);
        write(disk, &file, 0, 6, 1).await.expect("reserved space is there");
        let error = write(disk, &file, 6, 3, 1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.allocate(0, 9 * 4096).await.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(file.size_bytes().await.unwrap(), 6 * 4096);

        disk.remove_file(Path::new("file")).await.unwrap();
        assert_eq!(disk.available_bytes(Path::new("/")).await.unwrap(), 2 * 4096, "still open");
        drop(file);
        assert_eq!(disk.available_bytes(Path::new("/")).await.unwrap(), 8 * 4096);
        assert_eq!(disk.capacity_bytes(Path::new("/")).await.unwrap(), 8 * 4096, "whatever is on it");
        let file = create(&env, "next").await;
        write(disk, &file, 0, 8, 1).await.unwrap();
    });
}

#[test]
fn the_nth_operation_fails_and_only_that() {
    let script = async |env: super::SimEnv| {
        let file = env.disk().open("file".as_ref(), OpenMode::New).await?;
        for block in 0..3 {
            write(env.disk(), &file, block, 1, 1).await?;
        }
        file.sync_data().await?;
        env.disk().sync_dir("/".as_ref()).await
    };
    let count = {
        let world = world(5);
        world.run(script(world.env(0))).unwrap();
        assert_eq!(world.faults().operation_count(Some(Operation::Write)), 3);
        world.faults().operation_count(None)
    };
    assert_eq!(count, 6);
    for n in 1..=count {
        let world = world(5);
        world.faults().fail_nth(None, n, Failure::NoSpace);
        let error = world.run(script(world.env(0))).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(world.faults().operation_count(None), n, "the script stops at the failure");
    }
    let world = world(5);
    world.faults().fail_nth(Some(Operation::Write), 2, Failure::Io);
    let error = world.run(script(world.env(0))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EIO));
    assert_eq!(world.faults().operation_count(Some(Operation::Write)), 2);
}

#[test]
fn random_failures_come_and_go() {
    let world = world(10);
    let env = world.env(0);
    world.faults().fail_one_in(2);
    world.run(async {
        let mut failed = 0;
        for _ in 0..100 {
            failed += u32::from(env.disk().read_dir("/".as_ref()).await.is_err());
        }
        assert!(failed > 20 && failed < 80);
        world.faults().clear();
        for _ in 0..100 {
            env.disk().read_dir("/".as_ref()).await.unwrap();
        }
    });
    assert_eq!(world.faults().operation_count(Some(Operation::ReadDir)), 200);
}

#[test]
fn concurrent_writes_land_in_either_order() {
    let mut last_bytes = Vec::new();
    for seed in 0..20 {
        let disk = DiskConfig { check_overlaps: false, ..DiskConfig::default() };
        let world = World::new(seed, WorldConfig { disk, ..WorldConfig::default() });
        let env = world.env(0);
        world.run(async {
            let file = create(&env, "file").await;
            let writes = [1, 2].map(|byte| {
                let (file, disk) = (file.clone(), env.disk().clone());
                env.tasks().spawn(TaskClass::Flush, async move { write(&disk, &file, 0, 1, byte).await })
            });
            for write in writes {
                write.join().await.unwrap();
            }
        });
        last_bytes.push(world.disk().read("file").unwrap()[0]);
    }
    assert!(last_bytes.contains(&1) && last_bytes.contains(&2));
}

#[test]
fn damage_is_visible() {
    let world = world(6);
    let env = world.env(0);
    world.run(async {
        let file = create(&env, "file").await;
        write(env.disk(), &file, 0, 2, 0).await.unwrap();
        world.disk().flip_bit("file", 5000, 3);
        world.disk().corrupt("file", 10, b"rot");
        let read = file.read_at(0, 2 * BLOCK_BYTES).await.unwrap().unwrap();
        assert_eq!(read.as_slice()[5000], 8);
        assert_eq!(&read.as_slice()[10..13], b"rot");
        world.disk().truncate("file", 4096);
        assert_eq!(file.size_bytes().await.unwrap(), 4096);
    });
}

#[test]
#[should_panic(expected = "block rewritten before its previous write completed")]
fn overlapping_writes_are_a_defect() {
    let world = world(7);
    let env = world.env(0);
    world.run(async {
        let file = create(&env, "file").await;
        let (first_file, disk) = (file.clone(), env.disk().clone());
        let first = env.tasks().spawn(TaskClass::Flush, async move { write(&disk, &first_file, 0, 2, 1).await });
        env.tasks().yield_now().await;
        write(env.disk(), &file, 1, 1, 1).await.unwrap();
        first.join().await.unwrap();
    });
}

#[test]
#[should_panic(expected = "position 512 of direct I/O is a multiple of the block")]
fn an_unaligned_position_is_a_defect() {
    let world = world(8);
    let env = world.env(0);
    world.run(async {
        let file = create(&env, "file").await;
        let buffer = Rc::new(env.disk().buffer(BLOCK_BYTES));
        file.write_at(buffer, 512).await.unwrap();
    });
}

#[test]
#[should_panic(expected = "length 100 of direct I/O is a multiple of the block")]
fn an_unaligned_length_is_a_defect() {
    world(9).env(0).disk().buffer(100);
}
