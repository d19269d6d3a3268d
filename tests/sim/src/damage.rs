//! Scenario: a bit flips somewhere on the disk of a stopped broker. Whatever was acknowledged is served as it was, or the
//! damage is reported, and reported again at every later start. Flipped back, everything is there.
//!
//! Two things a start cannot know, and this scenario does not ask for:
//! - whether a bad batch in what the very last round before a crash wrote was ever whole; the last round of a shard here
//!   is one batch of a partition of its own;
//! - a batch's leader epoch as long as the epochs still rise: it lies outside the checksum, as Kafka has it.

use futures_util::FutureExt;
use millrace_engine::model::PartitionId;
use millrace_engine::recovery::OpenError;
use millrace_protocol::batch::BatchView;
use millrace_runtime::sim::{DiskControl, DiskImage, World};

use crate::broker::{Broker, DIRECTORY, Tuning};
use crate::check::{self, Admitted, Moment};
use crate::client::Weather;
use crate::dice::{Dice, mix};
use crate::life::{epoch, world};
use crate::model::Model;
use crate::seeds;
use crate::workload::{Configs, Sizes, Workload, Writer, partition};

/// Bits that flip, each on a disk of its own.
const FLIPS: usize = 12;
/// Where the records of a segment start.
const RECORDS_START: u64 = 4096;
/// The partitions of the last rounds, one for each of two shards.
const LAST: [usize; 2] = [7, 8];

/// Runs the scenario; returns the fingerprint of all choices.
pub fn run(seed: u64) -> u64 {
    let dice = Dice::new(seed, 50);
    let tuning = Tuning::draw(&dice, dice.pick(&[1, 1, 2]));
    let past = Past::make(seed, &dice, &tuning);
    let mut fingerprint = 0;
    for _ in 0..FLIPS {
        let world = world(dice.draw());
        world.machine(0).mount(&past.image);
        let flip = Flip::draw(&dice, &world.disk());
        flip.apply(&world.disk());
        inspect(&world, &past.model.fork(), &dice, &tuning, &flip);
        fingerprint = mix(fingerprint ^ world.fingerprint());
    }
    fingerprint
}

/// The disk of a stopped broker, and what it holds.
struct Past {
    image: DiskImage,
    model: Model,
}

impl Past {
    fn make(seed: u64, dice: &Dice, tuning: &Tuning) -> Self {
        let (world, model) = (world(seed), Model::default());
        let batch_count = dice.pick(&[3, 12, 60]);
        let drawn = Workload::draw(dice, dice.size(1, 4), batch_count, epoch(0));
        // What was not flushed when the power went may be gone: damage in it is not damage.
        let keeps = |writer: Writer| Writer { deletes_one_in: u64::MAX, deletes_log: false, ..writer };
        let writers = drawn.writers.into_iter().map(keeps).collect();
        let workload = Workload { configs: drawn.configs.committed().keeping(), writers, epoch: drawn.epoch };
        let (in_order, dice) = (dice.one_in(2), dice.split());
        let machine = world.machine(0);
        let life = async {
            let broker = Broker::open(&machine, tuning).await.unwrap_or_else(|error| panic!("{error}"));
            workload.run(&machine, &broker, &model, &dice, Weather::default()).await;
            if in_order {
                broker.close().await.unwrap_or_else(|failure| panic!("{failure}"));
            } else {
                last_round().run(&machine, &broker, &model, &dice, Weather::default()).await;
            }
        };
        let ended = world.run_until_crash(life);
        assert!(ended.is_ok(), "the power stays on");
        world.crash_shards();
        if in_order {
            model.flush_all();
        } else {
            // The mount of the image is a loss of power.
            model.lose_power();
            for number in LAST {
                model.with(partition(number), |log| (log.certain, log.flushed) = (0, 0));
            }
        }
        Self { image: world.disk().fork(), model }
    }
}

/// On each shard one small batch of a partition of its own, once nothing else is under way.
fn last_round() -> Workload {
    let writer = |number| Writer {
        partition: partition(number),
        sizes: Sizes::Equal(100),
        batch_count: 1,
        waits_one_in: 1,
        pauses_one_in: 1,
        reads_one_in: u64::MAX,
        deletes_one_in: u64::MAX,
        deletes_log: false,
    };
    Workload { writers: LAST.into_iter().map(writer).collect(), configs: Configs::default(), epoch: epoch(0) }
}

/// A bit that flips.
struct Flip {
    file: String,
    position: u64,
    bit: u8,
}

impl Flip {
    /// Somewhere in a file, up to the last byte of it that is not zero.
    fn draw(dice: &Dice, disk: &DiskControl) -> Self {
        let files: Vec<String> = disk.files().into_iter().filter(|file| file.starts_with(DIRECTORY)).collect();
        loop {
            let file = files[dice.index(files.len())].clone();
            let bytes = disk.read(&file).unwrap_or_default();
            let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else { continue };
            // The first bytes of a file are the ones that everything else hangs on.
            let position = if dice.one_in(4) { dice.index(last.min(200) + 1) } else { dice.index(last + 1) };
            let position = u64::try_from(position).expect("files of a test are small");
            let bit = u8::try_from(dice.below(8)).expect("a byte has eight bits");
            let flip = Self { file, position, bit };
            if !flip.hits_an_epoch(&bytes) {
                return flip;
            }
        }
    }

    /// Whether it hits the leader epoch of a batch in a segment with these bytes.
    fn hits_an_epoch(&self, bytes: &[u8]) -> bool {
        let mut start = usize::try_from(RECORDS_START).expect("a block is small");
        while self.is_in_segment()
            && let Some(Ok(batch)) = bytes.get(start..).map(BatchView::parse)
        {
            let epoch = start + 12..start + 16;
            if usize::try_from(self.position).is_ok_and(|position| epoch.contains(&position)) {
                return true;
            }
            start += batch.bytes().len();
        }
        false
    }

    fn is_in_segment(&self) -> bool {
        self.file.strip_suffix(".log").is_some() || self.file.ends_with("/next-segment")
    }

    /// Whether the file only spares the engine work: without it, everything is found all the same.
    fn is_in_saved_state(&self) -> bool {
        [".index", ".producers"].iter().any(|suffix| self.file.strip_suffix(suffix).is_some())
    }

    fn apply(&self, disk: &DiskControl) {
        disk.flip_bit(&self.file, self.position, self.bit);
    }
}

/// What a start said.
enum Start {
    /// It refused the directory.
    Refused,
    /// These logs admitted damage; the others were compared and are right.
    Admitted(Vec<PartitionId>),
}

fn inspect(world: &World, model: &Model, dice: &Dice, tuning: &Tuning, flip: &Flip) {
    if seeds::is_replay() {
        println!("bit {} of byte {} of {} flips", flip.bit, flip.position, flip.file);
    }
    let first = start(world, model, dice, tuning);
    // The second start may have another number of shards: what is damaged stays so.
    let tuning = Tuning { shard_count: dice.pick(&[tuning.shard_count, 1, 2]), ..tuning.clone() };
    let second = start(world, model, dice, &tuning);
    let harmless = matches!(&first, Start::Admitted(damaged) if damaged.is_empty());
    assert!(harmless || !flip.is_in_saved_state(), "{} can be made again", flip.file);
    match (&first, &second) {
        (Start::Refused, Start::Refused) => {}
        (Start::Admitted(first), Start::Admitted(second)) => {
            assert_eq!(first, second, "the second start reports what the first one did: {}", flip.file);
        }
        _ => panic!("{} at {}: only one of two starts refused the directory", flip.file, flip.position),
    }
    let is_there = world
        .disk()
        .read(&flip.file)
        .is_some_and(|bytes| usize::try_from(flip.position).is_ok_and(|position| position < bytes.len()));
    // A bit that did no harm may have been written over. A segment with a damaged header is not touched, and what the
    // journal held for it is lost: it stays damaged.
    let repairable = match &first {
        Start::Refused => true,
        Start::Admitted(damaged) => !damaged.is_empty() && flip.is_in_segment() && flip.position >= RECORDS_START,
    };
    if repairable && is_there {
        flip.apply(&world.disk());
        match start(world, model, dice, &tuning) {
            Start::Admitted(damaged) if damaged.is_empty() => {}
            _ => panic!("{} at {}: repaired, and still damaged", flip.file, flip.position),
        }
    }
}

fn start(world: &World, model: &Model, dice: &Dice, tuning: &Tuning) -> Start {
    let machine = world.machine(0);
    let life = async {
        let broker = match Broker::open(&machine, tuning).await {
            Ok(broker) => broker,
            Err(OpenError::Corrupt(_)) => return Start::Refused,
            Err(error) => panic!("{error}"),
        };
        let mut admitted = Vec::new();
        for id in model.partitions() {
            if let Err(Admitted(_)) = check::log(&broker, model, id, dice, Moment::Start).await {
                admitted.push(id);
            }
        }
        if seeds::is_replay() {
            println!("  recovered: {:?}, redistributed: {:?}", broker.reports().now_or_never(), broker.redistributed);
        }
        if dice.one_in(2) {
            broker.close().await.unwrap_or_else(|failure| panic!("{failure}"));
        }
        Start::Admitted(admitted)
    };
    let said = world.run_until_crash(life).unwrap_or_else(|_| panic!("the power stays on"));
    if dice.one_in(2) {
        machine.crash();
    } else {
        machine.kill();
    }
    said
}
