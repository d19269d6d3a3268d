//! `millbench compare`: the same loads against Millrace and another broker, in turn, on fresh data.
//!
//! 1. Each round goes through the [`loads`]. For each of them every broker is started on an empty directory, loaded, and
//!    ended, one after the other and never two at a time; which one is first changes from round to round.
//! 2. What the machine itself can do is measured right before each run that is compared with it ([`crate::limits`]).
//! 3. The [`rows`] take their figures from the runs; medians over the rounds are judged ([`verdict`]).
//!
//! - [`broker`] starts and ends the brokers, [`kafka`] knows Apache Kafka; [`evidence`] is what a run leaves.

mod broker;
mod evidence;
mod kafka;
mod loads;
mod rows;
mod verdict;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use serde::Serialize;

use broker::Launcher;
use evidence::Evidence;
use loads::{COMMAND, LOADS, Load, SECOND, Scale, Side, Stage};
use rows::{Judged, ROWS, Row};
use verdict::{Cost, Samples, Verdict};

use crate::cpu;
use crate::limits::{self, Limits};
use crate::measured::Measured;
use crate::report::{self, ReportOptions};
use crate::stop::Stop;
use crate::tasks::{LoadTask, Session};

#[derive(clap::Args, Debug)]
pub(crate) struct Arguments {
    /// A directory on the device to measure; each broker gets a folder in it, which is removed
    #[arg(long, default_value = ".")]
    directory: PathBuf,
    /// One short round with fewer partitions and connections: a first look
    #[arg(long)]
    quick: bool,
    /// How often each broker has its turn
    #[arg(long, default_value_t = 5, conflicts_with = "quick")]
    rounds: usize,
    /// Only the rows whose name or load contains one of these, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Millrace's program; by default the one beside this one
    #[arg(long)]
    millrace: Option<PathBuf>,
    /// A folder with the jars of Apache Kafka; by default they are fetched once with Maven
    #[arg(long, conflicts_with = "peer")]
    kafka_jars: Option<PathBuf>,
    /// Compare with what this shell command starts; it must stay in the foreground and begin with no data
    #[arg(long, requires = "peer_bootstrap")]
    peer: Option<String>,
    /// Where that one listens, `HOST:PORT`
    #[arg(long, requires = "peer")]
    peer_bootstrap: Option<String>,
    /// Write the rows as JSON; `-` is standard output, and the table then goes to standard error
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page for each load into a folder that exists, with the last round of all brokers
    #[arg(long, value_name = "FOLDER")]
    html: Option<PathBuf>,
    /// Write their plots as SVG files into a folder that exists
    #[arg(long, value_name = "FOLDER")]
    plots: Option<PathBuf>,
}

impl Arguments {
    fn round_count(&self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }
}

/// The result as JSON.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    quick: bool,
    rounds: usize,
    peer: &'a str,
    rows: &'a [Verdict],
    loads: Vec<LoadForm>,
    runs: &'a [RunForm<'a>],
    failures: &'a [String],
}

/// What a reader would type to repeat a load.
#[derive(Serialize)]
struct LoadForm {
    name: &'static str,
    lines: Vec<String>,
}

/// One run: what rows do not tell.
#[derive(Serialize)]
struct RunForm<'a> {
    load: &'static str,
    broker: String,
    round: usize,
    bytes_per_s: Option<f64>,
    cpu_s_per_gb: Option<f64>,
    resident_mib_max: Option<f64>,
    floors: &'a Limits,
    findings: Vec<String>,
}

/// A run, and whose.
struct Run {
    load: &'static str,
    side: Side,
    round: usize,
    evidence: Evidence,
}

/// What came of all runs.
#[derive(Default)]
struct Runs {
    done: Vec<Run>,
    /// A sentence for each run that did not come to its end.
    failures: Vec<String>,
}

/// All that is the same for every run.
struct Comparison<'a> {
    arguments: &'a Arguments,
    ours: Launcher,
    theirs: Launcher,
    flushed: Option<Launcher>,
    peer: String,
    stop: Stop,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.rounds > 0, "--rounds: at least one");
    for folder in [Some(&arguments.directory), arguments.html.as_ref(), arguments.plots.as_ref()].into_iter().flatten()
    {
        ensure!(folder.is_dir(), "{} is no folder", folder.display());
    }
    let rows: Vec<&Row> = ROWS.iter().filter(|row| is_wanted(row, &arguments.only)).collect();
    ensure!(!rows.is_empty(), "--only: no row is called that");
    let comparison = Comparison::new(arguments)?;
    let runs = comparison.run_all(&rows);
    let verdicts: Vec<Verdict> = rows.iter().map(|row| judge(row, &runs.done)).collect();
    comparison.write(&verdicts, runs)
}

fn is_wanted(row: &Row, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|part| row.name.contains(part.as_str()) || row.load.contains(part.as_str()))
}

fn judge(row: &Row, runs: &[Run]) -> Verdict {
    let samples = |side| {
        let own = runs.iter().filter(|run| run.load == row.load && run.side == side);
        Samples::new(own.filter_map(|run| (row.figure)(&run.evidence)))
    };
    let peer = if row.judged == Judged::RatioToFlushed { Side::TheirsFlushed } else { Side::Theirs };
    Verdict::new(row, &samples(Side::Ours), &samples(peer))
}

impl<'a> Comparison<'a> {
    fn new(arguments: &'a Arguments) -> anyhow::Result<Self> {
        let program = match &arguments.millrace {
            Some(program) => program.clone(),
            None => std::env::current_exe()?.with_file_name("millrace"),
        };
        ensure!(
            program.is_file(),
            "{} is not there: cargo build --release -p millrace-server, or give --millrace",
            program.display()
        );
        let (theirs, flushed, peer) = if let Some(command) = &arguments.peer {
            let bootstrap = arguments.peer_bootstrap.clone().context("--peer needs --peer-bootstrap")?;
            (Launcher::Command { command: command.clone(), bootstrap }, None, "peer".to_owned())
        } else {
            let jars = arguments.kafka_jars.clone().map_or_else(kafka::jars, Ok)?;
            let flushed = Launcher::Kafka { jars: jars.clone(), settings: &["log.flush.interval.messages=1"] };
            (Launcher::Kafka { jars, settings: &[] }, Some(flushed), format!("Kafka {}", kafka::VERSION))
        };
        let ours = Launcher::Millrace { program };
        Ok(Self { arguments, ours, theirs, flushed, peer, stop: Stop::on_signals()? })
    }

    /// Runs the loads of `rows`. Asked to stop, it comes back with what there is; a run that fails costs no other one.
    fn run_all(&self, rows: &[&Row]) -> Runs {
        let rounds = self.arguments.round_count();
        let mut runs = Runs::default();
        for round in 0..rounds {
            let wanted = LOADS.iter().filter(|load| rows.iter().any(|row| row.load == load.name));
            for load in wanted.filter(|load| round == 0 || !load.once) {
                let mut sides = load.sides.to_vec();
                if round % 2 == 1 {
                    sides.reverse();
                }
                for side in sides {
                    if self.stop.is_asked() {
                        return runs;
                    }
                    let able = |launcher: &&Launcher| launcher.knows_its_data() || !load.needs_its_data();
                    let Some(launcher) = self.launcher(side).filter(able) else { continue };
                    let title = format!("round {} of {rounds}: {}, {}", round + 1, load.name, self.name(side));
                    eprintln!("{title}");
                    match self.run_one(load, launcher) {
                        Ok(mut evidence) => {
                            evidence.measured.target = self.name(side);
                            runs.done.push(Run { load: load.name, side, round, evidence });
                        }
                        Err(error) => {
                            eprintln!("failed: {error:#}");
                            runs.failures.push(format!("{title}: {error:#}"));
                        }
                    }
                }
            }
        }
        runs
    }

    fn run_one(&self, load: &Load, launcher: &Launcher) -> anyhow::Result<Evidence> {
        let mut floors = Limits::default();
        for part in load.floors {
            floors.extend(limits::sample(&self.arguments.directory, *part)?);
        }
        let prepared = launcher.prepare(&self.arguments.directory, "broker", load.settings)?;
        let second = load.names(SECOND).then(|| launcher.prepare(&self.arguments.directory, "second", load.settings));
        let second = second.transpose()?.map(|second| second.start(&self.stop)).transpose()?;
        let mut stage = Stage {
            bootstrap: prepared.bootstrap.clone(),
            admin: prepared.admin.clone(),
            second: second.as_ref().map(|second| second.prepared().bootstrap.clone()).unwrap_or_default(),
            ..Stage::default()
        };
        if load.names(COMMAND) {
            stage.command = prepared.shell_line();
            let measured = self.measure(load, &stage, || Ok(()))?;
            return Ok(Evidence { measured, floors, disk_read_bytes: 0, resident_bytes_before: 0 });
        }
        let broker = prepared.start(&self.stop)?;
        stage.pid = broker.pid();
        let (mut resident_bytes_before, mut read_before) = (0, 0);
        let measured = self.measure(load, &stage, || {
            resident_bytes_before = cpu::resident_bytes(broker.pid())?;
            read_before = broker.disk_read_bytes()?;
            Ok(())
        })?;
        let disk_read_bytes = broker.disk_read_bytes()? - read_before;
        Ok(Evidence { measured, floors, disk_read_bytes, resident_bytes_before })
    }

    /// Runs the lines of a load; `look` comes before the last one, which is measured.
    fn measure(
        &self,
        load: &Load,
        stage: &Stage,
        look: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<Measured> {
        let report = ReportOptions::quiet();
        let session = Session { stop: &self.stop, report: &report };
        let lines = load.lines_on(self.scale(), stage);
        let (last, before) = lines.split_last().context("a load has a line")?;
        for line in before {
            let measured = LoadTask::parse(line)?.measure(&session)?;
            ensure!(measured.findings.is_empty(), "{}: {}", line.join(" "), measured.findings.join("; "));
        }
        look()?;
        LoadTask::parse(last)?.measure(&session)
    }

    fn scale(&self) -> Scale {
        if self.arguments.quick { Scale::Quick } else { Scale::Full }
    }

    fn launcher(&self, side: Side) -> Option<&Launcher> {
        match side {
            Side::Ours => Some(&self.ours),
            Side::Theirs => Some(&self.theirs),
            Side::TheirsFlushed => self.flushed.as_ref(),
        }
    }

    fn name(&self, side: Side) -> String {
        match side {
            Side::Ours => "Millrace".to_owned(),
            Side::Theirs => self.peer.clone(),
            Side::TheirsFlushed => format!("{}, flush.messages=1", self.peer),
        }
    }

    /// Writes the results everywhere they are asked for. Fails after that if anything was lost or reordered, or a run failed.
    fn write(&self, verdicts: &[Verdict], Runs { done: runs, failures }: Runs) -> anyhow::Result<()> {
        let costs = runs.iter().map(|run| self.cost(run));
        let table = format!("{}\n\n{}", verdict::table(verdicts, &self.peer), verdict::cost_table(costs));
        let forms: Vec<RunForm<'_>> = runs.iter().map(|run| self.form(run)).collect();
        let document = Document {
            format: FORMAT,
            quick: self.arguments.quick,
            rounds: self.arguments.round_count(),
            peer: &self.peer,
            rows: verdicts,
            loads: LOADS.iter().map(|load| LoadForm { name: load.name, lines: (load.lines)(self.scale()) }).collect(),
            runs: &forms,
            failures: &failures,
        };
        report::print_with_json(&table, self.arguments.json.as_deref(), &document)?;
        let short = verdicts.iter().filter(|verdict| verdict.falls_short()).count();
        eprintln!("{short} of {} rows fall short of what they must keep", verdicts.len());
        let found: Vec<String> = forms.iter().flat_map(RunForm::named_findings).collect();
        self.write_pages(runs)?;
        ensure!(found.is_empty(), "the results do not count: {}", found.join("; "));
        ensure!(failures.is_empty(), "not all of it could be run: {}", failures.join("; "));
        Ok(())
    }

    fn cost(&self, run: &Run) -> Cost {
        let Run { load, side, evidence, .. } = run;
        Cost {
            of: (load, *side, self.name(*side)),
            megabytes_per_second: evidence.bytes_per_second().map(|bytes| bytes / 1e6),
            cpu_per_gb: evidence.cpu_per_gb(),
            resident_mib_max: evidence.resident_mib_max(),
        }
    }

    /// One page, and plots, for each load: the last run of each broker.
    fn write_pages(&self, runs: Vec<Run>) -> anyhow::Result<()> {
        let mut pages: BTreeMap<&str, BTreeMap<Side, Measured>> = BTreeMap::new();
        for run in runs {
            pages.entry(run.load).or_default().insert(run.side, run.evidence.measured);
        }
        for (load, measured) in pages {
            let name = load.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
            let measured: Vec<Measured> = measured.into_values().collect();
            if let Some(folder) = &self.arguments.html {
                report::write_page(&folder.join(&name).with_extension("html"), &measured)?;
            }
            if let Some(folder) = &self.arguments.plots {
                report::write_plots(folder, &name, &measured)?;
            }
        }
        Ok(())
    }

    fn form<'r>(&self, run: &'r Run) -> RunForm<'r> {
        let Run { load, side, round, evidence } = run;
        RunForm {
            load,
            broker: self.name(*side),
            round: *round,
            bytes_per_s: evidence.bytes_per_second(),
            cpu_s_per_gb: evidence.cpu_per_gb(),
            resident_mib_max: evidence.resident_mib_max(),
            floors: &evidence.floors,
            findings: evidence.measured.findings.clone(),
        }
    }
}

impl RunForm<'_> {
    fn named_findings(&self) -> Vec<String> {
        self.findings.iter().map(|finding| format!("{}, {}: {finding}", self.load, self.broker)).collect()
    }
}

/// Of the JSON. A new field leaves it as it is; a field that goes, or means something else, raises it.
const FORMAT: u32 = 1;

#[cfg(test)]
mod tests;
