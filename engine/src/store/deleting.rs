//! Giving up records: the start of a log moves, whole segments below it go, and so do whole logs.
//!
//! The new start is in the journal, durably, before a segment is removed or the caller is answered: what was deleted does
//! not come back. The directory of a deleted log is renamed first and emptied at once, so that its space is free; the
//! empty directory stays until neither the checkpoint nor a live round of the journal names the log, so that a recovery
//! knows that nothing is missing.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use millrace_runtime::{Disk, Env, TaskClass, Tasks};

use super::{Inner, ReadError, SharedLog, Store, finish, open};
use crate::log::{Failure, Log};
use crate::model::{Offset, PartitionId};
use crate::recovery::DELETED_SUFFIX;
use crate::{segment, segment_files};

/// A log's directory that waits for its removal.
pub(super) struct Remains {
    pub(super) path: PathBuf,
    /// The newest journal round that may name the log.
    pub(super) last_sequence: u64,
}

impl<E: Env> Store<E> {
    /// Moves the start of a log to `before` (`DeleteRecords`), at most to its high watermark, and answers with the start
    /// once that is durable. Whole segments below it are removed in the background.
    pub async fn delete_records(&self, id: PartitionId, before: Offset) -> Result<Offset, ReadError> {
        let inner = &self.inner;
        let log = inner.log(id).ok_or(ReadError::UnknownLog)?;
        open::ensure(inner, &log).await.map_err(ReadError::Offline)?;
        let offsets = log.borrow().offsets();
        if before > offsets.high_watermark {
            return Err(ReadError::OffsetOutOfRange(offsets));
        }
        if before > offsets.start {
            move_start(inner, &log, before).await.map_err(ReadError::Offline)?;
            inner.env.tasks().spawn(TaskClass::Background, remove_segments(Rc::clone(inner), Rc::clone(&log)));
        }
        Ok(log.borrow().start_offset())
    }

    /// Deletes a log. From now on the shard does not know it; who waits for it is told. Its space is given back in the
    /// background. Does nothing when there is no such log.
    pub fn delete(&self, id: PartitionId) {
        let Some(log) = self.inner.logs.borrow_mut().remove(&id) else { return };
        let inner = Rc::clone(&self.inner);
        inner.forget(&log, &Failure::Deleted);
        inner.deleting.set(inner.deleting.get() + 1);
        let task = async move {
            open::quiesce(&inner, &log).await;
            while log.borrow().preparing {
                let version = inner.prepared.version();
                inner.prepared.changed(version).await;
            }
            if let Err(error) = remove_log(&inner, id).await {
                tracing::warn!(partition = %id, %error, "a deleted log's files are still there; the next start removes them");
            }
            inner.deleting.set(inner.deleting.get() - 1);
            inner.prepared.notify();
        };
        self.inner.env.tasks().spawn(TaskClass::Background, task);
    }

    /// Every log of the shard.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.inner.logs.borrow().keys().copied().collect()
    }
}

/// Moves the start of a log once that is durable. Until then everybody sees the old one, and can read from there: a start
/// that was seen does not go back.
///
/// What goes is durable before anything says that it is gone: of a log that ends before its start after a loss of power,
/// the next records would get offsets that count as deleted.
pub(super) async fn move_start<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, start: Offset) -> Result<(), Failure> {
    let life = log.borrow().life;
    let offline = || {
        let went_offline = Failure::Io { operation: "moving a log's start", reason: "the log went offline".into() };
        log.borrow().failure.clone().unwrap_or(went_offline)
    };
    let is_durable = |log: &Log<E>| log.offsets.durable().offset >= start;
    if !finish::wait_until(inner, log, life, is_durable).await {
        return Err(offline());
    }
    note_start(inner, log, start);
    loop {
        let version = inner.round_ended.version();
        if log.borrow().life != life || inner.stopped.get() {
            return Err(offline());
        }
        let is_unrecorded = log.borrow().start_unrecorded;
        if !is_unrecorded && !inner.round_running.get() {
            log.borrow_mut().offsets.move_start(start);
            return Ok(());
        }
        if is_unrecorded {
            inner.flush_due.set(true);
            inner.queue_changed.notify();
        }
        inner.round_ended.changed(version).await;
    }
}

/// Has the next round say where the log is to start.
fn note_start<E: Env>(inner: &Inner<E>, log: &SharedLog<E>, start: Offset) {
    let mut borrowed = log.borrow_mut();
    borrowed.start_wanted = borrowed.start_wanted.max(start);
    if !std::mem::replace(&mut borrowed.start_unrecorded, true) {
        inner.moved_starts.borrow_mut().push(Rc::clone(log));
    }
}

/// Removes the segments that lie wholly below the log's start.
pub(super) async fn remove_segments<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>) {
    loop {
        let (id, base_offset) = {
            let mut borrowed = log.borrow_mut();
            let start = borrowed.offsets.start();
            let first = borrowed.sealed.first().filter(|first| first.finished && first.end_offset <= start);
            if first.is_none() || borrowed.recorded.is_some() || borrowed.start_unrecorded || borrowed.compacting {
                return;
            }
            let removed = borrowed.sealed.remove(0);
            inner.uncache(removed.cache_key);
            (borrowed.id, removed.base_offset)
        };
        if let Err(error) = remove_segment(&inner, id, base_offset).await {
            tracing::warn!(partition = %id, %base_offset, %error, "a deleted segment is still there; the next start removes it");
        }
    }
}

pub(super) async fn remove_segment<E: Env>(inner: &Inner<E>, id: PartitionId, base_offset: Offset) -> io::Result<()> {
    let directory = inner.logs_directory.join(id.directory_name());
    inner.env.disk().remove_file(&directory.join(segment::file_name(base_offset))).await?;
    segment_files::remove_index(&inner.env, &directory, base_offset).await
}

/// Renames a log's directory, so that it never counts again, and empties it.
async fn remove_log<E: Env>(inner: &Inner<E>, id: PartitionId) -> io::Result<()> {
    let disk = inner.env.disk();
    let directory = inner.logs_directory.join(id.directory_name());
    let path = inner.logs_directory.join(id.directory_name() + DELETED_SUFFIX);
    match disk.rename(&directory, &path).await {
        // Nothing was ever appended.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    }
    disk.sync_dir(&inner.logs_directory).await?;
    let last_sequence = inner.journal.borrow_mut().ring().last_sequence();
    inner.remains.borrow_mut().push(Remains { path: path.clone(), last_sequence });
    for entry in disk.read_dir(&path).await? {
        disk.remove_file(&path.join(&entry.name)).await?;
    }
    Ok(())
}

/// Removes those of the directories of deleted logs that no round from `tail` on names; the others are kept for the next
/// time. A checkpoint without them is durable.
pub(super) async fn remove_remains<E: Env>(inner: &Inner<E>, remains: Vec<Remains>, tail: u64) {
    let (gone, kept) = remains.into_iter().partition::<Vec<_>, _>(|remains| remains.last_sequence < tail);
    inner.remains.borrow_mut().extend(kept);
    for remains in gone {
        if let Err(error) = inner.env.disk().remove_dir_all(&remains.path).await {
            tracing::warn!(path = %remains.path.display(), %error, "a deleted log's directory is still there");
        }
    }
}
