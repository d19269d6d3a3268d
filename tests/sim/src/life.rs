//! One life of a machine: start, recover, compare with the model, work, end in one way or another.

use std::time::Duration;

use futures_util::FutureExt;
use millrace_engine::model::LeaderEpoch;
use millrace_engine::recovery::OpenError;
use millrace_runtime::sim::{DiskConfig, Failure, Machine, Operation, World, WorldConfig};
use millrace_runtime::{Clock, Env, FlushScope, TaskClass, Tasks};

use crate::broker::{Broker, Tuning};
use crate::check::{self, Admitted, Moment};
use crate::client::{Client, Weather};
use crate::dice::Dice;
use crate::model::Model;
use crate::seeds;
use crate::upkeep;
use crate::workload::Workload;

/// A shard whose journal failed is recovered within this time.
const SHARD_RECOVERY: Duration = Duration::from_secs(2);

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
        if let Some(Fault { operation, nth, failure }) = life.fault {
            machine.faults().fail_nth(operation, nth, failure);
        }
        match life.ending {
            Ending::PowerLossAt(k) => machine.faults().crash_after(k),
            Ending::KillAfter(delay) => kill_after(&machine, delay),
            Ending::Close | Ending::CloseAfter(_) => {}
        }
        self.model.begin_life();
        let expects_clean = self.last == Some((Outcome::Clean, life.tuning.shard_count));
        let weather = Weather {
            disk_fails: life.fault.is_some(),
            flush_fails: life.fault.is_some_and(Fault::may_be_a_flush),
            flush_interval: life.tuning.flush_interval,
        };
        if weather.flush_fails {
            // A flush of the recovery that fails may take along what was only acknowledged as written.
            self.model.lose_power();
        }
        let running = run(machine.clone(), self.model.clone(), life.clone(), expects_clean, weather);
        let lives = machine.crash_count();
        let outcome = self.world.run_until_crash(running).unwrap_or(Outcome::Crashed);
        self.model.advance(machine.env(0).clock().unix_ms());
        if outcome == Outcome::Clean {
            self.model.flush_all();
        }
        let mut power_lost = matches!(life.ending, Ending::PowerLossAt(_));
        if machine.crash_count() == lives {
            // The work ended first. What happens after the last answer must not matter: every other time the power goes.
            power_lost = Dice::new(life.dice_seed, 3).one_in(2);
            if power_lost { machine.crash() } else { machine.kill() }
        }
        if power_lost {
            self.model.lose_power();
        }
        machine.faults().clear();
        self.last = Some((outcome, life.tuning.shard_count));
        if seeds::is_replay() {
            let (shards, operations) = (life.tuning.shard_count, machine.faults().operation_count(None));
            let (ending, fault) = (life.ending, life.fault);
            println!("{shards} shards, {ending:?}, {fault:?}: {outcome:?} after {operations} operations in all");
        }
        outcome
    }
}

impl Fault {
    fn may_be_a_flush(self) -> bool {
        matches!(self.operation, None | Some(Operation::SyncData))
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

async fn run(machine: Machine, model: Model, life: Life, expects_clean: bool, weather: Weather) -> Outcome {
    let dice = Dice::new(life.dice_seed, 1);
    let broker = match Broker::open(&machine, &life.tuning).await {
        Ok(broker) => broker,
        Err(OpenError::Io { operation, source }) => {
            assert!(weather.disk_fails, "the disk works, but {operation} failed: {source}");
            return Outcome::Unopened;
        }
        Err(error) => panic!("nothing was damaged, but: {error}"),
    };
    if expects_clean {
        let reports = broker.reports().await;
        assert!(broker.redistributed.is_none(), "the number of shards is the same");
        assert!(reports.iter().all(|report| report.clean), "the last stop was in order: {reports:?}");
        assert!(reports.iter().all(|report| report.scanned_bytes == 0), "a clean start reads no segment");
    }
    if weather.disk_fails {
        recovered_on_a_failing_disk(&broker, &model, &dice, machine.env(0).clock()).await;
    } else {
        check::recovered(&broker, &model, &dice).await;
    }
    if seeds::is_replay() {
        // Without waiting: a replay must not change what happens when.
        println!("  recovered: {:?}, redistributed: {:?}", broker.reports().now_or_never(), broker.redistributed);
    }
    let workload = &life.workload;
    match life.ending {
        Ending::CloseAfter(delay) => {
            let env = machine.env(0);
            let closing = broker.clone();
            let work = workload.run(&machine, &broker, &model, &dice, weather);
            let close = async {
                env.clock().sleep(delay).await;
                closing.close().await
            };
            let (closed, ()) = futures_util::join!(close, work);
            outcome(closed, weather.disk_fails || model.has_suspects())
        }
        Ending::Close => {
            workload.run(&machine, &broker, &model, &dice, weather).await;
            upkeep::wait(&machine, &life.tuning, workload).await;
            if weather.disk_fails {
                // Logs that were hurt have to be back, and right.
                let client = Client::new(&machine, &broker, &model, &dice, (workload.epoch, weather));
                for id in model.partitions() {
                    client.compare(id).await;
                }
            } else if !workload.writers.is_empty() {
                upkeep::check(&machine, &broker, &model, &life.tuning, &dice).await;
            }
            outcome(broker.close().await, weather.disk_fails || model.has_suspects())
        }
        Ending::PowerLossAt(_) | Ending::KillAfter(_) => {
            workload.run(&machine, &broker, &model, &dice, weather).await;
            upkeep::wait(&machine, &life.tuning, workload).await;
            Outcome::Crashed
        }
    }
}

/// With one fault, a log may be offline at once, or one read of it fail; the next try must be right.
async fn recovered_on_a_failing_disk(broker: &Broker, model: &Model, dice: &Dice, clock: &impl Clock) {
    for id in model.partitions() {
        let first = check::log(broker, model, id, dice, Moment::Start).await;
        if first.is_err() {
            // The shard may have to be recovered as a whole.
            clock.sleep(SHARD_RECOVERY).await;
        }
        if let Err(Admitted(first)) = first
            && let Err(Admitted(second)) = check::log(broker, model, id, dice, Moment::Start).await
        {
            assert!(model.is_suspect(id), "{id}: {first}, and then {second}");
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
pub fn flush_scope(seed: u64) -> FlushScope {
    Dice::new(seed, 20).pick(&[FlushScope::Device, FlushScope::File])
}
