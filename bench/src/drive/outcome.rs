//! What the shards of a run saw, added up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::Plan;
use crate::check::{Findings, Place, compare_ends};
use crate::measured::{ProcessUse, Series};

/// What one shard, or all of them, saw.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) sent: Option<Series>,
    pub(crate) read: Option<Series>,
    /// How many records of each partition and producer were acknowledged.
    pub(crate) acknowledged: BTreeMap<(Place, u64), u64>,
    /// How many records of each partition and producer every consumer read.
    pub(crate) consumed: BTreeMap<usize, BTreeMap<(Place, u64), u64>>,
    /// Time spent in checks: processor time, but for interruptions.
    pub(crate) check_time: Duration,
    pub(crate) samples: Vec<Sample>,
    pub(crate) findings: Findings,
    pub(crate) client: ProcessUse,
    pub(crate) broker: Option<ProcessUse>,
    pub(crate) elapsed: Duration,
    /// When measuring began.
    pub(crate) start_unix_ms: u64,
}

/// One answered batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When it was answered, from when measuring began; nothing before that.
    pub(crate) since_start: Option<Duration>,
    pub(crate) latency: Duration,
    pub(crate) place: Place,
    pub(crate) base_offset: i64,
    pub(crate) bytes: u64,
}

impl Outcome {
    /// Nothing yet.
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            sent: plan.sending.as_ref().map(|sending| Series::new(&sending.series)),
            read: plan.reading.as_ref().map(|reading| Series::new(&reading.series)),
            ..Self::default()
        }
    }

    /// Adds what another shard saw.
    pub(super) fn merge(&mut self, other: Self) {
        merge_series(&mut self.sent, other.sent);
        merge_series(&mut self.read, other.read);
        self.acknowledged.extend(other.acknowledged);
        for (consumer, ends) in other.consumed {
            self.consumed.entry(consumer).or_default().extend(ends);
        }
        self.check_time += other.check_time;
        self.samples.extend(other.samples);
        self.findings.merge(other.findings);
    }

    /// Adds a run that came after this one.
    pub(crate) fn follow(&mut self, later: Self) {
        if self.elapsed.is_zero() {
            self.start_unix_ms = later.start_unix_ms;
        }
        self.elapsed += later.elapsed;
        self.check_time += later.check_time;
        self.findings.merge(later.findings);
        self.client = sum(self.client, later.client);
        self.broker = match (self.broker, later.broker) {
            (Some(ours), Some(theirs)) => Some(sum(ours, theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }

    /// Looks for every acknowledged record among those that each consumer read.
    pub(super) fn compare(&mut self, plan: &Plan) {
        if !plan.reading.as_ref().is_some_and(|reading| reading.is_compared) {
            return;
        }
        for consumed in self.consumed.values() {
            compare_ends(&self.acknowledged, consumed, &mut self.findings);
        }
    }
}

fn sum(ours: ProcessUse, theirs: ProcessUse) -> ProcessUse {
    ProcessUse {
        cpu: ours.cpu + theirs.cpu,
        resident_bytes_max: ours.resident_bytes_max.max(theirs.resident_bytes_max),
    }
}

fn merge_series(ours: &mut Option<Series>, theirs: Option<Series>) {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => ours.merge(theirs),
        (ours @ None, theirs) => *ours = theirs,
        (Some(_), None) => {}
    }
}
