//! One producer: hands the library its records, in a closed loop or when they are due.
//!
//! Closed loop: a record whenever fewer than some full batches are without their reports. Open loop: each record has a time
//! at which it is due, and however late the library takes it, its latency counts from there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::{Clock as _, Moment};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode;

use super::delivery::{Deliveries, Pending, name_of};
use super::pool::Pool;
use super::settings::{batch_records_max, of_producer, outstanding_max};
use super::turn::{Turn, Turns};
use super::{DRAIN_MAX, NAP_MAX, Next, config_of, connect};
use crate::check::Place;
use crate::drive::control::{Control, Window};
use crate::drive::outcome::Outcome;
use crate::drive::plan::{Plan, SendPlan, SendSeat};
use crate::measured::Series;
use crate::numbers::u64_of;
use crate::workload::schedule::Schedule;
use crate::workload::stamp::Stamp;

/// A producer and the thread on which its reports come.
pub(super) struct Sender {
    plan: Arc<Plan>,
    control: Arc<Control>,
    index: usize,
    places: Vec<Place>,
    producer: Arc<BaseProducer<Deliveries>>,
    poller: Option<JoinHandle<()>>,
    is_polled: Arc<AtomicBool>,
    pool: Pool,
    schedule: Option<Schedule>,
    turns: Turns,
    turn: Option<Turn>,
    /// Of each partition: how many records were sent.
    sequences: Vec<u64>,
    /// Of all partitions.
    sent_count: u64,
    /// Closed loop: how many there will be.
    sent_count_max: u64,
    /// Closed loop: how many may be without their reports.
    outstanding_max: u64,
    is_sending_over: bool,
    /// Why it sends no more, if that is not the end of the run.
    failure: Option<String>,
    over_since: Option<Moment>,
}

impl Sender {
    /// Connects a producer for one seat of the plan. To be called on the thread that drives it.
    pub(super) fn open(plan: &Arc<Plan>, control: &Arc<Control>, seat: &SendSeat<'_>) -> anyhow::Result<Self> {
        let sending = sending_of(plan);
        let mut places = seat.leader.places.clone();
        places.rotate_left(seat.first_place);
        let schedule = sending
            .records_per_second
            .map(|rate| Schedule::of_connection(rate, plan.span.ramp, seat.index, sending.connection_count));
        let deliveries =
            Deliveries::new(control, &sending.series, places.clone(), schedule.is_some(), sending.acks != 0);
        let address = seat.leader.address;
        let config = config_of(address, of_producer(sending));
        let producer: BaseProducer<Deliveries> =
            config.create_with_context(deliveries).context("making a producer of librdkafka")?;
        connect(producer.client(), address, &plan.topics[places[0].topic_index])?;

        let batch_records = batch_records_max(sending);
        let (count, index) = (u64_of(sending.connection_count), u64_of(seat.index));
        let share = |total: u64| total / count + u64::from(index < total % count);
        Ok(Self {
            index: seat.index,
            producer: Arc::new(producer),
            poller: None,
            is_polled: Arc::new(AtomicBool::new(true)),
            pool: Pool::draw(sending, batch_records, plan.seed.wrapping_add(index), seat.index * LINES_APART),
            turns: Turns {
                place_count: places.len(),
                record_count_max: batch_records,
                span_max: schedule.map(|_| sending.linger),
            },
            schedule,
            turn: None,
            sequences: vec![0; places.len()],
            places,
            sent_count: 0,
            sent_count_max: sending.request_count_max.map_or(u64::MAX, |total| share(total) * batch_records),
            outstanding_max: outstanding_max(sending),
            is_sending_over: false,
            failure: None,
            over_since: None,
            plan: Arc::clone(plan),
            control: Arc::clone(control),
        })
    }

    /// Starts the thread on which reports come.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        let (producer, is_polled) = (Arc::clone(&self.producer), Arc::clone(&self.is_polled));
        let builder = thread::Builder::new().name(format!("reports-{}", self.index));
        let poll = move || {
            while is_polled.load(Ordering::Relaxed) {
                producer.poll(POLL_MAX);
            }
        };
        self.poller = Some(builder.spawn(poll).context("starting a thread for delivery reports")?);
        Ok(())
    }

    /// Sends what is due, or what there is room for.
    pub(super) fn step(&mut self, window: Window) -> Next {
        if !self.is_sending_over {
            let waits = match self.schedule {
                Some(schedule) => self.send_due(window, schedule),
                None => self.send_freely(),
            };
            if let Some(moment) = waits {
                return Next::At(moment);
            }
            self.is_sending_over = true;
        }
        let now = GlommioClock::default().now();
        let is_late = now - *self.over_since.get_or_insert(now) >= DRAIN_MAX;
        if is_late || self.control.has_failed() || !self.producer.context().wake_below(1) {
            return Next::Done;
        }
        Next::At(now + NAP_MAX)
    }

    /// Closed loop. Gives the moment at which there may be room again, or nothing once all is sent.
    fn send_freely(&mut self) -> Option<Moment> {
        let clock = GlommioClock::default();
        for _ in 0..BURST_MAX {
            let now = clock.now();
            if self.sent_count == self.sent_count_max || self.control.is_over(now) {
                return None;
            }
            let context = self.producer.context();
            if context.outstanding() >= self.outstanding_max {
                // Not for a single record: a full batch of them.
                let room_at = self.outstanding_max.saturating_sub(self.turns.record_count_max);
                if context.wake_below(room_at + 1) {
                    return Some(now + NAP_MAX);
                }
            }
            match self.send(now) {
                Sent::Taken => {}
                Sent::Full => return Some(self.when_there_is_room(now)),
                Sent::Failed => return None,
            }
        }
        Some(clock.now())
    }

    /// Open loop. Gives the moment at which the next record is due, or nothing once all is sent.
    fn send_due(&mut self, window: Window, schedule: Schedule) -> Option<Moment> {
        let clock = GlommioClock::default();
        for _ in 0..BURST_MAX {
            let due = window.start + schedule.time_of(self.sent_count);
            if due >= window.measured_to || self.control.is_cut_short() {
                return None;
            }
            let now = clock.now();
            if now < due {
                return Some(due);
            }
            match self.send(due) {
                Sent::Taken => {}
                Sent::Full => return Some(self.when_there_is_room(now)),
                Sent::Failed => return None,
            }
        }
        Some(clock.now())
    }

    /// Hands the library the next record, which is or was due at `due`.
    fn send(&mut self, due: Moment) -> Sent {
        let turn = self.turn.map_or(Turn::first(due), |turn| turn.next(due, &self.turns));
        let place_index = turn.place_index;
        let place = self.places[place_index];
        let drawn = self.pool.stamped(Stamp {
            producer: self.plan.producer_of(self.index),
            sequence: self.sequences[place_index],
            due_nanos: due.as_nanos(),
        });
        let pending = Box::new(Pending { due, place_index, bytes: drawn.bytes() });
        let mut record: BaseRecord<'_, [u8], [u8], Box<Pending>> =
            BaseRecord::with_opaque_to(&self.plan.topics[place.topic_index], pending)
                .partition(place.partition)
                .payload(&drawn.value);
        record.key = drawn.key.as_deref();
        // Noted first: the report may be here before the sending has returned.
        let context = self.producer.context();
        context.expect_one();
        let sent = self.producer.send(record).map_err(|(error, _)| error);
        if let Err(error) = sent {
            context.expect_one_less();
            if matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Sent::Full;
            }
            self.failure = Some(name_of(&error));
            return Sent::Failed;
        }
        self.pool.advance();
        self.turn = Some(turn);
        self.sequences[place_index] += 1;
        self.sent_count += 1;
        Sent::Taken
    }

    /// The library's queue is full: the next report makes room.
    fn when_there_is_room(&self, now: Moment) -> Moment {
        self.producer.context().wake_below(u64::MAX);
        now + NAP_MAX
    }

    /// Leaves what the reports said in the outcome, and lets the library go.
    pub(super) fn finish(self, outcome: &mut Outcome) -> Option<JoinHandle<()>> {
        let context = self.producer.context();
        let unanswered = context.outstanding();
        let mut seen = context.take();
        self.is_polled.store(false, Ordering::Relaxed);
        let index = self.index;
        if unanswered > 0 {
            seen.findings.push(format!("producer {index}: {unanswered} records were never answered"));
            seen.series.counts.error_count += unanswered;
        }
        if let Some(failure) = &self.failure {
            seen.findings.push(format!("producer {index}: librdkafka takes no more records: {failure}"));
        }
        for (name, count) in &seen.refusals {
            seen.findings.push(format!("producer {index}: {count} records were refused with {name}"));
        }
        for error in &seen.errors {
            seen.findings.push(format!("producer {index}: {error}"));
        }
        outcome.sent.get_or_insert_with(|| Series::new(&seen.series.name)).merge(seen.series);
        outcome.findings.merge(seen.findings);
        if self.pool.is_stamped() {
            let producer = self.plan.producer_of(index);
            let counts = self.places.iter().zip(&seen.offsets);
            let counts = counts.filter(|(_, offsets)| offsets.record_count > 0);
            outcome.acknowledged.extend(counts.map(|(place, offsets)| ((*place, producer), offsets.record_count)));
        }
        self.poller
    }
}

/// What the library said to a record.
enum Sent {
    Taken,
    /// Its queue is full.
    Full,
    /// It takes no more, and [`Sender::failure`] says why.
    Failed,
}

fn sending_of(plan: &Plan) -> &SendPlan {
    plan.sending.as_ref().expect("only a plan with producers has their seats")
}

/// How long reports may not hear that the run is over.
const POLL_MAX: Duration = Duration::from_millis(100);
/// Records of one producer after which others have their turn.
const BURST_MAX: usize = 1000;
/// Of a file, producers begin at lines so far from each other.
const LINES_APART: usize = 8;
