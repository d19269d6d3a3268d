//! Shows a data directory: every log, with what its checkpoint and its journal know of it.
//!
//! Puts the journals' pieces over the segments in memory, as recovery does on disk. Batches that end before a recorded
//! durable end are damage; bytes behind it are the torn end of a crash, which the next start cuts off.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use millrace_engine::format::checkpoint::Checkpoint;
use millrace_engine::format::journal::EntryKind;
use millrace_engine::format::segment_header::RECORDS_START;
use millrace_engine::model::{Incarnation, Offset, PartitionId, Position};
use millrace_engine::segment::{file_name, parse_file_name};

use super::journal::{self, Journal};
use super::{Inspection, read, segment, table};

const CHECKPOINT_PREFIX: &str = "checkpoint-";
const JOURNAL_PREFIX: &str = "journal-";
const LOGS: &str = "logs";

/// A segment's name: its partition and its first offset.
type SegmentKey = (PartitionId, Offset);

/// What checkpoints and journals say of one segment.
#[derive(Default)]
struct Known {
    /// Batches reach at least to here.
    durable_end: Position,
    /// What belongs into it, in the order of appends.
    pieces: Vec<(Position, Vec<u8>)>,
}

/// What checkpoints and journals say of all segments. Of a log that was cut only what they say of its newest incarnation.
#[derive(Default)]
struct Notes {
    incarnations: BTreeMap<PartitionId, Incarnation>,
    segments: BTreeMap<SegmentKey, Known>,
}

impl Notes {
    /// What is known of a segment in one incarnation of its log; `None` when there is a newer one.
    fn segment(&mut self, key: SegmentKey, incarnation: Incarnation) -> Option<&mut Known> {
        let newest = self.incarnations.entry(key.0).or_default();
        if incarnation > *newest {
            *newest = incarnation;
            self.segments.retain(|(partition, _), _| *partition != key.0);
        }
        (incarnation == *newest).then(|| self.segments.entry(key).or_default())
    }
}

pub(super) fn inspect(directory: &Path) -> anyhow::Result<Inspection> {
    let mut inspection = Inspection::default();
    let mut notes = Notes::default();
    let names = names(directory)?;
    let shards: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| name.strip_prefix(CHECKPOINT_PREFIX).or_else(|| name.strip_prefix(JOURNAL_PREFIX)))
        .filter(|shard| shard.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    let mut shards_table = table(&["shard", "checkpoint", "journal", "generation", "live rounds"], 3);
    for shard in shards {
        let row = take_shard(directory, shard, &mut notes, &mut inspection.damage)?;
        shards_table.add_row(row);
    }
    let mut logs_table = table(&["partition", "state", "segment", "bytes", "batches", "end offset", "in journal"], 2);
    for (key, path) in segments(&directory.join(LOGS))? {
        let known = notes.segments.remove(&key).unwrap_or_default();
        logs_table.add_row(look_at_segment(key, &path, &known, &mut inspection.damage)?);
    }
    for ((partition, base), known) in notes.segments {
        if known.durable_end > RECORDS_START {
            inspection.damage.push(format!("{partition}: {} is missing", file_name(base)));
        }
    }
    inspection.text = format!("{shards_table}\n\n{logs_table}");
    Ok(inspection)
}

/// Reads a shard's checkpoint and journal into `notes`, and gives the shard's row.
fn take_shard(
    directory: &Path,
    shard: &str,
    notes: &mut Notes,
    damage: &mut Vec<String>,
) -> anyhow::Result<[String; 5]> {
    let checkpoint_name = format!("{CHECKPOINT_PREFIX}{shard}");
    let mut row = [shard, "none", "none", "", ""].map(str::to_owned);
    let mut generation = 0;
    if let Some(bytes) = read_if_there(&directory.join(&checkpoint_name))? {
        match Checkpoint::decode(&bytes) {
            None => {
                damage.push(format!("{checkpoint_name}: magic, version or checksum does not hold"));
                "damaged".clone_into(&mut row[1]);
            }
            Some(checkpoint) => {
                generation = checkpoint.journal_generation;
                if checkpoint.clean { "clean" } else { "not clean" }.clone_into(&mut row[1]);
                for entry in checkpoint.entries {
                    let key = (entry.partition, entry.segment_base);
                    if let Some(known) = notes.segment(key, entry.incarnation) {
                        known.durable_end = known.durable_end.max(entry.position);
                    }
                }
            }
        }
    }
    let journal_name = format!("{JOURNAL_PREFIX}{shard}");
    let Some(bytes) = read_if_there(&directory.join(&journal_name))? else { return Ok(row) };
    match journal::parse(&bytes) {
        Journal::Unused => "never written to".clone_into(&mut row[2]),
        Journal::Damaged(what) => {
            damage.push(format!("{journal_name}: {what}"));
            "damaged".clone_into(&mut row[2]);
        }
        Journal::Readable { header, live, .. } => {
            row[3] = header.generation.to_string();
            row[4] = live.len().to_string();
            // Rounds of a generation older than the checkpoint's are all in segments.
            let counts = header.generation >= generation;
            if counts { "counts" } else { "covered" }.clone_into(&mut row[2]);
            if counts {
                damage.extend(journal::damage(&live).into_iter().map(|what| format!("{journal_name}: {what}")));
                for (entry, piece) in live.iter().flat_map(|(_, round)| &round.entries) {
                    let key = (entry.partition, entry.segment_base);
                    if let Some(known) = notes.segment(key, entry.incarnation) {
                        known.take(entry.kind, piece);
                    }
                }
            }
        }
    }
    Ok(row)
}

impl Known {
    fn take(&mut self, kind: EntryKind, piece: &[u8]) {
        let end = match kind {
            EntryKind::Piece { position, .. } => {
                self.pieces.push((position, piece.to_vec()));
                position.plus(piece.len())
            }
            EntryKind::DurableEnd { position, .. } => position,
            EntryKind::Start { .. } => return,
        };
        self.durable_end = self.durable_end.max(end);
    }

    fn piece_bytes(&self) -> usize {
        self.pieces.iter().map(|(_, piece)| piece.len()).sum()
    }
}

/// Checks one segment, and gives its row.
fn look_at_segment(
    (partition, base): SegmentKey,
    path: &Path,
    known: &Known,
    damage: &mut Vec<String>,
) -> anyhow::Result<[String; 7]> {
    let mut bytes = read(path)?;
    let mut row = [partition.to_string(), "whole".to_owned(), base.to_string(), bytes.len().to_string()]
        .into_iter()
        .chain(std::iter::repeat_n(String::new(), 3))
        .collect::<Vec<_>>();
    row[6] = known.piece_bytes().to_string();
    let header = segment::parse_header(path, &bytes);
    let wrong = match header {
        Ok(header) if header.partition == partition => None,
        Ok(header) => Some(format!("it is a segment of {}", header.partition)),
        Err(what) => Some(what),
    };
    if let Some(what) = wrong {
        damage.push(format!("{partition}, {}: {what}", file_name(base)));
        "damaged".clone_into(&mut row[1]);
    } else {
        for (position, piece) in &known.pieces {
            let start = usize::try_from(position.get()).context("the position of a piece")?;
            let room = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..piece.len()));
            // A piece is only journaled once its place is filled with zeros. Without it the scan below ends too early.
            if let Some(room) = room {
                room.copy_from_slice(piece);
            }
        }
        let scan = segment::scan(&bytes, base);
        row[4] = scan.batches.len().to_string();
        row[5] = scan.end_offset.to_string();
        let (end, durable_end) = (scan.end_position, known.durable_end.get());
        if u64::try_from(end)? < durable_end {
            let what = format!("at byte {end}: {}, below the durable end at byte {durable_end}", scan.stop);
            damage.push(format!("{partition}, {}: {what}", file_name(base)));
            "damaged".clone_into(&mut row[1]);
        } else if scan.remainder_bytes > 0 {
            row[1] = format!("torn end of {} bytes", scan.remainder_bytes);
        }
    }
    Ok(row.try_into().expect("the row was made of seven cells"))
}

/// The segment files below the directory of logs, sorted.
fn segments(logs: &Path) -> anyhow::Result<BTreeMap<SegmentKey, PathBuf>> {
    let mut segments = BTreeMap::new();
    for name in names(logs)? {
        let Some(partition) = PartitionId::parse_directory_name(&name) else { continue };
        let directory = logs.join(&name);
        for name in names(&directory)? {
            if let Some(base) = parse_file_name(&name) {
                segments.insert((partition, base), directory.join(&name));
            }
        }
    }
    Ok(segments)
}

fn names(directory: &Path) -> anyhow::Result<Vec<String>> {
    let context = || format!("listing {}", directory.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(context)? {
        // Names that are not text are never ours.
        names.extend(entry.with_context(context)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    if path.try_exists().with_context(|| format!("looking for {}", path.display()))? {
        return read(path).map(Some);
    }
    Ok(None)
}
