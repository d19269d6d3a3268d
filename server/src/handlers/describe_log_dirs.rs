//! DescribeLogDirs: how large each log is, and how much room its disk has (KIP-113, KIP-827).
//!
//! A size is that of a log's records, as retention counts them. What is filled ahead, indexes, the journal and the log of
//! the metadata are not in it. Logs that are offline are left out, as are partitions that are not here.

use std::collections::{BTreeMap, BTreeSet};

use millrace_engine::model::PartitionId;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use millrace_protocol::wire::Writer;
use millrace_runtime::{Disk, Env};

use super::Context;
use super::authorizer::{Operation, Resource};
use super::by_owner::ByOwner;
use crate::metadata::Image;
use crate::metadata::image::Topic;
use crate::net::connection::Close;

pub(super) async fn handle<E: Env>(context: &Context<'_, E>, writer: &mut Writer) -> Result<(), Close> {
    let request: DescribeLogDirsRequest<'_> = context.decode()?;
    if !context.allows(Operation::Describe, Resource::Cluster) {
        // Before version 3 an answer without a directory says the same.
        let is_told = context.head.version >= ERROR_FROM;
        let error_code = if is_told { ErrorCode::ClusterAuthorizationFailed.code() } else { ErrorCode::None.code() };
        return context.answer(writer, &DescribeLogDirsResponse { error_code, ..DescribeLogDirsResponse::default() });
    }
    let (shard, image) = (context.shard, context.shard.image());
    let mut logs: Vec<(&Topic, i32)> = Vec::new();
    let mut by_owner = ByOwner::new();
    for (topic, index) in wanted(&request, &image) {
        let id = PartitionId { topic: topic.id, partition: index };
        if image.find_partition(id).is_some_and(|found| found.replicas.contains(&shard.broker().node())) {
            by_owner.add(shard.owner(id), logs.len(), id);
            logs.push((topic, index));
        }
    }
    let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    let mut sizes = by_owner.ask(shard, async |owner, ids| shard.log_bytes(owner, ids).await).await?;
    sizes.sort_by_key(|(ordinal, _)| *ordinal);
    for (ordinal, size) in sizes {
        let (topic, partition_index) = logs[ordinal];
        if let Ok(bytes) = size {
            // One replica never lags behind itself, and there is no other directory to move to.
            let (offset_lag, is_future_key) = (0, false);
            let partition_size = signed(bytes);
            let partition = DescribeLogDirsPartition { partition_index, partition_size, offset_lag, is_future_key };
            topics.entry(&topic.name).or_default().push(partition);
        }
    }

    let directory = &shard.broker().config.store.directory;
    let disk = shard.env().disk();
    let space = (disk.capacity_bytes(directory).await, disk.available_bytes(directory).await);
    let log_dir = directory.to_string_lossy();
    let result = match space {
        (Ok(capacity_bytes), Ok(available_bytes)) => DescribeLogDirsResult {
            log_dir: &log_dir,
            topics: topics.into_iter().map(|(name, partitions)| DescribeLogDirsTopic { name, partitions }).collect(),
            total_bytes: signed(capacity_bytes),
            usable_bytes: signed(available_bytes),
            ..DescribeLogDirsResult::default()
        },
        // A disk that does not even say how large it is.
        _ => DescribeLogDirsResult {
            error_code: ErrorCode::KafkaStorageError.code(),
            log_dir: &log_dir,
            ..DescribeLogDirsResult::default()
        },
    };
    context.answer(writer, &DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() })
}

/// The partitions asked for, each once, in order. Null is all there are.
fn wanted<'i>(request: &DescribeLogDirsRequest<'_>, image: &'i Image) -> Vec<(&'i Topic, i32)> {
    let Some(topics) = &request.topics else {
        let indexes = |topic: &'i Topic| topic.partitions.iter().map(move |found| (topic, found.partition));
        return image.topics().flat_map(indexes).collect();
    };
    let mut wanted: BTreeMap<&str, (&Topic, BTreeSet<i32>)> = BTreeMap::new();
    for asked in topics {
        if let Some(topic) = image.find_topic_by_name(asked.topic) {
            wanted.entry(asked.topic).or_insert((topic, BTreeSet::new())).1.extend(&asked.partitions);
        }
    }
    let indexes = |(topic, indexes): (&'i Topic, BTreeSet<i32>)| indexes.into_iter().map(move |index| (topic, index));
    wanted.into_values().flat_map(indexes).collect()
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

const ERROR_FROM: i16 = 3;
