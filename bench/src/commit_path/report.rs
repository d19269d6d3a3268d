//! The tables and the JSON.

use std::fmt::Write as _;

use comfy_table::Table;
use millrace_runtime::FlushScope;
use serde::Serialize;

use super::workload::Variant;
use crate::report::table::markdown;

/// Everything that one run found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) machine: Machine,
    pub(super) single: Vec<SingleRow>,
    pub(super) write_zeroes: WriteZeroes,
    pub(super) rounds: Vec<RoundRow>,
}

/// Where it was found.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    core_count: usize,
    kernel: String,
    /// Whether one flush reaches every file of the device here.
    device_flush: bool,
    load_before: String,
    load_after: String,
}

/// One kind of operation.
#[derive(Debug, Serialize)]
pub(super) struct SingleRow {
    pub(super) name: String,
    pub(super) count: u64,
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) per_second: f64,
    pub(super) mb_per_second: Option<f64>,
    pub(super) cpu_seconds_per_gb: Option<f64>,
    pub(super) cpu_us_each: f64,
}

/// Whether zeros can be had without writing them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub(super) enum WriteZeroes {
    NotAsked,
    Available { mib: u64, ms: f64 },
    Unavailable { error: String },
}

/// One way to make rounds durable, over some files of some size.
#[derive(Debug, Serialize)]
pub(super) struct RoundRow {
    pub(super) file_count: usize,
    pub(super) piece_bytes: usize,
    pub(super) variant: Variant,
    pub(super) round_count: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) rounds_per_second: f64,
    pub(super) cpu_seconds_per_gb: f64,
    pub(super) device_flushes_per_round: Option<f64>,
}

impl Machine {
    pub(super) fn look(scope: FlushScope) -> Self {
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            core_count: std::thread::available_parallelism().map_or(0, usize::from),
            kernel: kernel.trim().to_owned(),
            device_flush: scope == FlushScope::Device,
            load_before: load(),
            load_after: String::new(),
        }
    }

    pub(super) fn look_again(&mut self) {
        self.load_after = load();
    }
}

/// Load averages of 1, 5 and 15 minutes.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().take(3).collect::<Vec<_>>().join(" ")
}

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, single: Vec::new(), write_zeroes: WriteZeroes::NotAsked, rounds: Vec::new() }
    }

    /// Everything as text.
    pub(super) fn tables(&self) -> String {
        let mut text = String::new();
        let Machine { core_count, kernel, device_flush, load_before, load_after } = &self.machine;
        let scope =
            if *device_flush { "reaches the device" } else { "reaches only its file: b and c do not hold here" };
        let _ = writeln!(text, "{core_count} cores, kernel {kernel}, load {load_before} before and {load_after} after");
        let _ = writeln!(text, "a flush {scope}");
        if !self.single.is_empty() {
            let _ = writeln!(text, "\nsingle operations\n{}", self.single_table());
        }
        let _ = match &self.write_zeroes {
            WriteZeroes::NotAsked => Ok(()),
            WriteZeroes::Available { mib, ms } => writeln!(text, "FALLOC_FL_WRITE_ZEROES: {mib} MiB in {ms:.1} ms"),
            WriteZeroes::Unavailable { error } => writeln!(text, "FALLOC_FL_WRITE_ZEROES: {error}"),
        };
        for rows in self.rounds.chunk_by(|one, next| one.piece_bytes == next.piece_bytes) {
            let _ = writeln!(text, "\nrounds of {} bytes per file\n{}", rows[0].piece_bytes, rounds_table(rows));
        }
        text
    }

    fn single_table(&self) -> Table {
        let mut table =
            markdown(&["operation", "n", "p50 ms", "p99 ms", "per s", "MB/s", "CPU s/GB", "CPU us each"], 1);
        for row in &self.single {
            table.add_row([
                row.name.clone(),
                row.count.to_string(),
                optional(row.p50_ms, 3),
                optional(row.p99_ms, 3),
                format!("{:.0}", row.per_second),
                optional(row.mb_per_second, 0),
                optional(row.cpu_seconds_per_gb, 3),
                format!("{:.0}", row.cpu_us_each),
            ]);
        }
        table
    }
}

fn rounds_table(rows: &[RoundRow]) -> Table {
    let mut table = markdown(&["variant", "files", "n", "p50 ms", "p99 ms", "rounds/s", "CPU s/GB", "flushes"], 1);
    for row in rows {
        table.add_row([
            row.variant.title().to_owned(),
            row.file_count.to_string(),
            row.round_count.to_string(),
            format!("{:.3}", row.p50_ms),
            format!("{:.3}", row.p99_ms),
            format!("{:.1}", row.rounds_per_second),
            format!("{:.3}", row.cpu_seconds_per_gb),
            optional(row.device_flushes_per_round, 1),
        ]);
    }
    table
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}
