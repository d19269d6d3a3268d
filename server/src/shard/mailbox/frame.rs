//! Received request bytes that several shards may read at once.
//!
//! The connection's shard receives into one piece of memory, cuts the requests out of it without copying, and an owner
//! of a partition reads its batches from the very same bytes. They are never written again once a [`Frame`] exists.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// One request without its length prefix. Clones share the memory.
#[derive(Clone)]
pub struct Frame {
    memory: Arc<Vec<u8>>,
    /// Invariant: `start <= end <= memory.len()`.
    start: usize,
    end: usize,
}

/// Memory that was received and may hold several frames.
pub struct Received {
    memory: Arc<Vec<u8>>,
}

impl Received {
    /// Takes received bytes over; nothing is copied.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { memory: Arc::new(bytes) }
    }

    /// The frame that fills `range` of the received bytes.
    pub fn frame(&self, range: Range<usize>) -> Frame {
        assert!(range.start <= range.end, "a range starts before it ends");
        assert!(range.end <= self.memory.len(), "a frame lies within what was received");
        Frame { memory: Arc::clone(&self.memory), start: range.start, end: range.end }
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Frame({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_share_what_was_received() {
        let received = Received::new(b"..first.second".to_vec());
        let (first, second) = (received.frame(2..7), received.frame(8..14));
        drop(received);
        assert_eq!((&*first, &*second), (&b"first"[..], &b"second"[..]));
        assert_eq!(first.as_ptr().addr() + 6, second.as_ptr().addr());
    }
}
