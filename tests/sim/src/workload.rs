//! What clients do to the logs in one life: writers that append without waiting, readers, pauses.
//!
//! Batches of one log are often of one size on purpose: only then could an old batch, cut off by a recovery, stand exactly
//! where a new one is expected.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use millrace_engine::log::config::{CleanupPolicy, FlushPolicy, LogConfig};
use millrace_engine::model::{LeaderEpoch, PartitionId, TopicId};
use millrace_runtime::sim::Machine;
use millrace_runtime::{Env, TaskClass, TaskHandle, Tasks};

use crate::batches::{self, BYTES_MIN};
use crate::broker::Broker;
use crate::client::{Client, Parcel, Weather};
use crate::dice::Dice;
use crate::keyed;
use crate::model::Model;

/// The topics of [`partition`] whose first byte is below are not compacted.
const TOPICS_NOT_COMPACTED: u8 = 4;

/// What the writers of one life do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// One for each writer; a partition may have two.
    pub writers: Vec<Writer>,
    /// How their logs are configured; the default for others.
    pub configs: Configs,
    /// The leader epoch of this life.
    pub epoch: LeaderEpoch,
}

/// Configurations of logs.
#[derive(Clone, Debug, Default)]
pub struct Configs(BTreeMap<PartitionId, LogConfig>);

impl Configs {
    /// Configurations for these partitions: small segments, any flush policy, often little that is kept.
    pub fn draw(dice: &Dice, partitions: &[PartitionId]) -> Self {
        Self(partitions.iter().map(|partition| (*partition, draw_config(dice, *partition))).collect())
    }

    /// The same, but everything acknowledged is on the device.
    #[must_use]
    pub fn committed(mut self) -> Self {
        self.0.values_mut().for_each(|config| config.flush_policy = FlushPolicy::Commit);
        self
    }

    /// The same, but no log loses anything by itself.
    #[must_use]
    pub fn keeping(mut self) -> Self {
        for config in self.0.values_mut() {
            config.cleanup_policy = CleanupPolicy::Delete;
            (config.retention_bytes, config.retention_age_max) = (None, None);
        }
        self
    }

    /// A configuration for one log.
    pub fn only(id: PartitionId, config: LogConfig) -> Self {
        Self(BTreeMap::from([(id, config)]))
    }

    /// The configuration of one log.
    pub fn of(&self, id: PartitionId) -> LogConfig {
        self.0.get(&id).cloned().unwrap_or_default()
    }
}

fn draw_config(dice: &Dice, partition: PartitionId) -> LogConfig {
    let cleanup_policy = match is_compacted(partition) {
        true if dice.one_in(4) => CleanupPolicy::CompactAndDelete,
        true => CleanupPolicy::Compact,
        false => CleanupPolicy::Delete,
    };
    let bounded = dice.one_in(2);
    LogConfig {
        flush_policy: dice.pick(&[
            FlushPolicy::Commit,
            FlushPolicy::Commit,
            FlushPolicy::Commit,
            FlushPolicy::Interval,
            FlushPolicy::None,
        ]),
        cleanup_policy,
        segment_bytes: dice.pick(&[16, 16, 32, 64, 100, 256, 1 << 20]) * 1024,
        // Identities count milliseconds.
        segment_age_max: Duration::from_millis(dice.pick(&[40, 300, 1 << 40, 1 << 40, 1 << 40])),
        retention_bytes: dice.pick(&[None, Some(1), Some(30_000), Some(100_000)]).filter(|_| bounded),
        retention_age_max: dice
            .pick(&[None, Some(10), Some(60), Some(1000)])
            .filter(|_| bounded)
            .map(Duration::from_millis),
        tombstone_age_max: Duration::from_millis(dice.pick(&[0, 10, 1 << 40])),
        compaction_lag_min: Duration::from_millis(dice.pick(&[0, 0, 0, 15])),
        dirty_permille_min: dice.pick(&[0, 0, 100, 500]),
        ..LogConfig::default()
    }
}

/// What one writer does.
#[derive(Clone, Copy, Debug)]
pub struct Writer {
    /// Its partition.
    pub partition: PartitionId,
    /// Sizes of its batches.
    pub sizes: Sizes,
    /// Batches that it sends.
    pub batch_count: usize,
    /// It waits for an answer once in so many batches.
    pub waits_one_in: u64,
    /// It pauses once in so many batches.
    pub pauses_one_in: u64,
    /// It reads once in so many batches.
    pub reads_one_in: u64,
    /// It deletes records once in so many batches, from the start of the log.
    pub deletes_one_in: u64,
    /// It deletes the log in the end.
    pub deletes_log: bool,
}

/// Sizes of batches, in bytes.
#[derive(Clone, Copy, Debug)]
pub enum Sizes {
    /// All the same.
    Equal(usize),
    /// Anything between, both included.
    Between(usize, usize),
}

impl Sizes {
    /// Some sizes.
    pub fn draw(dice: &Dice) -> Self {
        match dice.below(16) {
            0..=2 => Self::Equal(dice.pick(&[100, 512, 600])),
            3..=4 => Self::Equal(dice.pick(&[1024, 2048, 4096, 5000])),
            5 => Self::Equal(dice.pick(&[8192, 16_384, 32_768, 33_000])),
            6..=9 => Self::Between(BYTES_MIN, 3_000),
            10..=12 => Self::Between(BYTES_MIN, 40_000),
            13..=14 => Self::Between(20_000, 70_000),
            _ => Self::Between(BYTES_MIN, 300_000),
        }
    }

    /// A size.
    pub fn bytes(self, dice: &Dice) -> usize {
        match self {
            Self::Equal(bytes) => bytes,
            Self::Between(least, most) => dice.size(least, most),
        }
    }
}

/// The log that takes the place of the partition of the same number where it is compacted.
pub fn compacted(number: usize) -> PartitionId {
    partition(number + 3 * usize::from(TOPICS_NOT_COMPACTED))
}

/// Whether a partition's logs are to be compacted. That is so from the first to the last life.
fn is_compacted(partition: PartitionId) -> bool {
    partition.topic.as_bytes()[0] % 16 >= TOPICS_NOT_COMPACTED
}

/// The partition of a small number; neighbours may belong to different shards.
pub fn partition(number: usize) -> PartitionId {
    let number = u8::try_from(number).expect("a handful of partitions");
    PartitionId { topic: TopicId::from_bytes([number / 3; 16]), partition: i32::from(number % 3) }
}

impl Workload {
    /// Writers over the first `partition_count` partitions, `batch_count` batches each or so.
    pub fn draw(dice: &Dice, partition_count: usize, batch_count: usize, epoch: LeaderEpoch) -> Self {
        let mut writers = Vec::new();
        let mut partitions = Vec::new();
        // Pieces that just fit the journal: a handful of them fills its ring faster than a checkpoint can empty it.
        let crowded = dice.one_in(4);
        for number in 0..partition_count {
            let partition = if dice.one_in(3) { compacted(number) } else { partition(number) };
            partitions.push(partition);
            let sizes = if crowded { Sizes::Between(8_000, 31_000) } else { Sizes::draw(dice) };
            for _ in 0..dice.pick(&[0, 1, 1, 1, 2]) {
                writers.push(Writer {
                    partition,
                    sizes,
                    batch_count: dice.size(1, batch_count),
                    waits_one_in: if crowded { 1 } else { dice.pick(&[1, 3, 20]) },
                    pauses_one_in: if crowded { 100 } else { dice.pick(&[2, 8, 100]) },
                    reads_one_in: dice.pick(&[3, 10]),
                    deletes_one_in: dice.pick(&[8, 30, u64::MAX, u64::MAX]),
                    deletes_log: dice.one_in(8),
                });
            }
        }
        Self { writers, configs: Configs::draw(dice, &partitions), epoch }
    }

    /// Runs all writers to their end, answers included.
    ///
    /// # Panics
    /// When the engine does anything that the model does not allow.
    pub async fn run(&self, machine: &Machine, broker: &Broker, model: &Model, dice: &Dice, weather: Weather) {
        let write = |writer: &Writer| {
            let client = Client::new(machine, broker, model, dice, (self.epoch, weather));
            let env = client.env.clone();
            env.tasks().spawn(TaskClass::Network, write(client, *writer, self.configs.of(writer.partition)))
        };
        let tasks: Vec<_> = self.writers.iter().map(write).collect();
        for task in tasks {
            task.join().await;
        }
    }
}

/// One writer at work.
async fn write(client: Client, writer: Writer, config: LogConfig) {
    let (id, dice) = (client.model.present(writer.partition), Rc::clone(&client.dice));
    client.pause().await;
    if client.model.is_deleted(id) {
        return;
    }
    client.create(id, &config);
    let mut answers = Vec::new();
    for _ in 0..writer.batch_count {
        if dice.one_in(writer.pauses_one_in) {
            client.pause().await;
        }
        if dice.one_in(writer.reads_one_in) {
            client.read(id).await;
        }
        if dice.one_in(writer.deletes_one_in) {
            client.delete_records(id).await;
        }
        if dice.one_in(2) {
            client.broker.store(id).room().await;
        }
        let identity = client.model.identity();
        let bytes = writer.sizes.bytes(&dice);
        let (bytes, keyed) = if config.cleanup_policy.compacts() {
            keyed::draw(&dice, identity, client.now_ms(), bytes)
        } else {
            let records = if dice.one_in(3) { dice.size(1, 5) } else { 1 };
            (batches::build(identity, bytes, records).into(), [].into())
        };
        let Some(answer) = client.append_until_taken(id, &Parcel { identity, bytes, keyed, follows: None }).await
        else {
            break;
        };
        let task = client.env.tasks().spawn(TaskClass::Network, answer.wait());
        if dice.one_in(writer.waits_one_in) {
            task.join().await;
        } else {
            answers.push(task);
        }
    }
    if writer.deletes_log {
        client.delete(writer.partition, id);
    }
    for task in answers {
        task.join().await;
    }
    assert_eq!(client.unanswered.get(), 0, "{id}: every append is answered");
    client.note_failure(id);
}
