//! One producer's connection: one task sends, another takes the answers.
//!
//! Closed loop: a request whenever fewer than `in_flight_max` wait for answers. Open loop: each record has a time at which
//! it is due, and however late it is really sent, its latency counts from there.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use millrace_protocol::batch::ProducerFields;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::produce::PartitionProduceResponse;
use millrace_runtime::local::Event;
use millrace_runtime::{Clock as _, Connection as _, Env, Moment, Net, TaskClass, TaskHandle as _, Tasks as _};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::control::Window;
use super::outcome::Sample;
use super::plan::{SendPlan, SendSeat};
use super::produce_wire::{RequestHead, decode_answer};
use super::shard::Shard;
use crate::check::{AcknowledgedOffsets, Findings, Place};
use crate::client::cluster::error_of;
use crate::client::frames::{FrameReader, correlation_id, send_all};
use crate::measured::{Counts, Series};
use crate::numbers::u64_of;
use crate::workload::batch::{Stamping, Template};
use crate::workload::schedule::Schedule;
use crate::workload::stamp::Stamp;

type ConnectionOf<E> = <<E as Env>::Net as Net>::Connection;

/// A producer before the start.
pub(super) struct Sender<E: Env> {
    both: Rc<Both<E>>,
    outgoing: Outgoing,
}

/// What both tasks use.
struct Both<E: Env> {
    shard: Rc<Shard<E>>,
    connection: ConnectionOf<E>,
    index: usize,
    schedule: Option<Schedule>,
    answers: RefCell<Answers>,
    /// An answer has come, or none will.
    moved: Event,
}

/// What only the sending task uses.
struct Outgoing {
    /// As many as a request has batches, or a few to vary them.
    templates: Vec<Template>,
    template_index: usize,
    /// Of each topic.
    heads: Vec<RequestHead>,
    meta: Vec<u8>,
    correlation_id: i32,
    place_index: usize,
    /// Of each partition: how many records were sent.
    sequences: Vec<u64>,
    producer_id: Option<(i64, i16)>,
}

/// What is in flight, and what has come of it.
struct Answers {
    places: Vec<Place>,
    pending: VecDeque<Pending>,
    offsets: Vec<AcknowledgedOffsets>,
    series: Series,
    samples: Vec<Sample>,
    findings: Findings,
    errors: BTreeMap<&'static str, u64>,
    check_time: Duration,
    is_sending_over: bool,
    is_broken: bool,
}

/// A request without its answer.
struct Pending {
    correlation_id: i32,
    /// Closed loop: when it was sent.
    sent: Moment,
    /// Open loop: its first record.
    first_record: u64,
    /// Of each batch.
    record_count: u32,
    first_place: usize,
    batch_count: usize,
    bytes: u64,
}

impl<E: Env> Sender<E> {
    pub(super) fn new(shard: Rc<Shard<E>>, connection: ConnectionOf<E>, seat: &SendSeat<'_>) -> anyhow::Result<Self> {
        let plan = Rc::clone(&shard).plan.clone();
        let sending = sending_of(&plan);
        let mut places = seat.leader.places.clone();
        places.rotate_left(seat.first_place);
        let mut random = SmallRng::seed_from_u64(plan.seed.wrapping_add(u64_of(seat.index)));
        let mut record_index = seat.index * TEMPLATES_MAX;
        let template_bytes = sending.shape.batch_bytes.max(1) * sending.connection_count;
        let variants = (TEMPLATE_BYTES_MAX / template_bytes).clamp(1, TEMPLATES_MAX);
        let templates = (0..variants.max(sending.batches_per_request))
            .map(|_| Template::draw(&sending.shape, &mut record_index, &mut random))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let heads = plan.topics.iter().map(|topic| RequestHead::new(topic, sending.acks));
        let outgoing = Outgoing {
            templates,
            template_index: 0,
            heads: heads.collect::<anyhow::Result<_>>()?,
            meta: Vec::new(),
            correlation_id: 0,
            place_index: 0,
            sequences: vec![0; places.len()],
            producer_id: sending.producer_ids.get(seat.index).copied(),
        };
        let schedule = sending
            .records_per_second
            .map(|rate| Schedule::of_connection(rate, plan.span.ramp, seat.index, sending.connection_count));
        let answers = Answers {
            offsets: vec![AcknowledgedOffsets::default(); places.len()],
            places,
            pending: VecDeque::new(),
            series: Series::new(&sending.series),
            samples: Vec::new(),
            findings: Findings::default(),
            errors: BTreeMap::new(),
            check_time: Duration::ZERO,
            is_sending_over: false,
            is_broken: false,
        };
        let index = seat.index;
        let answers = RefCell::new(answers);
        let both = Rc::new(Both { shard, connection, index, schedule, answers, moved: Event::default() });
        Ok(Self { both, outgoing })
    }

    /// Sends until the window ends, waits for the answers, and leaves what they say in the shard's outcome.
    pub(super) async fn run(mut self, window: Window) {
        let both = Rc::clone(&self.both);
        let taking = self.both.shard.env.tasks().spawn(TaskClass::Network, async move {
            let taken = both.take_answers(window).await;
            both.answers.borrow_mut().is_broken |= taken.is_err();
            both.moved.notify();
            taken
        });
        let sent = match self.both.schedule {
            Some(schedule) => self.send_open(window, schedule).await,
            None => self.send_closed(window).await,
        };
        self.both.answers.borrow_mut().is_sending_over = true;
        if sent.is_err() {
            self.both.connection.shutdown();
        }
        self.both.all_answered().await;
        self.both.connection.shutdown();
        let taken = taking.join().await;
        self.finish([sent, taken]);
    }

    async fn send_closed(&mut self, window: Window) -> anyhow::Result<()> {
        let (shard, both) = (Rc::clone(&self.both.shard), Rc::clone(&self.both));
        let sending = sending_of(&shard.plan);
        let count = u64_of(sending.connection_count);
        let index = u64_of(both.index);
        let share = |total: u64| total / count + u64::from(index < total % count);
        let mut requests_left = sending.request_count_max.map_or(u64::MAX, share);
        sleep_until(&shard.env, window.start).await;
        while requests_left > 0 && both.room(sending).await {
            let now = shard.env.clock().now();
            if shard.control.is_over(now) {
                break;
            }
            let pending = self.prepare(sending, now, None)?;
            self.send(sending, pending, window).await?;
            requests_left -= 1;
        }
        Ok(())
    }

    async fn send_open(&mut self, window: Window, schedule: Schedule) -> anyhow::Result<()> {
        let (shard, both) = (Rc::clone(&self.both.shard), Rc::clone(&self.both));
        let sending = sending_of(&shard.plan);
        let mut first_record = 0;
        loop {
            let due = window.start + schedule.time_of(first_record);
            let batch_max = u64_of(self.outgoing.templates[self.outgoing.template_index].record_count());
            let batch_max = if sending.linger.is_zero() { 1 } else { batch_max };
            let full = window.start + schedule.time_of(first_record + batch_max - 1);
            if due >= window.measured_to {
                return Ok(());
            }
            let when = full.min(due + sending.linger);
            while shard.env.clock().now() < when {
                if shard.control.is_cut_short() {
                    return Ok(());
                }
                sleep_until(&shard.env, when.min(shard.env.clock().now() + NAP_MAX)).await;
            }
            if !both.room(sending).await || shard.control.is_cut_short() {
                return Ok(());
            }
            let now = shard.env.clock().now();
            let come = schedule.count_due(first_record, now - window.start, batch_max).max(1);
            let pending = self.prepare(sending, now, Some((first_record, come, window.start)))?;
            self.send(sending, pending, window).await?;
            first_record += come;
        }
    }

    /// Makes the batches of the next request and writes what stands around them. `due` tells the records of an open loop:
    /// the first one, how many, and when all began.
    fn prepare(&mut self, sending: &SendPlan, now: Moment, due: Option<(u64, u64, Moment)>) -> anyhow::Result<Pending> {
        let Self { both, outgoing } = self;
        let answers = both.answers.borrow();
        let places = &answers.places;
        let first_place = outgoing.place_index;
        let topic_index = places[first_place].topic_index;
        let same_topic = places[first_place..].iter().take_while(|place| place.topic_index == topic_index);
        let batch_count = if due.is_some() { 1 } else { same_topic.count().min(sending.batches_per_request) };
        if outgoing.template_index + batch_count > outgoing.templates.len() {
            outgoing.template_index = 0;
        }
        let templates = &mut outgoing.templates[outgoing.template_index..][..batch_count];
        let timestamp_ms = both.shard.env.clock().unix_ms();
        let producer = both.shard.plan.producer_of(both.index);
        let mut record_count = 0;
        for (place_index, template) in (first_place..).zip(templates) {
            let count = due.map_or(Ok(template.record_count()), |(_, count, _)| usize::try_from(count))?;
            let count = count.min(template.record_count());
            let first_sequence = outgoing.sequences[place_index];
            let fields = outgoing.producer_id.map(|(id, epoch)| ProducerFields {
                id,
                epoch,
                base_sequence: i32::try_from(first_sequence & SEQUENCE_MASK).expect("the mask leaves 31 bits"),
            });
            let due_at = |record: u64| match (due, both.schedule) {
                (Some((first, _, start)), Some(schedule)) => start + schedule.time_of(first + record),
                _ => now,
            };
            template.make(count, timestamp_ms, fields, |record| Stamp {
                producer,
                sequence: first_sequence + record,
                due_nanos: due_at(record).as_nanos(),
            })?;
            outgoing.sequences[place_index] += u64_of(count);
            record_count = u32::try_from(count)?;
        }
        outgoing.correlation_id = outgoing.correlation_id.wrapping_add(1);
        let correlation_id = outgoing.correlation_id;
        let templates = &outgoing.templates[outgoing.template_index..][..batch_count];
        let partitions = places[first_place..first_place + batch_count].iter().map(|place| place.partition);
        let bytes = outgoing.heads[topic_index].lay_out(&mut outgoing.meta, correlation_id, partitions, templates)?;
        outgoing.place_index = (first_place + batch_count) % places.len();
        let first_record = due.map_or(0, |(first, ..)| first);
        Ok(Pending { correlation_id, sent: now, first_record, record_count, first_place, batch_count, bytes })
    }

    async fn send(&mut self, sending: &SendPlan, pending: Pending, window: Window) -> anyhow::Result<()> {
        let Self { both, outgoing } = self;
        let topic_index = both.answers.borrow().places[pending.first_place].topic_index;
        let templates = &outgoing.templates[outgoing.template_index..][..pending.batch_count];
        let mut pieces = outgoing.heads[topic_index].pieces(&outgoing.meta, templates);
        outgoing.template_index = (outgoing.template_index + pending.batch_count) % outgoing.templates.len();
        if sending.acks == 0 {
            send_all(&both.connection, &mut pieces).await.context("sending")?;
            both.count(&pending, 0, window);
            return Ok(());
        }
        // Noted first: the answer may be here before the sending has returned.
        both.answers.borrow_mut().pending.push_back(pending);
        send_all(&both.connection, &mut pieces).await.context("sending")
    }

    /// Leaves what the connection saw in the shard's outcome.
    fn finish(self, results: [anyhow::Result<()>; 2]) {
        let both = &self.both;
        let mut answers = both.answers.borrow_mut();
        let answers = &mut *answers;
        for error in results.into_iter().filter_map(Result::err) {
            answers.findings.push(format!("producer {}: {error:#}", both.index));
        }
        let unanswered = answers.pending.len();
        if unanswered > 0 {
            answers.findings.push(format!("producer {}: {unanswered} requests were never answered", both.index));
            answers.series.counts.error_count += u64_of(unanswered);
        }
        for (name, count) in &answers.errors {
            answers.findings.push(format!("producer {}: {count} batches were refused with {name}", both.index));
        }
        let plan = &both.shard.plan;
        let mut outcome = both.shard.outcome.borrow_mut();
        let series = std::mem::replace(&mut answers.series, Series::new(""));
        outcome.sent.get_or_insert_with(|| Series::new(&series.name)).merge(series);
        outcome.findings.merge(std::mem::take(&mut answers.findings));
        outcome.samples.append(&mut answers.samples);
        outcome.check_time += answers.check_time;
        if self.outgoing.templates[0].stamping() != Stamping::None {
            let producer = plan.producer_of(both.index);
            let counts = answers.places.iter().zip(&answers.offsets);
            let counts = counts.filter(|(_, offsets)| offsets.record_count > 0);
            outcome.acknowledged.extend(counts.map(|(place, offsets)| ((*place, producer), offsets.record_count)));
        }
    }
}

impl<E: Env> Both<E> {
    /// Waits until another request may be in flight; false if there is no connection any more.
    async fn room(&self, sending: &SendPlan) -> bool {
        loop {
            let version = self.moved.version();
            {
                let answers = self.answers.borrow();
                if answers.is_broken {
                    return false;
                }
                if answers.pending.len() < sending.in_flight_max {
                    return true;
                }
            }
            self.moved.changed(version).await;
        }
    }

    async fn all_answered(&self) {
        loop {
            let version = self.moved.version();
            {
                let answers = self.answers.borrow();
                if answers.is_broken || answers.pending.is_empty() {
                    return;
                }
            }
            self.moved.changed(version).await;
        }
    }

    async fn take_answers(&self, window: Window) -> anyhow::Result<()> {
        let mut frames = FrameReader::new(self.connection.clone(), ANSWER_BUFFER_BYTES);
        loop {
            let Some(frame) = frames.next().await.context("waiting for an answer")? else {
                let answers = self.answers.borrow();
                ensure!(answers.is_sending_over && answers.pending.is_empty(), "the broker closed the connection");
                return Ok(());
            };
            self.take_answer(frame, window)?;
            // All that have come are taken before the sender runs, so that it sends as much at once.
            if !frames.has_frame() {
                self.moved.notify();
            }
        }
    }

    fn take_answer(&self, frame: &[u8], window: Window) -> anyhow::Result<()> {
        let pending = self.answers.borrow_mut().pending.pop_front().context("an answer that nobody waits for")?;
        let id = correlation_id(frame)?;
        ensure!(id == pending.correlation_id, "answer {id} came where {} was due", pending.correlation_id);
        let answer = decode_answer(frame)?;
        let partitions = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let refused_count = partitions.filter(|partition| partition.error_code != 0).count();
        let now = self.count(&pending, refused_count, window);
        let clock = self.shard.env.clock();
        let mut answers = self.answers.borrow_mut();
        let answers = &mut *answers;
        let mut come_count = 0;
        for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
            come_count += 1;
            answers.take_partition(&pending, partition)?;
            if self.sending().keeps_samples && partition.error_code == 0 {
                let due = self.due(&pending, 0, window);
                let sample = Sample {
                    since_start: window.holds(due).then(|| window.place_of(now)),
                    latency: now - due,
                    place: Place {
                        topic_index: answers.places[pending.first_place].topic_index,
                        partition: partition.index,
                    },
                    base_offset: partition.base_offset,
                    bytes: pending.bytes / u64_of(pending.batch_count),
                };
                answers.samples.push(sample);
            }
        }
        ensure!(come_count == pending.batch_count, "an answer for {come_count} batches of {}", pending.batch_count);
        answers.check_time += clock.now() - now;
        Ok(())
    }

    /// Counts a request that has been answered.
    fn count(&self, pending: &Pending, refused_count: usize, window: Window) -> Moment {
        let now = self.shard.env.clock().now();
        let mut answers = self.answers.borrow_mut();
        let accepted_count = u64_of(pending.batch_count.saturating_sub(refused_count));
        let record_count = u64::from(pending.record_count) * accepted_count;
        let counts = Counts {
            request_count: 1,
            record_count,
            bytes: pending.bytes / u64_of(pending.batch_count) * accepted_count,
            error_count: u64_of(refused_count),
        };
        self.shard.control.sent.add(counts);
        if self.schedule.is_none() {
            self.shard.control.sent.time(now - pending.sent);
            if window.holds(now) {
                answers.series.take(window.place_of(now), now - pending.sent, counts);
            }
            return now;
        }
        // Each record counts by its own time; its request and its batch come with the first one.
        let mut counts = Counts { record_count: 1.min(record_count), ..counts };
        for record in 0..u64::from(pending.record_count) {
            let due = self.due(pending, record, window);
            self.shard.control.sent.time(now - due);
            if window.holds(due) {
                answers.series.take(window.place_of(now), now - due, counts);
                counts = Counts { record_count: counts.record_count, ..Counts::default() };
            }
        }
        now
    }

    /// When a record of a request was to be sent.
    fn due(&self, pending: &Pending, record: u64, window: Window) -> Moment {
        match self.schedule {
            Some(schedule) => window.start + schedule.time_of(pending.first_record + record),
            None => pending.sent,
        }
    }

    fn sending(&self) -> &SendPlan {
        sending_of(&self.shard.plan)
    }
}

impl Answers {
    fn take_partition(&mut self, pending: &Pending, partition: &PartitionProduceResponse<'_>) -> anyhow::Result<()> {
        let asked = &self.places[pending.first_place..][..pending.batch_count];
        let Some(found) = asked.iter().position(|place| place.partition == partition.index) else {
            bail!("an answer for partition {}, which was not sent to", partition.index);
        };
        let error = error_of(partition.error_code)?;
        if error != ErrorCode::None {
            *self.errors.entry(error.name()).or_default() += 1;
            return Ok(());
        }
        let offsets = &mut self.offsets[pending.first_place + found];
        if let Err(sentence) = offsets.see(asked[found], partition.base_offset, pending.record_count) {
            self.findings.push(sentence);
        }
        Ok(())
    }
}

fn sending_of(plan: &super::plan::Plan) -> &SendPlan {
    plan.sending.as_ref().expect("only a plan with producers has their connections")
}

async fn sleep_until<E: Env>(env: &E, moment: Moment) {
    let now = env.clock().now();
    if moment > now {
        env.clock().sleep(moment - now).await;
    }
}

/// Batches of one connection, so that not all are the same.
const TEMPLATES_MAX: usize = 8;
/// Of all connections together: few enough to stay in a cache.
const TEMPLATE_BYTES_MAX: usize = 4 * 1024 * 1024;
const ANSWER_BUFFER_BYTES: usize = 4096;
/// Sequences of idempotent producers wrap to 0 behind `i32::MAX`.
const SEQUENCE_MASK: u64 = 0x7FFF_FFFF;
/// How long a sender that waits for a record's time may not hear that the run is over.
const NAP_MAX: Duration = Duration::from_millis(50);
