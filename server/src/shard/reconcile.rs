//! Brings the shard's logs in line with the metadata: the logs that the image gives it, configured as it says, and no others.

use std::collections::{BTreeMap, BTreeSet};

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::{PartitionId, TopicId};
use millrace_runtime::Env;

use super::Shard;
use crate::metadata::Image;
use crate::metadata::image::{ApplyError, Topic};
use crate::metadata::record::{Entry, Record};

impl<E: Env> Shard<E> {
    /// Starts from an image, and makes the logs it says are this shard's.
    pub fn load_image(&self, records: &[Record], applied_index: u64) -> Result<(), ApplyError> {
        let mut image = Image::new();
        for record in records {
            image.apply(record)?;
        }
        image.resume_at(applied_index);
        self.settle_defaults(&image);
        for topic in image.topics() {
            self.configure_all(topic);
        }
        self.delete_strays(&image);
        self.set_image(image);
        self.groups().follow(self);
        Ok(())
    }

    /// Deletes logs that no topic has: the broker ended between deleting a topic and letting go of its logs.
    fn delete_strays(&self, image: &Image) {
        let is_stray = |id: &PartitionId| *id != PartitionId::METADATA && image.find_partition(*id).is_none();
        let strays: Vec<_> = self.store().partitions().into_iter().filter(is_stray).collect();
        let shard = self.index();
        if image.applied_index() == 0 && !strays.is_empty() {
            // Not a deleted topic but a lost metadata log. Whoever brings it back finds the records where they were.
            tracing::error!(%shard, count = strays.len(), "the metadata is empty, but there are logs; they stay as they are");
            return;
        }
        for id in strays {
            tracing::info!(%shard, partition = %id, "deleting the log of a topic that was deleted");
            self.store().delete(id);
        }
    }

    /// Applies a durable entry, and makes, configures and deletes the logs that it concerns.
    pub fn apply(&self, entry: &Entry) -> Result<(), ApplyError> {
        let (removed, names) = self.find_removed(&entry.records);
        self.apply_to_image(entry)?;
        for id in removed {
            self.store().delete(id);
        }
        self.reconcile(&entry.records);
        self.groups().follow(self);
        for name in names {
            self.groups().forget_topic(self, &name);
        }
        Ok(())
    }

    /// This shard's logs of the topics that `records` remove, and the topics' names. Asked before they are applied:
    /// afterwards nobody knows them.
    fn find_removed(&self, records: &[Record]) -> (Vec<PartitionId>, Vec<String>) {
        let image = self.image();
        let (mut removed, mut names) = (Vec::new(), Vec::new());
        for record in records {
            if let Record::RemoveTopic { topic } = record
                && let Some(topic) = image.find_topic(*topic)
            {
                removed.extend(self.own_partitions(topic));
                names.push(topic.name.clone());
            }
        }
        (removed, names)
    }

    fn reconcile(&self, records: &[Record]) {
        let image = self.image();
        let mut reconfigured = BTreeSet::new();
        let is_told = records.iter().any(|record| matches!(record, Record::BrokerConfig { .. }));
        if is_told && self.settle_defaults(&image) {
            // Any topic may fall back on what has changed.
            reconfigured.extend(image.topics().map(|topic| topic.id));
        }
        let mut configs: BTreeMap<TopicId, LogConfig> = BTreeMap::new();
        for record in records {
            match record {
                Record::Partition { topic, partition } => {
                    let id = PartitionId { topic: *topic, partition: partition.partition };
                    // A topic that a later record of the same entry removes has no logs.
                    let Some(known) = image.find_topic(*topic).filter(|_| self.owner(id) == self.index()) else {
                        continue;
                    };
                    let config = configs.entry(*topic).or_insert_with(|| self.log_config(known));
                    self.store().create(id, config.clone());
                }
                Record::TopicConfig { topic, .. } => {
                    reconfigured.insert(*topic);
                }
                // Removed topics were looked up before they were gone.
                Record::RemoveTopic { .. }
                | Record::RegisterBroker(_)
                | Record::Topic { .. }
                | Record::BrokerConfig { .. }
                | Record::GroupConfig { .. }
                | Record::ProducerIdBlock { .. } => {}
            }
        }
        // A topic that is new in this entry was configured with its partitions.
        for topic in reconfigured.into_iter().filter(|topic| !configs.contains_key(topic)) {
            if let Some(topic) = image.find_topic(topic) {
                self.configure_all(topic);
            }
        }
    }

    /// Gives every log that this shard has of a topic its configuration, and makes those that are not there.
    fn configure_all(&self, topic: &Topic) {
        let config = self.log_config(topic);
        for id in self.own_partitions(topic) {
            self.store().create(id, config.clone());
        }
    }

    fn own_partitions(&self, topic: &Topic) -> impl Iterator<Item = PartitionId> {
        let ids =
            topic.partitions.iter().map(|partition| PartitionId { topic: topic.id, partition: partition.partition });
        ids.filter(|id| self.owner(*id) == self.index())
    }

    fn log_config(&self, topic: &Topic) -> LogConfig {
        self.topic_defaults().log_config(&topic.name, &topic.config)
    }
}
