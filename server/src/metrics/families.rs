//! The table of all metrics: what each is called, what it means, and where in a report it is.
//!
//! Names are Prometheus's: `millrace_`, what is counted, the unit, and `_total` where it only rises. docs/METRICS.md is
//! written from this table, and the text has nothing that is not in it.

mod rows;

use std::fmt::{Display, Write as _};
use std::time::Duration;

use millrace_engine::histogram::Durations;

use super::report::{BrokerReport, ShardReport};

pub use rows::FAMILIES;

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises, until the broker starts again.
    Counter,
    /// It is what it is at the moment.
    Gauge,
    /// Durations in buckets.
    Histogram,
}

/// What a metric is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things, which the name says.
    None,
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
}

/// One metric with all its label values.
pub struct Family {
    /// The name without unit and `_total`.
    pub name: &'static str,
    /// Its unit, which ends the name.
    pub unit: Unit,
    /// What kind of number it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in one line.
    pub help: &'static str,
    /// Finds its samples.
    pub samples: fn(&BrokerReport, &mut Samples),
}

/// The samples of one metric.
#[derive(Debug, Default)]
pub struct Samples(Vec<Sample>);

/// One number with the values of its labels.
#[derive(Debug, PartialEq)]
pub struct Sample {
    /// In the order of [`Family::labels`].
    pub labels: Vec<String>,
    /// The number.
    pub value: Value,
}

/// The number of a sample.
#[derive(Debug, PartialEq)]
pub enum Value {
    /// A whole number.
    Number(u64),
    /// A time.
    Time(Duration),
    /// Many times.
    Durations(Box<Durations>),
}

impl Samples {
    fn number(&mut self, labels: &[&dyn Display], number: u64) {
        self.push(labels, Value::Number(number));
    }

    /// A count or a size of something in memory.
    fn size(&mut self, labels: &[&dyn Display], size: usize) {
        self.number(labels, u64::try_from(size).expect("64 bits hold any size"));
    }

    fn time(&mut self, labels: &[&dyn Display], time: Duration) {
        self.push(labels, Value::Time(time));
    }

    fn durations(&mut self, labels: &[&dyn Display], durations: &Durations) {
        self.push(labels, Value::Durations(Box::new(durations.clone())));
    }

    /// One number for each shard that has one.
    fn by_shard(&mut self, report: &BrokerReport, number: impl Fn(&ShardReport) -> Option<u64>) {
        for shard in &report.shards {
            if let Some(number) = number(shard) {
                self.number(&[&shard.shard], number);
            }
        }
    }

    fn push(&mut self, labels: &[&dyn Display], value: Value) {
        self.0.push(Sample { labels: labels.iter().map(ToString::to_string).collect(), value });
    }
}

impl Family {
    /// The name that is scraped; histograms add `_bucket`, `_sum` and `_count` to it.
    pub fn full_name(&self) -> String {
        let unit = match self.unit {
            Unit::None => "",
            Unit::Bytes => "_bytes",
            Unit::Seconds => "_seconds",
        };
        let total = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{}{unit}{total}", self.name)
    }

    /// Its samples in `report`.
    pub fn find_samples(&self, report: &BrokerReport) -> Vec<Sample> {
        let mut samples = Samples::default();
        (self.samples)(report, &mut samples);
        samples.0
    }
}

/// docs/METRICS.md.
pub fn describe() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         Written from `server/src/metrics/families`; a test holds that this file equals it (`UPDATE=1` rewrites it).\n\n\
         `GET /metrics` on `admin.listener` answers with all of them as OpenMetrics text. Counters begin at 0 with each start.\n\
         What would grow with what clients do is bounded: 1,000 topics, the first by name; 2,000 pairs of group and topic, the\n\
         first by name, of at most 10,000 committed offsets for each shard; 100 logs with failed compaction. What was left out\n\
         is counted in `millrace_left_out`. A topic's counters go with the topic; those of the shards keep what it had.\n\n\
         Buckets of histograms end at 2^13, 1.5 x 2^13, 2^14 ... 2^34 nanoseconds: from 8 us to 17 s, two for each doubling.\n\
         A request's time runs from the moment it has arrived to the moment its answer is ready to be sent; that of a Fetch\n\
         includes the time it waits for records, and that of a JoinGroup or SyncGroup its wait for other members.\n\n\
         | Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n",
    );
    for family in FAMILIES {
        let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
        writeln!(text, "| `{}` | {} | {} | {} |", family.full_name(), family.kind, labels.join(", "), family.help)
            .expect("writing to a String cannot fail");
    }
    text
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::report::{COMMITTED_COUNT_MAX, COMPACTION_FAILURE_COUNT_MAX, LAG_COUNT_MAX, TOPIC_COUNT_MAX};

    #[test]
    fn the_reference_is_up_to_date() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/METRICS.md");
        let expected = describe();
        if std::fs::read_to_string(&path).is_ok_and(|found| found == expected) {
            return;
        }
        assert!(std::env::var_os("UPDATE").is_some(), "docs/METRICS.md is stale: run the test again with UPDATE=1");
        std::fs::write(&path, expected).unwrap();
    }

    #[test]
    fn the_bounds_are_those_of_the_reference() {
        let bounds = [TOPIC_COUNT_MAX, LAG_COUNT_MAX, COMMITTED_COUNT_MAX, COMPACTION_FAILURE_COUNT_MAX];
        assert_eq!(bounds, [1_000, 2_000, 10_000, 100]);
    }

    #[test]
    fn names_are_unique_and_well_formed() {
        let mut names: Vec<_> = FAMILIES.iter().map(Family::full_name).collect();
        for (name, family) in names.iter().zip(FAMILIES) {
            assert!(name.starts_with("millrace_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(
                family.kind == Kind::Histogram,
                family.unit == Unit::Seconds && name.contains("latency"),
                "{name}"
            );
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '|']), "{name}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
