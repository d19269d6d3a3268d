//! Brings a shard's logs back: opens a directory and yields logs. The only code that meets a torn tail.
//!
//! 1. Read the shard's checkpoint and its journal. A clean checkpoint newer than the journal means that every log ends
//!    where the checkpoint says: nothing is scanned, and a log's batches are read when it is first used.
//! 2. Otherwise, for each partition directory that belongs to the shard: put the journal's pieces back into the segment,
//!    then scan it. The recorded durable end is the largest of what the checkpoint, the journal's notes and its pieces
//!    say. A log that does not reach it is damaged: it stays as it is, offline, named in the report. Behind it lies at
//!    most the last round: the log is cut at the first batch that does not continue it, durably, and the cut is reported.
//!    What is kept behind the last flush that is known to have succeeded is written once more: reading it proves nothing.
//! 3. Write a checkpoint of the next generation, then empty the journal for that generation. Until both are durable, a
//!    crash repeats the recovery with the same result: pieces are the bytes that belong there, and a cut is idempotent.

pub(crate) mod journal_scan;
pub(crate) mod redistribute;
pub(crate) mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::StreamExt;
use millrace_runtime::{Buffer, Disk, Env};
use thiserror::Error;

use crate::checkpoint::{self, CheckpointError};
use crate::format::checkpoint::{Checkpoint, CheckpointEntry};
use crate::format::segment_header::RECORDS_START;
use crate::journal::{self, Journal};
use crate::log::offsets::{Mark, Offsets};
use crate::log::{Corruption, Failure, RecoveredLog};
use crate::model::{Offset, PartitionId, Position};
use crate::segment::{self, Segment};
use crate::store::StoreConfig;
use journal_scan::{JournalError, JournaledLog, Needed};

pub use journal_scan::live_rounds;
pub use redistribute::redistribute;

/// Logs that are recovered at the same time.
const RECOVERING_MAX: usize = 32;
/// Bytes that recovery rewrites at a time.
const REWRITE_BYTES: usize = 256 * 1024;

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

/// What recovery did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Whether the last stop was in order, so that there was nothing to do.
    pub clean: bool,
    /// Logs found.
    pub log_count: usize,
    /// Bytes of segments that were read and checked.
    pub scanned_bytes: u64,
    /// Pieces put back from the journal.
    pub piece_count: usize,
    /// Torn ends that were cut off, with the bytes that went.
    pub cuts: Vec<(PartitionId, usize)>,
    /// Damage found.
    pub damage: Vec<(PartitionId, Failure)>,
}

pub(crate) struct Recovered<E: Env> {
    pub(crate) logs: Vec<(PartitionId, RecoveredLog)>,
    pub(crate) journal: Journal<E>,
    pub(crate) report: RecoveryReport,
}

/// Where the partitions' directories are.
pub(crate) fn logs_directory(directory: &Path) -> PathBuf {
    directory.join("logs")
}

/// Recovers the logs of one shard. `owned` says which are its own.
pub(crate) async fn recover_shard<E: Env>(
    env: &E,
    config: &StoreConfig,
    owned: impl Fn(PartitionId) -> bool,
) -> Result<Recovered<E>, OpenError> {
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
    let (logs, report) = recover_logs(env, directory, sources, owned).await?;
    let next = if clean { generation } else { generation.max(journal_generation) + 1 };
    if !clean {
        let entries = logs.iter().filter_map(|(id, log)| checkpoint_entry(*id, log)).collect();
        let shard_count = config.shard_count;
        let checkpoint = Checkpoint { journal_generation: next, journal_tail: 0, shard_count, clean: false, entries };
        let written = checkpoint::write(env, directory, config.shard_index, &checkpoint).await;
        written.map_err(OpenError::io("writing a checkpoint"))?;
    }
    let header = Journal::next_header(env, config.shard_index, config.shard_count, config.journal_bytes, next - 1);
    let journal = Journal::reset(env, directory, header).await.map_err(OpenError::io("emptying the journal"))?;
    Ok(Recovered { logs, journal, report })
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

pub(crate) fn checkpoint_entry(id: PartitionId, log: &RecoveredLog) -> Option<CheckpointEntry> {
    Some(CheckpointEntry {
        partition: id,
        leader_epoch: log.leader_epoch,
        start_offset: log.offsets.start(),
        segment_base: log.segment_base?,
        position: log.recorded_end.position,
        end_offset: log.recorded_end.offset,
    })
}

/// What is known of logs before their segments are looked at.
pub(crate) struct Sources {
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) journaled: BTreeMap<PartitionId, JournaledLog>,
    /// Every log ends where the checkpoint says.
    pub(crate) clean: bool,
}

/// Recovers every log that `owned` selects among those with a directory and those that `sources` names.
pub(crate) async fn recover_logs<E: Env>(
    env: &E,
    directory: &Path,
    sources: Sources,
    owned: impl Fn(PartitionId) -> bool,
) -> Result<(Vec<(PartitionId, RecoveredLog)>, RecoveryReport), OpenError> {
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
    let found =
        names.iter().filter(|entry| entry.is_dir).filter_map(|entry| PartitionId::parse_directory_name(&entry.name));
    let ids: BTreeSet<_> =
        found.chain(entries.keys().copied()).chain(journaled.keys().copied()).filter(|id| owned(*id)).collect();
    let mut report = RecoveryReport { clean, log_count: ids.len(), ..RecoveryReport::default() };
    let (mut logs, mut unknown) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        match entries.get(&id).filter(|_| clean) {
            Some(entry) => logs.push((id, whole_log(entry))),
            None => unknown.push((id, entries.get(&id).copied(), journaled.remove(&id).unwrap_or_default())),
        }
    }
    let recoveries = unknown.into_iter().map(|(id, entry, journaled)| {
        let directory = logs_directory.join(id.directory_name());
        async move { (id, LogRecovery { env, directory, id }.run(entry, journaled).await) }
    });
    let mut recoveries = futures_util::stream::iter(recoveries).buffer_unordered(RECOVERING_MAX);
    while let Some((id, result)) = recoveries.next().await {
        let (log, outcome) = result.map_err(OpenError::io("recovering a log"))?;
        report.take(id, &log, outcome);
        logs.push((id, log));
    }
    Ok((logs, report))
}

fn whole_log(entry: &CheckpointEntry) -> RecoveredLog {
    let end = Mark { offset: entry.end_offset, position: entry.position };
    RecoveredLog {
        segment_base: Some(entry.segment_base),
        offsets: Offsets::recovered(entry.start_offset, end),
        recorded_end: end,
        contents: None,
        leader_epoch: entry.leader_epoch,
        failure: None,
    }
}

#[derive(Clone, Copy, Default)]
struct Outcome {
    scanned_bytes: u64,
    piece_count: usize,
    cut_bytes: usize,
}

impl RecoveryReport {
    fn take(&mut self, id: PartitionId, log: &RecoveredLog, outcome: Outcome) {
        self.scanned_bytes += outcome.scanned_bytes;
        self.piece_count += outcome.piece_count;
        if outcome.cut_bytes > 0 {
            self.cuts.push((id, outcome.cut_bytes));
        }
        if let Some(failure) = &log.failure {
            self.damage.push((id, failure.clone()));
        }
    }
}

/// Recovers one log.
struct LogRecovery<'a, E: Env> {
    env: &'a E,
    directory: PathBuf,
    id: PartitionId,
}

impl<E: Env> LogRecovery<'_, E> {
    async fn run(
        &self,
        entry: Option<CheckpointEntry>,
        journaled: JournaledLog,
    ) -> io::Result<(RecoveredLog, Outcome)> {
        let piece_end = journaled.pieces.last().map_or(Position::default(), |(start, piece)| start.plus(piece.len()));
        let recorded = Recorded {
            start_offset: entry.map_or(Offset::ZERO, |entry| entry.start_offset),
            flushed_end: journaled.durable_end.max(entry.map_or(RECORDS_START, |entry| entry.position)),
            end: piece_end.max(journaled.durable_end).max(entry.map_or(RECORDS_START, |entry| entry.position)),
        };
        let Some(base) = self.find_segment().await? else {
            if recorded.end == RECORDS_START {
                return Ok((RecoveredLog::empty(), Outcome::default()));
            }
            let path = self.directory.join(segment::file_name(Offset::ZERO));
            return Ok((recorded.offline(path, "the segment is missing"), Outcome::default()));
        };
        // The segment's own name may not be durable yet either.
        self.env.disk().sync_dir(&self.directory).await?;
        let logs = self.directory.parent().expect("a log's directory lies in the logs' directory");
        let segment = Segment::open(self.env, logs, self.id, base).await?;
        if !segment.header_holds(self.id).await? {
            return Ok((recorded.offline(segment.path().to_owned(), scan::HEADER_DAMAGED), Outcome::default()));
        }
        for (position, piece) in &journaled.pieces {
            self.put_back(&segment, *position, piece).await?;
        }
        self.scan_and_cut(&segment, recorded, journaled.pieces.len()).await
    }

    /// The base offset of the log's segment; `None` when there is none. A half-made one is removed.
    async fn find_segment(&self) -> io::Result<Option<Offset>> {
        let names = match self.env.disk().read_dir(&self.directory).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        Ok(names.iter().find_map(|entry| segment::parse_file_name(&entry.name)))
    }

    /// Writes a journaled piece to its place, unless it is there, and leaves the bytes around it as they are: what
    /// follows may be a later round's, acknowledged and whole.
    async fn put_back(&self, segment: &Segment<E>, position: Position, piece: &[u8]) -> io::Result<()> {
        let (start, end) = (position.block_floor(), position.plus(piece.len()).block_ceil());
        let mut buffer = self.env.disk().buffer(end.bytes_since(start));
        if let Some(present) = segment.read(start, end.bytes_since(start)).await? {
            buffer.as_mut_slice()[..present.as_slice().len()].copy_from_slice(present.as_slice());
        }
        let target = &mut buffer.as_mut_slice()[position.bytes_since(start)..][..piece.len()];
        if target == piece {
            return Ok(());
        }
        target.copy_from_slice(piece);
        segment.write(Rc::new(buffer), start).await
    }

    /// Writes what lies between two positions once more. After a failed flush a read may give bytes, from a cache, that
    /// are not on the device, and no later flush of the same bytes would bring them there.
    async fn rewrite(&self, segment: &Segment<E>, start: Position, end: Position) -> io::Result<()> {
        let mut position = start.block_floor();
        while position < end {
            let bytes = end.block_ceil().bytes_since(position).min(REWRITE_BYTES);
            let present = segment.read(position, bytes).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
            segment.write(Rc::new(present), position).await?;
            position = position.plus(bytes);
        }
        Ok(())
    }

    async fn scan_and_cut(
        &self,
        segment: &Segment<E>,
        recorded: Recorded,
        piece_count: usize,
    ) -> io::Result<(RecoveredLog, Outcome)> {
        let scanned = scan::scan(self.env, segment, scan::records_start(segment.base_offset()), None).await?;
        let scanned_bytes = scanned.end.position.get() - RECORDS_START.get();
        let mut outcome = Outcome { scanned_bytes, piece_count, cut_bytes: 0 };
        let damaged = scanned.end.position < recorded.end;
        if damaged {
            // Nothing is cut, but what the journal held is to outlive the journal.
            segment.sync().await?;
        } else {
            outcome.cut_bytes = scan::remainder_bytes(segment, scanned.end.position).await?;
            self.rewrite(segment, recorded.flushed_end, scanned.end.position).await?;
            segment.cut(self.env, scanned.end.position).await?;
        }
        let log = RecoveredLog {
            segment_base: Some(segment.base_offset()),
            offsets: Offsets::recovered(recorded.start_offset.min(scanned.end.offset), scanned.end),
            recorded_end: Mark { position: recorded.end.max(scanned.end.position), ..scanned.end },
            failure: damaged.then(|| Failure::Corrupt(scan::damage(segment, &scanned, recorded.end))),
            contents: Some(scanned.contents),
            leader_epoch: scanned.leader_epoch,
        };
        Ok((log, outcome))
    }
}

/// What checkpoint and journal say of a log.
#[derive(Clone, Copy)]
struct Recorded {
    start_offset: Offset,
    /// A flush behind these bytes succeeded.
    flushed_end: Position,
    /// Damage below is corruption.
    end: Position,
}

impl Recorded {
    /// A log of which nothing can be used.
    fn offline(self, file: PathBuf, what: &str) -> RecoveredLog {
        let start = Mark { offset: self.start_offset, position: RECORDS_START };
        RecoveredLog {
            segment_base: Some(Offset::ZERO),
            offsets: Offsets::recovered(self.start_offset, start),
            recorded_end: Mark { position: self.end, ..start },
            failure: Some(Failure::Corrupt(Corruption { file, position: 0, what: what.to_owned() })),
            ..RecoveredLog::empty()
        }
    }
}
