//! Which rounds are compared, and how large they are. Pure.

use std::time::Duration;

use millrace_runtime::BLOCK_BYTES;
use serde::Serialize;

use crate::numbers::u64_of;

/// The largest piece, in bytes.
pub(super) const PIECE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Length of the log that stands for a shard's journal, in bytes.
pub(super) const LOG_BYTES: u64 = 256 * 1024 * 1024;
/// A log write is not measured above this many bytes: no journal would take such a round.
const LOG_ROUND_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Below this size a piece fills no more than a block or two, and a segment write that the log accompanies is not
/// worth a row of its own.
const SEGMENT_AND_LOG_BYTES_MIN: usize = 8 * 1024;

/// Bytes over which rounds on written extents go around, all files together. More than a device's cache holds.
const WRITTEN_BYTES: usize = 2 * 1024 * 1024 * 1024;
/// Bytes of unwritten extents that are used up, all files together.
const UNWRITTEN_BYTES: usize = 8 * 1024 * 1024 * 1024;

/// A number of files and a size: all variants are measured over the same files in turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    /// Invariant: above 0.
    pub(super) file_count: usize,
    /// Bytes that each file gets in a round. Invariant: 1..=[`PIECE_BYTES_MAX`].
    pub(super) piece_bytes: usize,
    /// How long the rounds may take, all variants together.
    pub(super) budget: Duration,
}

/// A way to make a round durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Variant {
    /// Every file is written over unwritten extents and flushed by itself.
    FileFlushUnwritten,
    /// Every file is written over written extents and flushed by itself.
    FileFlushWritten,
    /// Every file is written over written extents; then one flush of the device.
    DeviceFlush,
    /// All pieces go into one write of the log; then a flush.
    Log,
    /// All pieces go into one write of the log, opened with `O_DSYNC`.
    LogSynchronous,
    /// Every file is written over written extents, the log notes it, all at once; then one flush.
    SegmentsAndLog,
    /// Every file is written over written extents; then the log notes it, opened with `O_DSYNC`.
    SegmentsThenLogSynchronous,
}

impl Variant {
    pub(super) const ALL: [Self; 7] = [
        Self::FileFlushUnwritten,
        Self::FileFlushWritten,
        Self::DeviceFlush,
        Self::Log,
        Self::LogSynchronous,
        Self::SegmentsAndLog,
        Self::SegmentsThenLogSynchronous,
    ];

    /// A few words for a table.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::FileFlushUnwritten => "a  unwritten, flush per file",
            Self::FileFlushWritten => "a  written, flush per file",
            Self::DeviceFlush => "b  written, one flush",
            Self::Log => "c  all in the log, flush",
            Self::LogSynchronous => "c  all in the log, O_DSYNC",
            Self::SegmentsAndLog => "c  segments beside log, flush",
            Self::SegmentsThenLogSynchronous => "c  segments, then log O_DSYNC",
        }
    }

    fn applies(self, cell: &Cell) -> bool {
        match self {
            Self::FileFlushUnwritten | Self::FileFlushWritten | Self::DeviceFlush => true,
            Self::Log | Self::LogSynchronous => cell.payload_bytes() <= LOG_ROUND_BYTES_MAX,
            Self::SegmentsAndLog | Self::SegmentsThenLogSynchronous => cell.piece_bytes >= SEGMENT_AND_LOG_BYTES_MIN,
        }
    }
}

impl Cell {
    /// The variants that make sense here.
    pub(super) fn variants(&self) -> Vec<Variant> {
        Variant::ALL.into_iter().filter(|variant| variant.applies(self)).collect()
    }

    /// Bytes appended in a round, the same for all variants.
    pub(super) fn payload_bytes(&self) -> usize {
        self.file_count * self.piece_bytes
    }

    /// What a piece takes in a file of its own: whole blocks.
    pub(super) fn blocks_bytes(&self) -> usize {
        self.piece_bytes.next_multiple_of(BLOCK_BYTES)
    }

    /// How many rounds fit the unwritten part of the files, the first of which is not measured.
    pub(super) fn round_count_max(&self) -> usize {
        (UNWRITTEN_BYTES / (self.file_count * self.blocks_bytes())).clamp(ROUND_COUNT_MIN, ROUND_COUNT_MAX)
    }

    /// Whether to stop after `round_count` measured rounds.
    pub(super) fn is_enough(&self, round_count: usize, elapsed: Duration) -> bool {
        // One round of the maximum is the warm-up.
        round_count + 1 >= self.round_count_max() || (elapsed >= self.budget && round_count + 1 >= ROUND_COUNT_MIN)
    }

    /// Where a round writes in the part of every file whose extents are written.
    pub(super) fn written_position(&self, round_index: usize) -> u64 {
        u64_of(round_index % self.written_slots() * self.blocks_bytes())
    }

    /// Where a round writes in the part of every file whose extents are not written yet: never the same place twice.
    pub(super) fn unwritten_position(&self, round_index: usize) -> u64 {
        assert!(round_index < self.round_count_max(), "the unwritten part is used up");
        self.written_end() + u64_of(round_index * self.blocks_bytes())
    }

    /// End of the written part.
    pub(super) fn written_end(&self) -> u64 {
        u64_of(self.written_slots() * self.blocks_bytes())
    }

    /// End of the file.
    pub(super) fn file_end(&self) -> u64 {
        self.written_end() + u64_of(self.round_count_max() * self.blocks_bytes())
    }

    fn written_slots(&self) -> usize {
        (WRITTEN_BYTES / (self.file_count * self.blocks_bytes())).clamp(2, 64)
    }
}

/// The warm-up and enough rounds for a median.
const ROUND_COUNT_MIN: usize = 6;
const ROUND_COUNT_MAX: usize = 1001;

#[cfg(test)]
mod tests {
    use super::*;

    const fn cell(file_count: usize, piece_bytes: usize) -> Cell {
        Cell { file_count, piece_bytes, budget: Duration::from_secs(1) }
    }

    #[test]
    fn parts_of_a_file_do_not_overlap() {
        for cell in [cell(1, 1), cell(3, 5000), cell(10_000, 65_536)] {
            for round_index in 0..cell.round_count_max() {
                let written = cell.written_position(round_index);
                assert!(written + u64_of(cell.blocks_bytes()) <= cell.written_end());
                let unwritten = cell.unwritten_position(round_index);
                assert!(unwritten >= cell.written_end());
                assert!(unwritten + u64_of(cell.blocks_bytes()) <= cell.file_end());
            }
        }
    }

    #[test]
    fn a_round_too_large_for_a_log_and_one_too_small_for_a_segment_leave_variants_out() {
        assert!(!cell(10_000, 65_536).variants().contains(&Variant::Log));
        assert!(cell(10_000, 4096).variants().contains(&Variant::Log));
        assert!(!cell(10, 4096).variants().contains(&Variant::SegmentsAndLog));
        assert_eq!(cell(10, 65_536).variants(), Variant::ALL);
    }

    #[test]
    fn the_budget_ends_a_cell_but_not_before_a_few_rounds() {
        let cell = cell(10_000, 65_536);
        assert!(!cell.is_enough(4, Duration::from_secs(9)));
        assert!(cell.is_enough(5, Duration::from_secs(9)));
        assert!(!cell.is_enough(5, Duration::ZERO));
        assert!(cell.is_enough(cell.round_count_max() - 1, Duration::ZERO));
    }
}
