//! Brings a shard's logs back: the only code that meets a torn tail.
//!
//! At a start, for each shard:
//!
//! 1. Read its checkpoint and its journal. A clean checkpoint newer than the journal means that the journal holds nothing
//!    that counts, and that a log ends where the checkpoint says, if it says so.
//! 2. Otherwise write the pieces of the live rounds to their segments and flush. Where a log is *recorded* to be durable is
//!    the furthest of what the checkpoint, the journal's notes and its pieces say.
//! 3. Write a checkpoint of the next generation, then empty the journal for that generation. Until both are durable, a
//!    crash repeats all this with the same result: pieces are the bytes that belong there.
//!
//! From then on logs are [opened](open_log) one by one, when they are first used or in the background: only there
//! segments are scanned, ends cut and damage found. How much is scanned does not delay the start.

mod cutting;
pub(crate) mod journal_scan;
mod open;
mod pieces;
pub(crate) mod redistribute;
pub(crate) mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use futures_util::StreamExt;
use millrace_runtime::{Disk, Env, FlushScope};
use thiserror::Error;

use crate::checkpoint::{self, CheckpointError};
use crate::format::checkpoint::{Checkpoint, CheckpointEntry};
use crate::journal::{self, Journal};
use crate::log::offsets::Mark;
use crate::log::recorded::{Piece, Recorded};
use crate::log::{Corruption, Failure};
use crate::model::PartitionId;
use crate::store::StoreConfig;
use journal_scan::{JournalError, JournaledLog, Needed};

pub use journal_scan::live_rounds;
pub(crate) use open::{first_timestamp, open_log};
pub use redistribute::redistribute;

/// Logs whose pieces are written back at the same time.
const RECOVERING_MAX: usize = 32;
/// What the name of a deleted log's directory ends with.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";

/// Why a shard's logs could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The operating system refused something.
    #[error("{operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// A file that every log of the shard depends on is damaged. Nothing was changed.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The directory was written with another number of shards; [`redistribute()`] comes first.
    #[error("the data directory was written by {found} shards and is opened with {wanted}")]
    ShardCount {
        /// Shards when it was written.
        found: u16,
        /// Shards now.
        wanted: u16,
    },
}

impl OpenError {
    /// Whether the disk had no space.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }

    pub(crate) fn io(operation: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}

impl From<CheckpointError> for OpenError {
    fn from(error: CheckpointError) -> Self {
        match error {
            CheckpointError::Io(source) => Self::Io { operation: "reading a checkpoint", source },
            CheckpointError::Corrupt(corruption) => Self::Corrupt(corruption),
        }
    }
}

impl From<JournalError> for OpenError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Io(source) => Self::Io { operation: "reading a journal", source },
            JournalError::Corrupt(corruption) => Self::Corrupt(corruption),
        }
    }
}

/// Why one log could not be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenLogError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// What recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the last stop was in order.
    pub clean: bool,
    /// Logs found.
    pub log_count: usize,
    /// Bytes of segments that were read and checked.
    pub scanned_bytes: u64,
    /// Pieces put back from the journal.
    pub piece_count: usize,
    /// Torn ends that were cut off, with the bytes that went.
    pub cuts: Vec<(PartitionId, usize)>,
    /// Damage found, and logs that could not be opened.
    pub damage: Vec<(PartitionId, Failure)>,
}

/// What opening one log did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LogOutcome {
    pub(crate) scanned_bytes: u64,
    pub(crate) cut_bytes: usize,
}

impl RecoveryReport {
    pub(crate) fn take(&mut self, id: PartitionId, outcome: LogOutcome, shard: u16) {
        self.scanned_bytes += outcome.scanned_bytes;
        if outcome.cut_bytes > 0 {
            tracing::warn!(partition = %id, shard, bytes = outcome.cut_bytes, "torn end cut off");
            self.cuts.push((id, outcome.cut_bytes));
        }
    }
}

/// A shard after its journal was dealt with.
pub(crate) struct RecoveredShard<E: Env> {
    pub(crate) logs: Vec<(PartitionId, Recorded)>,
    pub(crate) journal: Journal<E>,
    pub(crate) report: RecoveryReport,
}

/// Where the partitions' directories are.
pub(crate) fn logs_directory(directory: &Path) -> PathBuf {
    directory.join("logs")
}

/// Recovers what is known of the logs of one shard. `owned` says which are its own.
pub(crate) async fn recover_shard<E: Env>(
    env: &E,
    config: &StoreConfig,
    owned: impl Fn(PartitionId) -> bool,
) -> Result<RecoveredShard<E>, OpenError> {
    let directory = &config.directory;
    make_directories(env, directory).await.map_err(OpenError::io("making the data directory"))?;
    let checkpoint_path = directory.join(checkpoint::file_name(config.shard_index));
    let checkpoint = checkpoint::read(env, &checkpoint_path).await?;
    let needed = Needed::from(checkpoint.as_ref());
    let generation = needed.generation;
    let journal_path = directory.join(journal::file_name(config.shard_index));
    let contents = journal_scan::read(env, &journal_path, needed).await?;
    let found = [
        contents.as_ref().map(|contents| contents.header.shard_count),
        checkpoint.as_ref().map(|checkpoint| checkpoint.shard_count),
    ];
    if let Some(found) = found.into_iter().flatten().find(|found| *found != config.shard_count) {
        return Err(OpenError::ShardCount { found, wanted: config.shard_count });
    }
    let journal_generation = contents.as_ref().map_or(0, |contents| contents.header.generation);
    let clean = checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.clean) && journal_generation < generation;
    let sources = Sources { checkpoint, journaled: contents.map(|contents| contents.logs).unwrap_or_default(), clean };
    let RecoveredLogs { logs, deleted, report } = recover_logs(env, directory, sources, owned).await?;
    let next = if clean { generation } else { generation.max(journal_generation) + 1 };
    // The directory of a deleted log stays until the checkpoint does not name the log any more.
    if !clean || !deleted.is_empty() {
        let entries = logs.iter().filter_map(|(id, log)| checkpoint_entry(*id, log)).collect();
        let shard_count = config.shard_count;
        let checkpoint = Checkpoint { journal_generation: next, journal_tail: 0, shard_count, clean, entries };
        let written = checkpoint::write(env, directory, config.shard_index, &checkpoint).await;
        written.map_err(OpenError::io("writing a checkpoint"))?;
    }
    let header = Journal::next_header(env, config.shard_index, config.shard_count, config.journal_bytes, next - 1);
    let journal = Journal::reset(env, directory, header).await.map_err(OpenError::io("emptying the journal"))?;
    // Nothing names them any more.
    for remains in deleted {
        env.disk().remove_dir_all(&remains).await.map_err(OpenError::io("removing a deleted log"))?;
    }
    Ok(RecoveredShard { logs, journal, report })
}

/// What a flush of a file in the data directory reaches. Makes the directory if need be.
pub(crate) async fn find_flush_scope<E: Env>(env: &E, directory: &Path) -> Result<FlushScope, OpenError> {
    let found = async {
        env.disk().create_dir_all(directory).await?;
        env.disk().flush_scope(directory).await
    };
    found.await.map_err(OpenError::io("asking for the flush scope"))
}

/// Makes the data directory, durably: any of the directories above it may be new too, or an earlier start may have made
/// them and died before it could sync them.
async fn make_directories<E: Env>(env: &E, directory: &Path) -> io::Result<()> {
    env.disk().create_dir_all(&logs_directory(directory)).await?;
    env.disk().sync_dir(directory).await?;
    for parent in directory.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()) {
        match env.disk().sync_dir(parent).await {
            // A directory that this user may not read is not one that was made for them just now.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
    }
    Ok(())
}

/// What a checkpoint says of a log that is not open.
pub(crate) fn checkpoint_entry(id: PartitionId, log: &Recorded) -> Option<CheckpointEntry> {
    Some(CheckpointEntry {
        partition: id,
        leader_epoch: log.leader_epoch,
        start_offset: log.start_offset,
        segment_base: log.segment_base?,
        position: log.end.position,
        end_offset: log.end.offset,
        settled: log.clean,
        cut_pending: log.cut_pending,
        incarnation: log.incarnation,
        compacted_end: log.compacted_end,
    })
}

/// What is known of logs before their directories are looked at.
pub(crate) struct Sources {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) journaled: BTreeMap<PartitionId, JournaledLog>,
    /// The journal holds nothing that counts, and every settled log ends where the checkpoint says.
    pub(crate) clean: bool,
}

/// What [`recover_logs`] found.
pub(crate) struct RecoveredLogs {
    pub(crate) logs: Vec<(PartitionId, Recorded)>,
    /// Directories of deleted logs. They are removed once no checkpoint and no journal names the logs.
    pub(crate) deleted: Vec<PathBuf>,
    pub(crate) report: RecoveryReport,
}

/// Says what is known of every log that `owned` selects among those with a directory and those that `sources` names, and
/// brings what the journal holds of them to their segments, durably.
pub(crate) async fn recover_logs<E: Env>(
    env: &E,
    directory: &Path,
    sources: Sources,
    owned: impl Fn(PartitionId) -> bool,
) -> Result<RecoveredLogs, OpenError> {
    let Sources { checkpoint, mut journaled, clean } = sources;
    let entries: BTreeMap<_, _> = checkpoint
        .into_iter()
        .flat_map(|checkpoint| checkpoint.entries)
        .map(|entry| (entry.partition, entry))
        .collect();
    let logs_directory = logs_directory(directory);
    // A process that was killed may have left names that are there and not durable; appends would soon rely on them.
    env.disk().sync_dir(&logs_directory).await.map_err(OpenError::io("making the logs' names durable"))?;
    let names = env.disk().read_dir(&logs_directory).await.map_err(OpenError::io("listing the logs"))?;
    let directories = || names.iter().filter(|entry| entry.is_dir);
    let deleted: BTreeSet<_> = directories()
        .filter_map(|entry| PartitionId::parse_directory_name(entry.name.strip_suffix(DELETED_SUFFIX)?))
        .collect();
    let found = directories().filter_map(|entry| PartitionId::parse_directory_name(&entry.name));
    let ids: BTreeSet<_> = found
        .chain(entries.keys().chain(journaled.keys()).copied().filter(|id| !deleted.contains(id)))
        .filter(|id| owned(*id))
        .collect();
    let mut report = RecoveryReport { clean, log_count: ids.len(), ..RecoveryReport::default() };
    let mut logs = Vec::with_capacity(ids.len());
    let mut pieces = Vec::new();
    for id in ids {
        let mut journaled = journaled.remove(&id).unwrap_or_default();
        // The newest incarnation counts. Of one that is newer than the checkpoint's the checkpoint knows nothing.
        let entry = entries.get(&id).filter(|entry| entry.incarnation >= journaled.incarnation);
        if entry.is_some_and(|entry| entry.incarnation > journaled.incarnation) {
            journaled = JournaledLog::default();
        }
        logs.push((id, recorded(entry, &journaled, clean)));
        pieces.push((id, journaled.pieces));
    }
    report.piece_count = pieces.iter().map(|(_, pieces)| pieces.len()).sum();
    let written = write_back(env, directory, &logs_directory, pieces).await;
    written.map_err(OpenError::io("writing the journal's records to their segments"))?;
    let deleted = deleted.into_iter().filter(|id| owned(*id));
    let deleted = deleted.map(|id| logs_directory.join(id.directory_name() + DELETED_SUFFIX)).collect();
    Ok(RecoveredLogs { logs, deleted, report })
}

/// The furthest of all that is known.
fn recorded(entry: Option<&CheckpointEntry>, journaled: &JournaledLog, clean: bool) -> Recorded {
    let mut recorded = Recorded { incarnation: journaled.incarnation, ..Recorded::nothing() };
    if let Some(entry) = entry {
        recorded.incarnation = entry.incarnation;
        recorded.cut_pending = entry.cut_pending;
        recorded.start_offset = entry.start_offset;
        recorded.leader_epoch = entry.leader_epoch;
        recorded.segment_base = Some(entry.segment_base);
        recorded.end = Mark { offset: entry.end_offset, position: entry.position };
        recorded.clean = clean && entry.settled;
        recorded.compacted_end = entry.compacted_end;
    }
    if let Some((base, end)) = journaled.durable_end
        && recorded.segment_base.is_none_or(|known| (known, recorded.end.position) < (base, end.position))
    {
        recorded.segment_base = Some(base);
        recorded.end = end;
    }
    recorded.start_offset = recorded.start_offset.max(journaled.start_offset);
    recorded
}

/// Writes all pieces to their segments and flushes.
async fn write_back<E: Env>(
    env: &E,
    directory: &Path,
    logs_directory: &Path,
    pieces: Vec<(PartitionId, Vec<Piece>)>,
) -> io::Result<()> {
    let flush_scope = env.disk().flush_scope(directory).await?;
    let writes = pieces.into_iter().filter(|(_, pieces)| !pieces.is_empty()).map(|(id, pieces)| async move {
        let mut segments = BTreeMap::new();
        for piece in &pieces {
            if let Some(segment) = pieces::put_back(env, logs_directory, id, piece).await? {
                segments.insert(segment.base_offset(), segment);
            }
        }
        if flush_scope == FlushScope::File {
            for segment in segments.values() {
                segment.sync().await?;
            }
        }
        Ok::<_, io::Error>(segments.pop_last().map(|(_, segment)| segment))
    });
    let mut writes = futures_util::stream::iter(writes).buffer_unordered(RECOVERING_MAX);
    let mut last = None;
    while let Some(written) = writes.next().await {
        last = written?.or(last);
    }
    match last.filter(|_| flush_scope == FlushScope::Device) {
        Some(segment) => segment.sync().await,
        None => Ok(()),
    }
}
