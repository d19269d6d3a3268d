//! Finished answers on their way out: small parts that were encoded here, and records that stay where they are.
//!
//! Answers are gathered and leave with as few vectored sends as the system allows. Record bytes are never copied; their
//! memory is held until the socket has taken them.

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
    chunks: Vec<Chunk<E>>,
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
        Self { writer: Writer::new(), chunks: Vec::new(), chunked_end: 0, bytes: 0, throttle: Duration::ZERO }
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
            self.chunks.push(Chunk::Records(piece));
        }
    }

    /// Bytes waiting to be sent.
    pub fn bytes(&self) -> usize {
        self.bytes + self.writer.position() - self.chunked_end
    }

    /// Sends everything. On success, and on an error, nothing is left. `on_progress` is called whenever the peer has
    /// taken some.
    pub async fn send(&mut self, connection: &impl Connection, on_progress: impl Fn()) -> io::Result<()> {
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
            self.chunks.push(Chunk::Encoded { start: self.chunked_end, end });
            self.bytes += end - self.chunked_end;
            self.chunked_end = end;
        }
    }

    async fn send_chunks(&self, connection: &impl Connection, on_progress: impl Fn()) -> io::Result<()> {
        let (mut index, mut sent_of_first) = (0, 0);
        while index < self.chunks.len() {
            let mut pieces = [IoSlice::new(&[]); PIECE_COUNT_MAX];
            let mut piece_count = 0;
            for (piece, chunk) in pieces.iter_mut().zip(&self.chunks[index..]) {
                let skipped = if piece_count == 0 { sent_of_first } else { 0 };
                *piece = IoSlice::new(&self.chunk_bytes(chunk)[skipped..]);
                piece_count += 1;
            }
            let mut sent_bytes = connection.send_vectored(&pieces[..piece_count]).await?;
            if sent_bytes == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            on_progress();
            while sent_bytes > 0 {
                let left_bytes = self.chunk_bytes(&self.chunks[index]).len() - sent_of_first;
                if sent_bytes < left_bytes {
                    sent_of_first += sent_bytes;
                    break;
                }
                sent_bytes -= left_bytes;
                sent_of_first = 0;
                index += 1;
            }
        }
        Ok(())
    }

    fn chunk_bytes<'a>(&'a self, chunk: &'a Chunk<E>) -> &'a [u8] {
        match chunk {
            Chunk::Encoded { start, end } => &self.writer.bytes()[*start..*end],
            Chunk::Records(piece) => piece.as_slice(),
        }
    }
}

/// Pieces of one vectored send. The kernel takes 1,024; more than this brings nothing.
const PIECE_COUNT_MAX: usize = 64;

/// Encoded bytes for which a connection keeps its memory.
const KEPT_BYTES_MAX: usize = 16 << 10;
