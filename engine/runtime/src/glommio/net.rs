//! Listeners, and connections that no shard serves yet.
//!
//! Guards:
//! - glommio's `bind` always sets `SO_REUSEPORT`, so that two brokers share a port unseen. Listeners are made here.
//! - glommio's accepted stream does not close its descriptor when it is dropped, and a cancelled accept loses the
//!   connection it had already taken. We wait for readiness only and take connections with a call of our own, into a
//!   type that owns the descriptor.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;

use ::glommio::net::TcpStream;
use futures_io::AsyncRead;
use socket2::{Domain, Protocol, Socket, Type};

use super::connection::GlommioConnection;
use super::operations::{Operations, io_error};
use crate::{Listener, Net};

/// The network as one shard sees it.
#[derive(Clone)]
pub struct GlommioNet {
    operations: Operations,
}

impl GlommioNet {
    pub(super) fn new(operations: Operations) -> Self {
        Self { operations }
    }
}

impl Net for GlommioNet {
    type Listener = GlommioListener;
    type Accepted = GlommioAccepted;
    type Connection = GlommioConnection;

    fn listen(&self, address: SocketAddr) -> io::Result<GlommioListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of a previous run that still wait for their end must not keep the broker from starting. A socket
        // that listens still keeps the port to itself.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG_MAX)?;
        let local_address = internet_address(&socket.local_addr()?)?;
        Ok(GlommioListener { socket, local_address })
    }

    fn adopt(&self, accepted: GlommioAccepted) -> io::Result<GlommioConnection> {
        let socket = Socket::from(accepted.descriptor);
        let peer_address = internet_address(&socket.peer_addr()?)?;
        let local_address = internet_address(&socket.local_addr()?)?;
        GlommioConnection::new(stream_of(socket), peer_address, local_address)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<GlommioConnection> {
        let stream = self.operations.run(TcpStream::connect(address)).await.map_err(io_error)?;
        let peer_address = stream.peer_addr().map_err(io_error)?;
        let local_address = stream.local_addr().map_err(io_error)?;
        GlommioConnection::new(stream, peer_address, local_address)
    }
}

/// A listening socket.
pub struct GlommioListener {
    socket: Socket,
    local_address: SocketAddr,
}

impl GlommioListener {
    /// Completes when a connection can be taken, or might be.
    ///
    /// glommio polls streams only. So a second descriptor of the listening socket is wrapped as one: a new stream starts
    /// to poll for input, and then reads, which fails with `ENOTCONN` and thereby tells us that the poll has completed.
    async fn readable(&self) -> io::Result<()> {
        let mut stream = stream_of(self.socket.try_clone()?);
        poll_fn(|context| Pin::new(&mut stream).poll_read(context, &mut [0])).await.ok();
        Ok(())
    }
}

impl Listener for GlommioListener {
    type Accepted = GlommioAccepted;

    async fn accept(&self) -> io::Result<GlommioAccepted> {
        loop {
            match self.socket.accept() {
                Ok((socket, _)) => return Ok(GlommioAccepted { descriptor: socket.into() }),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable().await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn local_address(&self) -> SocketAddr {
        self.local_address
    }
}

/// An accepted connection on its way to the shard that will serve it.
pub struct GlommioAccepted {
    descriptor: OwnedFd,
}

/// Hands the socket to glommio, which closes it when the stream is dropped.
fn stream_of(socket: Socket) -> TcpStream {
    // SAFETY: `into_raw_fd` gives up our ownership, so the stream is the only owner.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

fn internet_address(address: &socket2::SockAddr) -> io::Result<SocketAddr> {
    address.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Connections that wait to be accepted; the operating system may allow fewer.
const BACKLOG_MAX: i32 = 1024;
