//! Load for a running broker: `millbench produce` and `millbench consume`.
//!
//! One thread per connection, blocking sockets, requests put together beforehand, so that the client takes as little of
//! the machine as it can. Speaks fixed versions that every broker of the last years has, and asks for no others.
//!
//! Every connection goes to the bootstrap address: a partition led by another broker is an error, not a redirect.

mod client;
pub(crate) mod consume;
pub(crate) mod produce;
mod topic;

use std::time::{Duration, Instant};

use anyhow::{anyhow, ensure};
use hdrhistogram::Histogram;

use crate::cpu;
use crate::numbers::{float, histogram, quantile_ms, record, seconds_per_gb};

/// What a connection achieved before it ended.
pub(super) struct Outcome {
    latency: Histogram<u64>,
    request_count: u64,
    record_count: u64,
    /// Bytes of record batches.
    bytes: u64,
    /// Why connections ended early.
    errors: Vec<anyhow::Error>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { latency: histogram(), request_count: 0, record_count: 0, bytes: 0, errors: Vec::new() }
    }
}

impl Outcome {
    fn take(&mut self, latency: Duration, record_count: u64, bytes: u64) {
        record(&mut self.latency, latency);
        self.request_count += 1;
        self.record_count += record_count;
        self.bytes += bytes;
    }

    fn merge(&mut self, other: Self) {
        self.latency.add(other.latency).expect("all histograms have the same bounds");
        self.request_count += other.request_count;
        self.record_count += other.record_count;
        self.bytes += other.bytes;
        self.errors.extend(other.errors);
    }
}

/// Runs `work` once per connection, each on a thread of its own, and prints what they achieved together.
fn run_connections(
    connection_count: usize,
    broker_pid: Option<u32>,
    work: impl Fn(usize, &mut Outcome) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    ensure!(connection_count > 0, "at least one connection");
    let cpu_before = broker_pid.map(cpu::of_process).transpose()?;
    let start = now();
    let mut total = Outcome::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connection_count)
            .map(|index| {
                let work = &work;
                scope.spawn(move || {
                    let mut outcome = Outcome::default();
                    let result = work(index, &mut outcome);
                    outcome.errors.extend(result.err());
                    outcome
                })
            })
            .collect();
        for thread in threads {
            let lost = || Outcome { errors: vec![anyhow!("the thread panicked")], ..Outcome::default() };
            total.merge(thread.join().unwrap_or_else(|_| lost()));
        }
    });
    let elapsed = start.elapsed();
    let cpu_after = broker_pid.map(cpu::of_process).transpose()?;
    print(&total, elapsed, cpu_after.zip(cpu_before).map(|(after, before)| after.saturating_sub(before)));
    for error in &total.errors {
        eprintln!("a connection ended early: {error:#}");
    }
    ensure!(total.errors.is_empty(), "{} of {connection_count} connections failed", total.errors.len());
    Ok(())
}

fn print(total: &Outcome, elapsed: Duration, broker_cpu: Option<Duration>) {
    let seconds = elapsed.as_secs_f64();
    let bytes = float(total.bytes);
    println!("{} bytes, {} records, {} requests", total.bytes, total.record_count, total.request_count);
    println!("{seconds:.3} s, {:.1} MB/s", bytes / 1e6 / seconds);
    let (p50, p99) = (quantile_ms(&total.latency, 0.5), quantile_ms(&total.latency, 0.99));
    println!("latency of a request: p50 {p50:.3} ms, p99 {p99:.3} ms");
    if let Some(cpu) = broker_cpu.filter(|_| total.bytes > 0) {
        println!("broker: {:.2} CPU s, {:.3} CPU s/GB", cpu.as_secs_f64(), seconds_per_gb(cpu, total.bytes));
    }
}

#[expect(clippy::disallowed_methods, reason = "a client program outside the simulator")]
fn now() -> Instant {
    Instant::now()
}
