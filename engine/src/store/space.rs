//! Space on the disk: a reserve for the broker itself, and what happens when the rest is used up.
//!
//! A file of zeros keeps the reserve. While the disk is *full*, which is when less than [`FREE_BYTES_MIN`] are free besides
//! it or a part of it is in use, producers are refused. What was accepted before, checkpoints, indexes, compaction and the
//! broker's own logs go on: when one of them meets a disk without space, the reserve's file is emptied for them. Records
//! and logs can be deleted at any time. Once there is space again the reserve is filled up first.
//!
//! Extents that were filled ahead are given back when the disk becomes full.

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use millrace_runtime::{Disk, Env, File, OpenMode};

use super::{Inner, SharedLog, StoreConfig, prepare};
use crate::model::Position;
use crate::segment::{FILL_BYTES_MAX, FILL_BYTES_MIN};

const MIB: u64 = 1024 * 1024;
/// With less than this free, in bytes, the disk is full.
const FREE_BYTES_MIN: u64 = 16 * MIB;
/// From here on down, in bytes, producers are held up.
const THROTTLE_BYTES: u64 = 8 * FREE_BYTES_MIN;
/// The longest that a producer is held up for one request.
const THROTTLE_MAX: Duration = Duration::from_millis(500);
/// Logs whose file has less filled ahead than this keep it, in bytes.
const AHEAD_BYTES_MIN: u64 = 128 * 1024;

/// What is known of the disk's space.
pub(super) struct Space {
    /// Producers are refused.
    pub(super) full: Cell<bool>,
    /// Free bytes, the reserve not counted, when that was last looked at.
    pub(super) free_bytes: Cell<u64>,
    /// The reserve's file holds all of it.
    reserve_whole: Cell<bool>,
}

impl Space {
    pub(super) fn new() -> Self {
        Self { full: Cell::new(false), free_bytes: Cell::new(u64::MAX), reserve_whole: Cell::new(true) }
    }

    /// How long producers are held up: longer and longer on the last bytes before the disk is full.
    pub(super) fn throttle(&self) -> Duration {
        let missing_mib = u32::try_from(THROTTLE_BYTES.saturating_sub(self.free_bytes.get()) / MIB).unwrap_or(u32::MAX);
        let whole_mib = u32::try_from(THROTTLE_BYTES / MIB).expect("a small constant");
        THROTTLE_MAX * missing_mib / whole_mib
    }

    /// The largest step that a segment is filled ahead by: small steps on a disk with little space.
    pub(super) fn fill_step_max(&self) -> u64 {
        let share = self.free_bytes.get() / 64;
        (share - share % FILL_BYTES_MIN).clamp(FILL_BYTES_MIN, FILL_BYTES_MAX)
    }
}

/// Where a shard keeps its reserve.
pub(super) fn reserve_path(config: &StoreConfig) -> PathBuf {
    config.directory.join(reserve_file_name(config.shard_index))
}

/// The name of a shard's reserve.
pub(crate) fn reserve_file_name(shard: u16) -> String {
    format!("reserve-{shard:03}")
}

/// Looks at the disk's space, fills the reserve up if there is room for it, and gives back what was filled ahead if there
/// is not.
pub(super) async fn look<E: Env>(inner: &Rc<Inner<E>>) {
    let Ok(free_bytes) = inner.env.disk().available_bytes(&inner.config.directory).await else { return };
    inner.space.free_bytes.set(free_bytes);
    let wanted = inner.config.reserve_bytes;
    let whole = match is_reserve_whole(inner).await {
        Ok(true) => true,
        Ok(false) if free_bytes >= wanted + 2 * FREE_BYTES_MIN => fill_reserve(inner).await.is_ok(),
        // It has no room, or cannot be looked at; the next look may find it otherwise.
        Ok(false) | Err(_) => false,
    };
    inner.space.reserve_whole.set(whole);
    // Once full, it takes some more space to be no longer so: producers are not to be refused every other second.
    let needed = if inner.space.full.get() { 2 * FREE_BYTES_MIN } else { FREE_BYTES_MIN };
    let full = !whole || free_bytes < needed;
    if full == inner.space.full.replace(full) {
        return;
    }
    let shard = inner.config.shard_index;
    if full {
        tracing::warn!(shard, free_bytes, "the disk is full: producers are refused until there is space");
        give_back(inner).await;
    } else {
        tracing::info!(shard, free_bytes, "the disk has space again: producers go on");
    }
}

/// Whether the reserve is there. What it has beyond that is given back: it may have been larger before.
async fn is_reserve_whole<E: Env>(inner: &Inner<E>) -> io::Result<bool> {
    let wanted = inner.config.reserve_bytes;
    match inner.env.disk().open(&reserve_path(&inner.config), OpenMode::Existing).await {
        Ok(file) => {
            let bytes = file.size_bytes().await?;
            if bytes > wanted {
                file.truncate(wanted).await?;
            }
            Ok(bytes >= wanted)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(wanted == 0),
        Err(error) => Err(error),
    }
}

async fn fill_reserve<E: Env>(inner: &Inner<E>) -> io::Result<()> {
    let path = reserve_path(&inner.config);
    let file = match inner.env.disk().open(&path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => inner.env.disk().open(&path, OpenMode::New).await?,
        other => other?,
    };
    file.allocate(0, inner.config.reserve_bytes).await
}

/// Empties the reserve for something that cannot wait. False when there is nothing left of it.
pub(super) async fn take_reserve<E: Env>(inner: &Inner<E>) -> bool {
    let free_bytes = inner.space.free_bytes.get();
    if !inner.space.full.replace(true) {
        let shard = inner.config.shard_index;
        tracing::warn!(shard, free_bytes, "the disk is full: producers are refused, and the reserve is in use");
    }
    inner.space.reserve_whole.set(false);
    let Ok(file) = inner.env.disk().open(&reserve_path(&inner.config), OpenMode::Existing).await else { return false };
    match file.size_bytes().await {
        Ok(bytes) if bytes > 0 => file.truncate(0).await.is_ok() && file.sync_data().await.is_ok(),
        Ok(_) | Err(_) => false,
    }
}

/// Gives back what was filled ahead of logs that are not being appended to.
async fn give_back<E: Env>(inner: &Rc<Inner<E>>) {
    let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
    for log in logs {
        if let Some(filled_end) = begin_giving_back(&log) {
            let trimmed = async {
                let id = log.borrow().id;
                let segment = prepare::open_active(inner, &log).await?;
                segment.write_header(&inner.env, id, filled_end, None).await?;
                segment.trim(filled_end).await
            };
            if let Err(error) = trimmed.await {
                tracing::warn!(partition = %log.borrow().id, %error, "space filled ahead was not given back");
            }
            log.borrow_mut().preparing = false;
            inner.enqueue(&log);
            inner.prepared.notify();
        }
    }
}

/// Marks a log as one with nothing filled ahead, before that is so.
fn begin_giving_back<E: Env>(log: &SharedLog<E>) -> Option<Position> {
    let mut log = log.borrow_mut();
    if log.recorded.is_some() || log.is_worked_on() || log.unsegmented_bytes() > 0 || !log.is_header_durable() {
        return None;
    }
    let end = log.locate_active(log.offsets.written().position).block_ceil();
    let active = log.active.as_mut().filter(|active| active.filled_end.get() > end.get() + AHEAD_BYTES_MIN)?;
    active.filled_end = end;
    log.fill_bytes_next = FILL_BYTES_MIN;
    log.preparing = true;
    Some(end)
}
