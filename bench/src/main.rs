//! `millbench`: measures what a log broker's design depends on, and loads a running broker.
//!
//! Owns only the dispatch. A client program: it knows the wire protocol and the runtime, and holds no part of the broker.
#![forbid(unsafe_code)]

mod check;
mod client;
mod commit_path;
mod cpu;
mod descriptors;
mod drive;
mod measured;
mod numbers;
mod options;
#[cfg_attr(not(test), expect(dead_code, reason = "latencies are shown live next"))]
mod report;
#[cfg_attr(not(test), expect(dead_code, reason = "only tests ask without a signal"))]
mod stop;
mod tasks;
mod workload;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use measured::Measured;
use report::ReportOptions;
use stop::Stop;
use tasks::Session;

/// The broker's. Rounds of several MB are laid out in fresh memory, and what that costs is the allocator's doing.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "millbench", version, about = "Measures Millrace, and any broker that speaks Kafka's protocol")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Compare the ways to make a round of appends durable on the device of a directory.
    CommitPath(commit_path::Arguments),
    /// Send record batches as fast as the broker acknowledges them, or at a rate.
    Produce(Load<tasks::produce::Arguments>),
    /// Read topics from their start to where they end now, or what comes from now on.
    Consume(Load<tasks::consume::Arguments>),
    /// Send records at given times and measure how long each takes until it is acknowledged.
    Latency(Load<tasks::latency::Arguments>),
    /// Send records at given times and measure how long each takes until it is consumed.
    EndToEnd(Load<tasks::mixed::Arguments>),
    /// Send and consume at once.
    Mixed(Load<tasks::mixed::Arguments>),
    /// Open many connections that do next to nothing, and measure what they cost.
    Connections(Load<tasks::connections::Arguments>),
    /// Measure producers with and without a scan of old records beside them.
    ColdRead(Load<tasks::cold_read::Arguments>),
    /// Measure what the change of a partition to its next segment does to latencies.
    Roll(Load<tasks::roll::Arguments>),
    /// Measure the same load on few partitions and on many.
    Partitions(Load<tasks::partitions::Arguments>),
    /// Kill a broker under load, and measure how long it takes to serve again.
    Restart(Load<tasks::restart::Arguments>),
}

/// A subcommand that loads a broker and reports what came of it.
#[derive(clap::Args)]
struct Load<Options: clap::Args> {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    report: ReportOptions,
}

impl<Options: clap::Args> Load<Options> {
    fn run(&self, task: impl Fn(&Options, &Session<'_>) -> anyhow::Result<Measured>) -> anyhow::Result<()> {
        self.report.check()?;
        let stop = Stop::on_signals()?;
        let measured = task(&self.options, &Session { stop: &stop, report: &self.report })?;
        report::write_all(&self.report, &[measured])
    }
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::CommitPath(arguments) => commit_path::run(&arguments),
        Task::Produce(load) => load.run(tasks::produce::run),
        Task::Consume(load) => load.run(tasks::consume::run),
        Task::Latency(load) => load.run(tasks::latency::run),
        Task::EndToEnd(load) => load.run(tasks::mixed::run_end_to_end),
        Task::Mixed(load) => load.run(tasks::mixed::run),
        Task::Connections(load) => load.run(tasks::connections::run),
        Task::ColdRead(load) => load.run(tasks::cold_read::run),
        Task::Roll(load) => load.run(tasks::roll::run),
        Task::Partitions(load) => load.run(tasks::partitions::run),
        Task::Restart(load) => load.run(tasks::restart::run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millbench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
