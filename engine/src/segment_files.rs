//! The files beside a segment: its index, and what producers had sent up to its end. Written as a whole, under another name until it is durable, and always
//! rebuildable from the segment, so that one that is missing or does not hold is no damage.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode, Tasks};

use crate::format::index::{self, SegmentSummary};
use crate::format::producers::{self, ProducersHeader};
use crate::io::open_unfinished;
use crate::log::index::{OffsetIndex, SegmentIndex};
use crate::model::{Offset, PartitionId};
use crate::producer_state::{ProducerStates, Spill, SpillBuilder};

/// Largest file read, in bytes: far more than the largest index.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a producers file that are copied at once.
const WINDOW_BYTES: usize = 128 * 1024;

/// Writes the index of the segment `base_offset..end_offset` into its log's directory.
pub async fn write_index<E: Env>(
    env: &E,
    directory: &Path,
    id: PartitionId,
    (base_offset, end_offset): (Offset, Offset),
    index: &SegmentIndex,
) -> io::Result<()> {
    let summary = SegmentSummary {
        partition: id,
        base_offset,
        end_offset,
        end_position: index.end,
        timestamp_max: index.offsets.timestamp_max(),
        epochs: index.epochs.clone(),
    };
    let entries = index.offsets.entries();
    let mut buffer = env.disk().buffer(summary.encoded_bytes(entries.len()).next_multiple_of(BLOCK_BYTES));
    summary.encode(entries, buffer.as_mut_slice());
    write_whole(env, &directory.join(index::file_name(base_offset)), buffer).await
}

/// Reads the index of the segment that starts at `base_offset`, with the end offset it reaches; `None` when there is none
/// that holds.
pub async fn read_index<E: Env>(
    env: &E,
    directory: &Path,
    id: PartitionId,
    base_offset: Offset,
) -> io::Result<Option<(Offset, SegmentIndex)>> {
    let Some(buffer) = read_whole(env, &directory.join(index::file_name(base_offset))).await? else { return Ok(None) };
    let Some((summary, entries)) = SegmentSummary::decode(buffer.as_slice()) else { return Ok(None) };
    if summary.partition != id || summary.base_offset != base_offset {
        return Ok(None);
    }
    let offsets = OffsetIndex::from_entries(entries, summary.timestamp_max);
    Ok(Some((summary.end_offset, SegmentIndex { end: summary.end_position, offsets, epochs: summary.epochs })))
}

/// Writes what producers had sent up to `end`: `bytes` is the encoded state.
pub async fn write_producers<E: Env>(env: &E, directory: &Path, end: Offset, bytes: &[u8]) -> io::Result<()> {
    let mut buffer = env.disk().buffer(bytes.len().next_multiple_of(BLOCK_BYTES));
    buffer.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
    write_whole(env, &directory.join(producers::file_name(end)), buffer).await
}

/// Makes the file of spilled producers, which tells of all up to `end`, what producers had sent up to there.
pub async fn save_spilled<E: Env>(env: &E, directory: &Path, end: Offset) -> io::Result<()> {
    let file = env.disk().open(&directory.join(producers::SPILL_FILE_NAME), OpenMode::Existing).await?;
    let path = directory.join(producers::file_name(end));
    let unfinished = unfinished_path(&path);
    let copy = open_unfinished(env, &unfinished).await?;
    let mut position = 0;
    while let Some(window) = file.read_at(position, WINDOW_BYTES).await? {
        let bytes = window.as_slice().len();
        copy.write_at(Rc::new(window), position).await?;
        position += u64::try_from(bytes).expect("a length fits");
        env.tasks().yield_now().await;
    }
    copy.sync_data().await?;
    env.disk().rename(&unfinished, &path).await
}

/// Reads what producers had sent up to `end`; `None` when there is no such file that holds. More than `known_count_max`
/// producers become the file of spilled ones, and none of them is in memory.
pub async fn read_producers<E: Env>(
    env: &E,
    directory: &Path,
    id: PartitionId,
    end: Offset,
    known_count_max: usize,
) -> io::Result<Option<ProducerStates>> {
    let path = directory.join(producers::file_name(end));
    let Some((header, file)) = open_producers(env, &path).await? else { return Ok(None) };
    if (header.partition, header.offset) != (id, end) {
        return Ok(None);
    }
    if usize::try_from(header.producer_count).is_ok_and(|count| count > known_count_max) {
        return Ok(spill_producers(env, directory, header, &file).await?.map(ProducerStates::spilled));
    }
    let Some(buffer) = read_whole(env, &path).await? else { return Ok(None) };
    let decoded = ProducerStates::decode(id, buffer.as_slice());
    Ok(decoded.filter(|(offset, _)| *offset == end).map(|(_, states)| states))
}

async fn open_producers<E: Env>(
    env: &E,
    path: &Path,
) -> io::Result<Option<(ProducersHeader, <E::Disk as Disk>::File)>> {
    let file = match env.disk().open(path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let block = file.read_at(0, BLOCK_BYTES).await?;
    let header = block.and_then(|block| ProducersHeader::decode(block.as_slice()));
    Ok(header.map(|header| (header, file)))
}

/// Copies a snapshot to the file of spilled producers, and says what memory is to keep of it; `None` when it does not hold.
async fn spill_producers<E: Env>(
    env: &E,
    directory: &Path,
    header: ProducersHeader,
    file: &<E::Disk as Disk>::File,
) -> io::Result<Option<Spill>> {
    let path = directory.join(producers::SPILL_FILE_NAME);
    let unfinished = unfinished_path(&path);
    let copy = open_unfinished(env, &unfinished).await?;
    let Some(mut builder) = SpillBuilder::new(header, file.size_bytes().await?) else { return Ok(None) };
    let mut blocks_left = header.block_count;
    let mut position = 0;
    while blocks_left > 0 {
        let Some(window) = file.read_at(position, WINDOW_BYTES).await? else { return Ok(None) };
        let bytes = window.as_slice().len();
        for block in window.as_slice().chunks_exact(BLOCK_BYTES) {
            if blocks_left > 0 {
                blocks_left -= 1;
                let Some(()) = builder.add_block(block) else { return Ok(None) };
            }
        }
        copy.write_at(Rc::new(window), position).await?;
        position += u64::try_from(bytes).expect("a length fits");
        env.tasks().yield_now().await;
    }
    let Some(spill) = builder.finish() else { return Ok(None) };
    env.disk().rename(&unfinished, &path).await?;
    Ok(Some(spill))
}

/// Removes the file of spilled producers, if it is there.
pub async fn remove_spilled<E: Env>(env: &E, directory: &Path) -> io::Result<()> {
    remove(env, &directory.join(producers::SPILL_FILE_NAME)).await
}

/// Removes what producers had sent up to `end`, if it is there.
pub async fn remove_producers<E: Env>(env: &E, directory: &Path, end: Offset) -> io::Result<()> {
    remove(env, &directory.join(producers::file_name(end))).await
}

/// Removes the index of a segment, if it is there.
pub async fn remove_index<E: Env>(env: &E, directory: &Path, base_offset: Offset) -> io::Result<()> {
    remove(env, &directory.join(index::file_name(base_offset))).await
}

async fn remove<E: Env>(env: &E, path: &Path) -> io::Result<()> {
    match env.disk().remove_file(path).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Writes a file under another name, flushes it and renames it to `path`. That name may not be durable yet: whoever reads
/// the file can do without it.
async fn write_whole<E: Env>(env: &E, path: &Path, buffer: <E::Disk as Disk>::Buffer) -> io::Result<()> {
    let unfinished = unfinished_path(path);
    let file = open_unfinished(env, &unfinished).await?;
    file.write_at(Rc::new(buffer), 0).await?;
    file.sync_data().await?;
    env.disk().rename(&unfinished, path).await
}

fn unfinished_path(path: &Path) -> PathBuf {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    PathBuf::from(unfinished)
}

async fn read_whole<E: Env>(env: &E, path: &Path) -> io::Result<Option<<E::Disk as Disk>::Buffer>> {
    let file = match env.disk().open(path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let bytes = file.size_bytes().await?;
    if bytes == 0 || bytes > FILE_BYTES_MAX {
        return Ok(None);
    }
    file.read_at(0, usize::try_from(bytes).expect("the bound fits usize").next_multiple_of(BLOCK_BYTES)).await
}
