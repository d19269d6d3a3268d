//! Faults of a machine's disk, and the counts by which a test finds where to place them.
//!
//! The way to sweep: run once without faults and read [`Faults::operation_count`]; then for every `n` up to it make the
//! same world again, arm the n-th operation, and run.

use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use super::machine::MachineState;
use super::random::Stream;

/// Kinds of disk operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// Opening or making a file.
    Open,
    /// Making directories.
    CreateDir,
    /// Listing a directory.
    ReadDir,
    /// Renaming.
    Rename,
    /// Removing a file or a tree.
    Remove,
    /// Making names durable.
    SyncDir,
    /// Reading from a file.
    Read,
    /// Writing to a file.
    Write,
    /// Making a file's writes durable, or a write that is durable when it ends.
    SyncData,
    /// Reserving space.
    Allocate,
    /// Cutting or extending a file.
    Truncate,
    /// Asking for sizes.
    Stat,
}

/// What a failing operation reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// `EIO`.
    Io,
    /// `ENOSPC`.
    NoSpace,
}

impl Failure {
    pub(super) fn to_error(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            Self::Io => libc::EIO,
            Self::NoSpace => libc::ENOSPC,
        })
    }
}

/// The faults of one machine's disk.
///
/// A failed write lands in part; after a failed sync what it covered is durable in part, the rest is lost, and later
/// syncs succeed without it. Where a flush reaches the device, that holds for completed writes of every file, whichever
/// file or directory was synced. Other failed operations do nothing.
#[derive(Clone)]
pub struct Faults {
    machine: Rc<MachineState>,
}

impl Faults {
    pub(super) fn new(machine: &Rc<MachineState>) -> Self {
        Self { machine: Rc::clone(machine) }
    }

    /// Fails the `n`-th operation from now on, counted from 1; of any kind, or of one.
    pub fn fail_nth(&self, operation: Option<Operation>, n: u64, failure: Failure) {
        assert!(n > 0, "operations are counted from 1");
        self.machine.faults.borrow_mut().armed.push(Armed { operation, left: n, failure });
    }

    /// Fails about one operation in `bound` from now on; 0 ends that.
    pub fn fail_one_in(&self, bound: u64) {
        self.machine.faults.borrow_mut().failure_one_in = bound;
    }

    /// Cuts the power while the `k`-th operation from now on, counted from 1, is in flight.
    pub fn crash_after(&self, k: u64) {
        assert!(k > 0, "operations are counted from 1");
        self.machine.faults.borrow_mut().crash_in = Some(k);
    }

    /// Makes syncs report success and do nothing, to prove that a crash test notices.
    pub fn ignore_syncs(&self, ignore: bool) {
        self.machine.faults.borrow_mut().ignores_syncs = ignore;
    }

    /// Forgets everything armed.
    pub fn clear(&self) {
        let mut plan = self.machine.faults.borrow_mut();
        let counts = std::mem::take(&mut plan.counts);
        *plan = FaultPlan { counts, ..FaultPlan::default() };
    }

    /// Operations started so far, of all lives; of any kind, or of one.
    pub fn operation_count(&self, operation: Option<Operation>) -> u64 {
        let plan = self.machine.faults.borrow();
        let counted = plan.counts.iter().filter(|(kind, _)| operation.is_none_or(|operation| operation == **kind));
        counted.map(|(_, count)| count).sum()
    }
}

#[derive(Default)]
pub(super) struct FaultPlan {
    counts: BTreeMap<Operation, u64>,
    armed: Vec<Armed>,
    failure_one_in: u64,
    crash_in: Option<u64>,
    pub(super) ignores_syncs: bool,
}

struct Armed {
    operation: Option<Operation>,
    /// How many matching operations are left, the failing one included.
    left: u64,
    failure: Failure,
}

/// What is decided about an operation when it starts.
pub(super) struct Verdict {
    pub(super) failure: Option<Failure>,
    pub(super) crashes: bool,
}

impl FaultPlan {
    /// Counts an operation and decides its fate.
    pub(super) fn begin(&mut self, operation: Operation, random: &Stream) -> Verdict {
        *self.counts.entry(operation).or_default() += 1;
        let mut failure = None;
        self.armed.retain_mut(|armed| {
            if armed.operation.is_some_and(|armed| armed != operation) {
                return true;
            }
            armed.left -= 1;
            if armed.left == 0 {
                failure = Some(armed.failure);
            }
            armed.left > 0
        });
        if failure.is_none() && self.failure_one_in > 0 && random.one_in(self.failure_one_in) {
            failure = Some(Failure::Io);
        }
        self.crash_in = self.crash_in.map(|left| left - 1);
        let crashes = self.crash_in == Some(0);
        if crashes {
            self.crash_in = None;
        }
        Verdict { failure, crashes }
    }

    /// A life has ended: the next one is not crashed by what was meant for it.
    pub(super) fn disarm_crash(&mut self) {
        self.crash_in = None;
    }
}
