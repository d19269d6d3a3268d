//! ConsumerGroupHeartbeat (KIP-848): a member joins, stays or goes, says what it reads, and hears what is its.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ResponseTopicPartitions,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::{Env, Random};

use super::authorizer::{Operation, Resource};
use super::{Context, coordinator};
use crate::group::consumer::member::by_topic;
use crate::group::request::{Answer, Beat, Beaten, IdPartition, Question};
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: ConsumerGroupHeartbeatRequest<'_> = context.decode()?;
    let names = || request.subscribed_topic_names.iter().flatten();
    // Who may not ask the group at all hears that first.
    let answer = if !context.allows(Operation::Read, Resource::Group(request.group_id)) {
        Answer::Refused(ErrorCode::GroupAuthorizationFailed)
    } else if !names().all(|name| context.allows(Operation::Describe, Resource::Topic(name))) {
        Answer::Refused(ErrorCode::TopicAuthorizationFailed)
    } else {
        let question = Question::Beat(Box::new(question(context, &request)));
        coordinator::ask(context, Operation::Read, request.group_id, question).await?
    };
    match &answer {
        Answer::Beaten(beaten) => context.answer(writer, &respond(beaten)),
        Answer::Refused(error) => context.answer(writer, &refuse(*error)),
        other => context.answer(writer, &refuse(coordinator::mismatch(other))),
    }
}

fn question<E: Env>(context: &Context<'_, E>, request: &ConsumerGroupHeartbeatRequest<'_>) -> Beat {
    let text = |text: Option<&str>| text.map(str::to_owned);
    let owned = request.topic_partitions.as_ref().map(|topics| {
        let topics = topics.iter().flat_map(|topic| {
            let place = |partition: &i32| IdPartition { topic_id: topic.topic_id, partition: *partition };
            topic.partitions.iter().map(place)
        });
        topics.collect()
    });
    let names = request.subscribed_topic_names.as_ref();
    Beat {
        member_id: request.member_id.to_owned(),
        epoch: request.member_epoch,
        instance_id: text(request.instance_id),
        rack_id: text(request.rack_id),
        client_id: context.head.client_id.unwrap_or_default().to_owned(),
        client_host: format!("/{}", context.client.address.ip()),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|timeout_ms| *timeout_ms >= 0),
        names: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        regex: text(request.subscribed_topic_regex),
        assignor: text(request.server_assignor),
        owned,
        makes_own_id: context.head.version >= OWN_ID_FROM,
        fresh_id: fresh_id(context),
    }
}

/// An id as clients make theirs: a random uuid in Kafka's text form.
fn fresh_id<E: Env>(context: &Context<'_, E>) -> String {
    let random = context.shard.env().random();
    let bits = u128::from(random.next_u64()) << 64 | u128::from(random.next_u64());
    Uuid(bits.to_be_bytes()).to_string()
}

fn respond(beaten: &Beaten) -> ConsumerGroupHeartbeatResponse<'_> {
    let assignment = beaten.assigned.as_ref().map(|places| {
        let topics = by_topic(places).into_iter();
        let topics = topics.map(|(topic_id, partitions)| ResponseTopicPartitions { topic_id, partitions });
        Assignment { topic_partitions: topics.collect() }
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(&beaten.member_id),
        member_epoch: beaten.epoch,
        heartbeat_interval_ms: beaten.interval_ms,
        assignment,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn refuse(error: ErrorCode) -> ConsumerGroupHeartbeatResponse<'static> {
    let error_message = match error {
        ErrorCode::InvalidRequest => Some("a field is missing, empty, or does not go with the member's epoch"),
        ErrorCode::UnsupportedAssignor => Some("the broker does not have this assignor"),
        ErrorCode::InvalidRegularExpression => Some("the expression is not one of RE2, or it is too large"),
        ErrorCode::GroupIdNotFound => Some("there is no such consumer group"),
        _ => None,
    };
    let error_code = error.code();
    ConsumerGroupHeartbeatResponse { error_code, error_message, ..ConsumerGroupHeartbeatResponse::default() }
}

const OWN_ID_FROM: i16 = 1;
