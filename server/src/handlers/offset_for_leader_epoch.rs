//! OffsetForLeaderEpoch: where a leader's records end, by which consumers and replicas find out what was cut off behind them
//! (KIP-101, KIP-320).
//!
//! No answer goes beyond the high watermark: nobody here has read further.

use millrace_engine::model::LeaderEpoch;
use millrace_engine::store::{EpochEnd, ReadError};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition,
    OffsetForLeaderTopic, OffsetForLeaderTopicResult,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::Env;

use super::authorizer::{Operation, Resource};
use super::by_owner::ByOwner;
use super::lookup::{Led, TopicRef, check_epoch, find_led, find_topic};
use super::{Context, errors};
use crate::metadata::Image;
use crate::net::connection::Close;
use crate::shard::mailbox::message::EpochQuery;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: OffsetForLeaderEpochRequest<'_> = context.decode()?;
    let (shard, image) = (context.shard, context.shard.image());
    // Answers in the order of the request; those that need an owner are filled in below.
    let mut answers = Vec::new();
    let mut by_owner = ByOwner::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let found = plan(context, &image, topic, partition);
            let undefined = refuse(partition.partition, found.err().unwrap_or(ErrorCode::None));
            if let Ok(led) = found
                && let Some(query) = query(led, partition.leader_epoch)
            {
                by_owner.add(shard.owner(led.id), answers.len(), query);
            }
            answers.push(undefined);
        }
    }
    for (ordinal, end) in by_owner.ask(shard, async |owner, queries| shard.epoch_ends(owner, queries).await).await? {
        answers[ordinal] = answer(answers[ordinal].partition, &end);
    }

    let mut answers = answers.into_iter();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = answers.by_ref().take(topic.partitions.len()).collect();
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    context.answer(writer, &OffsetForLeaderEpochResponse { topics, ..OffsetForLeaderEpochResponse::default() })
}

fn plan<E: Env>(
    context: &Context<'_, E>,
    image: &Image,
    topic: &OffsetForLeaderTopic<'_>,
    partition: &OffsetForLeaderPartition,
) -> Result<Led, ErrorCode> {
    if !context.allows(Operation::Describe, Resource::Topic(topic.topic)) {
        return Err(ErrorCode::TopicAuthorizationFailed);
    }
    let topic = find_topic(image, TopicRef::Name(topic.topic))?;
    let led = find_led(topic, partition.partition, context.shard.broker().node())?;
    check_epoch(led, partition.current_leader_epoch)?;
    Ok(led)
}

/// What the log is asked; nothing of an epoch that no leader has had yet, of which nothing is known.
fn query(led: Led, epoch: i32) -> Option<EpochQuery> {
    let is_known = (0..=led.leader_epoch.get()).contains(&epoch);
    let query = EpochQuery { partition: led.id, epoch: LeaderEpoch::new(epoch), leader_epoch: led.leader_epoch };
    is_known.then_some(query)
}

fn answer(partition: i32, end: &Result<EpochEnd, ReadError>) -> EpochEndOffset {
    match end {
        Ok(EpochEnd { leader_epoch, end_offset }) => {
            let (error_code, leader_epoch) = (ErrorCode::None.code(), leader_epoch.get());
            EpochEndOffset { error_code, partition, leader_epoch, end_offset: end_offset.get() }
        }
        Err(error) => refuse(partition, errors::read(error, errors::Naming::Name)),
    }
}

fn refuse(partition: i32, error: ErrorCode) -> EpochEndOffset {
    EpochEndOffset { error_code: error.code(), partition, leader_epoch: UNDEFINED, end_offset: i64::from(UNDEFINED) }
}

const UNDEFINED: i32 = -1;
