//! Cutting a byte stream into requests, within bounds.
//!
//! 1. Between requests a small buffer waits for bytes. It grows with the traffic up to [`RECEIVE_BYTES_MAX`], so that
//!    pipelined requests arrive together, and shrinks again.
//! 2. A length that is negative, too small for a header, above `socket.request.max.bytes` or above the whole request budget
//!    ends the connection: there is no way to find the next request.
//! 3. The first [`UNRESERVED_BYTES_MAX`] of a body are received as they come: a client that declares much and sends little
//!    takes memory from nobody. A request that is no larger reserves its length when it is whole.
//! 4. A larger one then reserves its declared length in the budget, first in first out, before the rest is received. Who
//!    waits for memory does not receive, and the client feels it.
//! 5. Memory grows by doubling as bytes arrive, up to where it is reserved. What is reserved is taken at once: a large body
//!    moves once, with the little that had arrived before, and is not waited for byte by byte.
//!
//! A body that stalls, or that comes slowly while others wait for its memory, is ended by the shard's sweep, which sees
//! [`Progress`].
//!
//! Whole requests are never copied: what was received becomes the memory of its [`Frame`]s. Only the beginning of a request
//! whose end is still under way moves to the next buffer.

use std::io;

use millrace_protocol::frame::{FrameError, LENGTH_BYTES, parse_request_length};
use millrace_runtime::{Clock, Connection, Env, Moment};
use thiserror::Error;

use super::decoding::Decoding;
use super::progress::Progress;
use crate::shard::budget::{Budget, ExceedsBudget, Reservation};
use crate::shard::mailbox::frame::{Frame, Received};

/// A request with its share of the budget.
#[derive(Debug)]
pub struct Request {
    /// The request's bytes, without the length.
    pub frame: Frame,
    /// Held until the request is answered.
    pub reservation: Reservation,
    /// What it may be decoded into.
    pub decoding: Decoding,
    /// When its last bytes had arrived.
    pub received_at: Moment,
}

/// Takes requests off one connection.
pub struct FrameReader<E: Env, C: Connection> {
    env: E,
    connection: C,
    budget: Budget,
    request_bytes_max: usize,
    /// The first `filled` bytes were received and belong to requests that were not handed out.
    buffer: Vec<u8>,
    /// Invariant: at most `buffer.len()`.
    filled: usize,
    /// How much to receive at once while no length is known.
    receive_bytes: usize,
}

impl<E: Env, C: Connection> FrameReader<E, C> {
    /// A reader at the start of a stream.
    pub fn new(env: &E, connection: &C, budget: &Budget, request_bytes_max: usize) -> Self {
        Self {
            env: env.clone(),
            connection: connection.clone(),
            budget: budget.clone(),
            request_bytes_max,
            buffer: Vec::new(),
            filled: 0,
            receive_bytes: RECEIVE_BYTES_MIN,
        }
    }

    /// Receives until at least one request is whole and hands out all that are.
    pub async fn receive(&mut self, progress: &Progress, mut hand_out: impl FnMut(Request)) -> Result<(), ReceiveEnd> {
        loop {
            let whole_bytes = self.whole_bytes()?;
            if whole_bytes > 0 {
                // What comes now waits for memory, or for the requests before it, and not for the client.
                progress.end_body();
                return self.hand_out_whole(whole_bytes, progress, &mut hand_out).await;
            }
            if let Some(length) = self.length_at(0)? {
                hand_out(self.receive_body(length, progress).await?);
                return Ok(());
            }
            // Less than a length: whatever comes is welcome.
            progress.is_in_body.set(self.filled > 0);
            self.buffer.resize(self.filled + self.receive_bytes, 0);
            let received_bytes = self.receive_some(progress).await?;
            self.adapt(received_bytes);
        }
    }

    /// How many bytes at the start of the buffer are whole requests.
    fn whole_bytes(&self) -> Result<usize, ReceiveEnd> {
        let mut position = 0;
        while let Some(length) = self.length_at(position)? {
            let end = position + LENGTH_BYTES + length;
            if end > self.filled {
                break;
            }
            position = end;
        }
        Ok(position)
    }

    /// The length that stands at `position`, if it has arrived. Checked against every bound.
    fn length_at(&self, position: usize) -> Result<Option<usize>, ReceiveEnd> {
        let end = position + LENGTH_BYTES;
        if end > self.filled {
            return Ok(None);
        }
        let prefix = self.buffer[position..end].try_into().expect("the range has the length of the array");
        let length = parse_request_length(prefix, self.request_bytes_max)?;
        let capacity_bytes = self.budget.capacity_bytes();
        if length > capacity_bytes {
            return Err(ExceedsBudget { bytes: length, capacity_bytes }.into());
        }
        Ok(Some(length))
    }

    /// Turns the first `whole_bytes` of the buffer into requests; the rest begins the next buffer.
    async fn hand_out_whole(
        &mut self,
        whole_bytes: usize,
        progress: &Progress,
        hand_out: &mut impl FnMut(Request),
    ) -> Result<(), ReceiveEnd> {
        let rest = self.buffer[whole_bytes..self.filled].to_vec();
        let mut bytes = std::mem::replace(&mut self.buffer, rest);
        self.filled -= whole_bytes;
        bytes.truncate(whole_bytes);
        if whole_bytes <= SHRUNK_BYTES_MAX {
            // A long-polling Fetch keeps its request: not with a buffer of 64 KiB around it. Records are never this few
            // bytes, or too few for their copy to matter.
            bytes.shrink_to_fit();
        }
        let received = Received::new(bytes);
        let received_at = progress.received_at.get();
        let mut position = 0;
        while position < whole_bytes {
            let prefix = received.frame(position..position + LENGTH_BYTES);
            let prefix = (*prefix).try_into().expect("the range has the length of the array");
            let length = parse_request_length(prefix, self.request_bytes_max)?;
            let start = position + LENGTH_BYTES;
            position = start + length;
            let reservation = self.budget.enqueue(length)?.await;
            let (frame, decoding) = (received.frame(start..position), Decoding::default());
            hand_out(Request { frame, reservation, decoding, received_at });
        }
        assert!(position == whole_bytes, "whole requests end where they were found to end");
        Ok(())
    }

    /// Receives the rest of one request of which the length is known, and not a byte more.
    async fn receive_body(&mut self, length: usize, progress: &Progress) -> Result<Request, ReceiveEnd> {
        let end = LENGTH_BYTES + length;
        progress.is_in_body.set(true);
        self.receive_until(end.min(UNRESERVED_BYTES_MAX), GROWTH_BYTES_MIN, progress).await?;
        // Waiting for memory is not the client's fault.
        progress.end_body();
        let reservation = self.budget.enqueue(length)?.await;
        progress.begin_body(self.env.clock().now(), end - self.filled);
        self.receive_reserved(end, progress).await?;
        progress.end_body();
        self.filled = 0;
        let received = Received::new(std::mem::take(&mut self.buffer));
        let received_at = progress.received_at.get();
        let (frame, decoding) = (received.frame(LENGTH_BYTES..end), Decoding::default());
        Ok(Request { frame, reservation, decoding, received_at })
    }

    /// Receives the rest of a body for which memory is reserved, up to `end`.
    async fn receive_reserved(&mut self, end: usize, progress: &Progress) -> Result<(), ReceiveEnd> {
        if self.filled >= end {
            return Ok(());
        }
        self.buffer.reserve_exact(end.saturating_sub(self.buffer.len()));
        let received = self.receive_to_mark(end, progress).await;
        self.connection.set_receive_low_water(1);
        received
    }

    /// Receives up to `end` in parts of [`LOW_WATER_BYTES_MAX`] or more. The mark is never above what is missing: there may
    /// be nothing behind this request to reach it.
    async fn receive_to_mark(&mut self, end: usize, progress: &Progress) -> Result<(), ReceiveEnd> {
        let mut mark = 1;
        while self.filled < end {
            let wanted = (end - self.filled).min(LOW_WATER_BYTES_MAX);
            if mark != wanted {
                self.connection.set_receive_low_water(wanted);
                mark = wanted;
            }
            self.grow(end, RESERVED_BYTES_MIN);
            self.receive_some(progress).await?;
        }
        Ok(())
    }

    /// Receives until the first `end` bytes of the buffer are filled, or more were from the start. The buffer doubles as
    /// bytes arrive, from `bytes_min` on.
    async fn receive_until(&mut self, end: usize, bytes_min: usize, progress: &Progress) -> Result<(), ReceiveEnd> {
        while self.filled < end {
            self.grow(end, bytes_min);
            self.receive_some(progress).await?;
        }
        Ok(())
    }

    /// Makes room for the next bytes of a request that ends at `end`.
    fn grow(&mut self, end: usize, bytes_min: usize) {
        let grown = (2 * self.filled).max(bytes_min).min(end);
        self.buffer.resize(grown, 0);
    }

    /// Receives into the unfilled part of the buffer.
    async fn receive_some(&mut self, progress: &Progress) -> Result<usize, ReceiveEnd> {
        let received_bytes = match self.connection.receive(&mut self.buffer[self.filled..]).await {
            Ok(0) if self.filled == 0 => return Err(ReceiveEnd::Closed),
            Ok(0) => return Err(ReceiveEnd::Truncated),
            Ok(received_bytes) => received_bytes,
            Err(error) => return Err(ReceiveEnd::Io(error)),
        };
        progress.received_at.set(self.env.clock().now());
        self.filled += received_bytes;
        assert!(self.filled <= self.buffer.len(), "no more is received than there is room for");
        Ok(received_bytes)
    }

    /// Receives more at once while it arrives faster than it is taken, less when it does not.
    fn adapt(&mut self, received_bytes: usize) {
        if received_bytes == self.receive_bytes {
            self.receive_bytes = (2 * self.receive_bytes).min(RECEIVE_BYTES_MAX);
        } else if received_bytes < self.receive_bytes / 4 {
            self.receive_bytes = (self.receive_bytes / 2).max(RECEIVE_BYTES_MIN);
        }
    }
}

/// Why no more requests come.
#[derive(Debug, Error)]
pub enum ReceiveEnd {
    /// The peer has closed, between two requests.
    #[error("closed by the client")]
    Closed,
    /// The peer has closed in the middle of a request.
    #[error("closed in the middle of a request")]
    Truncated,
    /// A length that no request may have.
    #[error(transparent)]
    Length(#[from] FrameError),
    /// A request for which the shard has no memory.
    #[error("request refused: {0}")]
    Budget(#[from] ExceedsBudget),
    /// The socket failed.
    #[error("receiving failed: {0}")]
    Io(io::Error),
}

/// What an idle connection keeps ready.
const RECEIVE_BYTES_MIN: usize = 2 << 10;
/// What a busy connection receives at once.
const RECEIVE_BYTES_MAX: usize = 64 << 10;
/// Requests up to this size keep no buffer that is larger than they are.
const SHRUNK_BYTES_MAX: usize = 4 << 10;
/// What a declared length costs before its bytes arrive.
const GROWTH_BYTES_MIN: usize = 16 << 10;
/// So much of a body for which memory is reserved may come at once.
const RESERVED_BYTES_MIN: usize = 256 << 10;
/// For so many bytes of such a body the operating system may wait before it says that there are some. A client that sends
/// fewer within the time that a request may stall is too slow.
const LOW_WATER_BYTES_MAX: usize = 64 << 10;
/// How much of a request, its length included, is received before memory is reserved for it. Every connection may hold as
/// much as this between requests, too.
const UNRESERVED_BYTES_MAX: usize = RECEIVE_BYTES_MAX;

#[cfg(test)]
mod tests;
