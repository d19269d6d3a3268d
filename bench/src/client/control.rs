//! A blocking connection for what is asked before and after the load: one question, one answer.

use std::io::{IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use millrace_protocol::frame::{LENGTH_BYTES, encode_request};
use millrace_protocol::header::decode_response_header;
use millrace_protocol::wire::{Message, Reader, Request, Writer};

/// What the broker's log calls us.
pub(crate) const CLIENT_ID: &str = "millbench";
/// A broker that says nothing for this long has failed.
const SILENCE_MAX: Duration = Duration::from_mins(1);
/// The largest answer that is believed, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Where the correlation id stands in a request's frame: behind length, API key and version.
const CORRELATION_ID_START: usize = LENGTH_BYTES + 4;
const CORRELATION_ID_END: usize = CORRELATION_ID_START + 4;

/// An open connection.
pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    next_correlation_id: i32,
}

impl Client {
    pub(crate) fn connect(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self { stream, answer: Vec::new(), next_correlation_id: 1 })
    }

    /// Sends a request and waits for its answer; nothing else may be in flight.
    pub(crate) fn call<'a, R: Request<'a>>(&mut self, version: i16, request: &R) -> anyhow::Result<R::Response<'_>> {
        let frame = encode(version, request)?;
        let correlation_id = self.send(&frame)?;
        self.receive::<R::Response<'_>>(version, correlation_id)
    }

    /// Sends a frame that [`encode`] made, under a new correlation id.
    fn send(&mut self, frame: &[u8]) -> anyhow::Result<i32> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
        let mut head = [0; CORRELATION_ID_END];
        head[..CORRELATION_ID_START].copy_from_slice(&frame[..CORRELATION_ID_START]);
        head[CORRELATION_ID_START..].copy_from_slice(&correlation_id.to_be_bytes());
        let mut slices = [IoSlice::new(&head), IoSlice::new(&frame[CORRELATION_ID_END..])];
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            let written = self.stream.write_vectored(slices).context("sending")?;
            ensure!(written > 0, "the connection takes no more bytes");
            IoSlice::advance_slices(&mut slices, written);
        }
        Ok(correlation_id)
    }

    /// Waits for the next answer, which must be the one to `correlation_id`: brokers answer in order.
    fn receive<'b, M: Message<'b>>(&'b mut self, version: i16, correlation_id: i32) -> anyhow::Result<M> {
        let mut length = [0; LENGTH_BYTES];
        self.stream.read_exact(&mut length).context("waiting for an answer")?;
        let length = usize::try_from(i32::from_be_bytes(length)).context("the length of an answer")?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        self.answer.resize(length, 0);
        self.stream.read_exact(&mut self.answer).context("reading an answer")?;
        let mut reader = Reader::new(&self.answer);
        let answered = decode_response_header(&mut reader, M::API_KEY, version)?;
        ensure!(answered == correlation_id, "answer {answered} came where {correlation_id} was due");
        let message = M::decode(&mut reader, version).with_context(|| format!("decoding {}", M::API_KEY.name()))?;
        reader.finish()?;
        Ok(message)
    }
}

/// A request's frame, ready for [`Client::send`].
fn encode<'a, R: Request<'a>>(version: i16, request: &R) -> anyhow::Result<Vec<u8>> {
    let mut writer = Writer::new();
    encode_request(&mut writer, version, 0, Some(CLIENT_ID), request)?;
    Ok(writer.into_bytes())
}
