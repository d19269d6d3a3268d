//! How a connection gets on, for whoever looks after the time.

use std::cell::Cell;
use std::time::Duration;

use millrace_runtime::Moment;

/// Where a connection's two tasks are.
#[derive(Debug)]
pub struct Progress {
    /// When bytes last arrived, or the connection last became idle.
    pub received_at: Cell<Moment>,
    /// Whether a request has begun to arrive and its bytes are waited for.
    pub is_in_body: Cell<bool>,
    /// The body for which memory is reserved and that has not all arrived: its size.
    reserved_body: Cell<Option<Passage>>,
    /// When the peer last took bytes that were sent to it.
    pub sent_at: Cell<Moment>,
    /// Whether there are bytes that the peer should take.
    pub is_sending: Cell<bool>,
    /// The answer with records that the peer should take: how much of it was taken.
    sent_records: Cell<Option<Passage>>,
}

/// So many bytes, and since when they are on their way.
#[derive(Clone, Copy, Debug)]
struct Passage {
    since: Moment,
    bytes: usize,
}

impl Passage {
    /// By how much more it takes than `patience` and these bytes at `rate` a second do; `None` when it does not.
    fn late(self, now: Moment, patience: Duration, rate: u32) -> Option<Duration> {
        let bytes = u64::try_from(self.bytes).expect("memory has fewer than 2^64 bytes");
        let allowed = patience + Duration::from_millis(bytes.saturating_mul(1000) / u64::from(rate));
        now.saturating_since(self.since).checked_sub(allowed).filter(|late| !late.is_zero())
    }
}

impl Progress {
    /// A connection that begins at `now`.
    pub fn new(now: Moment) -> Self {
        Self {
            received_at: Cell::new(now),
            is_in_body: Cell::new(false),
            reserved_body: Cell::new(None),
            sent_at: Cell::new(now),
            is_sending: Cell::new(false),
            sent_records: Cell::new(None),
        }
    }

    /// Memory is reserved for a body of which `bytes` are to come.
    pub fn begin_body(&self, now: Moment, bytes: usize) {
        self.received_at.set(now);
        self.is_in_body.set(true);
        self.reserved_body.set(Some(Passage { since: now, bytes }));
    }

    /// A body has arrived, or nothing more comes.
    pub fn end_body(&self) {
        self.is_in_body.set(false);
        self.reserved_body.set(None);
    }

    /// Whether a body takes longer than it may when others wait for its memory.
    pub fn is_body_late(&self, now: Moment) -> bool {
        self.reserved_body.get().is_some_and(|body| body.late(now, BODY_PATIENCE, BODY_RATE_MIN).is_some())
    }

    /// Answers begin to be sent.
    pub fn begin_sending(&self, now: Moment, has_records: bool) {
        self.sent_at.set(now);
        self.is_sending.set(true);
        self.sent_records.set(has_records.then_some(Passage { since: now, bytes: 0 }));
    }

    /// The peer has taken `bytes`.
    pub fn note_sent(&self, now: Moment, bytes: usize) {
        self.sent_at.set(now);
        let more = |sent: Passage| Passage { bytes: sent.bytes.saturating_add(bytes), ..sent };
        self.sent_records.set(self.sent_records.get().map(more));
    }

    /// Everything was taken, or nothing more will be.
    pub fn end_sending(&self) {
        self.is_sending.set(false);
        self.sent_records.set(None);
    }

    /// By how much an answer with records takes longer than it may when others have no room for theirs.
    pub fn sending_late(&self, now: Moment) -> Option<Duration> {
        self.sent_records.get()?.late(now, SEND_PATIENCE, SEND_RATE_MIN)
    }
}

/// How slowly a request may come while others wait for memory: so long,
const BODY_PATIENCE: Duration = Duration::from_secs(2);
/// and besides so long as its bytes take at this rate, in bytes a second.
const BODY_RATE_MIN: u32 = 1 << 20;
/// How slowly an answer may be taken while others have no room: so long,
const SEND_PATIENCE: Duration = Duration::from_secs(3);
/// and besides so long as what was taken takes at this rate, in bytes a second.
const SEND_RATE_MIN: u32 = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::default() + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_body_may_take_as_long_as_its_bytes_do() {
        let progress = Progress::new(at(0));
        assert!(!progress.is_body_late(at(60_000)), "there is none");
        progress.begin_body(at(1_000), 4 << 20);
        assert!(!progress.is_body_late(at(7_000)));
        assert!(progress.is_body_late(at(7_001)));
        progress.end_body();
        assert!(!progress.is_body_late(at(60_000)));
    }

    #[test]
    fn an_answer_may_take_as_long_as_what_was_taken_did() {
        let progress = Progress::new(at(0));
        progress.begin_sending(at(0), false);
        assert_eq!(progress.sending_late(at(60_000)), None, "it holds no records");
        progress.begin_sending(at(0), true);
        assert_eq!(progress.sending_late(at(3_000)), None);
        assert_eq!(progress.sending_late(at(3_500)), Some(Duration::from_millis(500)));
        progress.note_sent(at(3_500), 256 << 10);
        assert_eq!(progress.sending_late(at(4_000)), None);
        assert_eq!(progress.sending_late(at(4_001)), Some(Duration::from_millis(1)));
        progress.end_sending();
        assert_eq!(progress.sending_late(at(60_000)), None);
    }
}
