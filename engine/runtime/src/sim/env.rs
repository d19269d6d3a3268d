//! [`SimEnv`]: one shard of a simulated machine.

use std::future::pending;
use std::io;
use std::rc::Rc;

use super::clock::SimClock;
use super::disk::SimDisk;
use super::events::Owner;
use super::executor::Core;
use super::links::{SimReceiver, SimSender, link};
use super::machine::MachineState;
use super::net::SimNet;
use super::random::{SimRandom, Stream};
use super::tasks::SimTasks;
use crate::Env;
use crate::local::OneshotReceiver;

/// One shard of a simulated machine, in one of the machine's lives.
///
/// It does not outlive a crash: what a dying task still asks of it never happens, and the test makes new ones.
#[derive(Clone)]
pub struct SimEnv {
    place: Rc<Place>,
    disk: SimDisk,
    clock: SimClock,
    tasks: SimTasks,
    net: SimNet,
    random: SimRandom,
}

impl SimEnv {
    pub(super) fn new(core: &Rc<Core>, machine: &Rc<MachineState>, shard_index: u16) -> Self {
        let owner = machine.owner();
        let labels = [4, u64::from(owner.machine), u64::from(shard_index), owner.incarnation];
        let random = SimRandom::new(Stream::new(core.seed, &labels, &core.trace));
        let place = Rc::new(Place { core: Rc::clone(core), machine: Rc::clone(machine), owner, shard_index });
        Self {
            disk: SimDisk::new(&place),
            clock: SimClock::new(&place),
            tasks: SimTasks::new(&place),
            net: SimNet::new(&place),
            random,
            place,
        }
    }
}

impl Env for SimEnv {
    type Disk = SimDisk;
    type Clock = SimClock;
    type Tasks = SimTasks;
    type Net = SimNet;
    type Random = SimRandom;
    type Sender<T: Send + 'static> = SimSender<T>;
    type Receiver<T: Send + 'static> = SimReceiver<T>;

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn clock(&self) -> &SimClock {
        &self.clock
    }

    fn tasks(&self) -> &SimTasks {
        &self.tasks
    }

    fn net(&self) -> &SimNet {
        &self.net
    }

    fn random(&self) -> &SimRandom {
        &self.random
    }

    fn shard_index(&self) -> u16 {
        self.place.shard_index
    }

    fn link<T: Send + 'static>(capacity: usize) -> (SimSender<T>, SimReceiver<T>) {
        link(capacity)
    }
}

/// Where a handle was made: the world, the machine and its life, the shard.
pub(super) struct Place {
    pub(super) core: Rc<Core>,
    pub(super) machine: Rc<MachineState>,
    pub(super) owner: Owner,
    pub(super) shard_index: u16,
}

impl Place {
    /// Whether the life this handle belongs to goes on.
    pub(super) fn is_alive(&self) -> bool {
        self.machine.owner() == self.owner
    }

    /// Completes while the machine lives. Afterwards its own tasks wait for ever, to be dropped, and others get an error.
    pub(super) async fn check_alive(&self) -> io::Result<()> {
        if self.is_alive() {
            return Ok(());
        }
        if self.core.current_owner() == Some(self.owner) {
            pending::<()>().await;
        }
        Err(crashed())
    }

    /// The answer to an operation; an error when the machine crashed before it came.
    pub(super) async fn answer<T>(&self, answer: OneshotReceiver<io::Result<T>>) -> io::Result<T> {
        answer.await.unwrap_or_else(|| Err(crashed()))
    }

    /// Runs `body` after `delay_ns`, unless the machine crashes first.
    pub(super) fn call_after(&self, delay_ns: u64, body: impl FnOnce() + 'static) {
        self.core.call_after(delay_ns, Some(self.owner), body);
    }
}

fn crashed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the simulated machine has crashed")
}
