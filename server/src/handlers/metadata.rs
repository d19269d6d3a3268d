//! Metadata: which brokers and topics there are, and who leads what. Makes a topic that a client asks for, if it may.

use std::collections::BTreeSet;
use std::rc::Rc;

use millrace_engine::model::TopicId;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::{Context, errors, lookup};
use crate::metadata::Image;
use crate::metadata::controller::{CreateTopic, OFFSETS_TOPIC, check_topic_name, is_internal};
use crate::metadata::image::Topic;
use crate::metadata::record::{NodeId, Partition};
use crate::net::connection::Close;
use crate::shard::mailbox::message::{Proposal, ProposalMode};

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: MetadataRequest<'_> = context.decode()?;
    let version = context.head.version;
    if names_badly(&request, version) {
        return context.answer(writer, &refuse_all(&request));
    }
    let asked = asked(&request, version);
    let is_for_all = asked.is_none();
    let asked = asked.unwrap_or_default();
    let errors = create_missing(context, &request, &asked).await?;

    let (image, node, listener) = (context.shard.image(), context.shard.broker().node(), context.listener());
    let cluster_id = context.shard.broker().cluster_id.to_string();
    let mut brokers = Vec::new();
    for broker in image.brokers() {
        let Some(endpoint) = broker.endpoints.iter().find(|endpoint| endpoint.listener == listener.name) else {
            continue;
        };
        brokers.push(MetadataResponseBroker {
            node_id: broker.node.get(),
            host: &endpoint.host,
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref(),
        });
    }
    let topics = if is_for_all {
        let is_visible = |topic: &&Topic| context.allows(Operation::Describe, Resource::Topic(&topic.name));
        image.topics().filter(is_visible).map(describe).collect()
    } else {
        asked.iter().zip(&errors).map(|(asked, error)| answer(context, &image, asked, *error)).collect()
    };
    let response = MetadataResponse {
        brokers,
        cluster_id: Some(&cluster_id),
        // Clients send what changes the cluster here; any broker takes it.
        controller_id: node.get(),
        topics,
        ..MetadataResponse::default()
    };
    context.answer(writer, &response)
}

/// How one topic is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked<'a> {
    Name(&'a str),
    Id(Uuid),
}

/// Whether a topic is asked for in a way that the version does not have: by nothing, or by an id before brokers answer to
/// ids. Versions 10 and 11 have the field already (KIP-516).
fn names_badly(request: &MetadataRequest<'_>, version: i16) -> bool {
    request.topics.iter().flatten().any(|topic| match topic.name {
        Some(_) => !topic.topic_id.is_zero() && version < BY_ID_FROM,
        None => topic.topic_id.is_zero() || version < BY_ID_FROM,
    })
}

/// The answer to such a request: as in Kafka it tells of nothing, not even of the brokers.
fn refuse_all<'a>(request: &MetadataRequest<'a>) -> MetadataResponse<'a> {
    let error = ErrorCode::InvalidRequest;
    let topics = request.topics.iter().flatten();
    MetadataResponse {
        topics: topics.map(|topic| refuse(Some(topic.name.unwrap_or("")), topic.topic_id, error)).collect(),
        error_code: error.code(),
        ..MetadataResponse::default()
    }
}

/// The topics asked for; `None` is all. Each is there once, however often the request names it: a small request must not
/// get an endless answer.
fn asked<'a>(request: &MetadataRequest<'a>, version: i16) -> Option<Vec<Asked<'a>>> {
    // Null is all topics; in version 0, which has no null, empty is.
    let topics = request.topics.as_ref().filter(|topics| version > 0 || !topics.is_empty())?;
    let mut seen = BTreeSet::new();
    let asked = topics.iter().map(|topic| match topic.name {
        Some(name) if topic.topic_id.is_zero() => Asked::Name(name),
        _ => Asked::Id(topic.topic_id),
    });
    Some(asked.filter(|topic| seen.insert(*topic)).collect())
}

/// Makes the topics that are not there, where client and broker allow it. Gives the error of each that could not be made.
async fn create_missing<E: Env>(
    context: &Context<'_, E>,
    request: &MetadataRequest<'_>,
    asked: &[Asked<'_>],
) -> Result<Vec<Option<ErrorCode>>, Close> {
    // Before version 4 there is no such field, and every client means yes.
    let is_wanted = request.allow_auto_topic_creation || context.head.version < ALLOW_CREATION_FROM;
    let is_allowed = is_wanted && context.shard.broker().config.metadata.auto_create_topics;
    let mut errors = Vec::with_capacity(asked.len());
    for asked in asked {
        let missing = match asked {
            Asked::Name(name) if context.shard.image().find_topic_id(name).is_none() => name,
            _ => {
                errors.push(None);
                continue;
            }
        };
        let is_authorized = context.allows(Operation::Create, Resource::Topic(missing));
        if !is_allowed || !is_authorized || check_topic_name(missing).is_err() {
            errors.push(None);
            continue;
        }
        if *missing == OFFSETS_TOPIC {
            // With the defaults of other topics it would forget what groups store in it.
            let is_made = context.shard.make_offsets_topic().await?;
            errors.push((!is_made).then_some(ErrorCode::UnknownTopicOrPartition));
            continue;
        }
        let (partition_count, replication_factor) = (USE_DEFAULT, -1);
        let (assignments, config) = (Vec::new(), Vec::new());
        let name = (*missing).to_owned();
        let request = CreateTopic { name, partition_count, replication_factor, assignments, config };
        let proposal = Proposal::CreateTopic { request, mode: ProposalMode::Propose };
        errors.push(match context.shard.propose(proposal).await? {
            Ok(_) => None,
            // Somebody else made it meanwhile: it is there now.
            Err(error) if errors::propose(&error) == ErrorCode::TopicAlreadyExists => None,
            Err(error) => Some(errors::propose(&error)),
        });
    }
    Ok(errors)
}

fn answer<'a, E: Env>(
    context: &Context<'_, E>,
    image: &'a Rc<Image>,
    asked: &Asked<'a>,
    error: Option<ErrorCode>,
) -> MetadataResponseTopic<'a> {
    let topic = match asked {
        Asked::Name(name) if !context.allows(Operation::Describe, Resource::Topic(name)) => {
            return refuse(Some(name), Uuid::ZERO, ErrorCode::TopicAuthorizationFailed);
        }
        Asked::Name(name) => match image.find_topic_by_name(name) {
            Some(topic) => topic,
            None if check_topic_name(name).is_err() => {
                return refuse(Some(name), Uuid::ZERO, ErrorCode::InvalidTopicException);
            }
            None => return refuse(Some(name), Uuid::ZERO, error.unwrap_or(ErrorCode::UnknownTopicOrPartition)),
        },
        Asked::Id(id) => match image.find_topic(TopicId::from_bytes(id.0)) {
            Some(topic) if context.allows(Operation::Describe, Resource::Topic(&topic.name)) => topic,
            // Somebody who may not see a topic must not learn that its id is one.
            Some(_) | None => return refuse(None, *id, ErrorCode::UnknownTopicId),
        },
    };
    describe(topic)
}

fn refuse(name: Option<&str>, topic_id: Uuid, error: ErrorCode) -> MetadataResponseTopic<'_> {
    MetadataResponseTopic { error_code: error.code(), name, topic_id, ..MetadataResponseTopic::default() }
}

fn describe(topic: &Topic) -> MetadataResponseTopic<'_> {
    MetadataResponseTopic {
        name: Some(&topic.name),
        topic_id: lookup::uuid(topic.id),
        is_internal: is_internal(&topic.name),
        partitions: topic.partitions.iter().map(describe_partition).collect(),
        ..MetadataResponseTopic::default()
    }
}

fn describe_partition(partition: &Partition) -> MetadataResponsePartition {
    let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.get()).collect();
    let error = if partition.leader.is_some() { ErrorCode::None } else { ErrorCode::LeaderNotAvailable };
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index: partition.partition,
        leader_id: partition.leader.map_or(NOBODY, NodeId::get),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: numbers(&partition.replicas),
        isr_nodes: numbers(&partition.isr),
        offline_replicas: Vec::new(),
    }
}

const ALLOW_CREATION_FROM: i16 = 4;
const BY_ID_FROM: i16 = 12;
const USE_DEFAULT: i32 = -1;
const NOBODY: i32 = -1;
