//! The logs of one shard and the rounds that make them durable.
//!
//! # A round
//!
//! Everything appended since the last round becomes durable together, as soon as the last round has ended; no timer
//! delays it. A round
//!
//! 1. takes the logs with something to write, up to `round_bytes_max`;
//! 2. seals the tails of logs that have [`INLINE_BYTES_MAX`] or more outside their segment and writes them there; the
//!    others' new bytes go, as pieces, into one write to the journal, which also notes how far earlier rounds brought each
//!    log in its segment; all these writes run at once;
//! 3. flushes: one flush of the device where that covers every file (see [`FlushScope`]), else one for each file. A round
//!    that is one write of the journal needs none: that write is durable by itself;
//! 4. marks the bytes durable and wakes who waited.
//!
//! docs/decisions/001-commit-path.md has the measurements behind this.
//!
//! # Letting go of the journal
//!
//! Once half of the ring is live, the store writes back the logs that pin its old part, writes a checkpoint that says how
//! far every log is durable in its segment, and releases the rounds before it. A ring without room never stops a round:
//! that round writes all its logs' segments and leaves the journal out.
//!
//! # Failure
//!
//! A failed segment write takes its log offline, a failed journal write or flush every log of the shard: after it, nobody
//! knows what is on the device. A flush of the device that fails does so on every shard of the directory, whoever made it
//! (see [`crate::flushes`]). Either way what is in memory is dropped and recovered from the device (see `failing`).

mod by_time;
mod checkpointing;
mod chunks;
mod compacting;
mod config;
mod deleting;
mod epochs;
mod extents;
mod failing;
mod finish;
mod idle;
mod maintenance;
mod open;
mod prepare;
mod producers;
mod read;
mod report;
mod round;
pub(crate) mod space;
mod truncating;
mod turns;
mod usage;

use std::cell::{Cell, RefCell};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use millrace_protocol::batch::BatchView;
use millrace_runtime::local::{Event, OneshotReceiver};
use millrace_runtime::{Clock, Env, FlushScope, TaskClass, Tasks};
use thiserror::Error;

use crate::flushes::{ShardFlushes, SharedDevice};
use crate::io::AppendBuffer;
use crate::journal::Journal;
use crate::log::config::{LogConfig, TimestampType};
use crate::log::offsets::LogOffsets;
use crate::log::recorded::Recorded;
use crate::log::{Corruption, Durability, Failure, Log, OpenedLog};
use crate::model::{LeaderEpoch, Offset, PartitionId};
use crate::producer_state::{SequenceError, Verdict};
use crate::read_cache::ReadCache;
use crate::recovery::{self, OpenError, RecoveryReport};
use crate::segment::Segment;

use deleting::Remains;
use idle::Owned;
use open::Started;
use report::Counters;
use space::Space;
use turns::Turns;

pub use by_time::{TimeQuery, TimedOffset};
pub use config::StoreConfig;
pub use epochs::EpochEnd;
pub use producers::ActiveProducer;
pub use read::{FirstBatch, Read};
pub use report::StoreReport;

/// A log with this many bytes outside its segment gets a segment write of its own, instead of a piece in the journal.
pub const INLINE_BYTES_MAX: usize = 32 * 1024;

/// Why an append was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AppendError {
    /// The shard has no such log.
    #[error("no log of this partition on this shard")]
    UnknownLog,
    /// The log is offline.
    #[error("the log is offline: {0}")]
    Offline(Failure),
    /// The batch does not follow its producer's last one.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// The batch comes from a leader that was replaced.
    #[error("leader epoch {} is older than the log's last one, {}", found.get(), current.get())]
    StaleLeaderEpoch {
        /// The epoch of the append.
        found: LeaderEpoch,
        /// The epoch of the last batch.
        current: LeaderEpoch,
    },
    /// The log's offsets are used up.
    #[error("the log's offsets are used up")]
    OffsetsExhausted,
    /// The store is being closed.
    #[error("the store is closing")]
    Closing,
    /// What is left of the disk is kept for the broker itself, so that space can be made again.
    #[error("the disk is full: {free_bytes} bytes are free")]
    DiskFull {
        /// Bytes that are free on the disk of the data directory.
        free_bytes: u64,
    },
}

/// Why a read was refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ReadError {
    /// The shard has no such log.
    #[error("no log of this partition on this shard")]
    UnknownLog,
    /// The offset lies before the log's start or behind what may be read.
    #[error("offset out of range")]
    OffsetOutOfRange(LogOffsets),
    /// The log is offline.
    #[error("the log is offline: {0}")]
    Offline(Failure),
    /// The bytes on the device are damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// A batch that was taken in.
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// The log start offset.
    pub log_start_offset: Offset,
    /// The broker's time that its records carry, in milliseconds since 1970; `None` where they carry the producer's.
    pub append_time_ms: Option<i64>,
    /// How long the producer is to be held up: the disk is nearly full.
    pub throttle: Duration,
    /// Resolves once the batch is acknowledged.
    pub ticket: Ticket,
}

/// Resolves once an append is durable.
pub struct Ticket(OneshotReceiver<Durability>);

impl Ticket {
    /// Waits until the batch is on the device. An error means that it may or may not be there after the next recovery.
    pub async fn durable(self) -> Durability {
        self.0.await.unwrap_or_else(|| {
            Err(Failure::Io { operation: "closing the store", reason: "the round never ran".into() })
        })
    }
}

/// The logs of one shard. Clones share them.
pub struct Store<E: Env> {
    inner: Rc<Inner<SharedDevice<E>>>,
}

impl<E: Env> Clone for Store<E> {
    fn clone(&self) -> Self {
        Self { inner: Rc::clone(&self.inner) }
    }
}

type SharedLog<E> = Rc<RefCell<Log<E>>>;

struct Inner<E: Env> {
    env: E,
    config: StoreConfig,
    logs_directory: PathBuf,
    flush_scope: FlushScope,
    /// What its flushes are worth, as far as the other shards' say.
    flushes: Rc<RefCell<ShardFlushes>>,
    logs: RefCell<BTreeMap<PartitionId, SharedLog<E>>>,
    journal: RefCell<Journal<E>>,
    /// Logs with bytes that are not durable, or with a write-back wanted.
    queue: RefCell<VecDeque<SharedLog<E>>>,
    /// Notified when the queue gains a log, and when the store closes.
    queue_changed: Event,
    /// Notified at the end of each round, and when a log goes offline: nobody is to wait for its rounds.
    round_ended: Event,
    /// Logs in the order in which their chunks became evictable; a log stands in it once for each segment write.
    eviction: RefCell<VecDeque<SharedLog<E>>>,
    /// What was read from segments.
    read_cache: ReadCache<E>,
    /// The number by which the cache will know the next segment that is read.
    cache_key_next: Cell<u64>,
    /// Segments with open files.
    open_files: RefCell<Turns<Owned<E>>>,
    /// Sealed segments with indexes in memory.
    indexes: RefCell<Turns<Owned<E>>>,
    /// Memory of all tails, in bytes.
    tail_bytes: Cell<usize>,
    /// Bytes appended and not written.
    unstored_bytes: Cell<usize>,
    /// Bytes written and not flushed.
    unflushed_bytes: Cell<usize>,
    /// Logs with such bytes.
    unflushed: RefCell<Vec<SharedLog<E>>>,
    /// Their files, where a flush reaches one file only.
    unflushed_files: RefCell<Vec<Segment<E>>>,
    /// What rounds flushed while another flush of the file was under way: it counts once that has succeeded.
    held: RefCell<Vec<round::Flushed<E>>>,
    /// The next round flushes, whoever waits.
    flush_due: Cell<bool>,
    /// A timer runs that makes a flush due.
    flush_armed: Cell<bool>,
    /// Logs whose durable end the journal's next round is to note.
    unrecorded: RefCell<Vec<SharedLog<E>>>,
    /// Logs whose start the journal's next round is to note.
    moved_starts: RefCell<Vec<SharedLog<E>>>,
    /// A round is under way.
    round_running: Cell<bool>,
    /// Tasks that create, open or fill segments, and load their partial last blocks.
    preparing: Cell<usize>,
    /// Notified when one of those tasks ends.
    prepared: Event,
    /// Set when no further append is taken.
    closing: Cell<bool>,
    /// Set when no further round runs.
    stopped: Cell<bool>,
    checkpoint_running: Cell<bool>,
    /// How many checkpoints were begun, and which one was the newest that became durable.
    checkpoints_begun: Cell<u64>,
    checkpoint_written: Cell<u64>,
    /// Why the whole shard is offline.
    failure: RefCell<Option<Failure>>,
    /// Directories of deleted logs.
    remains: RefCell<Vec<Remains>>,
    /// Tasks that remove logs.
    deleting: Cell<usize>,
    space: Space,
    /// Batches whose records are looked at off the shard for queries by time.
    searching: Cell<usize>,
    /// Notified when one of them is done.
    searched: Event,
    compaction_failures: RefCell<BTreeMap<PartitionId, String>>,
    /// The background still opens logs.
    recovering: Cell<bool>,
    /// Logs that the background has dealt with.
    recovered_count: Cell<usize>,
    report: RefCell<RecoveryReport>,
    counters: Counters,
}

impl<E: Env> Store<E> {
    /// Recovers the shard's logs (those that `owned` says are its own) and starts its rounds. The logs themselves are
    /// opened when they are first used, and in the background after a stop that was not in order; see
    /// [`Self::recovered`].
    pub async fn open(env: E, config: StoreConfig, owned: impl Fn(PartitionId) -> bool) -> Result<Self, OpenError> {
        let Started { env, flushes, flush_scope, recovered } = open::start(env, &config, owned).await?;
        let logs_directory = recovery::logs_directory(&config.directory);
        let logs = recovered.logs.into_iter().map(|(id, recorded)| {
            // Until somebody says how long its records are kept, none is too old.
            let config = LogConfig { retention_bytes: None, retention_age_max: None, ..LogConfig::default() };
            let log = Log::new(id, config, recorded);
            (id, Rc::new(RefCell::new(log)))
        });
        let inner = Rc::new(Inner {
            logs: RefCell::new(logs.collect()),
            journal: RefCell::new(recovered.journal),
            queue: RefCell::default(),
            queue_changed: Event::default(),
            round_ended: Event::default(),
            eviction: RefCell::default(),
            read_cache: ReadCache::new(env.clone(), config.read_cache_bytes_max),
            cache_key_next: Cell::new(0),
            open_files: RefCell::default(),
            indexes: RefCell::default(),
            tail_bytes: Cell::new(0),
            unstored_bytes: Cell::new(0),
            unflushed_bytes: Cell::new(0),
            unflushed: RefCell::default(),
            unflushed_files: RefCell::default(),
            held: RefCell::default(),
            flush_due: Cell::new(false),
            flush_armed: Cell::new(false),
            unrecorded: RefCell::default(),
            moved_starts: RefCell::default(),
            round_running: Cell::new(false),
            preparing: Cell::new(0),
            prepared: Event::default(),
            closing: Cell::new(false),
            stopped: Cell::new(false),
            checkpoint_running: Cell::new(false),
            checkpoints_begun: Cell::new(0),
            checkpoint_written: Cell::new(0),
            failure: RefCell::new(None),
            remains: RefCell::default(),
            deleting: Cell::new(0),
            space: Space::new(),
            searching: Cell::new(0),
            searched: Event::default(),
            compaction_failures: RefCell::default(),
            recovering: Cell::new(true),
            recovered_count: Cell::new(0),
            report: RefCell::new(recovered.report),
            counters: Counters::default(),
            env: env.clone(),
            config,
            logs_directory,
            flush_scope,
            flushes,
        });
        // These tasks run until `close`, which waits for them by their effects.
        env.tasks().spawn(TaskClass::Flush, round::run(Rc::clone(&inner)));
        env.tasks().spawn(TaskClass::Background, open::run_background(Rc::clone(&inner)));
        env.tasks().spawn(TaskClass::Background, maintenance::run(Rc::clone(&inner)));
        env.tasks().spawn(TaskClass::Background, idle::run(Rc::clone(&inner)));
        env.tasks().spawn(TaskClass::Background, compacting::run(Rc::clone(&inner)));
        Ok(Self { inner })
    }

    /// Waits until every log that may not have ended in order was opened, and says what recovery did.
    pub async fn recovered(&self) -> RecoveryReport {
        loop {
            let version = self.inner.prepared.version();
            if !self.inner.recovering.get() {
                return self.inner.report.borrow().clone();
            }
            self.inner.prepared.changed(version).await;
        }
    }

    /// How many of the shard's logs recovery has dealt with, and how many there are.
    pub fn recovery_progress(&self) -> (usize, usize) {
        let log_count = self.inner.report.borrow().log_count;
        let done = if self.inner.recovering.get() { self.inner.recovered_count.get() } else { log_count };
        (done, log_count)
    }

    /// Registers an empty log; nothing is on the device before its first append. A log that is there already, as after a
    /// restart, gets the configuration. On a shard that is offline the new log is offline too: its journal is not to be
    /// written any more.
    pub fn create(&self, id: PartitionId, config: LogConfig) {
        let mut logs = self.inner.logs.borrow_mut();
        match logs.entry(id) {
            Entry::Occupied(log) => log.get().borrow_mut().config = config,
            Entry::Vacant(place) => {
                let mut log = Log::new(id, config, Recorded::nothing());
                // There is nothing to read, so there is nothing to wait for.
                log.open(OpenedLog::empty(Offset::ZERO));
                if let Some(failure) = &*self.inner.failure.borrow() {
                    log.discard(failure);
                }
                place.insert(Rc::new(RefCell::new(log)));
            }
        }
    }

    /// Whether the shard has this log.
    pub fn contains(&self, id: PartitionId) -> bool {
        self.inner.logs.borrow().contains_key(&id)
    }

    /// Waits until fewer than `write_buffer_bytes_max` bytes wait for their round.
    pub async fn room(&self) {
        loop {
            let version = self.inner.round_ended.version();
            let room = self.inner.unstored_bytes.get() < self.inner.config.write_buffer_bytes_max;
            if room || self.inner.failure.borrow().is_some() {
                return;
            }
            self.inner.round_ended.changed(version).await;
        }
    }

    /// Appends a batch at the end of a log, with its base offset and `epoch` filled in. The batch is readable and
    /// acknowledgeable only once the ticket resolves.
    ///
    /// A batch that its idempotent producer sent before is not appended again: it is answered with its first offset, and
    /// its ticket resolves once that first one is durable.
    ///
    /// The first append after a restart may have to load the log's partial last block, or read what its producers sent:
    /// hence the wait.
    pub async fn append(
        &self,
        id: PartitionId,
        batch: &BatchView<'_>,
        epoch: LeaderEpoch,
    ) -> Result<Appended, AppendError> {
        let inner = &self.inner;
        let log = inner.log(id).ok_or(AppendError::UnknownLog)?;
        log.borrow_mut().used = true;
        let verdict = loop {
            if let Err(failure) = prepare::make_ready(inner, &log, batch).await {
                log.borrow_mut().lost_producers.get_or_insert_default().refuse(batch.header());
                return Err(AppendError::Offline(failure));
            }
            if inner.closing.get() {
                return Err(AppendError::Closing);
            }
            let verdict = log.borrow().producers.check(batch.header())?;
            match verdict {
                Verdict::NeedsSpilled(read) => producers::load(inner, &log, read).await,
                verdict => break verdict,
            }
        };
        let mut borrowed = log.borrow_mut();
        let log_start_offset = borrowed.offsets.start();
        let throttle = if borrowed.config.internal { Duration::ZERO } else { inner.space.throttle() };
        let by_broker = borrowed.config.timestamp_type == TimestampType::LogAppendTime;
        if let Verdict::Duplicate { base_offset, end_offset, timestamp } = verdict {
            let ticket = Ticket(borrowed.acknowledged(end_offset));
            let append_time_ms = by_broker.then_some(timestamp);
            return Ok(Appended { base_offset, log_start_offset, append_time_ms, throttle, ticket });
        }
        if inner.space.full.get() && !borrowed.config.internal {
            borrowed.producers.refuse(batch.header());
            return Err(AppendError::DiskFull { free_bytes: inner.space.free_bytes.get() });
        }
        if epoch < borrowed.leader_epoch {
            return Err(AppendError::StaleLeaderEpoch { found: epoch, current: borrowed.leader_epoch });
        }
        let memory_before = borrowed.tail.memory_bytes();
        let now_ms = inner.env.clock().unix_ms();
        let appended = borrowed.append(batch, epoch, now_ms, |bytes| AppendBuffer::allocate(inner.env.disk(), bytes));
        let (base_offset, ticket) = appended.ok_or(AppendError::OffsetsExhausted)?;
        inner.tail_bytes.set(inner.tail_bytes.get() + borrowed.tail.memory_bytes() - memory_before);
        inner.unstored_bytes.set(inner.unstored_bytes.get() + batch.bytes().len());
        let record_count = u64::try_from(batch.header().record_count.get()).unwrap_or(0);
        borrowed.traffic.note_append(record_count, batch.bytes().len());
        inner.counters.note_append(record_count, batch.bytes().len());
        drop(borrowed);
        inner.enqueue(&log);
        producers::consider(inner, &log);
        let append_time_ms = by_broker.then_some(now_ms);
        Ok(Appended { base_offset, log_start_offset, append_time_ms, throttle, ticket: Ticket(ticket) })
    }

    /// The offsets of a log; opens it if need be.
    pub async fn offsets(&self, id: PartitionId) -> Result<LogOffsets, ReadError> {
        let log = self.inner.log(id).ok_or(ReadError::UnknownLog)?;
        open::ensure(&self.inner, &log).await.map_err(ReadError::Offline)?;
        let offsets = log.borrow().offsets();
        Ok(offsets)
    }

    /// Why a log is offline; `None` when it is not, or unknown.
    pub fn failure(&self, id: PartitionId) -> Option<Failure> {
        self.inner.log(id).and_then(|log| log.borrow().failure.clone())
    }

    /// Notifies `event`, once, when the high watermark of a log passes `beyond`. True when there is no need to wait: it
    /// has passed already, or the log is offline or unknown. The event is held weakly.
    pub fn watch(&self, id: PartitionId, beyond: Offset, event: &Rc<Event>) -> bool {
        self.inner.log(id).is_none_or(|log| log.borrow_mut().watch(beyond, event))
    }

    /// Takes no further appends, finishes the rounds, writes everything back into segments and leaves a clean checkpoint,
    /// so that the next start has nothing to recover.
    pub async fn close(self) -> Result<(), Failure> {
        self.inner.closing.set(true);
        self.inner.queue_changed.notify();
        checkpointing::write_clean(&self.inner).await
    }
}

impl<E: Env> Inner<E> {
    fn log(&self, id: PartitionId) -> Option<SharedLog<E>> {
        self.logs.borrow().get(&id).cloned()
    }

    /// Puts a log into the queue of the next round, unless it stands there.
    fn enqueue(&self, log: &SharedLog<E>) {
        if !std::mem::replace(&mut log.borrow_mut().queued, true) {
            self.queue.borrow_mut().push_back(Rc::clone(log));
            self.queue_changed.notify();
        }
    }
}
