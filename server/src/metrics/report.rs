//! What shards and process tell at one moment: owned values, made to cross threads.
//!
//! Whatever grows with what clients do is bounded where it is gathered, and what was left out is counted.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_engine::histogram::Durations;
use millrace_engine::log::traffic::Traffic;
use millrace_engine::model::{PartitionId, TopicId};
use millrace_engine::store::StoreReport;

/// Topics with series of their own: the first ones by name.
pub const TOPIC_COUNT_MAX: usize = 1_000;
/// Committed offsets of one shard's groups that are looked at: the first ones by partition of the groups' topic, and name.
pub const COMMITTED_COUNT_MAX: usize = 10_000;
/// Pairs of group and topic with a series of their own.
pub const LAG_COUNT_MAX: usize = 2_000;
/// Logs whose failed compaction is shown.
pub const COMPACTION_FAILURE_COUNT_MAX: usize = 100;

/// One API on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiReport {
    /// Its name.
    pub api: &'static str,
    /// From the arrival of a request to its finished answer.
    pub latency: Durations,
    /// Codes of errors in its answers.
    pub errors: u64,
}

/// How much of a budget is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetReport {
    /// What the memory is for.
    pub class: &'static str,
    /// Bytes in use.
    pub used_bytes: usize,
    /// Bytes there are.
    pub limit_bytes: usize,
}

/// What a group has committed for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedReport {
    /// The group.
    pub group: String,
    /// The topic's name.
    pub topic: String,
    /// The topic.
    pub topic_id: TopicId,
    /// Partitions, each with the first offset that the group has not read.
    pub offsets: Vec<(i32, i64)>,
}

/// The groups of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupsReport {
    /// How many there are in each state; those of partitions that are read back are not known.
    pub states: BTreeMap<&'static str, u64>,
    /// What they have committed, in all offsets at most [`COMMITTED_COUNT_MAX`].
    pub committed: Vec<CommittedReport>,
    /// How many offsets that is. Invariant: at most [`COMMITTED_COUNT_MAX`].
    pub offset_count: usize,
    /// Committed offsets left out.
    pub left_out_count: usize,
}

/// One shard.
#[derive(Clone, Debug, Default)]
pub struct ShardReport {
    /// Which one.
    pub shard: u16,
    /// The APIs that were asked for.
    pub apis: Vec<ApiReport>,
    /// Bytes of requests.
    pub received_bytes: u64,
    /// Bytes of answers.
    pub sent_bytes: u64,
    /// Connections it has.
    pub connection_count: usize,
    /// Connections it was given, ever.
    pub accepted_count: u64,
    /// Connections it closed because of what they sent.
    pub refused_count: u64,
    /// What waits, by the name of the queue.
    pub queues: Vec<(&'static str, usize)>,
    /// Memory.
    pub budgets: Vec<BudgetReport>,
    /// Segment files that may be open.
    pub open_file_count_max: usize,
    /// Its logs; `None` before they are there.
    pub store: Option<StoreReport>,
    /// Logs that recovery has dealt with.
    pub recovered_count: usize,
    /// What went into and out of the topics, by name, at most [`TOPIC_COUNT_MAX`].
    pub topics: Vec<(String, Traffic)>,
    /// Topics left out.
    pub topics_left_out_count: usize,
    /// Why compaction of a log did not get through, at most [`COMPACTION_FAILURE_COUNT_MAX`].
    pub compaction_failures: Vec<CompactionFailure>,
    /// Its groups.
    pub groups: GroupsReport,
}

/// A log that was not compacted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionFailure {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The newest reason.
    pub reason: String,
}

/// How far a group is behind in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LagReport {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// Records between what it committed and the high watermarks, over all partitions it committed for.
    pub lag: u64,
}

/// The process and the disk, as the system shows them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessReport {
    /// Since the start.
    pub uptime: Duration,
    /// Processor time of all threads.
    pub cpu_time: Duration,
    /// Processor time of each shard's thread.
    pub shard_cpu_times: Vec<(u16, Duration)>,
    /// Memory that is there for the process.
    pub resident_bytes: u64,
    /// Open descriptors.
    pub descriptor_count: u64,
    /// How many there may be; `None` is without limit.
    pub descriptor_count_max: Option<u64>,
    /// Bytes that the process may still write.
    pub disk_free_bytes: u64,
    /// Bytes of the file system.
    pub disk_bytes: u64,
    /// Bytes of it that are kept for the broker itself.
    pub disk_reserve_bytes: u64,
}

/// Everything that is shown at once.
#[derive(Clone, Debug, Default)]
pub struct BrokerReport {
    /// Shards that answered.
    pub shards: Vec<ShardReport>,
    /// Shards that did not, in time.
    pub silent_shards: Vec<u16>,
    /// How far groups are behind, at most [`LAG_COUNT_MAX`].
    pub lags: Vec<LagReport>,
    /// Pairs of group and topic left out.
    pub lags_left_out_count: usize,
    /// Process and disk.
    pub process: ProcessReport,
}

impl BrokerReport {
    /// Puts lags together: `high_watermark` knows those of some partitions. A partition of which it is not known, because
    /// its log was not used since the start, is left out.
    pub fn take_lags(&mut self, high_watermark: impl Fn(PartitionId) -> Option<i64>) {
        let mut lags: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for committed in self.shards.iter().flat_map(|shard| &shard.groups.committed) {
            for &(partition, offset) in &committed.offsets {
                if let Some(end) = high_watermark(PartitionId { topic: committed.topic_id, partition }) {
                    let behind = u64::try_from(end.saturating_sub(offset)).unwrap_or(0);
                    *lags.entry((&committed.group, &committed.topic)).or_default() += behind;
                }
            }
        }
        let left_out_count = lags.len().saturating_sub(LAG_COUNT_MAX);
        let report = |((group, topic), lag): ((&str, &str), u64)| LagReport {
            group: group.to_owned(),
            topic: topic.to_owned(),
            lag,
        };
        let lags = lags.into_iter().take(LAG_COUNT_MAX).map(report).collect();
        (self.lags, self.lags_left_out_count) = (lags, left_out_count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(group: &str, offsets: &[(i32, i64)]) -> CommittedReport {
        let (topic, topic_id) = ("weather".to_owned(), TopicId::from_bytes([1; 16]));
        CommittedReport { group: group.to_owned(), topic, topic_id, offsets: offsets.to_vec() }
    }

    #[test]
    fn lag_is_summed_over_known_partitions_and_never_negative() {
        let groups = GroupsReport {
            committed: vec![committed("a", &[(0, 90), (1, 10), (7, 0)]), committed("b", &[(0, 200)])],
            ..GroupsReport::default()
        };
        let shard = ShardReport { groups, ..ShardReport::default() };
        let mut report = BrokerReport { shards: vec![shard], ..BrokerReport::default() };
        report.take_lags(|id| (id.partition < 2).then_some(100));
        let lags: Vec<_> = report.lags.iter().map(|lag| (lag.group.as_str(), lag.lag)).collect();
        assert_eq!(lags, [("a", 100), ("b", 0)]);
        assert_eq!(report.lags_left_out_count, 0);
    }

    #[test]
    fn lags_are_bounded_and_the_rest_is_counted() {
        let many = (0..LAG_COUNT_MAX + 5).map(|number| committed(&format!("group-{number}"), &[(0, 0)])).collect();
        let groups = GroupsReport { committed: many, ..GroupsReport::default() };
        let shard = ShardReport { groups, ..ShardReport::default() };
        let mut report = BrokerReport { shards: vec![shard], ..BrokerReport::default() };
        report.take_lags(|_| Some(1));
        assert_eq!((report.lags.len(), report.lags_left_out_count), (LAG_COUNT_MAX, 5));
    }
}
