//! Scenario: one machine, many lives. Each ends in another way, with another number of shards, now and then with a disk
//! that fails once; the model is never forgiven anything.

use std::time::Duration;

use millrace_runtime::sim::{Failure, Operation};

use crate::broker::Tuning;
use crate::dice::Dice;
use crate::life::{Ending, Fault, Life, Subject, epoch, world};
use crate::model::Model;
use crate::workload::Workload;

/// Lives of one machine.
const LIVES: usize = 8;

/// Runs the scenario; returns the fingerprint of all choices.
pub fn run(seed: u64) -> u64 {
    let (world, model, dice) = (world(seed), Model::default(), Dice::new(seed, 10));
    let mut subject = Subject::new(&world, &model);
    let partition_count = dice.size(1, 6);
    let mut shard_count = dice.pick(&[1, 1, 2]);
    for number in 0..LIVES {
        if dice.one_in(4) {
            shard_count = dice.pick(&[1, 2, 3]);
        }
        let life = draw(&dice, partition_count, shard_count, number);
        subject.live(&life);
    }
    let quiet = Life { fault: None, ending: Ending::Close, ..draw(&dice, 0, shard_count, LIVES) };
    subject.live(&quiet);
    subject.live(&quiet);
    world.fingerprint()
}

fn draw(dice: &Dice, partition_count: usize, shard_count: u16, number: usize) -> Life {
    Life {
        tuning: Tuning::draw(dice, shard_count),
        workload: Workload::draw(dice, partition_count, dice.pick(&[10, 40, 150]), epoch(number)),
        dice_seed: dice.draw(),
        ending: draw_ending(dice),
        fault: dice.one_in(5).then(|| draw_fault(dice)),
    }
}

fn draw_ending(dice: &Dice) -> Ending {
    match dice.below(8) {
        0 => Ending::Close,
        1 => Ending::CloseAfter(Duration::from_micros(dice.below(60_000))),
        2..=3 => Ending::KillAfter(Duration::from_micros(dice.pick(&[80_000, 500_000]) * dice.below(1_000) / 1_000)),
        4 => Ending::PowerLossAt(1 + dice.below(60)),
        _ => Ending::PowerLossAt(1 + dice.below(dice.pick(&[300, 1_000, 3_000]))),
    }
}

fn draw_fault(dice: &Dice) -> Fault {
    let operation =
        dice.pick(&[None, None, Some(Operation::SyncData), Some(Operation::Write), Some(Operation::Allocate)]);
    let nth = 1 + dice.below(if operation.is_none() { 400 } else { 100 });
    Fault { operation, nth, failure: dice.pick(&[Failure::Io, Failure::NoSpace]) }
}
