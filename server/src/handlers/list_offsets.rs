//! ListOffsets: where a log begins and ends, and which offset belongs to a time.

use millrace_engine::store::{ReadError, TimeQuery};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
    ListOffsetsTopicResponse,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::by_owner::ByOwner;
use super::lookup::{TopicRef, check_epoch, find_led, find_topic};
use super::{Context, errors};
use crate::metadata::Image;
use crate::net::connection::Close;
use crate::shard::mailbox::message::{FoundOffset, ListOffsets, OffsetPosition, OffsetQuery};
use crate::shard::placement::ShardIndex;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: ListOffsetsRequest<'_> = context.decode()?;
    let image = context.shard.image();
    // Answers in the order of the request; those that need an owner are filled in below.
    let mut answers = Vec::new();
    let mut by_owner = ByOwner::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let ordinal = answers.len();
            answers.push(match plan(context, &image, topic, partition) {
                Ok(Plan::Ask(owner, query)) => {
                    by_owner.add(owner, ordinal, query);
                    refuse(partition.partition_index, ErrorCode::UnknownServerError)
                }
                Ok(Plan::Nothing) => nothing(partition.partition_index),
                Err(error) => refuse(partition.partition_index, error),
            });
        }
    }
    let ask = async |owner, queries| context.shard.list_offsets(owner, ListOffsets { queries }).await;
    for (ordinal, result) in by_owner.ask(context.shard, ask).await? {
        answers[ordinal] = answer(answers[ordinal].partition_index, result, context.head.version);
    }

    let mut answers = answers.into_iter();
    let respond = |topic: &ListOffsetsTopic<'_>| answers.by_ref().take(topic.partitions.len()).collect();
    let partitions: Vec<_> = request.topics.iter().map(respond).collect();
    let topics = request.topics.iter().zip(partitions);
    let topics = topics.map(|(topic, partitions)| ListOffsetsTopicResponse { name: topic.name, partitions }).collect();
    context.answer(writer, &ListOffsetsResponse { topics, ..ListOffsetsResponse::default() })
}

enum Plan {
    Ask(ShardIndex, OffsetQuery),
    /// There is no such offset, and that is no error.
    Nothing,
}

fn plan<E: Env>(
    context: &Context<'_, E>,
    image: &Image,
    topic: &ListOffsetsTopic<'_>,
    partition: &ListOffsetsPartition,
) -> Result<Plan, ErrorCode> {
    if !context.allows(Operation::Describe, Resource::Topic(topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = find_topic(image, TopicRef::Name(topic.name))?;
    let led = find_led(topic, partition.partition_index, context.shard.broker().node())?;
    check_epoch(led, partition.current_leader_epoch)?;
    let version = context.head.version;
    let position = match partition.timestamp {
        time @ 0.. => OffsetPosition::Time(TimeQuery::AtOrAfter(time)),
        LATEST => OffsetPosition::Latest,
        EARLIEST => OffsetPosition::Earliest,
        MAX_TIMESTAMP if version >= 7 => OffsetPosition::Time(TimeQuery::Largest),
        // Nothing is tiered: what is local is everything, and the tier has no offsets.
        EARLIEST_LOCAL if version >= 8 => OffsetPosition::Earliest,
        LATEST_TIERED if version >= 9 => return Ok(Plan::Nothing),
        EARLIEST_PENDING_UPLOAD if version >= 11 => return Ok(Plan::Nothing),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    Ok(Plan::Ask(
        context.shard.owner(led.id),
        OffsetQuery { partition: led.id, leader_epoch: led.leader_epoch, position },
    ))
}

fn answer(
    partition_index: i32,
    result: Result<Option<FoundOffset>, ReadError>,
    version: i16,
) -> ListOffsetsPartitionResponse {
    match result {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            partition_index,
            error_code: ErrorCode::None.code(),
            timestamp: found.timestamp_ms.unwrap_or(UNKNOWN),
            offset: found.offset.get(),
            leader_epoch: if version >= LEADER_EPOCH_FROM { found.leader_epoch.get() } else { NO_EPOCH },
        },
        Ok(None) => nothing(partition_index),
        Err(error) => refuse(partition_index, errors::read(&error, errors::Naming::Name)),
    }
}

fn nothing(partition_index: i32) -> ListOffsetsPartitionResponse {
    refuse(partition_index, ErrorCode::None)
}

fn refuse(partition_index: i32, error: ErrorCode) -> ListOffsetsPartitionResponse {
    let (timestamp, offset, leader_epoch) = (UNKNOWN, UNKNOWN, NO_EPOCH);
    ListOffsetsPartitionResponse { partition_index, error_code: error.code(), timestamp, offset, leader_epoch }
}

// Kafka's ListOffsetsRequest.json and KIP-396, KIP-734, KIP-405, KIP-1005, KIP-1023.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;
const UNKNOWN: i64 = -1;
const NO_EPOCH: i32 = -1;
const LEADER_EPOCH_FROM: i16 = 4;
