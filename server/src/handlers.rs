//! What the broker does for each request: decode, call, encode. Handlers hold no state.
//!
//! [`Table::APIS`] is the one list of what is served; ApiVersions advertises exactly it. Names become ids here, once per
//! request: nothing below looks a name up. Every handler asks the authorizer for every resource it touches.

pub mod authorizer;
pub mod errors;

mod by_owner;
mod config_resource;
mod coordinator;
mod lookup;

pub mod fetch;
pub mod list_offsets;
pub mod produce;

mod alter_configs;
mod api_versions;
mod consumer_group_describe;
mod consumer_group_heartbeat;
mod create_partitions;
mod create_topics;
mod delete_groups;
mod delete_records;
mod delete_topics;
mod describe_cluster;
mod describe_configs;
mod describe_groups;
mod describe_log_dirs;
mod describe_producers;
mod describe_topic_partitions;
mod elect_leaders;
mod find_coordinator;
mod heartbeat;
mod init_producer_id;
mod join_group;
mod leave_group;
mod list_config_resources;
mod list_groups;
mod list_partition_reassignments;
mod metadata;
mod offset_commit;
mod offset_delete;
mod offset_fetch;
mod offset_for_leader_epoch;
mod sasl;
mod sync_group;

use std::marker::PhantomData;
use std::pin::Pin;

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::frame::encode_response;
use millrace_protocol::header::RequestHead;
use millrace_protocol::wire::{DecodeError, Message, Reader, VersionRange, Writer};
use millrace_runtime::Env;

use self::authorizer::{Operation, Resource};
use crate::config::ListenerConfig;
use crate::net::client::Client;
use crate::net::connection::Close;
use crate::net::decoding::Decoding;
use crate::net::outgoing::Outgoing;
use crate::shard::Shard;
use crate::shard::mailbox::frame::Frame;

/// A request and where it came from.
pub struct Context<'a, E: Env> {
    /// The shard that serves the connection.
    pub shard: &'a Shard<E>,
    /// Who asks.
    pub client: &'a Client,
    /// What is asked for.
    pub head: RequestHead<'a>,
    /// The whole request, header included.
    pub frame: &'a Frame,
    /// What it may be decoded into.
    pub decoding: &'a Decoding,
}

impl<'a, E: Env> Context<'a, E> {
    /// Decodes the body. Bytes behind it are ignored, as in Kafka: librdkafka 2.16 sends three with a Metadata request
    /// for all topics.
    fn decode<M: Message<'a>>(&self) -> Result<M, DecodeError> {
        self.read(|reader| M::decode(reader, self.head.version))
    }

    /// Reads the body within the memory that it may take.
    fn read<T>(&self, decode: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>) -> Result<T, DecodeError> {
        let frame: &'a [u8] = self.frame;
        let mut reader = Reader::new(frame).with_memory_max(self.decoding.bytes_max());
        RequestHead::decode(&mut reader).expect("the header was decoded before");
        let memory_max = reader.memory_left();
        let decoded = decode(&mut reader)?;
        self.decoding.settle(memory_max - reader.memory_left());
        Ok(decoded)
    }

    /// Encodes the answer.
    fn answer<'m, M: Message<'m>>(&self, writer: &mut Writer, response: &M) -> Result<(), Close> {
        Ok(encode_response(writer, self.head.version, self.head.correlation_id, response)?)
    }

    /// Whether the client may do this.
    fn allows(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let listener = &self.listener().name;
        self.shard.authorizer().allows(listener, &self.client.principal, operation, resource)
    }

    /// Those of `operations` that the client may do, as Kafka's bit field: the bit of an operation is its number.
    fn allowed_operations(&self, operations: &[Operation], resource: Resource<'_>) -> i32 {
        let allowed = operations.iter().filter(|operation| self.allows(**operation, resource));
        allowed.fold(0, |bits, operation| bits | 1 << operation.code())
    }

    /// Where the client came in.
    fn listener(&self) -> &ListenerConfig {
        &self.shard.broker().config.net.listeners[self.client.listener_index]
    }
}

/// Whether this version of the API is served.
pub fn is_served<E: Env>(api_key: ApiKey, version: i16) -> bool {
    find::<E>(api_key).is_some_and(|api| api.versions.contains(version))
}

/// Whether a request may wait for others. What is finished before it must not wait with it.
pub fn may_park(api_key: ApiKey) -> bool {
    matches!(api_key, ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup)
}

/// Serves any request but Produce, which overlaps with its neighbours and is started by the connection itself.
pub async fn serve<E: Env>(context: &Context<'_, E>, outgoing: &mut Outgoing<E>) -> Result<(), Close> {
    match find::<E>(context.head.api_key).expect("the connection has looked it up").serve {
        Serve::AtOnce(handler) => handler(context, outgoing.writer()),
        Serve::Control(handler) => handler(context, outgoing.writer()).await,
        Serve::Fetch => fetch::handle(context, outgoing).await,
        Serve::Produce => unreachable!("the connection starts Produce requests itself"),
    }
}

fn find<E: Env>(api_key: ApiKey) -> Option<&'static Api<E>> {
    Table::<E>::APIS.iter().find(|api| api.key == api_key)
}

/// A handler's work. Boxed: control requests are rare and their handlers differ in size.
type Work<'a> = Pin<Box<dyn Future<Output = Result<(), Close>> + 'a>>;

/// One API.
struct Api<E: Env> {
    key: ApiKey,
    versions: VersionRange,
    serve: Serve<E>,
}

/// How an API is served.
enum Serve<E: Env> {
    /// By a function that knows the answer.
    AtOnce(fn(&Context<'_, E>, &mut Writer) -> Result<(), Close>),
    /// By a function that decodes, calls and encodes.
    Control(for<'a> fn(&'a Context<'a, E>, &'a mut Writer) -> Work<'a>),
    /// By a function that may wait and answers with records.
    Fetch,
    /// In two steps, so that neighbours overlap.
    Produce,
}

/// What is served, for one kind of machine.
struct Table<E: Env>(PhantomData<E>);

impl<E: Env> Table<E> {
    const APIS: &[Api<E>] = &[
        Api { key: ApiKey::Produce, versions: versions(3, 13), serve: Serve::Produce },
        Api { key: ApiKey::Fetch, versions: versions(4, 18), serve: Serve::Fetch },
        Api {
            key: ApiKey::ListOffsets,
            versions: versions(1, 11),
            serve: Serve::Control(|context, writer| Box::pin(list_offsets::handle(context, writer))),
        },
        Api {
            key: ApiKey::Metadata,
            versions: versions(0, 13),
            serve: Serve::Control(|context, writer| Box::pin(metadata::handle(context, writer))),
        },
        Api {
            key: ApiKey::OffsetCommit,
            versions: versions(2, 10),
            serve: Serve::Control(|context, writer| Box::pin(offset_commit::handle(context, writer))),
        },
        Api {
            key: ApiKey::OffsetFetch,
            versions: versions(1, 10),
            serve: Serve::Control(|context, writer| Box::pin(offset_fetch::handle(context, writer))),
        },
        Api {
            key: ApiKey::FindCoordinator,
            versions: versions(0, 6),
            serve: Serve::Control(|context, writer| Box::pin(find_coordinator::handle(context, writer))),
        },
        Api {
            key: ApiKey::JoinGroup,
            versions: versions(0, 9),
            serve: Serve::Control(|context, writer| Box::pin(join_group::handle(context, writer))),
        },
        Api {
            key: ApiKey::Heartbeat,
            versions: versions(0, 4),
            serve: Serve::Control(|context, writer| Box::pin(heartbeat::handle(context, writer))),
        },
        Api {
            key: ApiKey::LeaveGroup,
            versions: versions(0, 5),
            serve: Serve::Control(|context, writer| Box::pin(leave_group::handle(context, writer))),
        },
        Api {
            key: ApiKey::SyncGroup,
            versions: versions(0, 5),
            serve: Serve::Control(|context, writer| Box::pin(sync_group::handle(context, writer))),
        },
        Api {
            key: ApiKey::DescribeGroups,
            versions: versions(0, 6),
            serve: Serve::Control(|context, writer| Box::pin(describe_groups::handle(context, writer))),
        },
        Api {
            key: ApiKey::ListGroups,
            versions: versions(0, 5),
            serve: Serve::Control(|context, writer| Box::pin(list_groups::handle(context, writer))),
        },
        Api { key: ApiKey::SaslHandshake, versions: versions(0, 1), serve: Serve::AtOnce(sasl::handle_handshake) },
        Api { key: ApiKey::ApiVersions, versions: versions(0, 4), serve: Serve::AtOnce(api_versions::handle) },
        Api {
            key: ApiKey::CreateTopics,
            versions: versions(2, 7),
            serve: Serve::Control(|context, writer| Box::pin(create_topics::handle(context, writer))),
        },
        Api {
            key: ApiKey::DeleteTopics,
            versions: versions(1, 6),
            serve: Serve::Control(|context, writer| Box::pin(delete_topics::handle(context, writer))),
        },
        Api {
            key: ApiKey::DeleteRecords,
            versions: versions(0, 2),
            serve: Serve::Control(|context, writer| Box::pin(delete_records::handle(context, writer))),
        },
        Api {
            key: ApiKey::InitProducerId,
            versions: versions(0, 5),
            serve: Serve::Control(|context, writer| Box::pin(init_producer_id::handle(context, writer))),
        },
        Api {
            key: ApiKey::OffsetForLeaderEpoch,
            versions: versions(2, 4),
            serve: Serve::Control(|context, writer| Box::pin(offset_for_leader_epoch::handle(context, writer))),
        },
        Api { key: ApiKey::DescribeConfigs, versions: versions(1, 4), serve: Serve::AtOnce(describe_configs::handle) },
        Api {
            key: ApiKey::AlterConfigs,
            versions: versions(0, 2),
            serve: Serve::Control(|context, writer| Box::pin(alter_configs::handle_whole(context, writer))),
        },
        Api {
            key: ApiKey::DescribeLogDirs,
            versions: versions(1, 5),
            serve: Serve::Control(|context, writer| Box::pin(describe_log_dirs::handle(context, writer))),
        },
        Api {
            key: ApiKey::SaslAuthenticate,
            versions: versions(0, 2),
            serve: Serve::AtOnce(sasl::handle_authenticate),
        },
        Api {
            key: ApiKey::CreatePartitions,
            versions: versions(0, 3),
            serve: Serve::Control(|context, writer| Box::pin(create_partitions::handle(context, writer))),
        },
        Api {
            key: ApiKey::DeleteGroups,
            versions: versions(0, 2),
            serve: Serve::Control(|context, writer| Box::pin(delete_groups::handle(context, writer))),
        },
        Api { key: ApiKey::ElectLeaders, versions: versions(0, 2), serve: Serve::AtOnce(elect_leaders::handle) },
        Api {
            key: ApiKey::IncrementalAlterConfigs,
            versions: versions(0, 1),
            serve: Serve::Control(|context, writer| Box::pin(alter_configs::handle_incremental(context, writer))),
        },
        Api {
            key: ApiKey::ListPartitionReassignments,
            versions: versions(0, 0),
            serve: Serve::AtOnce(list_partition_reassignments::handle),
        },
        Api {
            key: ApiKey::OffsetDelete,
            versions: versions(0, 0),
            serve: Serve::Control(|context, writer| Box::pin(offset_delete::handle(context, writer))),
        },
        Api { key: ApiKey::DescribeCluster, versions: versions(0, 2), serve: Serve::AtOnce(describe_cluster::handle) },
        Api {
            key: ApiKey::DescribeProducers,
            versions: versions(0, 0),
            serve: Serve::Control(|context, writer| Box::pin(describe_producers::handle(context, writer))),
        },
        Api {
            key: ApiKey::ConsumerGroupHeartbeat,
            versions: versions(0, 1),
            serve: Serve::Control(|context, writer| Box::pin(consumer_group_heartbeat::handle(context, writer))),
        },
        Api {
            key: ApiKey::ConsumerGroupDescribe,
            versions: versions(0, 1),
            serve: Serve::Control(|context, writer| Box::pin(consumer_group_describe::handle(context, writer))),
        },
        Api {
            key: ApiKey::ListConfigResources,
            versions: versions(0, 1),
            serve: Serve::AtOnce(list_config_resources::handle),
        },
        Api {
            key: ApiKey::DescribeTopicPartitions,
            versions: versions(0, 0),
            serve: Serve::AtOnce(describe_topic_partitions::handle),
        },
    ];
}

const fn versions(min: i16, max: i16) -> VersionRange {
    VersionRange { min, max }
}

#[cfg(test)]
mod tests {
    use millrace_runtime::sim::SimEnv;

    use super::*;

    #[test]
    fn the_table_is_in_order_and_of_one_release() {
        let apis = Table::<SimEnv>::APIS;
        assert!(apis.windows(2).all(|pair| pair[0].key < pair[1].key));
        for api in apis {
            assert_eq!(Some(api.versions), api.key.served_versions(), "{}", api.key.name());
        }
    }

    /// The table in docs/COMPATIBILITY.md.
    fn describe() -> String {
        let mut text = String::from("| Key | API | Versions |\n|---|---|---|\n");
        for Api { key, versions, .. } in Table::<SimEnv>::APIS {
            let line = format!("| {} | {} | {} to {} |\n", key.code(), key.name(), versions.min, versions.max);
            text.push_str(&line);
        }
        text
    }

    #[test]
    fn the_compatibility_page_has_the_table() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COMPATIBILITY.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let start = page.find("| Key | API |").expect("the page has the table");
        let end = start + page[start..].find("\n\n").expect("a blank line ends the table") + 1;
        if page[start..end] == describe() {
            return;
        }
        assert!(
            std::env::var_os("UPDATE").is_some(),
            "docs/COMPATIBILITY.md is stale: run the test again with UPDATE=1"
        );
        let updated = format!("{}{}{}", &page[..start], describe(), &page[end..]);
        std::fs::write(&path, updated).unwrap();
    }

    #[test]
    fn unknown_versions_are_not_served() {
        assert!(is_served::<SimEnv>(ApiKey::Produce, 3));
        assert!(!is_served::<SimEnv>(ApiKey::Produce, 2));
        assert!(is_served::<SimEnv>(ApiKey::OffsetCommit, 8));
        assert!(!is_served::<SimEnv>(ApiKey::OffsetCommit, 1));
    }
}
