//! Time from the operating system. All shards of a process count from one origin.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{Clock, Moment};

/// The clock of every shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct GlommioClock {}

impl Clock for GlommioClock {
    fn now(&self) -> Moment {
        now()
    }

    #[expect(clippy::disallowed_methods, reason = "this is the clock that the rest is told to use")]
    fn unix_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since_epoch) => i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX),
            // A clock set to before 1970.
            Err(error) => i64::try_from(error.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        // glommio adds the duration to the current instant, which panics on overflow.
        ::glommio::timer::sleep(duration.min(SLEEP_MAX))
    }
}

/// The current moment, also for threads that are not shards.
#[expect(clippy::disallowed_methods, reason = "this is the clock that the rest is told to use")]
pub(super) fn now() -> Moment {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    let since_origin = ORIGIN.get_or_init(Instant::now).elapsed();
    Moment::from_nanos(u64::try_from(since_origin.as_nanos()).unwrap_or(u64::MAX))
}

/// Longer sleeps end here: a hundred years.
const SLEEP_MAX: Duration = Duration::from_hours(100 * 365 * 24);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_share_one_origin() {
        let before = now();
        let between = std::thread::scope(|scope| scope.spawn(now).join().unwrap());
        assert!(before <= between);
        assert!(between <= now());
    }

    #[test]
    fn wall_time_is_after_this_was_written() {
        assert!(GlommioClock::default().unix_ms() > 1_700_000_000_000);
    }
}
