//! Opens a directory that another number of shards wrote.
//!
//! Runs on one shard before any other opens its store. All journals are put back into their segments, every log is
//! scanned, and each new shard gets a checkpoint that lists its logs and a generation above every old journal's, so that
//! no old round counts any more. A crash in between repeats it; no append happens before it is done.

use std::collections::BTreeMap;
use std::path::Path;

use millrace_runtime::{Disk, Env};

use super::journal_scan::Needed;
use super::{OpenError, RecoveryReport, Sources, checkpoint_entry, journal_scan, logs_directory, recover_logs};
use crate::checkpoint;
use crate::format::checkpoint::Checkpoint;
use crate::journal;
use crate::model::PartitionId;

/// Brings the directory into the shape that `shard_count` shards expect, `owner` saying which log is whose. Does nothing
/// and returns `None` when it has that shape.
pub async fn redistribute<E: Env>(
    env: &E,
    directory: &Path,
    shard_count: u16,
    owner: impl Fn(PartitionId) -> u16,
) -> Result<Option<RecoveryReport>, OpenError> {
    let names = match env.disk().read_dir(directory).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(OpenError::io("listing the data directory"))?,
    };
    let shards: Vec<u16> = names.iter().filter_map(|entry| entry.name.strip_prefix("journal-")?.parse().ok()).collect();
    let (mut generation, mut changed) = (0, false);
    let mut sources = Sources {
        checkpoint: Some(Checkpoint { journal_generation: 0, journal_tail: 0, clean: false, entries: Vec::new() }),
        journaled: BTreeMap::new(),
        clean: false,
    };
    for shard in &shards {
        let checkpoint = checkpoint::read(env, &directory.join(checkpoint::file_name(*shard))).await?;
        let needed = Needed::from(checkpoint.as_ref());
        generation = generation.max(needed.generation);
        if let (Some(all), Some(checkpoint)) = (&mut sources.checkpoint, checkpoint) {
            all.entries.extend(checkpoint.entries);
        }
        let contents = journal_scan::read(env, &directory.join(journal::file_name(*shard)), needed).await?;
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
        // A log may stand in several checkpoints after an earlier change; the furthest is the newest.
        all.entries.sort_by_key(|entry| (entry.partition, entry.position));
    }
    let (logs, report) = recover_logs(env, directory, sources, |_| true).await?;
    for shard in 0..shard_count {
        let owned = logs.iter().filter(|(id, _)| owner(*id) == shard);
        let entries = owned.filter_map(|(id, log)| checkpoint_entry(*id, log)).collect();
        let checkpoint = Checkpoint { journal_generation: generation + 1, journal_tail: 0, clean: true, entries };
        let written = checkpoint::write(env, directory, shard, &checkpoint).await;
        written.map_err(OpenError::io("writing a checkpoint"))?;
    }
    // Journals are removed last: while one with the old shard count is there, a crash starts over.
    let removed = async {
        for shard in shards {
            env.disk().remove_file(&directory.join(journal::file_name(shard))).await?;
            if shard >= shard_count {
                env.disk().remove_file(&directory.join(checkpoint::file_name(shard))).await?;
            }
        }
        env.disk().sync_dir(directory).await?;
        env.disk().sync_dir(&logs_directory(directory)).await
    };
    removed.await.map_err(OpenError::io("removing old journals"))?;
    Ok(Some(report))
}
