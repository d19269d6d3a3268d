//! What the rounds say of each row: medians, spreads, and whether the bounds are kept. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::loads::Side;
use super::rows::{Judged, Row};
use crate::report::table::markdown;

/// The figures of one side, one for each round.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<f64>);

impl Samples {
    pub(super) fn new(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().filter(|figure| figure.is_finite()).collect();
        figures.sort_unstable_by(f64::total_cmp);
        Self(figures)
    }

    /// The middle one, or the mean of the two in the middle.
    pub(super) fn median(&self) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        Some(f64::midpoint(self.0[last / 2], self.0[last.div_ceil(2)]))
    }

    /// The lowest and the highest.
    fn spread(&self) -> Option<[f64; 2]> {
        Some([*self.0.first()?, *self.0.last()?])
    }
}

/// One row of the result. The names of its fields are those of the JSON, which docs/REPORTS.md explains.
#[derive(Debug, Serialize)]
pub(super) struct Verdict {
    name: &'static str,
    unit: &'static str,
    /// `figure`, `ratio to peer` or `ratio to flushed peer`: what the bounds are for.
    judged: &'static str,
    ours: Option<f64>,
    theirs: Option<f64>,
    ratio: Option<f64>,
    must: f64,
    reach: f64,
    holds: Option<bool>,
    reaches: Option<bool>,
    ours_spread: Option<[f64; 2]>,
    theirs_spread: Option<[f64; 2]>,
    load: &'static str,
}

impl Verdict {
    /// Judges a row by the figures of both sides. A row that was not measured holds neither way.
    pub(super) fn new(row: &Row, ours: &Samples, theirs: &Samples) -> Self {
        let (our_median, their_median) = (ours.median(), theirs.median());
        let ratio =
            our_median.zip(their_median).filter(|(_, theirs)| *theirs != 0.0).map(|(ours, theirs)| ours / theirs);
        let value = if row.judged == Judged::Figure { our_median } else { ratio };
        Self {
            name: row.name,
            unit: row.unit,
            judged: match row.judged {
                Judged::Figure => "figure",
                Judged::RatioToPeer => "ratio to peer",
                Judged::RatioToFlushed => "ratio to flushed peer",
            },
            ours: our_median,
            theirs: their_median,
            ratio,
            must: row.must,
            reach: row.reach,
            holds: value.map(|value| row.keeps(value, row.must)),
            reaches: value.map(|value| row.keeps(value, row.reach)),
            ours_spread: ours.spread(),
            theirs_spread: theirs.spread(),
            load: row.load,
        }
    }

    /// Whether it was measured and its bound is not kept.
    pub(super) fn falls_short(&self) -> bool {
        self.holds == Some(false)
    }
}

/// All rows, for a reader.
pub(super) fn table(verdicts: &[Verdict], peer: &str) -> String {
    let header = ["row", "unit", "ours", peer, "ratio", "spread of ours", "of theirs", "must", "reach", "holds"];
    let mut table = markdown(&header, 2);
    for verdict in verdicts {
        let bound = if verdict.judged == "figure" { "" } else { " of theirs" };
        let holds = match (verdict.holds, verdict.reaches) {
            (Some(true), Some(true)) => "reached",
            (Some(true), _) => "yes",
            (Some(false), _) => "NO",
            (None, _) => "-",
        };
        table.add_row([
            verdict.name.to_owned(),
            verdict.unit.to_owned(),
            figure(verdict.ours),
            figure(verdict.theirs),
            figure(verdict.ratio),
            spread(verdict.ours_spread),
            spread(verdict.theirs_spread),
            format!("{}{bound}", figure(Some(verdict.must))),
            figure(Some(verdict.reach)),
            holds.to_owned(),
        ]);
    }
    table.to_string()
}

/// What one run took.
pub(super) struct Cost {
    /// The load, whose turn it was, and the broker's name.
    pub(super) of: (&'static str, Side, String),
    pub(super) megabytes_per_second: Option<f64>,
    /// CPU seconds of the broker for 10^9 bytes.
    pub(super) cpu_per_gb: Option<f64>,
    pub(super) resident_mib_max: Option<f64>,
}

/// Medians over the rounds of what each load took of each broker, in the order of the runs.
pub(super) fn cost_table(costs: impl Iterator<Item = Cost>) -> String {
    let mut order = Vec::new();
    let mut samples: BTreeMap<_, [Vec<Option<f64>>; 3]> = BTreeMap::new();
    for cost in costs {
        let of = samples.entry((cost.of.0, cost.of.1)).or_insert_with(|| {
            order.push(cost.of);
            Default::default()
        });
        for (column, value) in of.iter_mut().zip([cost.megabytes_per_second, cost.cpu_per_gb, cost.resident_mib_max]) {
            column.push(value);
        }
    }
    let mut table = markdown(&["load", "broker", "MB/s", "CPU s/GB", "peak MiB"], 2);
    for (load, side, broker) in order {
        let columns = samples.remove(&(load, side)).unwrap_or_default();
        let medians = columns.map(|column| figure(Samples::new(column.into_iter().flatten()).median()));
        table.add_row([load.to_owned(), broker].into_iter().chain(medians));
    }
    table.to_string()
}

fn spread(spread: Option<[f64; 2]>) -> String {
    spread.map_or_else(|| "-".to_owned(), |[low, high]| format!("{} to {}", figure(Some(low)), figure(Some(high))))
}

/// About three digits.
fn figure(value: Option<f64>) -> String {
    let Some(value) = value else { return "-".to_owned() };
    let digits = [0.9995, 9.995, 99.95].into_iter().filter(|limit| value.abs() < *limit).count();
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::super::rows::ROWS;
    use super::*;

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn medians_are_in_the_middle_and_figures_that_are_none_do_not_count() {
        assert_eq!(Samples::new([3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(Samples::new([4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
        assert_eq!(Samples::new([f64::NAN, 7.0, f64::INFINITY]).median(), Some(7.0));
        assert_eq!(Samples::default().median(), None);
        assert_eq!(Samples::new([3.0, 1.0, 2.0]).spread(), Some([1.0, 3.0]));
    }

    #[test]
    fn a_figure_is_judged_by_itself_whatever_the_peer_did() {
        let cpu = row("produce, 256 KiB batches: broker CPU");
        let verdict = Verdict::new(cpu, &Samples::new([0.5]), &Samples::new([0.1]));
        assert_eq!((verdict.holds, verdict.reaches, verdict.ratio), (Some(true), Some(false), Some(5.0)));
        let share = row("consume from memory: share of loopback");
        let verdict = Verdict::new(share, &Samples::new([0.6]), &Samples::default());
        assert_eq!((verdict.holds, verdict.theirs), (Some(false), None));
        assert!(verdict.falls_short());
    }

    #[test]
    fn a_ratio_needs_both_sides() {
        let p99 = row("10,000/s: p99, peer flushes");
        assert_eq!(Verdict::new(p99, &Samples::new([2.0]), &Samples::new([20.0])).holds, Some(true));
        assert_eq!(Verdict::new(p99, &Samples::new([2.1]), &Samples::new([20.0])).holds, Some(false));
        let half = Verdict::new(p99, &Samples::new([2.0]), &Samples::default());
        assert_eq!(half.holds, None);
        assert!(!half.falls_short());
    }

    #[test]
    fn costs_are_medians_in_the_order_of_the_runs() {
        let cost = |load, side, cpu_per_gb| Cost {
            of: (load, side, format!("{side:?}")),
            megabytes_per_second: None,
            cpu_per_gb,
            resident_mib_max: Some(10.0),
        };
        let table = cost_table(
            [
                cost("z", Side::Theirs, Some(1.0)),
                cost("a", Side::Ours, None),
                cost("z", Side::Theirs, Some(9.0)),
                cost("z", Side::Theirs, Some(2.0)),
            ]
            .into_iter(),
        );
        let lines: Vec<String> = table.lines().skip(2).map(|line| line.replace(' ', "")).collect();
        assert_eq!(lines, ["|z|Theirs|-|2.00|10.0|", "|a|Ours|-|-|10.0|"]);
    }

    #[test]
    fn the_table_says_what_holds() {
        let cpu = row("produce, 256 KiB batches: broker CPU");
        let verdicts = [0.39, 0.5, 0.7].map(|figure| Verdict::new(cpu, &Samples::new([figure]), &Samples::default()));
        let table = table(&verdicts, "Kafka");
        for (line, holds) in table.lines().skip(2).zip(["reached", "yes", "NO"]) {
            assert!(line.contains(&format!("{holds} |")), "{table}");
        }
    }
}
