//! `millbench cold-read`: what a scan of old records does to producers.
//!
//! Alternates two phases: producers alone, and the same producers while another topic is read from its start at a capped
//! rate, over and over. The two latencies stand side by side.
//!
//! A scan also takes processor time and bandwidth that producers would have had. With a second broker on the same machine the
//! first phase has the same scan of that one beside it, and the difference is what the broker itself does to its producers.

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
    /// Instead of producers alone, compare with the same scan of this other broker, `HOST:PORT`
    #[arg(long)]
    scan_elsewhere: Option<String>,
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
    let Arguments { target, read, cold_topic, rounds, scan_elsewhere, .. } = arguments;
    ensure!(*rounds > 0, "--rounds: at least one");
    ensure!(!target.topics.contains(cold_topic), "--cold-topic is another one than --topic");
    let send = SendOptions { rate: Some(arguments.send.rate.unwrap_or(RATE)), ..arguments.send.clone() };
    let read = ReadOptions { read_rate: Some(read.read_rate.unwrap_or(READ_RATE)), ..read.clone() };
    let cold = TargetOptions { topics: vec![cold_topic.clone()], ..target.clone() };
    fill(&cold, &arguments.send, arguments.fill, session)?;
    let elsewhere = scan_elsewhere.as_ref().map(|other| TargetOptions { bootstrap: other.clone(), ..cold.clone() });
    if let Some(elsewhere) = &elsewhere {
        fill(elsewhere, &arguments.send, arguments.fill, session)?;
    }

    let names =
        if elsewhere.is_some() { ["produce beside scan elsewhere", ELSEWHERE] } else { ["produce alone", ALONE] };
    let mut series = [Series::new(names[0]), Series::new("produce beside scan"), Series::new("scan")];
    let mut alone = Outcome::default();
    let mut beside = Outcome::default();
    for _ in 0..*rounds {
        if session.stop.is_asked() {
            break;
        }
        let mut phase = one_phase(target, &send, elsewhere.as_ref().map(|other| (&read, other)), session)?;
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
        setting("scan-elsewhere", scan_elsewhere.clone().unwrap_or_else(|| "none".to_owned())),
    ]);
    // Each series is of one of the phases, which are of one length, so that is what was measured.
    let elapsed = alone.elapsed;
    alone.follow(beside);
    alone.elapsed = elapsed;
    let mut measured = measured("cold-read", target, settings, alone);
    measured.results = vec![setting(names[1], format!("{ratio:.2}"))];
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

/// Makes a topic that is to be read, and sends it so many bytes of large batches, if it holds nothing.
pub(super) fn fill(
    target: &TargetOptions,
    send: &SendOptions,
    bytes: u64,
    session: &Session<'_>,
) -> anyhow::Result<()> {
    let leaders = target.leaders(Some(&[]))?;
    let ends = find_offsets(&leaders, &target.topics, LogEnd::Latest)?;
    if ends.values().any(|end| *end > 0) {
        return Ok(());
    }
    let send = SendOptions { rate: None, batch_bytes: FILL_BATCH_BYTES, ..send.clone() };
    let mut plan = target.plan("filling", leaders.clone())?;
    let mut sending = send.plan("produce", target, &leaders)?;
    sending.request_count_max = Some(bytes.div_ceil(FILL_BATCH_BYTES));
    plan.sending = Some(sending);
    (plan.span.ramp, plan.span.warm_up, plan.span.measured) = Default::default();
    let outcome = drive_and_compare(session, plan, &target.topics, &leaders)?;
    let findings = outcome.findings.into_sentences();
    ensure!(findings.is_empty(), "filling {}: {}", target.topics.join(", "), findings.join("; "));
    Ok(())
}

type Offsets = std::collections::BTreeMap<crate::check::Place, i64>;

/// What the result is called.
const ALONE: &str = "p99 of produce beside a scan against alone";
/// The same where another broker is scanned instead.
pub(crate) const ELSEWHERE: &str = "p99 of produce beside a scan against beside one elsewhere";
const FILL_BATCH_BYTES: u64 = 256 * 1024;
/// Of producers, if nothing is said.
const RATE: Rate = Rate::Records(1000.0);
/// Of the scan, if nothing is said.
const READ_RATE: Rate = Rate::Bytes(300e6);
