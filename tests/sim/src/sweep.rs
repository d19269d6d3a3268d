//! Scenario: one short workload, and the power fails at every operation of it; then at every operation of a recovery.

use millrace_runtime::sim::DiskImage;

use crate::broker::Tuning;
use crate::dice::{Dice, mix};
use crate::life::{Ending, Life, Outcome, Subject, epoch, world};
use crate::model::Model;
use crate::workload::Workload;

/// Points at which a workload is cut off, drawn anew for each seed.
const POINTS: u64 = 16;
/// One seed in so many cuts its workload off at every operation.
const WHOLE_ONE_IN: u64 = 16;

/// Runs the scenario; returns the fingerprint of all choices.
pub fn run(seed: u64) -> u64 {
    let dice = Dice::new(seed, 30);
    let tuning = Tuning::draw(&dice, dice.pick(&[1, 1, 2]));
    let whole = dice.one_in(WHOLE_ONE_IN);
    let batch_count = if whole { 3 } else { dice.pick(&[4, 12, 40]) };
    let workload = Workload::draw(&dice, dice.size(1, 4), batch_count, epoch(0));
    let first = Life { tuning, workload, dice_seed: dice.draw(), ending: Ending::Close, fault: None };
    let (rehearsal, model) = (world(seed), Model::default());
    Subject::new(&rehearsal, &model).live(&first);
    let operations = rehearsal.faults().operation_count(None);
    let mut fingerprint = rehearsal.fingerprint();
    let mut images = Vec::new();
    let points = if whole { operations } else { POINTS };
    for number in 1..=points {
        let point = if whole { number } else { 1 + dice.below(operations) };
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        let outcome = subject.live(&Life { ending: Ending::PowerLossAt(point), ..first.clone() });
        assert_eq!(outcome, Outcome::Crashed, "operation {point} of {operations}");
        images.push((world.disk().fork(), model.fork()));
        // The same sizes again: what was cut off now would fit where it lay.
        let workload = Workload { epoch: epoch(1), ..first.workload.clone() };
        let ending = Ending::PowerLossAt(1 + dice.below(2 * operations));
        subject.live(&Life { workload, ending, ..first.clone() });
        subject.live(&first.idle());
        subject.live(&first.idle());
        fingerprint = mix(fingerprint ^ world.fingerprint());
    }
    let (image, model) = &images[dice.index(images.len())];
    mix(fingerprint ^ sweep_recovery(&dice, image, model, &first.idle()))
}

/// Cuts a recovery off at each of its operations; the next one must find everything all the same.
fn sweep_recovery(dice: &Dice, image: &DiskImage, model: &Model, life: &Life) -> u64 {
    let mut fingerprint = 0;
    for point in 1.. {
        // A world of its own each time: what was not durable survives in another way.
        let (world, model) = (world(dice.draw()), model.fork());
        world.machine(0).mount(image);
        // A mount is a loss of power.
        model.lose_power();
        let mut subject = Subject::new(&world, &model);
        let outcome = subject.live(&Life { ending: Ending::PowerLossAt(point), ..life.clone() });
        let reached = world.faults().operation_count(None) >= point;
        assert_eq!(outcome, Outcome::Crashed, "a life that is to end without power");
        subject.live(life);
        fingerprint = mix(fingerprint ^ world.fingerprint());
        if !reached {
            break;
        }
    }
    fingerprint
}
