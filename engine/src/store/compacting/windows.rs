//! Reads a sealed segment from its first batch to its last, in windows that go to another thread.

use std::rc::Rc;

use millrace_runtime::{Buffer, Env};

use super::super::{Inner, ReadError, SharedLog, extents};
use super::CompactionError;
use crate::format::segment_header::RECORDS_START;
use crate::log::{Corruption, Failure};
use crate::model::{Offset, Position};
use crate::segment::Segment;

/// Bytes of a window, unless one batch is larger.
const WINDOW_BYTES: usize = 1024 * 1024;

/// What is left to read of a segment.
pub(super) struct Windows<E: Env> {
    segment: Segment<E>,
    position: Position,
    end: Position,
    window_bytes: usize,
}

impl<E: Env> Windows<E> {
    /// Starts at the first batch of the segment that begins with `base_offset`.
    pub(super) async fn open(
        inner: &Rc<Inner<E>>,
        log: &SharedLog<E>,
        base_offset: Offset,
    ) -> Result<Self, CompactionError> {
        let Some((extent, _)) = extents::find(inner, log, base_offset, |_| None).await? else {
            return Err(CompactionError::Interrupted);
        };
        let segment = extents::open(inner, log, base_offset).await?;
        Ok(Self { segment, position: RECORDS_START, end: extent.end, window_bytes: WINDOW_BYTES })
    }

    /// The next window, as a copy that may leave the shard; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, CompactionError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let start = self.position.block_floor();
        let end = self.position.plus(self.window_bytes).min(self.end);
        let wanted = end.bytes_since(start);
        let buffer = self.segment.read(start, wanted).await.map_err(|error| {
            ReadError::Offline(Failure::Io { operation: "reading a segment", reason: error.to_string() })
        })?;
        let bytes = buffer.as_ref().map(Buffer::as_slice).and_then(|bytes| bytes.get(..wanted));
        let bytes = bytes.ok_or_else(|| self.corrupt("the file is shorter than the log"))?;
        Ok(Some(bytes[self.position.bytes_since(start)..].to_vec()))
    }

    /// Goes on behind what was dealt with; the batch there needs `needed_bytes` if the window did not hold all of it.
    pub(super) fn consume(&mut self, bytes: usize, needed_bytes: Option<usize>) -> Result<(), CompactionError> {
        self.position = self.position.plus(bytes);
        self.window_bytes = needed_bytes.map_or(WINDOW_BYTES, |needed| needed.max(WINDOW_BYTES));
        let remaining = self.end.bytes_since(self.position);
        if needed_bytes.is_some_and(|needed| needed > remaining) {
            return Err(self.corrupt("a batch's length leaves the log").into());
        }
        Ok(())
    }

    fn corrupt(&self, what: &str) -> ReadError {
        let (file, position) = (self.segment.path().to_owned(), self.position.get());
        ReadError::Corrupt(Corruption { file, position, what: what.to_owned() })
    }
}
