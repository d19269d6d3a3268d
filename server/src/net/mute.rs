//! For how long a connection is not listened to.

use std::cell::Cell;
use std::time::Duration;

use millrace_runtime::{Clock, Moment};

/// The mute of one connection. Off at first.
#[derive(Debug, Default)]
pub(super) struct Mute {
    /// When it ends; `None` while it is off.
    until: Cell<Option<Moment>>,
}

impl Mute {
    /// Whether it is on. It stays on until it is lifted, so that both tasks of a connection see it end together.
    pub(super) fn is_on(&self) -> bool {
        self.until.get().is_some()
    }

    /// Makes it last until `time` from now, at least. No time changes nothing.
    pub(super) fn extend(&self, now: Moment, time: Duration) {
        if !time.is_zero() {
            let until = now + time;
            self.until.set(Some(self.until.get().map_or(until, |known| known.max(until))));
        }
    }

    /// Switches it off.
    pub(super) fn lift(&self) {
        self.until.set(None);
    }

    /// Completes when its time has come. It is still on then.
    pub(super) async fn over(&self, clock: &impl Clock) {
        while let Some(until) = self.until.get() {
            let left = until.saturating_since(clock.now());
            if left.is_zero() {
                return;
            }
            clock.sleep(left).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_runtime::Env;
    use millrace_runtime::sim::{World, WorldConfig};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_lasts_as_long_as_the_longest_answer_said() {
        let world = World::new(0, WorldConfig::default());
        let env = world.env(0);
        world.run(async {
            let (mute, start) = (Mute::default(), env.clock().now());
            mute.over(env.clock()).await;
            mute.extend(start, Duration::ZERO);
            assert!(!mute.is_on());

            mute.extend(start, 2 * SECOND);
            mute.extend(start, SECOND);
            mute.over(env.clock()).await;
            assert!(mute.is_on(), "until somebody lifts it");
            let waited = env.clock().now().saturating_since(start);
            assert!(waited >= 2 * SECOND && waited < 3 * SECOND, "{waited:?}");
            mute.lift();
            assert!(!mute.is_on());
        });
    }
}
