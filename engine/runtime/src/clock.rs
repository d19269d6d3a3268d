//! Time: monotonic moments for durations, wall time for record timestamps, and timers.
//!
//! Nothing above this crate asks the operating system for the time; the simulator owns it in tests.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A point on a shard's monotonic clock, in nanoseconds since an origin that differs from run to run.
///
/// Moments of different shards of one process share their origin and may be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(u64);

impl Moment {
    /// The moment `nanoseconds` after the origin.
    pub const fn from_nanos(nanoseconds: u64) -> Self {
        Self(nanoseconds)
    }

    /// Nanoseconds since the origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time elapsed since `earlier`; zero when `earlier` is in fact later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    /// The moment `duration` later; saturates at the end of time.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

/// A shard's clock and timers.
pub trait Clock: Clone + 'static {
    /// The current moment of the monotonic clock.
    fn now(&self) -> Moment;

    /// Milliseconds since the Unix epoch; may jump.
    fn unix_ms(&self) -> i64;

    /// Completes once `duration` has passed. Dropping the future cancels the timer.
    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static;
}
