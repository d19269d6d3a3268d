//! `millbench produce`: batches made beforehand, sent as fast as the broker acknowledges them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, ensure};
use millrace_protocol::batch::{BatchBuilder, BatchFields};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};

use super::client::{Client, encode};
use super::topic::{Creation, error_of, find_partitions};
use super::{Outcome, now, run_connections};
use crate::numbers::{parse_bytes, u64_of};

const PRODUCE_VERSION: i16 = 9;
/// Acknowledge once every in-sync replica has the batch.
const ACKS_ALL: i16 = -1;
const TIMEOUT_MS: i32 = 30_000;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address of the broker, `HOST:PORT`.
    #[arg(long)]
    bootstrap: String,
    /// The topic; the broker makes it if it is set up to.
    #[arg(long)]
    topic: String,
    /// How many bytes of record batches to send; K, M and G are powers of 1024.
    #[arg(long, value_parser = parse_bytes)]
    bytes: u64,
    /// Bytes of a record's value.
    #[arg(long, default_value = "1024", value_parser = parse_bytes)]
    record_bytes: u64,
    /// Bytes of a batch, about. A request carries one.
    #[arg(long, default_value = "256K", value_parser = parse_bytes)]
    batch_bytes: u64,
    /// Use only the first so many partitions of the topic.
    #[arg(long)]
    partitions: Option<usize>,
    /// How many connections to send through.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How many requests of a connection may wait for their answers.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// The broker's process, if it runs on this machine, to report its CPU time.
    #[arg(long)]
    broker_pid: Option<u32>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.in_flight > 0, "--in-flight: at least one request");
    let Arguments { bootstrap, topic, .. } = arguments;
    let partitions = find_partitions(bootstrap, topic, arguments.partitions, Creation::Allowed)?;
    let batch = make_batch(arguments)?;
    let frames = partitions
        .iter()
        .map(|partition| Ok(Frame { partition: *partition, bytes: make_frame(topic, *partition, &batch.bytes)? }))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let request_count = arguments.bytes.div_ceil(u64_of(batch.bytes.len()));
    let connection_count = u64_of(arguments.connections);
    run_connections(arguments.connections, arguments.broker_pid, |index, outcome| {
        let index_wide = u64_of(index);
        let share = request_count / connection_count + u64::from(index_wide < request_count % connection_count);
        // Each connection starts at another partition, so that few of them meet.
        let frames = frames.iter().cycle().skip(index % frames.len());
        let client = Client::connect(bootstrap)?;
        let mut sender = Sender { client, batch: &batch, pending: VecDeque::new(), ends: BTreeMap::new(), outcome };
        sender.run(frames.take(usize::try_from(share)?), arguments.in_flight)
    })
}

/// The one batch that is sent over and over.
struct Batch {
    bytes: Vec<u8>,
    record_count: i64,
}

/// The request that sends it to one partition.
struct Frame {
    partition: i32,
    bytes: Vec<u8>,
}

/// A request without its answer.
struct Pending {
    partition: i32,
    correlation_id: i32,
    sent: Instant,
}

struct Sender<'a> {
    client: Client,
    batch: &'a Batch,
    pending: VecDeque<Pending>,
    /// Offset behind the last batch that was acknowledged, per partition.
    ends: BTreeMap<i32, i64>,
    outcome: &'a mut Outcome,
}

impl Sender<'_> {
    fn run<'f>(&mut self, frames: impl Iterator<Item = &'f Frame>, in_flight_max: usize) -> anyhow::Result<()> {
        for frame in frames {
            if self.pending.len() == in_flight_max {
                self.receive()?;
            }
            let sent = now();
            let correlation_id = self.client.send(&frame.bytes)?;
            self.pending.push_back(Pending { partition: frame.partition, correlation_id, sent });
        }
        while !self.pending.is_empty() {
            self.receive()?;
        }
        Ok(())
    }

    fn receive(&mut self) -> anyhow::Result<()> {
        let Pending { partition, correlation_id, sent } = self.pending.pop_front().context("nothing is in flight")?;
        let response: ProduceResponse<'_> = self.client.receive(PRODUCE_VERSION, correlation_id)?;
        let answer = response.responses.first().and_then(|topic| topic.partition_responses.first());
        let answer = answer.context("an answer without a partition")?;
        ensure!(answer.index == partition, "an answer for partition {}, not {partition}", answer.index);
        let error = error_of(answer.error_code)?;
        ensure!(error == ErrorCode::None, "partition {partition}: {}", error.name());
        // Requests of one connection are appended in their order, so an offset that does not rise was given twice.
        let end = self.ends.entry(partition).or_insert(0);
        let base_offset = answer.base_offset;
        ensure!(base_offset >= *end, "partition {partition}: offset {base_offset} came after {end}");
        *end = base_offset + self.batch.record_count;
        let record_count = u64::try_from(self.batch.record_count)?;
        self.outcome.take(sent.elapsed(), record_count, u64_of(self.batch.bytes.len()));
        Ok(())
    }
}

fn make_batch(arguments: &Arguments) -> anyhow::Result<Batch> {
    let record_bytes = usize::try_from(arguments.record_bytes)?;
    let batch_bytes = usize::try_from(arguments.batch_bytes)?;
    ensure!(record_bytes <= batch_bytes, "--record-bytes: a record fits its batch");
    ensure!(batch_bytes <= BATCH_BYTES_MAX, "--batch-bytes: at most {BATCH_BYTES_MAX}");
    let timestamp_ms = unix_ms()?;
    let mut builder = BatchBuilder::new(BatchFields::default());
    let mut noise = Noise(0x9E37_79B9_7F4A_7C15);
    loop {
        let value: Vec<u8> = std::iter::repeat_with(|| noise.next_byte()).take(record_bytes).collect();
        builder.push(timestamp_ms, None, Some(&value));
        if builder.batch_bytes() + record_bytes + RECORD_OVERHEAD_BYTES > batch_bytes {
            break;
        }
    }
    Ok(Batch { bytes: builder.build(), record_count: i64::from(builder.record_count()) })
}

fn make_frame(topic: &str, partition: i32, batch: &[u8]) -> anyhow::Result<Vec<u8>> {
    let data = PartitionProduceData { index: partition, records: Some(batch) };
    let topic = TopicProduceData { name: topic, partition_data: vec![data], ..TopicProduceData::default() };
    let request =
        ProduceRequest { transactional_id: None, acks: ACKS_ALL, timeout_ms: TIMEOUT_MS, topic_data: vec![topic] };
    encode(PRODUCE_VERSION, &request)
}

/// Bytes that no compression shrinks: an xorshift generator.
struct Noise(u64);

impl Noise {
    fn next_byte(&mut self) -> u8 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.to_be_bytes()[0]
    }
}

#[expect(clippy::disallowed_methods, reason = "a client program outside the simulator")]
fn unix_ms() -> anyhow::Result<i64> {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(i64::try_from(since_epoch.as_millis())?)
}

/// Above what any record takes besides its value here.
const RECORD_OVERHEAD_BYTES: usize = 24;
const BATCH_BYTES_MAX: usize = 128 * 1024 * 1024;
