//! Target `request`: bytes as requests, of every API in every version.
//!
//! Byte 0 chooses: 255 takes the rest for a whole frame without its length, header first, as a socket hands it over.
//! Anything else names the API, and byte 1 its version; the rest is the body. What is decoded is encoded again, and that
//! must be decoded to the same.

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::header::RequestHead;
use millrace_protocol::messages;
use millrace_protocol::produce::ProducePositions;
use millrace_protocol::wire::{Message, Reader, Structure, Writer};

use crate::Reached;

/// Byte 0 of an input that is a whole frame.
pub const WHOLE_FRAME: u8 = 255;

/// One request's decoder and encoder, run over a body.
struct Api {
    key: ApiKey,
    run: fn(&[u8], i16) -> Reached,
}

/// Makes the list of [`Api`]s from requests.
macro_rules! apis {
    ($($module:ident :: $name:ident),* $(,)?) => {
        &[$(Api {
            key: <messages::$module::$name as Message>::API_KEY,
            run: |body, version| {
                let Some(message) = decode::<messages::$module::$name>(body, version) else {
                    return Reached::Refusal;
                };
                let mut writer = Writer::new();
                message.encode(&mut writer, version).expect("what was decoded can be encoded");
                let again = writer.into_bytes();
                assert_eq!(decode::<messages::$module::$name>(&again, version).as_ref(), Some(&message));
                Reached::Content
            },
        }),*]
    };
}

/// Every request that the codec knows.
const APIS: &[Api] = apis![
    produce::ProduceRequest,
    fetch::FetchRequest,
    list_offsets::ListOffsetsRequest,
    metadata::MetadataRequest,
    offset_commit::OffsetCommitRequest,
    offset_fetch::OffsetFetchRequest,
    find_coordinator::FindCoordinatorRequest,
    join_group::JoinGroupRequest,
    heartbeat::HeartbeatRequest,
    leave_group::LeaveGroupRequest,
    sync_group::SyncGroupRequest,
    describe_groups::DescribeGroupsRequest,
    list_groups::ListGroupsRequest,
    sasl_handshake::SaslHandshakeRequest,
    api_versions::ApiVersionsRequest,
    create_topics::CreateTopicsRequest,
    delete_topics::DeleteTopicsRequest,
    delete_records::DeleteRecordsRequest,
    init_producer_id::InitProducerIdRequest,
    offset_for_leader_epoch::OffsetForLeaderEpochRequest,
    describe_configs::DescribeConfigsRequest,
    alter_configs::AlterConfigsRequest,
    describe_log_dirs::DescribeLogDirsRequest,
    sasl_authenticate::SaslAuthenticateRequest,
    create_partitions::CreatePartitionsRequest,
    delete_groups::DeleteGroupsRequest,
    elect_leaders::ElectLeadersRequest,
    incremental_alter_configs::IncrementalAlterConfigsRequest,
    list_partition_reassignments::ListPartitionReassignmentsRequest,
    offset_delete::OffsetDeleteRequest,
    describe_cluster::DescribeClusterRequest,
    describe_producers::DescribeProducersRequest,
    consumer_group_heartbeat::ConsumerGroupHeartbeatRequest,
    consumer_group_describe::ConsumerGroupDescribeRequest,
    list_config_resources::ListConfigResourcesRequest,
    describe_topic_partitions::DescribeTopicPartitionsRequest,
];

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    match data {
        [WHOLE_FRAME, frame @ ..] => whole_frame(frame),
        [choice, version, body @ ..] => {
            let api = &APIS[usize::from(*choice) % APIS.len()];
            served(api, body, i16::from(*version % 20))
        }
        _ => Reached::Refusal,
    }
}

fn whole_frame(frame: &[u8]) -> Reached {
    let mut reader = Reader::new(frame);
    let Ok(head) = RequestHead::decode(&mut reader) else { return Reached::Refusal };
    let mut writer = Writer::new();
    head.encode(&mut writer).expect("a header that was decoded can be encoded");
    assert_eq!(RequestHead::decode(&mut Reader::new(&writer.into_bytes())).as_ref(), Ok(&head));
    let body = reader.read_slice(reader.remaining()).expect("the rest is there");
    let api = APIS.iter().find(|api| api.key == head.api_key);
    api.map_or(Reached::Refusal, |api| served(api, body, head.version))
}

fn served(api: &Api, body: &[u8], version: i16) -> Reached {
    let reached = (api.run)(body, version);
    if api.key == ApiKey::Produce {
        let mut reader = Reader::new(body);
        let read = ProducePositions::default().decode(&mut reader, version).is_ok() && reader.finish().is_ok();
        assert_eq!(read, reached == Reached::Content, "both readers of Produce agree");
    }
    reached
}

/// Reads a whole body.
fn decode<'a, S: Structure<'a>>(body: &'a [u8], version: i16) -> Option<S> {
    if !S::VERSIONS.contains(version) {
        return None;
    }
    let mut reader = Reader::new(body);
    let message = S::decode(&mut reader, version).ok()?;
    reader.finish().ok().map(|()| message)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_request_of_the_codec_is_tried() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../server/protocol/src/messages");
        let modules = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut modules: Vec<_> = modules.filter(|name| name != "header.rs").collect();
        modules.sort();
        let mut tried: Vec<_> = APIS.iter().map(|api| format!("{}.rs", snake_case(api.key.name()))).collect();
        tried.sort();
        assert_eq!(tried, modules);
    }

    fn snake_case(name: &str) -> String {
        name.chars().fold(String::new(), |mut snake, letter| {
            if letter.is_ascii_uppercase() && !snake.is_empty() {
                snake.push('_');
            }
            snake.push(letter.to_ascii_lowercase());
            snake
        })
    }
}
