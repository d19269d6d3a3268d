//! `millbench cold-read`: what a scan of old records does to producers.
//!
//! Alternates two phases: producers alone, and the same producers while another topic is read from its start at a capped
//! rate, over and over. The two latencies stand side by side.

use anyhow::ensure;

use super::produce::drive_and_compare;
use super::{Session, append, measured};
use crate::client::cluster::{LogEnd, find_offsets};
use crate::drive::Outcome;
use crate::measured::{Measured, Series};
use crate::numbers::parse_bytes;
use crate::options::{From, ReadOptions, SendOptions, TargetOptions, setting};
use crate::workload::quantity::Rate;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    send: SendOptions,
    #[command(flatten)]
    read: ReadOptions,
    /// The topic that is scanned
    #[arg(long, default_value = "millbench-cold")]
    cold_topic: String,
    /// Before all else, fill the topic that is scanned up to so many bytes of batches, if it is empty
    #[arg(long, default_value = "4G", value_parser = parse_bytes)]
    fill: u64,
    /// How often the two phases alternate; each lasts as long as --duration says
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, read, cold_topic, rounds, .. } = arguments;
    ensure!(*rounds > 0, "--rounds: at least one");
    ensure!(!target.topics.contains(cold_topic), "--cold-topic is another one than --topic");
    let send = SendOptions { rate: Some(arguments.send.rate.unwrap_or(RATE)), ..arguments.send.clone() };
    let read = ReadOptions { read_rate: Some(read.read_rate.unwrap_or(READ_RATE)), ..read.clone() };
    let cold = TargetOptions { topics: vec![cold_topic.clone()], ..target.clone() };
    fill(arguments, &cold, session)?;

    let mut series = [Series::new("produce alone"), Series::new("produce beside scan"), Series::new("scan")];
    let mut alone = Outcome::default();
    let mut beside = Outcome::default();
    for _ in 0..*rounds {
        if session.stop.is_asked() {
            break;
        }
        let mut phase = one_phase(target, &send, None, session)?;
        append(&mut series[0], phase.sent.take());
        alone.follow(phase);
        let mut phase = one_phase(target, &send, Some((&read, &cold)), session)?;
        append(&mut series[1], phase.sent.take());
        append(&mut series[2], phase.read.take());
        beside.follow(phase);
    }
    let ratio = series[1].quantile_ms(0.99) / series[0].quantile_ms(0.99);
    let settings = send.settings().into_iter().chain(read.settings()).chain([
        setting("cold-topic", cold_topic.clone()),
        setting("rounds", rounds.to_string()),
        setting("p99 of produce beside a scan against alone", format!("{ratio:.2}")),
    ]);
    // Each series is of one of the phases, which are of one length, so that is what was measured.
    let elapsed = alone.elapsed;
    alone.follow(beside);
    alone.elapsed = elapsed;
    let mut measured = measured("cold-read", target, settings, alone);
    measured.series = Vec::from(series);
    Ok(measured)
}

/// Producers for as long as was asked for, with or without a scan.
fn one_phase(
    target: &TargetOptions,
    send: &SendOptions,
    scan: Option<(&ReadOptions, &TargetOptions)>,
    session: &Session<'_>,
) -> anyhow::Result<Outcome> {
    let leaders = target.leaders(Some(&[]))?;
    let mut plan = target.plan("cold-read", leaders.clone())?;
    plan.sending = Some(send.plan("produce", target, &leaders)?);
    if let Some((read, cold)) = scan {
        let mut cold_leaders = cold.leaders(None)?;
        let mut reading = read.plan("scan", From::Start, cold, &cold_leaders)?;
        let ends = find_offsets(&cold_leaders, &cold.topics, LogEnd::Latest)?;
        // In this plan the cold topic comes behind the others.
        let shift = target.topics.len();
        let moved = |offsets: Offsets| offsets.into_iter().map(|(place, offset)| (place.of_later_topic(shift), offset));
        reading.starts = moved(reading.starts).collect();
        reading.ends = Some(moved(ends).collect());
        reading.repeats = true;
        for place in cold_leaders.iter_mut().flat_map(|leader| &mut leader.places) {
            *place = place.of_later_topic(shift);
        }
        reading.leaders = cold_leaders;
        plan.topics.extend(cold.topics.iter().cloned());
        plan.reading = Some(reading);
    }
    drive_and_compare(session, plan, &target.topics, &leaders)
}

/// Makes the topic that is scanned, and sends it what it is to hold, if it holds nothing.
fn fill(arguments: &Arguments, cold: &TargetOptions, session: &Session<'_>) -> anyhow::Result<()> {
    let leaders = cold.leaders(Some(&[]))?;
    let ends = find_offsets(&leaders, &cold.topics, LogEnd::Latest)?;
    if ends.values().any(|end| *end > 0) {
        return Ok(());
    }
    let send = SendOptions { rate: None, batch_bytes: FILL_BATCH_BYTES, ..arguments.send.clone() };
    let mut plan = cold.plan("filling", leaders.clone())?;
    let mut sending = send.plan("produce", cold, &leaders)?;
    sending.request_count_max = Some(arguments.fill.div_ceil(FILL_BATCH_BYTES));
    plan.sending = Some(sending);
    (plan.span.ramp, plan.span.warm_up, plan.span.measured) = Default::default();
    let outcome = drive_and_compare(session, plan, &cold.topics, &leaders)?;
    let findings = outcome.findings.into_sentences();
    ensure!(findings.is_empty(), "filling {}: {}", arguments.cold_topic, findings.join("; "));
    Ok(())
}

type Offsets = std::collections::BTreeMap<crate::check::Place, i64>;

const FILL_BATCH_BYTES: u64 = 256 * 1024;
/// Of producers, if nothing is said.
const RATE: Rate = Rate::Records(1000.0);
/// Of the scan, if nothing is said.
const READ_RATE: Rate = Rate::Bytes(300e6);
