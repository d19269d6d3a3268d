//! Byte streams. A connection is accepted on one shard and may be served on another: what crosses is [`Net::Accepted`].

use std::io::{self, IoSlice};
use std::net::SocketAddr;

/// The network as one shard sees it.
pub trait Net: Clone + 'static {
    /// A listening socket.
    type Listener: Listener<Accepted = Self::Accepted>;
    /// An accepted connection that no shard serves yet. Dropping it closes the connection.
    type Accepted: Send + 'static;
    /// A connection served by this shard.
    type Connection: Connection;

    /// Listens on `address`. Port 0 takes a free port. Fails when anyone, this process included, listens there already.
    fn listen(&self, address: SocketAddr) -> io::Result<Self::Listener>;

    /// Takes an accepted connection over onto this shard.
    fn adopt(&self, accepted: Self::Accepted) -> io::Result<Self::Connection>;

    /// Opens a connection to `address`.
    async fn connect(&self, address: SocketAddr) -> io::Result<Self::Connection>;
}

/// A listening socket.
pub trait Listener: 'static {
    /// An accepted connection that no shard serves yet.
    type Accepted: Send + 'static;

    /// The next connection. Errors of one connection (aborted before it was accepted, descriptors exhausted) leave the
    /// listener usable.
    async fn accept(&self) -> io::Result<Self::Accepted>;

    /// Where the socket listens; tells the port when 0 was asked for.
    fn local_address(&self) -> SocketAddr;
}

/// A connected byte stream. Clones share the socket; it is closed when the last clone goes.
///
/// At most one task receives and at most one task sends at a time.
pub trait Connection: Clone + 'static {
    /// Receives up to `buffer.len()` bytes; 0 means that the peer has closed its sending half.
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// From now on [`Self::receive`] may wait until `bytes` have arrived or the peer has closed, and not only for the first
    /// byte: fewer wake-ups for who knows how much is to come. A hint; 1 is what a connection begins with.
    fn set_receive_low_water(&self, bytes: usize);

    /// Sends some prefix of the concatenation of `pieces`, in one system call where it can, and says how many bytes.
    /// Never 0 unless all pieces are empty.
    async fn send_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Ends both directions at once; a task that receives or sends on it sees the end.
    fn shutdown(&self);

    /// The peer's address.
    fn peer_address(&self) -> SocketAddr;

    /// Our own address.
    fn local_address(&self) -> SocketAddr;
}
