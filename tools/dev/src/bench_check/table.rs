//! The counts of two commits beside each other, and those of one as a table for the documentation.

use std::fmt::Write as _;

use super::counting::Count;

/// One benchmark in both commits, or in one of them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    name: String,
    base: Option<u64>,
    head: Option<u64>,
}

impl Row {
    /// Whether it executes more instructions than before, by more than `bound` percent.
    pub(super) fn has_grown(&self, bound: f64) -> bool {
        self.change_percent().is_some_and(|change| change > bound)
    }

    fn change_percent(&self) -> Option<f64> {
        let (base, head) = (self.base?, self.head?);
        Some((float(head) / float(base) - 1.0) * 100.0)
    }
}

/// All benchmarks of `head` in their order, then those that only `base` has.
pub(super) fn compare(base: &[Count], head: &[Count]) -> Vec<Row> {
    let find = |counts: &[Count], name: &str| {
        counts.iter().find(|count| count.benchmark.name == name).map(|count| count.instructions)
    };
    let gone = base.iter().filter(|count| find(head, &count.benchmark.name).is_none());
    let names = head.iter().chain(gone).map(|count| count.benchmark.name.clone());
    names.map(|name| Row { base: find(base, &name), head: find(head, &name), name }).collect()
}

/// For people; what has grown by more than `bound` percent is marked.
pub(super) fn comparison(rows: &[Row], bound: f64) -> String {
    let mut text = format!("{:<48} {:>14} {:>14} {:>10}\n", "benchmark", "base", "head", "change");
    let count = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), grouped);
    for row in rows {
        let change = match (row.change_percent(), row.base) {
            (Some(change), _) => format!("{change:+.2} %"),
            (None, None) => "new".to_owned(),
            (None, Some(_)) => "gone".to_owned(),
        };
        let mark = if row.has_grown(bound) { "  GREW" } else { "" };
        let (base, head) = (count(row.base), count(row.head));
        writeln!(text, "{:<48} {base:>14} {head:>14} {change:>10}{mark}", row.name).expect("a String takes all text");
    }
    text
}

/// In Markdown.
pub(super) fn baseline(counts: &[Count]) -> String {
    let mut text = "| benchmark | instructions | per unit |\n|---|---:|---:|\n".to_owned();
    for Count { benchmark, instructions } in counts {
        let each = float(*instructions) / float(benchmark.units);
        let each = if each < 100.0 { format!("{each:.2}") } else { format!("{each:.0}") };
        let (name, count, unit) = (&benchmark.name, grouped(*instructions), &benchmark.unit);
        writeln!(text, "| {name} | {count} | {each} / {unit} |").expect("a String takes all text");
    }
    text
}

/// A number with a comma before every third digit from its end.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Exact up to 2^53 instructions, which callgrind takes months for.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "std has no checked conversion to f64")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::counting::Benchmark;
    use super::*;

    fn counts(list: &[(&str, u64)]) -> Vec<Count> {
        let count = |&(name, instructions): &(&str, u64)| Count {
            benchmark: Benchmark { name: name.to_owned(), units: 8, unit: "batch".to_owned() },
            instructions,
        };
        list.iter().map(count).collect()
    }

    #[test]
    fn growth_beyond_the_bound_is_found_and_marked() {
        let base = counts(&[("same", 1000), ("grown", 1000), ("at the bound", 1000), ("shrunk", 1000)]);
        let head = counts(&[("same", 1000), ("grown", 1031), ("at the bound", 1030), ("shrunk", 500)]);
        let rows = compare(&base, &head);
        let grown: Vec<_> = rows.iter().filter(|row| row.has_grown(3.001)).map(|row| row.name.as_str()).collect();
        assert_eq!(grown, ["grown"]);
        let text = comparison(&rows, 3.001);
        let marked: Vec<_> = text.lines().filter(|line| line.ends_with("GREW")).collect();
        assert!(marked.len() == 1 && marked[0].starts_with("grown") && marked[0].contains("+3.10 %"), "{text}");
        assert!(text.contains("-50.00 %"), "{text}");
    }

    #[test]
    fn what_only_one_commit_has_is_shown_and_no_growth() {
        let rows = compare(&counts(&[("old", 1), ("both", 2)]), &counts(&[("both", 2), ("young", 9)]));
        let names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["both", "young", "old"]);
        assert!(rows.iter().all(|row| !row.has_grown(0.0)));
        let text = comparison(&rows, 0.0);
        assert!(text.lines().any(|line| line.starts_with("young") && line.ends_with("new")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("old") && line.ends_with("gone")), "{text}");
    }

    #[test]
    fn a_baseline_has_figures_per_unit() {
        let text = baseline(&counts(&[("rounds", 1_234_567), ("crc", 10)]));
        assert!(text.ends_with("| rounds | 1,234,567 | 154321 / batch |\n| crc | 10 | 1.25 / batch |\n"), "{text}");
    }

    #[test]
    fn digits_are_grouped_by_three() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
