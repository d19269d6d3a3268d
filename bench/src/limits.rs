//! `millbench limits`: the machine's own floors, in the terms in which a broker is measured.
//!
//! A broker's figure means little without what the same machine does, in the same minutes, with no broker in the way. So
//! each measurement can also run alone for about a second, between the runs of a comparison: see [`sample`].
//!
//! - [`loopback`]: bytes through loopback connections, and the CPU time of either side;
//! - [`echo`]: small requests to a server on the project's own runtime;
//! - [`disk`]: large direct writes, several in flight; [`flush`]: small ones, each made durable before the next;
//! - [`report`]: the tables and the JSON.

mod disk;
mod echo;
mod flush;
mod loopback;
mod on_shard;
mod report;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::numbers::parse_bytes;
use crate::report::print_with_json;

pub(crate) use report::Limits;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Arguments {
    /// A directory on the device to measure. A folder is made in it and removed at the end.
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// How long each measurement takes. Each table row is one.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Half a second for each measurement and a smaller file: a first look.
    #[arg(long, conflicts_with_all = ["seconds", "disk_bytes"])]
    quick: bool,
    /// Measure only these.
    #[arg(long, value_delimiter = ',', default_value = "loopback,echo,disk,flush")]
    only: Vec<Part>,
    /// Over how many loopback connections bytes are sent.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4")]
    connections: Vec<usize>,
    /// How many connections the echo server has.
    #[arg(long, value_delimiter = ',', default_value = "1,200")]
    echo_connections: Vec<usize>,
    /// Requests per second of the open loop; at most half of what the closed loop reached.
    #[arg(long, default_value_t = 10_000)]
    echo_rate: u64,
    /// Size of the file for large writes; K, M and G are powers of 1024.
    #[arg(long, default_value = "2G", value_parser = parse_bytes)]
    disk_bytes: u64,
    /// Write the numbers as JSON to this file; `-` is the standard output, and the tables go to the standard error.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What can be measured alone.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Bytes through loopback connections.
    Loopback,
    /// Small requests to an echo server.
    Echo,
    /// Large direct writes.
    Disk,
    /// Small writes, each made durable.
    Flush,
}

/// What to measure, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct LimitsOptions {
    /// An existing directory on the device to measure. A folder is made in it and removed at the end.
    pub(crate) directory: PathBuf,
    /// What to measure.
    pub(crate) parts: Vec<Part>,
    /// How long each row of the tables is measured. Invariant: above zero.
    pub(crate) duration: Duration,
    /// Loopback connections, one row for each count. Invariant: all above 0.
    pub(crate) connection_counts: Vec<usize>,
    /// Connections of the echo server, one row for each count. Invariant: all above 0.
    pub(crate) echo_connection_counts: Vec<usize>,
    /// Requests per second of the open loop. Invariant: above 0.
    pub(crate) echo_rate: u64,
    /// Size of the file for large writes, cut to whole MiB. Invariant: at least 1 MiB.
    pub(crate) disk_bytes: u64,
}

impl LimitsOptions {
    /// About a second for one part: what is run between two runs of a broker.
    pub(crate) fn sample(directory: &Path, part: Part) -> Self {
        Self {
            directory: directory.to_owned(),
            parts: vec![part],
            // Flushes have twice as many rows as the others.
            duration: Duration::from_millis(if part == Part::Flush { 250 } else { 500 }),
            connection_counts: vec![1, 4],
            echo_connection_counts: vec![1, 200],
            echo_rate: ECHO_RATE,
            disk_bytes: SMALL_DISK_BYTES,
        }
    }

    fn parse(arguments: &Arguments) -> anyhow::Result<Self> {
        let seconds = if arguments.quick { QUICK_SECONDS } else { arguments.seconds };
        let options = Self {
            directory: arguments.directory.clone(),
            parts: arguments.only.clone(),
            duration: Duration::try_from_secs_f64(seconds).context("--seconds")?,
            connection_counts: arguments.connections.clone(),
            echo_connection_counts: arguments.echo_connections.clone(),
            echo_rate: arguments.echo_rate,
            disk_bytes: if arguments.quick { SMALL_DISK_BYTES } else { arguments.disk_bytes },
        };
        ensure!(!options.duration.is_zero(), "--seconds: more than nothing");
        ensure!(options.connection_counts.iter().all(|count| *count > 0), "--connections: at least one");
        ensure!(options.echo_connection_counts.iter().all(|count| *count > 0), "--echo-connections: at least one");
        ensure!(options.echo_rate > 0, "--echo-rate: at least one request a second");
        ensure!(options.disk_bytes >= disk::WRITE_BYTES_WIDE, "--disk-bytes: at least 1M");
        Ok(options)
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let limits = measure(&LimitsOptions::parse(arguments)?)?;
    print_with_json(&limits.tables(), arguments.json.as_deref(), &limits)
}

/// Measures one part for about a second.
pub(crate) fn sample(directory: &Path, part: Part) -> anyhow::Result<Limits> {
    measure(&LimitsOptions::sample(directory, part))
}

/// Measures the parts that were asked for, one after the other. Its files are gone when it returns, errors included.
pub(crate) fn measure(options: &LimitsOptions) -> anyhow::Result<Limits> {
    let mut limits = Limits::default();
    for part in &options.parts {
        match part {
            Part::Loopback => {
                for &count in &options.connection_counts {
                    limits.loopback.push(loopback::measure(count, options.duration).context("loopback")?);
                }
            }
            Part::Echo => {
                for &count in &options.echo_connection_counts {
                    let row = echo::measure(count, options.echo_rate, options.duration);
                    limits.echo.push(row.context("the echo server")?);
                }
            }
            Part::Disk => {
                let (bytes, duration) = (options.disk_bytes, options.duration);
                limits.disk = in_a_folder(&options.directory, |folder| disk::measure(folder, bytes, duration))?;
            }
            Part::Flush => {
                limits.flush = in_a_folder(&options.directory, |folder| flush::measure(folder, options.duration))?;
            }
        }
    }
    Ok(limits)
}

/// Runs `work` with a new folder, and removes the folder whatever comes of it.
fn in_a_folder<T>(directory: &Path, work: impl FnOnce(&Path) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let folder = directory.join(format!("millbench-limits-{}", std::process::id()));
    std::fs::create_dir(&folder).with_context(|| format!("making {}", folder.display()))?;
    let outcome = work(&folder);
    // The measurement's error says more than that of a removal that follows it.
    let removal = std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()));
    let outcome = outcome?;
    removal?;
    Ok(outcome)
}

const ECHO_RATE: u64 = 10_000;
const QUICK_SECONDS: f64 = 0.5;
const SMALL_DISK_BYTES: u64 = 256 << 20;

#[cfg(test)]
mod tests;
