//! CreatePartitions: each topic by itself, one after the other; one that is refused does not hold the others back (KIP-195).

use std::collections::BTreeMap;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_partitions::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::{Context, errors};
use crate::metadata::controller::partitions::CreatePartitions;
use crate::net::connection::Close;
use crate::shard::mailbox::message::{Proposal, ProposalMode};

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: CreatePartitionsRequest<'_> = context.decode()?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *counts.entry(topic.name).or_default() += 1;
    }
    let mode = if request.validate_only { ProposalMode::Validate } else { ProposalMode::Propose };
    let mut outcomes = Vec::new();
    for topic in &request.topics {
        // A name that stands there twice is refused once, as in Kafka.
        let Some(count) = counts.remove(topic.name) else { continue };
        let outcome = if count > 1 {
            Err((ErrorCode::InvalidRequest, "the request names the topic more than once".to_owned()))
        } else if context.allows(Operation::Alter, Resource::Topic(topic.name)) {
            create(context, topic, mode).await?
        } else {
            Err((ErrorCode::TopicAuthorizationFailed, "not allowed".to_owned()))
        };
        outcomes.push((topic.name, outcome));
    }
    let results = outcomes.iter().map(|(name, outcome)| result(name, outcome)).collect();
    context.answer(writer, &CreatePartitionsResponse { results, ..CreatePartitionsResponse::default() })
}

type Outcome = Result<(), (ErrorCode, String)>;

async fn create<E: Env>(
    context: &Context<'_, E>,
    topic: &CreatePartitionsTopic<'_>,
    mode: ProposalMode,
) -> Result<Outcome, Close> {
    let assignments = topic.assignments.as_ref();
    let request = CreatePartitions {
        name: topic.name.to_owned(),
        partition_count: topic.count,
        assignments: assignments.map(|all| all.iter().map(|assignment| assignment.broker_ids.clone()).collect()),
    };
    let decided = context.shard.propose(Proposal::CreatePartitions { request, mode }).await?;
    Ok(decided.map(|_| ()).map_err(|error| (errors::propose(&error), errors::propose_text(&error))))
}

fn result<'a>(name: &'a str, outcome: &'a Outcome) -> CreatePartitionsTopicResult<'a> {
    match outcome {
        Ok(()) => CreatePartitionsTopicResult { name, error_code: ErrorCode::None.code(), error_message: None },
        Err((error, message)) => {
            CreatePartitionsTopicResult { name, error_code: error.code(), error_message: Some(message) }
        }
    }
}
