//! What is made of a run's results: a table, JSON, an interval log and a page, and progress while it lasts.
//!
//! Reads [`Measured`] and nothing else. Every form is a pure function from runs to text or bytes; only [`write_all`] and
//! [`progress`] touch a file or a terminal.

mod axis;
mod charts;
pub(crate) mod figures;
mod interval_log;
mod json;
mod markup;
mod page;
mod plot;
pub(crate) mod progress;
#[cfg(test)]
mod samples;
pub(crate) mod table;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use crate::measured::Measured;
use progress::Progress;
use table::Reader;

/// Where the results of a run go.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct ReportOptions {
    /// Write the results as JSON; `-` is standard output, and the table then goes to standard error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the latencies of every second as an interval log, for HdrHistogram's tools
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Write a page with the figures and plots
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the page's plots as SVG files into a folder that exists
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
    /// Show neither progress nor the table
    #[arg(long, short)]
    quiet: bool,
}

/// What is written where.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outputs {
    stdout: String,
    stderr: String,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl ReportOptions {
    /// Fails if a file could not be written for want of a folder: better known before a run of ten minutes than after.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let json = self.json.as_ref().filter(|_| !self.json_is_output());
        for path in json.into_iter().chain(&self.hlog).chain(&self.html) {
            ensure!(path.as_path() != Path::new(STANDARD_OUTPUT), "only --json may go to standard output");
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            ensure!(folder.is_dir(), "{}: no such folder for {}", folder.display(), path.display());
            ensure!(!path.is_dir(), "{} is a folder", path.display());
        }
        if let Some(folder) = &self.plots {
            ensure!(folder.is_dir(), "{}: no such folder", folder.display());
        }
        Ok(())
    }

    /// Nothing is shown or written.
    pub(crate) fn quiet() -> Self {
        Self { quiet: true, ..Self::default() }
    }

    /// Shows how a run goes on. `planned` is its whole length, ramp and warm-up included; `None` if it lasts until it is done.
    pub(crate) fn progress(&self, planned: Option<Duration>) -> Progress {
        if self.quiet { Progress::nowhere() } else { Progress::on_standard_error(planned) }
    }

    fn outputs(&self, runs: &[Measured], reader: Reader) -> anyhow::Result<Outputs> {
        let mut outputs = Outputs::default();
        let summary = if self.quiet { String::new() } else { table::summary(runs, reader) };
        if self.json_is_output() {
            (outputs.stdout, outputs.stderr) = (json::document(runs), summary);
        } else {
            outputs.stdout = summary;
            outputs.files.extend(self.json.iter().map(|path| (path.clone(), json::document(runs).into_bytes())));
        }
        if let Some(path) = &self.hlog {
            outputs.files.push((path.clone(), interval_log::document(runs)?));
        }
        outputs.files.extend(self.html.iter().map(|path| (path.clone(), page::document(runs).into_bytes())));
        if let Some(folder) = &self.plots {
            outputs.files.extend(plots(runs).map(|(name, svg)| (folder.join(name), svg.into_bytes())));
        }
        Ok(outputs)
    }

    fn json_is_output(&self) -> bool {
        self.json.as_deref() == Some(Path::new(STANDARD_OUTPUT))
    }
}

/// Prints `tables`, and writes `document` as JSON if a file is named for it. `-` is the standard output: the tables go to the
/// standard error then.
pub(crate) fn print_with_json(tables: &str, json: Option<&Path>, document: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = json else {
        println!("{tables}");
        return Ok(());
    };
    let text = serde_json::to_string_pretty(document)? + "\n";
    if path == Path::new(STANDARD_OUTPUT) {
        eprintln!("{tables}");
        print!("{text}");
        return Ok(());
    }
    println!("{tables}");
    std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}

/// Writes a page with the figures and plots of `runs`.
pub(crate) fn write_page(path: &Path, runs: &[Measured]) -> anyhow::Result<()> {
    std::fs::write(path, page::document(runs)).with_context(|| format!("writing {}", path.display()))
}

/// Writes the plots of `runs` as SVG files into a folder; their names begin with `prefix`.
pub(crate) fn write_plots(folder: &Path, prefix: &str, runs: &[Measured]) -> anyhow::Result<()> {
    for (name, svg) in plots(runs) {
        let path = folder.join(format!("{prefix}-{name}"));
        std::fs::write(&path, svg).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// Names and contents.
fn plots(runs: &[Measured]) -> impl Iterator<Item = (String, String)> {
    charts::chapters(runs).into_iter().flat_map(|chapter| chapter.files().collect::<Vec<_>>())
}

/// Instead of a file's name.
const STANDARD_OUTPUT: &str = "-";

/// Writes the results of `runs` everywhere they are asked for.
///
/// A file that cannot be written keeps none of the others from being written. Fails after that, and also if a run has
/// findings: whoever passes the error on exits non-zero, as a run that lost anything must.
pub(crate) fn write_all(options: &ReportOptions, runs: &[Measured]) -> anyhow::Result<()> {
    let is_terminal = if options.json_is_output() { io::stderr().is_terminal() } else { io::stdout().is_terminal() };
    let reader = if is_terminal { Reader::Terminal } else { Reader::Plain };
    let outputs = options.outputs(runs, reader)?;
    let mut failed = None;
    for (path, bytes) in &outputs.files {
        let written = std::fs::write(path, bytes).with_context(|| format!("writing {}", path.display()));
        failed = failed.or(written.err());
    }
    io::stderr().write_all(outputs.stderr.as_bytes()).context("writing to standard error")?;
    io::stdout().write_all(outputs.stdout.as_bytes()).context("writing to standard output")?;
    if let Some(error) = failed {
        return Err(error);
    }
    let mut findings = runs.iter().flat_map(|run| &run.findings);
    let Some(first) = findings.next() else { return Ok(()) };
    bail!("the results do not count: {} (and {} more findings)", figures::clean(first), findings.count());
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::samples::{hostile_run, run};
    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        report: ReportOptions,
    }

    fn options(arguments: &[&str]) -> ReportOptions {
        Command::parse_from(["test"].iter().chain(arguments)).report
    }

    #[test]
    fn a_table_on_standard_output_makes_room_for_json() {
        let runs = [run("produce", "a", &[(100, 1)])];
        let plain = options(&[]).outputs(&runs, Reader::Plain).unwrap();
        assert!(plain.stdout.starts_with("produce against a") && plain.stderr.is_empty(), "{plain:?}");
        let json = options(&["--json", "-"]).outputs(&runs, Reader::Plain).unwrap();
        assert!(json.stdout.starts_with('{') && json.stderr == plain.stdout && json.files.is_empty(), "{json:?}");
        let quiet = options(&["--json", "-", "--quiet"]).outputs(&runs, Reader::Plain).unwrap();
        assert_eq!((quiet.stdout, quiet.stderr), (json.stdout, String::new()));
    }

    #[test]
    fn every_file_is_written_even_if_one_cannot_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let arguments = [
            "--quiet",
            "--json",
            &path("missing/a.json"),
            "--plots",
            &path(""),
            "--hlog",
            &path("a.hlog"),
            "--html",
            &path("a.html"),
        ];
        let error = write_all(&options(&arguments), &[run("produce", "a", &[(100, 1)])]).unwrap_err();
        assert!(error.to_string().ends_with("missing/a.json"), "{error:#}");
        assert!(std::fs::read_to_string(path("produce-latency.svg")).unwrap().starts_with("<svg"));
        assert!(std::fs::read_to_string(path("a.hlog")).unwrap().starts_with("#[Histogram log format"));
        assert!(std::fs::read_to_string(path("a.html")).unwrap().starts_with("<!DOCTYPE html>"));
    }

    #[test]
    fn a_run_with_findings_is_written_and_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        let runs = [run("produce", "a", &[]), hostile_run()];
        let error = write_all(&options(&["-q", "--json", path.to_str().unwrap()]), &runs).unwrap_err();
        assert!(error.to_string().starts_with("the results do not count: </script>"), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
        assert!(std::fs::read_to_string(path).unwrap().contains("\"format\": 1"));
        write_all(&options(&["-q"]), &runs[..1]).unwrap();
    }

    #[test]
    fn places_that_cannot_be_written_are_known_before() {
        let folder = tempfile::tempdir().unwrap();
        let text = folder.path().to_str().unwrap();
        for good in [vec![], vec!["--json", "-"], vec!["--html", "a.html"]] {
            options(&good).check().unwrap();
        }
        let missing = format!("{text}/missing/a");
        for wrong in [["--html", "-"], ["--hlog", "-"], ["--hlog", text], ["--json", &missing], ["--plots", &missing]] {
            assert!(options(&wrong).check().is_err(), "{wrong:?}");
        }
    }
}
