//! One connection as state: two directions of bytes in flight, and the ways it ends.
//!
//! Each direction is first in, first out: bytes, then possibly an end or a reset, arrive in the order in which they were
//! sent. Bytes that reach a side which has ended reset the connection, as TCP does; so does closing a side that has not
//! read everything. A reset lets the peer read what had arrived before it, then errors.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::sim::executor::Core;

/// The side that connected is 0, the one that accepted is 1.
pub(in crate::sim) type Side = usize;

pub(in crate::sim) struct Wire {
    pub(in crate::sim) id: u64,
    pub(in crate::sim) addresses: [SocketAddr; 2],
    /// Machines of the sides.
    pub(in crate::sim) machines: [u16; 2],
    /// By sending side.
    pipes: [RefCell<Pipe>; 2],
    /// Sides that take no part any more: their own operations see the end.
    ended: [Cell<bool>; 2],
    /// Sides without a descriptor.
    closed: [Cell<bool>; 2],
    reset: Cell<bool>,
    /// Bytes that may still arrive, in both directions together, before a fault resets the connection.
    reset_after_bytes: Cell<Option<usize>>,
}

/// One direction.
#[derive(Default)]
struct Pipe {
    in_flight: VecDeque<Piece>,
    /// How many of the first pieces have had their time; a partition may hold them back.
    due_count: usize,
    arrived: VecDeque<u8>,
    /// Bytes in flight and arrived. Invariant: at most the configured buffer.
    held_bytes: usize,
    end_arrived: bool,
    /// The reader may be left alone while fewer bytes have arrived.
    low_water_bytes: usize,
    last_arrival_ns: u64,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Wire {
    pub(in crate::sim) fn new(
        id: u64,
        addresses: [SocketAddr; 2],
        machines: [u16; 2],
        reset_after_bytes: Option<usize>,
    ) -> Self {
        Self {
            id,
            addresses,
            machines,
            pipes: Default::default(),
            ended: Default::default(),
            closed: Default::default(),
            reset: Cell::new(false),
            reset_after_bytes: Cell::new(reset_after_bytes),
        }
    }

    /// Sends a random prefix of `pieces`, which are not all empty.
    pub(in crate::sim) fn poll_send(
        self: &Rc<Self>,
        core: &Rc<Core>,
        side: Side,
        pieces: &[IoSlice<'_>],
        context: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.ended[side].get() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.reset.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let mut pipe = self.pipes[side].borrow_mut();
        let room_bytes = core.config.net.buffer_bytes - pipe.held_bytes;
        if room_bytes == 0 {
            pipe.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        let offered_bytes: usize = pieces.iter().map(|piece| piece.len()).sum();
        let taken_bytes = core.network.random.portion(offered_bytes.min(room_bytes));
        let mut taken = Vec::with_capacity(taken_bytes);
        for piece in pieces {
            let part = piece.len().min(taken_bytes - taken.len());
            taken.extend_from_slice(&piece[..part]);
        }
        pipe.held_bytes += taken_bytes;
        drop(pipe);
        self.send_piece(core, side, Piece::Bytes(taken));
        Poll::Ready(Ok(taken_bytes))
    }

    /// Receives a random prefix of what has arrived.
    pub(in crate::sim) fn poll_receive(
        &self,
        core: &Core,
        side: Side,
        buffer: &mut [u8],
        context: &Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if buffer.is_empty() || self.ended[side].get() {
            return Poll::Ready(Ok(0));
        }
        let mut pipe = self.pipes[1 - side].borrow_mut();
        // An attempt that finds bytes takes them, as on a real machine; only one that waits is left alone for longer.
        let enough_bytes = pipe.low_water_bytes.min(core.config.net.buffer_bytes);
        let may_wait = pipe.arrived.len() < enough_bytes && !pipe.end_arrived && !self.reset.get();
        let waits = pipe.arrived.is_empty() || may_wait && core.network.random.one_in(2);
        if !waits {
            let bytes = core.network.random.portion(buffer.len().min(pipe.arrived.len()));
            for (target, byte) in buffer.iter_mut().zip(pipe.arrived.drain(..bytes)) {
                *target = byte;
            }
            pipe.held_bytes -= bytes;
            wake(&mut pipe.writer);
            return Poll::Ready(Ok(bytes));
        }
        if self.reset.get() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if pipe.end_arrived {
            return Poll::Ready(Ok(0));
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// From now on `side` may be left waiting until so many bytes have arrived.
    pub(in crate::sim) fn set_receive_low_water(&self, side: Side, bytes: usize) {
        let mut pipe = self.pipes[1 - side].borrow_mut();
        pipe.low_water_bytes = bytes;
        wake(&mut pipe.reader);
    }

    /// Ends both directions for one side.
    pub(in crate::sim) fn end(self: &Rc<Self>, core: &Rc<Core>, side: Side) {
        if !self.ended[side].replace(true) {
            self.wake_all();
            self.send_piece(core, side, Piece::End);
        }
    }

    /// The last descriptor of a side goes.
    pub(in crate::sim) fn close(self: &Rc<Self>, core: &Rc<Core>, side: Side) {
        self.closed[side].set(true);
        if self.pipes[1 - side].borrow().arrived.is_empty() {
            self.end(core, side);
        } else {
            self.abort(core, side);
        }
    }

    /// A side goes without saying good-bye; its peer learns it with a reset.
    pub(in crate::sim) fn abort(self: &Rc<Self>, core: &Rc<Core>, side: Side) {
        self.closed[side].set(true);
        self.ended[side].set(true);
        self.wake_all();
        self.send_piece(core, side, Piece::Reset);
    }

    /// Resets the connection for both sides at once.
    pub(in crate::sim) fn reset(&self) {
        self.reset.set(true);
        for pipe in &self.pipes {
            pipe.borrow_mut().in_flight.clear();
        }
        self.wake_all();
    }

    /// Lets what is due of both directions arrive, where no partition holds it back.
    pub(in crate::sim) fn deliver(&self, core: &Core) {
        for side in [0, 1] {
            if core.network.is_blocked(self.machines[side], self.machines[1 - side]) {
                continue;
            }
            while let Some(piece) = self.next_due(side) {
                self.arrive(core, side, piece);
            }
        }
    }

    /// Whether neither side has a descriptor left.
    pub(in crate::sim) fn is_closed(&self) -> bool {
        self.closed.iter().all(Cell::get)
    }

    pub(in crate::sim) fn is_side_closed(&self, side: Side) -> bool {
        self.closed[side].get()
    }

    fn send_piece(self: &Rc<Self>, core: &Rc<Core>, side: Side, piece: Piece) {
        let delay_ns = core.network.random.delay(&core.config.net.latency_ns);
        let mut pipe = self.pipes[side].borrow_mut();
        pipe.in_flight.push_back(piece);
        pipe.last_arrival_ns = pipe.last_arrival_ns.max(core.now_ns() + delay_ns);
        let (wire, core_then) = (Rc::clone(self), Rc::clone(core));
        // What is on its way arrives although its sender crashes.
        core.call_after(pipe.last_arrival_ns - core.now_ns(), None, move || {
            wire.pipes[side].borrow_mut().due_count += 1;
            wire.deliver(&core_then);
        });
    }

    fn next_due(&self, side: Side) -> Option<Piece> {
        let mut pipe = self.pipes[side].borrow_mut();
        if pipe.due_count == 0 {
            return None;
        }
        pipe.due_count -= 1;
        pipe.in_flight.pop_front()
    }

    fn arrive(&self, core: &Core, side: Side, piece: Piece) {
        let mut bytes = match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::End => {
                let mut pipe = self.pipes[side].borrow_mut();
                pipe.end_arrived = true;
                return wake(&mut pipe.reader);
            }
            Piece::Reset => return self.reset(),
        };
        if self.ended[1 - side].get() || core.network.draws_reset() {
            return self.reset();
        }
        let left_bytes = self.reset_after_bytes.get();
        let cut = left_bytes.is_some_and(|left_bytes| left_bytes <= bytes.len());
        if let Some(left_bytes) = left_bytes {
            if cut {
                bytes.truncate(left_bytes);
            }
            self.reset_after_bytes.set(Some(left_bytes - bytes.len()));
        }
        let mut pipe = self.pipes[side].borrow_mut();
        pipe.arrived.extend(bytes);
        wake(&mut pipe.reader);
        drop(pipe);
        if cut {
            self.reset();
        }
    }

    fn wake_all(&self) {
        for pipe in &self.pipes {
            let mut pipe = pipe.borrow_mut();
            wake(&mut pipe.reader);
            wake(&mut pipe.writer);
        }
    }
}

fn wake(waiter: &mut Option<Waker>) {
    if let Some(waker) = waiter.take() {
        waker.wake();
    }
}
