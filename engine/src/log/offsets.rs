//! The offsets of a log and their order.
//!
//! Under `flush.policy=commit`, the only policy so far: start <= stable <= visible <= durable <= written. No client sees a
//! record, and no answer carries its offset, before it is durable.

use crate::model::{LeaderEpoch, Offset, Position};

/// An offset together with the byte position it has in the active segment.
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
    written: Mark,
}

impl Offsets {
    /// A log whose records `start..end.offset` are all durable.
    ///
    /// # Panics
    /// When `start` lies behind the end.
    pub fn recovered(start: Offset, end: Mark) -> Self {
        assert!(start <= end.offset, "a log starts before it ends");
        Self { start, durable: end, written: end }
    }

    /// Takes a batch in: the log now ends at `end`, which is not durable yet.
    ///
    /// # Panics
    /// When the end does not move forward.
    pub fn append(&mut self, end: Mark) {
        assert!(self.written.offset < end.offset, "an append moves the end offset forward");
        assert!(self.written.position < end.position, "an append moves the end position forward");
        self.written = end;
    }

    /// Everything below `mark` is on the device.
    ///
    /// # Panics
    /// When the mark goes back or past what was appended.
    pub fn make_durable(&mut self, mark: Mark) {
        assert!(self.durable <= mark, "what is durable stays durable");
        assert!(mark <= self.written, "only what was appended becomes durable");
        self.durable = mark;
    }

    /// First offset that can be read.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The end of what readers may see. With a single replica that is all that is durable.
    pub fn visible(&self) -> Mark {
        self.durable
    }

    /// The end of what is on the device.
    pub fn durable(&self) -> Mark {
        self.durable
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
    fn durable_follows_written() {
        let mut offsets = Offsets::recovered(Offset::ZERO, mark(0, 4096));
        offsets.append(mark(3, 4300));
        assert_eq!(offsets.visible(), mark(0, 4096));
        offsets.make_durable(mark(3, 4300));
        assert_eq!(offsets.visible(), mark(3, 4300));
    }

    #[test]
    #[should_panic(expected = "only what was appended")]
    fn durable_cannot_pass_written() {
        Offsets::recovered(Offset::ZERO, mark(0, 4096)).make_durable(mark(1, 4200));
    }

    #[test]
    #[should_panic(expected = "stays durable")]
    fn durable_cannot_fall() {
        Offsets::recovered(Offset::ZERO, mark(5, 5000)).make_durable(mark(4, 4500));
    }
}
