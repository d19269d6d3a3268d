//! ConsumerGroupDescribe (KIP-848): who is in groups whose coordinator shares out the partitions.

use std::collections::BTreeMap;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::consumer_group_describe::{
    Assignment, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup, Member, TopicPartitions,
};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::Env;

use super::authorizer::Operation;
use super::lookup::uuid;
use super::{Context, coordinator};
use crate::group::consumer::member::by_topic;
use crate::group::request::{Answer, ConsumerDescription, DescribedConsumer, IdPartition, Question};
use crate::metadata::Image;
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: ConsumerGroupDescribeRequest<'_> = context.decode()?;
    let mut answers = Vec::with_capacity(request.group_ids.len());
    for group in request.group_ids {
        let answer = coordinator::ask(context, Operation::Describe, group, Question::DescribeConsumer).await?;
        let message = format!("Group {group} is not a consumer group.");
        answers.push((group, answer, message));
    }
    let image = context.shard.image();
    let groups = answers.iter().map(|(group_id, answer, message)| match answer {
        Answer::ConsumerDescribed(description) => respond(group_id, description, &image),
        Answer::Refused(ErrorCode::GroupIdNotFound) => {
            DescribedGroup { error_message: Some(message), ..refuse(group_id, ErrorCode::GroupIdNotFound) }
        }
        Answer::Refused(error) => refuse(group_id, *error),
        other => refuse(group_id, coordinator::mismatch(other)),
    });
    let groups = groups.collect();
    context.answer(writer, &ConsumerGroupDescribeResponse { groups, ..ConsumerGroupDescribeResponse::default() })
}

fn respond<'a>(group_id: &'a str, description: &'a ConsumerDescription, image: &'a Image) -> DescribedGroup<'a> {
    let names: BTreeMap<_, _> = image.topics().map(|topic| (uuid(topic.id), topic.name.as_str())).collect();
    let member = |member: &'a DescribedConsumer| Member {
        member_id: &member.member_id,
        instance_id: member.instance_id.as_deref(),
        rack_id: member.rack_id.as_deref(),
        member_epoch: member.epoch,
        client_id: &member.client_id,
        client_host: &member.client_host,
        subscribed_topic_names: member.names.iter().map(String::as_str).collect(),
        // Kafka says that there is none by an empty one.
        subscribed_topic_regex: Some(member.regex.as_deref().unwrap_or_default()),
        assignment: assignment(&member.assigned, &names),
        target_assignment: assignment(&member.target, &names),
        member_type: if member.is_classic { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
    };
    DescribedGroup {
        group_state: description.state,
        group_epoch: description.epoch,
        assignment_epoch: description.assignment_epoch,
        assignor_name: description.assignor,
        members: description.members.iter().map(member).collect(),
        ..refuse(group_id, ErrorCode::None)
    }
}

/// Partitions with the names of their topics; those of topics that are gone are left out.
fn assignment<'a>(places: &[IdPartition], names: &BTreeMap<Uuid, &'a str>) -> Assignment<'a> {
    let topics = by_topic(places).into_iter().filter_map(|(topic_id, partitions)| {
        let topic_name = names.get(&topic_id)?;
        Some(TopicPartitions { topic_id, topic_name, partitions })
    });
    Assignment { topic_partitions: topics.collect() }
}

fn refuse(group_id: &str, error: ErrorCode) -> DescribedGroup<'_> {
    DescribedGroup { error_code: error.code(), group_id, ..DescribedGroup::default() }
}

const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;
