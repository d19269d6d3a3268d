//! CreateTopics: each topic by itself, one after the other; one that is refused does not hold the others back.

use std::collections::BTreeMap;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::describe_configs::entries::{BrokerKey, Entry, broker_keys, source_code, topic_entries};
use super::{Context, errors, lookup};
use crate::metadata::broker_config::Told;
use crate::metadata::controller::{Assignment, CreateTopic, PlannedTopic};
use crate::net::connection::Close;
use crate::shard::mailbox::message::{Decision, Proposal, ProposalMode};

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: CreateTopicsRequest<'_> = context.decode()?;
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
        } else if context.allows(Operation::Create, Resource::Topic(topic.name)) {
            create(context, topic, mode).await?
        } else {
            Err((ErrorCode::TopicAuthorizationFailed, "not allowed".to_owned()))
        };
        outcomes.push((topic, outcome));
    }
    let broker = (context.head.version >= CONFIGS_FROM).then(|| {
        let image = context.shard.image();
        broker_keys(&context.shard.broker().config, Told::new(&image, context.shard.broker().node()))
    });
    let made = outcomes.into_iter().map(|(topic, outcome)| {
        let planned = outcome.map(|planned| {
            let entries = broker.as_deref().map(|broker| describe(context, topic, broker)).unwrap_or_default();
            (planned, entries)
        });
        (topic.name, planned)
    });
    let made: Vec<_> = made.collect();
    let topics = made.iter().map(|(name, outcome)| result(name, outcome)).collect();
    context.answer(writer, &CreateTopicsResponse { topics, ..CreateTopicsResponse::default() })
}

/// From this version on the answer lists a topic's configuration (KIP-525).
const CONFIGS_FROM: i16 = 5;

type Refused = (ErrorCode, String);

/// What a topic is configured like that was made as the request says.
fn describe<E: Env>(context: &Context<'_, E>, topic: &CreatableTopic<'_>, broker: &[BrokerKey]) -> Vec<Entry> {
    let own = topic.configs.iter().filter_map(|config| Some((config.name.to_owned(), config.value?.to_owned())));
    topic_entries(&own.collect(), &context.shard.topic_defaults(), broker)
}

async fn create<E: Env>(
    context: &Context<'_, E>,
    topic: &CreatableTopic<'_>,
    mode: ProposalMode,
) -> Result<Result<PlannedTopic, Refused>, Close> {
    let assignments = topic.assignments.iter();
    let request = CreateTopic {
        name: topic.name.to_owned(),
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .map(|assignment| Assignment {
                partition: assignment.partition_index,
                replicas: assignment.broker_ids.clone(),
            })
            .collect(),
        config: topic.configs.iter().map(|config| (config.name.to_owned(), config.value.map(str::to_owned))).collect(),
    };
    Ok(match context.shard.propose(Proposal::CreateTopic { request, mode }).await? {
        Ok(Decision::TopicCreated(planned)) => Ok(planned),
        Ok(
            Decision::BrokerRegistered
            | Decision::PartitionsCreated
            | Decision::ConfigAltered
            | Decision::TopicDeleted { .. }
            | Decision::ProducerIds { .. },
        ) => unreachable!("a proposal is answered in kind"),
        Err(error) => Err((errors::propose(&error), errors::propose_text(&error))),
    })
}

fn result<'a>(name: &'a str, outcome: &'a Result<(PlannedTopic, Vec<Entry>), Refused>) -> CreatableTopicResult<'a> {
    match outcome {
        Ok((planned, entries)) => CreatableTopicResult {
            name,
            topic_id: lookup::uuid(planned.topic),
            num_partitions: planned.partition_count,
            replication_factor: planned.replication_factor,
            configs: Some(entries.iter().map(encode_entry).collect()),
            error_message: None,
            ..CreatableTopicResult::default()
        },
        Err((error, message)) => CreatableTopicResult {
            name,
            error_code: error.code(),
            error_message: Some(message),
            num_partitions: -1,
            replication_factor: -1,
            ..CreatableTopicResult::default()
        },
    }
}

fn encode_entry(entry: &Entry) -> CreatableTopicConfigs<'_> {
    CreatableTopicConfigs {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.is_read_only,
        config_source: source_code(entry.source()),
        is_sensitive: entry.is_sensitive(),
    }
}
