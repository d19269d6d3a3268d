//! What a shard counts of its requests and connections. Plain cells: a shard is one thread.

use std::cell::Cell;
use std::time::Duration;

use millrace_engine::histogram::Histogram;
use millrace_protocol::api_key::ApiKey;

use super::report::ApiReport;

/// The counts of one shard.
#[derive(Debug)]
pub struct Counters {
    /// By the key's code.
    apis: Box<[ApiCounters]>,
    /// Bytes of requests received, lengths included.
    pub received_bytes: Count,
    /// Bytes of answers handed to the system.
    pub sent_bytes: Count,
    /// Connections taken over, ever.
    pub accepted: Count,
    /// Connections closed because of what they sent.
    pub refused: Count,
}

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Count(Cell<u64>);

impl Count {
    /// Counts `count` more.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.set(self.0.get().wrapping_add(count));
    }

    /// Counts so many bytes more.
    #[inline]
    pub fn add_bytes(&self, bytes: usize) {
        self.add(u64::try_from(bytes).expect("64 bits hold any size"));
    }

    /// The count.
    pub fn count(&self) -> u64 {
        self.0.get()
    }
}

#[derive(Debug, Default)]
struct ApiCounters {
    latency: Histogram,
    errors: Count,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            apis: (0..API_CODE_COUNT).map(|_| ApiCounters::default()).collect(),
            received_bytes: Count::default(),
            sent_bytes: Count::default(),
            accepted: Count::default(),
            refused: Count::default(),
        }
    }
}

impl Counters {
    /// A request was answered `time` after it had arrived, with so many codes of errors in the answer.
    #[inline]
    pub fn note_request(&self, api: ApiKey, time: Duration, error_count: u64) {
        let counters = &self.apis[slot(api)];
        counters.latency.record(time);
        counters.errors.add(error_count);
    }

    /// The APIs that were asked for, in the order of their keys.
    pub fn apis(&self) -> Vec<ApiReport> {
        let report = |api: ApiKey| {
            let ApiCounters { latency, errors } = &self.apis[slot(api)];
            ApiReport { api: api.name(), latency: latency.durations(), errors: errors.count() }
        };
        let all = (0..API_CODE_COUNT).filter_map(|code| ApiKey::from_code(i16::try_from(code).ok()?));
        all.map(report).filter(|report| report.latency.count() > 0).collect()
    }
}

fn slot(api: ApiKey) -> usize {
    usize::try_from(api.code()).expect("codes of known keys are small and not negative")
}

/// One more than the largest code of a known key.
const API_CODE_COUNT: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_for_is_reported() {
        let counters = Counters::default();
        assert_eq!(counters.apis(), []);
        counters.note_request(ApiKey::Fetch, Duration::from_millis(5), 0);
        counters.note_request(ApiKey::Produce, Duration::from_millis(1), 2);
        counters.note_request(ApiKey::Produce, Duration::from_millis(1), 0);
        let apis = counters.apis();
        assert_eq!(apis.iter().map(|api| (api.api, api.errors)).collect::<Vec<_>>(), [("Produce", 2), ("Fetch", 0)]);
        assert_eq!((apis[0].latency.count(), apis[0].latency.sum_ns), (2, 2_000_000));
    }

    #[test]
    fn every_known_key_has_its_place() {
        let known = (0..i16::MAX).filter_map(ApiKey::from_code).map(slot);
        assert!(known.max().is_some_and(|largest| largest < API_CODE_COUNT));
    }
}
