//! The network of a world: who listens where, which connections exist, what is cut off; and the test's hand on it.
//!
//! Every machine has an address ([`crate::sim::Machine::ip_address`]) and a loopback of its own. A listener on an unspecified
//! address is reached through both; a listener on any other address is reached there from every machine, so that tests
//! may use whatever addresses their configuration names.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Waker;

use super::wire::Wire;
use crate::sim::events::Owner;
use crate::sim::executor::Core;
use crate::sim::machine::MachineState;
use crate::sim::random::Stream;
use crate::sim::shared::Shared;

pub(in crate::sim) struct Network {
    pub(in crate::sim) random: Stream,
    tables: RefCell<Tables>,
    /// Connections that were accepted and dropped before any shard served them.
    abandoned: Shared<Vec<u64>>,
    reset_one_in: Cell<u64>,
    failing_accept_count: Cell<u64>,
}

#[derive(Default)]
struct Tables {
    /// By machine and address. Invariant: no two of one machine overlap.
    listeners: BTreeMap<(u16, SocketAddr), Rc<Listening>>,
    wires: BTreeMap<u64, Rc<Wire>>,
    wire_sequence: u64,
    port_sequence: u16,
    /// Pairs of machines (from, to) between which nothing arrives.
    blocked: BTreeSet<(u16, u16)>,
    refused: BTreeSet<SocketAddr>,
    /// By address: resets the next connection to it after so many bytes.
    reset_after_bytes: BTreeMap<SocketAddr, usize>,
}

/// A listening socket.
pub(in crate::sim) struct Listening {
    pub(in crate::sim) owner: Owner,
    pub(in crate::sim) address: SocketAddr,
    pub(in crate::sim) backlog: RefCell<VecDeque<u64>>,
    pub(in crate::sim) waiter: RefCell<Option<Waker>>,
}

/// First of the ports that are given out when none is asked for.
const EPHEMERAL_PORT_FIRST: u16 = 32_768;

impl Network {
    pub(in crate::sim) fn new(random: Stream) -> Self {
        Self {
            random,
            tables: RefCell::default(),
            abandoned: Shared::new(Vec::new()),
            reset_one_in: Cell::new(0),
            failing_accept_count: Cell::new(0),
        }
    }

    pub(in crate::sim) fn listen(&self, owner: Owner, address: SocketAddr) -> io::Result<Rc<Listening>> {
        let mut tables = self.tables.borrow_mut();
        let mut address = address;
        if address.port() == 0 {
            address.set_port(tables.next_port());
        }
        let taken = tables.listeners.keys().any(|(machine, other)| {
            if *machine == owner.machine {
                let overlap =
                    other.ip() == address.ip() || other.ip().is_unspecified() || address.ip().is_unspecified();
                overlap && other.port() == address.port()
            } else {
                *other == address && !address.ip().is_loopback() && !address.ip().is_unspecified()
            }
        });
        if taken {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listening = Rc::new(Listening { owner, address, backlog: RefCell::default(), waiter: RefCell::new(None) });
        tables.listeners.insert((owner.machine, address), Rc::clone(&listening));
        Ok(listening)
    }

    /// Stops listening; connections that nobody accepted are reset.
    pub(in crate::sim) fn unlisten(&self, core: &Rc<Core>, listening: &Listening) {
        self.tables.borrow_mut().listeners.remove(&(listening.owner.machine, listening.address));
        for id in listening.backlog.take() {
            if let Some(wire) = self.wire(id) {
                wire.abort(core, 1);
                self.forget_if_closed(&wire);
            }
        }
    }

    /// Makes the connection that a listener will accept. `None` when the attempt is not even answered for now.
    pub(in crate::sim) fn try_connect(
        &self,
        core: &Core,
        machine: &MachineState,
        target: SocketAddr,
    ) -> io::Result<Option<Rc<Wire>>> {
        let mut tables = self.tables.borrow_mut();
        if tables.refused.contains(&target) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let listening = tables.find_listener(core, machine.index, target);
        let target_machine = listening.as_ref().map(|listening| listening.owner.machine);
        let target_machine = target_machine.or_else(|| machine_at(core, target.ip()));
        if target_machine.is_some_and(|other| tables.is_cut(machine.index, other)) {
            return Ok(None);
        }
        let listening = listening.ok_or(io::ErrorKind::ConnectionRefused)?;
        if listening.backlog.borrow().len() >= core.config.net.backlog_max {
            return Ok(None);
        }
        let source_ip = if target.ip().is_loopback() { target.ip() } else { machine.ip_address() };
        let source = SocketAddr::new(source_ip, tables.next_port());
        tables.wire_sequence += 1;
        let id = tables.wire_sequence;
        let reset_after_bytes = tables.reset_after_bytes.remove(&target);
        let machines = [machine.index, listening.owner.machine];
        let wire = Rc::new(Wire::new(id, [source, target], machines, reset_after_bytes));
        tables.wires.insert(id, Rc::clone(&wire));
        listening.backlog.borrow_mut().push_back(id);
        if let Some(waker) = listening.waiter.take() {
            waker.wake();
        }
        Ok(Some(wire))
    }

    pub(in crate::sim) fn wire(&self, id: u64) -> Option<Rc<Wire>> {
        self.tables.borrow().wires.get(&id).cloned()
    }

    pub(in crate::sim) fn forget_if_closed(&self, wire: &Wire) {
        if wire.is_closed() {
            self.tables.borrow_mut().wires.remove(&wire.id);
        }
    }

    /// Where dropped, never served connections are noted.
    pub(in crate::sim) fn abandoned(&self) -> Shared<Vec<u64>> {
        self.abandoned.clone()
    }

    /// Closes the connections that were dropped before any shard served them.
    pub(in crate::sim) fn close_abandoned(&self, core: &Rc<Core>) {
        for id in self.abandoned.with(std::mem::take) {
            if let Some(wire) = self.wire(id)
                && !wire.is_side_closed(1)
            {
                wire.close(core, 1);
                self.forget_if_closed(&wire);
            }
        }
    }

    /// A machine's life ends: its listeners are gone, its peers will see resets.
    pub(in crate::sim) fn lose_machine(&self, core: &Rc<Core>, machine: u16) {
        let wires: Vec<Rc<Wire>> = {
            let mut tables = self.tables.borrow_mut();
            tables.listeners.retain(|(owner, _), _| *owner != machine);
            tables.wires.values().filter(|wire| wire.machines.contains(&machine)).cloned().collect()
        };
        for wire in wires {
            for side in [0, 1] {
                if wire.machines[side] == machine && !wire.is_side_closed(side) {
                    wire.abort(core, side);
                }
            }
            self.forget_if_closed(&wire);
        }
    }

    pub(in crate::sim) fn is_blocked(&self, from: u16, to: u16) -> bool {
        self.tables.borrow().blocked.contains(&(from, to))
    }

    pub(in crate::sim) fn draws_reset(&self) -> bool {
        let bound = self.reset_one_in.get();
        bound > 0 && self.random.one_in(bound)
    }

    /// Whether this accept fails.
    pub(in crate::sim) fn draws_accept_failure(&self) -> bool {
        let left = self.failing_accept_count.get();
        self.failing_accept_count.set(left.saturating_sub(1));
        left > 0
    }
}

impl Tables {
    fn find_listener(&self, core: &Core, from: u16, target: SocketAddr) -> Option<Rc<Listening>> {
        let on_machine = |machine: u16| {
            let any = [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0_u16; 8])];
            let any = any.into_iter().find_map(|ip| self.listeners.get(&(machine, SocketAddr::new(ip, target.port()))));
            self.listeners.get(&(machine, target)).or(any).cloned()
        };
        if target.ip().is_loopback() {
            return on_machine(from);
        }
        if let Some(machine) = machine_at(core, target.ip()) {
            return on_machine(machine);
        }
        self.listeners.iter().find(|((_, address), _)| *address == target).map(|(_, listening)| Rc::clone(listening))
    }

    fn is_cut(&self, one: u16, other: u16) -> bool {
        self.blocked.contains(&(one, other)) || self.blocked.contains(&(other, one))
    }

    /// A port that no listener has.
    fn next_port(&mut self) -> u16 {
        loop {
            let port = EPHEMERAL_PORT_FIRST + self.port_sequence;
            self.port_sequence = (self.port_sequence + 1) % (u16::MAX - EPHEMERAL_PORT_FIRST);
            if !self.listeners.keys().any(|(_, address)| address.port() == port) {
                return port;
            }
        }
    }
}

/// The machine that has an address.
fn machine_at(core: &Core, ip: IpAddr) -> Option<u16> {
    core.machines.borrow().values().find(|machine| machine.ip_address() == ip).map(|machine| machine.index)
}

/// The test's hand on the network.
#[derive(Clone)]
pub struct NetControl {
    core: Rc<Core>,
}

impl NetControl {
    pub(in crate::sim) fn new(core: &Rc<Core>) -> Self {
        Self { core: Rc::clone(core) }
    }

    /// Cuts two machines off from each other: what they send is held back, and connecting times out, until [`Self::heal`].
    pub fn partition(&self, one: u16, other: u16) {
        self.block(one, other);
        self.block(other, one);
    }

    /// Holds back what one machine sends to another.
    pub fn block(&self, from: u16, to: u16) {
        self.core.network.tables.borrow_mut().blocked.insert((from, to));
    }

    /// Ends all partitions; what they held back arrives.
    pub fn heal(&self) {
        self.core.network.tables.borrow_mut().blocked.clear();
        for wire in self.wires() {
            wire.deliver(&self.core);
        }
    }

    /// Refuses connections to an address from now on.
    pub fn refuse(&self, address: SocketAddr) {
        self.core.network.tables.borrow_mut().refused.insert(address);
    }

    /// Ends [`Self::refuse`].
    pub fn allow(&self, address: SocketAddr) {
        self.core.network.tables.borrow_mut().refused.remove(&address);
    }

    /// Resets the next connection to `address` when so many bytes, both directions together, have arrived on it.
    pub fn reset_after(&self, address: SocketAddr, bytes: usize) {
        self.core.network.tables.borrow_mut().reset_after_bytes.insert(address, bytes);
    }

    /// Resets a connection with about one in `bound` arrivals from now on; 0 ends that.
    pub fn reset_one_in(&self, bound: u64) {
        self.core.network.reset_one_in.set(bound);
    }

    /// Resets every connection between two machines now.
    pub fn reset_between(&self, one: u16, other: u16) {
        for wire in self.wires() {
            if wire.machines == [one, other] || wire.machines == [other, one] {
                wire.reset();
            }
        }
    }

    /// Lets the next `count` accepts fail, as if descriptors had run out.
    pub fn fail_accepts(&self, count: u64) {
        self.core.network.failing_accept_count.set(count);
    }

    /// Connections of which a side is still open.
    pub fn connection_count(&self) -> usize {
        self.core.network.tables.borrow().wires.len()
    }

    fn wires(&self) -> Vec<Rc<Wire>> {
        self.core.network.tables.borrow().wires.values().cloned().collect()
    }
}
