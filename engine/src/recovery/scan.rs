//! Walks a segment batch by batch, checks every one, and says where the log ends.

use std::io;

use millrace_protocol::batch::{BatchError, BatchView};
use millrace_runtime::{BLOCK_BYTES, Buffer, Env, Tasks};

use crate::format::segment_header::{Compacted, RECORDS_START};
use crate::log::Corruption;
use crate::log::index::OffsetIndex;
use crate::log::offsets::Mark;
use crate::model::{EpochStart, LeaderEpoch, Offset, Position};
use crate::producer_state::ProducerStates;
use crate::segment::Segment;

/// Bytes read at a time; also how much is checked before other tasks may run.
const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes behind the end that are looked at to say how much was cut off.
const REMAINDER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What is said of a segment whose first block is not what it should be.
pub(crate) const HEADER_DAMAGED: &str = "the segment's header does not hold, or is another partition's";

/// What a scan found, on top of what it started from.
pub(crate) struct Scan {
    /// Where the whole, consecutive batches end.
    pub(crate) end: Mark,
    /// Where the segment's batches start.
    pub(crate) index: OffsetIndex,
    /// The leader epochs that begin in the segment.
    pub(crate) epochs: Vec<EpochStart>,
    /// What idempotent producers have sent.
    pub(crate) producers: ProducerStates,
    /// Leader epoch of the last batch, -1 when there is none.
    pub(crate) leader_epoch: LeaderEpoch,
    /// What the header says of a compacted segment, in which offsets may skip.
    pub(crate) compacted: Option<Compacted>,
    /// Why the scan ended there.
    pub(crate) stop: &'static str,
    /// Bytes read.
    pub(crate) scanned_bytes: u64,
}

impl Scan {
    /// A scan of a whole segment that begins with `base_offset`, of a log whose earlier batches left `producers`.
    pub(crate) fn of_segment(base_offset: Offset, compacted: Option<Compacted>, producers: ProducerStates) -> Self {
        Self {
            end: Mark { offset: base_offset, position: RECORDS_START },
            index: OffsetIndex::default(),
            epochs: Vec::new(),
            producers,
            leader_epoch: LeaderEpoch::new(-1),
            compacted,
            stop: "end of file",
            scanned_bytes: 0,
        }
    }

    /// Whether it reached the end of a segment behind which `next` begins.
    pub(crate) fn is_complete(&self, next: Offset) -> bool {
        match self.compacted {
            Some(compacted) => compacted.end_offset == next && self.end.position == compacted.end_position,
            None => self.end.offset == next,
        }
    }

    /// Goes on from [`Self::end`], the start of a batch, to `limit`, or to the first byte that does not continue the log.
    ///
    /// A batch continues the log if it is whole, its checksum holds, its base offset is the one expected next (or, in a
    /// compacted segment, a later one) and its leader epoch does not fall.
    pub(crate) async fn run<E: Env>(
        mut self,
        env: &E,
        segment: &Segment<E>,
        limit: Option<Position>,
    ) -> io::Result<Self> {
        let start = self.end.position;
        let limit = limit.or(self.compacted.map(|compacted| compacted.end_position));
        let mut scan = scan(env, segment, &mut self, limit).await.map(|()| self)?;
        scan.scanned_bytes += u64::try_from(scan.end.position.bytes_since(start)).unwrap_or(u64::MAX);
        Ok(scan)
    }
}

async fn scan<E: Env>(env: &E, segment: &Segment<E>, scan: &mut Scan, limit: Option<Position>) -> io::Result<()> {
    let mut window_bytes = WINDOW_BYTES;
    while limit.is_none_or(|limit| scan.end.position < limit) {
        let window_start = scan.end.position.block_floor();
        let Some(buffer) = segment.read(window_start, window_bytes).await? else { return Ok(()) };
        let window = buffer.as_slice();
        let step = loop {
            let bytes = &window[scan.end.position.bytes_since(window_start)..];
            match scan.take(bytes) {
                Step::Taken if limit.is_none_or(|limit| scan.end.position < limit) => {}
                step => break step,
            }
        };
        match step {
            Step::Taken => return Ok(()),
            Step::Stop(stop) => {
                scan.stop = stop;
                return Ok(());
            }
            Step::Incomplete { bytes } => {
                // A damaged length may be any number: no memory is taken for more than there is.
                let file_end = Position::new(segment.size_bytes().await?);
                if scan.end.position.plus(bytes) > file_end {
                    scan.stop = "a batch is cut off by the end of the file";
                    return Ok(());
                }
                window_bytes = (bytes + BLOCK_BYTES).next_multiple_of(BLOCK_BYTES).max(WINDOW_BYTES);
            }
        }
        env.tasks().yield_now().await;
    }
    Ok(())
}

enum Step {
    /// One batch was taken.
    Taken,
    /// The next batch needs this many bytes.
    Incomplete { bytes: usize },
    /// The log ends here.
    Stop(&'static str),
}

impl Scan {
    fn take(&mut self, bytes: &[u8]) -> Step {
        let batch = match BatchView::parse(bytes) {
            Ok(batch) => batch,
            Err(BatchError::Incomplete { needed_bytes, .. }) => return Step::Incomplete { bytes: needed_bytes },
            Err(_) if bytes.iter().take(BLOCK_BYTES).all(|byte| *byte == 0) => return Step::Stop("end of records"),
            Err(_) => return Step::Stop("a batch's checksum or header does not hold"),
        };
        let header = batch.header();
        // The checksum does not cover the base offset: it may be any number.
        let (found, expected) = (header.base_offset.get(), self.end.offset.get());
        if found < expected || (found > expected && self.compacted.is_none()) {
            return Step::Stop("a batch's base offset is not the expected one");
        }
        let leader_epoch = LeaderEpoch::new(header.leader_epoch.get());
        if leader_epoch < self.leader_epoch {
            return Step::Stop("a batch's leader epoch is lower than the one before");
        }
        let base_offset = Offset::new(header.base_offset.get());
        let Some(end_offset) = base_offset.checked_add(i64::from(header.last_offset_delta.get()) + 1) else {
            return Step::Stop("a batch's offsets leave the number range");
        };
        self.index.push(base_offset, self.end.position, header.max_timestamp.get());
        self.producers.note(header, base_offset, end_offset);
        if leader_epoch > self.leader_epoch || self.epochs.is_empty() {
            self.epochs.push(EpochStart { epoch: leader_epoch, start_offset: base_offset });
        }
        self.leader_epoch = leader_epoch;
        self.end = Mark { offset: end_offset, position: self.end.position.plus(batch.bytes().len()) };
        Step::Taken
    }
}

/// The report of damage below `recorded`, where a scan stopped early.
pub(crate) fn damage<E: Env>(segment: &Segment<E>, scan: &Scan, recorded: Mark) -> Corruption {
    let position = scan.end.position.get();
    let what = format!("{} at offset {}, but the log is durable up to {}", scan.stop, scan.end.offset, recorded.offset);
    Corruption { file: segment.path().to_owned(), position, what }
}

/// What lies behind the end of a log.
pub(crate) struct Remainder {
    /// Bytes up to the last one that is not zero.
    pub(crate) bytes: usize,
    /// All that lies there was looked at.
    pub(crate) is_all: bool,
}

/// What a cut at `end` takes away.
pub(crate) async fn remainder<E: Env>(segment: &Segment<E>, end: Position) -> io::Result<Remainder> {
    let start = end.block_floor();
    let skipped = end.bytes_since(start);
    let Some(buffer) = segment.read(start, REMAINDER_BYTES_MAX).await? else {
        return Ok(Remainder { bytes: 0, is_all: true });
    };
    let is_all = buffer.as_slice().len() < REMAINDER_BYTES_MAX;
    let rest = buffer.as_slice().get(skipped..).unwrap_or_default();
    Ok(Remainder { bytes: rest.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1), is_all })
}
