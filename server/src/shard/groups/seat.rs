//! One partition of `__consumer_offsets` with its coordinator: reads it back, and writes what the coordinator decides.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use futures_util::future::select;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId};
use millrace_engine::store::{FirstBatch, ReadError};
use millrace_protocol::batch::compression::{CompressionError, Decompressor};
use millrace_protocol::batch::{BatchBuilder, BatchError, BatchFields, BatchView};
use millrace_protocol::error_code::ErrorCode;
use millrace_runtime::local::Event;
use millrace_runtime::{Clock, Env, TaskClass, Tasks};
use thiserror::Error;

use super::super::mailbox::message::AppendRefusal;
use super::super::{Shard, Stage};
use super::{deliver, deliver_all, now, refuse_all};
use crate::group::Outcome;
use crate::group::coordinator::Coordinator;
use crate::group::records::Record;
use crate::group::request::{Answer, ListedGroup};
use crate::handlers::errors;
use crate::metadata::Image;
use crate::metrics::report::{COMMITTED_COUNT_MAX, CommittedReport, GroupsReport};

/// One partition.
pub(super) struct Seat<E: Env> {
    id: PartitionId,
    leader_epoch: LeaderEpoch,
    /// `None` until the partition is read back.
    coordinator: RefCell<Option<Coordinator>>,
    /// Decided and not written yet, in order.
    queue: RefCell<VecDeque<Outcome>>,
    is_writing: Cell<bool>,
    is_closed: Cell<bool>,
    changed: Event,
    env: std::marker::PhantomData<E>,
}

impl<E: Env> Seat<E> {
    pub(super) fn new(id: PartitionId, leader_epoch: LeaderEpoch) -> Self {
        Self {
            id,
            leader_epoch,
            coordinator: RefCell::new(None),
            queue: RefCell::default(),
            is_writing: Cell::new(false),
            is_closed: Cell::new(false),
            changed: Event::default(),
            env: std::marker::PhantomData,
        }
    }

    /// Lets the coordinator take a step and sees to what follows from it. False if there is none to take it.
    pub(super) fn step(&self, shard: &Shard<E>, act: impl FnOnce(&mut Coordinator) -> Outcome) -> bool {
        let (outcome, deadline_ms) = {
            let mut coordinator = self.coordinator.borrow_mut();
            let Some(coordinator) = coordinator.as_mut() else { return false };
            (act(coordinator), coordinator.next_deadline_ms())
        };
        shard.groups().expect(deadline_ms);
        if outcome.records.is_empty() && self.queue.borrow().is_empty() && !self.is_writing.get() {
            deliver_all(shard, outcome);
        } else {
            self.queue.borrow_mut().push_back(outcome);
            self.changed.notify();
        }
        true
    }

    /// When something is due.
    pub(super) fn next_deadline_ms(&self) -> i64 {
        self.coordinator.borrow().as_ref().map_or(i64::MAX, Coordinator::next_deadline_ms)
    }

    /// Memory of the coordinator, roughly.
    pub(super) fn bytes(&self) -> usize {
        self.coordinator.borrow().as_ref().map_or(0, Coordinator::bytes)
    }

    /// The groups, if they are known.
    pub(super) fn list(&self) -> Option<Vec<ListedGroup>> {
        self.coordinator.borrow().as_ref().map(|coordinator| coordinator.list().collect())
    }

    /// Adds the groups, if they are known.
    pub(super) fn add_to(&self, report: &mut GroupsReport, image: &Image) {
        let coordinator = self.coordinator.borrow();
        let Some(coordinator) = coordinator.as_ref() else { return };
        for group in coordinator.list() {
            *report.states.entry(group.state).or_default() += 1;
        }
        for (group, topic, offsets) in coordinator.committed() {
            // Deleted topics are forgotten a moment after they go.
            let Some(topic_id) = image.find_topic_id(topic) else { continue };
            let offsets: Vec<_> = offsets.collect();
            if report.offset_count + offsets.len() > COMMITTED_COUNT_MAX {
                report.left_out_count += offsets.len();
                continue;
            }
            report.offset_count += offsets.len();
            let (group, topic) = (group.to_owned(), topic.to_owned());
            report.committed.push(CommittedReport { group, topic, topic_id, offsets });
        }
    }

    /// The partition is not this shard's any more.
    pub(super) fn close(&self, shard: &Shard<E>) {
        self.is_closed.set(true);
        self.throw_away(shard, ErrorCode::NotCoordinator);
        self.changed.notify();
    }

    /// Refuses everybody who waits and forgets what is not known to be stored.
    fn throw_away(&self, shard: &Shard<E>, error: ErrorCode) {
        let coordinator = self.coordinator.borrow_mut().take();
        for token in coordinator.into_iter().flat_map(|coordinator| coordinator.waiting()) {
            deliver(shard, token, Answer::Refused(error));
        }
        let queue = std::mem::take(&mut *self.queue.borrow_mut());
        refuse_all(shard, queue, error);
    }

    fn is_over(&self, shard: &Shard<E>) -> bool {
        self.is_closed.get() || shard.stage() >= Stage::Closing
    }

    /// Waits until something is queued; false when nothing more will be.
    async fn queued(&self, shard: &Shard<E>) -> bool {
        loop {
            let version = self.changed.version();
            if self.is_over(shard) {
                return false;
            }
            if !self.queue.borrow().is_empty() {
                return true;
            }
            let (changed, closing) = (self.changed.changed(version), shard.reached(Stage::Closing));
            select(std::pin::pin!(changed), std::pin::pin!(closing)).await;
        }
    }
}

/// Starts the seat's task: reads the partition back and writes, for as long as the seat is the shard's.
pub(super) fn start<E: Env>(shard: &Shard<E>, seat: Rc<Seat<E>>) {
    let own = shard.clone();
    shard.tasks().spawn("group coordinator", TaskClass::Metadata, async move {
        let mut pause = LOAD_PAUSE_MIN;
        while !seat.is_over(&own) {
            match load(&own, &seat).await {
                Ok(Some(coordinator)) => {
                    pause = LOAD_PAUSE_MIN;
                    own.groups().expect(coordinator.next_deadline_ms());
                    *seat.coordinator.borrow_mut() = Some(coordinator);
                    write_all(&own, &seat).await;
                }
                Ok(None) => return,
                Err(error) => {
                    let (shard, partition) = (own.index(), seat.id);
                    tracing::error!(%shard, %partition, %error, "groups cannot be read back; trying again");
                    let sleep = own.env().clock().sleep(pause);
                    select(std::pin::pin!(sleep), std::pin::pin!(own.reached(Stage::Closing))).await;
                    pause = (2 * pause).min(LOAD_PAUSE_MAX);
                }
            }
        }
    });
}

/// Writes what is queued, one batch after the other, until that fails or nothing more comes.
async fn write_all<E: Env>(shard: &Shard<E>, seat: &Seat<E>) {
    while seat.queued(shard).await {
        let queue = std::mem::take(&mut *seat.queue.borrow_mut());
        seat.is_writing.set(true);
        let written = write(shard, seat, &queue).await;
        seat.is_writing.set(false);
        match written {
            Ok(()) => queue.into_iter().for_each(|outcome| deliver_all(shard, outcome)),
            Err(error) => {
                let partition = seat.id;
                tracing::warn!(shard = %shard.index(), %partition, ?error, "what groups decided cannot be stored");
                refuse_all(shard, queue, errors::group_append(&error));
                return seat.throw_away(shard, ErrorCode::NotCoordinator);
            }
        }
        // What came meanwhile and has nothing to store waited only for the order.
    }
}

/// Appends the records of all outcomes and waits until they are on the device.
async fn write<E: Env>(shard: &Shard<E>, seat: &Seat<E>, queue: &VecDeque<Outcome>) -> Result<(), AppendRefusal> {
    let mut records = queue.iter().flat_map(|outcome| &outcome.records).peekable();
    let timestamp_ms = shard.env().clock().unix_ms();
    let batch_bytes_max = shard.broker().config.groups.record_bytes_max;
    let mut tickets = Vec::new();
    while records.peek().is_some() {
        let mut builder = BatchBuilder::new(BatchFields::default());
        let fits = |builder: &BatchBuilder, record: &Record| {
            builder.record_count() == 0 || builder.batch_bytes() + record.bytes() <= batch_bytes_max
        };
        while let Some(record) = records.next_if(|record| fits(&builder, record)) {
            builder.push(timestamp_ms, Some(&record.key), record.value.as_deref());
        }
        let bytes = builder.build();
        let batch = BatchView::parse(&bytes).map_err(AppendRefusal::Invalid)?;
        shard.store().room().await;
        let appended = shard.store().append(seat.id, &batch, seat.leader_epoch).await;
        tickets.push(appended.map_err(AppendRefusal::Refused)?.ticket);
    }
    for ticket in tickets {
        ticket.durable().await.map_err(AppendRefusal::NotDurable)?;
    }
    Ok(())
}

/// Reads the partition back; `None` when the seat is over before that is done.
async fn load<E: Env>(shard: &Shard<E>, seat: &Seat<E>) -> Result<Option<Coordinator>, LoadError> {
    let _turn = shard.groups().load_line.enqueue(1).expect("the line lets one through at a time").await;
    let store = shard.store();
    let mut coordinator = Coordinator::new(shard.groups().settings.clone(), now(shard));
    let mut decompressor = Decompressor::new(shard.broker().config.store.records_bytes_max);
    let mut offset = store.offsets(seat.id).await?.start;
    loop {
        if seat.is_over(shard) {
            return Ok(None);
        }
        let read = store.read(seat.id, offset, LOAD_BYTES, FirstBatch::WholeEvenIfLarger).await?;
        if read.bytes == 0 {
            coordinator.resume(now(shard));
            return Ok(Some(coordinator));
        }
        // A batch may lie across slices.
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().iter().copied()).collect();
        drop(read);
        offset = replay(&bytes, offset, &mut coordinator, &mut decompressor, seat.id)?;
        shard.env().tasks().yield_now().await;
    }
}

/// Takes the records of whole batches in; gives the offset after the last one.
fn replay(
    mut bytes: &[u8],
    offset: Offset,
    coordinator: &mut Coordinator,
    decompressor: &mut Decompressor,
    partition: PartitionId,
) -> Result<Offset, LoadError> {
    let mut next = offset;
    while !bytes.is_empty() {
        let batch = BatchView::parse(bytes).map_err(|error| LoadError::Batch { offset: next, error })?;
        let damaged = |error| LoadError::Compression { offset: next, error };
        for record in decompressor.records(&batch).map_err(damaged)? {
            let record = record.map_err(|error| LoadError::Batch { offset: next, error })?;
            // A batch that starts before what is kept holds records that are gone.
            if record.offset < offset.get() {
                continue;
            }
            let replayed = coordinator.replay(record.key.unwrap_or_default(), record.value);
            if let Err(error) = replayed {
                // Only an administrator's tool writes such things. One key is not worth all groups of the partition.
                tracing::warn!(%partition, offset = record.offset, %error, "a record that is no group's is passed over");
            }
        }
        next = Offset::new(batch.header().last_offset() + 1);
        bytes = &bytes[batch.bytes().len()..];
    }
    Ok(next)
}

/// Why a partition cannot be read back.
#[derive(Debug, Error)]
enum LoadError {
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("at offset {offset}: {error}")]
    Batch { offset: Offset, error: BatchError },
    #[error("at offset {offset}: {error}")]
    Compression { offset: Offset, error: CompressionError },
}

/// Bytes read at once.
const LOAD_BYTES: usize = 256 << 10;
/// How long a partition that cannot be read is left alone, at first,
const LOAD_PAUSE_MIN: Duration = Duration::from_secs(1);
/// and in the end.
const LOAD_PAUSE_MAX: Duration = Duration::from_mins(1);
