//! What a Fetch has to read, where, and when it has enough.

use millrace_engine::model::Offset;
use millrace_engine::store::FirstBatch;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::fetch::FetchRequest;
use millrace_runtime::Env;

use super::super::Context;
use super::super::authorizer::{Operation, Resource};
use super::super::lookup::{TopicRef, check_epoch, find_led, find_topic};
use super::SHARE_BYTES_MIN;
use crate::fetch_session::{FetchPosition, TopicKey, Wanted};
use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::shard::mailbox::message::{Read, ReadPosition};
use crate::shard::placement::ShardIndex;
use crate::shard::router::ReadAnswer;

/// A Fetch in terms of partitions and owners.
pub(super) struct Plan {
    /// One for each partition that is wanted, in its order.
    pub(super) slots: Vec<Slot>,
    groups: Vec<Group>,
    /// Most bytes of all partitions together.
    pub(super) bytes_max: usize,
    /// Bytes with which the request is answered at once.
    bytes_wanted: usize,
    /// Whether a partition has an error that the client should hear at once.
    has_error: bool,
}

/// One partition of the request.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    /// Known before anything was read.
    Refused(ErrorCode),
    /// The next partition of this group.
    Group(usize),
}

/// What one owner has to read.
pub(super) struct Group {
    pub(super) owner: ShardIndex,
    pub(super) read: Read,
}

impl Plan {
    pub(super) fn new<E: Env>(context: &Context<'_, E>, request: &FetchRequest<'_>, wanted: &[Wanted]) -> Self {
        let image = context.shard.image();
        let bytes_max =
            usize::try_from(request.max_bytes).unwrap_or(0).min(context.shard.broker().config.fetch.bytes_max);
        let slots = Vec::with_capacity(wanted.len());
        let mut plan = Self { slots, groups: Vec::new(), bytes_max, bytes_wanted: 0, has_error: false };
        // Partitions of one topic mostly follow each other.
        let mut last_topic: Option<(&TopicKey, _)> = None;
        for Wanted { key, position } in wanted {
            let found = match last_topic {
                Some((topic, found)) if *topic == key.topic => found,
                _ => check_topic(context, &image, request, &key.topic),
            };
            last_topic = Some((&key.topic, found));
            match found.and_then(|topic| check_partition(context, topic, key.partition, *position)) {
                Ok((owner, position)) => plan.add(owner, position),
                Err(error) => {
                    plan.slots.push(Slot::Refused(error));
                    plan.has_error |= !may_be_waited_for(error);
                }
            }
        }
        let share = if plan.groups.len() < 2 { bytes_max } else { bytes_max / plan.groups.len() };
        let share = share.max(SHARE_BYTES_MIN.min(bytes_max));
        // More than one owner's share may never come together: what is wanted must be something that can be had.
        plan.bytes_wanted = usize::try_from(request.min_bytes).unwrap_or(0).min(share);
        for group in &mut plan.groups {
            group.read.bytes_max = share;
            group.read.bytes_wanted = plan.bytes_wanted;
        }
        plan
    }

    fn add(&mut self, owner: ShardIndex, position: ReadPosition) {
        let index = self.groups.iter().position(|group| group.owner == owner).unwrap_or_else(|| {
            let first = FirstBatch::WholeEvenIfLarger;
            let read = Read { partitions: Vec::new(), bytes_max: 0, first, watch: None, bytes_wanted: 0 };
            self.groups.push(Group { owner, read });
            self.groups.len() - 1
        });
        self.groups[index].read.partitions.push(position);
        self.slots.push(Slot::Group(index));
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    pub(super) fn owners(&self) -> impl Iterator<Item = ShardIndex> {
        self.groups.iter().map(|group| group.owner)
    }

    /// Whether there is anything worth waiting for.
    pub(super) fn may_wait(&self) -> bool {
        !self.has_error && !self.groups.is_empty() && self.bytes_wanted > 0
    }

    /// Whether these answers need not wait for more: enough bytes, as many as there is memory for, or an error that the
    /// client should hear.
    pub(super) fn is_satisfied<E: Env>(&self, answers: &[ReadAnswer<E>]) -> bool {
        if answers.iter().any(|answer| answer.is_full) {
            return true;
        }
        let mut bytes = 0;
        for result in answers.iter().flat_map(|answer| &answer.partitions) {
            match result {
                Ok(partition) => bytes += partition.bytes,
                Err(_) => return true,
            }
        }
        bytes >= self.bytes_wanted
    }
}

/// Whether the other partitions are waited for all the same. A client that keeps asking for what is not there, or is not
/// its to read, would otherwise ask again and again without a pause (Kafka's broker waits then, too).
fn may_be_waited_for(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::TopicAuthorizationFailed
    )
}

fn check_topic<'i, E: Env>(
    context: &Context<'_, E>,
    image: &'i Image,
    request: &FetchRequest<'_>,
    topic: &TopicKey,
) -> Result<&'i Topic, ErrorCode> {
    if request.replica_id >= 0 || request.replica_state.replica_id >= 0 {
        // Nothing is replicated yet, so nobody is a replica.
        return Err(ErrorCode::ReplicaNotAvailable);
    }
    let topic = match topic {
        TopicKey::Name(name) => {
            // Before it is looked up: whether it is there is not for everybody to know.
            if !context.allows(Operation::Read, Resource::Topic(name)) {
                return Err(ErrorCode::TopicAuthorizationFailed);
            }
            TopicRef::Name(name)
        }
        TopicKey::Id(id) => TopicRef::Id(*id),
    };
    let found = find_topic(image, topic)?;
    if context.allows(Operation::Read, Resource::Topic(&found.name)) {
        Ok(found)
    } else {
        Err(ErrorCode::TopicAuthorizationFailed)
    }
}

fn check_partition<E: Env>(
    context: &Context<'_, E>,
    topic: &Topic,
    index: i32,
    position: FetchPosition,
) -> Result<(ShardIndex, ReadPosition), ErrorCode> {
    let led = find_led(topic, index, context.shard.broker().node())?;
    check_epoch(led, position.leader_epoch)?;
    if position.offset < 0 {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    let bytes_max = usize::try_from(position.bytes_max).unwrap_or(0);
    let offset = Offset::new(position.offset);
    Ok((context.shard.owner(led.id), ReadPosition { partition: led.id, offset, bytes_max }))
}
