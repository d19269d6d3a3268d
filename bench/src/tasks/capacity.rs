//! `millbench capacity`: the highest rate of an open loop whose tail stays under a bound.
//!
//! The rate is doubled, or halved, until it is known both to keep the bound and not to; then what lies between is bisected.
//! Every rate is a run of its own on the same topics, so the last ones stand for a broker that has been loaded for a while.

use std::time::Duration;

use anyhow::ensure;

use super::produce::drive_and_compare;
use super::{Session, measured};
use crate::drive::Outcome;
use crate::measured::{Measured, Series};
use crate::options::{SendOptions, TargetOptions, setting};
use crate::report::figures::milliseconds;
use crate::workload::quantity::{Rate, parse_duration};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    send: SendOptions,
    /// What the 99th percentile of a rate may be; --rate is the first one tried
    #[arg(long, default_value = "10ms", value_parser = parse_duration)]
    p99: Duration,
    /// How close to search, in percent of the rate
    #[arg(long, default_value_t = 5.0)]
    precision: f64,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, send, p99, precision } = arguments;
    ensure!(send.acks != 0, "--acks: a record that is never acknowledged has no latency");
    ensure!(*precision > 0.0 && precision.is_finite(), "--precision: above 0");
    let first = send.rate.unwrap_or(RATE);
    let bytes_mean = send.values()?.bytes_mean();
    let mut search = Search::from(first.records_per_second(bytes_mean), 1.0 + precision / 100.0);
    let (mut best, mut worst, mut tried) = (None, None, Vec::new());
    let mut whole = Outcome::default();
    while let Some(rate) = search.next().filter(|_| !session.stop.is_asked()) {
        let mut outcome = probe(target, send, rate, session)?;
        // A run that was cut short says nothing of its rate.
        let Some(mut series) = outcome.sent.take().filter(|_| !session.stop.is_asked()) else { break };
        let found = series.quantile_ms(0.99);
        let keeps = series.counts.error_count == 0 && found <= p99.as_secs_f64() * 1e3;
        series.name = format!("{rate:.0} records/s");
        tried.push(format!("{rate:.0} {}: {} ms", if keeps { "keeps" } else { "does not" }, milliseconds(Some(found))));
        session.note(&format!("{}, p99 {} ms", series.name, milliseconds(Some(found))));
        *if keeps { &mut best } else { &mut worst } = Some(series);
        search.tell(rate, keeps);
        whole.follow(outcome);
    }
    let capacity = search.kept.map_or_else(|| "none".to_owned(), |rate| format!("{rate:.0} records/s"));
    let megabytes =
        search.kept.map_or_else(|| "none".to_owned(), |rate| format!("{:.1} MB/s", rate * bytes_mean / 1e6));
    let settings = send
        .settings()
        .into_iter()
        .filter(|(name, _)| name != "rate")
        .chain([setting("p99", format!("{p99:?}")), setting("precision", format!("{precision} %"))]);
    whole.elapsed = target.duration;
    let mut measured = measured("capacity", target, settings, whole);
    measured.results = vec![
        setting("capacity", capacity),
        setting("capacity in values", megabytes),
        setting("rates tried, records/s", tried.join("; ")),
    ];
    measured.series = best.into_iter().chain(worst).collect::<Vec<Series>>();
    Ok(measured)
}

/// Producers at one rate.
fn probe(target: &TargetOptions, send: &SendOptions, rate: f64, session: &Session<'_>) -> anyhow::Result<Outcome> {
    let send = SendOptions { rate: Some(Rate::Records(rate)), ..send.clone() };
    let leaders = target.leaders(Some(&[]))?;
    let mut plan = target.plan("capacity", leaders.clone())?;
    plan.sending = Some(send.plan("produce", target, &leaders)?);
    drive_and_compare(session, plan, &target.topics, &leaders)
}

/// What is known of a threshold. Rates below keep the bound, rates above do not.
#[derive(Debug)]
struct Search {
    first: f64,
    /// The highest rate that kept the bound.
    kept: Option<f64>,
    /// The lowest one that did not.
    broke: Option<f64>,
    /// How many times the kept rate the other one may be at the end. Above 1.
    factor: f64,
}

impl Search {
    const fn from(first: f64, factor: f64) -> Self {
        Self { first, kept: None, broke: None, factor }
    }

    /// The rate to try next, in records per second; `None` once the threshold is known, or is beyond what can be tried.
    fn next(&self) -> Option<f64> {
        let rate = match (self.kept, self.broke) {
            (None, None) => self.first,
            (Some(kept), None) => kept * 2.0,
            (None, Some(broke)) => broke / 2.0,
            (Some(kept), Some(broke)) if broke <= kept * self.factor => return None,
            (Some(kept), Some(broke)) => (kept * broke).sqrt(),
        };
        (RATE_MIN..=RATE_MAX).contains(&rate).then_some(rate)
    }

    fn tell(&mut self, rate: f64, keeps: bool) {
        *if keeps { &mut self.kept } else { &mut self.broke } = Some(rate);
    }
}

/// The first rate that is tried if nothing is said.
const RATE: Rate = Rate::Records(10_000.0);
const RATE_MIN: f64 = 1.0;
/// No client gets there.
const RATE_MAX: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(threshold: f64, first: f64) -> (Option<f64>, u32) {
        let mut search = Search::from(first, 1.05);
        let mut count = 0;
        while let Some(rate) = search.next() {
            search.tell(rate, rate <= threshold);
            count += 1;
        }
        (search.kept, count)
    }

    #[test]
    fn the_threshold_is_found_from_either_side() {
        for threshold in [2.0, 37.0, 999.0, 1000.0, 123_456.0] {
            for first in [1000.0, 1e6, 1.0] {
                let (kept, count) = found(threshold, first);
                let kept = kept.unwrap();
                assert!(kept <= threshold && threshold < kept * 1.05, "{kept} for {threshold} from {first}");
                assert!(count <= 26, "{count} rates");
            }
        }
    }

    #[test]
    fn a_search_ends_where_no_rate_keeps_the_bound_and_where_every_one_does() {
        assert_eq!(found(0.0, 1000.0).0, None);
        assert!(found(f64::INFINITY, 1000.0).0.unwrap() > 1e8);
    }
}
