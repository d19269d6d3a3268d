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
