//! The options that subcommands share, and the parts of a plan that follow from them.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum as _;
use millrace_protocol::batch::Compression;

use crate::check::Entry;
use crate::client::cluster::{Leader, LogEnd, TopicWish, find_leaders, find_offsets, make_producer_ids};
use crate::drive::librdkafka;
use crate::drive::plan::{Check, Client, Plan, ReadPlan, SendPlan, Span, Timing};
use crate::drive::unix_ms;
use crate::numbers::parse_bytes;
use crate::workload::batch::{BatchShape, Stamping};
use crate::workload::keys::{KeySource, Keys};
use crate::workload::quantity::{Rate, parse_duration, parse_rate};
use crate::workload::records::{Size, Values};

/// Whom to load, and for how long.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct TargetOptions {
    /// Address of a broker, `HOST:PORT`
    #[arg(long)]
    pub(crate) bootstrap: String,
    /// The topics, separated by commas; made if they do not exist
    #[arg(long = "topic", alias = "topics", value_delimiter = ',', default_value = "millbench")]
    pub(crate) topics: Vec<String>,
    /// Partitions of a topic that is made; of one that exists, only the first so many are used
    #[arg(long)]
    pub(crate) partitions: Option<usize>,
    /// Copies of each partition of a topic that is made
    #[arg(long)]
    pub(crate) replication_factor: Option<i16>,
    /// A setting of a topic that is made, such as `segment.bytes=16777216`; may be given again
    #[arg(long = "topic-setting", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) topic_settings: Vec<(String, String)>,
    /// Open loop: let the rate rise for so long
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    pub(crate) ramp: Duration,
    /// Then do not count for so long
    #[arg(long, default_value = "2s", value_parser = parse_duration)]
    pub(crate) warm_up: Duration,
    /// Then measure for so long
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// What is drawn at random is the same for the same seed
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How closely to look at what comes back
    #[arg(long, value_enum, default_value_t = Check::Headers)]
    pub(crate) check: Check,
    /// The broker's process, if it runs on this machine, to report what it takes
    #[arg(long)]
    pub(crate) broker_pid: Option<u32>,
    /// Threads of the client; by default one for two cores, and one less than there are cores from four on
    #[arg(long)]
    pub(crate) threads: Option<u16>,
}

/// Who speaks to the broker.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(crate) struct ClientOptions {
    /// Who speaks to the broker: millbench itself, or librdkafka as applications do
    #[arg(long, value_enum, default_value_t = Client::Raw)]
    client: Client,
}

/// What is sent and how.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct SendOptions {
    /// Connections of producers; at least one for each broker that leads a partition
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
    /// Requests of a connection that may wait for their answers; by default 5, and 1000 at a --rate without --idempotence
    #[arg(long)]
    pub(crate) in_flight: Option<usize>,
    /// Bytes of a value, such as `1024` or `100-2000`
    #[arg(long, default_value = "1024")]
    pub(crate) record_bytes: Size,
    /// Take the values from a file, one from each line
    #[arg(long, value_name = "FILE", conflicts_with = "record_bytes")]
    pub(crate) records_file: Option<PathBuf>,
    /// Keys: `none`, `uniform:COUNT` or `zipf:COUNT`
    #[arg(long, default_value = "none")]
    pub(crate) keys: Keys,
    /// Bytes of a batch before compression, at most; K, M and G are powers of 1024
    #[arg(long, default_value = "256K", value_parser = parse_bytes)]
    pub(crate) batch_bytes: u64,
    /// Open loop: how long a record waits for others to share its batch; 0 sends each in a request of its own
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    pub(crate) linger: Duration,
    /// Who must have a batch before it is acknowledged: `0`, `1` or `all`
    #[arg(long, default_value = "all", value_parser = parse_acks)]
    pub(crate) acks: i16,
    /// Send as idempotent producers do
    #[arg(long)]
    pub(crate) idempotence: bool,
    /// `none`, `gzip`, `snappy`, `lz4` or `zstd`
    #[arg(long, default_value = "none", value_parser = parse_compression)]
    pub(crate) compression: Compression,
    /// Records or bytes per second, such as `50000` or `50MB/s`; without it, as fast as answers come
    #[arg(long, value_parser = parse_rate)]
    pub(crate) rate: Option<Rate>,
    /// Closed loop: batches of a request, each for another partition
    #[arg(long, default_value_t = 1)]
    pub(crate) batches_per_request: usize,
}

/// What is read and how.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ReadOptions {
    /// Consumers; each reads everything
    #[arg(long, default_value_t = 1)]
    pub(crate) consumers: usize,
    /// Connections of each consumer; its partitions are dealt out among them
    #[arg(long, default_value_t = 1)]
    pub(crate) consumer_connections: usize,
    /// Bytes that a request asks for, at most; K, M and G are powers of 1024
    #[arg(long, default_value = "1M", value_parser = parse_bytes)]
    pub(crate) fetch_bytes: u64,
    /// How long a broker may wait for something to answer with
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    pub(crate) fetch_wait: Duration,
    /// Bytes or records per second of all consumers together
    #[arg(long, value_parser = parse_rate)]
    pub(crate) read_rate: Option<Rate>,
}

/// Where consumers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum From {
    /// Where the logs begin.
    Start,
    /// Where the logs end now.
    Tail,
}

impl TargetOptions {
    /// Finds the partitions; makes the topics first, with `settings` in addition to those asked for, if `may_create`.
    pub(crate) fn leaders(&self, creation: Option<&[(&str, &str)]>) -> anyhow::Result<Vec<Leader>> {
        let wish = match creation {
            None => None,
            Some(settings) => {
                let more = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                Some(TopicWish {
                    partition_count: self.partitions.map(i32::try_from).transpose().context("--partitions")?,
                    replication_factor: self.replication_factor,
                    settings: self.topic_settings.iter().cloned().chain(more).collect(),
                })
            }
        };
        find_leaders(&self.bootstrap, &self.topics, wish.as_ref(), self.partitions)
    }

    /// A plan without producers and consumers.
    pub(crate) fn plan(&self, task: &str, leaders: Vec<Leader>) -> anyhow::Result<Plan> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if cores < 4 { 1 } else { u16::try_from(cores - 1)? };
        let threads = self.threads.unwrap_or(threads);
        ensure!(threads > 0, "--threads: at least one");
        Ok(Plan {
            task: task.to_owned(),
            client: Client::Raw,
            topics: self.topics.clone(),
            leaders,
            threads,
            span: Span { ramp: self.ramp, warm_up: self.warm_up, measured: Some(self.duration) },
            check: self.check,
            seed: self.seed,
            run_id: u32::try_from(unix_ms() & u64::from(u32::MAX)).expect("the mask leaves 32 bits"),
            broker_pid: self.broker_pid,
            sending: None,
            reading: None,
        })
    }

    /// The options as they are in force.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let mut settings = vec![
            setting("topic", self.topics.join(",")),
            setting("partitions", optional(self.partitions)),
            setting("warm-up", format!("{:?}", self.warm_up)),
            setting("duration", format!("{:?}", self.duration)),
            setting("ramp", format!("{:?}", self.ramp)),
            setting("seed", self.seed.to_string()),
            setting(
                "check",
                self.check.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
            ),
            setting("threads", optional(self.threads)),
        ];
        settings.extend(
            self.topic_settings.iter().map(|(name, value)| setting("topic-setting", format!("{name}={value}"))),
        );
        settings
    }
}

impl ClientOptions {
    /// Has the client carry out a plan that is complete but for this, and gives its settings as they are in force. Refuses
    /// what the client cannot do.
    pub(crate) fn choose(self, plan: &mut Plan) -> anyhow::Result<Vec<(String, String)>> {
        plan.client = self.client;
        match self.client {
            Client::Raw => Ok(vec![setting("client", "raw".to_owned())]),
            Client::Librdkafka => librdkafka::settings::in_force(plan),
        }
    }
}

impl SendOptions {
    /// At a rate, a limit on what is in flight would make the generator late, and that is the broker's latency then.
    fn in_flight_max(&self) -> usize {
        let is_limited = self.rate.is_none() || self.idempotence;
        self.in_flight.unwrap_or(if is_limited { 5 } else { 1000 })
    }

    /// Where values come from.
    pub(crate) fn values(&self) -> anyhow::Result<Values> {
        let Some(path) = &self.records_file else { return Ok(Values::Made(self.record_bytes)) };
        let content = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        Values::of_lines(&content).map_err(anyhow::Error::msg).with_context(|| path.display().to_string())
    }

    /// The producers' part of a plan.
    pub(crate) fn plan(&self, series: &str, target: &TargetOptions, leaders: &[Leader]) -> anyhow::Result<SendPlan> {
        ensure!(self.connections > 0, "--connections: at least one");
        let in_flight_max = self.in_flight_max();
        ensure!(in_flight_max > 0, "--in-flight: at least one request");
        ensure!(self.batches_per_request > 0, "--batches-per-request: at least one");
        ensure!(
            !self.idempotence || in_flight_max <= 5,
            "--idempotence: brokers remember five requests, no more --in-flight"
        );
        ensure!(!self.idempotence || self.acks == -1, "--idempotence needs --acks all");
        let values = self.values()?;
        let bytes_mean = values.bytes_mean();
        let connection_count = self.connections.max(leaders.len());
        let producer_count = if self.idempotence { connection_count } else { 0 };
        let is_unbatched = self.rate.is_some() && self.linger.is_zero();
        let stamping = match target.check {
            Check::None => Stamping::None,
            // A compressed record is not looked at for its header's sake.
            Check::Headers if self.compression != Compression::None => Stamping::None,
            Check::Headers => Stamping::First,
            Check::Crc => Stamping::Every,
        };
        Ok(SendPlan {
            series: series.to_owned(),
            connection_count,
            in_flight_max,
            records_per_second: self.rate.map(|rate| rate.records_per_second(bytes_mean)),
            linger: self.linger,
            acks: self.acks,
            batches_per_request: self.batches_per_request,
            request_count_max: None,
            shape: BatchShape {
                values,
                keys: KeySource::new(self.keys),
                batch_bytes: usize::try_from(self.batch_bytes)?,
                records_max: if is_unbatched { 1 } else { usize::MAX },
                compression: self.compression,
                stamping,
            },
            producer_ids: make_producer_ids(&target.bootstrap, producer_count)?,
            keeps_samples: false,
        })
    }

    /// The options as they are in force.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        let record_bytes = match &self.records_file {
            Some(path) => path.display().to_string(),
            None => format!("{}-{}", self.record_bytes.bytes_min, self.record_bytes.bytes_max),
        };
        vec![
            setting("connections", self.connections.to_string()),
            setting("in-flight", self.in_flight_max().to_string()),
            setting("records", record_bytes),
            setting("keys", format!("{:?}", self.keys)),
            setting("batch-bytes", self.batch_bytes.to_string()),
            setting("linger", format!("{:?}", self.linger)),
            setting("acks", if self.acks == -1 { "all".to_owned() } else { self.acks.to_string() }),
            setting("idempotence", self.idempotence.to_string()),
            setting("compression", format!("{:?}", self.compression)),
            setting("rate", self.rate.map_or_else(|| "as answered".to_owned(), |rate| format!("{rate:?} per second"))),
            setting("batches-per-request", self.batches_per_request.to_string()),
        ]
    }
}

impl ReadOptions {
    /// The consumers' part of a plan, which ends with the window.
    pub(crate) fn plan(
        &self,
        series: &str,
        from: From,
        target: &TargetOptions,
        leaders: &[Leader],
    ) -> anyhow::Result<ReadPlan> {
        ensure!(self.consumers > 0, "--consumers: at least one");
        ensure!(self.consumer_connections > 0, "--consumer-connections: at least one");
        let earliest = find_offsets(leaders, &target.topics, LogEnd::Earliest)?;
        let latest = find_offsets(leaders, &target.topics, LogEnd::Latest)?;
        let starts = if from == From::Start { earliest } else { latest };
        // Only a log that still has its first record begins with a producer's first record.
        let entry = if from == From::Start && starts.values().all(|start| *start == 0) {
            Entry::AtStart
        } else {
            Entry::Anywhere
        };
        Ok(ReadPlan {
            series: series.to_owned(),
            leaders: leaders.to_vec(),
            consumer_count: self.consumers,
            connection_count: self.consumer_connections,
            fetch_bytes: i32::try_from(self.fetch_bytes).context("--fetch-bytes")?,
            wait_max_ms: i32::try_from(self.fetch_wait.as_millis()).context("--fetch-wait")?,
            bytes_per_second: self.read_rate.map(|rate| rate.bytes_per_second(RECORD_BYTES_ASSUMED)),
            starts,
            entry,
            ends: None,
            repeats: false,
            follows_senders: false,
            is_compared: false,
            timing: Timing::Requests,
        })
    }

    /// The options as they are in force.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        vec![
            setting("consumers", self.consumers.to_string()),
            setting("consumer-connections", self.consumer_connections.to_string()),
            setting("fetch-bytes", self.fetch_bytes.to_string()),
            setting("fetch-wait", format!("{:?}", self.fetch_wait)),
            setting(
                "read-rate",
                self.read_rate.map_or_else(|| "as answered".to_owned(), |rate| format!("{rate:?} per second")),
            ),
        ]
    }
}

/// One setting of a run.
pub(crate) fn setting(name: &str, value: String) -> (String, String) {
    (name.to_owned(), value)
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "default".to_owned(), |value| value.to_string())
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "0" => Ok(0),
        "1" => Ok(1),
        "all" | "-1" => Ok(-1),
        _ => Err("0, 1 or all".to_owned()),
    }
}

fn parse_compression(text: &str) -> Result<Compression, String> {
    match text {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        "snappy" => Ok(Compression::Snappy),
        "lz4" => Ok(Compression::Lz4),
        "zstd" => Ok(Compression::Zstd),
        _ => Err("none, gzip, snappy, lz4 or zstd".to_owned()),
    }
}

/// A reader's rate in records is turned into bytes by it: a consumer does not know what it will get.
const RECORD_BYTES_ASSUMED: f64 = 1024.0;
