//! The summary as text: one table for all runs, then what the processes took, then what went wrong.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, TableStyle, presets};

use super::figures::{Cost, QUANTILES, clean, figure, labels, milliseconds, per_second, quantile};
use crate::measured::{Measured, ProcessUse, Series};
use crate::numbers::float;

/// Whom the text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A person at a terminal: lines are drawn.
    Terminal,
    /// A file or a program: plain characters, as a Markdown table.
    Plain,
}

/// An empty Markdown table. Behind the first `name_column_count` columns are numbers.
pub(crate) fn markdown(header: &[&str], name_column_count: usize) -> Table {
    empty(header, name_column_count, Reader::Plain)
}

fn empty(header: &[&str], name_column_count: usize, reader: Reader) -> Table {
    let mut table = Table::new();
    table.load_style(style(reader)).set_header(header);
    for column in table.column_iter_mut().skip(name_column_count) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// Everything a person wants to know at the end of `runs`.
pub(super) fn summary(runs: &[Measured], reader: Reader) -> String {
    let mut text = String::new();
    for run in runs {
        let (task, target, elapsed) = (clean(&run.task), clean(&run.target), run.elapsed.as_secs_f64());
        let _ = writeln!(text, "{task} against {target}, measured for {elapsed:.1} s");
    }
    let _ = writeln!(text, "{}\nlatency in milliseconds", table(runs, reader));
    let labels = labels(runs);
    for (run, label) in runs.iter().zip(&labels) {
        for (name, value) in &run.results {
            let label = if runs.len() > 1 { format!("{label}: ") } else { String::new() };
            let _ = writeln!(text, "{label}{}: {}", clean(name), clean(value));
        }
    }
    for (run, label) in runs.iter().zip(&labels) {
        let label = if runs.len() > 1 { format!("{label}: ") } else { String::new() };
        if let Some(broker) = run.broker {
            let _ = writeln!(text, "{label}broker took {}", process(broker, run));
        }
        if run.client != ProcessUse::default() {
            let _ = writeln!(text, "{label}client took {}", process(run.client, run));
        }
    }
    for (run, label) in runs.iter().zip(&labels) {
        for finding in &run.findings {
            let _ = writeln!(text, "WRONG: {label}: {}", clean(finding));
        }
    }
    text
}

fn table(runs: &[Measured], reader: Reader) -> Table {
    let mut header = vec!["series", "records/s", "MB/s"];
    header.extend(QUANTILES.map(|(_, name)| name));
    header.push("errors");
    if runs.len() > 1 {
        header.insert(0, "run");
    }
    let name_column_count = if runs.len() > 1 { 2 } else { 1 };
    let mut table = empty(&header, name_column_count, reader);
    for (run, label) in runs.iter().zip(labels(runs)) {
        for series in &run.series {
            let mut cells = vec![clean(&series.name)];
            cells.extend(series_figures(run, series));
            if runs.len() > 1 {
                cells.insert(0, label.clone());
            }
            table.add_row(cells);
        }
    }
    table
}

/// A series in figures, after its name: rates, then [`QUANTILES`], then errors.
pub(super) fn series_figures(run: &Measured, series: &Series) -> Vec<String> {
    let megabytes = per_second(series.counts.bytes, run.elapsed).map(|bytes| bytes / 1e6);
    let mut figures = vec![figure(per_second(series.counts.record_count, run.elapsed), 0), figure(megabytes, 1)];
    figures.extend(QUANTILES.map(|(at, _)| milliseconds(quantile(&series.latency, at))));
    figures.push(series.counts.error_count.to_string());
    figures
}

/// What a process took, as a sentence's end.
pub(super) fn process(process: ProcessUse, run: &Measured) -> String {
    let cost = Cost::of(process, run);
    let mut text = format!("{:.2} CPU s", cost.cpu_s);
    if let Some(per_gb) = cost.cpu_s_per_gb {
        let _ = write!(text, ", {per_gb:.3} CPU s/GB");
    }
    if let Some(per_million) = cost.cpu_s_per_million_records {
        let _ = write!(text, ", {per_million:.3} CPU s per million records");
    }
    if process.resident_bytes_max > 0 {
        let mib = float(process.resident_bytes_max) / f64::from(1 << 20);
        let _ = write!(text, ", {mib:.0} MiB resident at most");
    }
    text
}

fn style(reader: Reader) -> TableStyle {
    match reader {
        Reader::Terminal => presets::UTF8_FULL_CONDENSED,
        Reader::Plain => presets::ASCII_MARKDOWN,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::report::samples::{empty_run, hostile_run, run};

    #[test]
    fn one_run_reads_so() {
        let mut run = run("produce", "127.0.0.1:9092", &[(100, 1), (900, 2), (2_900, 40)]);
        run.broker = Some(ProcessUse { cpu: Duration::from_millis(250), resident_bytes_max: 100 << 20 });
        run.findings.push("2 records of partition 3 are missing".to_owned());
        let expected = "\
produce against 127.0.0.1:9092, measured for 3.0 s
| series  | records/s | MB/s |   p50 |   p90 |   p99 | p99.9 | p99.99 |   max | errors |
|---------|-----------|------|-------|-------|-------|-------|--------|-------|--------|
| produce |        10 |  0.0 | 2.001 | 40.01 | 40.01 | 40.01 |  40.01 | 40.01 |      0 |
latency in milliseconds
rolls: 7
broker took 0.25 CPU s, 8138.021 CPU s/GB, 8333.333 CPU s per million records, 100 MiB resident at most
client took 0.50 CPU s, 16276.042 CPU s/GB, 16666.667 CPU s per million records, 5 MiB resident at most
WRONG: 127.0.0.1:9092: 2 records of partition 3 are missing
";
        assert_eq!(summary(&[run], Reader::Plain), expected);
    }

    #[test]
    fn several_runs_share_a_table() {
        let runs = [run("produce", "ours", &[(100, 1)]), run("produce", "theirs", &[(100, 2)])];
        let text = summary(&runs, Reader::Plain);
        assert!(text.contains("| run    | series  | records/s |"), "{text}");
        assert!(text.contains("| theirs | produce |         3 |"), "{text}");
        assert!(text.contains("\ntheirs: client took 0.50 CPU s"), "{text}");
    }

    #[test]
    fn an_empty_run_has_no_figures_and_no_unknown_processes() {
        let mut run = empty_run();
        run.client = ProcessUse::default();
        let text = summary(&[run], Reader::Plain);
        assert!(text.contains("| produce |         - |    - |"), "{text}");
        assert!(!text.contains("client took"), "{text}");
    }

    #[test]
    fn hostile_text_stays_on_its_line() {
        let text = summary(&[hostile_run()], Reader::Plain);
        assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{text:?}");
        assert_eq!(text.lines().count(), 9, "{text}");
    }

    #[test]
    fn a_terminal_has_lines_drawn() {
        let text = summary(&[run("produce", "a", &[(100, 1)])], Reader::Terminal);
        assert!(text.contains('│') && text.contains("produce"), "{text}");
    }
}
