//! The driver of the metadata on the first shard: it holds no rules, those are the controller's.
//!
//! ```text
//! proposal -> controller (pure) -> one entry -> appended to the metadata log -> durable -> own image -> every other image
//! ```
//!
//! One proposal at a time: the controller decides against an image that holds everything proposed before. An entry is one
//! batch with one record, whose value is the entry's bytes. The asker is answered when every shard has applied it, so the
//! next request of the same client finds the change wherever it goes.
//!
//! [`replay`] reads the log back at the start. A log that cannot be read, or does not fit itself, stops the broker.

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{LeaderEpoch, Offset, PartitionId};
use millrace_engine::store::{FirstBatch, ReadError};
use millrace_protocol::batch::{BatchBuilder, BatchError, BatchFields, BatchView};
use millrace_runtime::{Clock, Env, Random};
use thiserror::Error;

use super::Shard;
use super::budget::Budget;
use super::mailbox::message::{AppendRefusal, Decision, Proposal, ProposalMode, ProposeError, Request};
use super::placement::ShardIndex;
use crate::metadata::codec::DecodeError;
use crate::metadata::controller::{Controller, PlannedTopic, allocate_producer_ids, register_broker};
use crate::metadata::image::{ApplyError, Image};
use crate::metadata::record::{Entry, Record};

/// What the first shard needs to lead the metadata log.
#[derive(Debug)]
pub struct MetadataLog {
    controller: Controller,
    line: Budget,
}

impl MetadataLog {
    /// A driver of these rules.
    pub fn new(controller: Controller) -> Self {
        Self { controller, line: Budget::new(1) }
    }
}

/// Decides on a proposal and puts it in force everywhere.
pub async fn propose<E: Env>(shard: &Shard<E>, proposal: Proposal) -> Result<Decision, ProposeError> {
    let metadata_log = shard.metadata_log();
    let _turn = metadata_log.line.enqueue(1).expect("the line lets one through at a time").await;
    let (decision, records) = decide(shard, &metadata_log.controller, proposal).map_err(ProposeError::Refused)?;
    if !records.is_empty() {
        let entry = Entry { term: TERM, index: shard.image().applied_index() + 1, records };
        append(shard, &entry).await.map_err(ProposeError::Log)?;
        distribute(shard, &entry).await;
    }
    Ok(decision)
}

/// What the controller says, and the records that make it so.
fn decide<E: Env>(
    shard: &Shard<E>,
    controller: &Controller,
    proposal: Proposal,
) -> Result<(Decision, Vec<Record>), crate::metadata::Refusal> {
    let image = shard.image();
    match proposal {
        Proposal::RegisterBroker(broker) => Ok((Decision::BrokerRegistered, register_broker(&image, broker)?)),
        Proposal::CreateTopic { request, mode } => {
            let random = shard.env().random();
            let id = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
            let planned = controller.create_topic(&image, &request, id)?;
            let records = match mode {
                ProposalMode::Propose => planned.records.clone(),
                ProposalMode::Validate => Vec::new(),
            };
            let planned = PlannedTopic { records: Vec::new(), ..planned };
            Ok((Decision::TopicCreated(planned), records))
        }
        Proposal::AlterConfig { request, mode } => {
            let records = controller.alter_config(&image, &request)?;
            let records = if mode == ProposalMode::Propose { records } else { Vec::new() };
            Ok((Decision::ConfigAltered, records))
        }
        Proposal::CreatePartitions { request, mode } => {
            let records = controller.create_partitions(&image, &request)?;
            let records = if mode == ProposalMode::Propose { records } else { Vec::new() };
            Ok((Decision::PartitionsCreated, records))
        }
        Proposal::DeleteTopic(request) => {
            let (topic, records) = controller.delete_topic(&image, &request)?;
            Ok((Decision::TopicDeleted { topic: topic.id, name: topic.name.clone() }, records))
        }
        Proposal::AllocateProducerIds => {
            let block = allocate_producer_ids(&image)?;
            Ok((Decision::ProducerIds { first: block.first, count: block.count }, block.records))
        }
    }
}

/// Appends an entry to the log and waits until it is on the device.
async fn append<E: Env>(shard: &Shard<E>, entry: &Entry) -> Result<(), AppendRefusal> {
    let mut value = Vec::new();
    entry.encode(&mut value);
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(shard.env().clock().unix_ms(), None, Some(&value));
    let bytes = builder.build();
    let batch = BatchView::parse(&bytes).map_err(AppendRefusal::Invalid)?;
    let appended = shard.store().append(PartitionId::METADATA, &batch, LEADER_EPOCH).await;
    let appended = appended.map_err(AppendRefusal::Refused)?;
    appended.ticket.durable().await.map_err(AppendRefusal::NotDurable)
}

/// Applies a durable entry here and on every other shard.
async fn distribute<E: Env>(shard: &Shard<E>, entry: &Entry) {
    shard.apply(entry).expect("the controller proposes what fits the image");
    let peers = ShardIndex::all(shard.shard_count()).filter(|peer| *peer != shard.index());
    // All at once, then wait for all. Beside the slots: one entry at a time cannot fill an outbox.
    let calls: Vec<_> = peers.map(|peer| shard.router().call(peer, Request::Apply(entry.clone()))).collect();
    for call in calls {
        // A shard that is gone is stopping with the broker.
        call.await;
    }
}

/// Reads the whole log and gives the image it adds up to.
pub async fn replay<E: Env>(shard: &Shard<E>) -> Result<Image, ReplayError> {
    let store = shard.store();
    store.create(PartitionId::METADATA, log_config());
    let mut image = Image::new();
    let mut offset = Offset::ZERO;
    loop {
        let read = store.read(PartitionId::METADATA, offset, REPLAY_BYTES, FirstBatch::WholeEvenIfLarger).await?;
        if read.bytes == 0 {
            return Ok(image);
        }
        // A batch may lie across slices. Copying is fine here: the log is small and read once.
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().iter().copied()).collect();
        offset = apply_batches(&bytes, offset, &mut image)?;
    }
}

/// The metadata is all of its log: nothing of it is ever too old.
fn log_config() -> LogConfig {
    LogConfig { internal: true, retention_bytes: None, retention_age_max: None, ..LogConfig::default() }
}

/// Applies the entries of whole batches that begin at or before `offset`; gives the offset after the last one.
fn apply_batches(mut bytes: &[u8], offset: Offset, image: &mut Image) -> Result<Offset, ReplayError> {
    let mut next = offset;
    while !bytes.is_empty() {
        let damaged = |error| ReplayError::Batch { offset: next, error };
        let batch = BatchView::parse(bytes).map_err(damaged)?;
        for record in batch.records().map_err(damaged)? {
            let record = record.map_err(damaged)?;
            let value = record.value.unwrap_or_default();
            let entry = Entry::decode(value).map_err(|error| ReplayError::Entry { offset: next, error })?;
            image.apply_entry(&entry).map_err(|error| ReplayError::Apply { offset: next, error })?;
        }
        next = Offset::new(batch.header().last_offset() + 1);
        bytes = &bytes[batch.bytes().len()..];
    }
    Ok(next)
}

/// Why the metadata log cannot be read back.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// The log cannot be read.
    #[error("the metadata log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A batch is not one.
    #[error("the metadata log is damaged at offset {offset}: {error}")]
    Batch {
        /// Where.
        offset: Offset,
        /// What is wrong.
        error: BatchError,
    },
    /// A record is not an entry.
    #[error("the metadata log has no entry at offset {offset}: {error}")]
    Entry {
        /// Where.
        offset: Offset,
        /// What is wrong.
        error: DecodeError,
    },
    /// An entry does not fit those before it.
    #[error("the metadata log contradicts itself at offset {offset}: {error}")]
    Apply {
        /// Where.
        offset: Offset,
        /// What is wrong.
        error: ApplyError,
    },
}

/// The only term there is while one broker leads alone.
const TERM: u32 = 1;
/// Leader epoch of the metadata log's batches; follows the term.
const LEADER_EPOCH: LeaderEpoch = LeaderEpoch::new(1);
/// Bytes read at once.
const REPLAY_BYTES: usize = 1 << 20;
