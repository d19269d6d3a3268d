//! One consumer: takes what the library has fetched, and the records are checked once a handful of them is there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::{Clock as _, Moment};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::delivery::{is_worth_telling, name_of};
use super::received::{Received, Record};
use super::settings::of_consumer;
use super::{DRAIN_MAX, NAP_MAX, Next, config_of, connect};
use crate::check::Place;
use crate::drive::control::{Control, Window};
use crate::drive::outcome::Outcome;
use crate::drive::plan::{Plan, ReadPlan, ReadSeat};
use crate::measured::Series;
use crate::numbers::{float, u64_of};

/// A consumer of some partitions.
pub(super) struct Reader {
    plan: Arc<Plan>,
    control: Arc<Control>,
    /// Which of the plan's consumers it is a connection of.
    consumer_index: usize,
    consumer: BaseConsumer,
    places: Vec<Place>,
    /// Bytes of keys and values per second.
    throttle: Option<f64>,
    received: Received,
    /// What the library complained of. It may say the same over and over, so the first time is the end.
    failure: Option<String>,
    /// When the library was last asked for a record.
    asked: Moment,
    check_time: Duration,
    over_since: Option<Moment>,
}

/// A record with the index of its partition, and when it was asked for and came.
struct Taken<'a> {
    message: BorrowedMessage<'a>,
    span_index: usize,
    asked: Moment,
    came: Moment,
}

impl Reader {
    /// Connects a consumer for one seat of the plan. To be called on the thread that drives it.
    pub(super) fn open(
        plan: &Arc<Plan>,
        control: &Arc<Control>,
        seat: ReadSeat<'_>,
        throttle: Option<f64>,
    ) -> anyhow::Result<Self> {
        let reading = reading_of(plan);
        let address = seat.leader.address;
        let first = seat.places.first().context("a consumer without partitions")?;
        let mut config = config_of(address, of_consumer(plan.check, reading));
        // The library wants a group. Nobody joins it and nothing is committed.
        config.set("group.id", format!("millbench-{}", plan.run_id));
        let mut consumer: BaseConsumer = config.create().context("making a consumer of librdkafka")?;
        let driver = std::thread::current();
        consumer.set_nonempty_callback(move || driver.unpark());
        connect(consumer.client(), address, &plan.topics[first.topic_index])?;
        Ok(Self {
            consumer_index: seat.consumer,
            consumer,
            throttle,
            received: Received::new(plan, reading, &seat.places),
            places: seat.places,
            failure: None,
            asked: Moment::from_nanos(0),
            check_time: Duration::ZERO,
            over_since: None,
            plan: Arc::clone(plan),
            control: Arc::clone(control),
        })
    }

    /// Has the library fetch from here on.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        let mut assignment = TopicPartitionList::with_capacity(self.places.len());
        for (place, start) in self.received.starts() {
            let topic = &self.plan.topics[place.topic_index];
            assignment.add_partition_offset(topic, place.partition, Offset::Offset(start))?;
        }
        self.asked = GlommioClock::default().now();
        self.consumer.assign(&assignment).context("assigning partitions to a consumer of librdkafka")
    }

    /// Takes what there is, but for what may not be read yet.
    pub(super) fn step(&mut self, window: Window) -> Next {
        let clock = GlommioClock::default();
        let now = clock.now();
        if self.is_done(now) {
            return Next::Done;
        }
        let allowed = self.allowed_at(window);
        if allowed > now {
            return Next::At(allowed.min(now + NAP_MAX));
        }
        let is_empty = self.take(window);
        Next::At(if is_empty { clock.now() + NAP_MAX } else { now })
    }

    fn is_done(&mut self, now: Moment) -> bool {
        let is_over = self.control.is_over(now);
        let follows_senders = reading_of(&self.plan).follows_senders;
        if self.control.has_failed() || self.failure.is_some() || (is_over && !follows_senders) {
            return true;
        }
        if let Some(ends) = self.control.ends() {
            self.received.tell_ends(ends);
        }
        if self.received.is_complete() {
            return true;
        }
        let is_late = is_over && now - *self.over_since.get_or_insert(now) >= DRAIN_MAX;
        if is_late {
            self.received.tell_missing();
        }
        is_late
    }

    /// When what has been read is no more than what may have been.
    fn allowed_at(&self, window: Window) -> Moment {
        let Some(bytes_per_second) = self.throttle else { return window.start };
        let due = Duration::try_from_secs_f64(float(self.received.bytes) / bytes_per_second);
        window.start + due.unwrap_or(Duration::MAX)
    }

    /// Takes some records and checks them. True if there are no more for now.
    fn take(&mut self, window: Window) -> bool {
        let clock = GlommioClock::default();
        let mut taken: Vec<Taken<'_>> = Vec::new();
        let mut nothing_count = 0;
        let mut span_index = 0;
        // The library says "nothing" as well where it had a line of its log to tell: twice is nothing indeed.
        while taken.len() < TAKEN_MAX && nothing_count < 2 {
            let polled = self.consumer.poll(Duration::ZERO);
            let message = match polled {
                None => {
                    nothing_count += 1;
                    continue;
                }
                Some(Err(error)) => {
                    if is_worth_telling(&error) {
                        self.failure = Some(name_of(&error));
                        break;
                    }
                    continue;
                }
                Some(Ok(message)) => message,
            };
            let came = clock.now();
            let topics = &self.plan.topics;
            let is_of =
                |place: &Place| place.partition == message.partition() && topics[place.topic_index] == message.topic();
            // Neighbouring records mostly are of one partition.
            if !self.places.get(span_index).is_some_and(is_of) {
                let found = self.places.iter().position(is_of);
                span_index = found.expect("the library fetches what it was assigned and nothing else");
            }
            taken.push(Taken { message, span_index, asked: self.asked, came });
            self.asked = came;
        }
        let began = clock.now();
        for Taken { message, span_index, asked, came } in &taken {
            let value = message.payload();
            let bytes = u64_of(value.map_or(0, <[u8]>::len) + message.key().map_or(0, <[u8]>::len));
            let record = Record { offset: message.offset(), value, bytes, asked: *asked, came: *came };
            self.received.take(*span_index, &record, &window, &self.control.read);
        }
        self.check_time += clock.now() - began;
        if !taken.is_empty() {
            self.asked = clock.now();
        }
        taken.len() < TAKEN_MAX
    }

    /// Leaves what came in the outcome.
    pub(super) fn finish(self, outcome: &mut Outcome) {
        let (series, findings, ends) = self.received.finish();
        outcome.read.get_or_insert_with(|| Series::new(&series.name)).merge(series);
        outcome.findings.merge(findings);
        if let Some(failure) = &self.failure {
            outcome.findings.push(format!("consumer {}: {failure}", self.consumer_index));
        }
        outcome.consumed.entry(self.consumer_index).or_default().extend(ends);
        outcome.check_time += self.check_time;
    }
}

fn reading_of(plan: &Plan) -> &ReadPlan {
    plan.reading.as_ref().expect("only a plan with consumers has their seats")
}

/// Records that are taken before they are checked and others have their turn.
const TAKEN_MAX: usize = 256;
