//! Who is at the other end of a connection.

use std::cell::Cell;
use std::net::SocketAddr;

use millrace_runtime::local::Event;

use crate::fetch_session::ConnectionNumber;
use crate::handlers::authorizer::Principal;

/// Who is at the other end, and where it came in.
#[derive(Debug)]
pub struct Client {
    /// Its number on this shard.
    pub number: ConnectionNumber,
    /// Which of the configured listeners accepted it.
    pub listener_index: usize,
    /// Who it is.
    pub principal: Principal,
    /// Where it is.
    pub address: SocketAddr,
    /// Set when no more requests will come.
    has_ended: Cell<bool>,
    ended: Event,
}

impl Client {
    /// Somebody who has not said who it is.
    pub(super) fn new(number: ConnectionNumber, listener_index: usize, address: SocketAddr) -> Self {
        let (has_ended, ended) = (Cell::new(false), Event::default());
        Self { number, listener_index, principal: Principal::Anonymous, address, has_ended, ended }
    }

    /// Completes when the client has closed its end or is being closed.
    pub async fn gone(&self) {
        loop {
            let version = self.ended.version();
            if self.has_ended.get() {
                return;
            }
            self.ended.changed(version).await;
        }
    }

    /// Whether no more requests will come.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// No more requests will come.
    pub(super) fn end(&self) {
        self.has_ended.set(true);
        self.ended.notify();
    }
}
