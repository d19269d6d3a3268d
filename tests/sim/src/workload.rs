//! What clients do to the logs in one life: writers that append without waiting, readers, pauses.
//!
//! Batches of one log are often of one size on purpose: only then could an old batch, cut off by a recovery, stand exactly
//! where a new one is expected.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId, TopicId};
use millrace_engine::store::{AppendError, FirstBatch, Ticket};
use millrace_protocol::batch::BatchView;
use millrace_runtime::sim::{Machine, SimEnv};
use millrace_runtime::{Clock, Env, TaskClass, TaskHandle, Tasks};

use crate::batches::{self, BYTES_MIN};
use crate::broker::Broker;
use crate::check;
use crate::dice::Dice;
use crate::model::{Model, Sent};

/// What the writers of one life do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// One for each writer; a partition may have two.
    pub writers: Vec<Writer>,
    /// The leader epoch of this life.
    pub epoch: LeaderEpoch,
    /// Whether the disk fails in this life: then logs may go offline, and say so.
    pub disk_fails: bool,
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
    fn draw(dice: &Dice) -> Self {
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

/// The partition of a small number; neighbours may belong to different shards.
pub fn partition(number: usize) -> PartitionId {
    let number = u8::try_from(number).expect("a handful of partitions");
    PartitionId { topic: TopicId::from_bytes([number / 3; 16]), partition: i32::from(number % 3) }
}

impl Workload {
    /// Writers over the first `partition_count` partitions, `batch_count` batches each or so.
    pub fn draw(dice: &Dice, partition_count: usize, batch_count: usize, epoch: LeaderEpoch) -> Self {
        let mut writers = Vec::new();
        // Pieces that just fit the journal: a handful of them fills its ring faster than a checkpoint can empty it.
        let crowded = dice.one_in(4);
        for number in 0..partition_count {
            let sizes = if crowded { Sizes::Between(8_000, 31_000) } else { Sizes::draw(dice) };
            for _ in 0..dice.pick(&[0, 1, 1, 1, 2]) {
                writers.push(Writer {
                    partition: partition(number),
                    sizes,
                    batch_count: dice.size(1, batch_count),
                    waits_one_in: if crowded { 1 } else { dice.pick(&[1, 3, 20]) },
                    pauses_one_in: if crowded { 100 } else { dice.pick(&[2, 8, 100]) },
                    reads_one_in: dice.pick(&[3, 10]),
                });
            }
        }
        Self { writers, epoch, disk_fails: false }
    }

    /// Runs all writers to their end, answers included.
    ///
    /// # Panics
    /// When the engine does anything that the model does not allow.
    pub async fn run(&self, machine: &Machine, broker: &Broker, model: &Model, dice: &Dice) {
        let env = machine.env(0);
        let tasks: Vec<_> = self
            .writers
            .iter()
            .map(|writer| {
                let (broker, model) = (broker.clone(), model.clone());
                let session = Session {
                    env: env.clone(),
                    broker,
                    model,
                    dice: dice.split(),
                    epoch: self.epoch,
                    disk_fails: self.disk_fails,
                    unanswered: Rc::default(),
                };
                env.tasks().spawn(TaskClass::Network, session.run(*writer))
            })
            .collect();
        for task in tasks {
            task.join().await;
        }
    }
}

/// One writer at work.
struct Session {
    env: SimEnv,
    broker: Broker,
    model: Model,
    dice: Dice,
    epoch: LeaderEpoch,
    disk_fails: bool,
    unanswered: Rc<Cell<usize>>,
}

impl Session {
    async fn run(self, writer: Writer) {
        let id = writer.partition;
        self.pause().await;
        self.broker.store(id).create(id, LogConfig::default());
        let mut answers = Vec::new();
        for _ in 0..writer.batch_count {
            if self.dice.one_in(writer.pauses_one_in) {
                self.pause().await;
            }
            if self.dice.one_in(writer.reads_one_in) && !self.read(id).await {
                break;
            }
            if self.dice.one_in(2) {
                self.broker.store(id).room().await;
            }
            let Some(answer) = self.append(id, writer.sizes.bytes(&self.dice)).await else { break };
            self.unanswered.set(self.unanswered.get() + 1);
            let task = self.env.tasks().spawn(TaskClass::Network, answer.wait());
            if self.dice.one_in(writer.waits_one_in) {
                task.join().await;
            } else {
                answers.push(task);
            }
        }
        for task in answers {
            task.join().await;
        }
        assert_eq!(self.unanswered.get(), 0, "{id}: every append is answered");
        self.check_offline(id);
    }

    async fn pause(&self) {
        let microseconds = if self.dice.one_in(6) { self.dice.below(20_000) } else { self.dice.below(800) };
        self.env.clock().sleep(Duration::from_micros(microseconds)).await;
    }

    /// `None` when the log takes no more, as it may when the disk fails or the store is closing.
    async fn append(&self, id: PartitionId, bytes: usize) -> Option<Answer> {
        let identity = self.model.identity();
        let records = if self.dice.one_in(3) { self.dice.size(1, 5) } else { 1 };
        let bytes = batches::build(identity, bytes, records);
        let batch = BatchView::parse(&bytes).expect("the builder builds valid batches");
        let store = self.broker.store(id);
        let appended = match store.append(id, &batch, self.epoch).await {
            Ok(appended) => appended,
            Err(AppendError::Closing) => return None,
            Err(AppendError::Offline(failure)) => {
                assert!(self.may_fail(id), "{id}: offline although the disk works: {failure}");
                return None;
            }
            Err(error) => panic!("{id}: {error}"),
        };
        let base = appended.base_offset;
        let end = base.checked_add(batch.header().last_offset() - batch.header().base_offset.get() + 1);
        let end = end.expect("offsets of a test are small");
        let sent = Sent { identity, bytes: bytes.into(), base, end, epoch: self.epoch };
        let count = self.model.take(id, sent);
        let (model, unanswered) = (self.model.clone(), Rc::clone(&self.unanswered));
        let (broker, disk_fails) = (self.broker.clone(), self.disk_fails);
        Some(Answer { broker, model, id, count, ticket: appended.ticket, unanswered, disk_fails })
    }

    /// False when the log is offline.
    async fn read(&self, id: PartitionId) -> bool {
        let Ok(offsets) = self.broker.store(id).offsets(id).await else { return true };
        let from = Offset::new(check::dice_offset(&self.dice, offsets.high_watermark));
        let bytes_max = self.dice.pick(&[1, 200, 5_000, 50_000, 1_000_000]);
        let first = self.dice.pick(&[FirstBatch::WholeEvenIfLarger, FirstBatch::WithinLimit]);
        match check::read_once(&self.broker, &self.model, id, from, bytes_max, first).await {
            Ok(_) => true,
            Err(check::Admitted(what)) => {
                assert!(self.may_fail(id), "{id}: {what}");
                false
            }
        }
    }

    fn may_fail(&self, id: PartitionId) -> bool {
        self.disk_fails || self.model.is_suspect(id)
    }

    fn check_offline(&self, id: PartitionId) {
        if let Some(failure) = self.broker.store(id).failure(id) {
            assert!(self.may_fail(id), "{id}: offline although the disk works: {failure}");
        }
    }
}

/// An answer that is awaited.
struct Answer {
    broker: Broker,
    model: Model,
    id: PartitionId,
    /// Batches of the log up to and including this one.
    count: usize,
    ticket: Ticket,
    unanswered: Rc<Cell<usize>>,
    disk_fails: bool,
}

impl Answer {
    async fn wait(self) {
        match self.ticket.durable().await {
            Ok(()) => self.model.with(self.id, |log| log.promise(self.count)),
            Err(failure) => {
                assert!(self.disk_fails, "{}: not durable although the disk works: {failure}", self.id);
                let reported = self.broker.store(self.id).failure(self.id);
                assert!(reported.is_some(), "{}: an append failed, but the log is not offline", self.id);
            }
        }
        self.unanswered.set(self.unanswered.get() - 1);
    }
}
