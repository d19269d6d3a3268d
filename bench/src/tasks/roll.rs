//! `millbench roll`: whether latency suffers while a partition goes on to its next segment.
//!
//! Makes topics with small segments and sends to them. A segment's size is known from what was appended to it, so the
//! client can tell in which window of time a batch was the first of a new segment. The 99th percentile of each such window
//! is set against the windows before and after it that have no roll.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::ensure;

use super::produce::drive_and_compare;
use super::{Session, measured};
use crate::check::Place;
use crate::client::cluster::{LogEnd, find_offsets};
use crate::drive::Sample;
use crate::measured::Measured;
use crate::numbers::parse_bytes;
use crate::options::{SendOptions, TargetOptions, setting};
use crate::workload::quantity::{Rate, parse_duration};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: TargetOptions,
    #[command(flatten)]
    send: SendOptions,
    /// Bytes of a segment; K, M and G are powers of 1024
    #[arg(long, default_value = "16M", value_parser = parse_bytes)]
    segment_bytes: u64,
    /// How long a window of time is
    #[arg(long, default_value = "50ms", value_parser = parse_duration)]
    window: Duration,
}

pub(crate) fn run(arguments: &Arguments, session: &Session<'_>) -> anyhow::Result<Measured> {
    let Arguments { target, segment_bytes, window, .. } = arguments;
    ensure!(!window.is_zero(), "--window: longer than nothing");
    let mut send = arguments.send.clone();
    if send.rate.is_none() {
        (send.rate, send.linger) = (Some(RATE), send.linger.max(LINGER));
    }
    let leaders = target.leaders(Some(&[("segment.bytes", &segment_bytes.to_string())]))?;
    let ends = find_offsets(&leaders, &target.topics, LogEnd::Latest)?;
    ensure!(ends.values().all(|end| *end == 0), "--topic: a new one, whose segments begin with this run");
    let mut plan = target.plan("roll", leaders.clone())?;
    let mut sending = send.plan("produce", target, &leaders)?;
    sending.keeps_samples = true;
    plan.sending = Some(sending);
    let mut outcome = drive_and_compare(session, plan, &target.topics, &leaders)?;
    let rolls = Rolls::find(std::mem::take(&mut outcome.samples), *segment_bytes, *window);
    let settings = send
        .settings()
        .into_iter()
        .chain([setting("segment-bytes", segment_bytes.to_string()), setting("window", format!("{window:?}"))]);
    let mut measured = measured("roll", target, settings, outcome);
    measured.results = vec![
        setting("rolls", rolls.roll_count.to_string()),
        setting("windows with a roll", rolls.ratios.len().to_string()),
        setting("p99 with a roll against neighbours, median", text_of(rolls.median_ratio())),
    ];
    Ok(measured)
}

fn text_of(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "unknown: no roll has neighbours without one".to_owned(), |ratio| format!("{ratio:.3}"))
}

/// What rolls did to latencies.
#[derive(Debug, PartialEq)]
struct Rolls {
    /// All that were seen while it was measured.
    roll_count: usize,
    /// For each window that has a roll and a neighbour without one: the p99 of the one over that of the others, ascending.
    ratios: Vec<f64>,
}

impl Rolls {
    fn find(mut samples: Vec<Sample>, segment_bytes: u64, window: Duration) -> Self {
        samples.sort_unstable_by_key(|sample| (sample.place, sample.base_offset));
        let mut filled: BTreeMap<Place, u64> = BTreeMap::new();
        let mut latencies: BTreeMap<u128, Vec<Duration>> = BTreeMap::new();
        let mut rolled: BTreeSet<u128> = BTreeSet::new();
        let mut roll_count = 0;
        for sample in &samples {
            let bytes = filled.entry(sample.place).or_default();
            *bytes += sample.bytes;
            let is_roll = *bytes > segment_bytes;
            if is_roll {
                *bytes = sample.bytes;
            }
            let Some(since_start) = sample.since_start else { continue };
            let index = since_start.as_nanos() / window.as_nanos();
            latencies.entry(index).or_default().push(sample.latency);
            if is_roll {
                roll_count += 1;
                rolled.insert(index);
            }
        }
        let calm = |index: &u128| if rolled.contains(index) { None } else { latencies.get(index) };
        let ratio = |index: &u128| {
            let around = [index.checked_sub(1), Some(index + 1)].into_iter().flatten();
            let around: Vec<Duration> = around.filter_map(|index| calm(&index)).flatten().copied().collect();
            Some(p99(latencies.get(index)?.clone())?.div_duration_f64(p99(around)?))
        };
        let mut ratios: Vec<f64> = rolled.iter().filter_map(ratio).collect();
        ratios.sort_unstable_by(f64::total_cmp);
        Self { roll_count, ratios }
    }

    fn median_ratio(&self) -> Option<f64> {
        self.ratios.get(self.ratios.len() / 2).copied()
    }
}

/// The 99th percentile; nothing of nothing, nor of latencies that are all zero.
fn p99(mut latencies: Vec<Duration>) -> Option<Duration> {
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1)?;
    let p99 = latencies[last - last / 100];
    (!p99.is_zero()).then_some(p99)
}

/// If nothing is said: about six rolls a second.
const RATE: Rate = Rate::Bytes(100e6);
const LINGER: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_of_a_roll_stands_against_its_neighbours() {
        let place = Place { topic_index: 0, partition: 0 };
        // A batch of 100 bytes every 10 ms; segments of 1000 bytes, so that each eleventh batch begins one.
        let sample = |index: u64| {
            let is_roll = index > 0 && index.is_multiple_of(10);
            let latency = Duration::from_millis(if is_roll { 6 } else { 2 });
            let since_start = Some(Duration::from_millis(10 * index));
            let base_offset = i64::try_from(index).unwrap();
            Sample { since_start, latency, place, base_offset, bytes: 100 }
        };
        let mut samples: Vec<_> = (0..100).map(sample).collect();
        samples.reverse();
        let rolls = Rolls::find(samples.clone(), 1000, Duration::from_millis(20));
        assert_eq!(rolls, Rolls { roll_count: 9, ratios: vec![3.0; 9] });
        assert_eq!(rolls.median_ratio(), Some(3.0));

        // What came before the measuring fills segments and is not counted.
        for sample in &mut samples {
            sample.since_start = sample.since_start.filter(|since| *since >= Duration::from_millis(500));
        }
        assert_eq!(Rolls::find(samples, 1000, Duration::from_millis(20)).roll_count, 5);
        assert_eq!(Rolls::find(Vec::new(), 1000, Duration::from_millis(20)).median_ratio(), None);
    }
}
