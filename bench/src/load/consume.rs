//! `millbench consume`: reads a topic from its start to where it ended when the program started, and checks every batch.
//!
//! Every offset must be there: compacted topics and transactions leave gaps and are not for this program.

use anyhow::{Context as _, ensure};
use millrace_protocol::batch::{BatchError, BatchView};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use millrace_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use super::client::{Client, encode};
use super::topic::{Creation, error_of, find_partitions};
use super::{Outcome, now, run_connections};
use crate::numbers::{parse_bytes, u64_of};

const FETCH_VERSION: i16 = 12;
const LIST_OFFSETS_VERSION: i16 = 4;
/// Kafka's names for the start and the end of a log in place of a time.
const EARLIEST: i64 = -2;
const LATEST: i64 = -1;
const WAIT_MAX_MS: i32 = 500;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Address of the broker, `HOST:PORT`.
    #[arg(long)]
    bootstrap: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Read only the first so many partitions of the topic.
    #[arg(long)]
    partitions: Option<usize>,
    /// How many connections to read through; each has its own partitions.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How many bytes a request asks for, about; K, M and G are powers of 1024.
    #[arg(long, default_value = "1M", value_parser = parse_bytes)]
    fetch_bytes: u64,
    /// The broker's process, if it runs on this machine, to report its CPU time.
    #[arg(long)]
    broker_pid: Option<u32>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let Arguments { bootstrap, topic, .. } = arguments;
    let fetch_bytes = i32::try_from(arguments.fetch_bytes).context("--fetch-bytes")?;
    let partitions = find_partitions(bootstrap, topic, arguments.partitions, Creation::Refused)?;
    run_connections(arguments.connections, arguments.broker_pid, |index, outcome| {
        let own = partitions.iter().copied().skip(index).step_by(arguments.connections);
        let mut client = Client::connect(bootstrap)?;
        let starts = list_offsets(&mut client, topic, own.clone(), EARLIEST)?;
        let ends = list_offsets(&mut client, topic, own.clone(), LATEST)?;
        let spans = own.zip(starts.into_iter().zip(ends));
        let spans = spans.map(|(partition, (next, end))| Span { partition, next, end }).collect();
        Reading { client, topic, fetch_bytes, spans, outcome }.run()
    })
}

fn list_offsets(
    client: &mut Client,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
    timestamp: i64,
) -> anyhow::Result<Vec<i64>> {
    let asked: Vec<_> = partitions
        .map(|partition_index| ListOffsetsPartition { partition_index, timestamp, ..ListOffsetsPartition::default() })
        .collect();
    let count = asked.len();
    let topics = vec![ListOffsetsTopic { name: topic, partitions: asked }];
    let request = ListOffsetsRequest { replica_id: -1, isolation_level: 0, topics, timeout_ms: 0 };
    let response = client.call(LIST_OFFSETS_VERSION, &request)?;
    let answers = response.topics.first().map(|topic| &topic.partitions[..]).unwrap_or_default();
    ensure!(answers.len() == count, "offsets of {} partitions, not of {count}", answers.len());
    let mut offsets = Vec::with_capacity(count);
    for answer in answers {
        let error = error_of(answer.error_code)?;
        ensure!(error == ErrorCode::None, "partition {}: {}", answer.partition_index, error.name());
        offsets.push(answer.offset);
    }
    Ok(offsets)
}

/// What is left to read of a partition: `next` inclusive, `end` exclusive.
struct Span {
    partition: i32,
    next: i64,
    end: i64,
}

struct Reading<'a> {
    client: Client,
    topic: &'a str,
    fetch_bytes: i32,
    spans: Vec<Span>,
    outcome: &'a mut Outcome,
}

impl Reading<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        loop {
            self.spans.retain(|span| span.next < span.end);
            if self.spans.is_empty() {
                return Ok(());
            }
            let frame = encode(FETCH_VERSION, &self.request())?;
            let sent = now();
            let correlation_id = self.client.send(&frame)?;
            let response: FetchResponse<'_> = self.client.receive(FETCH_VERSION, correlation_id)?;
            let latency = sent.elapsed();
            let (record_count, bytes) = take(&mut self.spans, &response)?;
            self.outcome.take(latency, record_count, bytes);
            // Whoever stands last is asked for first next time: a broker that fills answers in order starves no one.
            self.spans.rotate_left(1);
        }
    }

    fn request(&self) -> FetchRequest<'_> {
        let partitions = self
            .spans
            .iter()
            .map(|span| FetchPartition {
                partition: span.partition,
                fetch_offset: span.next,
                partition_max_bytes: self.fetch_bytes,
                ..FetchPartition::default()
            })
            .collect();
        FetchRequest {
            max_wait_ms: WAIT_MAX_MS,
            min_bytes: 1,
            max_bytes: self.fetch_bytes,
            topics: vec![FetchTopic { topic: self.topic, partitions, ..FetchTopic::default() }],
            ..FetchRequest::default()
        }
    }
}

/// Moves the spans on by what came, and counts its records and bytes.
fn take(spans: &mut [Span], response: &FetchResponse<'_>) -> anyhow::Result<(u64, u64)> {
    let error = error_of(response.error_code)?;
    ensure!(error == ErrorCode::None, "the request: {}", error.name());
    let (mut record_count, mut bytes) = (0, 0);
    for answer in response.responses.iter().flat_map(|topic| &topic.partitions) {
        let partition = answer.partition_index;
        let error = error_of(answer.error_code)?;
        ensure!(error == ErrorCode::None, "partition {partition}: {}", error.name());
        let span = spans.iter_mut().find(|span| span.partition == partition);
        let span = span.with_context(|| format!("an answer for partition {partition}, which was not asked for"))?;
        let mut rest = answer.records.unwrap_or_default();
        let came_bytes = rest.len();
        while !rest.is_empty() {
            let batch = match BatchView::parse(rest) {
                // A broker may cut its answer at the limit, in the middle of a batch, but not in the first one.
                Err(BatchError::Incomplete { .. }) if rest.len() < came_bytes => break,
                other => other.with_context(|| format!("partition {partition} at offset {}", span.next))?,
            };
            let header = batch.header();
            let (start, end) = (header.base_offset.get(), header.last_offset() + 1);
            let holds_next = start <= span.next && span.next < end;
            ensure!(holds_next, "partition {partition}: offsets {start} to {end} where {} is due", span.next);
            span.next = end;
            record_count += u64::try_from(header.record_count.get())?;
            bytes += u64_of(batch.bytes().len());
            rest = &rest[batch.bytes().len()..];
        }
    }
    Ok((record_count, bytes))
}
