//! `millbench partitions`: what it costs to spread the same load over many partitions.
//!
//! Alternates a topic of few partitions and one of many. Both have as many bytes in flight, in batches of the same size and
//! requests of as many batches; only the number of partitions differs. Every partition was written to before: a log's first
//! record makes its files, and that is not measured.

use anyhow::ensure;

use super::produce::drive_and_compare;
use super::{Session, append, measured};
use crate::client::cluster::Leader;
use crate::drive::Outcome;
use crate::measured::{Measured, Series};
use crate::numbers::{float, parse_bytes, u64_of};
use crate::options::{SendOptions, TargetOptions, setting};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    send: SendOptions,
    /// Bytes of batches in flight, of all connections together; K, M and G are powers of 1024
    #[arg(long, default_value = "16M", value_parser = parse_bytes)]
    outstanding: u64,
    /// Partitions of the topic with few; --partitions says how many are many
    #[arg(long, default_value_t = 10)]
    few: usize,
    /// How often the two alternate; each time lasts as long as --duration says
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, outstanding, few, rounds, .. } = arguments;
    ensure!(*rounds > 0 && *few > 0, "--rounds and --few: at least one");
    let many = target.partitions.unwrap_or(PARTITION_COUNT);
    ensure!(target.topics.len() == 1, "--topic: one, from whose name those of the two topics are made");
    ensure!(arguments.send.rate.is_none(), "--rate: what is fixed here is --outstanding");
    let batches_per_request = arguments.send.batches_per_request.clamp(1, *few);
    let per_request = arguments.send.batch_bytes.max(1) * u64_of(batches_per_request);
    let in_flight = usize::try_from(outstanding / per_request / u64_of(arguments.send.connections.max(1)))?.max(1);
    let send = SendOptions { in_flight: Some(in_flight), batches_per_request, ..arguments.send.clone() };
    let mut series = [few, &many].map(|count| Series::new(&format!("{count} partitions")));
    let mut totals = [Outcome::default(), Outcome::default()];
    for round in 0..*rounds {
        for (index, count) in [*few, many].into_iter().enumerate() {
            if session.stop.is_asked() {
                break;
            }
            let topics = vec![format!("{}-{count}", target.topics[0])];
            let target = TargetOptions { topics, partitions: Some(count), ..target.clone() };
            let leaders = target.leaders(Some(&[]))?;
            if round == 0 {
                write_first_records(&target, &send, &leaders, session)?;
            }
            let mut plan = target.plan("partitions", leaders.clone())?;
            plan.sending = Some(send.plan(&series[index].name, &target, &leaders)?);
            let mut outcome = drive_and_compare(session, plan, &target.topics, &leaders)?;
            append(&mut series[index], outcome.sent.take());
            totals[index].follow(outcome);
        }
    }
    let share = 100.0 * float(series[1].counts.bytes) / float(series[0].counts.bytes.max(1));
    let mut settings = send.settings();
    settings.push(setting("outstanding", outstanding.to_string()));
    settings.push(setting("rounds", rounds.to_string()));
    let mut results = vec![setting("bytes per second with many partitions against few", format!("{share:.1} %"))];
    for (series, total) in series.iter().zip(&totals) {
        if let Some(broker) = total.broker {
            let each = crate::numbers::seconds_per_gb(broker.cpu, series.counts.bytes.max(1));
            results.push(setting(&format!("broker's CPU s per GB with {}", series.name), format!("{each:.3}")));
        }
    }
    let [mut all, later] = totals;
    // Each series is of one of the topics, and both were measured for as long.
    let elapsed = all.elapsed;
    all.follow(later);
    all.elapsed = elapsed;
    let mut measured = measured("partitions", target, settings, all);
    (measured.series, measured.results) = (Vec::from(series), results);
    Ok(measured)
}

/// Writes to every partition of the topic.
fn write_first_records(
    target: &TargetOptions,
    send: &SendOptions,
    leaders: &[Leader],
    session: &Session<'_>,
) -> anyhow::Result<()> {
    let mut plan = target.plan("first records", leaders.to_vec())?;
    let mut sending = send.plan("produce", target, leaders)?;
    let count = leaders.iter().map(|leader| leader.places.len()).sum::<usize>();
    // Each connection goes through all partitions.
    sending.request_count_max = Some(u64_of(count.div_ceil(send.batches_per_request) * send.connections));
    plan.sending = Some(sending);
    (plan.span.ramp, plan.span.warm_up, plan.span.measured) = Default::default();
    let outcome = drive_and_compare(session, plan, &target.topics, leaders)?;
    let findings = outcome.findings.into_sentences();
    ensure!(findings.is_empty(), "first records of {}: {}", target.topics.join(", "), findings.join("; "));
    Ok(())
}

/// Of the topic with many, if nothing is said.
const PARTITION_COUNT: usize = 10_000;
