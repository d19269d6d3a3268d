//! Decides: a request against the image becomes the records to propose, or a refusal.
//!
//! Nothing is changed here. The caller appends the records to the metadata log as one entry, waits until it is durable,
//! and applies it everywhere; only then may it ask for the next decision or answer the client. Ids come in as arguments,
//! so that the same requests give the same records on every run of the simulator.

pub mod alter;
pub mod partitions;

use std::collections::BTreeMap;
use std::ops::Range;

use millrace_engine::model::{LeaderEpoch, TopicId};

use super::codec::ENTRY_BYTES_MAX;
use super::image::{Image, Topic};
use super::record::{Broker, NodeId, Partition, Record};
use super::topic_config;
use crate::config::Effective;

/// The rules that are configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Controller {
    /// Partitions of a topic that does not say. Invariant: `1..=`[`TOPIC_PARTITION_COUNT_MAX`].
    pub partition_count_default: i32,
    /// Replicas of a topic that does not say. Invariant: `1..=`[`REPLICATION_FACTOR_MAX`].
    pub replication_factor_default: i16,
    /// Largest batch that the broker can take, which bounds a topic's own `max.message.bytes`.
    pub batch_bytes_limit: u32,
    /// The broker whose keys hold for topics that do not say,
    pub node: NodeId,
    /// and what it was started with. What it was told since then is in the image.
    pub effective: Vec<Effective>,
    /// Whether topics may be deleted.
    pub delete_topics: bool,
}

/// A request for a topic, as `CreateTopics` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 is the default.
    pub partition_count: i32,
    /// How many replicas; -1 is the default.
    pub replication_factor: i16,
    /// Which brokers hold each partition; empty lets the controller choose.
    pub assignments: Vec<Assignment>,
    /// Configuration keys.
    pub config: Vec<(String, Option<String>)>,
}

/// The topic that is to go, as `DeleteTopics` names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteTopic {
    /// By name.
    Name(String),
    /// By id (KIP-516).
    Id(TopicId),
}

/// The brokers that shall hold one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The partition's index.
    pub partition: i32,
    /// Broker numbers, the preferred leader first.
    pub replicas: Vec<i32>,
}

/// A topic that may be made. With `validate_only` the caller answers from it and proposes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTopic {
    /// Its id.
    pub topic: TopicId,
    /// How many partitions.
    pub partition_count: i32,
    /// How many replicas each.
    pub replication_factor: i16,
    /// What to propose.
    pub records: Vec<Record>,
}

/// Producer ids that may be given away once the records are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first id.
    pub first: i64,
    /// How many ids, in sequence.
    pub count: i64,
    /// What to propose.
    pub records: Vec<Record>,
}

/// Why not. One place maps these to Kafka's error codes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Kafka: `INVALID_TOPIC_EXCEPTION`.
    #[error("topic name {name:?} {why}")]
    InvalidTopicName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Kafka: `INVALID_TOPIC_EXCEPTION`.
    #[error("topic {name:?} collides with existing topic {other:?}: they differ only in '.' and '_'")]
    NameCollision {
        /// The name.
        name: String,
        /// The topic that is there.
        other: String,
    },
    /// Kafka: `TOPIC_ALREADY_EXISTS`.
    #[error("topic {name:?} already exists")]
    TopicExists {
        /// The name.
        name: String,
    },
    /// Kafka: `INVALID_REQUEST`.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// Kafka: `INVALID_PARTITIONS`.
    #[error("number of partitions is {0}; it must be 1 to {TOPIC_PARTITION_COUNT_MAX}, or -1 for the default")]
    InvalidPartitions(i32),
    /// Kafka: `INVALID_PARTITIONS`.
    #[error("topic {name:?} has {known} partitions already; {wanted} would not be more")]
    NoMorePartitions {
        /// The topic.
        name: String,
        /// How many it has.
        known: i32,
        /// How many it was to have.
        wanted: i32,
    },
    /// Kafka: `INVALID_PARTITIONS`, where it has a limit.
    #[error("topic {name:?} would have {wanted} partitions, more than {TOPIC_PARTITION_COUNT_MAX}")]
    TooManyPartitionsOfTopic {
        /// The topic.
        name: String,
        /// How many it was to have.
        wanted: i32,
    },
    /// Kafka adds them, and its next start looks for most groups where they are not.
    #[error(
        "the number of partitions of {name:?} says where each group is stored; with another one, groups would be lost"
    )]
    FixedPartitions {
        /// The topic.
        name: String,
    },
    /// Kafka: `POLICY_VIOLATION`.
    #[error("the broker would have {count} partitions, more than {PARTITION_COUNT_MAX}")]
    TooManyPartitions {
        /// How many it would have.
        count: usize,
    },
    /// Kafka: `INVALID_REPLICATION_FACTOR`.
    #[error("replication factor is {found}; brokers that can hold a partition: {max}")]
    InvalidReplicationFactor {
        /// What was asked for.
        found: i64,
        /// The most there can be.
        max: usize,
    },
    /// Kafka: `INVALID_REPLICA_ASSIGNMENT`.
    #[error("assignment of partition {partition} {why}")]
    InvalidAssignment {
        /// Which partition.
        partition: i32,
        /// What is wrong.
        why: &'static str,
    },
    /// Kafka: `INVALID_REPLICA_ASSIGNMENT`.
    #[error("{added} partitions are to be added, and {found} are assigned to brokers")]
    AssignmentCount {
        /// How many partitions are to be added.
        added: i32,
        /// How many assignments there are.
        found: usize,
    },
    /// Kafka: `INVALID_CONFIG`.
    #[error("{key}: {why}")]
    InvalidConfig {
        /// The key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// Kafka: `INVALID_REQUEST`.
    #[error("{key}: {why}")]
    InvalidBrokerConfig {
        /// The key.
        key: String,
        /// What is wrong.
        why: String,
    },
    /// Kafka: `UNKNOWN_TOPIC_OR_PARTITION`.
    #[error("topic {name:?} does not exist")]
    UnknownTopic {
        /// The name.
        name: String,
    },
    /// Kafka: `UNKNOWN_TOPIC_ID`.
    #[error("no topic has this id")]
    UnknownTopicId,
    /// Kafka: `TOPIC_DELETION_DISABLED`.
    #[error("deleting topics is switched off: delete.topic.enable=false")]
    TopicDeletionDisabled,
    /// Kafka: `UNKNOWN_SERVER_ERROR`; 2^63 ids are gone.
    #[error("all producer ids are given away")]
    ProducerIdsExhausted,
    /// A broker that cannot be registered; never sent to clients.
    #[error("broker registration: {0}")]
    InvalidRegistration(&'static str),
}

impl Controller {
    /// Decides on a new topic. `random` becomes its id.
    pub fn create_topic(&self, image: &Image, request: &CreateTopic, random: u128) -> Result<PlannedTopic, Refusal> {
        let name = &request.name;
        check_topic_name(name)?;
        if image.find_topic_id(name).is_some() {
            return Err(Refusal::TopicExists { name: name.clone() });
        }
        if let Some(other) = image.find_colliding_topic(name) {
            return Err(Refusal::NameCollision { name: name.clone(), other: other.name.clone() });
        }
        let placement = if request.assignments.is_empty() {
            self.place(image, request)?
        } else {
            check_assignments(image, request)?
        };
        let count = image.partition_count() + placement.len();
        if count > PARTITION_COUNT_MAX {
            return Err(Refusal::TooManyPartitions { count });
        }
        self.check_config(image, request)?;

        let topic = find_free_id(image, random);
        let partition_count = i32::try_from(placement.len()).expect("bounded by TOPIC_PARTITION_COUNT_MAX");
        let replication_factor = i16::try_from(placement[0].len()).expect("bounded by REPLICATION_FACTOR_MAX");
        let mut records = vec![Record::Topic { topic, name: name.clone() }];
        for (partition, replicas) in (0..).zip(placement) {
            records.push(new_partition(topic, partition, replicas));
        }
        for (key, value) in &request.config {
            records.push(Record::TopicConfig { topic, key: key.clone(), value: value.clone() });
        }
        Ok(PlannedTopic { topic, partition_count, replication_factor, records })
    }

    /// Decides on the end of a topic; gives what it was.
    pub fn delete_topic<'i>(
        &self,
        image: &'i Image,
        request: &DeleteTopic,
    ) -> Result<(&'i Topic, Vec<Record>), Refusal> {
        if !self.delete_topics {
            return Err(Refusal::TopicDeletionDisabled);
        }
        let topic = match request {
            DeleteTopic::Name(name) => image.find_topic_by_name(name).ok_or_else(|| {
                let name = name.chars().take(TOPIC_NAME_BYTES_MAX).collect();
                Refusal::UnknownTopic { name }
            })?,
            DeleteTopic::Id(topic) => image.find_topic(*topic).ok_or(Refusal::UnknownTopicId)?,
        };
        Ok((topic, vec![Record::RemoveTopic { topic: topic.id }]))
    }

    /// Chooses brokers in turn, a different first one for each partition.
    fn place(&self, image: &Image, request: &CreateTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let partition_count = match request.partition_count {
            -1 => self.partition_count_default,
            count @ 1..=TOPIC_PARTITION_COUNT_MAX => count,
            count => return Err(Refusal::InvalidPartitions(count)),
        };
        let factor =
            if request.replication_factor == -1 { self.replication_factor_default } else { request.replication_factor };
        place(image, 0..partition_count, i64::from(factor))
    }

    fn check_config(&self, image: &Image, request: &CreateTopic) -> Result<(), Refusal> {
        let mut config = BTreeMap::new();
        for (key, value) in &request.config {
            let refuse = |why: &str| Refusal::InvalidConfig { key: topic_config::shorten(key), why: why.to_owned() };
            let value = value.as_deref().ok_or_else(|| refuse("a value is missing"))?;
            topic_config::check(key, value, self.batch_bytes_limit)?;
            // Of a key that is given twice the last value holds, as in Kafka.
            config.insert(key.clone(), value.to_owned());
        }
        alter::check_together(&self.topic_defaults(image), &config)
    }
}

/// Takes the next block of producer ids. Ids of a block that is not used up are lost, never given away again.
pub fn allocate_producer_ids(image: &Image) -> Result<ProducerIdBlock, Refusal> {
    let first = image.producer_id_next();
    let next = first.checked_add(PRODUCER_ID_BLOCK_COUNT).ok_or(Refusal::ProducerIdsExhausted)?;
    Ok(ProducerIdBlock { first, count: PRODUCER_ID_BLOCK_COUNT, records: vec![Record::ProducerIdBlock { next }] })
}

/// Registers a broker at its start. A restart replaces the registration; one that is there already needs no record.
pub fn register_broker(image: &Image, broker: Broker) -> Result<Vec<Record>, Refusal> {
    if broker.shard_count == 0 {
        return Err(Refusal::InvalidRegistration("no shards"));
    }
    if broker.endpoints.is_empty() || broker.endpoints.len() > ENDPOINT_COUNT_MAX {
        return Err(Refusal::InvalidRegistration("it needs 1 to 64 endpoints"));
    }
    let mut texts: Vec<&str> = broker.rack.iter().map(String::as_str).collect();
    for endpoint in &broker.endpoints {
        texts.extend([endpoint.listener.as_str(), endpoint.host.as_str()]);
        if endpoint.port == 0 {
            return Err(Refusal::InvalidRegistration("an endpoint's port is 0"));
        }
    }
    if texts.iter().any(|text| text.is_empty() || text.len() > TEXT_BYTES_MAX) {
        return Err(Refusal::InvalidRegistration("a name is empty or longer than 1024 bytes"));
    }
    if image.find_broker(broker.node) == Some(&broker) {
        return Ok(Vec::new());
    }
    Ok(vec![Record::RegisterBroker(broker)])
}

/// Kafka's rules for names of topics.
pub fn check_topic_name(name: &str) -> Result<(), Refusal> {
    let refuse = |why| Err(Refusal::InvalidTopicName { name: name.chars().take(TOPIC_NAME_BYTES_MAX).collect(), why });
    match name {
        "" => return refuse("is empty"),
        "." | ".." => return refuse("must not be '.' or '..'"),
        "__cluster_metadata" => return refuse("is reserved"),
        _ => {}
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return refuse("is longer than 249 characters");
    }
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        return refuse("may only have ASCII letters and digits, '.', '_' and '-'");
    }
    Ok(())
}

/// Whether Kafka's clients know the topic as internal.
pub fn is_internal(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | "__transaction_state" | "__share_group_state")
}

/// Chooses brokers for these partitions of a topic, `replication_factor` each.
fn place(image: &Image, partitions: Range<i32>, replication_factor: i64) -> Result<Vec<Vec<NodeId>>, Refusal> {
    let nodes: Vec<NodeId> = image.brokers().map(|broker| broker.node).collect();
    let max = nodes.len().min(REPLICATION_FACTOR_MAX);
    let replica_count = usize::try_from(replication_factor).ok().filter(|factor| (1..=max).contains(factor));
    let found = replication_factor;
    let replica_count = replica_count.ok_or(Refusal::InvalidReplicationFactor { found, max })?;
    let place = |partition| {
        let first = usize::try_from(partition).expect("a partition's index is not negative");
        (0..replica_count).map(|replica| nodes[(first + replica) % nodes.len()]).collect()
    };
    Ok(partitions.map(place).collect())
}

/// The record of a partition that nobody has written to yet.
fn new_partition(topic: TopicId, partition: i32, replicas: Vec<NodeId>) -> Record {
    let (leader, isr) = (replicas.first().copied(), replicas.clone());
    let (leader_epoch, partition_epoch) = (LeaderEpoch::new(0), 0);
    let partition = Partition { partition, replicas, isr, leader, leader_epoch, partition_epoch };
    Record::Partition { topic, partition }
}

/// The brokers a client chose, if it chose well.
fn check_assignments(image: &Image, request: &CreateTopic) -> Result<Vec<Vec<NodeId>>, Refusal> {
    if request.partition_count != -1 || request.replication_factor != -1 {
        return Err(Refusal::InvalidRequest(
            "with a replica assignment, the number of partitions and the replication factor must be -1",
        ));
    }
    let mut assignments: Vec<&Assignment> = request.assignments.iter().collect();
    assignments.sort_by_key(|assignment| assignment.partition);
    let count = i32::try_from(assignments.len()).unwrap_or(i32::MAX);
    if count > TOPIC_PARTITION_COUNT_MAX {
        return Err(Refusal::InvalidPartitions(count));
    }
    let replica_count = assignments[0].replicas.len();
    let mut placement = Vec::new();
    for (expected, assignment) in (0..).zip(assignments) {
        let partition = assignment.partition;
        if partition != expected {
            let why = "is out of order: partitions must be 0 and up, each once";
            return Err(Refusal::InvalidAssignment { partition, why });
        }
        placement.push(check_replicas(image, assignment, replica_count)?);
    }
    Ok(placement)
}

/// The brokers a client chose for one partition of a topic with this many replicas each.
fn check_replicas(image: &Image, assignment: &Assignment, replica_count: usize) -> Result<Vec<NodeId>, Refusal> {
    let partition = assignment.partition;
    let refuse = |why| Err(Refusal::InvalidAssignment { partition, why });
    if assignment.replicas.is_empty() || assignment.replicas.len() != replica_count {
        return refuse("must have as many replicas as the others, and at least one");
    }
    let max = image.brokers().len().min(REPLICATION_FACTOR_MAX);
    let mut nodes: Vec<NodeId> = Vec::new();
    for number in &assignment.replicas {
        match NodeId::new(*number).filter(|node| image.find_broker(*node).is_some()) {
            Some(node) if !nodes.contains(&node) => nodes.push(node),
            Some(_) => return refuse("names a broker twice"),
            None => return refuse("names a broker that is not registered"),
        }
        if nodes.len() > max {
            let found = i64::try_from(replica_count).unwrap_or(i64::MAX);
            return Err(Refusal::InvalidReplicationFactor { found, max });
        }
    }
    Ok(nodes)
}

/// The id that `random` makes. The ids below 256 are Kafka's reserved ones; an id in use is stepped over.
fn find_free_id(image: &Image, random: u128) -> TopicId {
    let mut number = random.max(TOPIC_ID_MIN);
    loop {
        let topic = TopicId::from_bytes(number.to_be_bytes());
        if image.find_topic(topic).is_none() {
            return topic;
        }
        number = number.checked_add(1).unwrap_or(TOPIC_ID_MIN);
    }
}

/// Kafka's topic that consumer groups are stored in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Partitions of one topic. An entry with all of their records stays below its size limit.
pub const TOPIC_PARTITION_COUNT_MAX: i32 = 10_000;
/// Partitions of the broker.
pub const PARTITION_COUNT_MAX: usize = 100_000;
/// Replicas of a partition, until replication is there.
pub const REPLICATION_FACTOR_MAX: usize = 1;
/// Ids in one block of producer ids, as in Kafka.
pub const PRODUCER_ID_BLOCK_COUNT: i64 = 1000;
/// Kafka's longest name of a topic.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

const ENDPOINT_COUNT_MAX: usize = 64;
const TEXT_BYTES_MAX: usize = 1024;
const TOPIC_ID_MIN: u128 = 256;
/// Bytes around the partitions of an entry: the topic, all of its configuration, the entry itself.
const ENTRY_BYTES_RESERVED: usize = 64 << 10;
/// Bytes of a partition's record with this many replicas, all of them in sync.
const PARTITION_BYTES_MAX: usize = 43 + 8 * REPLICATION_FACTOR_MAX;
const _: () = assert!(10_000 == TOPIC_PARTITION_COUNT_MAX);
const _: () = assert!(10_000 * PARTITION_BYTES_MAX + ENTRY_BYTES_RESERVED <= ENTRY_BYTES_MAX);
