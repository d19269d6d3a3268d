//! Opens a directory that another number of shards wrote.
//!
//! Runs on one shard before any other opens its store. All journals are put back into their segments, and each new shard gets a checkpoint with the new shard count, all logs, and a generation above every old
//! journal's, so that no old round counts any more. A crash in between repeats it; no append happens before it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use millrace_runtime::{DirEntry, Disk, Env};

use super::journal_scan::Needed;
use super::{
    OpenError, RecoveredLogs, RecoveryReport, Sources, checkpoint_entry, journal_scan, logs_directory, recover_logs,
};
use crate::checkpoint;
use crate::format::checkpoint::{Checkpoint, CheckpointEntry};
use crate::journal;
use crate::store::space;

/// A start goes on with this much free, in bytes.
const START_BYTES: u64 = 4 * 1024 * 1024;

/// Brings the directory into the shape that `shard_count` shards expect. Does nothing and returns `None` when it has that
/// shape.
pub async fn redistribute<E: Env>(
    env: &E,
    directory: &Path,
    shard_count: u16,
) -> Result<Option<RecoveryReport>, OpenError> {
    let names = match env.disk().read_dir(directory).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(OpenError::io("listing the data directory"))?,
    };
    let given_up = give_up_reserve(env, directory, shard_count, &names).await;
    given_up.map_err(OpenError::io("making room on a full disk"))?;
    // A crash in here may have left a checkpoint whose journal is gone; what it says of durable ends still counts.
    let (journals, checkpoints) = (shards_of(&names, "journal-"), shards_of(&names, "checkpoint-"));
    let (mut generation, mut changed) = (0, false);
    let none = Checkpoint { journal_generation: 0, journal_tail: 0, shard_count, clean: false, entries: Vec::new() };
    let mut sources = Sources { checkpoint: Some(none), journaled: BTreeMap::new(), clean: true };
    for shard in journals.union(&checkpoints) {
        let checkpoint = checkpoint::read(env, &directory.join(checkpoint::file_name(*shard))).await?;
        let needed = Needed::from(checkpoint.as_ref());
        generation = generation.max(needed.generation);
        let contents = journal_scan::read(env, &directory.join(journal::file_name(*shard)), needed).await?;
        let journal_generation = contents.as_ref().map_or(0, |contents| contents.header.generation);
        if let (Some(all), Some(checkpoint)) = (&mut sources.checkpoint, checkpoint) {
            changed |= checkpoint.shard_count != shard_count;
            let clean = checkpoint.clean && journal_generation < checkpoint.journal_generation;
            let entries = checkpoint.entries.into_iter();
            all.entries.extend(entries.map(|entry| CheckpointEntry { settled: entry.settled && clean, ..entry }));
        }
        if let Some(contents) = contents {
            changed |= contents.header.shard_count != shard_count;
            generation = generation.max(contents.header.generation);
            sources.journaled.extend(contents.logs);
        }
    }
    if !changed || !names.iter().any(|entry| entry.name == "logs") {
        return Ok(None);
    }
    if let Some(all) = &mut sources.checkpoint {
        // A log may stand in several checkpoints after an earlier change. The newest incarnation counts, in it one whose cut
        // is done, and of those the furthest: appends came only after that.
        all.entries.sort_by_key(|entry| {
            let state = (entry.incarnation, !entry.cut_pending);
            (entry.partition, state, entry.segment_base, entry.position, entry.settled)
        });
    }
    let RecoveredLogs { logs, report, .. } = recover_logs(env, directory, sources, |_| true).await?;
    // Each new checkpoint lists every log, not only its shard's: after a crash it may be the only one that is left.
    let entries: Vec<_> = logs.iter().filter_map(|(id, log)| checkpoint_entry(*id, log)).collect();
    // Shard 0's is the last: as long as it has the old shard count, a crash starts over, whatever count is wanted then.
    for shard in (0..shard_count).rev() {
        let (journal_generation, entries) = (generation + 1, entries.clone());
        // No journal holds anything any more; which logs end where their entry says, each entry says for itself.
        let checkpoint = Checkpoint { journal_generation, journal_tail: 0, shard_count, clean: true, entries };
        let written = checkpoint::write(env, directory, shard, &checkpoint).await;
        written.map_err(OpenError::io("writing a checkpoint"))?;
    }
    // From here on no old journal counts any more; what a crash leaves of them and of old checkpoints starts this over.
    let removed = async {
        for shard in journals {
            env.disk().remove_file(&directory.join(journal::file_name(shard))).await?;
        }
        for shard in checkpoints.range(shard_count..) {
            env.disk().remove_file(&directory.join(checkpoint::file_name(*shard))).await?;
        }
        env.disk().sync_dir(directory).await?;
        env.disk().sync_dir(&logs_directory(directory)).await
    };
    removed.await.map_err(OpenError::io("removing old journals"))?;
    Ok(Some(report))
}

/// On a disk that is full to the last bytes a start gives up the reserve: it writes little, but it has to write. The
/// reserve of shards that are no more goes on any disk.
async fn give_up_reserve<E: Env>(env: &E, directory: &Path, shard_count: u16, names: &[DirEntry]) -> io::Result<()> {
    let kept = if env.disk().available_bytes(directory).await? < START_BYTES { 0 } else { shard_count };
    for shard in shards_of(names, "reserve-").range(kept..) {
        env.disk().remove_file(&directory.join(space::reserve_file_name(*shard))).await?;
    }
    Ok(())
}

/// The shards that have a file with this prefix.
fn shards_of(names: &[DirEntry], prefix: &str) -> BTreeSet<u16> {
    names.iter().filter_map(|entry| entry.name.strip_prefix(prefix)?.parse().ok()).collect()
}
