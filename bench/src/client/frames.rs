//! Whole frames over a shard's connection.

use std::io::{self, IoSlice};

use millrace_protocol::frame::LENGTH_BYTES;
use millrace_runtime::Connection;

use super::control::ANSWER_BYTES_MAX;

/// Reads answers, many with one system call where they are small.
pub(crate) struct FrameReader<C> {
    connection: C,
    buffer: Vec<u8>,
    /// What was received and not handed out: from here ...
    start: usize,
    /// ... to here.
    end: usize,
}

impl<C: Connection> FrameReader<C> {
    /// A reader that asks for up to `buffer_bytes` at once; the buffer grows to the largest frame.
    pub(crate) fn new(connection: C, buffer_bytes: usize) -> Self {
        assert!(buffer_bytes > LENGTH_BYTES, "there is room for more than a frame's length");
        Self { connection, buffer: vec![0; buffer_bytes], start: 0, end: 0 }
    }

    /// The next frame, without its length. `None` once the broker has closed the connection.
    pub(crate) async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let frame_bytes = loop {
            let frame_bytes = self.frame_bytes()?;
            let needed = frame_bytes.unwrap_or(0) + LENGTH_BYTES;
            if frame_bytes.is_some() && self.end - self.start >= needed {
                break needed;
            }
            if self.buffer.len() - self.start < needed || self.start == self.end {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.buffer.len() < needed {
                self.buffer.resize(needed, 0);
            }
            let byte_count = self.connection.receive(&mut self.buffer[self.end..]).await?;
            if byte_count == 0 {
                return Ok(None);
            }
            self.end += byte_count;
        };
        let frame = self.start + LENGTH_BYTES..self.start + frame_bytes;
        self.start = frame.end;
        Ok(Some(&self.buffer[frame]))
    }

    /// Whether the next frame is already here.
    pub(crate) fn has_frame(&self) -> bool {
        let frame_bytes = self.frame_bytes().ok().flatten();
        frame_bytes.is_some_and(|frame_bytes| self.end - self.start >= LENGTH_BYTES + frame_bytes)
    }

    /// The length of the frame that begins here, once it is known.
    fn frame_bytes(&self) -> io::Result<Option<usize>> {
        let Some(length) = self.buffer[self.start..self.end].first_chunk() else { return Ok(None) };
        let length = i32::from_be_bytes(*length);
        match usize::try_from(length) {
            Ok(frame_bytes) if frame_bytes <= ANSWER_BYTES_MAX => Ok(Some(frame_bytes)),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes"))),
        }
    }
}

/// Sends all of the pieces.
pub(crate) async fn send_all<C: Connection>(connection: &C, mut pieces: &mut [IoSlice<'_>]) -> io::Result<()> {
    while pieces.iter().any(|piece| !piece.is_empty()) {
        let byte_count = connection.send_vectored(pieces).await?;
        IoSlice::advance_slices(&mut pieces, byte_count);
    }
    Ok(())
}

/// The correlation id of an answer; every header begins with it.
pub(crate) fn correlation_id(frame: &[u8]) -> io::Result<i32> {
    let id =
        frame.first_chunk().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer without a header"))?;
    Ok(i32::from_be_bytes(*id))
}
