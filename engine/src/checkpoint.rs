//! Checkpoint files: written beside the old one, flushed, and put in its place.

use std::io;
use std::path::Path;
use std::rc::Rc;

use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode};

use crate::format::checkpoint::Checkpoint;
use crate::io::open_unfinished;
use crate::log::Corruption;

/// Largest checkpoint that is read, in bytes: far more logs than a shard can serve.
const CHECKPOINT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Name of a shard's checkpoint file.
pub fn file_name(shard_index: u16) -> String {
    format!("checkpoint-{shard_index:03}")
}

/// Replaces a shard's checkpoint, durably.
pub async fn write<E: Env>(env: &E, directory: &Path, shard_index: u16, checkpoint: &Checkpoint) -> io::Result<()> {
    let disk = env.disk();
    let path = directory.join(file_name(shard_index));
    let unfinished = path.with_extension("new");
    let file = open_unfinished(env, &unfinished).await?;
    let mut buffer = disk.buffer(checkpoint.encoded_bytes().next_multiple_of(BLOCK_BYTES));
    checkpoint.encode(buffer.as_mut_slice());
    file.write_at(Rc::new(buffer), 0).await?;
    file.sync_data().await?;
    disk.rename(&unfinished, &path).await?;
    disk.sync_dir(directory).await
}

/// Why a checkpoint could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Reads a checkpoint file; `None` when there is none.
pub async fn read<E: Env>(env: &E, path: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
    let file = match env.disk().open(path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let damaged = |what: &str| Corruption { file: path.to_owned(), position: 0, what: what.to_owned() };
    let bytes = file.size_bytes().await?;
    if bytes > CHECKPOINT_BYTES_MAX {
        return Err(damaged("the checkpoint is larger than any checkpoint").into());
    }
    let bytes = usize::try_from(bytes).expect("the bound fits usize").next_multiple_of(BLOCK_BYTES);
    let Some(buffer) = file.read_at(0, bytes.max(BLOCK_BYTES)).await? else {
        return Err(damaged("the checkpoint is empty").into());
    };
    let checkpoint = Checkpoint::decode(buffer.as_slice());
    Ok(Some(checkpoint.ok_or_else(|| damaged("the checkpoint's checksum does not hold"))?))
}
