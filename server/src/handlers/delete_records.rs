//! DeleteRecords: moves the start of logs forward (KIP-107). Each partition by itself; what is gone is gone for every reader
//! when the answer leaves, and the space it took is given back segment by segment.

use millrace_engine::model::Offset;
use millrace_engine::store::ReadError;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopic, DeleteRecordsTopicResult,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::by_owner::ByOwner;
use super::lookup::{TopicRef, find_led, find_topic};
use super::{Context, errors};
use crate::metadata::Image;
use crate::metadata::controller::is_internal;
use crate::net::connection::Close;
use crate::shard::mailbox::message::{DeleteRecords, DeleteTarget};

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DeleteRecordsRequest<'_> = context.decode()?;
    let image = context.shard.image();
    // Answers in the order of the request; those that need an owner are filled in below.
    let mut answers = Vec::new();
    let mut by_owner = ByOwner::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let ordinal = answers.len();
            answers.push(match plan(context, &image, topic, partition) {
                Ok(target) => {
                    by_owner.add(context.shard.owner(target.partition), ordinal, target);
                    refuse(partition.partition_index, ErrorCode::UnknownServerError)
                }
                Err(error) => refuse(partition.partition_index, error),
            });
        }
    }
    let ask = async |owner, targets| context.shard.delete_records(owner, DeleteRecords { targets }).await;
    for (ordinal, result) in by_owner.ask(context.shard, ask).await? {
        answers[ordinal] = answer(answers[ordinal].partition_index, &result);
    }

    let mut answers = answers.into_iter();
    let respond = |topic: &DeleteRecordsTopic<'_>| answers.by_ref().take(topic.partitions.len()).collect();
    let partitions: Vec<_> = request.topics.iter().map(respond).collect();
    let topics = request.topics.iter().zip(partitions);
    let topics = topics.map(|(topic, partitions)| DeleteRecordsTopicResult { name: topic.name, partitions }).collect();
    context.answer(writer, &DeleteRecordsResponse { topics, ..DeleteRecordsResponse::default() })
}

fn plan<E: Env>(
    context: &Context<'_, E>,
    image: &Image,
    topic: &DeleteRecordsTopic<'_>,
    partition: &DeleteRecordsPartition,
) -> Result<DeleteTarget, ErrorCode> {
    if !context.allows(Operation::Delete, Resource::Topic(topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = find_topic(image, TopicRef::Name(topic.name))?;
    let led = find_led(topic, partition.partition_index, context.shard.broker().node())?;
    if is_internal(&topic.name) {
        return Err(ErrorCode::InvalidTopicException);
    }
    // A log that is only compacted keeps the newest record of each key, whoever asks.
    let policy = context.shard.topic_defaults().log_config(&topic.name, &topic.config).cleanup_policy;
    if !policy.deletes() {
        return Err(ErrorCode::PolicyViolation);
    }
    let before = match partition.offset {
        HIGH_WATERMARK => None,
        offset @ 0.. => Some(Offset::new(offset)),
        _ => return Err(ErrorCode::OffsetOutOfRange),
    };
    Ok(DeleteTarget { partition: led.id, before })
}

fn answer(partition_index: i32, result: &Result<Offset, ReadError>) -> DeleteRecordsPartitionResult {
    match result {
        Ok(start) => {
            let (error_code, low_watermark) = (ErrorCode::None.code(), start.get());
            DeleteRecordsPartitionResult { partition_index, low_watermark, error_code }
        }
        Err(error) => refuse(partition_index, errors::read(error, errors::Naming::Name)),
    }
}

fn refuse(partition_index: i32, error: ErrorCode) -> DeleteRecordsPartitionResult {
    DeleteRecordsPartitionResult { partition_index, low_watermark: UNKNOWN, error_code: error.code() }
}

/// Stands for the high watermark (DeleteRecordsRequest.json).
const HIGH_WATERMARK: i64 = -1;
const UNKNOWN: i64 = -1;
