//! OffsetDelete: offsets of topics that a group does not read any more go (KIP-496).

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::lookup::{TopicRef, find_topic};
use super::{Context, coordinator};
use crate::group::request::{Answer, Question, TopicPartition};
use crate::metadata::image::Topic;
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: OffsetDeleteRequest<'_> = context.decode()?;
    let refuse =
        |error: ErrorCode| OffsetDeleteResponse { error_code: error.code(), ..OffsetDeleteResponse::default() };
    let image = context.shard.image();
    // In the order of the request; what the group decides on is open.
    let mut errors = Vec::new();
    let mut places = Vec::new();
    for topic in &request.topics {
        let is_allowed = context.allows(Operation::Read, Resource::Topic(topic.name));
        let found = find_topic(&image, TopicRef::Name(topic.name));
        for partition in &topic.partitions {
            errors.push(match found {
                _ if !is_allowed => Some(ErrorCode::TopicAuthorizationFailed),
                Err(error) => Some(error),
                Ok(topic) if !has_partition(topic, partition.partition_index) => {
                    Some(ErrorCode::UnknownTopicOrPartition)
                }
                Ok(_) => {
                    let (topic, partition) = (topic.name.to_owned(), partition.partition_index);
                    places.push(TopicPartition { topic, partition });
                    None
                }
            });
        }
    }
    let question = Question::DeleteOffsets(places);
    let results = match coordinator::ask(context, Operation::Delete, request.group_id, question).await? {
        Answer::OffsetsDeleted(results) => results,
        Answer::Refused(error) => return context.answer(writer, &refuse(error)),
        other => return context.answer(writer, &refuse(coordinator::mismatch(&other))),
    };
    let mut errors = coordinator::fill(errors, results);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().zip(errors.by_ref()).map(|(partition, error)| {
            OffsetDeleteResponsePartition { partition_index: partition.partition_index, error_code: error.code() }
        });
        topics.push(OffsetDeleteResponseTopic { name: topic.name, partitions: partitions.collect() });
    }
    context.answer(writer, &OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() })
}

fn has_partition(topic: &Topic, index: i32) -> bool {
    usize::try_from(index).is_ok_and(|index| index < topic.partitions.len())
}
