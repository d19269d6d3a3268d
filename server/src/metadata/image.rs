//! The table that the records of the metadata log add up to.
//!
//! Each shard has an image of its own and applies the same entries in the same order, so looking something up never
//! crosses shards. Iteration is ordered everywhere, because the order leaks into answers and must not differ between
//! shards or runs. [`Image::records`] gives the whole image back as records: that is how a shard gets its first one, and
//! what a snapshot holds.
//!
//! Applying checks every record against the table. A record that does not fit means that the log is damaged or was written
//! by a program with other rules; the caller stops rather than guess.

use std::collections::BTreeMap;

use millrace_engine::model::{PartitionId, TopicId};

use super::record::{Broker, Entry, NodeId, Partition, Record};

/// Brokers, topics, configurations and what was given away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image {
    brokers: BTreeMap<NodeId, Broker>,
    topics: BTreeMap<TopicId, Topic>,
    /// Invariant: exactly the names of `topics`.
    ids_by_name: BTreeMap<String, TopicId>,
    /// The same, by [`collision_name`]; the controller keeps them apart, the log need not.
    ids_by_collision_name: BTreeMap<String, TopicId>,
    /// Invariant: the sum of the partitions of `topics`.
    partition_count: usize,
    producer_id_next: i64,
    /// What brokers were told while they ran, by broker; `None` is all of them. Invariant: no map is empty.
    broker_configs: BTreeMap<Option<NodeId>, BTreeMap<String, String>>,
    /// The same of groups.
    group_configs: BTreeMap<String, BTreeMap<String, String>>,
    applied_index: u64,
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions; each one's index is its place.
    pub partitions: Vec<Partition>,
    /// The configuration keys it sets.
    pub config: BTreeMap<String, String>,
}

/// Why a record does not fit the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// The log has a hole or says something twice.
    #[error("entry {found} cannot follow entry {applied}")]
    OutOfOrder {
        /// The last applied entry.
        applied: u64,
        /// The entry that came.
        found: u64,
    },
    /// A topic's id or name is there already.
    #[error("topic {name} ({topic}) is there already")]
    TopicExists {
        /// Its id.
        topic: TopicId,
        /// Its name.
        name: String,
    },
    /// The record is about a topic that is not there.
    #[error("topic {topic} is not there")]
    UnknownTopic {
        /// Its id.
        topic: TopicId,
    },
    /// A new partition that is not the next one, or a change that is not newer.
    #[error("partition {} of topic {} does not follow its state", partition.partition, partition.topic)]
    StalePartition {
        /// Which.
        partition: PartitionId,
    },
    /// Producer ids that were given away would be given away again.
    #[error("producer ids fall from {known} to {found}")]
    ProducerIdsFall {
        /// The first free one.
        known: i64,
        /// What the record says.
        found: i64,
    },
}

impl Image {
    /// The image of an empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies an entry of the log.
    pub fn apply_entry(&mut self, entry: &Entry) -> Result<(), ApplyError> {
        if entry.index != self.applied_index + 1 {
            return Err(ApplyError::OutOfOrder { applied: self.applied_index, found: entry.index });
        }
        for record in &entry.records {
            self.apply(record)?;
        }
        self.applied_index = entry.index;
        Ok(())
    }

    /// Applies one record.
    pub fn apply(&mut self, record: &Record) -> Result<(), ApplyError> {
        match record {
            Record::RegisterBroker(broker) => {
                self.brokers.insert(broker.node, broker.clone());
            }
            Record::Topic { topic, name } => self.add_topic(*topic, name)?,
            Record::Partition { topic, partition } => self.set_partition(*topic, partition)?,
            Record::RemoveTopic { topic } => self.remove_topic(*topic)?,
            Record::TopicConfig { topic, key, value } => {
                set_key(&mut self.known_topic(*topic)?.config, key, value.as_deref());
            }
            Record::BrokerConfig { node, key, value } => {
                set_key(self.broker_configs.entry(*node).or_default(), key, value.as_deref());
                self.broker_configs.retain(|_, config| !config.is_empty());
            }
            Record::GroupConfig { group, key, value } => {
                let config = self.group_configs.entry(group.clone()).or_default();
                set_key(config, key, value.as_deref());
                if config.is_empty() {
                    self.group_configs.remove(group);
                }
            }
            Record::ProducerIdBlock { next } => {
                if *next < self.producer_id_next {
                    return Err(ApplyError::ProducerIdsFall { known: self.producer_id_next, found: *next });
                }
                self.producer_id_next = *next;
            }
        }
        Ok(())
    }

    /// Records that make this image out of an empty one. The index is not among them: [`Image::resume_at`].
    pub fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        records.extend(self.brokers.values().cloned().map(Record::RegisterBroker));
        for topic in self.topics.values() {
            records.push(Record::Topic { topic: topic.id, name: topic.name.clone() });
            for partition in &topic.partitions {
                records.push(Record::Partition { topic: topic.id, partition: partition.clone() });
            }
            for (key, value) in &topic.config {
                let (key, value) = (key.clone(), Some(value.clone()));
                records.push(Record::TopicConfig { topic: topic.id, key, value });
            }
        }
        for (node, config) in &self.broker_configs {
            for (key, value) in config {
                let (key, value) = (key.clone(), Some(value.clone()));
                records.push(Record::BrokerConfig { node: *node, key, value });
            }
        }
        for (group, config) in &self.group_configs {
            for (key, value) in config {
                let (key, value) = (key.clone(), Some(value.clone()));
                records.push(Record::GroupConfig { group: group.clone(), key, value });
            }
        }
        if self.producer_id_next > 0 {
            records.push(Record::ProducerIdBlock { next: self.producer_id_next });
        }
        records
    }

    /// Says which entry the records of a snapshot stand for.
    pub fn resume_at(&mut self, index: u64) {
        assert!(index >= self.applied_index, "an image never goes back");
        self.applied_index = index;
    }

    /// The last applied entry; 0 for none.
    pub fn applied_index(&self) -> u64 {
        self.applied_index
    }

    /// All brokers, by number.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values()
    }

    /// The broker with this number.
    pub fn find_broker(&self, node: NodeId) -> Option<&Broker> {
        self.brokers.get(&node)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.ids_by_name.values().map(|id| &self.topics[id])
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// How many partitions there are.
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The id of the topic called `name`. Requests do this once per topic; everything below works with ids.
    pub fn find_topic_id(&self, name: &str) -> Option<TopicId> {
        self.ids_by_name.get(name).copied()
    }

    /// The topic with this id.
    pub fn find_topic(&self, topic: TopicId) -> Option<&Topic> {
        self.topics.get(&topic)
    }

    /// The topic called `name`.
    pub fn find_topic_by_name(&self, name: &str) -> Option<&Topic> {
        self.find_topic_id(name).and_then(|id| self.find_topic(id))
    }

    /// The topic whose name differs from `name` at most in `.` and `_`.
    pub fn find_colliding_topic(&self, name: &str) -> Option<&Topic> {
        self.ids_by_collision_name.get(&collision_name(name)).and_then(|id| self.find_topic(*id))
    }

    /// The state of a partition.
    pub fn find_partition(&self, id: PartitionId) -> Option<&Partition> {
        let index = usize::try_from(id.partition).ok()?;
        self.topics.get(&id.topic)?.partitions.get(index)
    }

    /// What the broker was told while it ran; `None`: what all were told.
    pub fn broker_config(&self, node: Option<NodeId>) -> &BTreeMap<String, String> {
        self.broker_configs.get(&node).unwrap_or(NOTHING_SET)
    }

    /// The configuration keys that the group has, be it there or not.
    pub fn group_config(&self, group: &str) -> &BTreeMap<String, String> {
        self.group_configs.get(group).unwrap_or(NOTHING_SET)
    }

    /// The groups that have a configuration, by name.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        self.group_configs.keys().map(String::as_str)
    }

    /// How many groups have a configuration.
    pub fn configured_group_count(&self) -> usize {
        self.group_configs.len()
    }

    /// The first producer id that is free.
    pub fn producer_id_next(&self) -> i64 {
        self.producer_id_next
    }

    fn add_topic(&mut self, topic: TopicId, name: &str) -> Result<(), ApplyError> {
        if self.topics.contains_key(&topic) || self.ids_by_name.contains_key(name) {
            return Err(ApplyError::TopicExists { topic, name: name.to_owned() });
        }
        let (partitions, config) = (Vec::new(), BTreeMap::new());
        self.topics.insert(topic, Topic { id: topic, name: name.to_owned(), partitions, config });
        self.ids_by_name.insert(name.to_owned(), topic);
        self.ids_by_collision_name.insert(collision_name(name), topic);
        Ok(())
    }

    fn set_partition(&mut self, topic: TopicId, new: &Partition) -> Result<(), ApplyError> {
        let id = PartitionId { topic, partition: new.partition };
        let stale = ApplyError::StalePartition { partition: id };
        let partitions = &mut self.known_topic(topic)?.partitions;
        let index = usize::try_from(new.partition).map_err(|_| stale.clone())?;
        if index == partitions.len() {
            partitions.push(new.clone());
            self.partition_count += 1;
            return Ok(());
        }
        let known = partitions.get_mut(index).ok_or_else(|| stale.clone())?;
        if new.partition_epoch <= known.partition_epoch || new.leader_epoch < known.leader_epoch {
            return Err(stale);
        }
        *known = new.clone();
        Ok(())
    }

    fn remove_topic(&mut self, topic: TopicId) -> Result<(), ApplyError> {
        let removed = self.topics.remove(&topic).ok_or(ApplyError::UnknownTopic { topic })?;
        self.ids_by_name.remove(&removed.name);
        let collision_name = collision_name(&removed.name);
        if self.ids_by_collision_name.get(&collision_name) == Some(&topic) {
            self.ids_by_collision_name.remove(&collision_name);
        }
        self.partition_count -= removed.partitions.len();
        Ok(())
    }

    fn known_topic(&mut self, topic: TopicId) -> Result<&mut Topic, ApplyError> {
        self.topics.get_mut(&topic).ok_or(ApplyError::UnknownTopic { topic })
    }
}

fn set_key(config: &mut BTreeMap<String, String>, key: &str, value: Option<&str>) {
    match value {
        Some(value) => config.insert(key.to_owned(), value.to_owned()),
        None => config.remove(key),
    };
}

/// The configuration of what has none.
static NOTHING_SET: &BTreeMap<String, String> = &BTreeMap::new();

/// What two topics may not share: metrics of Kafka's show `.` as `_`, so Kafka refuses names that differ only there.
fn collision_name(name: &str) -> String {
    name.replace('.', "_")
}
