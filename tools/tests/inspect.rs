//! `millctl inspect` over a directory that the engine wrote, whole and damaged.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::path::{Path, PathBuf};
use std::process::Command;

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, PartitionId, TopicId};
use millrace_engine::store::{Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::glommio::GlommioEnv;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use tempfile::TempDir;

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
/// Large enough to go straight to the segment.
const LARGE_BYTES: usize = 50_000;
const SMALL_BYTES: usize = 400;

/// What becomes of the store at the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    InOrder,
    Crash,
}

/// A data directory with one log: a large batch, then three small ones.
fn data_directory(stop: Stop) -> TempDir {
    let directory = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let path = directory.path().to_owned();
    let shards = Shards::start(&ShardsConfig::default(), move |env| write(env, path.clone(), stop));
    shards.unwrap().join();
    directory
}

async fn write(env: GlommioEnv, directory: PathBuf, stop: Stop) {
    let config = StoreConfig { journal_bytes: 1024 * 1024, ..StoreConfig::at(directory) };
    let store = Store::open(env, config, |_| true).await.unwrap();
    store.create(PARTITION, LogConfig::default());
    for value_bytes in [LARGE_BYTES, SMALL_BYTES, SMALL_BYTES, SMALL_BYTES] {
        let mut builder = BatchBuilder::new(BatchFields::default());
        builder.push(0, None, Some(&vec![b'v'; value_bytes]));
        let bytes = builder.build();
        let appended = store.append(PARTITION, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(0)).await.unwrap();
        appended.ticket.durable().await.unwrap();
    }
    if stop == Stop::InOrder {
        store.close().await.unwrap();
    }
}

fn segment_path(directory: &TempDir) -> PathBuf {
    directory.path().join("logs").join(PARTITION.directory_name()).join("00000000000000000000.log")
}

/// Exit code, standard output, standard error.
fn inspect(what: &str, path: &Path) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_millctl")).arg("inspect").arg(what).arg(path).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn flip_byte(path: &Path, position: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[position] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn after_a_crash_the_journal_completes_the_segment() {
    let directory = data_directory(Stop::Crash);
    let (code, stdout, stderr) = inspect("directory", directory.path());
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let line = stdout.lines().find(|line| line.contains(&PARTITION.to_string())).unwrap();
    let cells: Vec<&str> = line.split('|').map(str::trim).collect();
    // partition, state, segment, bytes, batches, end offset, in journal
    assert_eq!((cells[2], cells[5], cells[6]), ("whole", "4", "4"), "{stdout}");
    assert_ne!(cells[7], "0", "the small batches are in the journal only");

    let (code, stdout, _) = inspect("journal", &directory.path().join("journal-000"));
    assert_eq!(code, 0);
    assert!(stdout.contains("piece") && stdout.contains("durable end"), "{stdout}");
    let (code, stdout, _) = inspect("segment", &segment_path(&directory));
    assert_eq!(code, 0);
    assert!(stdout.contains("1 batches, up to offset 1"), "{stdout}");
}

#[test]
fn after_a_stop_in_order_everything_is_in_the_segment() {
    let directory = data_directory(Stop::InOrder);
    let (code, stdout, stderr) = inspect("checkpoint", &directory.path().join("checkpoint-000"));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("clean") && stdout.contains(&PARTITION.to_string()), "{stdout}");
    let (code, stdout, _) = inspect("segment", &segment_path(&directory));
    assert_eq!(code, 0);
    assert!(stdout.contains("4 batches, up to offset 4"), "{stdout}");
    assert_eq!(inspect("directory", directory.path()).0, 0);
}

#[test]
fn a_damaged_segment_is_found_alone_and_with_its_directory() {
    let directory = data_directory(Stop::Crash);
    flip_byte(&segment_path(&directory), 4096 + LARGE_BYTES / 2);
    let (code, _, stderr) = inspect("segment", &segment_path(&directory));
    assert_eq!(code, 1);
    assert!(stderr.contains("checksum"), "{stderr}");
    let (code, _, stderr) = inspect("directory", directory.path());
    assert_eq!(code, 1);
    assert!(stderr.contains(&PARTITION.to_string()) && stderr.contains("below the durable end"), "{stderr}");
}

#[test]
fn a_missing_segment_and_damaged_shard_files_are_found() {
    let directory = data_directory(Stop::Crash);
    std::fs::remove_file(segment_path(&directory)).unwrap();
    let (code, _, stderr) = inspect("directory", directory.path());
    assert_eq!(code, 1);
    assert!(stderr.contains("00000000000000000000.log is missing"), "{stderr}");
    // The first bytes behind the magic number are inside a checksum, in each of them.
    for name in ["journal", "checkpoint"] {
        let path = directory.path().join(format!("{name}-000"));
        flip_byte(&path, 20);
        assert_eq!(inspect(name, &path).0, 1, "{name}");
    }
    assert_eq!(inspect("directory", directory.path()).2.matches("does not hold").count(), 2);
}
