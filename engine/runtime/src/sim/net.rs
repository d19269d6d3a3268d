//! The network as one shard sees it.

mod network;
mod wire;

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use self::network::Listening;
use self::wire::{Side, Wire};
use super::clock::Sleep;
use super::env::Place;
use super::shared::Shared;
use crate::{Connection, Listener, Net};

pub use self::network::NetControl;
pub(super) use self::network::Network;

/// The network as one shard of a simulated machine sees it.
#[derive(Clone)]
pub struct SimNet {
    place: Rc<Place>,
}

impl SimNet {
    pub(super) fn new(place: &Rc<Place>) -> Self {
        Self { place: Rc::clone(place) }
    }
}

impl Net for SimNet {
    type Listener = SimListener;
    type Accepted = SimAccepted;
    type Connection = SimConnection;

    fn listen(&self, address: SocketAddr) -> io::Result<SimListener> {
        if !self.place.is_alive() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let listening = self.place.core.network.listen(self.place.owner, address)?;
        Ok(SimListener { place: Rc::clone(&self.place), listening })
    }

    fn adopt(&self, accepted: SimAccepted) -> io::Result<SimConnection> {
        let wire = self.place.core.network.wire(accepted.wire).filter(|wire| !wire.is_side_closed(1));
        match wire {
            Some(wire) if self.place.is_alive() => {
                accepted.keep();
                Ok(SimConnection::new(&self.place, wire, 1))
            }
            _ => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<SimConnection> {
        let core = &self.place.core;
        let config = &core.config.net;
        let gives_up_ns = core.now_ns() + config.connect_timeout_ns;
        let mut retry_ns = core.network.random.delay(&config.latency_ns);
        loop {
            Sleep::new(core, Duration::from_nanos(retry_ns)).await;
            self.place.check_alive().await?;
            if let Some(wire) = core.network.try_connect(core, &self.place.machine, address)? {
                let connection = SimConnection::new(&self.place, wire, 0);
                let answer_ns = core.network.random.delay(&config.latency_ns);
                Sleep::new(core, Duration::from_nanos(answer_ns)).await;
                return Ok(connection);
            }
            if core.now_ns() >= gives_up_ns {
                return Err(io::ErrorKind::TimedOut.into());
            }
            retry_ns = CONNECT_RETRY_NS.min(config.connect_timeout_ns);
        }
    }
}

/// Time until an unanswered attempt to connect is repeated.
const CONNECT_RETRY_NS: u64 = 1_000_000_000;

/// A listening socket.
pub struct SimListener {
    place: Rc<Place>,
    listening: Rc<Listening>,
}

impl Listener for SimListener {
    type Accepted = SimAccepted;

    async fn accept(&self) -> io::Result<SimAccepted> {
        self.place.check_alive().await?;
        let network = &self.place.core.network;
        let wire = poll_fn(|context| {
            if let Some(wire) = self.listening.backlog.borrow_mut().pop_front() {
                return Poll::Ready(wire);
            }
            *self.listening.waiter.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        let accepted = SimAccepted { wire, abandoned: Some(network.abandoned()) };
        if network.draws_accept_failure() {
            // The connection is lost with it.
            return Err(io::Error::from_raw_os_error(libc::EMFILE));
        }
        Ok(accepted)
    }

    fn local_address(&self) -> SocketAddr {
        self.listening.address
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        if self.place.is_alive() {
            self.place.core.network.unlisten(&self.place.core, &self.listening);
        }
    }
}

/// An accepted connection that no shard serves yet.
pub struct SimAccepted {
    wire: u64,
    /// Where a drop is noted: this value is `Send`, and the world is not.
    abandoned: Option<Shared<Vec<u64>>>,
}

impl SimAccepted {
    /// A shard serves the connection now.
    fn keep(mut self) {
        self.abandoned = None;
    }
}

impl Drop for SimAccepted {
    fn drop(&mut self) {
        if let Some(abandoned) = &self.abandoned {
            abandoned.with(|abandoned| abandoned.push(self.wire));
        }
    }
}

/// A connection served by a shard.
#[derive(Clone)]
pub struct SimConnection {
    descriptor: Rc<Descriptor>,
}

struct Descriptor {
    place: Rc<Place>,
    wire: Rc<Wire>,
    side: Side,
}

impl SimConnection {
    fn new(place: &Rc<Place>, wire: Rc<Wire>, side: Side) -> Self {
        Self { descriptor: Rc::new(Descriptor { place: Rc::clone(place), wire, side }) }
    }
}

impl Connection for SimConnection {
    async fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Descriptor { place, wire, side } = &*self.descriptor;
        place.check_alive().await?;
        poll_fn(|context| wire.poll_receive(&place.core, *side, buffer, context)).await
    }

    fn set_receive_low_water(&self, bytes: usize) {
        let Descriptor { place, wire, side } = &*self.descriptor;
        if place.is_alive() {
            wire.set_receive_low_water(*side, bytes);
        }
    }

    /// Now and then takes a while before it looks at the bytes, as a submitted request does.
    async fn send_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let Descriptor { place, wire, side } = &*self.descriptor;
        place.check_alive().await?;
        if pieces.iter().all(|piece| piece.is_empty()) {
            return Ok(0);
        }
        if place.core.network.random.one_in(4) {
            let delay_ns = place.core.network.random.delay(&place.core.config.net.latency_ns);
            Sleep::new(&place.core, Duration::from_nanos(delay_ns)).await;
            place.check_alive().await?;
        }
        poll_fn(|context| wire.poll_send(&place.core, *side, pieces, context)).await
    }

    fn shutdown(&self) {
        let Descriptor { place, wire, side } = &*self.descriptor;
        if place.is_alive() {
            wire.end(&place.core, *side);
        }
    }

    fn peer_address(&self) -> SocketAddr {
        self.descriptor.wire.addresses[1 - self.descriptor.side]
    }

    fn local_address(&self) -> SocketAddr {
        self.descriptor.wire.addresses[self.descriptor.side]
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // A crash has closed it already.
        if self.place.is_alive() {
            self.wire.close(&self.place.core, self.side);
            self.place.core.network.forget_if_closed(&self.wire);
        }
    }
}
