//! Decides on more partitions for a topic. Those it has stay as they are, with what they hold: nothing moves between
//! partitions, though clients that choose one by a record's key choose anew from then on.

use super::{
    Assignment, Controller, OFFSETS_TOPIC, PARTITION_COUNT_MAX, Refusal, TOPIC_NAME_BYTES_MAX,
    TOPIC_PARTITION_COUNT_MAX, check_replicas, new_partition, place,
};
use crate::metadata::image::Image;
use crate::metadata::record::Record;

/// A request for more partitions, as `CreatePartitions` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreatePartitions {
    /// The topic's name.
    pub name: String,
    /// How many partitions it is to have in all.
    pub partition_count: i32,
    /// Which brokers hold each new partition, in their order; `None` lets the controller choose.
    pub assignments: Option<Vec<Vec<i32>>>,
}

impl Controller {
    /// Decides on more partitions for a topic.
    pub fn create_partitions(&self, image: &Image, request: &CreatePartitions) -> Result<Vec<Record>, Refusal> {
        let topic = image.find_topic_by_name(&request.name).ok_or_else(|| {
            let name = request.name.chars().take(TOPIC_NAME_BYTES_MAX).collect();
            Refusal::UnknownTopic { name }
        })?;
        let name = || topic.name.clone();
        let wanted = request.partition_count;
        let known = i32::try_from(topic.partitions.len()).expect("bounded by TOPIC_PARTITION_COUNT_MAX");
        if wanted <= known {
            return Err(Refusal::NoMorePartitions { name: name(), known, wanted });
        }
        if topic.name == OFFSETS_TOPIC {
            return Err(Refusal::FixedPartitions { name: name() });
        }
        if wanted > TOPIC_PARTITION_COUNT_MAX {
            return Err(Refusal::TooManyPartitionsOfTopic { name: name(), wanted });
        }
        let added = wanted - known;
        let count = image.partition_count() + usize::try_from(added).expect("more than are known");
        if count > PARTITION_COUNT_MAX {
            return Err(Refusal::TooManyPartitions { count });
        }
        let replica_count = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
        let placement = match &request.assignments {
            None => place(image, known..wanted, i64::try_from(replica_count).unwrap_or(i64::MAX))?,
            Some(assignments) if i32::try_from(assignments.len()) != Ok(added) => {
                return Err(Refusal::AssignmentCount { added, found: assignments.len() });
            }
            Some(assignments) => {
                let mut placement = Vec::with_capacity(assignments.len());
                for (partition, replicas) in (known..).zip(assignments.iter().cloned()) {
                    placement.push(check_replicas(image, &Assignment { partition, replicas }, replica_count)?);
                }
                placement
            }
        };
        let partitions = (known..).zip(placement);
        Ok(partitions.map(|(partition, replicas)| new_partition(topic.id, partition, replicas)).collect())
    }
}
