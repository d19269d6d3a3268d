//! The offsets of a log and their order.
//!
//! - `flush.policy=commit`: start <= stable <= visible <= durable <= stored <= written. No client sees a record, and no
//!   answer carries its offset, before it is durable.
//! - `interval` and `none`: visible <= stored <= written and durable <= stored. A record is shown once it is written to a
//!   file, so that it outlives the process; losing power may take it.

use super::config::FlushPolicy;
use crate::model::{LeaderEpoch, Offset, Position};

/// An offset together with its byte position in the log. Positions go on rising over all segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The offset.
    pub offset: Offset,
    /// Position of the batch that starts at the offset.
    pub position: Position,
}

impl Mark {
    /// The start of the records of a log that was never cut at its start.
    pub const RECORDS_START: Self =
        Self { offset: Offset::ZERO, position: crate::format::segment_header::RECORDS_START };
}

/// What the broker may tell of a log's offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffsets {
    /// Log start offset: the first that can be read.
    pub start: Offset,
    /// Last stable offset: readers of committed data stop here. The high watermark while there are no transactions.
    pub last_stable: Offset,
    /// High watermark: readers stop here.
    pub high_watermark: Offset,
    /// Log end offset: the next record gets it.
    pub log_end: Offset,
    /// Leader epoch of the last batch, -1 for an empty log.
    pub leader_epoch: LeaderEpoch,
}

/// The marks of a log. Changed only through methods that assert their order.
#[derive(Clone, Copy, Debug)]
pub struct Offsets {
    start: Offset,
    durable: Mark,
    stored: Mark,
    written: Mark,
}

impl Offsets {
    /// A log whose records `start..end.offset` are all durable.
    ///
    /// # Panics
    /// When `start` lies behind the end.
    pub fn recovered(start: Offset, end: Mark) -> Self {
        assert!(start <= end.offset, "a log starts before it ends");
        Self { start, durable: end, stored: end, written: end }
    }

    /// Takes a batch in: the log now ends at `end`, which is not stored yet.
    ///
    /// # Panics
    /// When the end does not move forward.
    pub fn append(&mut self, end: Mark) {
        assert!(self.written.offset < end.offset, "an append moves the end offset forward");
        assert!(self.written.position < end.position, "an append moves the end position forward");
        self.written = end;
    }

    /// The log goes on in a new segment, whose first record gets the position `origin`. Marks at the end of the log move
    /// there: a mark never stays in the gap between two segments.
    ///
    /// # Panics
    /// When `origin` lies before the end.
    pub fn roll(&mut self, origin: Position) {
        let end = self.written;
        assert!(end.position <= origin, "a new segment starts behind the old one");
        for mark in [&mut self.durable, &mut self.stored, &mut self.written] {
            if mark.offset == end.offset {
                mark.position = origin;
            }
        }
    }

    /// Everything below `mark` is written to a file.
    ///
    /// # Panics
    /// When the mark goes back or past what was appended.
    pub fn make_stored(&mut self, mark: Mark) {
        assert!(self.stored <= mark, "what is stored stays stored");
        assert!(mark <= self.written, "only what was appended is stored");
        self.stored = mark;
    }

    /// Everything below `mark` is on the device.
    ///
    /// # Panics
    /// When the mark goes back or past what is stored.
    pub fn make_durable(&mut self, mark: Mark) {
        assert!(self.durable <= mark, "what is durable stays durable");
        assert!(mark <= self.stored, "only what is stored becomes durable");
        self.durable = mark;
    }

    /// Moves the start of the log to `start`, if it is not there yet.
    ///
    /// # Panics
    /// When it would pass what is stored.
    pub fn move_start(&mut self, start: Offset) {
        assert!(start <= self.stored.offset, "only stored records are given up");
        self.start = self.start.max(start);
    }

    /// First offset that can be read.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The end of what readers may see. With a single replica that is all that counts as done.
    pub fn visible(&self, policy: FlushPolicy) -> Mark {
        match policy {
            FlushPolicy::Commit => self.durable,
            FlushPolicy::Interval | FlushPolicy::None => self.stored,
        }
    }

    /// The end of what is on the device.
    pub fn durable(&self) -> Mark {
        self.durable
    }

    /// The end of what is written to a file.
    pub fn stored(&self) -> Mark {
        self.stored
    }

    /// The end of the log.
    pub fn written(&self) -> Mark {
        self.written
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(offset: i64, position: u64) -> Mark {
        Mark { offset: Offset::new(offset), position: Position::new(position) }
    }

    #[test]
    fn each_mark_follows_the_one_before_it() {
        let mut offsets = Offsets::recovered(Offset::ZERO, mark(0, 4096));
        offsets.append(mark(3, 4300));
        offsets.make_stored(mark(3, 4300));
        assert_eq!(offsets.visible(FlushPolicy::Commit), mark(0, 4096));
        assert_eq!(offsets.visible(FlushPolicy::None), mark(3, 4300));
        offsets.make_durable(mark(3, 4300));
        assert_eq!(offsets.visible(FlushPolicy::Commit), mark(3, 4300));
    }

    #[test]
    fn a_roll_moves_the_marks_that_stand_at_the_end() {
        let mut offsets = Offsets::recovered(Offset::ZERO, mark(0, 4096));
        offsets.append(mark(3, 4300));
        offsets.make_stored(mark(3, 4300));
        offsets.roll(Position::new(8192));
        assert_eq!(offsets.written(), mark(3, 8192));
        assert_eq!(offsets.stored(), mark(3, 8192));
        assert_eq!(offsets.durable(), mark(0, 4096));
    }

    #[test]
    #[should_panic(expected = "only what was appended")]
    fn stored_cannot_pass_written() {
        Offsets::recovered(Offset::ZERO, mark(0, 4096)).make_stored(mark(1, 4200));
    }

    #[test]
    #[should_panic(expected = "only what is stored")]
    fn durable_cannot_pass_stored() {
        let mut offsets = Offsets::recovered(Offset::ZERO, mark(0, 4096));
        offsets.append(mark(1, 4200));
        offsets.make_durable(mark(1, 4200));
    }

    #[test]
    #[should_panic(expected = "stays durable")]
    fn durable_cannot_fall() {
        Offsets::recovered(Offset::ZERO, mark(5, 5000)).make_durable(mark(4, 4500));
    }

    #[test]
    #[should_panic(expected = "only stored records")]
    fn the_start_cannot_pass_the_stored_end() {
        Offsets::recovered(Offset::ZERO, mark(5, 5000)).move_start(Offset::new(6));
    }
}
