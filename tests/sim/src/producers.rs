//! Scenario: an idempotent producer with five batches in flight, and a write or flush that fails under one of them. The
//! producer sends again what was not acknowledged, in the same life or after a crash, and in the end everything is in the
//! log once and in order.
//!
//! The producer does what librdkafka and Kafka's own do: it goes on sending until it hears of the failure, then sends what
//! failed again, in order, before anything new.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, PartitionId};
use millrace_protocol::batch::ProducerFields;
use millrace_runtime::sim::{Failure, Machine, Operation, World};
use millrace_runtime::{Env, TaskClass, TaskHandle, Tasks};

use crate::batches;
use crate::broker::{Broker, Tuning};
use crate::check;
use crate::client::{Client, Parcel, Refused, Weather};
use crate::dice::{Dice, mix};
use crate::life::{epoch, flush_scope, world};
use crate::model::Model;
use crate::workload::{Configs, Sizes, Workload, Writer, partition};

/// Batches in flight, as many as the protocol allows an idempotent producer.
const IN_FLIGHT: usize = 5;
/// Windows of batches that the producer sends; the disk fails under one of them.
const WINDOWS: usize = 6;
/// Worlds of one seed: the first write of the window fails, the second, and so on, then as many flushes.
const OPERATIONS: u64 = 7;
/// Times a window is sent before it has to be through.
const ATTEMPTS_MAX: u32 = 60;

/// Runs the scenario; returns the fingerprint of all choices.
pub fn run(seed: u64) -> u64 {
    let mut fingerprint = 0;
    for (operation, label) in [(Operation::Write, 60), (Operation::SyncData, 61)] {
        for nth in 1..=OPERATIONS {
            let dice = Dice::new(seed, mix(label) ^ nth);
            fingerprint = mix(fingerprint ^ run_one(seed, &dice, operation, nth));
        }
    }
    fingerprint
}

fn run_one(seed: u64, dice: &Dice, operation: Operation, nth: u64) -> u64 {
    let (world, model) = (world(seed), Model::default());
    // A flush of the device that fails concerns every log: see `life`.
    let operation =
        if flush_scope(seed) == millrace_runtime::FlushScope::Device { Operation::Write } else { operation };
    let plan = Plan {
        config: Configs::draw(dice, &[partition(0)]).committed().keeping().of(partition(0)),
        sizes: Sizes::draw(dice),
        fails: (dice.index(WINDOWS), operation, nth, dice.pick(&[Failure::Io, Failure::NoSpace])),
        crashes: dice.one_in(2),
        noise: dice.one_in(2).then(|| noise(dice)),
    };
    let producer = Producer::new(dice.split());
    let tuning = Tuning::draw(dice, 1);
    let mut ended = false;
    for life in 0..3 {
        let disk_fails = life == 0;
        let weather = Weather {
            disk_fails,
            flush_fails: disk_fails && operation == Operation::SyncData,
            flush_interval: tuning.flush_interval,
        };
        let (machine, dice) = (world.machine(0), dice.split());
        let running = run_life(&world, &machine, &model, &producer, &plan, &tuning, (epoch(life), weather), dice);
        ended = world.run_until_crash(running).is_ok();
        if ended {
            machine.kill();
        }
        machine.faults().clear();
    }
    assert!(ended && producer.is_done(), "only the life with the failure may be cut off");
    world.fingerprint()
}

/// What happens around the producer.
struct Plan {
    config: LogConfig,
    sizes: Sizes,
    /// In which window the disk fails, and how.
    fails: (usize, Operation, u64, Failure),
    /// Whether the machine crashes once the producer has heard of a failure.
    crashes: bool,
    /// Somebody else who writes to the log meanwhile.
    noise: Option<Workload>,
}

fn noise(dice: &Dice) -> Workload {
    let writer = |number| Writer {
        partition: partition(number),
        sizes: Sizes::draw(dice),
        batch_count: 15,
        waits_one_in: 3,
        pauses_one_in: 2,
        reads_one_in: 5,
        deletes_one_in: u64::MAX,
        deletes_log: false,
    };
    Workload { writers: vec![writer(0), writer(1)], configs: Configs::default(), epoch: epoch(0) }
}

#[expect(clippy::too_many_arguments, reason = "the parts of a scenario")]
async fn run_life(
    world: &World,
    machine: &Machine,
    model: &Model,
    producer: &Producer,
    plan: &Plan,
    tuning: &Tuning,
    (epoch, weather): (LeaderEpoch, Weather),
    dice: Dice,
) {
    let broker = Broker::open(machine, tuning).await.unwrap_or_else(|error| panic!("{error}"));
    check::recovered(&broker, model, &dice).await;
    let id = partition(0);
    let client = Client::new(machine, &broker, model, &dice, (epoch, weather));
    client.create(id, &plan.config);
    let produce = async {
        while !producer.is_done() {
            let (window, operation, nth, failure) = plan.fails;
            if weather.disk_fails && producer.window.get() == window {
                world.faults().fail_nth(Some(operation), nth, failure);
            }
            producer.deliver_window(&client, id, plan, machine).await;
        }
    };
    match plan.noise.clone().filter(|_| weather.disk_fails) {
        Some(noise) => {
            let configs = Configs::only(id, plan.config.clone());
            let noise = Workload { configs, epoch, ..noise };
            let running = noise.run(machine, &broker, model, &dice, weather);
            futures_util::join!(produce, running);
        }
        None => produce.await,
    }
    client.compare(id).await;
    producer.check_all_there(model, id);
    if dice.one_in(2) {
        // The one failure may still come, now that the store closes.
        let closed = broker.close().await;
        assert!(weather.disk_fails || closed.is_ok(), "{closed:?}");
    }
}

/// An idempotent producer that outlives crashes of the broker.
struct Producer {
    dice: Dice,
    /// How many windows were delivered.
    window: Cell<usize>,
    /// What of the present window is not acknowledged, in order.
    pending: RefCell<VecDeque<Parcel>>,
    sequence: Cell<i32>,
    last: Cell<Option<u64>>,
    delivered: RefCell<Vec<u64>>,
}

impl Producer {
    fn new(dice: Dice) -> Self {
        Self {
            dice,
            window: Cell::new(0),
            pending: RefCell::default(),
            sequence: Cell::new(0),
            last: Cell::new(None),
            delivered: RefCell::default(),
        }
    }

    fn is_done(&self) -> bool {
        self.window.get() == WINDOWS
    }

    fn next_parcel(&self, model: &Model, sizes: Sizes) -> Parcel {
        let identity = model.identity();
        let records = self.dice.size(1, 3);
        let fields = ProducerFields { id: 4711, epoch: 3, base_sequence: self.sequence.get() };
        self.sequence.set(self.sequence.get() + i32::try_from(records).expect("a few records"));
        let bytes = batches::build_of(Some(fields), identity, sizes.bytes(&self.dice), records).into();
        Parcel { identity, bytes, keyed: [].into(), follows: self.last.replace(Some(identity)) }
    }

    /// Sends a window until all of it is acknowledged.
    async fn deliver_window(&self, client: &Client, id: PartitionId, plan: &Plan, machine: &Machine) {
        if self.pending.borrow().is_empty() {
            self.pending.replace((0..IN_FLIGHT).map(|_| self.next_parcel(&client.model, plan.sizes)).collect());
        }
        for attempt in 0..ATTEMPTS_MAX {
            let failed = self.send(client, id).await;
            if failed.is_empty() {
                self.pending.borrow_mut().clear();
                self.window.set(self.window.get() + 1);
                return;
            }
            assert!(client.weather.disk_fails, "{id}: batches fail although the disk works");
            self.pending.replace(failed);
            if plan.crashes {
                if self.dice.one_in(2) {
                    machine.kill();
                } else {
                    client.model.lose_power();
                    machine.crash();
                }
                // Nothing runs any more from the next wait on.
            }
            client.back_off(attempt).await;
        }
        panic!("{id}: a window of batches does not get through");
    }

    /// Sends what is pending, without waiting for answers. Returns what failed.
    async fn send(&self, client: &Client, id: PartitionId) -> VecDeque<Parcel> {
        let pending: Vec<_> = self.pending.borrow().iter().cloned().collect();
        let mut answers = Vec::new();
        let mut has_failed = false;
        for parcel in pending {
            if self.dice.one_in(2) {
                client.pause().await;
            }
            match client.append(id, &parcel).await {
                Ok(answer) => {
                    let task = client.env.tasks().spawn(TaskClass::Network, answer.wait());
                    answers.push((parcel, Some(task)));
                }
                Err(Refused::Offline(_) | Refused::Full) => {
                    has_failed = true;
                    answers.push((parcel, None));
                }
                Err(Refused::Sequence(error)) => {
                    let lost = has_failed || client.weather.disk_fails;
                    assert!(lost, "{id}: batch {}: {error}, but none before it failed", parcel.identity);
                    answers.push((parcel, None));
                }
                Err(Refused::Closing) => unreachable!("nobody closes the store yet"),
            }
        }
        let mut failed = VecDeque::new();
        for (parcel, task) in answers {
            let acknowledged = match task {
                Some(task) => task.join().await,
                None => false,
            };
            if acknowledged {
                self.delivered.borrow_mut().push(parcel.identity);
            } else {
                failed.push_back(parcel);
            }
        }
        failed
    }

    /// The model compared the log with its list just now; all batches have to be in that, once and in order.
    fn check_all_there(&self, model: &Model, id: PartitionId) {
        let mut delivered = self.delivered.borrow().clone();
        delivered.sort_unstable();
        let (first, last) = (delivered.first().copied(), delivered.last().copied());
        let there: Vec<u64> = model.with(id, |log| {
            log.sent.iter().map(|sent| sent.identity).filter(|identity| delivered.contains(identity)).collect()
        });
        assert_eq!(there, delivered, "{id}: the batches {first:?} to {last:?} are in the log once and in order");
        assert_eq!(delivered.len(), WINDOWS * IN_FLIGHT, "every batch was acknowledged once");
    }
}
