//! What must be known of a cluster before it can be loaded: partitions, their leaders, offsets, producer ids.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use millrace_protocol::messages::init_producer_id::InitProducerIdRequest;
use millrace_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};

use super::control::Client;
use crate::check::Place;

/// The last versions before names became optional or encodings flexible; every broker since 2.1 has them.
const METADATA_VERSION: i16 = 7;
const CREATE_TOPICS_VERSION: i16 = 4;
const LIST_OFFSETS_VERSION: i16 = 4;
const INIT_PRODUCER_ID_VERSION: i16 = 1;
/// How often a topic that is being made is asked for.
const ATTEMPTS_MAX: usize = 300;
const PAUSE: Duration = Duration::from_millis(100);
const CREATE_TIMEOUT_MS: i32 = 60_000;

/// A topic to be made if it does not exist.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicWish {
    /// As many partitions; as many as the broker likes without it.
    pub(crate) partition_count: Option<i32>,
    /// As many copies; as many as the broker likes without it.
    pub(crate) replication_factor: Option<i16>,
    /// The topic's settings.
    pub(crate) settings: Vec<(String, String)>,
}

/// One end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEnd {
    Earliest,
    Latest,
}

/// A broker and the partitions that it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) address: SocketAddr,
    /// In ascending order.
    pub(crate) places: Vec<Place>,
}

/// Asks `bootstrap` for the leaders of all partitions of the topics, once each has one. With a wish, topics are made
/// first; `partition_count_max` leaves out all but the first partitions of each.
pub(crate) fn find_leaders(
    bootstrap: &str,
    topics: &[String],
    wish: Option<&TopicWish>,
    partition_count_max: Option<usize>,
) -> anyhow::Result<Vec<Leader>> {
    let mut client = Client::connect(bootstrap)?;
    if let Some(wish) = wish {
        create_topics(&mut client, topics, wish)?;
    }
    let mut last_error = ErrorCode::None;
    for _ in 0..ATTEMPTS_MAX {
        match look(&mut client, topics, partition_count_max)? {
            Ok(leaders) => return Ok(leaders),
            Err(error) if !error.is_retriable() => bail!("{}: {}", topics.join(", "), error.name()),
            Err(ErrorCode::UnknownTopicOrPartition) if wish.is_none() => {
                bail!("{}: {}", topics.join(", "), ErrorCode::UnknownTopicOrPartition.name())
            }
            Err(error) => last_error = error,
        }
        pause(PAUSE);
    }
    bail!("{}: still {} after {ATTEMPTS_MAX} attempts", topics.join(", "), last_error.name())
}

/// Makes the topics. Those that exist stay as they are.
fn create_topics(client: &mut Client, topics: &[String], wish: &TopicWish) -> anyhow::Result<()> {
    let configs: Vec<_> =
        wish.settings.iter().map(|(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
    let wanted = topics.iter().map(|name| CreatableTopic {
        name,
        num_partitions: wish.partition_count.unwrap_or(-1),
        replication_factor: wish.replication_factor.unwrap_or(-1),
        assignments: Vec::new(),
        configs: configs.clone(),
    });
    let request = CreateTopicsRequest { topics: wanted.collect(), timeout_ms: CREATE_TIMEOUT_MS, validate_only: false };
    let response = client.call(CREATE_TOPICS_VERSION, &request)?;
    for answer in &response.topics {
        let error = error_of(answer.error_code)?;
        if !matches!(error, ErrorCode::None | ErrorCode::TopicAlreadyExists) {
            bail!("making {}: {} {}", answer.name, error.name(), answer.error_message.unwrap_or_default());
        }
    }
    Ok(())
}

fn look(
    client: &mut Client,
    topics: &[String],
    partition_count_max: Option<usize>,
) -> anyhow::Result<Result<Vec<Leader>, ErrorCode>> {
    let asked = topics.iter().map(|name| MetadataRequestTopic { name: Some(name), ..MetadataRequestTopic::default() });
    let request = MetadataRequest {
        topics: Some(asked.collect()),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let response = client.call(METADATA_VERSION, &request)?;
    let mut led: BTreeMap<i32, Vec<Place>> = BTreeMap::new();
    for (topic_index, name) in topics.iter().enumerate() {
        let answer = response.topics.iter().find(|answer| answer.name == Some(name));
        let answer = answer.with_context(|| format!("the broker's answer leaves {name} out"))?;
        let mut partitions: Vec<_> = answer.partitions.iter().collect();
        partitions.sort_unstable_by_key(|partition| partition.partition_index);
        let found = partitions.len();
        let count = partition_count_max.unwrap_or(found);
        let failed = partitions.iter().take(count).find(|partition| partition.error_code != 0);
        let code = if answer.error_code == 0 { failed.map_or(0, |one| one.error_code) } else { answer.error_code };
        if code != 0 {
            return Ok(Err(error_of(code)?));
        }
        ensure!(count > 0, "{name}: at least one partition");
        ensure!(count <= found, "{name} has {found} partitions, fewer than {count}");
        for partition in partitions.into_iter().take(count) {
            let place = Place { topic_index, partition: partition.partition_index };
            led.entry(partition.leader_id).or_default().push(place);
        }
    }
    let mut leaders = Vec::new();
    for (id, places) in led {
        let broker = response.brokers.iter().find(|broker| broker.node_id == id);
        let broker = broker.with_context(|| format!("the broker's answer names no address of broker {id}"))?;
        let port = u16::try_from(broker.port).with_context(|| format!("the port of broker {id}"))?;
        leaders.push(Leader { address: resolve(broker.host, port)?, places });
    }
    Ok(Ok(leaders))
}

/// The offset at one end of each partition.
pub(crate) fn find_offsets(
    leaders: &[Leader],
    topics: &[String],
    log_end: LogEnd,
) -> anyhow::Result<BTreeMap<Place, i64>> {
    let timestamp = match log_end {
        LogEnd::Earliest => -2,
        LogEnd::Latest => -1,
    };
    let mut offsets = BTreeMap::new();
    for leader in leaders {
        let mut client = Client::connect(&leader.address.to_string())?;
        let mut refused = ask_offsets(&mut client, leader, topics, timestamp, &mut offsets)?;
        // A broker may have been named the leader of a new partition before it has learned of that itself.
        for _ in 1..ATTEMPTS_MAX {
            if refused.is_none() {
                break;
            }
            pause(PAUSE);
            refused = ask_offsets(&mut client, leader, topics, timestamp, &mut offsets)?;
        }
        if let Some(refused) = refused {
            bail!("{refused} after {ATTEMPTS_MAX} attempts");
        }
        let missing = leader.places.iter().find(|place| !offsets.contains_key(place));
        ensure!(missing.is_none(), "the answer leaves partitions out: {missing:?}");
    }
    Ok(offsets)
}

/// Adds the offsets of what one broker leads. `Some` says what it refused and may answer later.
fn ask_offsets(
    client: &mut Client,
    leader: &Leader,
    topics: &[String],
    timestamp: i64,
    offsets: &mut BTreeMap<Place, i64>,
) -> anyhow::Result<Option<String>> {
    let mut refused = None;
    for (topic_index, name) in topics.iter().enumerate() {
        let own = leader.places.iter().filter(|place| place.topic_index == topic_index);
        let partitions = own.map(|place| ListOffsetsPartition {
            partition_index: place.partition,
            timestamp,
            ..ListOffsetsPartition::default()
        });
        let asked = vec![ListOffsetsTopic { name, partitions: partitions.collect() }];
        let request = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics: asked, timeout_ms: 0 };
        let response = client.call(LIST_OFFSETS_VERSION, &request)?;
        for answer in response.topics.iter().flat_map(|topic| &topic.partitions) {
            let partition = answer.partition_index;
            let error = error_of(answer.error_code)?;
            if error == ErrorCode::None {
                offsets.insert(Place { topic_index, partition }, answer.offset);
                continue;
            }
            let refusal = format!("{name}, partition {partition}: {}", error.name());
            ensure!(error.is_retriable(), "{refusal}");
            refused = Some(refusal);
        }
    }
    Ok(refused)
}

/// Ids of new idempotent producers, each with its epoch.
pub(crate) fn make_producer_ids(bootstrap: &str, count: usize) -> anyhow::Result<Vec<(i64, i16)>> {
    let mut client = Client::connect(bootstrap)?;
    let mut ids = Vec::with_capacity(count);
    let mut attempts_left = ATTEMPTS_MAX;
    while ids.len() < count {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..InitProducerIdRequest::default()
        };
        let response = client.call(INIT_PRODUCER_ID_VERSION, &request)?;
        match error_of(response.error_code)? {
            ErrorCode::None => ids.push((response.producer_id, response.producer_epoch)),
            error if error.is_retriable() && attempts_left > 0 => {
                attempts_left -= 1;
                pause(PAUSE);
            }
            error => bail!("asking for a producer id: {}", error.name()),
        }
    }
    Ok(ids)
}

/// The first address of a name.
pub(crate) fn resolve(host: &str, port: u16) -> anyhow::Result<SocketAddr> {
    let mut addresses = (host, port).to_socket_addrs().with_context(|| format!("looking {host} up"))?;
    addresses.next().with_context(|| format!("{host} has no address"))
}

/// The address of `HOST:PORT`.
pub(crate) fn resolve_address(text: &str) -> anyhow::Result<SocketAddr> {
    let (host, port) = text.rsplit_once(':').with_context(|| format!("{text}: HOST:PORT"))?;
    resolve(host, port.parse().with_context(|| format!("the port of {text}"))?)
}

/// The error with this code.
pub(crate) fn error_of(code: i16) -> anyhow::Result<ErrorCode> {
    ErrorCode::from_code(code).with_context(|| format!("the broker answers with the unknown error {code}"))
}

/// Waits on the main thread.
#[expect(clippy::disallowed_methods, reason = "a client's own thread, no shard")]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
