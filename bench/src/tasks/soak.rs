//! `millbench soak`: many producers and consumers at once, for long: errors, and memory that grows.
//!
//! 1. Producers and consumers for a short time as fast as answers come: that is the capacity of so many of them.
//! 2. The same ones at a share of it, for as long as was asked for, while the broker's memory is looked at every second.
//!
//! Memory has grown by what it is higher in the last quarter than in the second one; the first quarter may fill caches.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Session, mixed};
use crate::client::cluster::pause;
use crate::cpu;
use crate::measured::Measured;
use crate::numbers::float;
use crate::options::{SendOptions, TargetOptions, setting};
use crate::report::figures::per_second;
use crate::workload::quantity::{Rate, parse_duration};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: mixed::Arguments,
    /// How long to find out how much the broker takes
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    probe: Duration,
    /// The share of it that is sent then
    #[arg(long, default_value_t = 0.5)]
    share: f64,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { load, probe, share } = arguments;
    let pid = load.target.broker_pid.context("--broker-pid: whose memory to look at")?;
    ensure!(load.send.rate.is_none(), "--rate: it follows from what the broker takes; see --share");
    ensure!(*share > 0.0 && share.is_finite(), "--share: above 0");
    let capacity = find_capacity(load, *probe, session)?;
    session.note(&format!("{capacity:.0} records/s as fast as answers come"));

    let send = SendOptions { rate: Some(Rate::Records(capacity * share)), ..load.send.clone() };
    let load = mixed::Arguments { target: load.target.clone(), client: load.client, send, read: load.read.clone() };
    let (measured, memory) = watching(pid, || mixed::run(&load, session))?;
    let mut measured = measured?;
    "soak".clone_into(&mut measured.task);
    let errors: u64 = measured.series.iter().map(|series| series.counts.error_count).sum();
    let growth = growth(&memory).map_or_else(|| "unknown".to_owned(), |growth| format!("{:.2} %", growth * 100.0));
    measured.settings.push(setting("share", share.to_string()));
    measured.results.extend([
        setting("capacity", format!("{capacity:.0} records/s")),
        setting(ERRORS, errors.to_string()),
        setting(GROWTH, growth),
    ]);
    Ok(measured)
}

/// Records per second as fast as answers come, in requests of the size that the rate will have.
fn find_capacity(load: &mixed::Arguments, probe: Duration, session: &Session<'_>) -> anyhow::Result<f64> {
    // At a rate without linger each record is a request of its own.
    let batch_bytes = if load.send.linger.is_zero() { 1 } else { load.send.batch_bytes };
    let target = TargetOptions { duration: probe, ..load.target.clone() };
    let send = SendOptions { batch_bytes, ..load.send.clone() };
    let measured =
        mixed::run(&mixed::Arguments { target, client: load.client, send, read: load.read.clone() }, session)?;
    ensure!(measured.findings.is_empty(), "as fast as answers come: {}", measured.findings.join("; "));
    let produced = measured.series.first().context("producers are a series")?;
    per_second(produced.counts.record_count, measured.elapsed)
        .filter(|rate| *rate > 0.0)
        .context("nothing was acknowledged: the broker takes no load of this kind")
}

/// Looks at the memory of a process every second while something is done, in bytes.
fn watching<T>(pid: u32, work: impl FnOnce() -> T) -> anyhow::Result<(T, Vec<u64>)> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| {
            let mut found = Vec::new();
            loop {
                found.push(cpu::resident_bytes(pid)?);
                for _ in 0..LOOKS_PER_SECOND {
                    if is_done.load(Ordering::Relaxed) {
                        return anyhow::Ok(found);
                    }
                    pause(Duration::from_secs(1) / LOOKS_PER_SECOND);
                }
            }
        });
        let done = work();
        is_done.store(true, Ordering::Relaxed);
        let found = looks.join().map_err(|_| anyhow::anyhow!("the thread that looks at memory has panicked"))?;
        Ok((done, found?))
    })
}

/// By what share the median of the last quarter is above that of the second. Pure.
fn growth(samples: &[u64]) -> Option<f64> {
    let quarter = samples.len() / 4;
    let median = |part: &[u64]| {
        let mut sorted = part.to_vec();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).map(|bytes| float(*bytes))
    };
    let before = median(&samples[quarter..2 * quarter]).filter(|bytes| *bytes > 0.0)?;
    Some(median(&samples[samples.len() - quarter..])? / before - 1.0)
}

/// What the results are called.
pub(crate) const ERRORS: &str = "errors";
pub(crate) const GROWTH: &str = "growth of the broker's memory";

/// How soon the thread that looks hears of the end.
const LOOKS_PER_SECOND: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_leaves_out_the_first_quarter() {
        for (last, expected) in [(110, 0.1), (50, -0.5)] {
            let found = growth(&[1, 5, 100, 100, 100, 300, last, last]).unwrap();
            assert!((found - expected).abs() < 1e-9, "{found}");
        }
        assert_eq!(growth(&[1, 2, 3]), None);
    }

    #[test]
    fn memory_is_looked_at_as_long_as_there_is_work() {
        let (done, memory) = watching(std::process::id(), || 7).unwrap();
        assert_eq!(done, 7);
        assert!(memory.iter().all(|bytes| *bytes > 0));
        assert!(watching(u32::MAX, || ()).is_err(), "there is no such process");
    }
}
