//! DescribeTopicPartitions: topics by name, with a bounded number of partitions in each answer (KIP-966). What does not fit is
//! asked for again from the cursor on. Topics that are not there do not count towards the bound.

use std::collections::BTreeSet;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
    DescribeTopicPartitionsResponseTopic, ResponseCursor,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource, TOPIC_OPERATIONS};
use super::{Context, lookup};
use crate::metadata::controller::{check_topic_name, is_internal};
use crate::metadata::image::Topic;
use crate::metadata::record::{NodeId, Partition};
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DescribeTopicPartitionsRequest<'_> = context.decode()?;
    let image = context.shard.image();
    let Some(start) = find_start(&request) else {
        let refused = request.topics.iter().map(|topic| refuse(topic.name, ErrorCode::InvalidRequest)).collect();
        let response = DescribeTopicPartitionsResponse { topics: refused, ..Default::default() };
        return context.answer(writer, &response);
    };
    let names: BTreeSet<&str> = if request.topics.is_empty() {
        image.topics().map(|topic| topic.name.as_str()).collect()
    } else {
        request.topics.iter().map(|topic| topic.name).collect()
    };
    let mut described = Vec::new();
    let mut forbidden = Vec::new();
    let mut next_cursor = None;
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(1);
    let mut room = limit.clamp(1, RESPONSE_PARTITION_COUNT_MAX);
    for name in names.range(start.topic..) {
        if !context.allows(Operation::Describe, Resource::Topic(name)) {
            // Who asks for all topics is not told of those that are not for them.
            if !request.topics.is_empty() {
                forbidden.push(refuse(name, ErrorCode::TopicAuthorizationFailed));
            }
            continue;
        }
        if room == 0 {
            next_cursor = Some(ResponseCursor { topic_name: name, partition_index: 0 });
            break;
        }
        let operations = context.allowed_operations(&TOPIC_OPERATIONS, Resource::Topic(name));
        let Some(topic) = image.find_topic_by_name(name) else {
            let is_name = check_topic_name(name).is_ok();
            let error = if is_name { ErrorCode::UnknownTopicOrPartition } else { ErrorCode::InvalidTopicException };
            let unknown = refuse(name, error);
            described.push(DescribeTopicPartitionsResponseTopic { topic_authorized_operations: operations, ..unknown });
            continue;
        };
        let first = if *name == start.topic { start.partition_index.min(topic.partitions.len()) } else { 0 };
        let end = topic.partitions.len().min(first + room);
        described.push(describe(topic, &topic.partitions[first..end], operations));
        room -= end - first;
        if end < topic.partitions.len() {
            let partition_index = i32::try_from(end).expect("bounded by TOPIC_PARTITION_COUNT_MAX");
            next_cursor = Some(ResponseCursor { topic_name: name, partition_index });
            break;
        }
    }
    described.extend(forbidden);
    let response = DescribeTopicPartitionsResponse { topics: described, next_cursor, ..Default::default() };
    context.answer(writer, &response)
}

/// Where the answer begins.
struct Start<'a> {
    topic: &'a str,
    partition_index: usize,
}

/// The cursor of the request, if it can be one: a topic that is asked for, and a partition that could be.
fn find_start<'a>(request: &DescribeTopicPartitionsRequest<'a>) -> Option<Start<'a>> {
    let Some(cursor) = &request.cursor else { return Some(Start { topic: "", partition_index: 0 }) };
    let is_asked = request.topics.is_empty() || request.topics.iter().any(|topic| topic.name == cursor.topic_name);
    let partition_index = usize::try_from(cursor.partition_index).ok()?;
    is_asked.then_some(Start { topic: cursor.topic_name, partition_index })
}

fn describe<'a>(
    topic: &'a Topic,
    partitions: &[Partition],
    operations: i32,
) -> DescribeTopicPartitionsResponseTopic<'a> {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(&topic.name),
        topic_id: lookup::uuid(topic.id),
        is_internal: is_internal(&topic.name),
        partitions: partitions.iter().map(describe_partition).collect(),
        topic_authorized_operations: operations,
    }
}

fn describe_partition(partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.get()).collect();
    let error = if partition.leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: partition.partition,
        leader_id: partition.leader.map_or(NOBODY, NodeId::get),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: numbers(&partition.replicas),
        isr_nodes: numbers(&partition.isr),
        // Replicas outside the ISR that have every record: there are none outside.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    }
}

fn refuse(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic<'_> {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name),
        topic_id: Uuid::ZERO,
        is_internal: is_internal(name),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// Most partitions in one answer, whatever the client asks for; Kafka's default of `max.request.partition.size.limit`.
const RESPONSE_PARTITION_COUNT_MAX: usize = 2000;
const NOBODY: i32 = -1;
