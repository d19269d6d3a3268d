//! What becomes of the records of one producer: counted on the thread on which the library tells it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "the library's callbacks come on a thread of their own")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::{Clock as _, Moment};
use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;

use crate::check::{AcknowledgedOffsets, Findings, Place};
use crate::drive::control::Control;
use crate::measured::{Counts, Series};

/// A record without its delivery report.
pub(super) struct Pending {
    /// Open loop: when it was to be sent. Closed loop: when it was.
    pub(super) due: Moment,
    /// Which of the producer's partitions it is for.
    pub(super) place_index: usize,
    /// Of key and value.
    pub(super) bytes: u64,
}

/// Takes one producer's delivery reports.
pub(super) struct Deliveries {
    control: Arc<Control>,
    places: Vec<Place>,
    /// Whether a record counts if it was due in the window, and not if its report came in it.
    is_open_loop: bool,
    /// Without it no offset comes back.
    is_acknowledged: bool,
    /// Who hands the producer its records.
    driver: Thread,
    /// Records without their reports.
    outstanding: AtomicU64,
    /// The driver is woken when fewer than this are outstanding; 0 if it need not be.
    wake_below: AtomicU64,
    #[expect(
        clippy::disallowed_types,
        reason = "held by the library's thread during the run, and by the driver at its end"
    )]
    seen: Mutex<Option<Seen>>,
}

/// What the reports said.
pub(super) struct Seen {
    pub(super) series: Series,
    /// Of each partition.
    pub(super) offsets: Vec<AcknowledgedOffsets>,
    pub(super) findings: Findings,
    /// What records were refused with, and how many of them.
    pub(super) refusals: BTreeMap<String, u64>,
    /// What the library complained of besides. It may say the same over and over.
    pub(super) errors: BTreeSet<String>,
}

impl Deliveries {
    #[expect(clippy::disallowed_types, reason = "as for the field")]
    pub(super) fn new(
        control: &Arc<Control>,
        series: &str,
        places: Vec<Place>,
        is_open_loop: bool,
        is_acknowledged: bool,
    ) -> Self {
        let seen = Seen {
            series: Series::new(series),
            offsets: vec![AcknowledgedOffsets::default(); places.len()],
            findings: Findings::default(),
            refusals: BTreeMap::new(),
            errors: BTreeSet::new(),
        };
        Self {
            control: Arc::clone(control),
            places,
            is_open_loop,
            is_acknowledged,
            driver: std::thread::current(),
            outstanding: AtomicU64::new(0),
            wake_below: AtomicU64::new(0),
            seen: Mutex::new(Some(seen)),
        }
    }

    /// A record is about to be sent.
    pub(super) fn expect_one(&self) {
        self.outstanding.fetch_add(1, Ordering::SeqCst);
    }

    /// It could not be: there will be no report.
    pub(super) fn expect_one_less(&self) {
        self.outstanding.fetch_sub(1, Ordering::SeqCst);
    }

    /// How many records have no report yet.
    pub(super) fn outstanding(&self) -> u64 {
        self.outstanding.load(Ordering::SeqCst)
    }

    /// Has the driver woken once fewer than `count` are outstanding. False if that is so already.
    pub(super) fn wake_below(&self, count: u64) -> bool {
        self.wake_below.store(count, Ordering::SeqCst);
        self.outstanding() >= count
    }

    /// What the reports said. Later ones are not heard any more.
    pub(super) fn take(&self) -> Seen {
        let mut seen = self.seen.lock().expect("nobody panics while holding it");
        seen.take().expect("a producer finishes once")
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        if !is_worth_telling(&error) {
            return;
        }
        let mut seen = self.seen.lock().expect("nobody panics while holding it");
        if let Some(seen) = &mut *seen {
            seen.errors.insert(format!("{error}: {reason}"));
        }
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Pending>;

    fn delivery(&self, result: &DeliveryResult<'_>, pending: Box<Pending>) {
        let now = GlommioClock::default().now();
        if let Some(seen) = &mut *self.seen.lock().expect("nobody panics while holding it") {
            let offset = match result {
                Ok(message) => Ok(message.offset()),
                Err((error, _)) => Err(error),
            };
            self.count(seen, offset, &pending, now);
        }
        let left = self.outstanding.fetch_sub(1, Ordering::SeqCst) - 1;
        if left < self.wake_below.load(Ordering::SeqCst) {
            self.wake_below.store(0, Ordering::SeqCst);
            self.driver.unpark();
        }
    }
}

impl Deliveries {
    fn count(&self, seen: &mut Seen, offset: Result<i64, &KafkaError>, pending: &Pending, now: Moment) {
        let window = self.control.window().expect("records are sent once the run has begun");
        let counts = match offset {
            Ok(_) => Counts { request_count: 1, record_count: 1, bytes: pending.bytes, error_count: 0 },
            Err(_) => Counts { request_count: 1, error_count: 1, ..Counts::default() },
        };
        match offset {
            Ok(offset) if self.is_acknowledged => {
                let told = seen.offsets[pending.place_index].see(self.places[pending.place_index], offset, 1);
                if let Err(sentence) = told {
                    seen.findings.push(sentence);
                }
            }
            Ok(_) => {}
            Err(error) => *seen.refusals.entry(name_of(error)).or_default() += 1,
        }
        self.control.sent.add(counts);
        self.control.sent.time(now - pending.due);
        let counted = if self.is_open_loop { pending.due } else { now };
        if window.holds(counted) {
            seen.series.take(window.place_of(now), now - pending.due, counts);
        }
    }
}

/// Whether an error that the library tells of is more than a connection that it makes anew.
pub(super) fn is_worth_telling(error: &KafkaError) -> bool {
    !matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::Resolve))
}

/// What the library calls an error.
pub(super) fn name_of(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}
