//! Truncating logs: what was cut off never comes back, under crashes and faults at any operation, against a plain list.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use millrace_engine::flushes::Flushes;
use millrace_engine::journal::RING_BYTES_MIN;
use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::recovery::redistribute;
use millrace_engine::store::{Appended, FirstBatch, ReadError, Store, StoreConfig};
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView};
use millrace_runtime::sim::{Failure, SimEnv, World, WorldConfig};
use millrace_runtime::{Clock, Env, Random, TaskClass, Tasks};

const DIRECTORY: &str = "/data";
const ID: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
/// A log that stays as it is: its pieces keep the journal's rounds alive.
const NEIGHBOUR: PartitionId = PartitionId { topic: TopicId::from_bytes([2; 16]), partition: 0 };
/// Records of each batch.
const RECORDS: i64 = 2;

fn config(shard_count: u16) -> StoreConfig {
    StoreConfig {
        journal_bytes: RING_BYTES_MIN,
        shard_index: shard_count - 1,
        shard_count,
        flushes: Flushes::new(shard_count),
        ..StoreConfig::at(DIRECTORY.into())
    }
}

fn log_config() -> LogConfig {
    LogConfig { segment_bytes: 16 * 1024, retention_age_max: None, ..LogConfig::default() }
}

async fn open(env: &SimEnv) -> Store<SimEnv> {
    open_shards(env, 1).await
}

async fn open_shards(env: &SimEnv, shard_count: u16) -> Store<SimEnv> {
    redistribute(env, Path::new(DIRECTORY), shard_count).await.unwrap();
    let store = Store::open(env.clone(), config(shard_count), |_| true).await.unwrap();
    store.create(ID, log_config());
    store.create(NEIGHBOUR, log_config());
    store
}

/// One batch, as the model knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    base: i64,
    /// No other batch has it.
    number: i64,
    epoch: i32,
}

impl Batch {
    fn end(&self) -> i64 {
        self.base + RECORDS
    }
}

async fn send(store: &Store<SimEnv>, id: PartitionId, batch: Batch, value_bytes: usize) -> Appended {
    let mut builder = BatchBuilder::new(BatchFields::default());
    let mut value = vec![0; value_bytes];
    value[..8].copy_from_slice(&batch.number.to_be_bytes());
    (0..RECORDS).for_each(|_| builder.push(0, None, Some(&value)));
    let bytes = builder.build();
    store.append(id, &BatchView::parse(&bytes).unwrap(), LeaderEpoch::new(batch.epoch)).await.unwrap()
}

async fn append(store: &Store<SimEnv>, batch: Batch, value_bytes: usize) {
    let appended = send(store, ID, batch, value_bytes).await;
    assert_eq!(appended.base_offset.get(), batch.base);
    appended.ticket.durable().await.unwrap();
}

async fn truncate(store: &Store<SimEnv>, to: i64) -> Result<i64, ReadError> {
    store.truncate(ID, Offset::new(to)).await.map(Offset::get)
}

/// All batches that can be read.
async fn read_all(store: &Store<SimEnv>) -> Vec<Batch> {
    let offsets = store.offsets(ID).await.unwrap();
    let (mut batches, mut from) = (Vec::new(), offsets.start);
    loop {
        let read = store.read(ID, from, 20_000, FirstBatch::WholeEvenIfLarger).await.unwrap();
        if read.bytes == 0 {
            assert_eq!((from, read.offsets.log_end), (offsets.log_end, offsets.log_end));
            return batches;
        }
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let view = BatchView::parse(rest).unwrap();
            rest = &rest[view.bytes().len()..];
            from = Offset::new(view.header().last_offset() + 1);
            let value = view.records().unwrap().next().unwrap().unwrap().value.unwrap();
            let number = i64::from_be_bytes(value[..8].try_into().unwrap());
            let header = view.header();
            batches.push(Batch { base: header.base_offset.get(), number, epoch: header.leader_epoch.get() });
        }
    }
}

/// Batches one behind the other from `base` on, numbered from `number` on, with an epoch for every three.
fn batches(base: i64, number: i64, count: i64) -> Vec<Batch> {
    let epoch = |index: i64| i32::try_from((number + index) / 3).unwrap();
    (0..count)
        .map(|index| Batch { base: base + RECORDS * index, number: number + index, epoch: epoch(index) })
        .collect()
}

/// Checks every answer about leader epochs against the list of records that the log has.
async fn check_epochs(store: &Store<SimEnv>, start: i64, model: &[Batch], context: &str) {
    let end = model.last().map_or(start, Batch::end);
    let records = model.iter().flat_map(|batch| (batch.base..batch.end()).map(|offset| (offset, batch.epoch)));
    let records: Vec<_> = records.filter(|(offset, _)| *offset >= start).collect();
    let newest = records.last().map_or(0, |(_, epoch)| *epoch);
    for asked in -1..=newest + 2 {
        let later = records.iter().find(|(_, epoch)| *epoch > asked).map_or(end, |(offset, _)| *offset);
        let largest = records.iter().rev().find(|(_, epoch)| *epoch <= asked).map_or(asked, |(_, epoch)| *epoch);
        let expected = (asked >= 0 && !records.is_empty()).then_some((largest, later));
        let found = store.epoch_end_offset(ID, LeaderEpoch::new(asked)).await.unwrap();
        let found = found.map(|found| (found.leader_epoch.get(), found.end_offset.get()));
        assert_eq!(found, expected, "{context}: epoch {asked} in {start}..{end}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Power,
    Kill,
}

impl End {
    fn of(self, world: &World) {
        match self {
            Self::Power => world.crash_shards(),
            Self::Kill => world.kill_shards(),
        }
    }
}

/// A log before a truncation that is cut off by a crash.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    value_bytes: usize,
    count: i64,
    to: i64,
    /// The log is used for the first time since a start.
    reopened: bool,
}

const SCENARIOS: [Scenario; 6] = [
    // All of it is in the journal only.
    Scenario { value_bytes: 50, count: 8, to: 7, reopened: false },
    Scenario { value_bytes: 1000, count: 6, to: 0, reopened: false },
    // Sealed segments go, and pieces of several of them are in live rounds.
    Scenario { value_bytes: 1500, count: 20, to: 9, reopened: false },
    // Exactly where a segment ends, as the test below makes sure.
    Scenario { value_bytes: 1500, count: 20, to: 10, reopened: true },
    // Segment writes of their own.
    Scenario { value_bytes: 20_000, count: 5, to: 3, reopened: false },
    Scenario { value_bytes: 20_000, count: 5, to: 5, reopened: true },
];

/// Kills the process of machine 0 as soon as so many operations have begun.
fn kill_after(world: &World, operation_count: u64) {
    let (machine, env) = (world.machine(0), world.env(0));
    let task = async move {
        while machine.faults().operation_count(None) < operation_count {
            env.tasks().yield_now().await;
        }
        machine.kill();
    };
    world.env(0).tasks().spawn(TaskClass::Background, task);
}

/// Cuts a log in the way of `scenario`, appends to it, and lets `crash_after` operations happen before the power fails or the
/// process is killed. Returns whether all was done,
/// and how many operations that takes.
fn truncate_and_crash(scenario: Scenario, seed: u64, crash_after: Option<u64>, end: End) -> (bool, u64) {
    let Scenario { value_bytes, count, to, reopened } = scenario;
    let context = format!("{scenario:?}, seed {seed}, {end:?} after {crash_after:?}");
    let world = World::new(seed, WorldConfig::default());
    let before = batches(0, 0, count);
    let kept: Vec<_> = before.iter().copied().filter(|batch| batch.end() <= to).collect();
    let after = batches(kept.last().map_or(0, Batch::end), 100, 6);
    let fill = async |store: &Store<SimEnv>| {
        for batch in &before {
            append(store, *batch, value_bytes).await;
            send(store, NEIGHBOUR, *batch, 30).await.ticket.durable().await.unwrap();
        }
    };
    if reopened {
        world.run(async { fill(&open(&world.env(0)).await).await });
        end.of(&world);
    }
    let (cut, acknowledged, operations) = (Cell::new(false), Cell::new(0), Cell::new(0));
    let done = world.run_until_crash(async {
        let store = open(&world.env(0)).await;
        if !reopened {
            fill(&store).await;
        }
        let operations_before = world.faults().operation_count(None);
        match (crash_after, end) {
            (Some(operation), End::Power) => world.faults().crash_after(operation),
            (Some(operation), End::Kill) => kill_after(&world, operations_before + operation),
            (None, _) => {}
        }
        assert_eq!(truncate(&store, to).await.unwrap(), after[0].base, "{context}");
        cut.set(true);
        for batch in &after {
            append(&store, *batch, value_bytes).await;
            acknowledged.set(acknowledged.get() + 1);
        }
        operations.set(world.faults().operation_count(None) - operations_before);
    });
    end.of(&world);
    for f in world.disk().files() {
        let d = world.disk().read(&f).unwrap();
        if f.contains(".log") || f.contains("next") {
            eprintln!(
                "{f} {} first {:?} nonzero4096 {}",
                d.len(),
                &d[..8],
                d.get(4096..).map_or(0, |d| d.iter().take(4000).filter(|b| **b != 0).count())
            );
        }
    }
    let now = world.run(async {
        let store = open(&world.env(0)).await;
        let now = read_all(&store).await;
        assert_eq!(store.recovered().await.damage, [], "{context}");
        now
    });
    let is_cut = now.iter().zip(kept.iter().chain(&after)).all(|(found, expected)| found == expected)
        && now.len() >= kept.len() + acknowledged.get()
        && now.len() <= kept.len() + after.len();
    assert!(is_cut || (!cut.get() && now == before), "{context}: {now:?}");
    live_on(&world, end, now, value_bytes, &context);
    (done.is_ok(), operations.get())
}

/// Two more lives with appends. What is not there now is not there later either, whatever comes in its place.
fn live_on(world: &World, end: End, mut now: Vec<Batch>, value_bytes: usize, context: &str) {
    for life in 1..3 {
        end.of(world);
        now = world.run(async {
            let store = open(&world.env(0)).await;
            let mut expected = now;
            check_epochs(&store, 0, &expected, context).await;
            for batch in batches(expected.last().map_or(0, Batch::end), 200 * life, 2) {
                append(&store, batch, value_bytes).await;
                expected.push(batch);
            }
            assert_eq!(read_all(&store).await, expected, "{context}");
            expected
        });
    }
}

#[test]
fn a_crash_at_any_operation_leaves_the_log_as_it_was_or_as_it_is_to_be() {
    for (place, scenario) in SCENARIOS.into_iter().enumerate() {
        let seed = u64::try_from(place).unwrap();
        let (_, operations) = truncate_and_crash(scenario, seed, None, End::Power);
        let mut crash_count = 0;
        for operation in 1..=operations {
            for round in 0..4 {
                let (done, _) = truncate_and_crash(scenario, seed + 10 * round, Some(operation), End::Power);
                crash_count += u64::from(!done);
            }
        }
        assert!(operations > 20 && crash_count > operations * 2, "{scenario:?}: {crash_count} of {operations}");
    }
}

#[test]
fn a_kill_at_any_moment_leaves_the_log_as_it_was_or_as_it_is_to_be() {
    for (place, scenario) in SCENARIOS.into_iter().enumerate() {
        let seed = u64::try_from(place).unwrap();
        let (_, operations) = truncate_and_crash(scenario, seed, None, End::Kill);
        let kill = |operation| truncate_and_crash(scenario, seed + operation, Some(operation), End::Kill);
        let kill_count = (1..=operations).filter(|operation| !kill(*operation).0).count();
        assert!(u64::try_from(kill_count).unwrap() > operations / 2, "{scenario:?}: {kill_count} of {operations}");
    }
}

#[test]
fn a_fault_at_any_operation_is_survived() {
    for (place, scenario) in SCENARIOS.into_iter().enumerate() {
        let Scenario { value_bytes, count, to, .. } = scenario;
        let mut failed_count = 0;
        for operation in 1..60 {
            let context = format!("{scenario:?}, operation {operation} fails");
            let world = World::new(u64::try_from(place).unwrap() + operation, WorldConfig::default());
            let before = batches(0, 0, count);
            let mut now = world.run(async {
                let env = world.env(0);
                let store = open(&env).await;
                for batch in &before {
                    append(&store, *batch, value_bytes).await;
                }
                world.faults().fail_nth(None, operation, Failure::Io);
                let result = truncate(&store, to).await;
                world.faults().clear();
                failed_count += u32::from(result.is_err());
                env.clock().sleep(Duration::from_secs(20)).await;
                let mut now = read_all(&store).await;
                let kept: Vec<_> = before.iter().copied().filter(|batch| batch.end() <= to).collect();
                assert!(now == kept || (result.is_err() && now == before), "{context}: {now:?}");
                let again = truncate(&store, to).await.unwrap();
                assert_eq!(again, kept.last().map_or(0, Batch::end), "{context}");
                now = kept;
                for batch in batches(again, 100, 3) {
                    append(&store, batch, value_bytes).await;
                    now.push(batch);
                }
                assert_eq!(read_all(&store).await, now, "{context}");
                now
            });
            for life in 1..3 {
                world.crash_shards();
                now = world.run(async {
                    let store = open(&world.env(0)).await;
                    assert_eq!(read_all(&store).await, now, "{context}");
                    for batch in batches(now.last().map_or(0, Batch::end), 200 * life, 2) {
                        append(&store, batch, value_bytes).await;
                        now.push(batch);
                    }
                    now
                });
            }
        }
        assert!(failed_count > 10, "{scenario:?}: only {failed_count} truncations failed");
    }
}

/// A log in random steps against the list of its batches.
struct Walk {
    world: Rc<World>,
    value_bytes: usize,
    shard_count: u16,
    start: i64,
    model: Vec<Batch>,
    number: i64,
    epoch: i32,
}

impl Walk {
    fn end(&self) -> i64 {
        self.model.last().map_or(self.start, Batch::end)
    }

    fn below(&self, bound: u64) -> u64 {
        self.world.env(0).random().below(bound)
    }

    fn offset_from(&self, from: i64) -> i64 {
        from + i64::try_from(self.below(u64::try_from(self.end() - from + 1).unwrap())).unwrap()
    }

    /// A few steps in one life of the store, the last of which may be a stop in order.
    async fn live(&mut self, seed: u64) {
        let env = self.world.env(0);
        let store = open_shards(&env, self.shard_count).await;
        for step in 0..self.below(12) {
            let context = format!("seed {seed}, step {step}");
            match self.below(10) {
                0..=4 => self.append(&store).await,
                5..=6 => {
                    let to = self.offset_from((self.start - 3).max(0));
                    self.truncate(&store, to, &context).await;
                }
                7 => {
                    let before = self.offset_from(self.start);
                    self.start = store.delete_records(ID, Offset::new(before)).await.unwrap().get();
                }
                8 => env.clock().sleep(Duration::from_secs(1)).await,
                _ => self.epoch += 1,
            }
        }
        self.check(&store, seed).await;
        if self.below(3) == 0 {
            store.close().await.unwrap();
        }
    }

    async fn append(&mut self, store: &Store<SimEnv>) {
        let mut tickets = Vec::new();
        for _ in 0..=self.below(6) {
            let batch = Batch { base: self.end(), number: self.number, epoch: self.epoch };
            let appended = send(store, ID, batch, self.value_bytes).await;
            assert_eq!(appended.base_offset.get(), batch.base);
            tickets.push(appended.ticket);
            self.model.push(batch);
            self.number += 1;
        }
        if self.below(2) == 0 {
            send(store, NEIGHBOUR, Batch { base: 0, number: 0, epoch: 0 }, 30).await;
        }
        for ticket in tickets {
            ticket.durable().await.unwrap();
        }
    }

    async fn truncate(&mut self, store: &Store<SimEnv>, to: i64, context: &str) {
        let (start, end) = (self.start, self.end());
        let found = truncate(store, to).await.unwrap();
        if to >= end {
            assert_eq!(found, end, "{context}: nothing is cut");
            return;
        }
        let inside = self.model.iter().find(|batch| (batch.base..batch.end()).contains(&to));
        let expected = inside.map_or(to, |batch| batch.base);
        // Below the start the batch may be gone already.
        assert!(found == expected || (found == to && to < start), "{context}: {found}, not {expected}");
        self.model.retain(|batch| batch.base < found);
        self.start = start.min(found);
        if self.end() != found {
            self.model.clear();
        }
        self.check(store, 0).await;
    }

    async fn check(&self, store: &Store<SimEnv>, seed: u64) {
        let offsets = store.offsets(ID).await.unwrap();
        assert_eq!((offsets.start.get(), offsets.log_end.get()), (self.start, self.end()), "seed {seed}");
        let live: Vec<_> = self.model.iter().copied().filter(|batch| batch.end() > self.start).collect();
        assert_eq!(read_all(store).await, live, "seed {seed}");
        check_epochs(store, self.start, &live, &format!("seed {seed}")).await;
    }
}

#[test]
fn a_log_in_random_steps_is_the_list_of_its_batches() {
    for seed in 0..150 {
        let world = Rc::new(World::new(seed, WorldConfig::default()));
        let value_bytes = [60, 700, 3_000, 20_000][usize::try_from(seed % 4).unwrap()];
        let model = Vec::new();
        let mut walk =
            Walk { world: Rc::clone(&world), value_bytes, shard_count: 1, start: 0, model, number: 0, epoch: 0 };
        for life in 0..6 {
            let world = Rc::clone(&walk.world);
            world.run(walk.live(seed));
            if (seed + life) % 2 == 0 {
                world.crash_shards();
            } else {
                world.kill_shards();
            }
            walk.shard_count = [1, 1, 3, 2][usize::try_from(walk.below(4)).unwrap()];
        }
        let world = Rc::clone(&walk.world);
        world.run(async {
            let store = open_shards(&world.env(0), walk.shard_count).await;
            walk.check(&store, seed).await;
            assert_eq!(store.recovered().await.damage, [], "seed {seed}");
        });
    }
}
