//! ElectLeaders: moves leaderships to the preferred replicas, or to replicas that may lack records (KIP-183, KIP-460).
//!
//! A partition has one replica so far, and that one leads. So no election is ever needed, of either type.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use crate::metadata::Image;
use crate::net::connection::Close;

pub(super) fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: ElectLeadersRequest<'_> = context.decode()?;
    let image = context.shard.image();
    let refusal = refusal(context, &request);
    let mut outcomes: Vec<(&str, Vec<(i32, Outcome)>)> = Vec::new();
    match &request.topic_partitions {
        Some(asked) => {
            for TopicPartitions { topic, partitions } in asked {
                let elect = |index: &i32| (*index, refusal.clone().unwrap_or_else(|| elect(&image, topic, *index)));
                outcomes.push((topic, partitions.iter().map(elect).collect()));
            }
        }
        // Kafka names every topic then, and of its partitions those that needed an election.
        None if refusal.is_none() => outcomes.extend(image.topics().map(|topic| (topic.name.as_str(), Vec::new()))),
        None => {}
    }
    let mut replica_election_results = Vec::with_capacity(outcomes.len());
    for (topic, partitions) in &outcomes {
        let partition_result = partitions.iter().map(|(partition_id, (error, text))| PartitionResult {
            partition_id: *partition_id,
            error_code: error.code(),
            error_message: Some(text),
        });
        replica_election_results.push(ReplicaElectionResult { topic, partition_result: partition_result.collect() });
    }
    // Version 0 has no error of the whole request, only those of its partitions.
    let error = refusal.as_ref().filter(|_| context.head.version >= ERROR_FROM);
    let error_code = error.map_or(ErrorCode::None, |(error, _)| *error).code();
    context.answer(
        writer,
        &ElectLeadersResponse { error_code, replica_election_results, ..ElectLeadersResponse::default() },
    )
}

/// What becomes of one partition.
type Outcome = (ErrorCode, String);

/// Why nothing is elected at all.
fn refusal<E: Env>(context: &Context<'_, E>, request: &ElectLeadersRequest<'_>) -> Option<Outcome> {
    if !context.allows(Operation::Alter, Resource::Cluster) {
        return Some((ErrorCode::ClusterAuthorizationFailed, "not allowed".to_owned()));
    }
    let is_known = matches!(request.election_type, PREFERRED | UNCLEAN);
    (!is_known).then(|| (ErrorCode::InvalidRequest, format!("unknown election type {}", request.election_type)))
}

fn elect(image: &Image, name: &str, index: i32) -> Outcome {
    let Some(topic) = image.find_topic_by_name(name) else {
        return (ErrorCode::UnknownTopicOrPartition, "the topic does not exist".to_owned());
    };
    match usize::try_from(index).ok().and_then(|index| topic.partitions.get(index)) {
        Some(_) => (ErrorCode::ElectionNotNeeded, "the partition has the leader it should have".to_owned()),
        None => (ErrorCode::UnknownTopicOrPartition, format!("the topic has no partition {index}")),
    }
}

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;
const ERROR_FROM: i16 = 1;
