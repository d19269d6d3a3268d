//! The rows of the table of metrics, in the order in which they are shown.

use std::collections::BTreeMap;
use std::fmt::Display;

use millrace_engine::log::traffic::Traffic;
use millrace_engine::store::StoreReport;

use super::super::report::{ApiReport, BrokerReport, BudgetReport};
use super::{Family, Kind, Samples, Unit};

/// Every metric there is.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "millrace_build_info",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["version"],
        help: "Always 1; the label says which version runs.",
        samples: |_, out| out.number(&[&env!("CARGO_PKG_VERSION")], 1),
    },
    Family {
        name: "millrace_uptime",
        unit: Unit::Seconds,
        kind: Kind::Gauge,
        labels: &[],
        help: "Time since the start.",
        samples: |report, out| out.time(&[], report.process.uptime),
    },
    Family {
        name: "millrace_shards_silent",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &[],
        help: "Shards that did not answer this scrape in time; their series are missing from it.",
        samples: |report, out| out.size(&[], report.silent_shards.len()),
    },
    Family {
        name: "millrace_left_out",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["of"],
        help: "What exists and has no series, because there is too much of it: topics, committed offsets of groups, pairs of group and topic.",
        samples: left_out,
    },
    Family {
        name: "millrace_request_latency",
        unit: Unit::Seconds,
        kind: Kind::Histogram,
        labels: &["api"],
        help: "Time from the arrival of a request to its finished answer.",
        samples: |report, out| by_api(report, |api, api_report| out.durations(&[&api], &api_report.latency)),
    },
    Family {
        name: "millrace_requests",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["api"],
        help: "Requests answered.",
        samples: |report, out| by_api(report, |api, api_report| out.number(&[&api], api_report.latency.count())),
    },
    Family {
        name: "millrace_request_errors",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["api"],
        help: "Error codes in answers; an answer has one for each partition that failed.",
        samples: |report, out| by_api(report, |api, api_report| out.number(&[&api], api_report.errors)),
    },
    Family {
        name: "millrace_received",
        unit: Unit::Bytes,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Bytes of requests.",
        samples: |report, out| out.by_shard(report, |shard| Some(shard.received_bytes)),
    },
    Family {
        name: "millrace_sent",
        unit: Unit::Bytes,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Bytes of answers.",
        samples: |report, out| out.by_shard(report, |shard| Some(shard.sent_bytes)),
    },
    Family {
        name: "millrace_connections",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Open connections.",
        samples: |report, out| out.by_shard(report, |shard| size(shard.connection_count)),
    },
    Family {
        name: "millrace_connections_accepted",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Connections handed to the shard.",
        samples: |report, out| out.by_shard(report, |shard| Some(shard.accepted_count)),
    },
    Family {
        name: "millrace_connections_refused",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Connections closed because of what they sent.",
        samples: |report, out| out.by_shard(report, |shard| Some(shard.refused_count)),
    },
    Family {
        name: "millrace_queue_depth",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard", "queue"],
        help: "What waits: `requests` for memory, `decoding` (large requests) for memory to be decoded into, `appends` for their turn, `rounds` (logs) for the next round, `calls` for other shards, `outbox` (messages) for room in a link, `watches` (fetches) for records.",
        samples: queues,
    },
    Family {
        name: "millrace_budget_used",
        unit: Unit::Bytes,
        kind: Kind::Gauge,
        labels: &["shard", "class"],
        help: "Memory in use, by class.",
        samples: |report, out| budgets(report, |labels, budget| out.size(labels, budget.used_bytes)),
    },
    Family {
        name: "millrace_budget_limit",
        unit: Unit::Bytes,
        kind: Kind::Gauge,
        labels: &["shard", "class"],
        help: "Memory there is, by class.",
        samples: |report, out| budgets(report, |labels, budget| out.size(labels, budget.limit_bytes)),
    },
    Family {
        name: "millrace_round_latency",
        unit: Unit::Seconds,
        kind: Kind::Histogram,
        labels: &["shard"],
        help: "Time of a round, in which everything that was appended is written and, under `flush.policy=commit`, flushed.",
        samples: |report, out| stores(report, |shard, store| out.durations(&[&shard], &store.rounds)),
    },
    Family {
        name: "millrace_flush_latency",
        unit: Unit::Seconds,
        kind: Kind::Histogram,
        labels: &["shard"],
        help: "Time of a flush of the device within a round, or of a round's only write, which is durable by itself.",
        samples: |report, out| stores(report, |shard, store| out.durations(&[&shard], &store.flushes)),
    },
    Family {
        name: "millrace_appended_batches",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Record batches appended.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], store.traffic.appended_batches)),
    },
    Family {
        name: "millrace_appended_records",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Records appended.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], store.traffic.appended_records)),
    },
    Family {
        name: "millrace_appended",
        unit: Unit::Bytes,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Bytes of batches appended, as they were sent.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], store.traffic.appended_bytes)),
    },
    Family {
        name: "millrace_read",
        unit: Unit::Bytes,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Bytes of batches read from logs.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], store.traffic.read_bytes)),
    },
    Family {
        name: "millrace_unstored",
        unit: Unit::Bytes,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Bytes appended that wait to be written.",
        samples: |report, out| stores(report, |shard, store| out.size(&[&shard], store.unstored_bytes)),
    },
    Family {
        name: "millrace_read_cache_hits",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Chunks of segments that were in memory when they were wanted.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], store.read_cache.hits)),
    },
    Family {
        name: "millrace_read_cache_misses",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Chunks of segments that had to be waited for.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], store.read_cache.misses)),
    },
    Family {
        name: "millrace_read_cache_loads",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Chunks of segments read from the device, early ones included.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], store.read_cache.loads)),
    },
    Family {
        name: "millrace_logs",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Logs of the shard.",
        samples: |report, out| stores(report, |shard, store| out.size(&[&shard], store.log_count)),
    },
    Family {
        name: "millrace_logs_offline",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Logs that cannot be written or read until they are recovered.",
        samples: |report, out| stores(report, |shard, store| out.size(&[&shard], store.offline_count)),
    },
    Family {
        name: "millrace_logs_recovered",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Logs that recovery has dealt with since the start; it is over when there are no fewer than there were.",
        samples: |report, out| {
            out.by_shard(report, |shard| shard.store.as_ref().and_then(|_| size(shard.recovered_count)));
        },
    },
    Family {
        name: "millrace_segment_files_open",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Open segment files.",
        samples: |report, out| stores(report, |shard, store| out.size(&[&shard], store.open_file_count)),
    },
    Family {
        name: "millrace_segment_files_open_limit",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "Segment files that may be open, beside those in use.",
        samples: |report, out| out.by_shard(report, |shard| size(shard.open_file_count_max)),
    },
    Family {
        name: "millrace_compaction_failed",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["topic", "partition", "reason"],
        help: "1 for each log whose last compaction did not get through, with the reason.",
        samples: compaction_failures,
    },
    Family {
        name: "millrace_disk_free",
        unit: Unit::Bytes,
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes that the broker may still write on the disk of its data directory.",
        samples: |report, out| out.number(&[], report.process.disk_free_bytes),
    },
    Family {
        name: "millrace_disk_size",
        unit: Unit::Bytes,
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of the file system of the data directory.",
        samples: |report, out| out.number(&[], report.process.disk_bytes),
    },
    Family {
        name: "millrace_disk_reserve",
        unit: Unit::Bytes,
        kind: Kind::Gauge,
        labels: &[],
        help: "Bytes of the disk that producers do not get; part of what is used.",
        samples: |report, out| out.number(&[], report.process.disk_reserve_bytes),
    },
    Family {
        name: "millrace_disk_full",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["shard"],
        help: "1 while producers are refused because the disk is full.",
        samples: |report, out| stores(report, |shard, store| out.number(&[&shard], u64::from(store.disk_full))),
    },
    Family {
        name: "millrace_topic_appended_batches",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["topic"],
        help: "Record batches appended to the topic.",
        samples: |report, out| topics(report, |topic, traffic| out.number(&[&topic], traffic.appended_batches)),
    },
    Family {
        name: "millrace_topic_appended_records",
        unit: Unit::None,
        kind: Kind::Counter,
        labels: &["topic"],
        help: "Records appended to the topic.",
        samples: |report, out| topics(report, |topic, traffic| out.number(&[&topic], traffic.appended_records)),
    },
    Family {
        name: "millrace_topic_appended",
        unit: Unit::Bytes,
        kind: Kind::Counter,
        labels: &["topic"],
        help: "Bytes of batches appended to the topic.",
        samples: |report, out| topics(report, |topic, traffic| out.number(&[&topic], traffic.appended_bytes)),
    },
    Family {
        name: "millrace_topic_read",
        unit: Unit::Bytes,
        kind: Kind::Counter,
        labels: &["topic"],
        help: "Bytes of batches read from the topic.",
        samples: |report, out| topics(report, |topic, traffic| out.number(&[&topic], traffic.read_bytes)),
    },
    Family {
        name: "millrace_groups",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["state"],
        help: "Consumer groups, by state; those of partitions that are being read back are not known yet.",
        samples: groups,
    },
    Family {
        name: "millrace_group_lag",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &["group", "topic"],
        help: "Records between what the group committed and the high watermarks, over the partitions it committed for; without those that nobody used since the start.",
        samples: lags,
    },
    Family {
        name: "millrace_process_cpu",
        unit: Unit::Seconds,
        kind: Kind::Counter,
        labels: &[],
        help: "Processor time of the whole process.",
        samples: |report, out| out.time(&[], report.process.cpu_time),
    },
    Family {
        name: "millrace_shard_cpu",
        unit: Unit::Seconds,
        kind: Kind::Counter,
        labels: &["shard"],
        help: "Processor time of the shard's thread; its rate is the share of a core that the shard is busy.",
        samples: shard_cpu,
    },
    Family {
        name: "millrace_process_resident",
        unit: Unit::Bytes,
        kind: Kind::Gauge,
        labels: &[],
        help: "Memory that is there for the process.",
        samples: |report, out| out.number(&[], report.process.resident_bytes),
    },
    Family {
        name: "millrace_process_descriptors",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &[],
        help: "Open descriptors.",
        samples: |report, out| out.number(&[], report.process.descriptor_count),
    },
    Family {
        name: "millrace_process_descriptors_limit",
        unit: Unit::None,
        kind: Kind::Gauge,
        labels: &[],
        help: "Descriptors that may be open; missing when there is no limit.",
        samples: |report, out| report.process.descriptor_count_max.into_iter().for_each(|count| out.number(&[], count)),
    },
];

/// Each API with what all shards together have of it.
fn by_api(report: &BrokerReport, mut show: impl FnMut(&'static str, &ApiReport)) {
    let mut apis: BTreeMap<&'static str, ApiReport> = BTreeMap::new();
    for found in report.shards.iter().flat_map(|shard| &shard.apis) {
        let sum = apis.entry(found.api).or_insert_with(|| ApiReport {
            api: found.api,
            latency: millrace_engine::histogram::Durations::default(),
            errors: 0,
        });
        sum.latency.add(&found.latency);
        sum.errors += found.errors;
    }
    for (api, sum) in &apis {
        show(api, sum);
    }
}

/// Each shard that has its logs.
fn stores(report: &BrokerReport, mut show: impl FnMut(u16, &StoreReport)) {
    for shard in &report.shards {
        if let Some(store) = &shard.store {
            show(shard.shard, store);
        }
    }
}

fn budgets(report: &BrokerReport, mut show: impl FnMut(&[&dyn Display], &BudgetReport)) {
    for shard in &report.shards {
        for budget in &shard.budgets {
            show(&[&shard.shard, &budget.class], budget);
        }
    }
}

/// Each topic with what all shards together have of it.
fn topics(report: &BrokerReport, mut show: impl FnMut(&str, &Traffic)) {
    let mut topics: BTreeMap<&str, Traffic> = BTreeMap::new();
    for (topic, traffic) in report.shards.iter().flat_map(|shard| &shard.topics) {
        topics.entry(topic).or_default().add(traffic);
    }
    for (topic, traffic) in &topics {
        show(topic, traffic);
    }
}

fn queues(report: &BrokerReport, out: &mut Samples) {
    for shard in &report.shards {
        for (queue, depth) in &shard.queues {
            out.size(&[&shard.shard, queue], *depth);
        }
    }
}

fn compaction_failures(report: &BrokerReport, out: &mut Samples) {
    for failure in report.shards.iter().flat_map(|shard| &shard.compaction_failures) {
        out.number(&[&failure.topic, &failure.partition, &failure.reason], 1);
    }
}

fn groups(report: &BrokerReport, out: &mut Samples) {
    let mut states: BTreeMap<&str, u64> = BTreeMap::new();
    for (state, count) in report.shards.iter().flat_map(|shard| &shard.groups.states) {
        *states.entry(state).or_default() += count;
    }
    for (state, count) in states {
        out.number(&[&state], count);
    }
}

fn lags(report: &BrokerReport, out: &mut Samples) {
    for lag in &report.lags {
        out.number(&[&lag.group, &lag.topic], lag.lag);
    }
}

fn shard_cpu(report: &BrokerReport, out: &mut Samples) {
    for (shard, time) in &report.process.shard_cpu_times {
        out.time(&[shard], *time);
    }
}

fn left_out(report: &BrokerReport, out: &mut Samples) {
    // Every shard leaves out the same topics.
    out.size(&[&"topics"], report.shards.iter().map(|shard| shard.topics_left_out_count).max().unwrap_or(0));
    out.size(&[&"offsets"], report.shards.iter().map(|shard| shard.groups.left_out_count).sum());
    out.size(&[&"lags"], report.lags_left_out_count);
}

fn size(size: usize) -> Option<u64> {
    u64::try_from(size).ok()
}
