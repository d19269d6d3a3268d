//! The machine: [`crate::Env`] on glommio, one `io_uring` executor per shard.
//!
//! glommio 0.9 does its work well and has defects that lose wake-ups, descriptors and writes. Nothing outside this module
//! sees them: each room holds the guards against the defects of its part, and says at the guard what would happen without.
//!
//! Start with [`executor::Shards::start`]; it hands every shard its [`GlommioEnv`].

use std::rc::Rc;

use crate::Env;

pub mod buffer;
pub mod clock;
pub mod connection;
mod device;
pub mod disk;
pub mod executor;
pub mod file;
pub mod links;
mod names;
pub mod net;
mod offload;
mod operations;
mod panics;
pub mod random;
pub mod tasks;
mod watchdog;

pub use device::is_deliberate;

use clock::GlommioClock;
use disk::GlommioDisk;
use links::{GlommioReceiver, GlommioSender};
use net::GlommioNet;
use offload::{JobSender, Offload};
use operations::Operations;
use random::GlommioRandom;
use tasks::GlommioTasks;

/// The machine as one shard sees it. Clones are handles to the same shard.
#[derive(Clone)]
pub struct GlommioEnv {
    shard: Rc<Shard>,
}

struct Shard {
    index: u16,
    operations: Operations,
    disk: GlommioDisk,
    clock: GlommioClock,
    tasks: GlommioTasks,
    net: GlommioNet,
    random: GlommioRandom,
}

impl GlommioEnv {
    /// Makes the environment of the executor that runs on this thread. Once per executor: it creates the task queues.
    fn on_this_executor(shard_index: u16, jobs: JobSender) -> Self {
        let operations = Operations::default();
        let offload = Offload::new(jobs, operations.clone());
        let shard = Shard {
            index: shard_index,
            disk: GlommioDisk::new(shard_index, operations.clone()),
            clock: GlommioClock::default(),
            tasks: GlommioTasks::on_this_executor(offload),
            net: GlommioNet::new(operations.clone()),
            random: GlommioRandom::from_entropy(),
            operations,
        };
        Self { shard: Rc::new(shard) }
    }

    #[cfg(test)]
    fn operations(&self) -> &Operations {
        &self.shard.operations
    }

    /// Waits until the shard has no operation in flight and the closed files are really closed.
    async fn drain(&self) {
        self.shard.operations.drained().await;
        // A dropped file only queues its close. A timer makes the reactor run once more, which submits the queue.
        ::glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
    }
}

impl Env for GlommioEnv {
    type Disk = GlommioDisk;
    type Clock = GlommioClock;
    type Tasks = GlommioTasks;
    type Net = GlommioNet;
    type Random = GlommioRandom;
    type Sender<T: Send + 'static> = GlommioSender<T>;
    type Receiver<T: Send + 'static> = GlommioReceiver<T>;

    fn disk(&self) -> &GlommioDisk {
        &self.shard.disk
    }

    fn clock(&self) -> &GlommioClock {
        &self.shard.clock
    }

    fn tasks(&self) -> &GlommioTasks {
        &self.shard.tasks
    }

    fn net(&self) -> &GlommioNet {
        &self.shard.net
    }

    fn random(&self) -> &GlommioRandom {
        &self.shard.random
    }

    fn shard_index(&self) -> u16 {
        self.shard.index
    }

    fn link<T: Send + 'static>(capacity: usize) -> (GlommioSender<T>, GlommioReceiver<T>) {
        links::link(capacity)
    }
}
