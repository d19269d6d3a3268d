//! The subcommands that load a broker. Each turns its options into plans, has them driven, and hands over what came of it.

pub(crate) mod capacity;
pub(crate) mod cold_read;
pub(crate) mod connections;
pub(crate) mod consume;
pub(crate) mod latency;
pub(crate) mod mixed;
pub(crate) mod partitions;
pub(crate) mod produce;
pub(crate) mod restart;
pub(crate) mod roll;
pub(crate) mod shards;
pub(crate) mod soak;

use anyhow::Context as _;
use clap::{Parser as _, Subcommand};

use crate::drive;
use crate::drive::Outcome;
use crate::drive::plan::Plan;
use crate::measured::{Measured, Series};
use crate::options::{TargetOptions, setting};
use crate::report::ReportOptions;
use crate::stop::Stop;

/// A subcommand that loads a broker.
#[derive(Subcommand)]
pub(crate) enum LoadTask {
    /// Send record batches as fast as the broker acknowledges them, or at a rate.
    Produce(Load<produce::Arguments>),
    /// Read topics from their start to where they end now, or what comes from now on.
    Consume(Load<consume::Arguments>),
    /// Send records at given times and measure how long each takes until it is acknowledged.
    Latency(Load<latency::Arguments>),
    /// Find the highest rate whose 99th percentile keeps a bound.
    Capacity(Load<capacity::Arguments>),
    /// Send records at given times and measure how long each takes until it is consumed.
    EndToEnd(Load<mixed::Arguments>),
    /// Send and consume at once.
    Mixed(Load<mixed::Arguments>),
    /// Open many connections that do next to nothing, and measure what they cost.
    Connections(Load<connections::Arguments>),
    /// Measure producers with and without a scan of old records beside them.
    ColdRead(Load<cold_read::Arguments>),
    /// Measure what the change of a partition to its next segment does to latencies.
    Roll(Load<roll::Arguments>),
    /// Measure the same load on few partitions and on many.
    Partitions(Load<partitions::Arguments>),
    /// Load a broker for long with many producers and consumers, and look for errors and memory that grows.
    Soak(Load<soak::Arguments>),
    /// Millrace only: measure what reading from another shard than the connection's costs.
    Shards(Load<shards::Arguments>),
    /// Kill a broker under load, and measure how long it takes to serve again.
    Restart(Load<restart::Arguments>),
}

/// The options of a subcommand that loads a broker, and where its results go.
#[derive(clap::Args)]
pub(crate) struct Load<Options: clap::Args> {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    report: ReportOptions,
}

/// A command line that has nothing but such a subcommand.
#[derive(clap::Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(subcommand)]
    task: LoadTask,
}

impl LoadTask {
    /// The task that the words of a command line ask for: the subcommand and its options.
    pub(crate) fn parse(words: &[String]) -> anyhow::Result<Self> {
        let line = Line::try_parse_from(words);
        line.map(|line| line.task).context("a command line of millbench")
    }

    /// Loads a broker and reports what came of it.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let report = self.report();
        report.check()?;
        let stop = Stop::on_signals()?;
        let measured = self.measure(&Session { stop: &stop, report })?;
        crate::report::write_all(report, &[measured])
    }

    /// Loads a broker. What came of it goes to the caller only.
    pub(crate) fn measure(&self, session: &Session<'_>) -> anyhow::Result<Measured> {
        match self {
            Self::Produce(load) => produce::run(&load.options, session),
            Self::Consume(load) => consume::run(&load.options, session),
            Self::Latency(load) => latency::run(&load.options, session),
            Self::Capacity(load) => capacity::run(&load.options, session),
            Self::EndToEnd(load) => mixed::run_end_to_end(&load.options, session),
            Self::Mixed(load) => mixed::run(&load.options, session),
            Self::Connections(load) => connections::run(&load.options, session),
            Self::ColdRead(load) => cold_read::run(&load.options, session),
            Self::Roll(load) => roll::run(&load.options, session),
            Self::Partitions(load) => partitions::run(&load.options, session),
            Self::Shards(load) => shards::run(&load.options, session),
            Self::Soak(load) => soak::run(&load.options, session),
            Self::Restart(load) => restart::run(&load.options, session),
        }
    }

    fn report(&self) -> &ReportOptions {
        match self {
            Self::Produce(load) => &load.report,
            Self::Consume(load) => &load.report,
            Self::Latency(load) => &load.report,
            Self::Capacity(load) => &load.report,
            Self::EndToEnd(load) | Self::Mixed(load) => &load.report,
            Self::Connections(load) => &load.report,
            Self::ColdRead(load) => &load.report,
            Self::Roll(load) => &load.report,
            Self::Partitions(load) => &load.report,
            Self::Shards(load) => &load.report,
            Self::Soak(load) => &load.report,
            Self::Restart(load) => &load.report,
        }
    }
}

/// What a subcommand has besides its options.
pub(crate) struct Session<'a> {
    pub(crate) stop: &'a Stop,
    pub(crate) report: &'a ReportOptions,
}

impl Session<'_> {
    /// Has a plan carried out, and shows how it goes on.
    pub(crate) fn drive(&self, plan: Plan) -> anyhow::Result<Outcome> {
        let mut progress = self.report.progress(plan.span.total());
        let outcome = drive::run(plan, self.stop, &mut progress);
        if let Ok(outcome) = &outcome {
            progress.note(&format!("checks took {}", cost_of_checks(outcome)));
        }
        progress.finish();
        outcome
    }

    /// Says something between two runs.
    pub(crate) fn note(&self, text: &str) {
        self.report.progress(None).note(text);
    }
}

/// Adds what was measured later in the same run: its seconds come behind those before.
pub(crate) fn append(series: &mut Series, later: Option<Series>) {
    let Some(later) = later else { return };
    series.latency.add(later.latency).expect("all histograms of a whole run have the same bounds");
    series.counts.add(later.counts);
    series.seconds.extend(later.seconds);
}

/// What a run found out, for reports.
pub(crate) fn measured(
    task: &str,
    target: &TargetOptions,
    settings: impl IntoIterator<Item = (String, String)>,
    outcome: Outcome,
) -> Measured {
    let mut settings: Vec<_> = target.settings().into_iter().chain(settings).collect();
    settings.push(setting("cost of checks", cost_of_checks(&outcome)));
    let series: Vec<Series> = outcome.sent.into_iter().chain(outcome.read).collect();
    Measured {
        task: task.to_owned(),
        target: target.bootstrap.clone(),
        settings,
        results: Vec::new(),
        start_unix_ms: outcome.start_unix_ms,
        elapsed: outcome.elapsed,
        series,
        broker: outcome.broker,
        client: outcome.client,
        findings: outcome.findings.into_sentences(),
    }
}

/// What looking at the answers took of this process.
fn cost_of_checks(outcome: &Outcome) -> String {
    let spent = outcome.check_time.as_secs_f64();
    let share = spent / outcome.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    format!("{spent:.3} CPU s in all, {:.1} % of a core", 100.0 * share)
}
