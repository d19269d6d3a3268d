//! `millbench restart`: kills a broker under load and measures how long it takes to serve again.
//!
//! 1. Starts the broker by the given command, makes the topics and sends to them.
//! 2. Kills it in the middle with SIGKILL, and starts it again.
//! 3. Asks until the first Produce is answered, until every partition has answered one and a Fetch, and, beside that, until
//!    every group knows again what it had committed.
//! 4. Reads everything from the start: what had been acknowledged before the kill must be there.

mod groups;
mod partitions;

use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use millrace_runtime::glommio::clock::GlommioClock;
use millrace_runtime::{Clock as _, Moment};

use groups::Groups;
use partitions::Partitions;

use super::cold_read::fill;
use super::{Session, measured};
use crate::check::compare_ends;
use crate::client::cluster::{Leader, LogEnd, find_offsets, pause};
use crate::drive::Outcome;
use crate::drive::plan::Check;
use crate::measured::{Measured, Series};
use crate::numbers::parse_bytes;
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
    /// Before all else, fill the topics up to so many bytes of batches, if they are empty
    #[arg(long, default_value = "0", value_parser = parse_bytes)]
    fill: u64,
    /// Consumer groups that commit an offset each before the kill
    #[arg(long, default_value_t = 100)]
    groups: usize,
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
    if arguments.fill > 0 {
        fill(target, send, arguments.fill, session)?;
    }
    let first_topic = target.topics.first().context("--topic: at least one")?;
    let mut groups = Groups::new(&target.bootstrap, first_topic, arguments.groups);
    until(*patience, session.stop, || groups.commit()).context("committing offsets")?;
    let acknowledged = load_and_kill(arguments, session, &leaders, &mut broker)?;

    let clock = GlommioClock::default();
    let restarted = clock.now();
    let mut broker = Broker::start(command)?;
    let (partitions, (groups_known, groups_lost)) = std::thread::scope(|scope| {
        let mut groups = groups.again();
        let asking = scope.spawn(move || {
            until(*patience, session.stop, || groups.ask()).context("asking for committed offsets")?;
            anyhow::Ok((clock.now() - restarted, groups.findings))
        });
        let partitions = ask_partitions(arguments, session, restarted, &leaders);
        let known = asking.join().map_err(|_| anyhow::anyhow!("the thread that asks groups has panicked"))?;
        anyhow::Ok((partitions?, known?))
    })?;
    let mut outcome = read_everything(arguments, session)?;
    let elapsed = clock.now() - restarted;
    let mut findings = std::mem::take(&mut outcome.findings);
    for sentence in groups_lost {
        findings.push(sentence);
    }
    for consumed in outcome.consumed.values() {
        compare_ends(&acknowledged.acknowledged, consumed, &mut findings);
    }
    broker.kill()?;
    (outcome.findings, outcome.elapsed) = (findings, elapsed);
    let count: u64 = acknowledged.acknowledged.values().sum();
    let milliseconds = |series: &Series| format!("{:.1} ms", series.quantile_ms(1.0));
    let Partitions { first_produce, produce, fetch, .. } = partitions;
    let settings = send.settings().into_iter().chain([
        setting("command", command.clone()),
        setting("fill", arguments.fill.to_string()),
        setting("groups", arguments.groups.to_string()),
    ]);
    let mut measured = measured("restart", target, settings, outcome);
    measured.results = vec![
        setting("acknowledged before the kill", format!("{count} records")),
        setting(FIRST_PRODUCE, milliseconds(&first_produce)),
        setting("from start to a produce answered by every partition", milliseconds(&produce)),
        setting(EVERY_PARTITION, milliseconds(&fetch)),
        setting(GROUPS, format!("{:.1} ms", groups_known.as_secs_f64() * 1e3)),
    ];
    measured.series.splice(0..0, [first_produce, produce, fetch]);
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

/// Asks until every partition has answered.
fn ask_partitions(
    arguments: &Arguments,
    session: &Session<'_>,
    restarted: Moment,
    leaders: &[Leader],
) -> anyhow::Result<Partitions> {
    let clock = GlommioClock::default();
    let mut partitions = Partitions::new(restarted, leaders);
    while partitions.left() > 0 {
        ensure!(
            clock.now() - restarted < arguments.patience,
            "{} answers of partitions are missing",
            partitions.left()
        );
        ensure!(!session.stop.is_asked(), "stopped while the broker was starting");
        let before = partitions.left();
        // A broker that starts refuses connections at first, and partitions after that.
        partitions.probe(&arguments.target).ok();
        if partitions.left() == before {
            pause(PROBE_EVERY);
        }
    }
    Ok(partitions)
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

/// What the results are called.
pub(crate) const FIRST_PRODUCE: &str = "from start to the first produce answered";
pub(crate) const EVERY_PARTITION: &str = "from start to a produce and a fetch answered by every partition";
pub(crate) const GROUPS: &str = "from start to every group known";

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
