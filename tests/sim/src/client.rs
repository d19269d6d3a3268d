//! One client's way to the logs: it appends and reads, and tells the model what became of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use millrace_engine::log::Failure;
use millrace_engine::log::config::{FlushPolicy, LogConfig};
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId};
use millrace_engine::producer_state::SequenceError;
use millrace_engine::store::{AppendError, FirstBatch, Ticket};
use millrace_protocol::batch::BatchView;
use millrace_runtime::sim::{Machine, SimEnv};
use millrace_runtime::{Clock, Env, TaskClass, Tasks};

use crate::broker::Broker;
use crate::check::{self, Admitted, Moment};
use crate::dice::Dice;
use crate::keyed::Keyed;
use crate::model::{Model, Promise, Sent};

/// After this long without the disk's help, what was written under `flush.policy=interval` has been flushed for sure, on
/// top of the interval itself.
const FLUSH_SLACK: Duration = Duration::from_millis(400);
/// Tries until a log has to be back online. The pauses between them double up to [`PAUSE_MAX`].
const TRIES_MAX: u32 = 60;
const PAUSE_MAX: Duration = Duration::from_millis(200);

/// What the disk may do to the clients of one life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// An operation may fail: then a log may be offline for a while, and lose what nobody was promised.
    pub disk_fails: bool,
    /// That operation may be a flush.
    pub flush_fails: bool,
    /// See [`crate::broker::Tuning::flush_interval`].
    pub flush_interval: Duration,
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// Who it is.
    pub identity: u64,
    /// As the producer sends it.
    pub bytes: Rc<[u8]>,
    /// See [`Sent::keyed`].
    pub keyed: Rc<[Keyed]>,
    /// See [`Sent::follows`].
    pub follows: Option<u64>,
}

/// Why a batch was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The log is offline.
    Offline(Failure),
    /// The disk says that it is full.
    Full,
    /// A batch before it is missing.
    Sequence(SequenceError),
    /// The store is being closed, or the log was deleted.
    Closing,
}

/// A client. Clones are the same client.
#[derive(Clone)]
pub struct Client {
    /// The shard its tasks run on.
    pub env: SimEnv,
    /// Where it sends.
    pub broker: Broker,
    /// The truth.
    pub model: Model,
    /// Where its choices come from.
    pub dice: Rc<Dice>,
    /// The leader epoch of this life.
    pub epoch: LeaderEpoch,
    /// What it has to expect.
    pub weather: Weather,
    /// Batches that were taken and not answered.
    pub unanswered: Rc<Cell<usize>>,
}

impl Client {
    /// A client of `broker` in a life with this leader epoch and weather.
    pub fn new(
        machine: &Machine,
        broker: &Broker,
        model: &Model,
        dice: &Dice,
        (epoch, weather): (LeaderEpoch, Weather),
    ) -> Self {
        Self {
            env: machine.env(0),
            broker: broker.clone(),
            model: model.clone(),
            dice: Rc::new(dice.split()),
            epoch,
            weather,
            unanswered: Rc::default(),
        }
    }

    /// Makes a log known to the broker and the model.
    pub fn create(&self, id: PartitionId, config: &LogConfig) {
        let acknowledged = match config.flush_policy {
            FlushPolicy::Commit => Promise::Flushed,
            FlushPolicy::Interval | FlushPolicy::None if self.weather.flush_fails => Promise::Nothing,
            FlushPolicy::Interval => Promise::Soon,
            FlushPolicy::None => Promise::Written,
        };
        self.model.with(id, |log| {
            log.acknowledged = acknowledged;
            log.cleanup.advance(self.now_ms());
            log.configure(config);
        });
        self.broker.store(id).create(id, config.clone());
    }

    /// Sends a batch once.
    ///
    /// # Panics
    /// When the engine refuses it although nothing is wrong.
    pub async fn append(&self, id: PartitionId, parcel: &Parcel) -> Result<Answer, Refused> {
        let batch = BatchView::parse(&parcel.bytes).expect("the builder builds valid batches");
        self.note_failure(id);
        self.model.advance(self.now_ms());
        let appended = match self.broker.store(id).append(id, &batch, self.epoch).await {
            Ok(appended) => appended,
            Err(AppendError::Closing) => return Err(Refused::Closing),
            Err(AppendError::UnknownLog | AppendError::Offline(_)) if self.model.is_deleted(id) => {
                return Err(Refused::Closing);
            }
            Err(AppendError::DiskFull { .. }) if self.weather.disk_fails => return Err(Refused::Full),
            Err(AppendError::Sequence(error)) if self.weather.disk_fails => return Err(Refused::Sequence(error)),
            Err(AppendError::Offline(failure)) => {
                assert!(self.may_fail(id), "{id}: offline although the disk works: {failure}");
                return Err(Refused::Offline(failure));
            }
            Err(error) => panic!("{id}: batch {}: {error}", parcel.identity),
        };
        let base = appended.base_offset;
        let end = base.checked_add(batch.header().last_offset() - batch.header().base_offset.get() + 1);
        let end = end.expect("offsets of a test are small");
        let Parcel { identity, bytes, keyed, follows } = parcel.clone();
        let sent = Sent { identity, bytes, keyed, base, end, epoch: self.epoch, follows };
        self.model.take(id, sent, self.weather.disk_fails);
        self.unanswered.set(self.unanswered.get() + 1);
        Ok(Answer { client: self.clone(), id, identity, ticket: appended.ticket })
    }

    /// Sends a batch until it is taken. `None` when that cannot be: the store is closing, or the log is damaged.
    ///
    /// # Panics
    /// When the log does not come back.
    pub async fn append_until_taken(&self, id: PartitionId, parcel: &Parcel) -> Option<Answer> {
        for tries in 0..TRIES_MAX {
            match self.append(id, parcel).await {
                Ok(answer) => return Some(answer),
                Err(Refused::Closing) => return None,
                Err(Refused::Full) => {
                    if self.broker.is_closing() {
                        return None;
                    }
                    self.back_off(tries).await;
                }
                Err(Refused::Sequence(error)) => panic!("{id}: batch {}: {error}", parcel.identity),
                Err(Refused::Offline(failure)) => {
                    if self.gives_up(id, &failure) {
                        return None;
                    }
                    self.back_off(tries).await;
                }
            }
        }
        panic!("{id}: the log stays offline although the disk works again");
    }

    /// Compares a whole log in the middle of a life in which the disk fails and nobody appends just now: it has to come
    /// back, and be right.
    ///
    /// # Panics
    /// When it is not.
    pub async fn compare(&self, id: PartitionId) {
        for tries in 0..TRIES_MAX {
            self.note_failure(id);
            self.model.advance(self.now_ms());
            match check::log(&self.broker, &self.model, id, &self.dice, Moment::Running).await {
                Ok(()) => return,
                Err(Admitted(failure)) => {
                    assert!(self.may_fail(id), "{id}: {failure}");
                    if self.gives_up(id, &failure) {
                        return;
                    }
                    self.back_off(tries).await;
                }
            }
        }
        panic!("{id}: the log stays offline although the disk works again");
    }

    fn gives_up(&self, id: PartitionId, failure: &Failure) -> bool {
        let damaged = matches!(failure, Failure::Corrupt(_));
        assert!(!damaged || self.model.is_suspect(id), "{id}: nothing was damaged, but {failure}");
        damaged || self.broker.is_closing()
    }

    /// A pause before the next try.
    pub async fn back_off(&self, tries: u32) {
        let pause = Duration::from_millis(1).saturating_mul(2_u32.saturating_pow(tries));
        self.env.clock().sleep(pause.min(PAUSE_MAX)).await;
    }

    /// A while without anything.
    pub async fn pause(&self) {
        let microseconds = if self.dice.one_in(6) { self.dice.below(20_000) } else { self.dice.below(800) };
        self.env.clock().sleep(Duration::from_micros(microseconds)).await;
    }

    /// Reads somewhere in a log.
    pub async fn read(&self, id: PartitionId) {
        self.note_failure(id);
        let start = self.model.with(id, |log| log.start);
        let Ok(offsets) = self.broker.store(id).offsets(id).await else { return };
        self.model.advance(self.now_ms());
        self.model.with(id, |log| log.see_start(start, offsets.start)).unwrap_or_else(|wrong| panic!("{id}: {wrong}"));
        let from = Offset::new(check::dice_offset(&self.dice, offsets.high_watermark));
        let bytes_max = self.dice.pick(&[1, 200, 5_000, 50_000, 1_000_000]);
        let first = self.dice.pick(&[FirstBatch::WholeEvenIfLarger, FirstBatch::WithinLimit]);
        if let Err(Admitted(failure)) = check::read_once(&self.broker, &self.model, id, from, bytes_max, first).await {
            assert!(self.may_fail(id), "{id}: {failure}");
            self.gives_up(id, &failure);
        }
    }

    /// The time, in milliseconds since the epoch.
    pub fn now_ms(&self) -> i64 {
        self.env.clock().unix_ms()
    }

    fn may_fail(&self, id: PartitionId) -> bool {
        self.weather.disk_fails || self.model.is_suspect(id) || self.model.is_deleted(id)
    }

    /// Deletes the records below some offset.
    pub async fn delete_records(&self, id: PartitionId) {
        let store = self.broker.store(id);
        let Ok(offsets) = store.offsets(id).await else { return };
        let span = Offset::new(offsets.high_watermark.get() - offsets.start.get());
        let before = Offset::new(offsets.start.get() + check::dice_offset(&self.dice, span));
        self.model.with(id, |log| log.start_asked = log.start_asked.max(before));
        match store.delete_records(id, before).await {
            Ok(start) => {
                assert!(start >= before, "{id}: deleted below {before}, and it starts at {start}");
                self.model.with(id, |log| log.start = log.start.max(before));
            }
            Err(error) => {
                let may_fail = self.may_fail(id) || self.broker.is_closing();
                assert!(may_fail, "{id}: deleting below {before}: {error}");
            }
        }
    }

    /// Deletes the present log of a partition.
    pub fn delete(&self, partition: PartitionId, id: PartitionId) {
        if self.model.delete(partition, id) {
            self.broker.store(id).delete(id);
        }
    }

    /// A log is offline only if it may be.
    pub fn note_failure(&self, id: PartitionId) {
        if let Some(failure) = self.broker.store(id).failure(id) {
            assert!(self.may_fail(id), "{id}: offline although the disk works: {failure}");
        }
    }
}

/// An answer that is awaited.
pub struct Answer {
    client: Client,
    id: PartitionId,
    identity: u64,
    ticket: Ticket,
}

impl Answer {
    /// Waits for the answer and says whether it is a good one.
    ///
    /// # Panics
    /// When it is a bad one although the disk works, or a good one to a batch that the engine dropped.
    pub async fn wait(self) -> bool {
        let Self { client, id, identity, ticket } = self;
        let acknowledged = ticket.durable().await;
        client.unanswered.set(client.unanswered.get() - 1);
        match acknowledged {
            Ok(()) => {
                client.model.with(id, |log| {
                    let index = log.position(identity);
                    let index = index.unwrap_or_else(|| panic!("{id}: batch {identity} is acknowledged and dropped"));
                    log.promise(index + 1);
                });
                client.expect_flush(id, identity);
                true
            }
            Err(failure) => {
                let deleted = client.model.is_deleted(id);
                assert!(client.weather.disk_fails || deleted, "{id}: not durable although the disk works: {failure}");
                false
            }
        }
    }
}

impl Client {
    /// What is acknowledged under `flush.policy=interval` is on the device soon after.
    fn expect_flush(&self, id: PartitionId, identity: u64) {
        let soon = self.model.with(id, |log| log.acknowledged == Promise::Soon);
        if soon && !self.weather.disk_fails && self.dice.one_in(4) {
            let (client, due) = (self.clone(), self.weather.flush_interval + FLUSH_SLACK);
            self.env.tasks().spawn(TaskClass::Network, async move {
                client.env.clock().sleep(due).await;
                client.model.with(id, |log| log.promise_flushed(identity));
            });
        }
    }
}
