//! One consumer's connection: one request at a time, and the next one goes out before what came is checked.
//!
//! Every offset must be there: compacted topics and transactions leave gaps and are not for this program.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{BatchError, BatchHeader, BatchView, Compression, Records};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::frame::encode_request;
use millrace_protocol::header::decode_response_header;
use millrace_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};
use millrace_protocol::wire::{Message as _, Reader as WireReader, Writer};
use millrace_runtime::{Clock as _, Connection as _, Env, Moment, Net};

use super::control::Window;
use super::plan::{Check, Plan, ReadPlan, ReadSeat, Timing};
use super::shard::Shard;
use crate::check::{Findings, Place, Sequences};
use crate::client::cluster::error_of;
use crate::client::control::CLIENT_ID;
use crate::client::frames::{FrameReader, correlation_id, send_all};
use crate::measured::{Counts, Series};
use crate::numbers::{float, u64_of};
use crate::workload::stamp::Stamp;

type ConnectionOf<E> = <<E as Env>::Net as Net>::Connection;

/// The last one without flexible encodings; every broker from 2.4 on has it.
const FETCH_VERSION: i16 = 11;

/// A consumer's connection.
pub(super) struct Reader<E: Env> {
    shard: Rc<Shard<E>>,
    connection: ConnectionOf<E>,
    consumer: usize,
    places: Vec<Place>,
    spans: Vec<Span>,
    request: Writer,
    correlation_id: i32,
    /// Bytes per second of this connection.
    throttle: Option<f64>,
    taken: Taken,
}

/// What is left to read of a partition.
#[derive(Clone, Copy, Debug)]
struct Span {
    place: Place,
    next: i64,
    /// Exclusive, once it is known.
    end: Option<i64>,
}

/// What was read and what was wrong with it.
struct Taken {
    series: Series,
    findings: Findings,
    sequences: Sequences,
    decompressor: Decompressor,
    check_time: Duration,
    /// All bytes of batches so far.
    bytes: u64,
}

/// What one answer held.
#[derive(Default)]
struct Came<'a> {
    counts: Counts,
    /// The batches with their partitions.
    batches: Vec<(Place, &'a [u8])>,
}

/// Bytes per second of each connection, if there is a limit.
pub(super) fn throttles(plan: &Plan) -> Option<f64> {
    let reading = plan.reading.as_ref()?;
    let seat_count: usize = (0..plan.threads).map(|shard_index| plan.read_seats(shard_index).len()).sum();
    Some(reading.bytes_per_second? / float(u64_of(seat_count.max(1))))
}

impl<E: Env> Reader<E> {
    pub(super) fn new(
        shard: Rc<Shard<E>>,
        connection: ConnectionOf<E>,
        seat: ReadSeat<'_>,
        throttle: Option<f64>,
    ) -> Self {
        let reading = reading_of(&shard.plan);
        let spans = spans_of(reading, &seat.places);
        let taken = Taken {
            series: Series::new(&reading.series),
            findings: Findings::default(),
            sequences: Sequences::default(),
            decompressor: Decompressor::new(DECOMPRESSED_BYTES_MAX),
            check_time: Duration::ZERO,
            bytes: 0,
        };
        let request = Writer::new();
        let ReadSeat { consumer, places, .. } = seat;
        Self { connection, consumer, places, spans, request, correlation_id: 0, throttle, taken, shard }
    }

    /// Reads until the window or the logs end, and leaves what came in the shard's outcome.
    pub(super) async fn run(mut self, window: Window) {
        let read = self.read(window).await;
        self.connection.shutdown();
        if let Err(error) = read {
            self.taken.findings.push(format!("consumer {}: {error:#}", self.consumer));
        }
        let mut outcome = self.shard.outcome.borrow_mut();
        let Taken { series, findings, sequences, check_time, .. } = self.taken;
        outcome.read.get_or_insert_with(|| Series::new(&series.name)).merge(series);
        outcome.findings.merge(findings);
        outcome.consumed.entry(self.consumer).or_default().extend(sequences.into_ends());
        outcome.check_time += check_time;
    }

    async fn read(&mut self, window: Window) -> anyhow::Result<()> {
        let (shard, connection) = (Rc::clone(&self.shard), self.connection.clone());
        let reading = reading_of(&shard.plan);
        let buffer_bytes = usize::try_from(reading.fetch_bytes).unwrap_or_default().max(64 * 1024) + 64 * 1024;
        let mut frames = FrameReader::new(connection, buffer_bytes);
        let until_start = window.start - shard.env.clock().now();
        shard.env.clock().sleep(until_start).await;
        let mut sent = shard.env.clock().now();
        let mut is_asked = self.ask(reading, sent).await?;
        while is_asked {
            let frame = frames.next().await.context("waiting for an answer")?;
            let frame = frame.context("the broker closed the connection")?;
            let now = shard.env.clock().now();
            let id = correlation_id(frame)?;
            ensure!(id == self.correlation_id, "answer {id} came where {} was due", self.correlation_id);
            let latency = now - sent;
            let came = self.walk(frame)?;
            shard.control.read.add(came.counts);
            if reading.timing == Timing::Requests && came.counts.bytes > 0 {
                shard.control.read.time(latency);
            }
            self.taken.bytes += came.counts.bytes;
            // A reader that is held back has the time; one that begins anew forgets what it has seen.
            if self.throttle.is_some() || reading.repeats {
                self.taken.check(&shard, &came, now, window);
                self.wait_for_allowance(window).await;
                sent = shard.env.clock().now();
                is_asked = self.ask(reading, sent).await?;
            } else {
                sent = shard.env.clock().now();
                is_asked = self.ask(reading, sent).await?;
                self.taken.check(&shard, &came, now, window);
            }
            self.taken.count(reading, &came, now, latency, window);
        }
        Ok(())
    }

    /// Sends the next request; false if nothing is left to ask for.
    async fn ask(&mut self, reading: &ReadPlan, now: Moment) -> anyhow::Result<bool> {
        let control = &self.shard.control;
        let is_over = control.is_over(now);
        if control.has_failed() || (is_over && !reading.follows_senders) {
            return Ok(false);
        }
        if let Some(ends) = control.ends() {
            for span in &mut self.spans {
                span.end = span.end.or(ends.get(&span.place).copied());
            }
        }
        self.spans.retain(|span| span.end.is_none_or(|end| span.next < end));
        if self.spans.is_empty() && reading.repeats {
            self.spans = spans_of(reading, &self.places);
            self.taken.sequences = Sequences::default();
        }
        if self.spans.is_empty() {
            return Ok(false);
        }
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let request = request_of(reading, &self.shard.plan.topics, &self.spans);
        self.request.clear();
        encode_request(&mut self.request, FETCH_VERSION, self.correlation_id, Some(CLIENT_ID), &request)?;
        send_all(&self.connection, &mut [std::io::IoSlice::new(self.request.bytes())]).await.context("sending")?;
        // Whoever stands last is asked for first next time: a broker that fills answers in order starves no one.
        self.spans.rotate_left(1);
        Ok(true)
    }

    /// Moves the spans on by what came. Looks at headers only.
    fn walk<'f>(&mut self, frame: &'f [u8]) -> anyhow::Result<Came<'f>> {
        let mut reader = WireReader::new(frame);
        decode_response_header(&mut reader, FetchResponse::API_KEY, FETCH_VERSION)?;
        let response = FetchResponse::decode(&mut reader, FETCH_VERSION).context("decoding an answer to Fetch")?;
        let error = error_of(response.error_code)?;
        ensure!(error == ErrorCode::None, "the request: {}", error.name());
        let mut came = Came::default();
        came.counts.request_count = 1;
        let topics = &self.shard.plan.topics;
        for topic in &response.responses {
            let topic_index = topics.iter().position(|name| name == topic.topic);
            let topic_index = topic_index.with_context(|| format!("an answer for topic {}", topic.topic))?;
            for answer in &topic.partitions {
                let place = Place { topic_index, partition: answer.partition_index };
                let error = error_of(answer.error_code)?;
                ensure!(error == ErrorCode::None, "partition {}: {}", place.partition, error.name());
                let span = self.spans.iter_mut().find(|span| span.place == place);
                let span =
                    span.with_context(|| format!("an answer for partition {}, not asked for", place.partition))?;
                walk_records(span, answer.records.unwrap_or_default(), &mut came, &mut self.taken.findings)?;
            }
        }
        Ok(came)
    }

    /// Waits until what was read is no more than what may have been read.
    async fn wait_for_allowance(&self, window: Window) {
        let bytes_per_second = self.throttle.unwrap_or(f64::INFINITY);
        let clock = self.shard.env.clock();
        let due = Duration::try_from_secs_f64(float(self.taken.bytes) / bytes_per_second).unwrap_or(Duration::MAX);
        let due = window.start + due;
        while clock.now() < due && !self.shard.control.is_over(clock.now()) {
            clock.sleep((due - clock.now()).min(NAP_MAX)).await;
        }
    }
}

impl Taken {
    /// Counts what came: the request, or each of its records from when it was due.
    fn count(&mut self, reading: &ReadPlan, came: &Came<'_>, now: Moment, latency: Duration, window: Window) {
        if window.holds(now) && reading.timing == Timing::Requests {
            self.series.take(window.place_of(now), latency, came.counts);
        }
    }

    /// Looks at the batches as closely as was asked for.
    fn check<E: Env>(&mut self, shard: &Shard<E>, came: &Came<'_>, now: Moment, window: Window) {
        let (plan, reading) = (&*shard.plan, reading_of(&shard.plan));
        if plan.check == Check::None && reading.timing == Timing::Requests {
            return;
        }
        let clock = millrace_runtime::glommio::clock::GlommioClock::default();
        let began = clock.now();
        for (place, bytes) in &came.batches {
            if let Err(error) = self.check_batch(shard, *place, bytes, now, window) {
                self.findings.push(format!("partition {}: {error:#}", place.partition));
            }
        }
        self.check_time += clock.now() - began;
    }

    fn check_batch<E: Env>(
        &mut self,
        shard: &Shard<E>,
        place: Place,
        bytes: &[u8],
        now: Moment,
        window: Window,
    ) -> anyhow::Result<()> {
        let (plan, reading) = (&*shard.plan, reading_of(&shard.plan));
        let (header, _) = BatchHeader::parse(bytes)?;
        let base_offset = header.base_offset.get();
        let is_whole = plan.check == Check::Crc;
        if is_whole {
            BatchView::parse(bytes).with_context(|| format!("at offset {base_offset}"))?;
        }
        let is_plain = header.attributes().compression() == Some(Compression::None);
        let every = is_whole || reading.timing == Timing::Records;
        if !is_plain && !every {
            return Ok(());
        }
        let records_bytes = &bytes[millrace_protocol::batch::BATCH_BYTES_MIN..];
        let records_bytes = match header.attributes().compression() {
            Some(compression) => self.decompressor.decompress(compression, records_bytes)?,
            None => records_bytes,
        };
        let record_count = u64::try_from(header.record_count.get())?;
        let mut last: Option<Stamp> = None;
        let limit = if every { usize::MAX } else { 1 };
        for record in Records::new(header, records_bytes).take(limit) {
            let record = record.with_context(|| format!("at offset {base_offset}"))?;
            let Some(stamp) = record.value.and_then(Stamp::parse) else { break };
            if last.is_none() {
                let seen = self.sequences.see(place, stamp.producer, stamp.sequence, record_count, reading.entry);
                seen.map_err(anyhow::Error::msg)?;
            }
            if let Some(last) = last {
                let is_next = stamp.producer == last.producer && stamp.sequence == last.sequence + 1;
                ensure!(is_next, "record {} follows {} at offset {}", stamp.sequence, last.sequence, record.offset);
            }
            let is_ours = stamp.producer >> 32 == u64::from(plan.run_id);
            let due = Moment::from_nanos(stamp.due_nanos);
            if reading.timing == Timing::Records && is_ours {
                shard.control.read.time(now - due);
            }
            if reading.timing == Timing::Records && is_ours && window.holds(due) {
                let first = u64::from(last.is_none());
                let bytes = u64_of(bytes.len()) * first;
                let counts = Counts { request_count: first, record_count: 1, bytes, error_count: 0 };
                self.series.take(window.place_of(now), now - due, counts);
            }
            last = Some(stamp);
        }
        Ok(())
    }
}

fn walk_records<'f>(
    span: &mut Span,
    records: &'f [u8],
    came: &mut Came<'f>,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let partition = span.place.partition;
    let mut rest = records;
    while !rest.is_empty() {
        let (header, batch_bytes) = match BatchHeader::parse(rest) {
            // A broker may cut its answer at the limit, in the middle of a batch, but not in the first one.
            Err(BatchError::Incomplete { .. }) if rest.len() < records.len() => break,
            other => other.with_context(|| format!("partition {partition} at offset {}", span.next))?,
        };
        let (start, end) = (header.base_offset.get(), header.last_offset().saturating_add(1));
        ensure!(end > start, "partition {partition}: a batch from offset {start} to {end}");
        if start > span.next {
            findings.push(format!("partition {partition}: offsets {} to {} are missing", span.next, start - 1));
        }
        if end <= span.next {
            findings.push(format!("partition {partition}: offsets {start} to {} came again", end - 1));
        }
        span.next = span.next.max(end);
        came.counts.record_count += u64::try_from(header.record_count.get())?;
        came.counts.bytes += u64_of(batch_bytes);
        came.batches.push((span.place, &rest[..batch_bytes]));
        rest = &rest[batch_bytes..];
    }
    Ok(())
}

fn request_of<'a>(reading: &ReadPlan, topics: &'a [String], spans: &[Span]) -> FetchRequest<'a> {
    let mut asked: BTreeMap<usize, Vec<FetchPartition>> = BTreeMap::new();
    for span in spans {
        asked.entry(span.place.topic_index).or_default().push(FetchPartition {
            partition: span.place.partition,
            fetch_offset: span.next,
            partition_max_bytes: reading.fetch_bytes,
            ..FetchPartition::default()
        });
    }
    let topic =
        |(index, partitions): (usize, _)| FetchTopic { topic: &topics[index], partitions, ..FetchTopic::default() };
    FetchRequest {
        max_wait_ms: reading.wait_max_ms,
        min_bytes: 1,
        max_bytes: reading.fetch_bytes,
        topics: asked.into_iter().map(topic).collect(),
        ..FetchRequest::default()
    }
}

fn spans_of(reading: &ReadPlan, places: &[Place]) -> Vec<Span> {
    let span = |place: &Place| Span {
        place: *place,
        next: reading.starts.get(place).copied().unwrap_or(0),
        end: reading.ends.as_ref().and_then(|ends| ends.get(place).copied()),
    };
    places.iter().map(span).collect()
}

fn reading_of(plan: &Plan) -> &ReadPlan {
    plan.reading.as_ref().expect("only a plan with consumers has their connections")
}

/// More than any batch that a broker takes stands for.
const DECOMPRESSED_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// How long a reader that waits for its allowance may not hear that the run is over.
const NAP_MAX: Duration = Duration::from_millis(50);
