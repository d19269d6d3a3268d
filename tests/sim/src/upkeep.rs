//! Looks whether retention and compaction happen: after a while without work, what may go is gone.
//!
//! Where segments begin is read from the names of their files; the model knows what was sent to them.

use std::time::Duration;

use millrace_engine::log::config::CleanupPolicy;
use millrace_engine::model::{Offset, PartitionId};
use millrace_runtime::sim::Machine;
use millrace_runtime::{Clock, Env};

use crate::broker::{Broker, DIRECTORY, Tuning, UPKEEP_INTERVAL_MAX};
use crate::check::{self, Admitted, Moment};
use crate::dice::Dice;
use crate::model::{LogModel, Model, Presence, Sent};
use crate::workload::Workload;

/// Passes that everything has happened after, and time for the disk on top.
const PASSES: u32 = 6;
const SLACK: Duration = Duration::from_secs(1);

/// How long a broker without work needs for its upkeep.
fn pause(tuning: &Tuning) -> Duration {
    PASSES * tuning.upkeep_interval + SLACK
}

/// Gives the broker the time for its upkeep, if it does any.
pub async fn wait(machine: &Machine, tuning: &Tuning, workload: &Workload) {
    let cleans = |partition| {
        let config = workload.configs.of(partition);
        config.cleanup_policy.compacts() || config.retention_bytes.or(config.retention_age_max.map(|_| 0)).is_some()
    };
    if is_quick(tuning) && workload.writers.iter().any(|writer| cleans(writer.partition)) {
        machine.env(0).clock().sleep(pause(tuning)).await;
    }
}

fn is_quick(tuning: &Tuning) -> bool {
    tuning.upkeep_interval <= UPKEEP_INTERVAL_MAX
}

/// Looks at every log that was configured in this life, after [`wait`] and while nobody appends.
///
/// # Panics
/// When too much is left, or a log is not what the model allows.
pub async fn check(machine: &Machine, broker: &Broker, model: &Model, tuning: &Tuning, dice: &Dice) {
    model.advance(machine.env(0).clock().unix_ms());
    let millis = i64::try_from(pause(tuning).as_millis()).expect("a short pause");
    for id in model.partitions() {
        let config = model.with(id, |log| log.cleanup.config().cloned().filter(|_| log.presence == Presence::There));
        let Some(config) = config.filter(|_| is_quick(tuning)) else { continue };
        let failures = broker.store(id).compaction_failures();
        assert_eq!(failures.get(&id), None, "{id}: compaction fails although the disk works");
        if let Err(Admitted(failure)) = check::log(broker, model, id, dice, Moment::Running).await {
            assert!(model.is_suspect(id), "{id}: {failure}");
        }
        let bases = bases(machine, id);
        let left = model.with(id, |log| check_retention(log, &bases, millis));
        left.unwrap_or_else(|wrong| panic!("{id}: segments {bases:?}, {config:?}: {wrong}"));
        let compacts_all = config.dirty_permille_min == 0 && config.compaction_lag_min == Duration::ZERO;
        if config.cleanup_policy.compacts()
            && compacts_all
            && let Some(active) = bases.last()
            && let Ok(there) = check::read_keyed(broker, model, id).await
        {
            let left = model.with(id, |log| crate::keyed::check_left(log, *active, &there));
            left.unwrap_or_else(|wrong| panic!("{id}: segments {bases:?}: {wrong}"));
        }
    }
}

/// First offsets of a log's segments, rising.
fn bases(machine: &Machine, id: PartitionId) -> Vec<Offset> {
    let directory = format!("{DIRECTORY}/logs/{}/", id.directory_name());
    let files = machine.disk().files();
    let names = files.iter().filter_map(|file| file.strip_prefix(&directory)?.strip_suffix(".log"));
    let mut bases: Vec<_> = names.filter_map(|name| name.parse().ok().map(Offset::new)).collect();
    bases.sort_unstable();
    bases
}

/// Looks whether a segment is left that retention should have taken, `pause_ms` ago or earlier.
pub fn check_retention(log: &LogModel, bases: &[Offset], pause_ms: i64) -> Result<(), String> {
    let Some(config) = log.cleanup.config().filter(|config| config.cleanup_policy == CleanupPolicy::Delete) else {
        return Ok(());
    };
    let age_ms = config.retention_age_max.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    let oldest = log.cleanup.now_ms() - pause_ms;
    let is_old = |timestamp: i64| age_ms.is_some_and(|age_ms| oldest.saturating_sub(timestamp) > age_ms);
    if let [first, second, ..] = bases {
        let bytes: usize = log.sent.iter().filter(|batch| batch.base >= *second).map(|batch| batch.bytes.len()).sum();
        if config.retention_bytes.is_some_and(|kept| u64::try_from(bytes).is_ok_and(|bytes| bytes >= kept)) {
            return Err(format!("the segment at {first} is still there, {bytes} bytes are behind it"));
        }
    }
    let end = bases.get(1).copied().unwrap_or_else(|| log.end());
    let first = log.sent.iter().filter(|batch| batch.end > log.start && batch.base < end);
    let newest = first.map(Sent::timestamp).max();
    match newest.filter(|newest| is_old(*newest)) {
        Some(newest) => Err(format!("the first segment is still there, its newest record is of {newest}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches;
    use crate::cleanup::tests::config;
    use millrace_engine::model::LeaderEpoch;

    /// Four batches of 100 bytes, two in each segment.
    fn check(bytes: Option<u64>, age_ms: Option<u64>, now: u64) -> Result<(), String> {
        let mut log = LogModel::default();
        log.configure(&config(CleanupPolicy::Delete, bytes, age_ms));
        for offset in 0..4 {
            let (base, end) = (Offset::new(offset), Offset::new(offset + 1));
            let identity = offset.unsigned_abs();
            let (bytes, keyed) = (batches::build(identity, 100, 1).into(), [].into());
            log.sent.push(Sent { identity, bytes, keyed, base, end, epoch: LeaderEpoch::new(0), follows: None });
        }
        log.cleanup.advance(batches::timestamp(now));
        check_retention(&log, &[Offset::ZERO, Offset::new(2)], 0)
    }

    #[test]
    fn a_segment_that_should_have_gone_is_noticed() {
        assert!(check(Some(150), None, 3).unwrap_err().contains("bytes are behind it"));
        assert_eq!(check(Some(1_000), None, 3), Ok(()));
        assert!(check(None, Some(2), 4).unwrap_err().contains("its newest record"));
        assert_eq!(check(None, Some(2), 3), Ok(()));
    }
}
