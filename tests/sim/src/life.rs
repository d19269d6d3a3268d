//! One life of a machine: start, recover, compare with the model, work, end in one way or another.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use millrace_engine::log::Failure::Io;
use millrace_engine::model::LeaderEpoch;
use millrace_engine::recovery::OpenError;
use millrace_runtime::sim::{DiskConfig, Failure, Machine, Operation, World, WorldConfig};
use millrace_runtime::{Clock, Env, FlushScope, TaskClass, Tasks};

use crate::broker::{Broker, Tuning};
use crate::check;
use crate::dice::Dice;
use crate::model::Model;
use crate::seeds;
use crate::workload::Workload;

/// What happens in a life.
#[derive(Clone, Debug)]
pub struct Life {
    /// How the broker is configured.
    pub tuning: Tuning,
    /// What its clients do.
    pub workload: Workload,
    /// Where the choices come from.
    pub dice_seed: u64,
    /// How it ends.
    pub ending: Ending,
    /// What the disk fails.
    pub fault: Option<Fault>,
}

impl Life {
    /// The same life without any work.
    #[must_use]
    pub fn idle(&self) -> Self {
        let workload = Workload { writers: Vec::new(), ..self.workload.clone() };
        Self { workload, ending: Ending::Close, fault: None, ..self.clone() }
    }
}

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// In order, after all work.
    Close,
    /// In order, in the middle of the work, this much later than its start.
    CloseAfter(Duration),
    /// The power fails while this operation of the life is in flight, counted from 1; after all work if there are fewer.
    PowerLossAt(u64),
    /// The process is killed this much later than the start of the life; after all work if that is earlier.
    KillAfter(Duration),
}

/// A fault of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Operations that are counted; `None` counts all.
    pub operation: Option<Operation>,
    /// Which one of the life fails, counted from 1.
    pub nth: u64,
    /// How.
    pub failure: Failure,
}

/// How a life really ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// In order; the next start has nothing to recover.
    Clean,
    /// In order as far as the failing disk let it.
    Closed,
    /// The start failed, as it may when the disk does.
    Unopened,
    /// Power loss or kill.
    Crashed,
}

/// The machine of a world with what is known of it.
pub struct Subject<'a> {
    /// Its world.
    pub world: &'a World,
    /// The truth.
    pub model: &'a Model,
    /// How its last life ended; `None` before the first.
    pub last: Option<(Outcome, u16)>,
}

impl<'a> Subject<'a> {
    /// A machine that was never started, or whose past is of no interest.
    pub fn new(world: &'a World, model: &'a Model) -> Self {
        Self { world, model, last: None }
    }

    /// Runs one life.
    ///
    /// # Panics
    /// When the engine does anything that the model does not allow.
    pub fn live(&mut self, life: &Life) -> Outcome {
        let machine = self.world.machine(0);
        let fault = life.fault.map(|fault| survivable(fault, flush_scope(self.world.seed())));
        if let Some(Fault { operation, nth, failure }) = fault {
            machine.faults().fail_nth(operation, nth, failure);
        }
        match life.ending {
            Ending::PowerLossAt(k) => machine.faults().crash_after(k),
            Ending::KillAfter(delay) => kill_after(&machine, delay),
            Ending::Close | Ending::CloseAfter(_) => {}
        }
        let expects_clean = self.last == Some((Outcome::Clean, life.tuning.shard_count));
        let opened = Rc::new(RefCell::new(None));
        let running = run(machine.clone(), self.model.clone(), life.clone(), expects_clean, Rc::clone(&opened));
        let lives = machine.crash_count();
        let outcome = self.world.run_until_crash(running).unwrap_or(Outcome::Crashed);
        if machine.crash_count() == lives {
            // The work ended first. What happens after the last answer must not matter: every other time the power goes.
            let power = Dice::new(life.dice_seed, 3).one_in(2);
            if power { machine.crash() } else { machine.kill() }
        }
        machine.faults().clear();
        if let Some(broker) = opened.take().filter(|_| fault.is_some_and(Fault::may_be_a_flush)) {
            suspect(&broker, self.model);
        }
        self.last = Some((outcome, life.tuning.shard_count));
        if seeds::is_replay() {
            let (shards, operations) = (life.tuning.shard_count, machine.faults().operation_count(None));
            let (ending, fault) = (life.ending, life.fault);
            println!("{shards} shards, {ending:?}, {fault:?}: {outcome:?} after {operations} operations in all");
        }
        outcome
    }
}

/// A flush of the device that fails for one file loses completed writes of others, whose own flushes then succeed: what
/// was acknowledged meanwhile may be gone whatever the engine does. On such disks writes fail, not flushes.
fn survivable(fault: Fault, flush_scope: FlushScope) -> Fault {
    match flush_scope {
        FlushScope::Device if fault.may_be_a_flush() => Fault { operation: Some(Operation::Write), ..fault },
        _ => fault,
    }
}

impl Fault {
    fn may_be_a_flush(self) -> bool {
        matches!(self.operation, None | Some(Operation::SyncData))
    }
}

/// A log that makes room flushes its file beside the rounds. If that flush fails, a round's own flush of the file may have
/// succeeded without what the other lost: the log goes offline, and may find itself damaged at the next start.
fn suspect(broker: &Broker, model: &Model) {
    for id in model.partitions() {
        if let Some(Io { operation: "making room in a segment", .. }) = broker.store(id).failure(id) {
            model.suspect(id);
        }
    }
}

fn kill_after(machine: &Machine, delay: Duration) {
    let (env, machine) = (machine.env(0), machine.clone());
    let timer = env.clock().sleep(delay);
    env.tasks().spawn(TaskClass::Background, async move {
        timer.await;
        machine.kill();
    });
}

async fn run(
    machine: Machine,
    model: Model,
    life: Life,
    expects_clean: bool,
    opened: Rc<RefCell<Option<Broker>>>,
) -> Outcome {
    let dice = Dice::new(life.dice_seed, 1);
    let broker = match Broker::open(&machine, &life.tuning).await {
        Ok(broker) => broker,
        Err(OpenError::Io { operation, source }) => {
            assert!(life.fault.is_some(), "the disk works, but {operation} failed: {source}");
            return Outcome::Unopened;
        }
        Err(error) => panic!("nothing was damaged, but: {error}"),
    };
    *opened.borrow_mut() = Some(broker.clone());
    if seeds::is_replay() {
        println!("  recovered: {:?}, redistributed: {:?}", broker.reports, broker.redistributed);
    }
    if expects_clean {
        assert!(broker.is_clean(), "the last stop was in order: {:?}", broker.reports);
        assert!(broker.reports.iter().all(|report| report.scanned_bytes == 0), "a clean start reads no segment");
    }
    if life.fault.is_some() {
        recovered_on_a_failing_disk(&broker, &model, &dice).await;
    } else {
        check::recovered(&broker, &model, &dice).await;
    }
    let workload = Workload { disk_fails: life.fault.is_some(), ..life.workload };
    match life.ending {
        Ending::CloseAfter(delay) => {
            let env = machine.env(0);
            let closing = broker.clone();
            let work = workload.run(&machine, &broker, &model, &dice);
            let close = async {
                env.clock().sleep(delay).await;
                closing.close().await
            };
            let (closed, ()) = futures_util::join!(close, work);
            outcome(closed, life.fault.is_some() || model.has_suspects())
        }
        Ending::Close => {
            workload.run(&machine, &broker, &model, &dice).await;
            outcome(broker.close().await, life.fault.is_some() || model.has_suspects())
        }
        Ending::PowerLossAt(_) | Ending::KillAfter(_) => {
            workload.run(&machine, &broker, &model, &dice).await;
            Outcome::Crashed
        }
    }
}

/// With one fault, a log may be offline at once, or one read of it fail; the others must be right.
async fn recovered_on_a_failing_disk(broker: &Broker, model: &Model, dice: &Dice) {
    for id in model.partitions() {
        let compared = check::recovered_log(broker, model, id, dice).await;
        if let (Err(_), Ok(offsets), None) =
            (compared, broker.store(id).offsets(id).await, broker.store(id).failure(id))
        {
            model.with(id, |log| log.settle(log.count_below(offsets.log_end)));
        }
    }
}

fn outcome(closed: Result<(), millrace_engine::log::Failure>, disk_fails: bool) -> Outcome {
    match closed {
        // With a log offline the stop is in order, but not clean.
        Ok(()) if disk_fails => Outcome::Closed,
        Ok(()) => Outcome::Clean,
        Err(failure) => {
            assert!(disk_fails, "closing failed although the disk works: {failure}");
            Outcome::Closed
        }
    }
}

/// The epoch of the `number`-th life.
pub fn epoch(number: usize) -> LeaderEpoch {
    LeaderEpoch::new(i32::try_from(number).expect("few lives"))
}

/// A world whose disk flushes as the seed says.
pub fn world(seed: u64) -> World {
    let disk = DiskConfig { flush_scope: flush_scope(seed), ..DiskConfig::default() };
    World::new(seed, WorldConfig { disk, step_budget: 5_000_000, ..WorldConfig::default() })
}

/// What a flush reaches in the world of a seed.
fn flush_scope(seed: u64) -> FlushScope {
    Dice::new(seed, 20).pick(&[FlushScope::Device, FlushScope::File])
}
