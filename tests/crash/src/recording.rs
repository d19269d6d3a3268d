//! An `Env` around another one, whose disk notes what is done to it.
//!
//! Everything but the disk is handed through. So the same recorder runs on the machine, where rounds, fills and
//! checkpoints meet as they do in a broker, and in the simulator, where a run repeats bit for bit from its seed.
//!
//! A recorder can be told to [`Lie`]: the faults that the checks have to notice are planted here.

mod disk;

pub use disk::{RecordingDisk, RecordingFile};

use std::cell::Cell;
use std::rc::Rc;

use millrace_runtime::{Env, FlushScope};

use crate::trace::Recorder;

/// A disk that does not keep what it promises. Rare lies are told once in [`LIE_ONE_IN`] times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Now and then a flush is answered and not done.
    SkippedFlush,
    /// Flushes are answered before they are done.
    EarlyFlush,
    /// Synchronising a directory does nothing.
    LostDirSync,
    /// A rename is three steps, and the target is an empty file between two of them.
    TornRename,
    /// Now and then a write passes the flush that follows it.
    WritePassesFlush,
}

/// How often a rare lie is told.
const LIE_ONE_IN: u64 = 4;

/// What a recorded disk is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nature {
    /// What its flush reaches, whatever the disk below says.
    pub scope: FlushScope,
    /// How it lies.
    pub lie: Option<Lie>,
}

/// A shard whose disk is recorded.
#[derive(Clone)]
pub struct RecordingEnv<E: Env> {
    inner: E,
    disk: RecordingDisk<E>,
}

impl<E: Env> RecordingEnv<E> {
    /// Wraps `inner`. What happens on its disk from now on goes to `recorder`.
    pub fn new(inner: E, recorder: Recorder, nature: Nature) -> Self {
        let disk = RecordingDisk::new(inner.clone(), Note { recorder, nature, chances: Rc::default() });
        Self { inner, disk }
    }
}

impl<E: Env> Env for RecordingEnv<E> {
    type Disk = RecordingDisk<E>;
    type Clock = E::Clock;
    type Tasks = E::Tasks;
    type Net = E::Net;
    type Random = E::Random;
    type Sender<T: Send + 'static> = E::Sender<T>;
    type Receiver<T: Send + 'static> = E::Receiver<T>;

    fn disk(&self) -> &Self::Disk {
        &self.disk
    }

    fn clock(&self) -> &Self::Clock {
        self.inner.clock()
    }

    fn tasks(&self) -> &Self::Tasks {
        self.inner.tasks()
    }

    fn net(&self) -> &Self::Net {
        self.inner.net()
    }

    fn random(&self) -> &Self::Random {
        self.inner.random()
    }

    fn shard_index(&self) -> u16 {
        self.inner.shard_index()
    }

    fn link<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
        E::link(capacity)
    }
}

/// Where a disk's operations are noted, and how honestly.
#[derive(Clone)]
struct Note {
    recorder: Recorder,
    nature: Nature,
    /// Operations so far that might have been lied about.
    chances: Rc<Cell<u64>>,
}

impl Note {
    fn lies(&self, lie: Lie) -> bool {
        self.nature.lie == Some(lie)
    }

    /// Whether this operation is one of those that a rare lie is told about.
    fn lies_now(&self, lie: Lie) -> bool {
        if !self.lies(lie) {
            return false;
        }
        self.chances.set(self.chances.get() + 1);
        self.chances.get().is_multiple_of(LIE_ONE_IN)
    }
}
