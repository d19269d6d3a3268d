//! DeleteTopics: each topic by itself, by name or, from version 6 on, by id (KIP-516). One that is refused does not hold
//! the others back. Whoever is answered finds the topic gone wherever it asks; its files go afterwards.

use std::collections::BTreeMap;

use millrace_engine::model::TopicId;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::delete_topics::{
    DeletableTopicResult, DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::{Context, errors, lookup};
use crate::metadata::controller::DeleteTopic;
use crate::net::connection::Close;
use crate::shard::mailbox::message::{Decision, Proposal};

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DeleteTopicsRequest<'_> = context.decode()?;
    let by_name = request.topic_names.iter().map(|name| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO });
    let asked: Vec<DeleteTopicState<'_>> = by_name.chain(request.topics.iter().cloned()).collect();
    let duplicates = Duplicates::find(context, &asked);

    let mut outcomes = Vec::new();
    for (index, topic) in asked.iter().enumerate() {
        let refused = match (topic.name, topic.topic_id.is_zero()) {
            (None, true) => Some("neither a name nor an id is given"),
            (Some(_), false) => Some("a topic is named by its name or by its id, not by both"),
            _ => match duplicates.judge(index) {
                Standing::Only => None,
                Standing::First => Some("the request names the topic more than once"),
                // As in Kafka, what stands there several times is refused once.
                Standing::Later => continue,
            },
        };
        let outcome = match refused {
            Some(text) => Err((ErrorCode::InvalidRequest, text.to_owned())),
            None => delete(context, topic).await?,
        };
        outcomes.push((topic, outcome));
    }
    let responses = outcomes.iter().map(|(topic, outcome)| result(topic, outcome, context.head.version)).collect();
    context.answer(writer, &DeleteTopicsResponse { responses, ..DeleteTopicsResponse::default() })
}

/// What a deleted topic was, or why it is not deleted.
type Outcome = Result<(TopicId, String), (ErrorCode, String)>;

/// Which elements of a request mean the same topic.
struct Duplicates {
    /// For each element the first one that means the same.
    first: Vec<usize>,
    /// For each of those how many there are.
    counts: Vec<usize>,
}

/// How an element stands to the others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    Only,
    First,
    Later,
}

impl Duplicates {
    fn find<E: Env>(context: &Context<'_, E>, asked: &[DeleteTopicState<'_>]) -> Self {
        let image = context.shard.image();
        let (mut by_name, mut by_id) = (BTreeMap::new(), BTreeMap::new());
        let mut first = Vec::with_capacity(asked.len());
        for (index, topic) in asked.iter().enumerate() {
            // An element that names both, or neither, is refused for that and stands for itself.
            first.push(match (topic.name, topic.topic_id.is_zero()) {
                (Some(name), true) => match image.find_topic_id(name) {
                    Some(id) => *by_id.entry(lookup::uuid(id)).or_insert(index),
                    None => *by_name.entry(name).or_insert(index),
                },
                (None, false) => *by_id.entry(topic.topic_id).or_insert(index),
                _ => index,
            });
        }
        let mut counts = vec![0; asked.len()];
        for index in &first {
            counts[*index] += 1;
        }
        Self { first, counts }
    }

    fn judge(&self, index: usize) -> Standing {
        if self.first[index] != index {
            Standing::Later
        } else if self.counts[index] > 1 {
            Standing::First
        } else {
            Standing::Only
        }
    }
}

async fn delete<E: Env>(context: &Context<'_, E>, topic: &DeleteTopicState<'_>) -> Result<Outcome, Close> {
    let image = context.shard.image();
    let request = if let Some(name) = topic.name {
        if !context.allows(Operation::Delete, Resource::Topic(name)) {
            return Ok(Err((ErrorCode::TopicAuthorizationFailed, "not allowed".to_owned())));
        }
        DeleteTopic::Name(name.to_owned())
    } else {
        let id = TopicId::from_bytes(topic.topic_id.0);
        let known = image.find_topic(id);
        if known.is_some_and(|known| !context.allows(Operation::Delete, Resource::Topic(&known.name))) {
            return Ok(Err((ErrorCode::TopicAuthorizationFailed, "not allowed".to_owned())));
        }
        DeleteTopic::Id(id)
    };
    Ok(match context.shard.propose(Proposal::DeleteTopic(request)).await? {
        Ok(Decision::TopicDeleted { topic, name }) => Ok((topic, name)),
        Ok(
            Decision::BrokerRegistered
            | Decision::TopicCreated(_)
            | Decision::PartitionsCreated
            | Decision::ConfigAltered
            | Decision::ProducerIds { .. },
        ) => unreachable!("a proposal is answered in kind"),
        Err(error) => Err((errors::propose(&error), errors::propose_text(&error))),
    })
}

fn result<'a>(topic: &DeleteTopicState<'a>, outcome: &'a Outcome, version: i16) -> DeletableTopicResult<'a> {
    match outcome {
        Ok((id, name)) => DeletableTopicResult {
            name: Some(name),
            topic_id: lookup::uuid(*id),
            error_code: ErrorCode::None.code(),
            error_message: None,
        },
        Err((error, text)) => {
            let is_too_new = *error == ErrorCode::TopicDeletionDisabled && version < DELETION_DISABLED_FROM;
            DeletableTopicResult {
                name: topic.name,
                topic_id: topic.topic_id,
                error_code: if is_too_new { ErrorCode::InvalidRequest } else { *error }.code(),
                error_message: Some(text),
            }
        }
    }
}

/// Older clients do not know the error (KIP-322).
const DELETION_DISABLED_FROM: i16 = 3;
