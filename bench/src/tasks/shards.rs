//! `millbench shards`: what it costs Millrace that a connection is on another shard than the partition it reads.
//!
//! The broker deals connections out among the shards, and no client can choose. So a topic's first partition is read over and
//! over by a single connection, a new one each time, and Millrace's own metrics tell afterwards which shard had sent the
//! bytes and which had read them. That goes on until both cases have been seen often enough.
//!
//! The topic must exist, and hold so little that it stays in memory.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Session, append, measured};
use crate::client::cluster::{LogEnd, find_offsets, resolve_address};
use crate::client::control::Client;
use crate::drive::Outcome;
use crate::measured::{Measured, Series};
use crate::numbers::seconds_per_gb;
use crate::options::{From, ReadOptions, TargetOptions, setting};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    read: ReadOptions,
    /// Millrace's `admin.listener`, `HOST:PORT`
    #[arg(long)]
    admin: String,
    /// How often each case is to be seen; each time lasts as long as --duration says
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Bytes by the label of a shard.
type ByShard = BTreeMap<String, u64>;

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, read, admin, rounds, .. } = arguments;
    ensure!(*rounds > 0, "--rounds: at least one");
    let target = TargetOptions { partitions: Some(1), ..target.clone() };
    // Not measured: from here on everything is in memory.
    read_once(&target, read, session)?;

    let mut cases = [Case::new("same shard"), Case::new("another shard")];
    let mut whole = Outcome::default();
    let mut held = Vec::new();
    for _ in 0..TRIES_MAX * rounds {
        if session.stop.is_asked() || cases.iter().all(|case| case.costs.len() >= *rounds) {
            break;
        }
        let before = [scrape(admin, SENT)?, scrape(admin, READ)?];
        let mut outcome = read_once(&target, read, session)?;
        let after = [scrape(admin, SENT)?, scrape(admin, READ)?];
        let [sender, reader] = [0, 1].map(|index: usize| busiest(&before[index], &after[index]));
        ensure!(sender.is_some() && reader.is_some(), "{admin} knows of no shard that has sent or read anything");
        cases[usize::from(sender != reader)].take(&mut outcome)?;
        whole.follow(outcome);
        if cases.iter().any(|case| case.costs.len() > *rounds) {
            // Where connections go to the shard that has the fewest, or to each in turn, one more moves the next one on.
            if held.pop().is_none() {
                held.push(Client::connect(&target.bootstrap)?);
            }
        }
    }
    let costs = cases.each_ref().map(Case::median);
    let ratio = costs[1].zip(costs[0]).map(|(other, same)| other / same);
    let text = |cost: Option<f64>| cost.map_or_else(|| "unknown".to_owned(), |cost| format!("{cost:.3}"));
    let settings = read.settings().into_iter().chain([setting("rounds", rounds.to_string())]);
    whole.elapsed = target.duration;
    let mut measured = measured("shards", &target, settings, whole);
    measured.results = vec![
        setting("broker's CPU s per GB from the same shard", text(costs[0])),
        setting("broker's CPU s per GB from another shard", text(costs[1])),
        setting(RATIO, text(ratio)),
    ];
    measured.series = Vec::from(cases.map(|case| case.series));
    Ok(measured)
}

/// All that has been seen of one case.
struct Case {
    series: Series,
    /// CPU seconds of the broker for 10^9 bytes, of each round.
    costs: Vec<f64>,
}

impl Case {
    fn new(name: &str) -> Self {
        Self { series: Series::new(name), costs: Vec::new() }
    }

    fn take(&mut self, outcome: &mut Outcome) -> anyhow::Result<()> {
        let broker = outcome.broker.context("--broker-pid: whose processor time to count")?;
        let read = outcome.read.take().context("consumers are a series")?;
        ensure!(read.counts.bytes > 0, "nothing was read");
        self.costs.push(seconds_per_gb(broker.cpu, read.counts.bytes));
        append(&mut self.series, Some(read));
        Ok(())
    }

    fn median(&self) -> Option<f64> {
        let mut costs = self.costs.clone();
        costs.sort_unstable_by(f64::total_cmp);
        costs.get(costs.len() / 2).copied()
    }
}

/// Reads the topic from its start, again and again, by one connection.
fn read_once(target: &TargetOptions, read: &ReadOptions, session: &Session<'_>) -> anyhow::Result<Outcome> {
    let leaders = target.leaders(None)?;
    let mut plan = target.plan("shards", leaders.clone())?;
    let read = ReadOptions { consumers: 1, consumer_connections: 1, ..read.clone() };
    let mut reading = read.plan("consume", From::Start, target, &leaders)?;
    reading.ends = Some(find_offsets(&leaders, &target.topics, LogEnd::Latest)?);
    reading.repeats = true;
    plan.reading = Some(reading);
    session.drive(plan)
}

/// The shard whose counter has risen most.
fn busiest(before: &ByShard, after: &ByShard) -> Option<String> {
    let risen = after.iter().map(|(shard, bytes)| (bytes - before.get(shard).unwrap_or(&0).min(bytes), shard));
    risen.max().filter(|(bytes, _)| *bytes > 0).map(|(_, shard)| shard.clone())
}

/// A counter of each shard, as the metrics have it now.
fn scrape(admin: &str, name: &str) -> anyhow::Result<ByShard> {
    let mut stream = TcpStream::connect(resolve_address(admin)?).with_context(|| format!("connecting to {admin}"))?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.take(METRICS_BYTES_MAX).read_to_string(&mut text).with_context(|| format!("metrics of {admin}"))?;
    let found = parse(&text, name);
    ensure!(!found.is_empty(), "{admin} has no {name}: it is not the admin listener of a Millrace");
    Ok(found)
}

fn parse(text: &str, name: &str) -> ByShard {
    let sample = |line: &str| {
        let (shard, value) = line.strip_prefix(name)?.strip_prefix("{shard=\"")?.split_once("\"} ")?;
        Some((shard.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(sample).collect()
}

/// What the result is called.
pub(crate) const RATIO: &str = "CPU from another shard against from the same";

const SENT: &str = "millrace_sent_bytes_total";
const READ: &str = "millrace_read_bytes_total";
/// With two shards, seeing only one of the cases in so many rounds is a matter of less than one in a million.
const TRIES_MAX: usize = 20;
const SILENCE_MAX: Duration = Duration::from_secs(10);
const METRICS_BYTES_MAX: u64 = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shard_that_did_the_work_is_the_one_whose_counter_rose() {
        let page = "HTTP/1.1 200 OK\r\n\r\n# HELP x\nx{shard=\"0\"} 5\nx{shard=\"1\"} 70\nxy{shard=\"0\"} 9\n";
        let before = parse(page, "x");
        assert_eq!(before, [("0".to_owned(), 5), ("1".to_owned(), 70)].into());
        let mut after = before.clone();
        assert_eq!(busiest(&before, &after), None);
        *after.get_mut("0").unwrap() += 1;
        assert_eq!(busiest(&before, &after).as_deref(), Some("0"));
    }
}
