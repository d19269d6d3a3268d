//! Files and directories.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use millrace_runtime::disk::{DirEntry, OpenMode};
use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File};

use crate::{disk_directory, on_one_shard};

type GlommioFile = <<GlommioEnv as Env>::Disk as Disk>::File;
type GlommioBuffer = <<GlommioEnv as Env>::Disk as Disk>::Buffer;

const BLOCK: u64 = 4096;

fn filled(env: &GlommioEnv, block_count: usize, byte: u8) -> Rc<GlommioBuffer> {
    let mut buffer = env.disk().buffer(block_count * BLOCK_BYTES);
    buffer.as_mut_slice().fill(byte);
    Rc::new(buffer)
}

async fn new_file(env: &GlommioEnv, path: &Path) -> GlommioFile {
    env.disk().open(path, OpenMode::New).await.unwrap()
}

async fn read_all(file: &GlommioFile) -> Vec<u8> {
    let bytes = usize::try_from(file.size_bytes().await.unwrap()).unwrap().next_multiple_of(BLOCK_BYTES);
    match file.read_at(0, bytes.max(BLOCK_BYTES)).await.unwrap() {
        Some(buffer) => buffer.as_slice().to_vec(),
        None => Vec::new(),
    }
}

#[test]
fn what_was_written_is_read_back_also_through_another_handle() {
    let directory = disk_directory();
    let path = directory.path().join("file");
    on_one_shard(move |env| {
        let path = path.clone();
        async move {
            let file = new_file(&env, &path).await;
            file.write_at(filled(&env, 2, 1), 0).await.unwrap();
            file.write_at(filled(&env, 1, 2), 2 * BLOCK).await.unwrap();
            file.sync_data().await.unwrap();
            assert_eq!(file.size_bytes().await.unwrap(), 3 * BLOCK);

            let again = env.disk().open(&path, OpenMode::Existing).await.unwrap();
            let read = again.read_at(BLOCK, 2 * BLOCK_BYTES).await.unwrap().unwrap();
            assert_eq!(read.as_slice()[..BLOCK_BYTES], [1; BLOCK_BYTES]);
            assert_eq!(read.as_slice()[BLOCK_BYTES..], [2; BLOCK_BYTES]);
        }
    });
}

#[test]
fn reading_past_the_end_is_none_and_a_short_file_is_padded_with_zeros() {
    // Guard: glommio's `read_at` hands out old memory near the end of a file.
    let directory = disk_directory();
    let path = directory.path().join("file");
    on_one_shard(move |env| {
        let path = path.clone();
        async move {
            let file = new_file(&env, &path).await;
            assert!(file.read_at(0, BLOCK_BYTES).await.unwrap().is_none());
            // Memory that the allocator may hand out again for the read.
            drop(filled(&env, 4, 0xEE));
            file.write_at(filled(&env, 2, 0xAA), 0).await.unwrap();
            file.truncate(BLOCK + 10).await.unwrap();

            let read = file.read_at(0, 4 * BLOCK_BYTES).await.unwrap().unwrap();
            assert_eq!(read.as_slice().len(), 2 * BLOCK_BYTES);
            assert_eq!(read.as_slice()[..BLOCK_BYTES + 10], [0xAA; BLOCK_BYTES + 10]);
            assert_eq!(read.as_slice()[BLOCK_BYTES + 10..], [0; BLOCK_BYTES - 10]);
            assert!(file.read_at(2 * BLOCK, BLOCK_BYTES).await.unwrap().is_none());
        }
    });
}

#[test]
fn a_file_that_ends_at_a_block_is_read_up_to_there() {
    let directory = disk_directory();
    let path = directory.path().join("file");
    on_one_shard(move |env| {
        let path = path.clone();
        async move {
            let file = new_file(&env, &path).await;
            file.write_at(filled(&env, 3, 7), 0).await.unwrap();
            let read = file.read_at(BLOCK, 8 * BLOCK_BYTES).await.unwrap().unwrap();
            assert_eq!(read.as_slice(), [7; 2 * BLOCK_BYTES]);
        }
    });
}

#[test]
fn a_read_buffer_can_be_trimmed_changed_and_written() {
    let directory = disk_directory();
    let path = directory.path().join("file");
    on_one_shard(move |env| {
        let path = path.clone();
        async move {
            let file = new_file(&env, &path).await;
            file.write_at(filled(&env, 2, 1), 0).await.unwrap();
            let mut read = file.read_at(0, 2 * BLOCK_BYTES).await.unwrap().unwrap();
            read.trim(BLOCK_BYTES);
            let read = Rc::new(read);
            file.write_at(Rc::clone(&read), 2 * BLOCK).await.unwrap();
            let mut read = Rc::into_inner(read).unwrap();
            read.as_mut_slice().fill(9);
            file.write_at(Rc::new(read), BLOCK).await.unwrap();
            let content = read_all(&file).await;
            assert_eq!(content[..BLOCK_BYTES], [1; BLOCK_BYTES]);
            assert_eq!(content[BLOCK_BYTES..2 * BLOCK_BYTES], [9; BLOCK_BYTES]);
            assert_eq!(content[2 * BLOCK_BYTES..], [1; BLOCK_BYTES]);
        }
    });
}

#[test]
fn a_synchronous_file_has_the_flag_and_takes_writes() {
    let directory = disk_directory();
    let path = directory.path().join("file");
    on_one_shard(move |env| {
        let path = path.clone();
        async move {
            let file = new_file(&env, &path).await;
            file.allocate(0, 4 * BLOCK).await.unwrap();
            let synchronous = env.disk().open(&path, OpenMode::Synchronous).await.unwrap();
            let is_synchronous = |flags: u32| flags & 0o10_000 != 0;
            let is_direct = |flags: u32| flags & 0o40_000 != 0;
            let flags = flags_of_open_descriptors(&path);
            assert_eq!(flags.len(), 2);
            assert_eq!(flags.iter().filter(|&&flags| is_synchronous(flags)).count(), 1);
            assert!(flags.iter().all(|&flags| is_direct(flags)));
            synchronous.write_at(filled(&env, 1, 3), BLOCK).await.unwrap();
            let read = file.read_at(BLOCK, BLOCK_BYTES).await.unwrap().unwrap();
            assert_eq!(read.as_slice(), [3; BLOCK_BYTES]);
        }
    });
}

/// The flags of this process's descriptors of a file, as Linux on x86-64 numbers them.
fn flags_of_open_descriptors(path: &Path) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        if !std::fs::read_link(entry.path()).is_ok_and(|target| target == path) {
            continue;
        }
        let info = std::fs::read_to_string(Path::new("/proc/self/fdinfo").join(entry.file_name())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        found.push(u32::from_str_radix(flags, 8).unwrap());
    }
    found
}

#[test]
fn allocate_grows_a_file_keeps_its_bytes_and_leaves_what_is_in_front_alone() {
    let directory = disk_directory();
    let path = directory.path().join("file");
    on_one_shard(move |env| {
        let path = path.clone();
        async move {
            let file = new_file(&env, &path).await;
            file.allocate(1 << 20, 2 << 20).await.unwrap();
            assert_eq!(file.size_bytes().await.unwrap(), 2 << 20);
            let allocated_bytes = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap()) * 512;
            assert!(((1 << 20)..(2 << 20)).contains(&allocated_bytes));

            file.write_at(filled(&env, 1, 5), 0).await.unwrap();
            file.allocate(0, BLOCK * 2).await.unwrap();
            assert_eq!(file.size_bytes().await.unwrap(), 2 << 20);
            let content = read_all(&file).await;
            assert_eq!(content[..BLOCK_BYTES], [5; BLOCK_BYTES]);
            assert!(content[BLOCK_BYTES..].iter().all(|&byte| byte == 0));
        }
    });
}

#[test]
fn names_are_made_listed_renamed_and_removed() {
    let directory = disk_directory();
    let root = directory.path().to_owned();
    on_one_shard(move |env| {
        let root = root.clone();
        async move {
            let disk = env.disk();
            let name = |name: &str, is_dir| DirEntry { name: name.to_owned(), is_dir };
            disk.create_dir_all(&root.join("b/c")).await.unwrap();
            let file = new_file(&env, &root.join("a")).await;
            disk.sync_dir(&root).await.unwrap();
            assert_eq!(disk.read_dir(&root).await.unwrap(), [name("a", false), name("b", true)]);

            disk.rename(&root.join("a"), &root.join("b/d")).await.unwrap();
            assert_eq!(disk.read_dir(&root.join("b")).await.unwrap(), [name("c", true), name("d", false)]);
            // An open file is known by its descriptor, whatever becomes of its name.
            file.write_at(filled(&env, 1, 1), 0).await.unwrap();
            assert_eq!(file.size_bytes().await.unwrap(), BLOCK);
            disk.remove_file(&root.join("b/d")).await.unwrap();
            file.write_at(filled(&env, 1, 1), BLOCK).await.unwrap();
            assert_eq!(file.size_bytes().await.unwrap(), 2 * BLOCK);

            disk.remove_dir_all(&root.join("b")).await.unwrap();
            assert_eq!(disk.read_dir(&root).await.unwrap(), []);
            let available_bytes = disk.available_bytes(&root).await.unwrap();
            assert!(available_bytes > 0);
            assert!(disk.capacity_bytes(&root).await.unwrap() >= available_bytes);
        }
    });
}

#[test]
fn errors_keep_their_kind() {
    let directory = disk_directory();
    let root = directory.path().to_owned();
    on_one_shard(move |env| {
        let root = root.clone();
        async move {
            let disk = env.disk();
            let kind = |result: io::Result<GlommioFile>| result.err().map(|error| error.kind());
            assert_eq!(kind(disk.open(&root.join("a"), OpenMode::Existing).await), Some(io::ErrorKind::NotFound));
            assert_eq!(kind(disk.open(&root.join("no/a"), OpenMode::New).await), Some(io::ErrorKind::NotFound));
            new_file(&env, &root.join("a")).await;
            assert_eq!(kind(disk.open(&root.join("a"), OpenMode::New).await), Some(io::ErrorKind::AlreadyExists));
            let with_zero_byte = disk.open(Path::new("a\0b"), OpenMode::New).await;
            assert_eq!(kind(with_zero_byte), Some(io::ErrorKind::InvalidInput));
            assert_eq!(disk.read_dir(&root.join("no")).await.unwrap_err().raw_os_error(), Some(2));
        }
    });
}

#[test]
fn an_empty_file_opened_first_does_not_spoil_later_reads() {
    // Guard: glommio takes the device of an empty file for one that can be polled.
    let directory = disk_directory();
    let root = directory.path().to_owned();
    std::fs::write(root.join("empty"), []).unwrap();
    std::fs::write(root.join("full"), [4; BLOCK_BYTES]).unwrap();
    on_one_shard(move |env| {
        let root = root.clone();
        async move {
            let empty = env.disk().open(&root.join("empty"), OpenMode::Existing).await.unwrap();
            assert!(empty.read_at(0, BLOCK_BYTES).await.unwrap().is_none());
            let full = env.disk().open(&root.join("full"), OpenMode::Existing).await.unwrap();
            assert_eq!(read_all(&full).await, [4; BLOCK_BYTES]);
            empty.write_at(filled(&env, 1, 6), 0).await.unwrap();
            assert_eq!(read_all(&empty).await, [6; BLOCK_BYTES]);
        }
    });
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2, "the probe leaves nothing behind");
}

#[test]
fn a_data_directory_is_prepared_before_use_and_a_missing_one_is_refused() {
    let directory = disk_directory();
    let root = directory.path().to_owned();
    on_one_shard(move |env| {
        let root = root.clone();
        async move {
            env.disk().prepare_data_device(&root).await.unwrap();
            env.disk().prepare_data_device(&root).await.unwrap();
            let missing = env.disk().prepare_data_device(&root.join("missing")).await;
            assert_eq!(missing.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    });
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_write_is_carried_out_although_its_future_was_dropped() {
    // Guard: dropping a glommio I/O future cancels the I/O.
    let directory = disk_directory();
    let path = directory.path().join("file");
    let shard_path = path.clone();
    on_one_shard(move |env| {
        let path = shard_path.clone();
        async move {
            let file = new_file(&env, &path).await;
            for position in 0..64 {
                let mut write = pin!(file.write_at(filled(&env, 1, 8), position * BLOCK));
                assert!(write.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            let mut sync = pin!(file.sync_data());
            assert!(sync.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            // The shard ends here, with all of them in flight.
        }
    });
    let content = std::fs::read(path).unwrap();
    assert_eq!(content.len(), 64 * BLOCK_BYTES);
    assert!(content.iter().all(|&byte| byte == 8));
}

#[test]
fn writes_at_the_same_time_all_arrive() {
    let directory = disk_directory();
    let path = directory.path().join("file");
    on_one_shard(move |env| {
        let path = path.clone();
        async move {
            use millrace_runtime::{TaskClass, TaskHandle, Tasks};
            let file = new_file(&env, &path).await;
            let write = |index: u8| {
                let (env, file) = (env.clone(), file.clone());
                let task_env = env.clone();
                env.tasks().spawn(TaskClass::Flush, async move {
                    file.write_at(filled(&task_env, 4, index), u64::from(index) * 4 * BLOCK).await.unwrap();
                })
            };
            let tasks: Vec<_> = (0..=255).map(write).collect();
            for task in tasks {
                task.join().await;
            }
            for index in 0..=255 {
                let read = file.read_at(u64::from(index) * 4 * BLOCK, 4 * BLOCK_BYTES).await.unwrap().unwrap();
                assert_eq!(read.as_slice(), [index; 4 * BLOCK_BYTES]);
            }
        }
    });
}

#[test]
fn opens_and_removals_of_one_directory_may_overlap() {
    // Guard: glommio's open panics when the name is removed under it, which here would abort the test.
    let directory = disk_directory();
    let root = directory.path().to_owned();
    on_one_shard(move |env| {
        let root = root.clone();
        async move {
            use millrace_runtime::{TaskClass, TaskHandle, Tasks};
            for _ in 0..50 {
                env.disk().create_dir_all(&root.join("log")).await.unwrap();
                let opens: Vec<_> = (0..4)
                    .map(|index| {
                        let (task_env, path) = (env.clone(), root.join(format!("log/{index}")));
                        env.tasks().spawn(TaskClass::Background, async move {
                            task_env.disk().open(&path, OpenMode::New).await.map(drop).map_err(|error| error.kind())
                        })
                    })
                    .collect();
                env.tasks().yield_now().await;
                env.disk().remove_dir_all(&root.join("log")).await.unwrap();
                for open in opens {
                    let outcome = open.join().await;
                    assert!(matches!(outcome, Ok(()) | Err(io::ErrorKind::NotFound)), "{outcome:?}");
                }
            }
        }
    });
}

#[test]
fn a_write_cut_short_is_continued_and_then_reports_what_stopped_it() {
    // A limit on the size of files cuts the first write short; the second, of the rest, is refused.
    const CHILD: &str = "MILLRACE_TEST_SHORT_WRITE_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let limit = limits.lines().find_map(|line| line.strip_prefix("Max file size")).unwrap();
        let limit_bytes: usize = limit.split_whitespace().next().unwrap().parse().unwrap();
        write_past_the_limit(limit_bytes);
        return;
    }
    let name = "disk::a_write_cut_short_is_continued_and_then_reports_what_stopped_it";
    let script = format!("trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact {name}");
    let mut shell = std::process::Command::new("sh");
    let output = shell.arg("-c").arg(script).arg(std::env::current_exe().unwrap()).env(CHILD, "1").output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn write_past_the_limit(limit_bytes: usize) {
    assert!(limit_bytes.is_multiple_of(BLOCK_BYTES));
    let directory = disk_directory();
    let path = directory.path().join("file");
    let shard_path = path.clone();
    on_one_shard(move |env| {
        let path = shard_path.clone();
        async move {
            let file = new_file(&env, &path).await;
            let outcome = file.write_at(filled(&env, limit_bytes / BLOCK_BYTES + 2, 3), 0).await;
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
    });
    let content = std::fs::read(path).unwrap();
    assert_eq!(content.len(), limit_bytes);
    assert!(content.iter().all(|&byte| byte == 3));
}
