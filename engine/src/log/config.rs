//! What a topic's configuration means to a log. The names are Kafka's.

use std::time::Duration;

/// When an append counts as done (`flush.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Once it is on the device: it survives the loss of power.
    #[default]
    Commit,
    /// Once it is written: it survives the end of the process. It is on the device after `flush.interval.ms`, or after
    /// `flush.interval.bytes` more were written to the shard's logs of this policy, whichever comes first.
    Interval,
    /// Once it is written. It gets to the device with other logs' flushes, or when the device pleases.
    None,
}

/// What becomes of old records (`cleanup.policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Whole segments go when they are too old or the log is too large.
    #[default]
    Delete,
    /// For each key the newest record stays.
    Compact,
    /// Both.
    CompactAndDelete,
}

impl CleanupPolicy {
    /// Whether the log is compacted.
    pub const fn compacts(self) -> bool {
        matches!(self, Self::Compact | Self::CompactAndDelete)
    }

    /// Whether old segments are deleted by size and age.
    pub const fn deletes(self) -> bool {
        matches!(self, Self::Delete | Self::CompactAndDelete)
    }
}

/// Whose clock a record's timestamp comes from (`message.timestamp.type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    CreateTime,
    /// The broker's, when it appends.
    LogAppendTime,
}

/// The configuration of one log. The default is Kafka's default for a topic, with `flush.policy=commit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `flush.policy`.
    pub flush_policy: FlushPolicy,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `segment.bytes`: the active segment is rolled when an append would make it larger.
    pub segment_bytes: u64,
    /// `segment.ms`: the active segment is rolled when the first record in it is older.
    pub segment_age_max: Duration,
    /// `retention.bytes`: the oldest segments go while the rest is at least as large; `None` keeps all.
    pub retention_bytes: Option<u64>,
    /// `retention.ms`: a segment goes when its newest record is older; `None` keeps all.
    pub retention_age_max: Option<Duration>,
    /// `delete.retention.ms`: how long compaction keeps a tombstone after the pass that first saw it.
    pub tombstone_age_max: Duration,
    /// `min.compaction.lag.ms`: a record younger than this is not compacted away.
    pub compaction_lag_min: Duration,
    /// `max.compaction.lag.ms`: a log with an uncompacted record older than this is compacted whatever its ratio.
    pub compaction_lag_max: Duration,
    /// `min.cleanable.dirty.ratio` in thousandths: the uncompacted share of a log from which compaction pays.
    pub dirty_permille_min: u16,
    /// The log belongs to the broker itself: it may use the disk's reserve.
    pub internal: bool,
}

impl LogConfig {
    /// The age at which the active segment is rolled: what is to be compacted has to be sealed by then.
    pub fn roll_age_max(&self) -> Duration {
        if self.cleanup_policy.compacts() {
            self.segment_age_max.min(self.compaction_lag_max)
        } else {
            self.segment_age_max
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            flush_policy: FlushPolicy::Commit,
            timestamp_type: TimestampType::CreateTime,
            cleanup_policy: CleanupPolicy::Delete,
            segment_bytes: 1 << 30,
            segment_age_max: Duration::from_hours(168),
            retention_bytes: None,
            retention_age_max: Some(Duration::from_hours(168)),
            tombstone_age_max: Duration::from_hours(24),
            compaction_lag_min: Duration::ZERO,
            compaction_lag_max: Duration::MAX,
            dirty_permille_min: 500,
            internal: false,
        }
    }
}
