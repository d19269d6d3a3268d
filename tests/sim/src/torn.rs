//! Scenario: the power fails in the middle of a workload, and of what was not flushed exactly the first sectors survive:
//! none, one, two, and so on to all. Wherever the last round ends, a start finds what was promised and cuts the rest.

use std::time::Duration;

use futures_util::future::{Either, select};
use millrace_runtime::sim::DiskImage;
use millrace_runtime::{Clock, Env};

use crate::broker::{Broker, Tuning};
use crate::client::Weather;
use crate::dice::{Dice, mix};
use crate::life::{Ending, Life, Subject, epoch, world};
use crate::model::Model;
use crate::workload::Workload;

/// Moments of a workload at which the power fails.
const MOMENTS: usize = 2;
/// More lengths than this are sampled.
const LENGTHS_MAX: usize = 60;
/// Disk operations of a start; before them there is nothing to lose.
const START_OPERATIONS: u64 = 14;

/// Runs the scenario; returns the fingerprint of all choices.
pub fn run(seed: u64) -> u64 {
    let dice = Dice::new(seed, 70);
    let mut fingerprint = 0;
    for _ in 0..MOMENTS {
        let workload = Workload::draw(&dice, dice.size(1, 2), dice.pick(&[4, 12, 40]), epoch(0));
        let (tuning, dice_seed) = (Tuning::draw(&dice, 1), dice.draw());
        let life = Life { tuning, workload, dice_seed, ending: Ending::Close, fault: None };
        let (image, model) = interrupted(seed, &dice, &life);
        model.lose_power();
        let sectors = image.undurable_sectors();
        let sampled = sectors > LENGTHS_MAX;
        for number in 0..=sectors.min(LENGTHS_MAX) {
            let kept = if sampled { dice.size(0, sectors) } else { number };
            let (world, model) = (world(mix(dice_seed) ^ seed), model.fork());
            world.machine(0).mount_torn(&image, kept);
            let mut subject = Subject::new(&world, &model);
            subject.live(&life.idle());
            if dice.one_in(8) {
                // The same sizes again: what was cut off now would fit where it lay.
                let workload = Workload { epoch: epoch(1), ..life.workload.clone() };
                subject.live(&Life { workload, ending: Ending::PowerLossAt(1 + dice.below(200)), ..life.clone() });
                subject.live(&life.idle());
            }
            fingerprint = mix(fingerprint ^ world.fingerprint());
        }
    }
    fingerprint
}

/// The disk as it is after some operations of a life, with what the model knew at that moment.
fn interrupted(seed: u64, dice: &Dice, life: &Life) -> (DiskImage, Model) {
    let (world, model) = (world(seed), Model::default());
    let machine = world.machine(0);
    let moment = START_OPERATIONS + dice.below(dice.pick(&[20, 60, 200]));
    let (faults, env, dice) = (machine.faults(), machine.env(0), dice.split());
    let running = async {
        let broker = Broker::open(&machine, &life.tuning).await.unwrap_or_else(|error| panic!("{error}"));
        let weather = Weather { flush_interval: life.tuning.flush_interval, ..Weather::default() };
        life.workload.run(&machine, &broker, &model, &dice, weather).await;
    };
    let waiting = async {
        while faults.operation_count(None) < moment {
            env.clock().sleep(Duration::from_micros(5)).await;
        }
    };
    let main = async {
        match select(std::pin::pin!(running), std::pin::pin!(waiting)).await {
            Either::Left(((), _)) | Either::Right(((), _)) => {
                model.advance(env.clock().unix_ms());
                (machine.disk().fork(), model.fork())
            }
        }
    };
    world.run_until_crash(main).unwrap_or_else(|_| panic!("the power stays on until the image is taken"))
}
