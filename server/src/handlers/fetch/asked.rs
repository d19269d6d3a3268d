//! What a Fetch request says, in terms of sessions.

use std::rc::Rc;

use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest};
use millrace_protocol::wire::Uuid;
use millrace_runtime::Env;

use super::super::Context;
use crate::fetch_session::{FetchPosition, Naming, PartitionKey, SessionRequest, TopicKey, Wanted};

/// Which session the request is of. Versions without sessions decode as a request for none.
pub(super) fn session<E: Env>(context: &Context<'_, E>, request: &FetchRequest<'_>) -> SessionRequest {
    SessionRequest {
        connection: context.client.number,
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        naming: if context.head.version >= BY_ID_FROM { Naming::Id } else { Naming::Name },
    }
}

/// The partitions that the request asks for and those that it forgets, both as often as it names them.
pub(super) fn partitions(request: &FetchRequest<'_>, naming: Naming) -> (Vec<Wanted>, Vec<PartitionKey>) {
    let mut asked = Vec::with_capacity(request.topics.iter().map(|topic| topic.partitions.len()).sum());
    for topic in &request.topics {
        let key = topic_key(naming, topic.topic, topic.topic_id);
        asked.extend(topic.partitions.iter().map(|partition| Wanted {
            key: PartitionKey { topic: key.clone(), partition: partition.partition },
            position: position(partition),
        }));
    }
    let forgotten_count = request.forgotten_topics_data.iter().map(|topic| topic.partitions.len()).sum();
    let mut forgotten = Vec::with_capacity(forgotten_count);
    for topic in &request.forgotten_topics_data {
        let key = topic_key(naming, topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.iter().map(|index| PartitionKey { topic: key.clone(), partition: *index }));
    }
    (asked, forgotten)
}

fn topic_key(naming: Naming, name: &str, id: Uuid) -> TopicKey {
    match naming {
        Naming::Name => TopicKey::Name(Rc::from(name)),
        Naming::Id => TopicKey::Id(id),
    }
}

fn position(partition: &FetchPartition) -> FetchPosition {
    FetchPosition {
        offset: partition.fetch_offset,
        bytes_max: partition.partition_max_bytes,
        leader_epoch: partition.current_leader_epoch,
    }
}

/// The first version that names topics by id (KIP-516).
const BY_ID_FROM: i16 = 13;
