//! The simulated network (stub).
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;

use super::env::Place;
use super::executor::Core;
use super::random::Stream;
use crate::{Connection, Listener, Net};

pub(super) struct Network {
    _random: Stream,
}

impl Network {
    pub(super) fn new(random: Stream) -> Self {
        Self { _random: random }
    }
    #[expect(clippy::unused_self, reason = "stub")]
    pub(super) fn close_abandoned(&self, _core: &Core) {}
    #[expect(clippy::unused_self, reason = "stub")]
    pub(super) fn lose_machine(&self, _core: &Core, _machine: u16) {}
}

/// The network as one shard of a simulated machine sees it.
#[derive(Clone)]
pub struct SimNet {
    _place: Rc<Place>,
}
impl SimNet {
    pub(super) fn new(place: &Rc<Place>) -> Self {
        Self { _place: Rc::clone(place) }
    }
}
/// stub
pub struct SimListener;
/// stub
pub struct SimAccepted;
/// stub
#[derive(Clone)]
pub struct SimConnection;

impl Net for SimNet {
    type Listener = SimListener;
    type Accepted = SimAccepted;
    type Connection = SimConnection;
    fn listen(&self, _address: SocketAddr) -> io::Result<SimListener> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn adopt(&self, _accepted: SimAccepted) -> io::Result<SimConnection> {
        Err(io::ErrorKind::Unsupported.into())
    }
    async fn connect(&self, _address: SocketAddr) -> io::Result<SimConnection> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
impl Listener for SimListener {
    type Accepted = SimAccepted;
    async fn accept(&self) -> io::Result<SimAccepted> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn local_address(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }
}
impl Connection for SimConnection {
    async fn receive(&self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    async fn send_vectored(&self, _pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn shutdown(&self) {}
    fn peer_address(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }
    fn local_address(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }
}
