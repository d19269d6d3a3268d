//! A simulated machine: a disk, shards, an address, and the lives that crashes end.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use super::Crashed;
use super::disk::{DiskControl, DiskImage, Volume};
use super::env::SimEnv;
use super::events::Owner;
use super::executor::Core;
use super::faults::{FaultPlan, Faults};
use super::random::Stream;

/// A handle to one machine of the world. Belongs to the test, not to the code under test; survives crashes.
#[derive(Clone)]
pub struct Machine {
    core: Rc<Core>,
    state: Rc<MachineState>,
}

impl Machine {
    pub(super) fn new(core: &Rc<Core>, index: u16) -> Self {
        let mut machines = core.machines.borrow_mut();
        let state = machines.entry(index).or_insert_with(|| {
            Rc::new(MachineState {
                index,
                incarnation: Cell::new(0),
                volume: RefCell::new(Volume::new(core.config.disk.capacity_bytes)),
                disk_random: Stream::new(core.seed, &[5, u64::from(index)], &core.trace),
                faults: RefCell::default(),
                wall_offset_ms: Cell::new(0),
            })
        });
        Self { core: Rc::clone(core), state: Rc::clone(state) }
    }

    /// A shard of the machine, in its present life.
    pub fn env(&self, shard_index: u16) -> SimEnv {
        SimEnv::new(&self.core, &self.state, shard_index)
    }

    /// Runs the world until `main`, which is a task of this machine, ends or the machine crashes.
    pub fn run_until_crash<T>(&self, main: impl Future<Output = T>) -> Result<T, Crashed> {
        self.core.drive(main, Some((&self.state, self.state.owner())))
    }

    /// The power fails: every task and every operation in flight is gone, and what was not made durable survives as the
    /// seed decides (see [`super`]). The machine is up again at once; its next life begins with the next [`Self::env`].
    pub fn crash(&self) {
        self.end_life(Ending::PowerLoss);
    }

    /// The process is killed: tasks are gone, each write in flight lands or does not, and what had completed stays
    /// readable although it is not durable.
    pub fn kill(&self) {
        self.end_life(Ending::Kill);
    }

    /// How many lives have ended.
    pub fn crash_count(&self) -> u64 {
        self.state.incarnation.get()
    }

    /// Puts another disk into the machine; its present life ends. What was not durable on `image` survives as this
    /// world's seed decides, so one image can be crashed in many ways.
    pub fn mount(&self, image: &DiskImage) {
        self.end_life(Ending::Kill);
        let mut volume = image.volume.clone();
        volume.lose_power(&self.state.disk_random);
        *self.state.volume.borrow_mut() = volume;
    }

    /// As [`Self::mount`], but of what was not durable exactly the first `sectors` survive, in the order in which they
    /// were written; changes of length and allocation all do.
    pub fn mount_torn(&self, image: &DiskImage, sectors: usize) {
        self.end_life(Ending::Kill);
        let mut volume = image.volume.clone();
        volume.lose_power_behind(sectors, &self.state.disk_random);
        *self.state.volume.borrow_mut() = volume;
    }

    /// The disk, for looking at it and for damaging it.
    pub fn disk(&self) -> DiskControl {
        DiskControl::new(&self.state)
    }

    /// The faults its disk will have.
    pub fn faults(&self) -> Faults {
        Faults::new(&self.state)
    }

    /// Moves the wall clock; the monotonic clock is not touched.
    pub fn jump_wall_clock(&self, by_ms: i64) {
        self.state.wall_offset_ms.set(self.state.wall_offset_ms.get() + by_ms);
    }

    /// The machine's index in the world.
    pub fn index(&self) -> u16 {
        self.state.index
    }

    /// The machine's address, where other machines reach its listeners.
    pub fn ip_address(&self) -> IpAddr {
        self.state.ip_address()
    }

    fn end_life(&self, ending: Ending) {
        self.state.end_life(&self.core, ending);
    }
}

/// How a life ends.
#[derive(Clone, Copy)]
pub(super) enum Ending {
    PowerLoss,
    Kill,
}

pub(super) struct MachineState {
    pub(super) index: u16,
    incarnation: Cell<u64>,
    pub(super) volume: RefCell<Volume>,
    pub(super) disk_random: Stream,
    pub(super) faults: RefCell<FaultPlan>,
    pub(super) wall_offset_ms: Cell<i64>,
}

impl MachineState {
    /// The present life.
    pub(super) fn owner(&self) -> Owner {
        Owner { machine: self.index, incarnation: self.incarnation.get() }
    }

    pub(super) fn ip_address(&self) -> IpAddr {
        let [high, low] = self.index.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 1, high, low))
    }

    /// The order matters: once the life has ended nothing that a dying task does takes effect, so the disk may be settled
    /// before the tasks are dropped.
    pub(super) fn end_life(&self, core: &Rc<Core>, ending: Ending) {
        self.incarnation.set(self.incarnation.get() + 1);
        core.trace.fold(self.incarnation.get());
        self.faults.borrow_mut().disarm_crash();
        match ending {
            Ending::PowerLoss => self.volume.borrow_mut().lose_power(&self.disk_random),
            Ending::Kill => self.volume.borrow_mut().lose_handles(&self.disk_random),
        }
        core.network.lose_machine(core, self.index);
        core.purge(Some(self.index));
    }
}
