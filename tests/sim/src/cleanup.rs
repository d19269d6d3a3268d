//! What a log may lose by itself: the oldest batches by retention, and in a compacted log tombstones by age. Pure.
//!
//! Retention may take a batch once it is older than `retention.ms`, or once everything behind it has `retention.bytes`. What
//! it may have taken at any moment it may have taken for good, even if the batches that it counted are lost in a crash: the
//! start of the log is durable, they were not.
//!
//! A start that somebody saw, in an answer or because reading below it was refused, stays: a kill or a loss of power does
//! not bring back what is below it.

use millrace_engine::log::config::LogConfig;
use millrace_engine::model::Offset;

use crate::keyed;
use crate::model::LogModel;

/// What a log's configuration lets it lose.
#[derive(Clone, Debug, Default)]
pub struct Cleanup {
    retention_bytes: Option<u64>,
    retention_ms: Option<i64>,
    compacts: bool,
    /// The shortest `delete.retention.ms` that it ever had.
    tombstone_ms_min: Option<i64>,
    /// Retention may have moved the start up to here.
    limit: Offset,
    /// The time.
    now_ms: i64,
    /// As it was configured in this life.
    config: Option<LogConfig>,
}

impl Cleanup {
    /// The time, in milliseconds since the epoch.
    pub fn advance(&mut self, now_ms: i64) {
        self.now_ms = self.now_ms.max(now_ms);
    }

    /// The time that is known.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Whether the log is, or was, compacted.
    pub fn compacts(&self) -> bool {
        self.compacts
    }

    /// Whether the log loses records by itself.
    pub fn may_lose_records(&self) -> bool {
        self.compacts || self.retention_bytes.is_some() || self.retention_ms.is_some()
    }

    /// How the log was configured in this life, if it was.
    pub fn config(&self) -> Option<&LogConfig> {
        self.config.as_ref()
    }

    /// The next life knows nothing of the configuration at first. Then the default holds, with which nothing goes.
    pub fn end_config(&mut self) {
        self.config = None;
    }

    /// Whether a tombstone with this timestamp, which is when it was sent, may be gone although nothing replaced it.
    pub fn tombstone_may_be_gone(&self, timestamp: i64) -> bool {
        self.tombstone_ms_min.is_some_and(|age_ms| self.now_ms.saturating_sub(timestamp) >= age_ms)
    }
}

impl LogModel {
    /// From now on the log is configured so.
    pub fn configure(&mut self, config: &LogConfig) {
        // What the configuration before it allowed may have happened.
        self.note_retention();
        let millis = |age: std::time::Duration| i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let deletes = config.cleanup_policy.deletes();
        let cleanup = &mut self.cleanup;
        cleanup.retention_bytes = config.retention_bytes.filter(|_| deletes);
        cleanup.retention_ms = config.retention_age_max.filter(|_| deletes).map(millis);
        if config.cleanup_policy.compacts() {
            let age_ms = millis(config.tombstone_age_max);
            cleanup.compacts = true;
            cleanup.tombstone_ms_min = Some(cleanup.tombstone_ms_min.map_or(age_ms, |least| least.min(age_ms)));
        }
        cleanup.config = Some(config.clone());
    }

    /// Raises the limit of the start to what retention may have done by now.
    pub fn note_retention(&mut self) {
        let Cleanup { retention_bytes, retention_ms, compacts, now_ms, limit, .. } = self.cleanup;
        if retention_bytes.is_none() && retention_ms.is_none() {
            return;
        }
        let first = self.sent.partition_point(|batch| batch.end <= limit.max(self.start));
        let left = &self.sent[first..];
        let mut bytes: usize = left.iter().map(|batch| batch.bytes.len()).sum();
        // The age of a segment is that of what compaction left in it.
        let newest = if compacts { keyed::newest(&self.sent) } else { keyed::Newest::default() };
        let mut raised = limit;
        for batch in left {
            bytes -= batch.bytes.len();
            let is_old = retention_ms.is_some_and(|age_ms| now_ms.saturating_sub(batch.timestamp()) > age_ms);
            let is_replaced = compacts && retention_ms.is_some() && keyed::may_be_empty(batch, &newest);
            // A record takes more bytes once its time is relative to a delete horizon.
            let counted = u64::try_from(if compacts { 2 * bytes } else { bytes }).unwrap_or(u64::MAX);
            let is_spare = retention_bytes.is_some_and(|kept| counted >= kept);
            if !is_old && !is_replaced && !is_spare {
                break;
            }
            raised = batch.end;
        }
        self.cleanup.limit = raised;
    }

    /// The highest offset at which the log may start now.
    pub fn start_max(&self) -> Offset {
        self.start_asked.max(self.cleanup.limit).max(self.start)
    }

    /// Somebody was told that the log starts at `found`, and knew that it started at `known` when he asked.
    pub fn see_start(&mut self, known: Offset, found: Offset) -> Result<(), String> {
        self.note_retention();
        if found < known {
            return Err(format!("starts at {found}, although everything below {known} is deleted"));
        }
        if found > self.start_max() {
            let config = &self.cleanup.config;
            return Err(format!("starts at {found}, not up to {}: {config:?}", self.start_max()));
        }
        self.start = self.start.max(found);
        self.start_asked = self.start_asked.max(found);
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::batches;
    use crate::model::Sent;
    use millrace_engine::log::config::CleanupPolicy;
    use millrace_engine::model::LeaderEpoch;
    use std::time::Duration;

    /// A configuration with this retention, and 20 ms for tombstones.
    pub(crate) fn config(cleanup_policy: CleanupPolicy, bytes: Option<u64>, age_ms: Option<u64>) -> LogConfig {
        LogConfig {
            cleanup_policy,
            retention_bytes: bytes,
            retention_age_max: age_ms.map(Duration::from_millis),
            tombstone_age_max: Duration::from_millis(20),
            ..LogConfig::default()
        }
    }

    /// Ten batches of 100 bytes, the first at the time 1, each a millisecond younger than the one before.
    fn log(bytes: Option<u64>, age_ms: Option<u64>) -> LogModel {
        let mut log = LogModel::default();
        log.configure(&config(CleanupPolicy::Delete, bytes, age_ms));
        for offset in 0..10 {
            let (base, end) = (Offset::new(offset), Offset::new(offset + 1));
            let identity = offset.unsigned_abs() + 1;
            let (bytes, keyed) = (batches::build(identity, 100, 1).into(), [].into());
            log.sent.push(Sent { identity, bytes, keyed, base, end, epoch: LeaderEpoch::new(0), follows: None });
        }
        log
    }

    fn see(log: &mut LogModel, start: i64) -> Result<(), String> {
        log.see_start(log.start, Offset::new(start))
    }

    #[test]
    fn the_newest_bytes_have_to_stay() {
        let bytes: usize = log(None, None).sent[6..].iter().map(|batch| batch.bytes.len()).sum();
        let bytes = u64::try_from(bytes).unwrap();
        assert_eq!(see(&mut log(Some(bytes), None), 6), Ok(()));
        assert!(see(&mut log(Some(bytes), None), 7).unwrap_err().contains("not up to 6"));
        assert!(see(&mut log(Some(bytes + 1), None), 6).unwrap_err().contains("not up to 5"));
        assert!(see(&mut log(None, None), 1).unwrap_err().contains("not up to 0"));
    }

    #[test]
    fn what_is_young_has_to_stay() {
        let mut log = log(None, Some(5));
        log.cleanup.advance(batches::timestamp(9));
        assert!(see(&mut log.clone(), 4).unwrap_err().contains("not up to 3"));
        assert_eq!(see(&mut log, 3), Ok(()));
        log.cleanup.advance(batches::timestamp(10));
        assert_eq!(see(&mut log, 4), Ok(()));
    }

    #[test]
    fn a_start_that_was_seen_stays() {
        let mut log = log(Some(1), None);
        assert_eq!(see(&mut log, 4), Ok(()));
        assert!(see(&mut log, 3).unwrap_err().contains("everything below 4"));
        assert_eq!(log.see_start(Offset::ZERO, Offset::new(3)), Ok(()), "who asked earlier may hear it later");
    }

    #[test]
    fn what_was_allowed_once_stays_so() {
        let mut log = log(Some(100), None);
        log.settle(8);
        assert_eq!(see(&mut log, 8), Ok(()), "retention counted the last two, which are lost");
    }
}
