//! Tests of the tests: what is broken on purpose is noticed, and a seed repeats bit for bit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use millrace_engine::log::config::{CleanupPolicy, LogConfig};
use millrace_engine::model::{Offset, PartitionId};
use millrace_sim::batches;
use millrace_sim::broker::{DIRECTORY, Tuning};
use millrace_sim::cleanup::Cleanup;
use millrace_sim::dice::Dice;
use millrace_sim::keyed::{self, Keyed};
use millrace_sim::life::{Ending, Life, Outcome, Subject, epoch, world};
use millrace_sim::model::{Model, Sent};
use millrace_sim::workload::{Configs, Sizes, Workload, Writer, compacted, partition};
use millrace_sim::{damage, faults, lives, sweep};

/// Runs `body` for a number of seeds and returns how many times it panicked.
fn panics(seeds: u64, body: impl Fn(u64)) -> u64 {
    let noticed = (0..seeds).filter(|seed| catch_unwind(AssertUnwindSafe(|| body(*seed))).is_err());
    u64::try_from(noticed.count()).expect("at most as many as there are seeds")
}

/// A life with one writer, who waits for every answer.
fn life(seed: u64, sizes: Sizes, ending: Ending) -> Life {
    let partition = partition(0);
    let writer = Writer {
        partition,
        sizes,
        batch_count: 20,
        waits_one_in: 1,
        pauses_one_in: 10,
        reads_one_in: 10,
        deletes_one_in: u64::MAX,
        deletes_log: false,
    };
    Life {
        tuning: Tuning::draw(&Dice::new(seed, 1), 1),
        workload: Workload { writers: vec![writer], configs: Configs::default(), epoch: epoch(0) },
        dice_seed: seed,
        ending,
        fault: None,
    }
}

/// A life whose writer's log is configured so, with upkeep every few milliseconds.
fn kept_small(seed: u64, partition: PartitionId, config: &LogConfig) -> Life {
    let mut life = life(seed, Sizes::Equal(3_000), Ending::Close);
    life.tuning.upkeep_interval = Duration::from_millis(3);
    life.workload.writers[0].partition = partition;
    life.workload.configs = Configs::only(partition, LogConfig { segment_bytes: 16 * 1024, ..config.clone() });
    life
}

/// Where the segment of the writer's partition is.
fn segment() -> String {
    format!("{DIRECTORY}/logs/{}/00000000000000000000.log", partition(0).directory_name())
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    for scenario in [lives::run, sweep::run, faults::run, damage::run] {
        for seed in [3, 4] {
            assert_eq!(scenario(seed), scenario(seed));
        }
        assert_ne!(scenario(3), scenario(4));
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_noticed() {
    let noticed = panics(20, |seed| {
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        subject.live(&life(seed, Sizes::Equal(600), Ending::Close));
        world.faults().ignore_syncs(true);
        subject.live(&life(seed, Sizes::Between(100, 50_000), Ending::PowerLossAt(60)));
        subject.live(&life(seed, Sizes::Equal(600), Ending::Close));
    });
    assert!(noticed >= 15, "a disk that lies was noticed in {noticed} of 20 runs");
}

#[test]
fn a_batch_that_is_gone_is_noticed() {
    let noticed = panics(10, |seed| {
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        subject.live(&life(seed, Sizes::Equal(600), Ending::Close));
        // Somebody was told of a batch that the engine never got.
        let bytes = batches::build(u64::MAX / 2, 600, 1);
        model.with(partition(0), |log| {
            let base = log.end();
            let end = Offset::new(base.get() + 1);
            log.sent.push(Sent {
                identity: 0,
                bytes: bytes.into(),
                keyed: [].into(),
                base,
                end,
                epoch: epoch(0),
                follows: None,
            });
            log.promise(log.sent.len());
        });
        subject.live(&life(seed, Sizes::Equal(600), Ending::Close));
    });
    assert_eq!(noticed, 10);
}

#[test]
fn a_batch_that_was_cut_and_comes_back_is_noticed() {
    let noticed = panics(10, |seed| {
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        let writes = life(seed, Sizes::Equal(512), Ending::PowerLossAt(10_000));
        assert_eq!(subject.live(&writes), Outcome::Crashed);
        subject.live(&writes.idle());
        // As if the last batch had been cut and another one of its size appended: the disk still holds the old one.
        model.with(partition(0), |log| {
            let last = log.sent.last_mut().expect("twenty were sent");
            last.bytes = batches::build(u64::MAX / 2, last.bytes.len(), 1).into();
        });
        subject.live(&writes.idle());
    });
    assert_eq!(noticed, 10);
}

#[test]
fn bytes_that_changed_are_noticed() {
    let noticed = panics(10, |seed| {
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        let writes = life(seed, Sizes::Equal(512), Ending::Close);
        subject.live(&writes);
        world.disk().flip_bit(segment(), 4096 + 300, 2);
        subject.live(&writes.idle());
    });
    assert_eq!(noticed, 10);
}

#[test]
fn records_that_retention_should_have_kept_are_noticed() {
    let noticed = panics(10, |seed| {
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        let config = LogConfig { retention_bytes: Some(10_000), ..LogConfig::default() };
        let writes = kept_small(seed, partition(0), &config);
        subject.live(&writes);
        model.with(partition(0), |log| {
            assert!(log.start > Offset::ZERO, "retention has done something");
            // As if it had been told to keep everything, and nobody had seen that it does not.
            log.cleanup = Cleanup::default();
            (log.start, log.start_asked) = (Offset::ZERO, Offset::ZERO);
        });
        subject.live(&writes.idle());
    });
    assert_eq!(noticed, 10);
}

#[test]
fn a_start_that_falls_back_is_noticed() {
    let noticed = panics(10, |seed| {
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        let config = LogConfig { retention_bytes: Some(10_000), ..LogConfig::default() };
        let writes = kept_small(seed, partition(0), &config);
        subject.live(&writes);
        // Somebody was told of a start that the engine never had.
        model.with(partition(0), |log| (log.start, log.start_asked) = (log.end(), log.end()));
        subject.live(&writes.idle());
    });
    assert_eq!(noticed, 10);
}

#[test]
fn a_value_that_compaction_should_have_kept_is_noticed() {
    let noticed = panics(10, |seed| {
        let (world, model) = (world(seed), Model::default());
        let mut subject = Subject::new(&world, &model);
        let cleanup_policy = CleanupPolicy::Compact;
        let config = LogConfig { cleanup_policy, dirty_permille_min: 0, ..LogConfig::default() };
        let writes = kept_small(seed, compacted(0), &config);
        subject.live(&writes);
        // As if what others replaced in the first half had had keys of its own. It is gone: nothing else gives it away.
        model.with(compacted(0), |log| {
            let half = log.sent.len() / 2;
            let newest = keyed::newest(&log.sent[..half]);
            for batch in &mut log.sent[..half] {
                let offsets = (batch.base.get()..).map(Offset::new);
                let own_key = |(offset, record): (Offset, &Keyed)| {
                    let replaced = newest[&record.key] > offset;
                    Keyed { key: record.key + if replaced { 100 } else { 0 }, ..record.clone() }
                };
                batch.keyed = offsets.zip(batch.keyed.iter()).map(own_key).collect();
            }
        });
        subject.live(&writes.idle());
    });
    assert_eq!(noticed, 10);
}
