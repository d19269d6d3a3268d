//! OffsetFetch: how far groups have read; from version 8 on several groups at once.
//!
//! There are no transactions, so what is committed is stable: `require_stable` has nothing to wait for.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopics, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::lookup::{TopicRef, find_topic, uuid};
use super::{Context, coordinator};
use crate::group::request::{Answer, Fetch, FetchedOffset, Question, TopicPartition, WantedOffset};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: OffsetFetchRequest<'_> = context.decode()?;
    let mut groups = Vec::new();
    if context.head.version >= GROUPS_FROM {
        for group in request.groups {
            // A client of KIP-848 says who it is, so that one that was fenced does not go on from what others have read.
            let is_named = group.member_id.is_some() || group.member_epoch >= 0;
            let member = is_named.then(|| (group.member_id.unwrap_or_default().to_owned(), group.member_epoch));
            groups.push((group.group_id, fetch(context, group.group_id, member, group.topics).await?));
        }
    } else {
        let topics = request.topics.map(|topics| {
            let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..OffsetFetchRequestTopics::default()
            });
            topics.collect()
        });
        groups.push((request.group_id, fetch(context, request.group_id, None, topics).await?));
    }
    let groups: Vec<_> = groups.iter().map(|(group_id, fetched)| respond(group_id, fetched)).collect();
    if context.head.version >= GROUPS_FROM {
        return context.answer(writer, &OffsetFetchResponse { groups, ..OffsetFetchResponse::default() });
    }
    let OffsetFetchResponseGroup { topics, error_code, .. } = groups.into_iter().next().expect("there is one");
    // Version 1 has no error of its own: it stands with each partition.
    let topics = topics.into_iter().map(|topic| OffsetFetchResponseTopic {
        name: topic.name,
        partitions: topic.partitions.iter().map(older).collect(),
    });
    let topics = topics.collect();
    context.answer(writer, &OffsetFetchResponse { topics, error_code, ..OffsetFetchResponse::default() })
}

/// What one group is told.
struct Fetched {
    error: ErrorCode,
    topics: Vec<FetchedTopic>,
}

/// One topic of it.
struct FetchedTopic {
    name: String,
    topic_id: Uuid,
    /// With the error of each.
    partitions: Vec<(FetchedOffset, ErrorCode)>,
}

async fn fetch<E: Env>(
    context: &Context<'_, E>,
    group: &str,
    member: Option<(String, i32)>,
    topics: Option<Vec<OffsetFetchRequestTopics<'_>>>,
) -> Result<Fetched, Close> {
    let refuse = |error| Fetched { error, topics: Vec::new() };
    let Some(topics) = topics else {
        let question = Question::Fetch(Fetch { member, wanted: None });
        return Ok(match coordinator::ask(context, Operation::Describe, group, question).await? {
            Answer::Fetched(offsets) => Fetched { error: ErrorCode::None, topics: gather(context, offsets) },
            Answer::Refused(error) => refuse(error),
            other => refuse(coordinator::mismatch(&other)),
        });
    };
    let mut fetched = Fetched { error: ErrorCode::None, topics: Vec::new() };
    let mut wanted = Vec::new();
    for topic in topics {
        let (name, error) = resolve(context, &topic);
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for partition in topic.partition_indexes {
            let place = TopicPartition { topic: name.clone(), partition };
            if error == ErrorCode::None {
                wanted.push(WantedOffset { place: place.clone(), topic_id: topic.topic_id });
            }
            partitions.push((FetchedOffset::none(place, topic.topic_id), error));
        }
        fetched.topics.push(FetchedTopic { name, topic_id: topic.topic_id, partitions });
    }
    let question = Question::Fetch(Fetch { member, wanted: Some(wanted) });
    let answer = coordinator::ask(context, Operation::Describe, group, question).await?;
    let mut offsets = match answer {
        Answer::Fetched(offsets) => offsets.into_iter(),
        Answer::Refused(error) => {
            fail(&mut fetched, error, context.head.version);
            return Ok(fetched);
        }
        other => return Ok(refuse(coordinator::mismatch(&other))),
    };
    let all = fetched.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    for (offset, _) in all.filter(|(_, error)| *error == ErrorCode::None) {
        *offset = offsets.next().expect("each question has its answer");
    }
    Ok(fetched)
}

/// The whole group is refused. Before there was an error for that it stands with each partition.
fn fail(fetched: &mut Fetched, error: ErrorCode, version: i16) {
    if version >= ERROR_FROM {
        fetched.error = error;
        fetched.topics.clear();
        return;
    }
    for (_, own) in fetched.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        *own = error;
    }
}

/// The name of the topic that is meant, and whether the client may know of its offsets.
fn resolve<E: Env>(context: &Context<'_, E>, topic: &OffsetFetchRequestTopics<'_>) -> (String, ErrorCode) {
    let image = context.shard.image();
    let name = if context.head.version >= BY_ID_FROM {
        match find_topic(&image, TopicRef::Id(topic.topic_id)) {
            Ok(found) => found.name.as_str(),
            Err(error) => return (String::new(), error),
        }
    } else {
        topic.name
    };
    let is_allowed = context.allows(Operation::Describe, Resource::Topic(name));
    (name.to_owned(), if is_allowed { ErrorCode::None } else { ErrorCode::TopicAuthorizationFailed })
}

/// All of a group's offsets by topic, without those of topics that the client may not see.
fn gather<E: Env>(context: &Context<'_, E>, offsets: Vec<FetchedOffset>) -> Vec<FetchedTopic> {
    let image = context.shard.image();
    let mut topics: Vec<FetchedTopic> = Vec::new();
    for offset in offsets {
        let name = &offset.place.topic;
        if !context.allows(Operation::Describe, Resource::Topic(name)) {
            continue;
        }
        let topic_id = image.find_topic_by_name(name).map(|topic| uuid(topic.id));
        if context.head.version >= BY_ID_FROM && topic_id.is_none() {
            // It has no id by which it could be told.
            continue;
        }
        if topic_id.is_some_and(|topic_id| offset.topic_id != Uuid::ZERO && offset.topic_id != topic_id) {
            // It was committed for a former topic of the name.
            continue;
        }
        if topics.last().is_none_or(|topic| topic.name != *name) {
            let topic_id = topic_id.unwrap_or_default();
            topics.push(FetchedTopic { name: name.clone(), topic_id, partitions: Vec::new() });
        }
        let topic = topics.last_mut().expect("there is one by now");
        topic.partitions.push((offset, ErrorCode::None));
    }
    topics
}

fn respond<'a>(group_id: &'a str, fetched: &'a Fetched) -> OffsetFetchResponseGroup<'a> {
    let partition = |(offset, error): &'a (FetchedOffset, ErrorCode)| OffsetFetchResponsePartitions {
        partition_index: offset.place.partition,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(&offset.metadata),
        error_code: error.code(),
    };
    let topics = fetched.topics.iter().map(|topic| OffsetFetchResponseTopics {
        name: &topic.name,
        topic_id: topic.topic_id,
        partitions: topic.partitions.iter().map(partition).collect(),
    });
    OffsetFetchResponseGroup { group_id, topics: topics.collect(), error_code: fetched.error.code() }
}

fn older<'a>(partition: &OffsetFetchResponsePartitions<'a>) -> OffsetFetchResponsePartition<'a> {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}

const ERROR_FROM: i16 = 2;
const GROUPS_FROM: i16 = 8;
const BY_ID_FROM: i16 = 10;
