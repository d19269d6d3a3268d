//! Finished answers on their way out: small parts that were encoded here, and records that stay where they are.
//!
//! Answers are gathered and leave with as few vectored sends as the system allows. Record bytes are never copied; their
//! memory is held until the socket has taken them, piece by piece: a client that takes a large answer slowly holds less and
//! less of it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::time::Duration;

use millrace_protocol::wire::Writer;
use millrace_runtime::{Connection, Env};

use crate::shard::router::Piece;

/// Answers of one connection, in order.
pub struct Outgoing<E: Env> {
    /// Everything that was encoded.
    writer: Writer,
    /// The stream: encoded bytes and records in turn.
    chunks: VecDeque<Chunk<E>>,
    /// Up to where the encoded bytes are in `chunks`.
    chunked_end: usize,
    bytes: usize,
    throttle: Duration,
}

enum Chunk<E: Env> {
    /// Encoded bytes `start..end`.
    Encoded { start: usize, end: usize },
    /// Stored records.
    Records(Piece<E>),
}

impl<E: Env> Default for Outgoing<E> {
    fn default() -> Self {
        Self { writer: Writer::new(), chunks: VecDeque::new(), chunked_end: 0, bytes: 0, throttle: Duration::ZERO }
    }
}

impl<E: Env> Outgoing<E> {
    /// Where answers are encoded. They are part of the stream at once.
    pub fn writer(&mut self) -> &mut Writer {
        &mut self.writer
    }

    /// Notes that an answer tells its client to send nothing for this long.
    pub fn throttle(&mut self, time: Duration) {
        self.throttle = self.throttle.max(time);
    }

    /// The longest time that an answer since the last call told its client.
    pub fn take_throttle(&mut self) -> Duration {
        std::mem::take(&mut self.throttle)
    }

    /// Puts records into the stream at `position` of the encoded bytes. Positions do not fall.
    pub fn insert_records(&mut self, position: usize, pieces: impl IntoIterator<Item = Piece<E>>) {
        assert!(position >= self.chunked_end, "records are inserted in the order of the stream");
        assert!(position <= self.writer.position(), "records stand between encoded bytes");
        self.chunk_until(position);
        for piece in pieces {
            self.bytes += piece.as_slice().len();
            self.chunks.push_back(Chunk::Records(piece));
        }
    }

    /// Bytes waiting to be sent.
    pub fn bytes(&self) -> usize {
        self.bytes + self.writer.position() - self.chunked_end
    }

    /// Whether stored records are among them.
    pub fn has_records(&self) -> bool {
        self.chunks.iter().any(|chunk| matches!(chunk, Chunk::Records(_)))
    }

    /// Takes back what was encoded from `position` on: the beginning of an answer that was given up.
    pub fn rewind(&mut self, position: usize) {
        assert!(position >= self.chunked_end, "an answer that has its records is whole");
        self.writer.truncate(position);
    }

    /// Sends everything. On success, and on an error, nothing is left. `on_progress` is called with the number of bytes
    /// whenever the peer has taken some.
    pub async fn send(&mut self, connection: &impl Connection, on_progress: impl Fn(usize)) -> io::Result<()> {
        self.chunk_until(self.writer.position());
        let result = self.send_chunks(connection, on_progress).await;
        self.chunks.clear();
        self.chunked_end = 0;
        self.bytes = 0;
        // One large answer must not leave every idle connection with a large buffer.
        if self.writer.position() > KEPT_BYTES_MAX {
            self.writer = Writer::new();
        } else {
            self.writer.clear();
        }
        result
    }

    fn chunk_until(&mut self, end: usize) {
        if end > self.chunked_end {
            self.chunks.push_back(Chunk::Encoded { start: self.chunked_end, end });
            self.bytes += end - self.chunked_end;
            self.chunked_end = end;
        }
    }

    async fn send_chunks(&mut self, connection: &impl Connection, on_progress: impl Fn(usize)) -> io::Result<()> {
        let mut sent_of_first = 0;
        while !self.chunks.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECE_COUNT_MAX];
            let mut piece_count = 0;
            for (piece, chunk) in pieces.iter_mut().zip(&self.chunks) {
                let skipped = if piece_count == 0 { sent_of_first } else { 0 };
                *piece = IoSlice::new(&chunk.bytes(&self.writer)[skipped..]);
                piece_count += 1;
            }
            let sent_bytes = connection.send_vectored(&pieces[..piece_count]).await?;
            if sent_bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            on_progress(sent_bytes);
            sent_of_first = self.drop_sent(sent_of_first + sent_bytes);
        }
        Ok(())
    }

    /// Lets go of the first `bytes`; gives how many of them are in a chunk that was not sent whole.
    fn drop_sent(&mut self, mut bytes: usize) -> usize {
        while let Some(chunk) = self.chunks.front() {
            let chunk_bytes = chunk.bytes(&self.writer).len();
            if bytes < chunk_bytes {
                return bytes;
            }
            bytes -= chunk_bytes;
            self.chunks.pop_front();
        }
        assert!(bytes == 0, "no more is sent than there was");
        0
    }
}

impl<E: Env> Chunk<E> {
    fn bytes<'a>(&'a self, writer: &'a Writer) -> &'a [u8] {
        match self {
            Self::Encoded { start, end } => &writer.bytes()[*start..*end],
            Self::Records(piece) => piece.as_slice(),
        }
    }
}

/// Pieces of one vectored send. The kernel takes 1,024; more than this brings nothing.
const PIECE_COUNT_MAX: usize = 64;

/// Encoded bytes for which a connection keeps its memory.
const KEPT_BYTES_MAX: usize = 16 << 10;
