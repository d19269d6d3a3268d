//! Ctrl-C: the first asks the run to end and to report what it has, the second ends the process at once.
//!
//! A flag that is looked at between requests. The second signal acts in the handler itself, so that a run that hangs ends
//! too. SIGTERM means the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// Whether a run has been asked to end. Clones are one and the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    asked: Arc<AtomicBool>,
}

impl Stop {
    /// One that signals ask. To be made once in a process, before its threads.
    pub(crate) fn on_signals() -> io::Result<Self> {
        let stop = Self::default();
        for signal in [SIGINT, SIGTERM] {
            // In this order: the first signal must not find the flag that it is about to set.
            flag::register_conditional_shutdown(signal, EXIT_SECOND_SIGNAL, Arc::clone(&stop.asked))?;
            flag::register(signal, Arc::clone(&stop.asked))?;
        }
        Ok(stop)
    }

    /// Asks the run to end, as the first signal does.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
    }

    /// Whether the run should end now.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// What a shell reports for a program that an interrupt ended.
const EXIT_SECOND_SIGNAL: i32 = 130;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use signal_hook::low_level::raise;

    use super::*;

    #[test]
    fn clones_are_asked_together() {
        let stop = Stop::default();
        let clone = stop.clone();
        assert!(!clone.is_asked());
        stop.ask();
        assert!(clone.is_asked());
    }

    /// A signal is for a whole process, so the test runs itself in one of its own, and there takes the other branch.
    #[test]
    fn the_first_signal_asks_and_the_second_ends() {
        for signals in [[SIGINT, SIGINT], [SIGTERM, SIGINT]] {
            let Ok(mode) = std::env::var(MODE) else {
                let name = "stop::tests::the_first_signal_asks_and_the_second_ends";
                let mut command = Command::new(std::env::current_exe().unwrap());
                let status =
                    command.args(["--exact", name]).env(MODE, format!("{}", signals[0])).output().unwrap().status;
                assert_eq!(status.code(), Some(EXIT_SECOND_SIGNAL), "{signals:?}");
                continue;
            };
            let stop = Stop::on_signals().unwrap();
            assert!(!stop.is_asked());
            raise(mode.parse().unwrap()).unwrap();
            assert!(stop.is_asked(), "the first signal came back");
            raise(signals[1]).unwrap();
            unreachable!("the second signal ends the process");
        }
    }

    const MODE: &str = "MILLBENCH_TEST_FIRST_SIGNAL";
}
