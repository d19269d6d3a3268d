//! What was sent and what was promised, followed along a trace, and the comparison of a recovered store with it.

use std::collections::BTreeMap;

use millrace_engine::model::{Offset, PartitionId};
use millrace_protocol::batch::BatchView;
use millrace_sim::model::{LogModel, Sent};

use crate::trace::Event;

/// Every log's batches, and how many of them must be there.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By log.
    pub logs: BTreeMap<PartitionId, LogModel>,
}

/// What a store says after a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// What recovery found damaged.
    pub damage: Vec<String>,
    /// Every log the store has.
    pub logs: BTreeMap<PartitionId, RecoveredLog>,
}

/// What a store says of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredLog {
    /// Why it is offline, if it is.
    pub failure: Option<String>,
    /// The log end offset.
    pub end: Offset,
    /// Every batch, or why they could not be read.
    pub batches: Result<Vec<u8>, String>,
}

impl Ledger {
    /// Follows one event.
    pub fn follow(&mut self, event: &Event) {
        match event {
            Event::Taken(taken) => {
                let log = self.logs.entry(taken.partition).or_default();
                assert_eq!(taken.base, log.end(), "{}: a batch gets the log end offset", taken.partition);
                let bytes = taken.bytes[..].into();
                log.sent.push(Sent {
                    identity: 0,
                    bytes,
                    keyed: [].into(),
                    base: taken.base,
                    end: taken.end,
                    epoch: taken.epoch,
                    follows: None,
                });
            }
            Event::Acknowledged { partition, end } => {
                let log = self.logs.get_mut(partition).expect("only what was taken is acknowledged");
                log.promise(log.count_below(*end));
            }
            Event::Opened { .. } | Event::Started { .. } | Event::Ended { .. } => {}
        }
    }

    /// Whether `recovered` is what the store may say after a crash at this moment: every promised batch is there, byte by
    /// byte and in order, behind them at most what was sent, nothing else, and nothing is called damaged.
    ///
    /// An error says what is wrong.
    pub fn check(&self, recovered: &Recovered) -> Result<(), String> {
        if let Some(damage) = recovered.damage.first() {
            return Err(format!("nothing was damaged, but: {damage}"));
        }
        if let Some(id) = recovered.logs.keys().find(|id| !self.logs.contains_key(id)) {
            return Err(format!("{id}: nobody has written to this log"));
        }
        for (id, log) in &self.logs {
            match recovered.logs.get(id) {
                Some(found) => check_log(log, found).map_err(|what| format!("{id}: {what}"))?,
                None if log.certain > 0 => return Err(format!("{id}: {} batches were promised, no log", log.certain)),
                None => {}
            }
        }
        Ok(())
    }

    /// From now on what was recovered is all there is, and promised. `recovered` has passed [`Self::check`].
    pub fn settle(&mut self, recovered: &Recovered) {
        for (id, log) in &mut self.logs {
            let end = recovered.logs.get(id).map_or(Offset::ZERO, |log| log.end);
            log.settle(log.count_below(end));
        }
    }
}

fn check_log(log: &LogModel, found: &RecoveredLog) -> Result<(), String> {
    if let Some(failure) = &found.failure {
        return Err(format!("offline: {failure}"));
    }
    let mut rest = &found.batches.as_ref().map_err(|error| format!("cannot be read: {error}"))?[..];
    let mut sent = log.sent.iter();
    let mut end = Offset::ZERO;
    while !rest.is_empty() {
        let batch = BatchView::parse(rest).map_err(|error| format!("at {end} is no batch: {error}"))?;
        rest = &rest[batch.bytes().len()..];
        let Some(expected) = sent.next() else { return Err(format!("a batch at {end}, where none was sent")) };
        if !expected.is_stored_as(batch.bytes()) {
            return Err(format!("at {end} is another batch than the one that was sent"));
        }
        end = expected.end;
    }
    if end != found.end {
        return Err(format!("the log ends at {}, but its batches end at {end}", found.end));
    }
    if end < log.certain_end() {
        return Err(format!("acknowledged up to {}, ends at {end}", log.certain_end()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Taken;
    use millrace_engine::model::LeaderEpoch;
    use millrace_protocol::batch::assign_offsets;
    use millrace_sim::batches;
    use millrace_sim::workload::partition;

    /// Three batches, of which two were acknowledged.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for number in 0..3 {
            let (base, end) = (Offset::new(number), Offset::new(number + 1));
            let bytes = batches::build(u64::try_from(number).unwrap(), 100, 1).into();
            let epoch = LeaderEpoch::new(4);
            ledger.follow(&Event::Taken(Taken { partition: partition(0), base, end, epoch, bytes }));
        }
        ledger.follow(&Event::Acknowledged { partition: partition(0), end: Offset::new(2) });
        ledger
    }

    /// A store with these of the batches, as they would be stored.
    fn holding(numbers: &[i64]) -> Recovered {
        let mut stored = Vec::new();
        for (base, number) in (0..).zip(numbers) {
            let mut bytes = batches::build(u64::try_from(*number).unwrap(), 100, 1);
            assign_offsets(&mut bytes, base, 4);
            stored.extend(bytes);
        }
        let end = Offset::new(i64::try_from(numbers.len()).unwrap());
        let log = RecoveredLog { failure: None, end, batches: Ok(stored) };
        Recovered { damage: Vec::new(), logs: BTreeMap::from([(partition(0), log)]) }
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        ledger().check(&holding(&[0, 1])).unwrap();
        ledger().check(&holding(&[0, 1, 2])).unwrap();
    }

    #[test]
    fn what_is_lost_swapped_or_invented_is_seen() {
        assert!(ledger().check(&holding(&[0])).unwrap_err().ends_with("acknowledged up to 2, ends at 1"));
        assert!(ledger().check(&holding(&[0, 2])).unwrap_err().ends_with("another batch than the one that was sent"));
        assert!(ledger().check(&holding(&[0, 1, 2, 3])).unwrap_err().ends_with("a batch at 3, where none was sent"));
        assert!(ledger().check(&Recovered::default()).unwrap_err().ends_with("2 batches were promised, no log"));
        let mut elsewhere = holding(&[0, 1]);
        elsewhere.logs.insert(partition(1), holding(&[]).logs[&partition(0)].clone());
        assert!(ledger().check(&elsewhere).unwrap_err().ends_with("nobody has written to this log"));
    }

    #[test]
    fn a_recovery_settles_what_there_is() {
        let mut ledger = ledger();
        ledger.settle(&holding(&[0, 1]));
        assert!(ledger.check(&holding(&[0, 1, 2])).unwrap_err().ends_with("a batch at 2, where none was sent"));
    }
}
