//! OffsetCommit: how far a group has read. Each partition by itself, unless the group refuses all of it.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestTopic, OffsetCommitResponse, OffsetCommitResponsePartition,
    OffsetCommitResponseTopic,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::lookup::{TopicRef, find_topic};
use super::{Context, coordinator};
use crate::group::request::{Answer, Commit, CommitOffset, Membership, Question, TopicPartition};
use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: OffsetCommitRequest<'_> = context.decode()?;
    let image = context.shard.image();
    // In the order of the request; what the group decides on is open.
    let mut errors = Vec::new();
    let mut offsets = Vec::new();
    let is_allowed = context.allows(Operation::Read, Resource::Group(request.group_id));
    for topic in &request.topics {
        let found = find(context, &image, topic);
        for partition in &topic.partitions {
            let known = found.and_then(|found| {
                let index = usize::try_from(partition.partition_index).ok();
                let is_there = index.is_some_and(|index| index < found.partitions.len());
                if is_there { Ok(found) } else { Err(ErrorCode::UnknownTopicOrPartition) }
            });
            errors.push(match known {
                _ if !is_allowed => Some(ErrorCode::GroupAuthorizationFailed),
                Err(error) => Some(error),
                Ok(found) => {
                    offsets.push(CommitOffset {
                        place: TopicPartition { topic: found.name.clone(), partition: partition.partition_index },
                        topic_id: topic.topic_id,
                        offset: partition.committed_offset,
                        leader_epoch: partition.committed_leader_epoch,
                        metadata: partition.committed_metadata.unwrap_or_default().to_owned(),
                    });
                    None
                }
            });
        }
    }
    let results = if offsets.is_empty() { Vec::new() } else { commit(context, &request, offsets).await? };
    let mut errors = coordinator::fill(errors, results);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics.iter().filter(|topic| !topic.partitions.is_empty()) {
        let partitions = topic.partitions.iter().zip(errors.by_ref()).map(|(partition, error)| {
            OffsetCommitResponsePartition { partition_index: partition.partition_index, error_code: error.code() }
        });
        let partitions = partitions.collect();
        topics.push(OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions });
    }
    context.answer(writer, &OffsetCommitResponse { topics, ..OffsetCommitResponse::default() })
}

/// One result per offset, in order.
async fn commit<E: Env>(
    context: &Context<'_, E>,
    request: &OffsetCommitRequest<'_>,
    offsets: Vec<CommitOffset>,
) -> Result<Vec<ErrorCode>, Close> {
    let count = offsets.len();
    let generation = request.generation_id_or_member_epoch;
    let commit = Commit {
        member: Membership::new(request.member_id, request.group_instance_id, generation),
        retention_ms: Some(request.retention_time_ms).filter(|retention_ms| *retention_ms >= 0),
        knows_epochs: context.head.version >= EPOCHS_FROM,
        offsets,
    };
    Ok(match coordinator::ask(context, Operation::Read, request.group_id, Question::Commit(commit)).await? {
        Answer::Committed(results) => results,
        Answer::Refused(error) => vec![error; count],
        other => vec![coordinator::mismatch(&other); count],
    })
}

/// The topic that is meant, if the client may read it.
fn find<'i, E: Env>(
    context: &Context<'_, E>,
    image: &'i Image,
    topic: &OffsetCommitRequestTopic<'_>,
) -> Result<&'i Topic, ErrorCode> {
    let by_id = context.head.version >= BY_ID_FROM;
    if !by_id && !context.allows(Operation::Read, Resource::Topic(topic.name)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let found = if by_id { TopicRef::Id(topic.topic_id) } else { TopicRef::Name(topic.name) };
    let found = find_topic(image, found)?;
    assert!(by_id || topic.topic_id == Uuid::ZERO, "older versions have no ids");
    if context.allows(Operation::Read, Resource::Topic(&found.name)) {
        Ok(found)
    } else {
        Err(ErrorCode::TopicAuthorizationFailed)
    }
}

const BY_ID_FROM: i16 = 10;
const EPOCHS_FROM: i16 = 9;
