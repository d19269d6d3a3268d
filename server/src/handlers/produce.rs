//! Produce: batches into logs.
//!
//! Two steps, so that consecutive requests of a connection overlap: [`start`] checks and sends every batch to the shard
//! that owns its partition, in the order of the request; [`Started::finish`] waits for the owners, and [`Finished`] is
//! encoded when its turn has come.
//!
//! What crosses to an owner is the received frame itself and the place of the batch in it: no record byte is copied before
//! the owner's one copy into the log. The owner checks the batch; here only what the header of the request decides is
//! checked.

use std::time::Duration;

use millrace_protocol::batch::{BatchHeader, Compression};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::frame::encode_response;
use millrace_protocol::messages::produce::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use millrace_protocol::produce::{PartitionPosition, ProducePositions, TopicKey};
use millrace_protocol::wire::Uuid;
use millrace_runtime::local::OneshotReceiver;
use millrace_runtime::{Clock, Env, Moment};

use super::authorizer::{Operation, Resource};
use super::errors::Naming;
use super::lookup::{Led, TopicRef, find_led, find_topic};
use super::{Context, errors};
use crate::metadata::controller::is_internal;
use crate::metadata::image::{Image, Topic};
use crate::metadata::topic_config::Defaults;
use crate::net::connection::Close;
use crate::net::frame::Request;
use crate::net::outgoing::Outgoing;
use crate::shard::Shard;
use crate::shard::mailbox::message::{Append, AppendRefusal, AppendedBatch, BatchPlace, Keys, ReplyWhen};
use crate::shard::placement::ShardIndex;
use crate::shard::router::{Answer, ShardGone};

/// Checks a request and sends its batches on their way. When this completes, they have their place in every log.
pub async fn start<E: Env>(context: &Context<'_, E>) -> Result<Started<E>, Close> {
    let mut positions = ProducePositions::default();
    context.read(|body| positions.decode(body, context.head.version))?;

    let reply_when = if positions.acks == 0 { ReplyWhen::Appended } else { ReplyWhen::Durable };
    let mut outcomes = Vec::with_capacity(positions.partitions.len());
    let mut groups: Vec<Group> = Vec::new();
    let image = context.shard.image();
    for topic in &positions.topics {
        let found = check_request(context, &positions).and_then(|()| check_topic(context, &image, &topic.name_or_id));
        for partition in &positions.partitions[topic.partitions.clone()] {
            let place = match found.clone().and_then(|topic| check_partition(context, topic, partition)) {
                Ok(place) => check_keys(context, place).await,
                refused @ Err(_) => refused,
            };
            outcomes.push(match place {
                Ok(place) => {
                    let owner = context.shard.owner(place.partition);
                    group_of(&mut groups, owner).add(outcomes.len(), place);
                    Outcome::Waiting
                }
                Err(refused) => Outcome::Refused(refused),
            });
        }
    }

    let owners = groups.iter().map(|group| group.owner);
    let mut slots = context.shard.router().slots(context.shard.remote_count(owners)).await;
    let mut waiting = Vec::with_capacity(groups.len());
    for Group { owner, batches, ordinals } in groups {
        let append = Append { frame: context.frame.clone(), batches, reply_when };
        waiting.push((context.shard.append(owner, append, &mut slots), ordinals));
    }
    let (version, correlation_id) = (context.head.version, context.head.correlation_id);
    let shard = context.shard.clone();
    Ok(Started { shard, version, correlation_id, positions, outcomes, waiting })
}

/// A request whose batches are on their way.
pub struct Started<E: Env> {
    shard: Shard<E>,
    version: i16,
    correlation_id: i32,
    positions: ProducePositions,
    /// One for each partition, in the order of the request.
    outcomes: Vec<Outcome>,
    /// What was sent to each owner, with the places of its results among the outcomes.
    waiting: Vec<(OneshotReceiver<Answer<E>>, Vec<usize>)>,
}

impl<E: Env> Started<E> {
    /// Waits for every owner. `request` is kept for the names in it, and its memory stays reserved until then.
    pub async fn finish(mut self, request: Request) -> Result<Finished, Close> {
        for (answer, ordinals) in std::mem::take(&mut self.waiting) {
            let Some(Answer::Append(results)) = answer.await else { return Err(ShardGone.into()) };
            assert!(results.len() == ordinals.len(), "every batch has its result");
            for (ordinal, result) in ordinals.into_iter().zip(results) {
                self.outcomes[ordinal] = match result {
                    Ok(batch) => Outcome::Appended(batch),
                    Err(refusal) => Outcome::Refused(explain(&self.shard, &refusal, self.version)),
                };
            }
        }
        let Self { version, correlation_id, positions, outcomes, .. } = self;
        Ok(Finished { version, correlation_id, positions, outcomes, request })
    }
}

/// What the client is told of a refusal.
fn explain<E: Env>(shard: &Shard<E>, refusal: &AppendRefusal, version: i16) -> Refused {
    let naming = if version >= BY_ID_FROM { Naming::Id } else { Naming::Name };
    let error = errors::append(refusal, naming);
    let text = errors::append_text(refusal, &shard.broker().config.node.directory);
    let throttle = errors::throttle(refusal);
    let record_indexes =
        if let AppendRefusal::KeysMissing { first, .. } = refusal { first.clone() } else { Vec::new() };
    Refused { error, text, record_indexes, throttle }
}

/// A request of which everything is known.
pub struct Finished {
    version: i16,
    correlation_id: i32,
    positions: ProducePositions,
    outcomes: Vec<Outcome>,
    request: Request,
}

impl Finished {
    /// When the request had arrived.
    pub fn received_at(&self) -> Moment {
        self.request.received_at
    }

    /// Encodes the answer, if the client wants one.
    pub fn encode<E: Env>(&self, outgoing: &mut Outgoing<E>) -> Result<(), Close> {
        if self.positions.acks == 0 {
            let refused = self.outcomes.iter().find_map(|outcome| match outcome {
                Outcome::Refused(refused) => Some(refused.error.name()),
                Outcome::Appended(_) | Outcome::Waiting => None,
            });
            // No answer is expected; closing is the only way to tell, and makes the client ask for metadata again.
            return refused.map_or(Ok(()), |name| Err(Close::Unacknowledged(name)));
        }
        let mut responses = Vec::with_capacity(self.positions.topics.len());
        for topic in &self.positions.topics {
            let range = topic.partitions.clone();
            let partitions = self.positions.partitions[range.clone()].iter().zip(&self.outcomes[range]);
            let (name, topic_id) = match &topic.name_or_id {
                TopicKey::Name(_) => (topic.name_or_id.name(&self.request.frame).unwrap_or_default(), Uuid::ZERO),
                TopicKey::Id(id) => ("", *id),
            };
            let partition_responses = partitions.map(|(partition, outcome)| respond(partition.index, outcome));
            let partition_responses = partition_responses.collect();
            responses.push(TopicProduceResponse { name, topic_id, partition_responses });
        }
        let throttles = self.outcomes.iter().map(|outcome| match outcome {
            Outcome::Refused(refused) => refused.throttle,
            Outcome::Appended(batch) => batch.throttle,
            Outcome::Waiting => Duration::ZERO,
        });
        let throttle = throttles.max().unwrap_or_default();
        outgoing.throttle(throttle);
        let throttle_time_ms = i32::try_from(throttle.as_millis()).expect("clients are held up for seconds at most");
        let response = ProduceResponse { responses, throttle_time_ms, ..ProduceResponse::default() };
        Ok(encode_response(outgoing.writer(), self.version, self.correlation_id, &response)?)
    }
}

/// What became of one partition's batch.
#[derive(Debug)]
enum Outcome {
    Waiting,
    Appended(AppendedBatch),
    Refused(Refused),
}

/// Why a batch is not in its log.
#[derive(Clone, Debug)]
struct Refused {
    error: ErrorCode,
    text: Option<String>,
    /// Records that are to blame; none when it is the batch as a whole.
    record_indexes: Vec<i32>,
    /// How long the client is to send nothing.
    throttle: Duration,
}

impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Self {
        Self { error, text: None, record_indexes: Vec::new(), throttle: Duration::ZERO }
    }
}

impl Refused {
    fn new(error: ErrorCode, text: impl Into<String>) -> Self {
        Self { text: Some(text.into()), ..Self::from(error) }
    }
}

/// Batches of one owner.
struct Group {
    owner: ShardIndex,
    batches: Vec<BatchPlace>,
    ordinals: Vec<usize>,
}

impl Group {
    fn add(&mut self, ordinal: usize, place: BatchPlace) {
        self.ordinals.push(ordinal);
        self.batches.push(place);
    }
}

fn group_of(groups: &mut Vec<Group>, owner: ShardIndex) -> &mut Group {
    let index = groups.iter().position(|group| group.owner == owner).unwrap_or_else(|| {
        groups.push(Group { owner, batches: Vec::new(), ordinals: Vec::new() });
        groups.len() - 1
    });
    &mut groups[index]
}

/// What holds for the request as a whole.
fn check_request<E: Env>(context: &Context<'_, E>, positions: &ProducePositions) -> Result<(), Refused> {
    if !(-1..=1).contains(&positions.acks) {
        return Err(ErrorCode::InvalidRequiredAcks.into());
    }
    match positions.transactional_id(context.frame) {
        None => Ok(()),
        Some(_) => Err(no_transactions()),
    }
}

fn no_transactions() -> Refused {
    Refused::new(ErrorCode::TransactionalIdAuthorizationFailed, "transactions are not served yet")
}

fn check_topic<'i, E: Env>(context: &Context<'_, E>, image: &'i Image, key: &TopicKey) -> Result<&'i Topic, Refused> {
    let topic = match key {
        TopicKey::Name(_) => TopicRef::Name(key.name(context.frame).unwrap_or_default()),
        TopicKey::Id(id) => TopicRef::Id(*id),
    };
    if let TopicRef::Name(name) = topic
        && !context.allows(Operation::Write, Resource::Topic(name))
    {
        return Err(ErrorCode::TopicAuthorizationFailed.into());
    }
    let topic = find_topic(image, topic)?;
    if !context.allows(Operation::Write, Resource::Topic(&topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed.into());
    }
    if is_internal(&topic.name) && context.head.client_id != Some(ADMIN_CLIENT) {
        return Err(Refused::new(ErrorCode::InvalidTopicException, "only brokers write to internal topics"));
    }
    Ok(topic)
}

fn check_partition<E: Env>(
    context: &Context<'_, E>,
    topic: &Topic,
    partition: &PartitionPosition,
) -> Result<BatchPlace, Refused> {
    let Led { id, leader_epoch } = find_led(topic, partition.index, context.shard.broker().node())?;
    let Some(range) = partition.records.clone().filter(|range| !range.is_empty()) else {
        return Err(Refused::new(ErrorCode::InvalidRecord, "there is no batch"));
    };
    let defaults = context.shard.topic_defaults();
    let bytes_max = batch_bytes_max(context, &defaults, topic);
    if range.len() > bytes_max {
        let text = format!("the batch has {} bytes, more than max.message.bytes={bytes_max}", range.len());
        return Err(Refused::new(ErrorCode::MessageTooLarge, text));
    }
    // What is not a batch at all is for the owner to refuse.
    if let Ok((header, _)) = BatchHeader::parse(&context.frame[range.clone()]) {
        let attributes = header.attributes();
        // Consumers that fetch in older versions could not read it (KIP-110).
        if context.head.version < ZSTD_FROM && attributes.compression() == Some(Compression::Zstd) {
            return Err(Refused::new(ErrorCode::UnsupportedCompressionType, "zstd needs Produce version 7"));
        }
        // Without a marker to follow it, such a batch would be an open transaction for ever.
        if attributes.is_transactional() {
            return Err(no_transactions());
        }
        check_timestamps(context, &defaults, topic, header)?;
    }
    let compacts = defaults.compacts(&topic.config);
    let keys = if compacts { Keys::Required } else { Keys::Optional };
    Ok(BatchPlace { partition: id, leader_epoch, range, keys })
}

/// Looks for the keys that a compacted log needs, if the batch is compressed. Otherwise the owner does.
async fn check_keys<E: Env>(context: &Context<'_, E>, place: BatchPlace) -> Result<BatchPlace, Refused> {
    if place.keys == Keys::Required {
        let shard = context.shard;
        let searched = shard.key_search().check(shard.env(), context.frame, place.range.clone()).await;
        searched.map_err(|refusal| explain(shard, &refusal, context.head.version))?;
    }
    Ok(place)
}

/// The topic's own limit, or the broker's; a topic may have been set to more than this broker takes now.
fn batch_bytes_max<E: Env>(context: &Context<'_, E>, defaults: &Defaults, topic: &Topic) -> usize {
    let limit = context.shard.broker().config.metadata.batch_bytes_limit;
    defaults.batch_bytes_max(&topic.config).min(usize::try_from(limit).expect("32 bits fit usize"))
}

/// Refuses a batch whose times are too far from the broker's. They are the header's: the records are not looked at.
fn check_timestamps<E: Env>(
    context: &Context<'_, E>,
    defaults: &Defaults,
    topic: &Topic,
    header: &BatchHeader,
) -> Result<(), Refused> {
    let (timestamps, now) = (defaults.timestamps(&topic.config), context.shard.env().clock().unix_ms());
    let (first, latest) = (header.base_timestamp.get(), header.max_timestamp.get());
    if timestamps.admit(first, latest, now) {
        return Ok(());
    }
    let (earliest_legal, latest_legal) = timestamps.range(now);
    let text = format!(
        "the batch's timestamps are from {first} to {latest}; the topic takes those from {earliest_legal} to {latest_legal}"
    );
    Err(Refused::new(ErrorCode::InvalidTimestamp, text))
}

fn respond(index: i32, outcome: &Outcome) -> PartitionProduceResponse<'_> {
    match outcome {
        Outcome::Appended(batch) => PartitionProduceResponse {
            index,
            base_offset: batch.base_offset.get(),
            log_append_time_ms: batch.log_append_time_ms.unwrap_or(NO_TIME),
            log_start_offset: batch.log_start_offset.get(),
            ..PartitionProduceResponse::default()
        },
        Outcome::Refused(Refused { error, text, record_indexes, throttle: _ }) => {
            let record_errors = record_indexes.iter().map(|batch_index| BatchIndexAndErrorMessage {
                batch_index: *batch_index,
                batch_index_error_message: Some("a record of a compacted topic needs a key"),
            });
            PartitionProduceResponse {
                index,
                error_code: error.code(),
                base_offset: NO_OFFSET,
                record_errors: record_errors.collect(),
                error_message: text.as_deref(),
                ..PartitionProduceResponse::default()
            }
        }
        Outcome::Waiting => unreachable!("a finished request has all its results"),
    }
}

const ZSTD_FROM: i16 = 7;
const BY_ID_FROM: i16 = 13;
const NO_TIME: i64 = -1;
const NO_OFFSET: i64 = -1;
/// The client id by which Kafka knows its own tools.
const ADMIN_CLIENT: &str = "__admin_client";
