//! Power failures: a loaded store on a recorded disk, and for its acknowledgements the images that could be left.
//!
//! 1. A [`Load`] runs over a [`RecordingEnv`], on the machine or in the simulator.
//! 2. The trace is followed event by event. At acknowledgements, and now and then at any other event, the power fails: the
//!    [`Device`] draws an image, a store recovers it, and the [`Ledger`] says whether that is right.
//! 3. Some images are recovered from a real directory too.
//! 4. On some a second life begins: recovery and new work of the same sizes, recorded in the simulator, and cut off in the
//!    same way. What the first power failure left must not come back in the second.
//!
//! Everything is drawn from the seed. In the simulator a seed repeats bit for bit; on the machine it repeats the work and
//! not the times, so the image that failed is kept.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use millrace_compat::places;
use millrace_engine::model::PartitionId;
use millrace_runtime::Env;
use millrace_runtime::glommio::executor::{Shards, ShardsConfig};
use millrace_runtime::sim::{World, WorldConfig};
use millrace_sim::broker::Tuning;
use millrace_sim::dice::{Dice, mix};
use millrace_sim::life::epoch;
use millrace_sim::workload::{Configs, Sizes, Workload, Writer, compacted, partition};

use crate::device::{Device, Image};
use crate::ledger::{Ledger, Recovered};
use crate::load::{self, Load};
use crate::place;
use crate::recording::{Nature, RecordingEnv};
use crate::trace::{Event, Recorder};

/// Logs of a run, at most.
const LOGS: usize = 5;
/// A writer sends about this much, at most: an image takes as long as it has bytes, and many are worth more than large ones.
const WRITER_BYTES_MAX: usize = 512 * 1024;

/// How often the power fails, and what is done with an image: once in so many times each.
#[derive(Clone, Copy, Debug)]
struct Sampling {
    /// At an acknowledgement.
    acknowledgement: u64,
    /// At another event while a name is not durable: such moments are short and rare.
    unsettled_name: u64,
    /// At any other event.
    other: u64,
    /// An image is recovered from a real directory too.
    real: u64,
    /// An image has a second life.
    second_life: u64,
}

const BROAD: Sampling = Sampling { acknowledgement: 3, unsettled_name: 8, other: 60, real: 60, second_life: 20 };
const BROAD_SECOND: Sampling =
    Sampling { acknowledgement: 6, unsettled_name: 8, other: 60, real: 60, second_life: NEVER };
/// Little is done, and looked at closely.
const CLOSE: Sampling = Sampling { acknowledgement: 30, unsettled_name: 20, other: 2, real: 1000, second_life: 1 };
const CLOSE_SECOND: Sampling =
    Sampling { acknowledgement: 1, unsettled_name: 8, other: 8, real: 1000, second_life: NEVER };
const NEVER: u64 = u64::MAX;

/// Where a run is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// On io_uring and a real file system.
    Real,
    /// In the simulator.
    Simulated,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Acknowledgements of recorded runs.
    pub acknowledgements: usize,
    /// Images that were recovered in the simulator.
    pub images: usize,
    /// Images that were recovered from a real directory too.
    pub real_recoveries: usize,
    /// Images that were worked on and crashed again.
    pub second_lives: usize,
    /// A hash of what all images said: the same for the same choices.
    pub fingerprint: u64,
}

impl Tally {
    /// Adds what another run did.
    pub fn add(&mut self, other: Self) {
        self.acknowledgements += other.acknowledgements;
        self.images += other.images;
        self.real_recoveries += other.real_recoveries;
        self.second_lives += other.second_lives;
        self.fingerprint = mix(self.fingerprint ^ other.fingerprint);
    }
}

/// A recorded life of a store.
struct Recording {
    events: Vec<Event>,
    /// The store had been recovered when this many events had happened.
    opened_at: usize,
    /// What it said then.
    recovered: Recovered,
}

/// Two loads, the second for images of the first, and where they are cut off.
struct Plan {
    first: Load,
    second: Load,
    sampling: [Sampling; 2],
}

/// Records a load of every kind of client and has the power fail all over it. An error says what an image had lost or
/// invented.
pub fn run(seed: u64, machine: Machine, nature: Nature) -> Result<Tally, String> {
    let dice = Dice::new(seed, 1);
    let mut workload = Workload::draw(&dice, dice.size(2, LOGS), dice.pick(&[20, 60, 120]), epoch(0));
    // The ledger knows no deletion of any kind.
    workload.configs = workload.configs.keeping();
    for writer in &mut workload.writers {
        let (Sizes::Equal(bytes) | Sizes::Between(_, bytes)) = writer.sizes;
        writer.batch_count = writer.batch_count.min(1 + WRITER_BYTES_MAX / bytes);
        (writer.deletes_one_in, writer.deletes_log) = (NEVER, false);
    }
    let first =
        Load { tuning: tuning(&dice), workload, seed: dice.draw(), identity_start: 0, sessions: dice.pick(&[1, 2]) };
    // A batch of the first life that comes back shows the sooner the less it differs: often in its content alone.
    let workload = Workload { epoch: epoch(dice.pick(&[0, 0, 1])), ..first.workload.clone() };
    let second = Load { workload, seed: dice.draw(), identity_start: SECOND_IDENTITIES, ..first.clone() };
    Plan { first, second, sampling: [BROAD, BROAD_SECOND] }.run(seed, machine, nature, &dice)
}

/// Records a burst of batches of one size, which go to a segment in one round, and cuts it off everywhere. Then a few more
/// batches of that size are sent, and cut off too: what was whole behind the first cut would fit behind them.
pub fn run_torn_burst(seed: u64, nature: Nature) -> Result<Tally, String> {
    let dice = Dice::new(seed, 2);
    let sizes = Sizes::Equal(dice.pick(&[512, 600, 1024, 2048, 5000]));
    let writer = Writer {
        partition: partition(0),
        sizes,
        batch_count: dice.size(40, 90),
        waits_one_in: NEVER,
        pauses_one_in: NEVER,
        reads_one_in: NEVER,
        deletes_one_in: NEVER,
        deletes_log: false,
    };
    let load = |writer: Writer, identity_start: u64| Load {
        tuning: tuning(&dice),
        workload: Workload { writers: vec![writer], configs: Configs::default(), epoch: epoch(0) },
        seed: dice.draw(),
        identity_start,
        sessions: 1,
    };
    let few = Writer { batch_count: 2, waits_one_in: 1, ..writer };
    let plan = Plan { first: load(writer, 0), second: load(few, SECOND_IDENTITIES), sampling: [CLOSE, CLOSE_SECOND] };
    plan.run(seed, Machine::Simulated, nature, &dice)
}

/// Identities of a second life's batches start here.
const SECOND_IDENTITIES: u64 = 1 << 32;

impl Plan {
    fn run(&self, seed: u64, machine: Machine, nature: Nature, dice: &Dice) -> Result<Tally, String> {
        let recording = match machine {
            Machine::Simulated => record_simulated(&Image::default(), seed, nature, &self.first, &[])?,
            Machine::Real => record_real(nature, &self.first)?,
        };
        let examination = Examination { plan: self, seed, nature, life: 0 };
        examination.run(&Image::default(), &recording, Ledger::default(), dice)
    }
}

/// A store that deletes nothing by itself: to it, the ledger's batches are old.
fn tuning(dice: &Dice) -> Tuning {
    Tuning { upkeep_interval: Duration::from_hours(24), ..Tuning::draw(dice, 1) }
}

/// Every log that a load may write.
fn logs() -> Vec<PartitionId> {
    (0..LOGS).map(partition).chain((0..LOGS).map(compacted)).collect()
}

fn record_simulated(
    image: &Image,
    seed: u64,
    nature: Nature,
    load: &Load,
    logs: &[PartitionId],
) -> Result<Recording, String> {
    let recorded = || {
        let world = if image == &Image::default() {
            World::new(seed, WorldConfig::default())
        } else {
            place::simulated(image, seed)
        };
        let root = Path::new(place::ROOT);
        let recorder = Recorder::new(root);
        world.run(record(world.env(0), root, recorder, nature, load, logs))
    };
    catch_unwind(AssertUnwindSafe(recorded)).unwrap_or_else(|panic| Err(format!("panic: {}", place::said(&*panic))))
}

fn record_real(nature: Nature, load: &Load) -> Result<Recording, String> {
    let folder = places::fresh_folder();
    let (sender, receiver) = mpsc::channel();
    let (root, load) = (folder.path().to_owned(), load.clone());
    let main = move |env| {
        let (root, load, sender) = (root.clone(), load.clone(), sender.clone());
        async move {
            let recording = record(env, &root, Recorder::new(&root), nature, &load, &[]).await;
            sender.send(recording).expect("the test waits for the recording");
        }
    };
    Shards::start(&ShardsConfig::default(), main).expect("io_uring works here").join();
    receiver.recv().expect("the shard answers before it ends")
}

async fn record<E: Env>(
    env: E,
    root: &Path,
    recorder: Recorder,
    nature: Nature,
    load: &Load,
    logs: &[PartitionId],
) -> Result<Recording, String> {
    let env = RecordingEnv::new(env, recorder.clone(), nature);
    let (store, recovered) = load::recover(&env, root, &load.tuning, logs.iter().copied()).await?;
    let mut events = recorder.take();
    let opened_at = events.len();
    load.run(&env, root, store, &recorder).await?;
    events.extend(recorder.take());
    Ok(Recording { events, opened_at, recovered })
}

/// Cuts one recorded life off, over and over.
struct Examination<'a> {
    plan: &'a Plan,
    seed: u64,
    nature: Nature,
    /// 0 or 1.
    life: usize,
}

impl Examination<'_> {
    fn run(&self, base: &Image, recording: &Recording, mut ledger: Ledger, dice: &Dice) -> Result<Tally, String> {
        let mut device = Device::new(base, self.nature.scope);
        let mut tally = Tally::default();
        for (index, event) in recording.events.iter().enumerate() {
            if index == recording.opened_at {
                ledger.settle(&recording.recovered);
            }
            device.follow(event);
            ledger.follow(event);
            let acknowledgement = matches!(event, Event::Acknowledged { .. });
            tally.acknowledgements += usize::from(acknowledgement);
            let sampling = self.plan.sampling[self.life];
            let one_in = match acknowledgement {
                true => sampling.acknowledgement,
                false if device.has_unsettled_names() => sampling.unsettled_name,
                false => sampling.other,
            };
            if dice.one_in(one_in) {
                let image = device.lose_power(dice);
                let examined = self.examine(&image, &ledger, dice, &mut tally);
                examined.map_err(|what| self.report(&what, index, &image))?;
            }
        }
        Ok(tally)
    }

    fn examine(&self, image: &Image, ledger: &Ledger, dice: &Dice, tally: &mut Tally) -> Result<(), String> {
        let (tuning, logs, sampling) = (&self.plan.first.tuning, logs(), self.plan.sampling[self.life]);
        let seed = dice.draw();
        let recovered = place::recover_simulated(image, seed, tuning, &logs)?;
        ledger.check(&recovered)?;
        tally.images += 1;
        tally.fingerprint = recovered.logs.values().fold(mix(tally.fingerprint ^ seed), |hash, log| {
            mix(hash ^ u64::try_from(log.end.get()).expect("offsets are not negative"))
        });
        if dice.one_in(sampling.real) {
            let folder = places::fresh_folder();
            place::materialise(image, folder.path()).expect("the build folder takes an image");
            let real = place::recover_real(folder.path(), tuning, &logs);
            if real.as_ref() != Ok(&recovered) {
                return Err("the machine recovers it to something else than the simulator".to_owned());
            }
            tally.real_recoveries += 1;
        }
        if dice.one_in(sampling.second_life) {
            tally.add(self.second_life(image, ledger, dice)?);
        }
        Ok(())
    }

    /// Recovers an image, works on it, and has the power fail again.
    fn second_life(&self, image: &Image, ledger: &Ledger, dice: &Dice) -> Result<Tally, String> {
        let recording = record_simulated(image, dice.draw(), self.nature, &self.plan.second, &logs())?;
        let life = Examination { plan: self.plan, life: 1, nature: self.nature, seed: self.seed };
        let tally = life.run(image, &recording, ledger.clone(), dice)?;
        Ok(Tally { second_lives: 1, ..tally })
    }

    /// Keeps an image that failed, unless that is what was to be shown, and says where.
    fn report(&self, what: &str, index: usize, image: &Image) -> String {
        let place = format!("seed {}, life {}, power failure behind event {index}", self.seed, self.life);
        if self.nature.lie.is_some() {
            return format!("{place}: {what}");
        }
        let kept = keep(image, &format!("seed-{}-life-{}-event-{index}", self.seed, self.life));
        format!("{place}: {what}\n  the image is kept in {}", kept.display())
    }
}

fn keep(image: &Image, name: &str) -> PathBuf {
    let folder = places::build_folder().join("crash").join(name);
    // An earlier run of the same seed may have left one.
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).expect("the build folder is writable");
    place::materialise(image, &folder).expect("the build folder takes an image");
    folder
}
