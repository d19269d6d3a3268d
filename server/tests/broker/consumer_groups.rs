//! Groups of KIP-848 on a whole broker: members across shards, partitions that change hands, crashes, deleted topics.

use std::collections::BTreeSet;
use std::time::Duration;

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::consumer_group_describe::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DescribedGroup,
};
use millrace_protocol::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, RequestTopicPartitions,
};
use millrace_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use millrace_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use millrace_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use millrace_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use millrace_protocol::wire::Uuid;
use millrace_runtime::sim::SimEnv;
use millrace_runtime::{Clock, Env};

use crate::client::Client;
use crate::groups::settle;
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed};

/// A member as its client knows it.
struct Member {
    client: Client<SimEnv>,
    id: &'static str,
    epoch: i32,
    topic: Uuid,
    owned: BTreeSet<i32>,
}

impl Member {
    fn new(client: Client<SimEnv>, id: &'static str, topic: Uuid) -> Self {
        Self { client, id, epoch: 0, topic, owned: BTreeSet::new() }
    }

    /// Is heard of, and reads what it is told to from then on.
    async fn beat(&mut self) -> Result<(), ErrorCode> {
        let partitions: Vec<_> = self.owned.iter().copied().collect();
        let owned = (!partitions.is_empty()).then_some(RequestTopicPartitions { topic_id: self.topic, partitions });
        let is_joining = self.epoch == 0;
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "readers",
            member_id: self.id,
            member_epoch: self.epoch,
            rebalance_timeout_ms: if is_joining { 60_000 } else { -1 },
            subscribed_topic_names: is_joining.then(|| vec!["weather"]),
            topic_partitions: Some(owned.into_iter().collect()),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        let answer = self.client.call(1, &request).await;
        let response: ConsumerGroupHeartbeatResponse<'_> = answer.decode(1);
        let error = ErrorCode::from_code(response.error_code).unwrap();
        if error != ErrorCode::None {
            return Err(error);
        }
        self.epoch = response.member_epoch;
        if let Some(assignment) = response.assignment {
            let topics = assignment.topic_partitions;
            assert!(topics.iter().all(|topic| topic.topic_id == self.topic));
            self.owned = topics.into_iter().flat_map(|topic| topic.partitions).collect();
        }
        Ok(())
    }

    async fn commit(&mut self, partition_index: i32, committed_offset: i64) -> ErrorCode {
        let partition = OffsetCommitRequestPartition {
            partition_index,
            committed_offset,
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: "weather",
            partitions: vec![partition],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: "readers",
            generation_id_or_member_epoch: self.epoch,
            member_id: self.id,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        let answer = self.client.call(9, &request).await;
        let response: OffsetCommitResponse<'_> = answer.decode(9);
        ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap()
    }

    async fn committed(&mut self, member_epoch: i32) -> Result<i64, ErrorCode> {
        let topic = OffsetFetchRequestTopics { name: "weather", partition_indexes: vec![0], ..Default::default() };
        let group = OffsetFetchRequestGroup {
            group_id: "readers",
            member_id: Some(self.id),
            member_epoch,
            topics: Some(vec![topic]),
        };
        let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
        let answer = self.client.call(9, &request).await;
        let response: OffsetFetchResponse<'_> = answer.decode(9);
        match ErrorCode::from_code(response.groups[0].error_code).unwrap() {
            ErrorCode::None => Ok(response.groups[0].topics[0].partitions[0].committed_offset),
            error => Err(error),
        }
    }
}

async fn describe<T>(client: &mut Client<SimEnv>, group: &str, look: impl FnOnce(&DescribedGroup<'_>) -> T) -> T {
    let request = ConsumerGroupDescribeRequest { group_ids: vec![group], ..ConsumerGroupDescribeRequest::default() };
    let answer = client.call(1, &request).await;
    look(&answer.decode::<ConsumerGroupDescribeResponse<'_>>(1).groups[0])
}

/// Two members that share the four partitions of `weather`.
async fn join_two(broker: &Running, env: &SimEnv) -> [Member; 2] {
    let mut client = Client::connect(env, broker.address).await;
    let topic = client.make_topic("weather").await;
    settle(&mut client, env, "readers").await;
    let mut first = Member::new(client, "first", topic);
    let mut second = Member::new(Client::connect(env, broker.address).await, "second", topic);
    first.beat().await.unwrap();
    assert_eq!((first.epoch, first.owned.len()), (1, 4));
    second.beat().await.unwrap();
    assert_eq!((second.epoch, second.owned.len()), (2, 0), "the first still has everything");
    // It hears what it is to give back, and then that it is in the next epoch.
    first.beat().await.unwrap();
    assert_eq!((first.epoch, first.owned.len()), (1, 2));
    second.beat().await.unwrap();
    assert_eq!(second.owned.len(), 0);
    first.beat().await.unwrap();
    second.beat().await.unwrap();
    assert_eq!((first.epoch, second.epoch), (2, 2));
    let all: BTreeSet<_> = first.owned.union(&second.owned).copied().collect();
    assert_eq!((first.owned.len(), second.owned.len(), all.len()), (2, 2, 4));
    [first, second]
}

#[test]
fn members_share_partitions_and_go_on_after_a_crash() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let [mut first, mut second] = join_two(&broker, &env).await;
        assert_eq!(first.commit(0, 7).await, ErrorCode::None);
        first.epoch += 1;
        assert_eq!(first.commit(0, 8).await, ErrorCode::StaleMemberEpoch);
        assert_eq!(first.beat().await, Err(ErrorCode::FencedMemberEpoch));
        first.epoch -= 1;
        world.machine(0).kill();
        drop(broker);

        let broker = Running::start(world, PARTITIONS).await;
        first.client = Client::connect(&env, broker.address).await;
        second.client = Client::connect(&env, broker.address).await;
        settle(&mut first.client, &env, "readers").await;
        first.beat().await.unwrap();
        second.beat().await.unwrap();
        assert_eq!((first.epoch, second.epoch), (2, 2), "nobody noticed");
        assert_eq!(first.committed(2).await, Ok(7));
        for epoch in [1, -1] {
            assert_eq!(first.committed(epoch).await, Err(ErrorCode::StaleMemberEpoch));
        }

        // The second one falls silent.
        for _ in 0..10 {
            env.clock().sleep(Duration::from_secs(5)).await;
            first.beat().await.unwrap();
        }
        assert_eq!((first.epoch, first.owned.len()), (3, 4));
        assert_eq!(second.beat().await, Err(ErrorCode::UnknownMemberId));
        broker.stop().await;
    });
}

#[test]
fn groups_of_both_kinds_are_listed_and_described_each_in_its_way() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let [mut first, mut second] = join_two(&broker, &env).await;
        let client = &mut first.client;
        let request = ListGroupsRequest { states_filter: vec!["stable"], types_filter: vec!["Consumer"] };
        let answer = client.call(5, &request).await;
        let listed: ListGroupsResponse<'_> = answer.decode(5);
        let group = &listed.groups[0];
        let shown = (group.group_id, group.protocol_type, group.group_state, group.group_type);
        assert_eq!((listed.groups.len(), shown), (1, ("readers", "consumer", "Stable", "consumer")));

        let answer = client.call(6, &DescribeGroupsRequest { groups: vec!["readers"], ..Default::default() }).await;
        let response: DescribeGroupsResponse<'_> = answer.decode(6);
        let group = &response.groups[0];
        assert_eq!((group.error_code, group.group_state), (ErrorCode::GroupIdNotFound.code(), "Dead"));

        describe(client, "readers", |group| {
            assert_eq!((group.error_code, group.group_state, group.assignor_name), (0, "Stable", "uniform"));
            assert_eq!((group.group_epoch, group.assignment_epoch, group.members.len()), (2, 2, 2));
            for member in &group.members {
                let topic = &member.assignment.topic_partitions[0];
                assert_eq!((topic.topic_name, topic.partitions.len(), member.member_type), ("weather", 2, 1));
                assert_eq!(member.target_assignment, member.assignment);
            }
        })
        .await;
        let missing = describe(client, "nowhere", |group| group.error_code).await;
        assert_eq!(missing, ErrorCode::GroupIdNotFound.code());

        // Members go; the group stays for its offsets.
        assert_eq!(second.commit(0, 3).await, ErrorCode::None);
        for member in [&mut first, &mut second] {
            member.epoch = -1;
            member.owned.clear();
            member.beat().await.unwrap();
        }
        let (state, count) =
            describe(&mut first.client, "readers", |group| (group.group_state.to_owned(), group.members.len())).await;
        assert_eq!((&state[..], count), ("Empty", 0));
        broker.stop().await;
    });
}
