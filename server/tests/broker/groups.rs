//! Consumer groups on a whole broker: members across shards, restarts and crashes, connections that close.

use std::cell::Cell;
use std::time::Duration;

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use millrace_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use millrace_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use millrace_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use millrace_protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use millrace_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use millrace_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use millrace_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use millrace_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use millrace_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use millrace_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use millrace_protocol::messages::produce::ProduceResponse;
use millrace_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::sim::{Failure, Operation, SimEnv, World};
use millrace_runtime::{Clock, Env, TaskClass, TaskHandle, Tasks};

use crate::client::{Client, batch, produce_request};
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed, each_seed_of, full_disk};

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).unwrap()
}

/// A member as its client knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Member {
    group: String,
    id: String,
    generation: i32,
    leader: String,
    others: Vec<String>,
}

async fn find_coordinator(client: &mut Client<SimEnv>, group: &str) {
    let request = FindCoordinatorRequest { coordinator_keys: vec![group], ..FindCoordinatorRequest::default() };
    let answer = client.call(6, &request).await;
    let response: FindCoordinatorResponse<'_> = answer.decode(6);
    let found = &response.coordinators[0];
    assert_eq!((found.error_code, found.node_id, found.key), (0, 1, group));
}

/// Waits until the group's partition is read back, which a first request may find under way. Whether it did.
pub(crate) async fn settle(client: &mut Client<SimEnv>, env: &SimEnv, group: &str) -> bool {
    find_coordinator(client, group).await;
    let mut had_to_wait = false;
    while let Err(error) = committed(client, group, "weather", &[0]).await {
        assert_eq!(error, ErrorCode::CoordinatorLoadInProgress);
        had_to_wait = true;
        env.clock().sleep(Duration::from_millis(10)).await;
    }
    had_to_wait
}

/// A broker with the topic `weather`, and a client of it that has waited for these groups.
async fn scene(world: &World, groups: &[&str]) -> (Running, SimEnv, Client<SimEnv>) {
    let broker = Running::start(world, PARTITIONS).await;
    let env = client_env(world);
    let mut client = Client::connect(&env, broker.address).await;
    client.make_topic("weather").await;
    for group in groups {
        settle(&mut client, &env, group).await;
    }
    (broker, env, client)
}

fn join_request<'a>(group: &'a str, member_id: &'a str) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        member_id,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: b"weather" }],
        ..JoinGroupRequest::default()
    }
}

/// Joins; a client of version 5 comes back with the id that it is given.
async fn join(client: &mut Client<SimEnv>, group: &str, member_id: &str) -> Result<Member, ErrorCode> {
    let mut member_id = member_id.to_owned();
    loop {
        let answer = client.call(5, &join_request(group, &member_id)).await;
        let response: JoinGroupResponse<'_> = answer.decode(5);
        match code(response.error_code) {
            ErrorCode::None => {
                return Ok(Member {
                    group: group.to_owned(),
                    id: response.member_id.to_owned(),
                    generation: response.generation_id,
                    leader: response.leader.to_owned(),
                    others: response.members.iter().map(|member| member.member_id.to_owned()).collect(),
                });
            }
            ErrorCode::MemberIdRequired => response.member_id.clone_into(&mut member_id),
            error => return Err(error),
        }
    }
}

/// Asks for the member's part; the leader gives each member its own id as its part.
async fn sync(client: &mut Client<SimEnv>, member: &Member) -> Result<Vec<u8>, ErrorCode> {
    let assign = |id: &'_ String| (id.clone(), id.clone().into_bytes());
    let parts: Vec<_> = member.others.iter().map(assign).collect();
    let assignments = parts.iter().map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
    let request = SyncGroupRequest {
        group_id: &member.group,
        generation_id: member.generation,
        member_id: &member.id,
        assignments: assignments.collect(),
        ..SyncGroupRequest::default()
    };
    let answer = client.call(3, &request).await;
    let response: SyncGroupResponse<'_> = answer.decode(3);
    match code(response.error_code) {
        ErrorCode::None => Ok(response.assignment.to_vec()),
        error => Err(error),
    }
}

async fn heartbeat(client: &mut Client<SimEnv>, member: &Member) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: &member.group,
        generation_id: member.generation,
        member_id: &member.id,
        ..HeartbeatRequest::default()
    };
    let answer = client.call(3, &request).await;
    code(answer.decode::<HeartbeatResponse>(3).error_code)
}

/// Commits offset `offset` for each partition of the topic.
pub(crate) async fn commit(
    client: &mut Client<SimEnv>,
    member: &Member,
    topic: &str,
    partitions: &[i32],
    offset: i64,
) -> Vec<ErrorCode> {
    let partitions = partitions.iter().map(|partition_index| OffsetCommitRequestPartition {
        partition_index: *partition_index,
        committed_offset: offset,
        committed_metadata: Some("note"),
        ..OffsetCommitRequestPartition::default()
    });
    let topics = vec![OffsetCommitRequestTopic { name: topic, partitions: partitions.collect(), ..Default::default() }];
    let request = OffsetCommitRequest {
        group_id: &member.group,
        generation_id_or_member_epoch: member.generation,
        member_id: &member.id,
        topics,
        ..OffsetCommitRequest::default()
    };
    let answer = client.call(8, &request).await;
    let response: OffsetCommitResponse<'_> = answer.decode(8);
    let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
    codes.map(|partition| code(partition.error_code)).collect()
}

/// Somebody who is no member.
pub(crate) fn nobody(group: &str) -> Member {
    Member { group: group.to_owned(), generation: -1, ..Member::default() }
}

async fn committed(
    client: &mut Client<SimEnv>,
    group: &str,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<i64>, ErrorCode> {
    let topics = Some(vec![OffsetFetchRequestTopics {
        name: topic,
        partition_indexes: partitions.to_vec(),
        ..OffsetFetchRequestTopics::default()
    }]);
    let groups = vec![OffsetFetchRequestGroup { group_id: group, topics, ..OffsetFetchRequestGroup::default() }];
    let answer = client.call(9, &OffsetFetchRequest { groups, ..OffsetFetchRequest::default() }).await;
    let response: OffsetFetchResponse<'_> = answer.decode(9);
    let group = &response.groups[0];
    if group.error_code != 0 {
        return Err(code(group.error_code));
    }
    let found = group.topics.iter().flat_map(|topic| &topic.partitions);
    Ok(found.map(|partition| partition.committed_offset).collect())
}

async fn state(client: &mut Client<SimEnv>, group: &str) -> (String, usize) {
    let answer = client.call(5, &DescribeGroupsRequest { groups: vec![group], ..Default::default() }).await;
    let response: DescribeGroupsResponse<'_> = answer.decode(5);
    (response.groups[0].group_state.to_owned(), response.groups[0].members.len())
}

/// Two clients that join the group together and get their parts.
async fn join_two(
    first: Client<SimEnv>,
    second: Client<SimEnv>,
    env: &SimEnv,
    group: &'static str,
) -> [(Client<SimEnv>, Member); 2] {
    let run = |mut client: Client<SimEnv>| {
        env.tasks().spawn(TaskClass::Network, async move {
            let member = join(&mut client, group, "").await.unwrap();
            let part = sync(&mut client, &member).await.unwrap();
            assert_eq!(part, member.id.as_bytes(), "everybody gets their own part");
            (client, member)
        })
    };
    let (first, second) = (run(first), run(second));
    [first.join().await, second.join().await]
}

#[test]
fn members_on_both_shards_make_one_generation_and_commit() {
    // Enough names that both shards coordinate some.
    for group in ["readers", "g1", "g2", "g3"] {
        each_seed(async |world| {
            let (broker, env, mut client) = scene(world, &[group]).await;
            let (first, second) =
                (Client::connect(&env, broker.address).await, Client::connect(&env, broker.address).await);
            let members = join_two(first, second, &env, group).await;
            assert_eq!(members[0].1.generation, members[1].1.generation);
            assert_eq!(members[0].1.leader, members[1].1.leader);
            assert_eq!(members.iter().map(|(_, member)| member.others.len()).sum::<usize>(), 2, "one leader");
            assert_eq!(state(&mut client, group).await, ("Stable".to_owned(), 2));
            for ((mut member_client, member), partition) in members.into_iter().zip([0, 3]) {
                assert_eq!(heartbeat(&mut member_client, &member).await, ErrorCode::None);
                assert_eq!(commit(&mut member_client, &member, "weather", &[partition], 40).await, [ErrorCode::None]);
                member_client.close();
            }
            assert_eq!(committed(&mut client, group, "weather", &[0, 1, 3]).await, Ok(vec![40, -1, 40]));
            // Both have gone without a word.
            env.clock().sleep(Duration::from_secs(80)).await;
            assert_eq!(state(&mut client, group).await, ("Empty".to_owned(), 0));
            broker.stop().await;
        });
    }
}

#[test]
fn what_was_answered_is_there_after_a_crash() {
    let loads_seen = Cell::new(0);
    each_seed(async |world| {
        let (broker, env, mut client) = scene(world, &["readers"]).await;
        let member = join(&mut client, "readers", "").await.unwrap();
        sync(&mut client, &member).await.unwrap();
        for offset in 1..=20 {
            assert_eq!(commit(&mut client, &member, "weather", &[0, 1], offset).await, [ErrorCode::None; 2]);
        }
        for offset in [5, 6] {
            assert_eq!(commit(&mut client, &nobody("simple"), "weather", &[2], offset).await, [ErrorCode::None]);
        }
        world.machine(0).kill();
        drop(broker);

        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&env, broker.address).await;
        let had_to_wait = settle(&mut client, &env, "readers").await;
        loads_seen.update(|seen| seen + u32::from(had_to_wait));
        settle(&mut client, &env, "simple").await;
        assert_eq!(committed(&mut client, "readers", "weather", &[0, 1, 2]).await, Ok(vec![20, 20, -1]));
        assert_eq!(committed(&mut client, "simple", "weather", &[2]).await, Ok(vec![6]));
        assert_eq!(state(&mut client, "readers").await, ("Stable".to_owned(), 1));
        // The member goes on where it was.
        assert_eq!(heartbeat(&mut client, &member).await, ErrorCode::None);
        assert_eq!(sync(&mut client, &member).await, Ok(member.id.clone().into_bytes()));
        assert_eq!(commit(&mut client, &member, "weather", &[0], 21).await, [ErrorCode::None]);
        // And it expires if it does not.
        env.clock().sleep(Duration::from_secs(12)).await;
        assert_eq!(heartbeat(&mut client, &member).await, ErrorCode::UnknownMemberId);
        assert_eq!(state(&mut client, "readers").await, ("Empty".to_owned(), 0));
        broker.stop().await;
    });
    assert!(loads_seen.get() > 0, "nobody who asked at once was told that the groups are being read back");
}

#[test]
fn a_member_whose_connection_closes_while_it_joins_holds_nobody_up_for_long() {
    each_seed(async |world| {
        let (broker, env, mut client) = scene(world, &["readers"]).await;
        // Version 2 does not ask for an id: this member is in the group as soon as it has asked.
        let mut leaver = Client::connect(&env, broker.address).await;
        let mut writer = Writer::new();
        leaver.push(&mut writer, 2, &join_request("readers", ""));
        leaver.send(writer.bytes()).await;
        env.clock().sleep(Duration::from_millis(world.seed() * 100)).await;
        leaver.close();
        drop(leaver);
        let before = env.clock().now();
        let member = join(&mut client, "readers", "").await.unwrap();
        sync(&mut client, &member).await.unwrap();
        let waited = env.clock().now() - before;
        assert!(waited < Duration::from_secs(30), "{waited:?}");
        assert_eq!(member.others, std::slice::from_ref(&member.id));
        broker.stop().await;
    });
}

#[test]
fn a_follower_waits_for_its_leader_and_a_new_member_sends_all_back() {
    each_seed(async |world| {
        let (broker, env, mut client) = scene(world, &["readers"]).await;
        let connect = async || Client::connect(&env, broker.address).await;
        let spawn_join = |mut client: Client<SimEnv>| {
            env.tasks().spawn(TaskClass::Network, async move {
                let member = join(&mut client, "readers", "").await.unwrap();
                (client, member)
            })
        };
        let (first, second) = (spawn_join(connect().await), spawn_join(connect().await));
        let mut members = [first.join().await, second.join().await];
        members.sort_by_key(|(_, member)| member.others.len());
        let [(mut follower, follower_member), (mut leader, leader_member)] = members;
        let waiting = env.tasks().spawn(TaskClass::Network, async move {
            let part = sync(&mut follower, &follower_member).await;
            (follower, follower_member, part)
        });
        env.clock().sleep(Duration::from_secs(2)).await;
        assert_eq!(state(&mut client, "readers").await.0, "CompletingRebalance");
        sync(&mut leader, &leader_member).await.unwrap();
        let (mut follower, follower_member, part) = waiting.join().await;
        assert_eq!(part, Ok(follower_member.id.clone().into_bytes()));

        // A third one comes: the others hear of it by their heartbeats, and join again.
        let third = spawn_join(connect().await);
        env.clock().sleep(Duration::from_millis(500)).await;
        assert_eq!(heartbeat(&mut leader, &leader_member).await, ErrorCode::RebalanceInProgress);
        // What was read may still be committed.
        assert_eq!(commit(&mut follower, &follower_member, "weather", &[0], 7).await, [ErrorCode::None]);
        let again = env.tasks().spawn(TaskClass::Network, async move {
            join(&mut leader, "readers", &leader_member.id).await.unwrap().generation
        });
        let generation = join(&mut follower, "readers", &follower_member.id).await.unwrap().generation;
        assert_eq!((generation, again.join().await, third.join().await.1.generation), (2, 2, 2));
        broker.stop().await;
    });
}

#[test]
fn groups_are_listed_described_left_and_deleted() {
    each_seed(async |world| {
        let groups = ["a", "b", "c", "d", "e"];
        let (broker, _, mut client) = scene(world, &groups).await;
        for group in groups {
            assert_eq!(commit(&mut client, &nobody(group), "weather", &[0], 1).await, [ErrorCode::None]);
        }
        let member = join(&mut client, "readers", "").await.unwrap();
        sync(&mut client, &member).await.unwrap();
        let list = async |client: &mut Client<SimEnv>, states: Vec<&'static str>, types: Vec<&'static str>| {
            let request = ListGroupsRequest { states_filter: states, types_filter: types };
            let answer = client.call(5, &request).await;
            let response: ListGroupsResponse<'_> = answer.decode(5);
            response.groups.iter().map(|group| group.group_id.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(list(&mut client, vec![], vec![]).await, ["a", "b", "c", "d", "e", "readers"]);
        assert_eq!(list(&mut client, vec!["stable"], vec!["Classic"]).await, ["readers"]);
        assert_eq!(list(&mut client, vec![], vec!["consumer"]).await, [""; 0]);

        let groups = ["a", "readers", "nowhere"];
        let request = DeleteGroupsRequest { groups_names: groups.to_vec() };
        let answer = client.call(2, &request).await;
        let response: DeleteGroupsResponse<'_> = answer.decode(2);
        let codes: Vec<_> = response.results.iter().map(|result| code(result.error_code)).collect();
        assert_eq!(codes, [ErrorCode::None, ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);
        assert_eq!(committed(&mut client, "a", "weather", &[0]).await, Ok(vec![-1]));
        let members = vec![MemberIdentity { member_id: &member.id, ..MemberIdentity::default() }];
        let answer = client.call(4, &LeaveGroupRequest { group_id: "readers", members, ..Default::default() }).await;
        let response: LeaveGroupResponse<'_> = answer.decode(4);
        assert_eq!((response.error_code, response.members[0].error_code), (0, 0));
        assert_eq!(state(&mut client, "readers").await.0, "Empty");
        assert_eq!(state(&mut client, "nowhere").await.0, "Dead");
        let answer = client.call(6, &DescribeGroupsRequest { groups: vec!["nowhere"], ..Default::default() }).await;
        let response: DescribeGroupsResponse<'_> = answer.decode(6);
        assert_eq!(response.groups[0].error_code, ErrorCode::GroupIdNotFound.code());

        // What was committed for a topic goes with the topic.
        let topics = vec![DeleteTopicState { name: Some("weather"), ..DeleteTopicState::default() }];
        let answer = client.call(6, &DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() }).await;
        let response: DeleteTopicsResponse<'_> = answer.decode(6);
        assert_eq!(response.responses[0].error_code, 0);
        assert_eq!(committed(&mut client, "b", "weather", &[0]).await, Ok(vec![-1]));
        broker.stop().await;
    });
}

#[test]
fn offsets_are_fetched_and_committed_in_every_version() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        let topic_id = client.make_topic("weather").await;
        settle(&mut client, &env, "simple").await;
        for version in 2..=10 {
            let partition = |partition_index| OffsetCommitRequestPartition {
                partition_index,
                committed_offset: i64::from(version),
                committed_metadata: Some("note"),
                ..OffsetCommitRequestPartition::default()
            };
            let topic = OffsetCommitRequestTopic {
                name: if version < 10 { "weather" } else { "" },
                topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
                partitions: vec![partition(0), partition(9)],
            };
            let request = OffsetCommitRequest {
                group_id: "simple",
                generation_id_or_member_epoch: -1,
                retention_time_ms: -1,
                topics: vec![topic],
                ..OffsetCommitRequest::default()
            };
            let answer = client.call(version, &request).await;
            let response: OffsetCommitResponse<'_> = answer.decode(version);
            let codes: Vec<_> = response.topics[0].partitions.iter().map(|p| p.error_code).collect();
            assert_eq!(codes, [0, ErrorCode::UnknownTopicOrPartition.code()], "version {version}");
        }
        for version in 1..=7 {
            let topics = vec![OffsetFetchRequestTopic { name: "weather", partition_indexes: vec![0, 1] }];
            let request = OffsetFetchRequest { group_id: "simple", topics: Some(topics), ..Default::default() };
            let answer = client.call(version, &request).await;
            let response: OffsetFetchResponse<'_> = answer.decode(version);
            let found: Vec<_> =
                response.topics[0].partitions.iter().map(|p| (p.committed_offset, p.metadata)).collect();
            assert_eq!(found, [(10, Some("note")), (-1, Some(""))], "version {version}");
        }
        for version in 8..=10 {
            let topics = OffsetFetchRequestTopics {
                name: if version < 10 { "weather" } else { "" },
                topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
                partition_indexes: vec![0, 3],
            };
            let group = |group_id, topics| OffsetFetchRequestGroup { group_id, topics, ..Default::default() };
            let groups = vec![group("simple", Some(vec![topics])), group("simple", None), group("nowhere", None)];
            let request = OffsetFetchRequest { groups, require_stable: true, ..OffsetFetchRequest::default() };
            let answer = client.call(version, &request).await;
            let response: OffsetFetchResponse<'_> = answer.decode(version);
            let offsets = |group: usize| {
                let partitions = response.groups[group].topics.iter().flat_map(|topic| &topic.partitions);
                partitions.map(|partition| partition.committed_offset).collect::<Vec<_>>()
            };
            assert_eq!((offsets(0), offsets(1), offsets(2)), (vec![10, -1], vec![10], vec![]), "version {version}");
        }
        broker.stop().await;
    });
}

#[test]
fn a_broker_that_stops_lets_those_go_who_wait() {
    each_seed(async |world| {
        let (broker, env, _client) = scene(world, &["g1", "g2", "g3"]).await;
        let mut waiting = Vec::new();
        for group in ["g1", "g2", "g3"] {
            let mut member = Client::connect(&env, broker.address).await;
            let mut writer = Writer::new();
            member.push(&mut writer, 2, &join_request(group, ""));
            member.send(writer.bytes()).await;
            waiting.push(member);
        }
        env.clock().sleep(Duration::from_millis(500)).await;
        broker.stop().await;
        for mut member in waiting {
            let answer = member.receive(ApiKey::JoinGroup, 2).await.expect("the broker answers before it goes");
            let response: JoinGroupResponse<'_> = answer.decode(2);
            assert_eq!(response.error_code, ErrorCode::NotCoordinator.code());
        }
    });
}

#[test]
fn groups_go_on_while_the_disk_is_full() {
    each_seed_of(0..3, async |world| {
        let broker = Running::start(world, full_disk::SETTINGS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        assert_eq!(full_disk::create(&mut client, "weather").await, 0);
        for group in ["g1", "g2", "g3", "readers"] {
            settle(&mut client, &env, group).await;
        }
        let member = join(&mut client, "readers", "").await.unwrap();
        sync(&mut client, &member).await.unwrap();
        full_disk::take_free_space(world).await;
        assert_eq!(full_disk::produce(&mut client, "weather").await.0, full_disk::REFUSED);
        // Both shards, one group that stores for the first time, and a member that has been there.
        for group in ["g1", "g2", "g3"] {
            assert_eq!(commit(&mut client, &nobody(group), "weather", &[0], 5).await, [ErrorCode::None]);
        }
        let member = join(&mut client, "readers", "").await.unwrap_or(member);
        sync(&mut client, &member).await.unwrap();
        assert_eq!(commit(&mut client, &member, "weather", &[0], 5).await, [ErrorCode::None]);
        world.machine(0).kill();
        drop(broker);
        let broker = Running::start(world, full_disk::SETTINGS).await;
        let mut client = Client::connect(&env, broker.address).await;
        for group in ["g1", "g2", "g3", "readers"] {
            settle(&mut client, &env, group).await;
            assert_eq!(committed(&mut client, group, "weather", &[0]).await, Ok(vec![5]));
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn what_cannot_be_stored_is_refused_and_read_back() {
    each_seed(async |world| {
        let (broker, env, mut client) = scene(world, &["readers"]).await;
        assert_eq!(commit(&mut client, &nobody("readers"), "weather", &[0], 1).await, [ErrorCode::None]);
        world.machine(0).faults().fail_nth(Some(Operation::SyncData), 1 + world.seed() % 3, Failure::Io);
        let mut offset = 1;
        let mut refused_count = 0;
        for next in 2..12 {
            let error = commit(&mut client, &nobody("readers"), "weather", &[0], next).await[0];
            match error {
                ErrorCode::None => offset = next,
                ErrorCode::NotCoordinator | ErrorCode::CoordinatorLoadInProgress => refused_count += 1,
                error => panic!("{error:?} sends nobody to look again"),
            }
        }
        assert!(refused_count > 0, "the fault is felt");
        // Every shard hears of the failed flush and recovers. A stop before that could not close the store.
        env.clock().sleep(Duration::from_secs(3)).await;
        // Whether the shard comes back by itself or by a restart, nothing that was answered is lost.
        broker.stop().await;
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&env, broker.address).await;
        settle(&mut client, &env, "readers").await;
        let found = committed(&mut client, "readers", "weather", &[0]).await.unwrap()[0];
        assert!(found >= offset, "{found} after {offset} was answered");
        broker.stop().await;
    });
}

#[test]
fn the_topic_of_groups_is_the_brokers_own() {
    each_seed_of(0..2, async |world| {
        let broker = Running::start(world, &["num.partitions=4", "offsets.topic.num.partitions=7"]).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        // Nothing is known of a group before somebody has asked for its coordinator.
        assert_eq!(committed(&mut client, "readers", "weather", &[0]).await, Err(ErrorCode::NotCoordinator));
        settle(&mut client, &env, "readers").await;
        let answer = client.call(12, &MetadataRequest { topics: None, ..MetadataRequest::default() }).await;
        let response: MetadataResponse<'_> = answer.decode(12);
        let topic = &response.topics[0];
        assert_eq!((topic.name, topic.is_internal), (Some("__consumer_offsets"), true));
        assert_eq!(topic.partitions.len(), 7);
        let batch = batch(&[b"rubbish"]);
        let answer = client.call(9, &produce_request("__consumer_offsets", &[(0, &batch)], -1)).await;
        let response: ProduceResponse<'_> = answer.decode(9);
        let error = code(response.responses[0].partition_responses[0].error_code);
        assert_eq!(error, ErrorCode::InvalidTopicException);
        // Older clients ask for one coordinator, and hear that there is none of transactions.
        for (key_type, expected) in [(0, ErrorCode::None), (1, ErrorCode::TransactionalIdAuthorizationFailed)] {
            let request = FindCoordinatorRequest { key: "readers", key_type, ..FindCoordinatorRequest::default() };
            let answer = client.call(2, &request).await;
            assert_eq!(code(answer.decode::<FindCoordinatorResponse<'_>>(2).error_code), expected);
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn groups_go_with_their_topic_and_it_is_made_anew_as_it_should_be() {
    each_seed(async |world| {
        let (broker, env, mut client) = scene(world, &["readers"]).await;
        assert_eq!(commit(&mut client, &nobody("readers"), "weather", &[0], 1).await, [ErrorCode::None]);
        let mut member = Client::connect(&env, broker.address).await;
        let mut writer = Writer::new();
        member.push(&mut writer, 2, &join_request("others", ""));
        member.send(writer.bytes()).await;
        env.clock().sleep(Duration::from_millis(world.seed() * 10)).await;
        let topics = vec![DeleteTopicState { name: Some("__consumer_offsets"), ..DeleteTopicState::default() }];
        let answer = client.call(6, &DeleteTopicsRequest { topics, ..DeleteTopicsRequest::default() }).await;
        assert_eq!(answer.decode::<DeleteTopicsResponse<'_>>(6).responses[0].error_code, 0);
        // Whoever waited is sent to look again.
        let answer = member.receive(ApiKey::JoinGroup, 2).await.unwrap();
        assert_eq!(code(answer.decode::<JoinGroupResponse<'_>>(2).error_code), ErrorCode::NotCoordinator);

        // Even by somebody who only asks for it.
        client.make_topic("__consumer_offsets").await;
        settle(&mut client, &env, "readers").await;
        assert_eq!(committed(&mut client, "readers", "weather", &[0]).await, Ok(vec![-1]));
        assert_eq!(commit(&mut client, &nobody("readers"), "weather", &[0], 2).await, [ErrorCode::None]);
        let resource = DescribeConfigsResource {
            resource_type: 2,
            resource_name: "__consumer_offsets",
            configuration_keys: Some(vec!["cleanup.policy"]),
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        let answer = client.call(4, &request).await;
        let response: DescribeConfigsResponse<'_> = answer.decode(4);
        assert_eq!(response.results[0].configs[0].value, Some("compact"));
        broker.stop().await;
    });
}
