//! Opens one log from its directory.
//!
//! 1. Put the names in order: leave out what a crash left half made, let the prepared segment count if its header says so,
//!    finish a compaction that was being put in place, and make all names durable.
//!    Then, if the log was cut, remove what its files still hold behind the cut.
//! 2. Write back pieces that are only known in memory (after a failure in a running store).
//! 3. Scan the segments from the newest saved state on. Up to where the log is recorded to be durable every byte has to
//!    continue it, or the log is damaged and stays as it is. Behind that lies at most the last round: the log ends with
//!    the first segment in which something does not continue it.
//! 4. Make that end final: remove later segments, write once more what is not known to be flushed, cut the rest off.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use millrace_protocol::batch::BatchHeader;
use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env};
use zerocopy::FromBytes;

use super::pieces::put_back;
use super::scan::{self, Remainder, Scan};
use super::{LogOutcome, OpenLogError, cutting};
use crate::format::index;
use crate::format::segment_header::{RECORDS_START, SegmentHeader};
use crate::io::is_unfinished;
use crate::log::active::{ActiveSegment, HeaderState};
use crate::log::index::SegmentIndex;
use crate::log::offsets::Mark;
use crate::log::recorded::Recorded;
use crate::log::sealed::SealedSegment;
use crate::log::{Corruption, OpenedLog};
use crate::model::{LeaderEpoch, Offset, PartitionId, Position};
use crate::producer_state::ProducerStates;
use crate::segment::{self, NEXT_FILE_NAME, Segment};
use crate::segment_files;

/// Bytes that are written once more at a time.
const REWRITE_BYTES: usize = 256 * 1024;

/// Opens a log of which `recorded` is known. When its saved state has more than `producer_count_max` producers, they are
/// spilled.
pub(crate) async fn open_log<E: Env>(
    env: &E,
    logs: &Path,
    id: PartitionId,
    recorded: &Recorded,
    producer_count_max: usize,
) -> Result<(OpenedLog<E>, LogOutcome), OpenLogError> {
    let directory = logs.join(id.directory_name());
    let opener = |recorded| LogOpener { env, logs, directory: directory.clone(), id, recorded, producer_count_max };
    if recorded.cut_pending {
        let bases = opener(recorded).put_names_in_order().await?;
        let recorded = cutting::cut(env, logs, id, recorded, &bases).await?;
        return opener(&recorded).run().await;
    }
    opener(recorded).run().await
}

struct LogOpener<'a, E: Env> {
    env: &'a E,
    logs: &'a Path,
    directory: PathBuf,
    id: PartitionId,
    recorded: &'a Recorded,
    producer_count_max: usize,
}

/// The last segment that is scanned: it becomes the active one.
struct Last<E: Env> {
    segment: Segment<E>,
    header: SegmentHeader,
    scan: Scan,
    /// Where this scan began.
    scanned_from: Position,
    /// Up to where its state was found saved.
    saved_end: Option<Mark>,
}

impl<E: Env> LogOpener<'_, E> {
    async fn run(&self) -> Result<(OpenedLog<E>, LogOutcome), OpenLogError> {
        let bases = self.put_names_in_order().await?;
        if bases.is_empty() {
            if let Some(base) = self.recorded.segment_base {
                return Err(self.corruption(base, 0, "the segment is missing").into());
            }
            return Ok((OpenedLog::empty(self.recorded.start_offset), LogOutcome::default()));
        }
        self.check_present(&bases).await?;
        let mut restored = BTreeMap::new();
        for piece in &self.recorded.pieces {
            if let Some(segment) = put_back(self.env, self.logs, self.id, piece).await? {
                restored.insert(segment.base_offset(), segment);
            }
        }
        for segment in restored.values() {
            segment.sync().await?;
        }
        let mut sealed = Vec::new();
        let mut outcome = LogOutcome::default();
        let last = self.scan_segments(&bases, &mut sealed, &mut outcome).await?;
        self.make_end_final(&bases, &last, &mut outcome).await?;
        self.opened(sealed, last).await.map(|opened| (opened, outcome)).map_err(OpenLogError::Io)
    }

    /// The first offsets of the log's segments, rising.
    async fn put_names_in_order(&self) -> io::Result<Vec<Offset>> {
        let disk = self.env.disk();
        let names = match disk.read_dir(&self.directory).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        for entry in names.iter().filter(|entry| entry.name.strip_suffix(".swap").is_some()) {
            self.finish_replacement(self.directory.join(&entry.name)).await?;
        }
        let names = disk.read_dir(&self.directory).await?;
        // It was an earlier life's.
        segment_files::remove_spilled(self.env, &self.directory).await?;
        let mut bases: Vec<_> = names.iter().filter_map(|entry| segment::parse_file_name(&entry.name)).collect();
        // A process that was killed may have left names that are there and not durable; appends would soon rely on them.
        // Where the log is recorded to be durable, the names up to there are too.
        let mut are_durable = bases.iter().max().copied() <= self.recorded.segment_base;
        for entry in &names {
            let orphan = index::parse_file_name(&entry.name).is_some_and(|base| !bases.contains(&base));
            if is_unfinished(&entry.name) || orphan {
                disk.remove_file(&self.directory.join(&entry.name)).await?;
                are_durable = false;
            } else if entry.name == NEXT_FILE_NAME {
                let path = self.directory.join(&entry.name);
                are_durable = false;
                match Segment::open_by_header(self.env, path.clone(), self.id).await? {
                    Some((segment, header)) if !bases.contains(&segment.base_offset()) => {
                        // That the header can be read does not prove that it is on the device, and a segment that has its
                        // name without it would be damaged.
                        segment.write_header(self.env, self.id, header.filled_end, None).await?;
                        segment.sync().await?;
                        segment.rename(self.env).await?;
                        bases.push(segment.base_offset());
                    }
                    // Prepared and never used.
                    _ => disk.remove_file(&path).await?,
                }
            }
        }
        if !are_durable {
            disk.sync_dir(&self.directory).await?;
        }
        bases.sort_unstable();
        Ok(bases)
    }

    /// Puts a compacted segment in the place of those that it replaces: a crash came before all of them were removed.
    async fn finish_replacement(&self, path: PathBuf) -> io::Result<()> {
        let disk = self.env.disk();
        let found = Segment::open_by_header(self.env, path, self.id).await?;
        // Without a header it is not ours: its name was made durable after its content.
        let Some((segment, header)) = found else { return Ok(()) };
        let replaced =
            header.base_offset..header.compacted.map_or(header.base_offset, |compacted| compacted.end_offset);
        for entry in disk.read_dir(&self.directory).await? {
            let base = segment::parse_file_name(&entry.name).or_else(|| index::parse_file_name(&entry.name));
            if base.is_some_and(|base| replaced.contains(&base)) {
                disk.remove_file(&self.directory.join(&entry.name)).await?;
            }
        }
        disk.sync_dir(&self.directory).await?;
        segment.rename(self.env).await.map(drop)
    }

    async fn scan_segments(
        &self,
        bases: &[Offset],
        sealed: &mut Vec<SealedSegment<E>>,
        outcome: &mut LogOutcome,
    ) -> Result<Last<E>, OpenLogError> {
        let (first_place, mut saved) = self.find_saved(bases).await?;
        let names = bases.windows(2).take(first_place);
        sealed.extend(names.map(|pair| SealedSegment::named(pair[0], pair[1])));
        let mut producers = ProducerStates::default();
        let mut leader_epoch = LeaderEpoch::new(-1);
        for (place, base) in bases.iter().enumerate().skip(first_place) {
            let next = bases.get(place + 1).copied();
            let segment = Segment::open(self.env, self.logs, self.id, *base).await?;
            let Some(header) = segment.header(self.id).await? else {
                return Err(self.corruption(*base, 0, scan::HEADER_DAMAGED).into());
            };
            let whole = || {
                let mut scan = Scan::of_segment(*base, header.compacted, std::mem::take(&mut producers));
                scan.leader_epoch = leader_epoch;
                scan
            };
            let saved_end = saved.as_ref().map(|scan: &Scan| scan.end);
            let start = saved.take().unwrap_or_else(whole);
            let scanned_from = start.end.position;
            let limit = self.clean_end(*base);
            let scan = start.run(self.env, &segment, limit).await?;
            outcome.scanned_bytes += scan.scanned_bytes;
            self.check_recorded(&segment, &scan, next)?;
            let complete = next.is_some_and(|next| scan.is_complete(next));
            let Some(next) = next.filter(|_| complete) else {
                return Ok(Last { segment, header, scan, scanned_from, saved_end });
            };
            leader_epoch = scan.leader_epoch;
            producers = scan.producers;
            let index = SegmentIndex { end: scan.end.position, offsets: scan.index, epochs: scan.epochs };
            sealed.push(SealedSegment {
                bytes: index.end.get(),
                index: Some(Rc::new(index)),
                finished: false,
                ..SealedSegment::named(*base, next)
            });
        }
        unreachable!("the last segment has none behind it, and ends the loop")
    }

    /// Looks for the newest segment beside which the log's state was saved, and says where to go on from it.
    async fn find_saved(&self, bases: &[Offset]) -> io::Result<(usize, Option<Scan>)> {
        for (place, base) in bases.iter().enumerate().rev() {
            let index = segment_files::read_index(self.env, &self.directory, self.id, *base).await?;
            let Some((end_offset, index)) = index else { continue };
            let (id, count_max) = (self.id, self.producer_count_max);
            let producers = segment_files::read_producers(self.env, &self.directory, id, end_offset, count_max).await?;
            let Some(producers) = producers else { continue };
            let mut leader_epoch = index.epochs.last().map(|last| last.epoch);
            if let Some(before) = place.checked_sub(1).filter(|_| leader_epoch.is_none()) {
                // Nothing was in the segment yet: the last batch is in the one before.
                let before = segment_files::read_index(self.env, &self.directory, self.id, bases[before]).await?;
                leader_epoch = before.and_then(|(_, index)| index.epochs.last().map(|last| last.epoch));
                if leader_epoch.is_none() {
                    continue;
                }
            }
            let mut scan = Scan::of_segment(*base, None, producers);
            scan.end = Mark { offset: end_offset, position: index.end };
            scan.leader_epoch = leader_epoch.unwrap_or(LeaderEpoch::new(-1));
            (scan.index, scan.epochs) = (index.offsets, index.epochs);
            return Ok((place, Some(scan)));
        }
        Ok((0, None))
    }

    /// Where the scan of a segment is to end: a log that was closed in order ends exactly where it is recorded to.
    fn clean_end(&self, base: Offset) -> Option<Position> {
        let last = self.recorded.segment_base == Some(base);
        (self.recorded.clean && last).then_some(self.recorded.end.position)
    }

    /// Every byte below the recorded end has to be there.
    fn check_recorded(&self, segment: &Segment<E>, scan: &Scan, next: Option<Offset>) -> Result<(), OpenLogError> {
        let base = segment.base_offset();
        let Some(recorded_base) = self.recorded.segment_base else { return Ok(()) };
        let sealed = base < recorded_base || scan.compacted.is_some();
        let reaches = match next {
            Some(next) if sealed => scan.is_complete(next),
            None if sealed => false,
            _ if base == recorded_base => scan.end.position >= self.recorded.end.position,
            _ => true,
        };
        if reaches { Ok(()) } else { Err(scan::damage(segment, scan, self.recorded.end).into()) }
    }

    /// The segment that the log is recorded to end in has to be there, or to have been compacted into one that is, or to
    /// have been deleted together with all its records.
    async fn check_present(&self, bases: &[Offset]) -> Result<(), OpenLogError> {
        let Some(recorded) = self.recorded.segment_base.filter(|base| !bases.contains(base)) else { return Ok(()) };
        if bases[0] > recorded && bases[0] <= self.recorded.start_offset {
            return Ok(());
        }
        let missing = || OpenLogError::from(self.corruption(recorded, 0, "the segment is missing"));
        let before = bases.iter().rfind(|base| **base < recorded).ok_or_else(missing)?;
        let segment = Segment::open(self.env, self.logs, self.id, *before).await?;
        let compacted = segment.header(self.id).await?.and_then(|header| header.compacted);
        compacted.filter(|compacted| compacted.end_offset > recorded).map(drop).ok_or_else(missing)
    }

    /// Nothing behind the end can ever come back, and everything before it is on the device.
    async fn make_end_final(
        &self,
        bases: &[Offset],
        last: &Last<E>,
        outcome: &mut LogOutcome,
    ) -> Result<(), OpenLogError> {
        if self.recorded.clean {
            return Ok(());
        }
        let Last { segment, scan, scanned_from, .. } = last;
        let base = segment.base_offset();
        let later: Vec<_> = bases.iter().filter(|other| **other > base).collect();
        for other in &later {
            let unacknowledged = Segment::open(self.env, self.logs, self.id, **other).await?;
            outcome.cut_bytes += scan::remainder(&unacknowledged, RECORDS_START).await?.bytes;
            self.env.disk().remove_file(unacknowledged.path()).await?;
        }
        if !later.is_empty() {
            self.env.disk().sync_dir(&self.directory).await?;
        }
        let end = scan.end.position;
        let Remainder { bytes, is_all } = scan::remainder(segment, end).await?;
        outcome.cut_bytes += bytes;
        let recorded = self.recorded.segment_base == Some(base);
        // Of a segment that nothing is recorded of, not even the header is known to be flushed.
        let flushed =
            if recorded { self.recorded.end.position.max(*scanned_from).min(end) } else { Position::default() };
        if flushed == end && bytes == 0 && is_all {
            // It ends where it is recorded to, and there are only zeros behind.
            return Ok(());
        }
        rewrite(segment, flushed, end).await?;
        // Segments between the recorded one and this one may never have been flushed either.
        let between = bases.iter().filter(|other| **other < base && Some(**other) >= self.recorded.segment_base);
        for other in between {
            let recorded = self.recorded.segment_base == Some(*other);
            let start = if recorded { self.recorded.end.position } else { Position::default() };
            let segment = Segment::open(self.env, self.logs, self.id, *other).await?;
            let end = Position::new(segment.size_bytes().await?).block_floor();
            rewrite(&segment, start, end).await?;
            segment.sync().await?;
        }
        segment.cut(self.env, self.id, end).await?;
        Ok(())
    }

    async fn opened(&self, sealed: Vec<SealedSegment<E>>, last: Last<E>) -> io::Result<OpenedLog<E>> {
        let Last { segment, header, scan, saved_end, .. } = last;
        let is_empty = scan.end.position == RECORDS_START;
        let first_timestamp = if is_empty { None } else { first_timestamp(&segment).await? };
        let filled_end = self.filled_end(&segment, &header, scan.end.position).await?;
        let first_base = sealed.first().map_or(segment.base_offset(), |first| first.base_offset);
        let active = ActiveSegment {
            base_offset: segment.base_offset(),
            origin: RECORDS_START,
            // Opened again when it is written or read: a log that nobody uses keeps no descriptor.
            file: None,
            file_used: false,
            filled_end,
            unnamed: false,
            cache_key: None,
            header: HeaderState::Durable,
        };
        Ok(OpenedLog {
            sealed,
            active: Some(active),
            start_offset: self.recorded.start_offset.max(first_base).min(scan.end.offset),
            end: scan.end,
            index: scan.index,
            epochs: scan.epochs,
            first_timestamp,
            producers: scan.producers,
            leader_epoch: scan.leader_epoch,
            saved: saved_end.map(|mark| (mark.position, mark.offset)),
        })
    }

    /// Up to where the last segment, which ends at `end`, is known to be filled. Its length alone proves nothing: it may
    /// have grown without a flush, before a fault or a kill.
    async fn filled_end(&self, segment: &Segment<E>, header: &SegmentHeader, end: Position) -> io::Result<Position> {
        let file_end = Position::new(segment.size_bytes().await?).block_floor();
        let filled_end = header.filled_end.max(end.block_ceil()).min(file_end);
        if header.filled_end > file_end {
            // A cut was cut off. Once the file grows again it would hide that the header says too much.
            segment.write_header(self.env, self.id, filled_end, header.compacted).await?;
            segment.sync().await?;
        }
        Ok(filled_end)
    }

    fn corruption(&self, base: Offset, position: u64, what: &str) -> Corruption {
        let file = self.directory.join(segment::file_name(base));
        Corruption { file, position, what: what.to_owned() }
    }
}

/// Writes what lies between two positions once more. After a failed flush a read may give bytes, from a cache, that are
/// not on the device, and no later flush of the same bytes would bring them there.
async fn rewrite<E: Env>(segment: &Segment<E>, start: Position, end: Position) -> io::Result<()> {
    let mut position = start.block_floor();
    while position < end {
        let bytes = end.block_ceil().bytes_since(position).min(REWRITE_BYTES);
        let present = segment.read(position, bytes).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        segment.write(Rc::new(present), position).await?;
        position = position.plus(bytes);
    }
    Ok(())
}

/// Largest timestamp of a segment's first batch.
pub(crate) async fn first_timestamp<E: Env>(segment: &Segment<E>) -> io::Result<Option<i64>> {
    let Some(block) = segment.read(RECORDS_START, BLOCK_BYTES).await? else { return Ok(None) };
    let header = BatchHeader::read_from_prefix(block.as_slice()).ok();
    Ok(header.map(|(header, _)| header.max_timestamp.get()))
}

impl<E: Env> OpenedLog<E> {
    /// A log without segments.
    pub(crate) fn empty(start_offset: Offset) -> Self {
        Self {
            sealed: Vec::new(),
            active: None,
            start_offset: start_offset.min(Offset::ZERO),
            end: Mark::RECORDS_START,
            index: crate::log::index::OffsetIndex::default(),
            epochs: Vec::new(),
            first_timestamp: None,
            producers: ProducerStates::default(),
            leader_epoch: LeaderEpoch::new(-1),
            saved: None,
        }
    }
}
