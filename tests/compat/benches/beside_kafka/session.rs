//! One broker from its start to its end, and everything that is measured on the way.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::Peer;
use crate::load::{self, Records};
use crate::process::Taken;

/// Without clients the broker is left alone this long.
const IDLE: Duration = Duration::from_secs(20);

/// How much is done.
pub(crate) struct Session {
    /// One part in so many of the usual number of records.
    pub(crate) share: u32,
}

/// What a load cost.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// 10^6 bytes of values in a second.
    pub(crate) mb_per_second: f64,
    /// The broker's CPU seconds for 10^9 bytes of values.
    pub(crate) cpu_per_gb: f64,
    /// The broker's CPU seconds for 10^6 records.
    pub(crate) cpu_per_million: f64,
}

/// What was found out about a broker.
pub(crate) struct Found {
    /// From its start until clients may connect, on an empty directory.
    pub(crate) ready_seconds: f64,
    pub(crate) idle_mb: f64,
    /// Percent of one core.
    pub(crate) idle_cpu: f64,
    pub(crate) produce_small_batches: Cost,
    pub(crate) produce_large_batches: Cost,
    pub(crate) produce_small_records: Cost,
    pub(crate) consume_fresh: Cost,
    /// `None` where this user may not empty the page cache.
    pub(crate) consume_cold: Option<Cost>,
    /// The most before the restart that empties caches.
    pub(crate) loaded_mb: f64,
}

impl Session {
    /// Starts a broker and measures it.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub(crate) fn run<P: Peer>(&self, start: impl FnOnce() -> P) -> Found {
        let started = Instant::now();
        let mut peer = start();
        let ready_seconds = started.elapsed().as_secs_f64();
        self.produce(&peer, "warm-up", Records { count: 500_000, bytes: 1024 }, 16_384);

        let idle = Taken::of(peer.process());
        assert!(!peer.process().ends_within(IDLE), "the broker stays");
        let idle_cpu = idle.cpu_seconds() / IDLE.as_secs_f64() * 100.0;
        let idle_mb = idle.resident_mb();

        let large = Records { count: 2_000_000, bytes: 1024 };
        let produce_small_batches = self.produce(&peer, "small-batches", large, 16_384);
        let consume_fresh = self.consume(&peer, "small-batches", large);
        let produce_large_batches = self.produce(&peer, "large-batches", large, 262_144);
        let small = Records { count: 5_000_000, bytes: 100 };
        let produce_small_records = self.produce(&peer, "small-records", small, 16_384);
        let loaded_mb = Taken::of(peer.process()).resident_max_mb();

        peer.restart();
        let consume_cold = empty_page_cache().then(|| self.consume(&peer, "small-batches", large));
        Found {
            ready_seconds,
            idle_mb,
            idle_cpu,
            produce_small_batches,
            produce_large_batches,
            produce_small_records,
            consume_fresh,
            consume_cold,
            loaded_mb,
        }
    }

    fn produce(&self, peer: &impl Peer, topic: &str, records: Records, batch_bytes: u32) -> Cost {
        load::make_topic(peer.address(), topic);
        self.measure(peer, records, |records| load::produce(peer.address(), topic, records, batch_bytes))
    }

    fn consume(&self, peer: &impl Peer, topic: &str, records: Records) -> Cost {
        self.measure(peer, records, |records| load::consume(peer.address(), topic, records))
    }

    /// `load` answers with records in a second.
    fn measure(&self, peer: &impl Peer, records: Records, load: impl FnOnce(Records) -> f64) -> Cost {
        let records = Records { count: records.count / self.share, ..records };
        let taken = Taken::of(peer.process());
        let rate = load(records);
        let cpu = taken.cpu_seconds();
        Cost {
            mb_per_second: rate * f64::from(records.bytes) / 1e6,
            cpu_per_gb: cpu / records.gigabytes(),
            cpu_per_million: cpu / (f64::from(records.count) / 1e6),
        }
    }
}

/// Whether the page cache is empty now: only the superuser may do that.
fn empty_page_cache() -> bool {
    let emptied = Command::new("sync").status().is_ok_and(|status| status.success());
    emptied && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
