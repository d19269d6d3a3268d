//! The oldest client and the newest: every version of what a client needs, against the same broker.

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::batch::{BatchBuilder, BatchFields, Compression};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use millrace_protocol::messages::delete_groups::{DeleteGroupsRequest, DeleteGroupsResponse};
use millrace_protocol::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse};
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse};
use millrace_protocol::messages::find_coordinator::{FindCoordinatorRequest, FindCoordinatorResponse};
use millrace_protocol::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use millrace_protocol::messages::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use millrace_protocol::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity};
use millrace_protocol::messages::list_groups::{ListGroupsRequest, ListGroupsResponse};
use millrace_protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use millrace_protocol::messages::produce::{ProduceRequest, ProduceResponse};
use millrace_protocol::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use millrace_protocol::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use millrace_protocol::messages::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse};
use millrace_runtime::sim::SimEnv;

use crate::client::{Client, batch, fetch_request, produce_request, values};
use crate::compacted::compressed;
use crate::groups::settle;
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed};

/// What Apache Kafka 4.3.1 advertises.
const RELEASE: &str = include_str!("../../protocol/schemas/api-versions.tsv");

#[test]
fn what_is_advertised_is_of_one_release_and_promises_nothing_else() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        for version in 0..=4 {
            let request = ApiVersionsRequest { client_software_name: "test", client_software_version: "1" };
            let answer = client.call(version, &request).await;
            // Decoding it takes the header of version 0 for granted, which no other API has from flexible versions on.
            let response: ApiVersionsResponse<'_> = answer.decode(version);
            assert_eq!((response.error_code, response.throttle_time_ms), (0, 0));
            assert!(response.api_keys.len() > 30, "version {version}");
            for api in &response.api_keys {
                let line = format!("{}\t{}\t{}", api.api_key, api.min_version, api.max_version);
                assert!(RELEASE.lines().any(|of_kafka| of_kafka == line), "Kafka does not advertise {line}");
            }
            // A client that sees a transaction.version, or where to push telemetry (KIP-714), goes by it.
            assert_eq!((response.supported_features.len(), response.finalized_features.len()), (0, 0));
            assert!(response.api_keys.iter().all(|api| ![24, 25, 26, 28, 71, 72].contains(&api.api_key)));
        }
        broker.stop().await;
    });
}

#[test]
fn a_client_that_wants_to_authenticate_is_told_and_may_go_on() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        for version in 0..=1 {
            let answer = client.call(version, &SaslHandshakeRequest { mechanism: "PLAIN" }).await;
            let response: SaslHandshakeResponse<'_> = answer.decode(version);
            assert_eq!(response.error_code, ErrorCode::IllegalSaslState.code());
        }
        for version in 0..=2 {
            let answer = client.call(version, &SaslAuthenticateRequest { auth_bytes: b"\0me\0secret" }).await;
            let response: SaslAuthenticateResponse<'_> = answer.decode(version);
            assert_eq!(response.error_code, ErrorCode::IllegalSaslState.code());
            assert!(response.error_message.is_some());
        }
        client.make_topic("weather").await;
        broker.stop().await;
    });
}

#[test]
fn every_version_of_fetch_reads_what_every_version_of_produce_wrote() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let topic_id = client.make_topic("weather").await;
        let mut written = Vec::new();
        for version in 3..=13_i16 {
            let value = format!("version {version}").into_bytes();
            let batch = batch(&[&value]);
            let request = produce_request("weather", &[(1, &batch)], -1);
            let mut topic = request.topic_data[0].clone();
            topic.topic_id = topic_id;
            let answer = client.call(version, &ProduceRequest { topic_data: vec![topic], ..request }).await;
            let response: ProduceResponse<'_> = answer.decode(version);
            let partition = &response.responses[0].partition_responses[0];
            assert_eq!((partition.error_code, partition.base_offset), (0, i64::from(version) - 3), "version {version}");
            written.push(value);
        }
        for (version, isolation_level) in (4..=18).flat_map(|version| [(version, 0), (version, 1)]) {
            let request = fetch_request("weather", &[(1, 0)], 0, 1);
            let mut topic = request.topics[0].clone();
            topic.topic_id = topic_id;
            let request = FetchRequest { topics: vec![topic], isolation_level, ..request };
            let answer = client.call(version, &request).await;
            let response: FetchResponse<'_> = answer.decode(version);
            let partition = &response.responses[0].partitions[0];
            assert_eq!((response.error_code, partition.error_code), (0, 0), "version {version}");
            // Without transactions nothing is unstable.
            assert_eq!((partition.high_watermark, partition.last_stable_offset), (11, 11), "version {version}");
            assert_eq!(values(partition.records.unwrap()), written, "version {version}");
        }
        broker.stop().await;
    });
}

#[test]
fn special_timestamps_are_known_from_their_versions_on() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let compressions = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];
        for (partition, compression) in (0..).zip(compressions) {
            let mut builder = BatchBuilder::new(BatchFields::default());
            // The largest time is that of the record in the middle.
            for time in [1_750_000_000_100, 1_750_000_000_900, 1_750_000_000_500] {
                builder.push(time, None, Some(b"sunny"));
            }
            let batch = compressed(&builder.build(), compression);
            let answer = client.call(9, &produce_request("weather", &[(partition, &batch)], -1)).await;
            let response: ProduceResponse<'_> = answer.decode(9);
            assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
        }
        // Each with the version it is known from, and what it finds.
        let times =
            [(1, 1_750_000_000_101, 1), (1, -1, 3), (1, -2, 0), (7, -3, 1), (8, -4, 0), (9, -5, -1), (11, -6, -1)];
        for version in 1..=11 {
            for (known_from, timestamp, expected) in times {
                let ask = |partition_index| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
                let topics = vec![ListOffsetsTopic { name: "weather", partitions: (0..4).map(ask).collect() }];
                let request = ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() };
                let answer = client.call(version, &request).await;
                let response: ListOffsetsResponse<'_> = answer.decode(version);
                let expected = if version >= known_from {
                    (ErrorCode::None.code(), expected)
                } else {
                    (ErrorCode::UnsupportedVersion.code(), -1)
                };
                for partition in &response.topics[0].partitions {
                    let found = (partition.error_code, partition.offset);
                    assert_eq!(found, expected, "{timestamp} in version {version}");
                }
            }
        }
        broker.stop().await;
    });
}

/// Joins, coming back with the id that is given out from version 4 on; gives the id and the generation.
async fn join(client: &mut Client<SimEnv>, group: &str, version: i16) -> (String, i32) {
    let mut member_id = String::new();
    loop {
        let request = JoinGroupRequest {
            group_id: group,
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            member_id: &member_id,
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: b"weather" }],
            ..JoinGroupRequest::default()
        };
        let answer = client.call(version, &request).await;
        let response: JoinGroupResponse<'_> = answer.decode(version);
        if response.error_code == ErrorCode::MemberIdRequired.code() {
            assert!(version >= 4 && member_id.is_empty(), "version {version}");
            response.member_id.clone_into(&mut member_id);
            continue;
        }
        assert_eq!(response.error_code, 0, "version {version}");
        assert_eq!((response.leader, response.members.len()), (response.member_id, 1));
        assert_eq!(response.protocol_type, (version >= 7).then_some("consumer"));
        assert!(version < 4 || !member_id.is_empty(), "version {version} has to ask twice");
        return (response.member_id.to_owned(), response.generation_id);
    }
}

/// Goes once through the life of a group; each API in the version that is nearest.
async fn live(client: &mut Client<SimEnv>, group: &str, version: i16) {
    let coordinator_version = version.min(6);
    let request = if coordinator_version < 4 {
        FindCoordinatorRequest { key: group, ..FindCoordinatorRequest::default() }
    } else {
        FindCoordinatorRequest { coordinator_keys: vec![group], ..FindCoordinatorRequest::default() }
    };
    let answer = client.call(coordinator_version, &request).await;
    let response: FindCoordinatorResponse<'_> = answer.decode(coordinator_version);
    let found = response.coordinators.first().map_or(response.node_id, |coordinator| coordinator.node_id);
    assert_eq!((response.error_code, found), (0, 1));

    let (member_id, generation_id) = join(client, group, version).await;
    let sync_version = version.min(5);
    let assignments = vec![SyncGroupRequestAssignment { member_id: &member_id, assignment: b"all" }];
    let request = SyncGroupRequest {
        group_id: group,
        generation_id,
        member_id: &member_id,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        assignments,
        ..SyncGroupRequest::default()
    };
    let answer = client.call(sync_version, &request).await;
    let response: SyncGroupResponse<'_> = answer.decode(sync_version);
    assert_eq!((response.error_code, response.assignment), (0, &b"all"[..]));

    let heartbeat_version = version.min(4);
    let request = HeartbeatRequest { group_id: group, generation_id, member_id: &member_id, ..Default::default() };
    let answer = client.call(heartbeat_version, &request).await;
    assert_eq!(answer.decode::<HeartbeatResponse>(heartbeat_version).error_code, 0);

    let describe_version = version.min(6);
    let answer =
        client.call(describe_version, &DescribeGroupsRequest { groups: vec![group], ..Default::default() }).await;
    let response: DescribeGroupsResponse<'_> = answer.decode(describe_version);
    let described = &response.groups[0];
    assert_eq!((described.group_state, described.protocol_data), ("Stable", "range"));
    assert_eq!(described.members[0].member_assignment, b"all");

    let list_version = version.min(5);
    let answer = client.call(list_version, &ListGroupsRequest::default()).await;
    let response: ListGroupsResponse<'_> = answer.decode(list_version);
    let listed = response.groups.iter().find(|listed| listed.group_id == group).unwrap();
    assert_eq!((listed.protocol_type, listed.group_state == "Stable"), ("consumer", version >= 4));

    let leave_version = version.min(5);
    let request = if leave_version < 3 {
        LeaveGroupRequest { group_id: group, member_id: &member_id, ..LeaveGroupRequest::default() }
    } else {
        let members = vec![MemberIdentity { member_id: &member_id, ..MemberIdentity::default() }];
        LeaveGroupRequest { group_id: group, members, ..LeaveGroupRequest::default() }
    };
    let answer = client.call(leave_version, &request).await;
    assert_eq!(answer.decode::<LeaveGroupResponse<'_>>(leave_version).error_code, 0);

    let delete_version = version.min(2);
    let answer = client.call(delete_version, &DeleteGroupsRequest { groups_names: vec![group] }).await;
    assert_eq!(answer.decode::<DeleteGroupsResponse<'_>>(delete_version).results[0].error_code, 0);
}

#[test]
fn a_group_lives_in_every_version() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        client.make_topic("weather").await;
        for version in 0..=9 {
            let group = format!("readers-{version}");
            settle(&mut client, &env, &group).await;
            live(&mut client, &group, version).await;
        }
        broker.stop().await;
    });
}

#[test]
fn versions_below_those_of_the_release_close_the_connection() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        for line in RELEASE.lines().skip(1) {
            let numbers: Vec<i16> = line.split('\t').map(|number| number.parse().unwrap()).collect();
            let (key, min, max) = (numbers[0], numbers[1], numbers[2]);
            // ApiVersions is answered in any version.
            if key == 18 {
                continue;
            }
            for version in [min - 1, max + 1] {
                let mut client = Client::connect(&client_env(world), broker.address).await;
                let mut frame = vec![0, 0, 0, 11];
                frame.extend_from_slice(&key.to_be_bytes());
                frame.extend_from_slice(&version.to_be_bytes());
                frame.extend_from_slice(b"\0\0\0\0\xff\xff\0");
                client.send(&frame).await;
                assert!(client.receive(ApiKey::Metadata, 0).await.is_none(), "API {key} version {version}");
            }
        }
        broker.stop().await;
    });
}
