//! The simulated machine: a whole cluster in one thread, from a seed.
//!
//! A [`World`] holds machines; a [`Machine`] holds a disk and shards; a shard is a [`SimEnv`]. Every choice, which task
//! runs next, how long an operation takes, what a crash leaves, is drawn from the seed, so a run repeats bit for bit:
//! [`World::fingerprint`] proves it. Nothing here may ask the operating system for time, threads or randomness, or keep
//! anything in a map whose order is not defined.
//!
//! What the simulator assumes of a disk, and what a crash does to it:
//! - a 512-byte sector is written whole or not at all;
//! - of a write that was in flight or not made durable each sector survives or not, by itself;
//! - changes of a file's length and allocation survive as a random prefix, in their order (`sim/disk/inode.rs`);
//! - `sync_data` covers what completed before it began; a synchronous write is durable when it completes, with the length
//!   and allocation needed to read it back, and makes no other write durable;
//! - changes of names survive when their directories were synced; the others as a random prefix, in order
//!   (`sim/disk/namespace.rs`).
//!
//! Time passes a little with every step and otherwise jumps to the next event. A world in which nothing can happen any
//! more panics with "deadlock", one that takes more steps than its budget with "livelock", both with the seed.

mod clock;
mod disk;
mod env;
mod events;
mod executor;
mod faults;
mod links;
mod machine;
mod net;
mod random;
mod shared;
mod tasks;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::rc::Rc;

use crate::FlushScope;

use self::executor::Core;

pub use self::clock::SimClock;
pub use self::disk::{DiskControl, DiskImage, SimBuffer, SimDisk, SimFile};
pub use self::env::SimEnv;
pub use self::faults::{Failure, Faults, Operation};
pub use self::links::{ConnectedSimReceiver, ConnectedSimSender, SimReceiver, SimSender};
pub use self::machine::Machine;
pub use self::net::{NetControl, SimAccepted, SimConnection, SimListener, SimNet};
pub use self::random::SimRandom;
pub use self::tasks::{SimTaskHandle, SimTasks};

/// Machines, the network between them, and the time they share.
///
/// Methods that name no machine speak of machine 0.
pub struct World {
    core: Rc<Core>,
}

impl World {
    /// A world in which nothing runs yet.
    pub fn new(seed: u64, config: WorldConfig) -> Self {
        Self { core: Core::new(seed, config) }
    }

    /// A machine; it comes into being when it is first named.
    pub fn machine(&self, index: u16) -> Machine {
        Machine::new(&self.core, index)
    }

    /// A shard of machine 0, in its present life.
    pub fn env(&self, shard_index: u16) -> SimEnv {
        self.machine(0).env(shard_index)
    }

    /// Runs the world until `main` ends. `main` belongs to no machine and so survives crashes: it is the place for a test
    /// that crashes machines while they run. Tasks that are left run on in the next call.
    pub fn run<T>(&self, main: impl Future<Output = T>) -> T {
        self.core.drive(main, None).expect("only a watched machine's crash ends a run")
    }

    /// Runs the world until `main`, a task of machine 0, ends or machine 0 crashes.
    pub fn run_until_crash<T>(&self, main: impl Future<Output = T>) -> Result<T, Crashed> {
        self.machine(0).run_until_crash(main)
    }

    /// Cuts the power of machine 0. See [`Machine::crash`].
    pub fn crash_shards(&self) {
        self.machine(0).crash();
    }

    /// Kills the process of machine 0. See [`Machine::kill`].
    pub fn kill_shards(&self) {
        self.machine(0).kill();
    }

    /// The disk of machine 0, for looking at it and for damaging it.
    pub fn disk(&self) -> DiskControl {
        self.machine(0).disk()
    }

    /// The faults of machine 0's disk.
    pub fn faults(&self) -> Faults {
        self.machine(0).faults()
    }

    /// The network, for cutting and disturbing it.
    pub fn net(&self) -> NetControl {
        NetControl::new(&self.core)
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.core.seed
    }

    /// A hash of every choice so far.
    pub fn fingerprint(&self) -> u64 {
        self.core.trace.value()
    }
}

impl Drop for World {
    /// Tasks hold the world and the world holds tasks: somebody has to let go.
    fn drop(&mut self) {
        let machines: Vec<_> = self.core.machines.borrow().values().cloned().collect();
        for machine in machines {
            machine.end_life(&self.core, machine::Ending::Kill);
        }
        self.core.purge(None);
    }
}

/// A run ended because its machine crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crashed;

/// How a world behaves. Ranges of times are in nanoseconds; now and then a delay is ten times as long.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Steps of the executor in one run before it is called a livelock.
    pub step_budget: u64,
    /// A step takes at most this much time.
    pub step_ns_max: u64,
    /// Wall time at the start, in milliseconds since the Unix epoch.
    pub unix_start_ms: i64,
    /// Delay of a message between shards.
    pub link_delay_ns: Range<u64>,
    /// Disks.
    pub disk: DiskConfig,
    /// The network.
    pub net: NetConfig,
}

/// How disks behave.
#[derive(Clone, Debug)]
pub struct DiskConfig {
    /// Space for file content; names are free.
    pub capacity_bytes: u64,
    /// Duration of every operation but syncs.
    pub latency_ns: Range<u64>,
    /// Duration of `sync_data` and `sync_dir`.
    pub sync_latency_ns: Range<u64>,
    /// Whether two writes in flight to the same block are a defect of the caller.
    pub check_overlaps: bool,
    /// What `sync_data` reaches.
    pub flush_scope: FlushScope,
}

/// How the network behaves.
#[derive(Clone, Debug)]
pub struct NetConfig {
    /// Time from one side of a connection to the other.
    pub latency_ns: Range<u64>,
    /// Bytes that one direction of a connection holds before its sender waits. Not 0.
    pub buffer_bytes: usize,
    /// Connections that wait to be accepted by one listener; more are not answered.
    pub backlog_max: usize,
    /// Time until connecting to a machine that does not answer fails.
    pub connect_timeout_ns: u64,
}

impl Default for WorldConfig {
    fn default() -> Self {
        Self {
            step_budget: 20_000_000,
            step_ns_max: 1_000,
            unix_start_ms: 1_750_000_000_000,
            link_delay_ns: 100..5_000,
            disk: DiskConfig::default(),
            net: NetConfig::default(),
        }
    }
}

impl Default for DiskConfig {
    fn default() -> Self {
        Self {
            capacity_bytes: 1 << 40,
            latency_ns: 10_000..200_000,
            sync_latency_ns: 100_000..2_000_000,
            check_overlaps: true,
            flush_scope: FlushScope::Device,
        }
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            latency_ns: 20_000..500_000,
            buffer_bytes: 64 * 1024,
            backlog_max: 128,
            connect_timeout_ns: 10_000_000_000,
        }
    }
}
