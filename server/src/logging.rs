//! The broker's own messages: to standard error, human by default, JSON by option, never blocking a shard.
//!
//! Lines go through a bounded queue to a thread that writes them. When standard error is slower than the broker talks,
//! lines are dropped and counted; a shard never waits for a terminal. Messages of libraries that use `log` (glommio among
//! them) come along by the bridge that `try_init` installs.

use std::io::IsTerminal as _;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};

use crate::config::{LogConfig, LogFormat};

/// Keeps the writing thread; dropping it writes what is queued.
pub struct LogGuard {
    _worker: WorkerGuard,
}

/// Starts logging. A second start in one process keeps the first.
pub fn start(config: LogConfig) -> LogGuard {
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
        LogFormat::Human => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    LogGuard { _worker: worker }
}

/// Lines that may wait for the writer.
const LINE_COUNT_MAX: usize = 16 * 1024;
