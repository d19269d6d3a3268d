//! Connections that this shard serves.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ::glommio::net::TcpStream;
use futures_io::{AsyncRead, AsyncWrite};
use socket2::SockRef;

use super::operations::io_error;
use crate::Connection;

/// A connected byte stream. Clones share the socket.
#[derive(Clone)]
pub struct GlommioConnection {
    socket: Rc<ServedSocket>,
}

struct ServedSocket {
    /// Borrowed within a poll only.
    stream: RefCell<TcpStream>,
    is_ended: Cell<bool>,
    peer_address: SocketAddr,
    local_address: SocketAddr,
}

impl GlommioConnection {
    pub(super) fn new(stream: TcpStream, peer_address: SocketAddr, local_address: SocketAddr) -> io::Result<Self> {
        // Answers are sent whole; waiting for more bytes to fill a segment only adds latency.
        stream.set_nodelay(true).map_err(io_error)?;
        let socket =
            ServedSocket { stream: RefCell::new(stream), is_ended: Cell::new(false), peer_address, local_address };
        Ok(Self { socket: Rc::new(socket) })
    }
}

impl Connection for GlommioConnection {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty(), "0 received bytes mean the end, so there must be room for one");
        poll_fn(|context| {
            // After a shutdown the socket may still hold bytes; the end comes first.
            if self.socket.is_ended.get() {
                return Poll::Ready(Ok(0));
            }
            Pin::new(&mut *self.socket.stream.borrow_mut()).poll_read(context, buffer)
        })
        .await
    }

    fn set_receive_low_water(&self, bytes: usize) {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        self.socket.with_descriptor(|descriptor| {
            // SAFETY: the descriptor is open during the call, and the value is an integer of the stated size.
            unsafe {
                libc::setsockopt(
                    descriptor.as_raw_fd(),
                    libc::SOL_SOCKET,
                    libc::SO_RCVLOWAT,
                    (&raw const bytes).cast(),
                    libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("an integer is small"),
                )
            };
        });
    }

    async fn send_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Some(first_index) = pieces.iter().position(|piece| !piece.is_empty()) else {
            return Ok(0);
        };
        let piece_count = (pieces.len() - first_index).min(PIECES_MAX);
        let pieces = &pieces[first_index..first_index + piece_count];
        poll_fn(|context| self.socket.poll_send(context, pieces)).await
    }

    fn shutdown(&self) {
        self.socket.is_ended.set(true);
        // The only failure is that the peer has ended the connection already. The polls of waiting tasks complete.
        self.socket.with_socket(|socket| socket.shutdown(Shutdown::Both)).ok();
    }

    fn peer_address(&self) -> SocketAddr {
        self.socket.peer_address
    }

    fn local_address(&self) -> SocketAddr {
        self.socket.local_address
    }
}

impl ServedSocket {
    /// Guard: glommio has no vectored send. Ours does not block; when the socket is full, glommio's write of the first
    /// piece fails in the same way and thereby starts to poll for room. Should room have appeared meanwhile, that write
    /// has sent a prefix, which is an answer too. The first piece is not empty.
    fn poll_send(&self, context: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.is_ended.get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        loop {
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            match self.with_socket(|socket| socket.send_vectored_with_flags(pieces, flags)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                result => return Poll::Ready(result),
            }
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, &pieces[0])
    }

    fn with_socket<T>(&self, call: impl FnOnce(SockRef<'_>) -> T) -> T {
        self.with_descriptor(|descriptor| call(SockRef::from(&descriptor)))
    }

    fn with_descriptor<T>(&self, call: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        let stream = self.stream.borrow();
        // SAFETY: the stream owns the descriptor and stays borrowed until the call returns.
        call(unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) })
    }
}

/// The operating system refuses more pieces than this in one call.
const PIECES_MAX: usize = 1024;
