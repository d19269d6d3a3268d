//! From what a request names to what the broker has: topics by name or id, and whether a partition is led here.

use millrace_engine::model::{LeaderEpoch, PartitionId, TopicId};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::wire::Uuid;

use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::metadata::record::NodeId;

/// How a request names a topic.
#[derive(Clone, Copy, Debug)]
pub(super) enum TopicRef<'a> {
    /// By name, in older versions.
    Name(&'a str),
    /// By id (KIP-516).
    Id(Uuid),
}

/// The topic that is meant.
pub(super) fn find_topic<'i>(image: &'i Image, topic: TopicRef<'_>) -> Result<&'i Topic, ErrorCode> {
    match topic {
        TopicRef::Name(name) => image.find_topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(Uuid(bytes)) => image.find_topic(TopicId::from_bytes(bytes)).ok_or(ErrorCode::UnknownTopicId),
    }
}

/// A partition that this broker leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Led {
    /// The partition.
    pub(super) id: PartitionId,
    /// Since which epoch.
    pub(super) leader_epoch: LeaderEpoch,
}

/// The partition of `topic` with this index, if it is led by `node`.
pub(super) fn find_led(topic: &Topic, index: i32, node: NodeId) -> Result<Led, ErrorCode> {
    let partition = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index));
    let partition = partition.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    match partition.leader {
        Some(leader) if leader == node => {
            let id = PartitionId { topic: topic.id, partition: index };
            Ok(Led { id, leader_epoch: partition.leader_epoch })
        }
        Some(_) => Err(ErrorCode::NotLeaderOrFollower),
        None => Err(ErrorCode::LeaderNotAvailable),
    }
}

/// Compares the epoch that a client believes in with the true one (KIP-320); -1 believes in none.
pub(super) fn check_epoch(led: Led, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    let known = led.leader_epoch.get();
    match current_leader_epoch {
        -1 => Ok(()),
        epoch if epoch < known => Err(ErrorCode::FencedLeaderEpoch),
        epoch if epoch > known => Err(ErrorCode::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

/// The id as the protocol has it.
pub(super) fn uuid(topic: TopicId) -> Uuid {
    Uuid(*topic.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_are_compared_unless_the_client_knows_none() {
        let id = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };
        let led = Led { id, leader_epoch: LeaderEpoch::new(5) };
        assert_eq!(check_epoch(led, -1), Ok(()));
        assert_eq!(check_epoch(led, 5), Ok(()));
        assert_eq!(check_epoch(led, 4), Err(ErrorCode::FencedLeaderEpoch));
        assert_eq!(check_epoch(led, 6), Err(ErrorCode::UnknownLeaderEpoch));
    }
}
