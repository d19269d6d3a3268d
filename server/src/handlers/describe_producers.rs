//! DescribeProducers: who has written to a partition with a producer id lately (KIP-664).
//!
//! A partition that is named twice is answered once, so that the answer is no larger than what there is to describe.

use std::collections::BTreeSet;

use millrace_engine::model::PartitionId;
use millrace_engine::store::{ActiveProducer, ReadError};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::by_owner::ByOwner;
use super::lookup::{TopicRef, find_led, find_topic};
use super::{Context, errors};
use crate::metadata::Image;
use crate::metadata::controller::check_topic_name;
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DescribeProducersRequest<'_> = context.decode()?;
    let (shard, image) = (context.shard, context.shard.image());
    // Answers in the order of the request; those that need an owner are filled in below.
    let mut answers: Vec<PartitionResponse<'_>> = Vec::new();
    let mut counts = Vec::with_capacity(request.topics.len());
    let mut by_owner = ByOwner::new();
    let mut seen = BTreeSet::new();
    for topic in &request.topics {
        let count = answers.len();
        for index in &topic.partition_indexes {
            if !seen.insert((topic.name, *index)) {
                continue;
            }
            let found = find(context, &image, topic.name, *index);
            let (error, error_message) = found.err().unwrap_or((ErrorCode::None, None));
            if let Ok(id) = found {
                by_owner.add(shard.owner(id), answers.len(), id);
            }
            answers.push(refuse(*index, error, error_message));
        }
        counts.push(answers.len() - count);
    }
    for (ordinal, producers) in by_owner.ask(shard, async |owner, ids| shard.active_producers(owner, ids).await).await?
    {
        answers[ordinal] = answer(answers[ordinal].partition_index, producers);
    }

    let mut answers = answers.into_iter();
    let mut topics = Vec::with_capacity(counts.len());
    for (topic, count) in request.topics.iter().zip(counts) {
        topics.push(TopicResponse { name: topic.name, partitions: answers.by_ref().take(count).collect() });
    }
    context.answer(writer, &DescribeProducersResponse { topics, ..DescribeProducersResponse::default() })
}

fn find<E: Env>(
    context: &Context<'_, E>,
    image: &Image,
    name: &str,
    index: i32,
) -> Result<PartitionId, (ErrorCode, Option<&'static str>)> {
    if !context.allows(Operation::Read, Resource::Topic(name)) {
        return Err((ErrorCode::TopicAuthorizationFailed, None));
    }
    if check_topic_name(name).is_err() {
        return Err((ErrorCode::InvalidTopicException, Some("this is no name for a topic")));
    }
    let topic = find_topic(image, TopicRef::Name(name)).map_err(|error| (error, Some("the topic does not exist")))?;
    let led = find_led(topic, index, context.shard.broker().node()).map_err(|error| (error, None))?;
    Ok(led.id)
}

fn answer<'a>(partition_index: i32, producers: Result<Vec<ActiveProducer>, ReadError>) -> PartitionResponse<'a> {
    let producers = match producers {
        Ok(producers) => producers,
        Err(error) => return refuse(partition_index, errors::read(&error, errors::Naming::Name), None),
    };
    let state = |producer: ActiveProducer| ProducerState {
        producer_id: producer.id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_timestamp_ms,
        // There are no transactions yet.
        coordinator_epoch: NONE,
        current_txn_start_offset: i64::from(NONE),
    };
    let active_producers = producers.into_iter().map(state).collect();
    PartitionResponse { active_producers, ..refuse(partition_index, ErrorCode::None, None) }
}

fn refuse(partition_index: i32, error: ErrorCode, error_message: Option<&str>) -> PartitionResponse<'_> {
    PartitionResponse { partition_index, error_code: error.code(), error_message, active_producers: Vec::new() }
}

const NONE: i32 = -1;
