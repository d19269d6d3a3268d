//! What is judged: one row for each figure, with the bound that it must keep and the one to reach for.

use super::evidence::Evidence;
use crate::tasks::{cold_read, restart, shards, soak};

/// What a row's bound is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// The figure itself.
    Figure,
    /// The figure over the peer's.
    RatioToPeer,
    /// The figure over that of Kafka with a flush for every message.
    RatioToFlushed,
}

/// Which side of the bound is the good one. On the bound is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Better {
    Lower,
    Higher,
}

/// One figure.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    /// The load that tells it.
    pub(super) load: &'static str,
    pub(super) figure: fn(&Evidence) -> Option<f64>,
    pub(super) judged: Judged,
    pub(super) better: Better,
    pub(super) must: f64,
    pub(super) reach: f64,
}

impl Row {
    const fn new(
        name: &'static str,
        unit: &'static str,
        load: &'static str,
        figure: fn(&Evidence) -> Option<f64>,
    ) -> Self {
        Self { name, unit, load, figure, judged: Judged::Figure, better: Better::Lower, must: 1.0, reach: 1.0 }
    }

    const fn at_most(self, must: f64, reach: f64) -> Self {
        Self { better: Better::Lower, must, reach, ..self }
    }

    const fn at_least(self, must: f64, reach: f64) -> Self {
        Self { better: Better::Higher, must, reach, ..self }
    }

    const fn of_peer(self) -> Self {
        Self { judged: Judged::RatioToPeer, ..self }
    }

    const fn of_flushed(self) -> Self {
        Self { judged: Judged::RatioToFlushed, ..self }
    }

    /// Whether a value keeps a bound.
    pub(super) fn keeps(&self, value: f64, bound: f64) -> bool {
        match self.better {
            Better::Lower => value <= bound,
            Better::Higher => value >= bound,
        }
    }
}

const TEN: &str = "10,000 records/s";
const FIFTY: &str = "50,000 records/s, linger 1 ms";

/// Every row, in the order of the table.
pub(super) const ROWS: &[Row] = &[
    Row::new("produce, 256 KiB batches: broker CPU", "s/GB", "large batches", Evidence::cpu_per_gb).at_most(0.6, 0.4),
    Row::new("produce, 256 KiB batches: share of the machine", "", "large batches", Evidence::share_of_machine)
        .at_least(0.5, 0.7),
    Row::new("produce, 100 B records: broker CPU", "s/10^6", "small records", Evidence::cpu_per_million)
        .at_most(0.08, 0.05),
    Row::new(
        "produce, 200 connections, 1 record per request: CPU against echo",
        "x",
        "one record per request",
        Evidence::cpu_against_echo,
    )
    .at_most(3.0, 2.0),
    Row::new("consume from memory: broker CPU", "s/GB", "read from memory", Evidence::cpu_per_gb).at_most(0.40, 0.30),
    Row::new("consume from memory: share of loopback", "", "read from memory", Evidence::share_of_loopback)
        .at_least(0.7, 0.9),
    Row::new("consume from another shard: CPU against the same", "x", "read from another shard", |run| {
        run.result(shards::RATIO)
    })
    .at_most(1.15, 1.05),
    Row::new("8 consumers at the tail: disk reads per byte", "", "fan-out", Evidence::reads_per_byte_served)
        .at_most(0.0, 0.0),
    Row::new("10,000/s: p99 against floors", "x", TEN, Evidence::p99_against_floors).at_most(3.0, 2.0),
    Row::new("10,000/s: p99", "ms", TEN, |run| run.quantile_ms(0.99)).of_peer(),
    Row::new("10,000/s: p99.9", "ms", TEN, |run| run.quantile_ms(0.999)).of_peer(),
    Row::new("10,000/s: p99, peer flushes", "ms", TEN, |run| run.quantile_ms(0.99)).of_flushed().at_most(0.1, 0.1),
    Row::new("10,000/s: p99.9, peer flushes", "ms", TEN, |run| run.quantile_ms(0.999)).of_flushed().at_most(0.1, 0.1),
    Row::new("50,000/s: p99 against floors", "x", FIFTY, Evidence::p99_against_floors).at_most(3.0, 2.0),
    Row::new("50,000/s: p99", "ms", FIFTY, |run| run.quantile_ms(0.99)).of_peer(),
    Row::new("50,000/s: p99.9", "ms", FIFTY, |run| run.quantile_ms(0.999)).of_peer(),
    Row::new("50,000/s: p99, peer flushes", "ms", FIFTY, |run| run.quantile_ms(0.99)).of_flushed().at_most(0.1, 0.1),
    Row::new("50,000/s: p99.9, peer flushes", "ms", FIFTY, |run| run.quantile_ms(0.999)).of_flushed().at_most(0.1, 0.1),
    Row::new("end to end, 1,000/s: p50", "ms", "end to end", |run| run.end_to_end_ms(0.5)).of_peer().at_most(1.0, 0.5),
    Row::new("end to end, 1,000/s: p99", "ms", "end to end", |run| run.end_to_end_ms(0.99)).of_peer().at_most(1.0, 0.5),
    Row::new("cold scan: produce p99 against a scan elsewhere", "x", "cold scan", |run| {
        run.result(cold_read::ELSEWHERE)
    })
    .at_most(1.25, 1.1),
    Row::new("cold scan: the same against the peer's", "x", "cold scan", |run| run.result(cold_read::ELSEWHERE))
        .of_peer(),
    Row::new("rolls: p99 against neighbours", "x", "rolls", |run| {
        run.result("p99 with a roll against neighbours, median")
    })
    .at_most(1.2, 1.05),
    Row::new("restart: first produce", "s", "restart", |run| run.seconds(restart::FIRST_PRODUCE)).at_most(2.0, 1.0),
    Row::new("restart: produce and fetch of every partition", "s", "restart", |run| {
        run.seconds(restart::EVERY_PARTITION)
    })
    .at_most(8.0, 5.0),
    Row::new("restart: every group known", "s", "restart", |run| run.seconds(restart::GROUPS)).at_most(4.0, 2.0),
    Row::new("soak: errors", "", "soak", |run| run.result(soak::ERRORS)).at_most(0.0, 0.0),
    Row::new("soak: growth of memory", "%", "soak", |run| run.result(soak::GROWTH)).at_most(1.0, 0.5),
    Row::new("many partitions: bytes/s against few", "", "many partitions", Evidence::share_of_few_partitions)
        .at_least(0.3, 0.6),
    Row::new("many partitions: p99 against a flush", "x", "many partitions", Evidence::many_p99_against_flush)
        .at_most(10.0, 5.0),
    Row::new("many partitions: CPU per byte against few", "x", "many partitions", Evidence::many_cpu_against_few)
        .at_most(2.0, 1.3),
    Row::new("idle partitions: resident memory", "MiB", "idle", |run| Some(run.resident_mib_before()))
        .at_most(400.0, 150.0),
    Row::new("idle connection: memory", "B", "idle", |run| run.result("broker's memory per connection"))
        .at_most(24_576.0, 8192.0),
    Row::new("idle: CPU of a core", "%", "idle", |run| run.result("broker's CPU while they are open"))
        .at_most(1.0, 0.3),
];
