//! SIGTERM and SIGINT: the first asks for a clean stop, the second ends the process at once.
//!
//! A thread of its own waits for signals, so that a shard that hangs cannot keep the second one from working. It knows
//! nothing of the broker: what a stop means is in the callback.

use std::io;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Calls `on_stop` with the signal's name at the first SIGTERM or SIGINT; exits with [`EXIT_SECOND_SIGNAL`] at the second.
pub fn watch(on_stop: impl FnOnce(&'static str) + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        let mut on_stop = Some(on_stop);
        for signal in signals.forever() {
            match on_stop.take() {
                Some(on_stop) => on_stop(if signal == SIGTERM { "SIGTERM" } else { "SIGINT" }),
                None => std::process::exit(EXIT_SECOND_SIGNAL),
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(())
}

/// What a shell reports for a program that an interrupt ended.
pub const EXIT_SECOND_SIGNAL: i32 = 130;
