//! Scenario: the disk fails one operation, each in turn. Everybody gets an answer, a log that is hurt says so, the store can
//! still be closed, and what was acknowledged is there after the next start.

use millrace_runtime::sim::{Failure, Operation};

use crate::broker::Tuning;
use crate::dice::{Dice, mix};
use crate::life::{Ending, Fault, Life, Subject, epoch, world};
use crate::model::Model;
use crate::workload::Workload;

/// Operations that fail, each in a world of its own, drawn anew for each seed.
const POINTS: u64 = 16;
/// Of these, so many are syncs: what they cover is lost in part, and later syncs succeed without it.
const SYNCS: u64 = 6;
/// One seed in so many fails every operation in turn.
const WHOLE_ONE_IN: u64 = 16;

/// Runs the scenario; returns the fingerprint of all choices.
pub fn run(seed: u64) -> u64 {
    let dice = Dice::new(seed, 40);
    let tuning = Tuning::draw(&dice, dice.pick(&[1, 1, 2]));
    let whole = dice.one_in(WHOLE_ONE_IN);
    let batch_count = if whole { 3 } else { dice.pick(&[4, 12, 40]) };
    let workload = Workload::draw(&dice, dice.size(1, 4), batch_count, epoch(0));
    let life = Life { tuning, workload, dice_seed: dice.draw(), ending: Ending::Close, fault: None };
    let (rehearsal, model) = (world(seed), Model::default());
    Subject::new(&rehearsal, &model).live(&life);
    let operations = rehearsal.faults().operation_count(None);
    let syncs = rehearsal.faults().operation_count(Some(Operation::SyncData));
    let mut fingerprint = rehearsal.fingerprint();
    for number in 1..=if whole { operations } else { POINTS } {
        let failure = dice.pick(&[Failure::Io, Failure::NoSpace]);
        let fault = if whole {
            Fault { operation: None, nth: number, failure }
        } else if number <= SYNCS {
            Fault { operation: Some(Operation::SyncData), nth: 1 + dice.below(syncs), failure }
        } else {
            Fault { operation: None, nth: 1 + dice.below(operations), failure }
        };
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        subject.live(&Life { fault: Some(fault), ..life.clone() });
        let workload = Workload { epoch: epoch(1), ..life.workload.clone() };
        subject.live(&Life { workload, ..life.clone() });
        subject.live(&life.idle());
        fingerprint = mix(fingerprint ^ world.fingerprint());
    }
    fingerprint
}
