//! `millbench restart`: kills a broker under load and measures how long it takes to serve again.
//!
//! 1. Starts the broker by the given command, makes the topics and sends to them.
//! 2. Kills it in the middle with SIGKILL, and starts it again.
//! 3. Asks until the first Produce is answered, and until every partition has answered one.
//! 4. Reads everything from the start: what had been acknowledged before the kill must be there.

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use millrace_protocol::batch::{BatchBuilder, BatchFields};
use millrace_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::{Clock as _, Moment};

use super::{Session, measured};
use crate::check::{Place, compare_ends};
use crate::client::cluster::{Leader, LogEnd, find_offsets, pause};
use crate::client::control::Client;
use crate::drive::Outcome;
use crate::drive::plan::Check;
use crate::measured::{Counts, Measured, Series};
use crate::options::{From, ReadOptions, SendOptions, TargetOptions, setting};
use crate::stop::Stop;
use crate::workload::quantity::parse_duration;

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    send: SendOptions,
    #[command(flatten)]
    read: ReadOptions,
    /// What starts the broker, by the shell; it must stay in the foreground
    #[arg(long)]
    command: String,
    /// How long a start may take
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    patience: Duration,
}

/// The broker's process. Killed when it is dropped.
struct Broker(Child);

impl Broker {
    fn start(command: &str) -> anyhow::Result<Self> {
        // Without `exec` the shell would be what is killed.
        let child = Command::new("sh").arg("-c").arg(format!("exec {command}")).spawn();
        Ok(Self(child.with_context(|| format!("starting {command}"))?))
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        self.0.kill().context("killing the broker")?;
        self.0.wait().context("waiting for the broker's end").map(drop)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself, which is as good.
        self.kill().ok();
    }
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, send, command, patience, .. } = arguments;
    ensure!(send.acks == -1, "--acks: only what all have acknowledged must survive");
    ensure!(target.check != Check::None, "--check: what survives is told by what records carry");
    let mut broker = Broker::start(command)?;
    let leaders = until(*patience, session.stop, || target.leaders(Some(&[])))?;
    let acknowledged = load_and_kill(arguments, session, &leaders, &mut broker)?;

    let clock = GlommioClock::default();
    let restarted = clock.now();
    let mut broker = Broker::start(command)?;
    let mut first = Series::new("first produce");
    let mut every = Series::new("every partition");
    let answered = Counts { request_count: 1, ..Counts::default() };
    let mut left: Vec<Place> = leaders.iter().flat_map(|leader| leader.places.clone()).collect();
    while !left.is_empty() {
        let now = clock.now();
        ensure!(now - restarted < *patience, "{} partitions do not answer", left.len());
        ensure!(!session.stop.is_asked(), "stopped while the broker was starting");
        // A broker that starts refuses connections at first, and partitions after that.
        let before = left.len();
        probe(target, &mut left, clock, restarted, &mut every).ok();
        if left.len() < before && first.counts.request_count == 0 {
            first.take(Duration::ZERO, clock.now() - restarted, answered);
        }
        if left.len() == before {
            pause(PROBE_EVERY);
        }
    }
    let mut outcome = read_everything(arguments, session)?;
    let elapsed = clock.now() - restarted;
    let mut findings = std::mem::take(&mut outcome.findings);
    for consumed in outcome.consumed.values() {
        compare_ends(&acknowledged.acknowledged, consumed, &mut findings);
    }
    broker.kill()?;
    (outcome.findings, outcome.elapsed) = (findings, elapsed);
    let count: u64 = acknowledged.acknowledged.values().sum();
    let milliseconds = |series: &Series| format!("{:.1} ms", series.quantile_ms(1.0));
    let settings = send.settings().into_iter().chain([
        setting("command", command.clone()),
        setting("acknowledged before the kill", format!("{count} records")),
        setting("from start to the first produce answered", milliseconds(&first)),
        setting("from start to every partition answered", milliseconds(&every)),
    ]);
    let mut measured = measured("restart", target, settings, outcome);
    measured.series.splice(0..0, [first, every]);
    Ok(measured)
}

/// Sends for as long as was asked for, then kills the broker in the middle of it. Broken connections are what is wanted.
fn load_and_kill(
    arguments: &Arguments,
    session: &Session<'_>,
    leaders: &[Leader],
    broker: &mut Broker,
) -> anyhow::Result<Outcome> {
    let Arguments { target, send, .. } = arguments;
    let mut plan = target.plan("load", leaders.to_vec())?;
    plan.sending = Some(send.plan("produce", target, leaders)?);
    let load_lasts = target.ramp + target.warm_up + target.duration;
    // Until the broker is gone, and not for ever if the command was not what serves.
    plan.span.measured = Some(target.duration + GONE_MAX);
    plan.broker_pid = None;
    std::thread::scope(|scope| {
        let driving = scope.spawn(|| session.drive(plan));
        let clock = GlommioClock::default();
        let began = clock.now();
        while clock.now() - began < load_lasts && !session.stop.is_asked() && !driving.is_finished() {
            pause(PROBE_EVERY);
        }
        broker.kill()?;
        let outcome = driving.join().map_err(|_| anyhow::anyhow!("the thread that drives has panicked"))??;
        ensure!(!session.stop.is_asked(), "stopped before the broker was killed");
        Ok(outcome)
    })
}

/// Sends one record to each of the partitions that are left, and takes out those that acknowledge it.
fn probe(
    target: &TargetOptions,
    left: &mut Vec<Place>,
    clock: GlommioClock,
    restarted: Moment,
    every: &mut Series,
) -> anyhow::Result<()> {
    // Leaders may be others than before.
    let leaders = target.leaders(None)?;
    let mut builder = BatchBuilder::new(BatchFields::default());
    builder.push(clock.unix_ms(), None, Some(b"are you there?"));
    let batch = builder.build();
    for leader in leaders {
        let mut client = Client::connect(&leader.address.to_string())?;
        for (topic_index, name) in target.topics.iter().enumerate() {
            let own = left.iter().filter(|place| place.topic_index == topic_index && leader.places.contains(place));
            let partition_data: Vec<_> =
                own.map(|place| PartitionProduceData { index: place.partition, records: Some(&batch) }).collect();
            if partition_data.is_empty() {
                continue;
            }
            let topic_data = vec![TopicProduceData { name, partition_data, ..TopicProduceData::default() }];
            let request = ProduceRequest { transactional_id: None, acks: -1, timeout_ms: TIMEOUT_MS, topic_data };
            let response = client.call(PRODUCE_VERSION, &request)?;
            let now = clock.now();
            let answers = response.responses.iter().flat_map(|topic| &topic.partition_responses);
            for answer in answers.filter(|answer| answer.error_code == 0) {
                let place = Place { topic_index, partition: answer.index };
                left.retain(|candidate| *candidate != place);
                let counts = Counts { request_count: 1, record_count: 1, ..Counts::default() };
                every.take(now - restarted, now - restarted, counts);
            }
        }
    }
    Ok(())
}

/// Reads all topics from their start to where they end now, every record of them.
fn read_everything(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Outcome> {
    let Arguments { target, read, .. } = arguments;
    let leaders = target.leaders(None)?;
    let mut plan = target.plan("looking for what was acknowledged", leaders.clone())?;
    let mut reading = read.plan("consume", From::Start, target, &leaders)?;
    reading.ends = Some(find_offsets(&leaders, &target.topics, LogEnd::Latest)?);
    plan.reading = Some(reading);
    plan.broker_pid = None;
    (plan.span.ramp, plan.span.warm_up, plan.span.measured) = Default::default();
    session.drive(plan)
}

/// Tries until it works or patience ends.
fn until<T>(patience: Duration, stop: &Stop, mut attempt: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let clock = GlommioClock::default();
    let began = clock.now();
    loop {
        match attempt() {
            Ok(found) => return Ok(found),
            Err(error) if clock.now() - began >= patience => return Err(error),
            Err(_) if stop.is_asked() => bail!("stopped while the broker was starting"),
            Err(_) => pause(PROBE_EVERY),
        }
    }
}

/// What is killed has closed its connections long before.
const GONE_MAX: Duration = Duration::from_secs(10);
/// How exact the times are.
const PROBE_EVERY: Duration = Duration::from_millis(10);
const PRODUCE_VERSION: i16 = 8;
const TIMEOUT_MS: i32 = 30_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_end_with_success_or_with_patience() {
        let mut left = 3;
        let counted = until(Duration::from_mins(1), &Stop::default(), || {
            left -= 1;
            if left == 0 { Ok(7) } else { bail!("not yet") }
        });
        assert_eq!(counted.unwrap(), 7);
        let never = until(Duration::ZERO, &Stop::default(), || -> anyhow::Result<()> { bail!("never") });
        assert_eq!(never.unwrap_err().to_string(), "never");
    }

    #[test]
    fn a_broker_is_the_command_and_not_its_shell() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut broker = Broker::start(&format!("sh -c 'echo $$ >{}'", file.path().display())).unwrap();
        assert!(broker.0.wait().unwrap().success());
        let told = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(told.trim(), broker.0.id().to_string());
        assert!(Broker::start("false").unwrap().0.wait().unwrap().code().is_some_and(|code| code != 0));
    }
}
