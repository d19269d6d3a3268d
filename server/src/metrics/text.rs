//! A report as `OpenMetrics` text, which Prometheus scrapes.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{self, Registry};

use millrace_engine::histogram::{Durations, bounds_ns};

use super::families::{FAMILIES, Family, Kind, Sample, Unit, Value};
use super::report::BrokerReport;

/// What [`write()`] writes, for the `Content-Type` of an answer.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The report as text, to its `# EOF`.
pub fn write(report: BrokerReport) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(report)));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a String cannot fail");
    out
}

#[derive(Debug)]
struct Exposition(BrokerReport);

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for family in FAMILIES {
            let samples = family.find_samples(&self.0);
            if samples.is_empty() {
                continue;
            }
            let unit = match family.unit {
                Unit::None => None,
                Unit::Bytes => Some(registry::Unit::Bytes),
                Unit::Seconds => Some(registry::Unit::Seconds),
            };
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for sample in &samples {
                encode_sample(&mut metric, family, sample)?;
            }
        }
        Ok(())
    }
}

fn encode_sample(metric: &mut MetricEncoder<'_>, family: &Family, sample: &Sample) -> Result<(), std::fmt::Error> {
    assert!(family.labels.len() == sample.labels.len(), "{} has a value for each label", family.name);
    if sample.labels.is_empty() {
        return encode_value(metric, family.kind, &sample.value);
    }
    let values = sample.labels.iter().map(String::as_str);
    let labels: Vec<(&str, &str)> = family.labels.iter().copied().zip(values).collect();
    encode_value(&mut metric.encode_family(&labels)?, family.kind, &sample.value)
}

fn encode_value(metric: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> Result<(), std::fmt::Error> {
    let none: Option<&Exemplar<NoLabelSet, u64>> = None;
    match (kind, value) {
        (Kind::Counter, Value::Number(number)) => metric.encode_counter(number, none),
        (Kind::Counter, Value::Time(time)) => metric.encode_counter(&time.as_secs_f64(), none),
        (Kind::Gauge, Value::Number(number)) => metric.encode_gauge(number),
        (Kind::Gauge, Value::Time(time)) => metric.encode_gauge(&time.as_secs_f64()),
        (Kind::Histogram, Value::Durations(durations)) => encode_durations(metric, durations),
        _ => unreachable!("a test goes over all families"),
    }
}

fn encode_durations(metric: &mut MetricEncoder<'_>, durations: &Durations) -> Result<(), std::fmt::Error> {
    let seconds = |ns| std::time::Duration::from_nanos(ns).as_secs_f64();
    let bounds = bounds_ns().map(seconds).into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(durations.counts).collect();
    metric.encode_histogram::<NoLabelSet>(seconds(durations.sum_ns), durations.count(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use millrace_engine::histogram::Histogram;
    use millrace_engine::log::traffic::Traffic;
    use millrace_engine::store::StoreReport;

    use super::*;
    use crate::metrics::report::{
        ApiReport, BudgetReport, CompactionFailure, GroupsReport, LagReport, ProcessReport, ShardReport,
    };

    /// Two shards with something of everything.
    fn report() -> BrokerReport {
        let latency = Histogram::default();
        latency.record(Duration::from_millis(2));
        let traffic = Traffic { appended_records: 3, appended_bytes: 90, ..Traffic::default() };
        let shard = |shard| ShardReport {
            shard,
            apis: vec![ApiReport { api: "Produce", latency: latency.durations(), errors: 1 }],
            queues: vec![("appends", 2)],
            budgets: vec![BudgetReport { class: "requests", used_bytes: 5, limit_bytes: 7 }],
            store: Some(StoreReport { rounds: latency.durations(), traffic, ..StoreReport::default() }),
            topics: vec![("weather".to_owned(), traffic)],
            compaction_failures: vec![CompactionFailure {
                topic: "weather".to_owned(),
                partition: 1,
                reason: "a \"torn\"\nbatch".to_owned(),
            }],
            groups: GroupsReport { states: [("Stable", 1)].into(), ..GroupsReport::default() },
            ..ShardReport::default()
        };
        BrokerReport {
            shards: vec![shard(0), shard(1)],
            lags: vec![LagReport { group: "g".to_owned(), topic: "weather".to_owned(), lag: 4 }],
            process: ProcessReport {
                cpu_time: Duration::from_millis(1500),
                shard_cpu_times: vec![(1, Duration::from_millis(250))],
                descriptor_count_max: Some(1024),
                ..ProcessReport::default()
            },
            ..BrokerReport::default()
        }
    }

    #[test]
    fn the_text_has_every_family_once_and_nothing_else() {
        let text = write(report());
        assert!(text.ends_with("# EOF\n"));
        let types: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let expected = FAMILIES.iter().map(|family| {
            let name = family.full_name();
            format!("{} {}", name.strip_suffix("_total").unwrap_or(&name), family.kind)
        });
        assert_eq!(types, expected.collect::<Vec<_>>());
        let known: BTreeSet<String> = FAMILIES.iter().map(Family::full_name).collect();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap();
            let name = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            assert!(known.contains(name), "{line}");
        }
    }

    #[test]
    fn numbers_are_summed_over_shards_where_no_label_names_one() {
        let text = write(report());
        for line in [
            "millrace_requests_total{api=\"Produce\"} 2",
            "millrace_request_errors_total{api=\"Produce\"} 2",
            "millrace_request_latency_seconds_count{api=\"Produce\"} 2",
            "millrace_request_latency_seconds_bucket{le=\"0.001572864\",api=\"Produce\"} 0",
            "millrace_request_latency_seconds_bucket{le=\"0.002097152\",api=\"Produce\"} 2",
            "millrace_request_latency_seconds_bucket{le=\"+Inf\",api=\"Produce\"} 2",
            "millrace_round_latency_seconds_count{shard=\"1\"} 1",
            "millrace_appended_bytes_total{shard=\"0\"} 90",
            "millrace_topic_appended_records_total{topic=\"weather\"} 6",
            "millrace_queue_depth{shard=\"1\",queue=\"appends\"} 2",
            "millrace_budget_limit_bytes{shard=\"0\",class=\"requests\"} 7",
            "millrace_groups{state=\"Stable\"} 2",
            "millrace_group_lag{group=\"g\",topic=\"weather\"} 4",
            "millrace_process_cpu_seconds_total 1.5",
            "millrace_shard_cpu_seconds_total{shard=\"1\"} 0.25",
            "millrace_compaction_failed{topic=\"weather\",partition=\"1\",reason=\"a \\\"torn\\\"\\nbatch\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
