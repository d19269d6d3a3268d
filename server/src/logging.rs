//! The broker's own messages: to standard error, human by default, JSON by option, never blocking a shard.
//!
//! Lines go through a bounded queue to a thread that writes them. When standard error is slower than the broker talks,
//! lines are dropped and counted; a shard never waits for a terminal. Messages of libraries that use `log` (glommio among
//! them) come along by the bridge that `try_init` installs.

use std::fmt::{self, Write as _};
use std::io::IsTerminal as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogConfig, LogFormat};

/// Keeps the writing thread; dropping it writes what is queued.
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Says of a message that it is not worth a line, from the module that it comes from and its text.
pub type IsNoise = fn(target: &str, message: &str) -> bool;

/// Starts logging everything but noise. A second start in one process keeps the first.
pub fn start(config: LogConfig, is_noise: IsNoise) -> LogGuard {
    let (writer, worker) = NonBlockingBuilder::default()
        .buffered_lines_limit(LINE_COUNT_MAX)
        .lossy(true)
        .thread_name("log-writer")
        .finish(std::io::stderr());
    let builder = tracing_subscriber::fmt()
        .with_max_level(config.level)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(writer);
    // An error means that a subscriber is there already, which only tests do.
    let _ = match config.format {
        LogFormat::Human => builder.finish().with(Quiet(is_noise)).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(Quiet(is_noise)).try_init(),
    };
    LogGuard { _worker: worker }
}

/// Keeps noise from everything below it.
struct Quiet(IsNoise);

impl<S: Subscriber> Layer<S> for Quiet {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut text = Text::default();
        event.record(&mut text);
        let target = text.log_target.as_deref().unwrap_or(event.metadata().target());
        !(self.0)(target, &text.message)
    }
}

/// What an event says.
#[derive(Default)]
struct Text {
    message: String,
    /// Where a message of a library that uses `log` comes from: the bridge keeps it in a field.
    log_target: Option<String>,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            write!(self.message, "{value:?}").expect("writing to a String cannot fail");
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => value.clone_into(&mut self.message),
            "log.target" => self.log_target = Some(value.to_owned()),
            _ => {}
        }
    }
}

/// Lines that may wait for the writer.
const LINE_COUNT_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Sends the text of every event that reaches it.
    struct Heard(mpsc::Sender<String>);

    impl<S: Subscriber> Layer<S> for Heard {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut text = Text::default();
            event.record(&mut text);
            self.0.send(text.message).unwrap();
        }
    }

    #[test]
    fn noise_is_dropped_and_nothing_else() {
        let (heard, lines) = mpsc::channel();
        let is_noise: IsNoise = |target, message| target == "library" && message.starts_with("nothing is wrong");
        let subscriber = tracing_subscriber::registry().with(Heard(heard)).with(Quiet(is_noise));
        tracing::subscriber::with_default(subscriber, || {
            tracing::error!(target: "library", "nothing is wrong with {}", "x");
            tracing::error!(target: "library", "something is wrong with {}", "x");
            tracing::error!("nothing is wrong");
            // As the bridge from `log` does it.
            tracing::error!(target: "log", { log.target = "library" }, "nothing is wrong with y");
            tracing::error!(target: "log", { log.target = "other" }, "nothing is wrong with z");
        });
        let lines: Vec<_> = lines.iter().collect();
        assert_eq!(lines, ["something is wrong with x", "nothing is wrong", "nothing is wrong with z"]);
    }
}
