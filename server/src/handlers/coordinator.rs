//! Asking the coordinator of a group, wherever it is.

use futures_util::future::{Either, select};
use millrace_protocol::error_code::ErrorCode;
use millrace_runtime::Env;

use super::Context;
use super::authorizer::{Operation, Resource};
use super::lookup::find_led;
use crate::group::request::{Answer, GroupRequest, Question};
use crate::metadata::controller::OFFSETS_TOPIC;
use crate::net::connection::Close;
use crate::shard::Stage;
use crate::shard::groups::{Asked, partition_of};
use crate::shard::mailbox::message::GroupCall;

/// Asks a group, if the client may, and waits for as long as it takes it to answer.
pub(super) async fn ask<E: Env>(
    context: &Context<'_, E>,
    operation: Operation,
    group: &str,
    question: Question,
) -> Result<Answer, Close> {
    match start(context, operation, group, question) {
        Ok(mut asked) => Ok(asked.answer().await?),
        Err(error) => Ok(Answer::Refused(error)),
    }
}

/// Asks a question that is answered when other clients have come. Gives up when the client leaves or the broker stops.
pub(super) async fn ask_waiting<E: Env>(
    context: &Context<'_, E>,
    operation: Operation,
    group: &str,
    question: Question,
) -> Result<Answer, Close> {
    let mut asked = match start(context, operation, group, question) {
        Ok(asked) => asked,
        Err(error) => return Ok(Answer::Refused(error)),
    };
    let gone = std::pin::pin!(context.client.gone());
    let draining = std::pin::pin!(context.shard.reached(Stage::Draining));
    let given_up = select(gone, draining);
    match select(Box::pin(asked.answer()), given_up).await {
        Either::Left((answer, _)) => Ok(answer?),
        // Dropping the question tells the coordinator.
        Either::Right(_) => Ok(Answer::Refused(ErrorCode::NotCoordinator)),
    }
}

fn start<E: Env>(
    context: &Context<'_, E>,
    operation: Operation,
    group: &str,
    question: Question,
) -> Result<Asked<E>, ErrorCode> {
    if !context.allows(operation, Resource::Group(group)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    let shard = context.shard;
    let image = shard.image();
    let topic = image.find_topic_by_name(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
    let partition = partition_of(group, topic);
    let led = find_led(topic, partition, shard.broker().node()).map_err(|_| ErrorCode::NotCoordinator)?;
    let request = GroupRequest { group: group.to_owned(), question };
    Ok(shard.ask_group(shard.owner(led.id), GroupCall { partition, request }))
}

/// Puts what a group decided, in order, where `errors` leaves it open.
pub(super) fn fill(errors: Vec<Option<ErrorCode>>, results: Vec<ErrorCode>) -> impl Iterator<Item = ErrorCode> {
    let open_count = errors.iter().filter(|error| error.is_none()).count();
    assert!(results.len() == open_count, "a group decides on everything it is asked about");
    let mut results = results.into_iter();
    errors.into_iter().map(move |error| error.unwrap_or_else(|| results.next().expect("they were counted")))
}

/// What a coordinator must not answer to this question.
pub(super) fn mismatch(answer: &Answer) -> ErrorCode {
    debug_assert!(false, "a question is answered in kind, not with {answer:?}");
    ErrorCode::UnknownServerError
}
