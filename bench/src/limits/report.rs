//! What was measured, as tables and as JSON. Units are in the names; docs/BENCHMARKING.md explains each field.

use std::fmt::Write as _;

use comfy_table::Table;
use serde::Serialize;

use crate::report::table::markdown;

/// The machine's floors. Parts that were not measured are empty.
#[derive(Debug, Serialize)]
pub(crate) struct Limits {
    /// Changes when a field changes its meaning or goes; new fields leave it as it is.
    pub(crate) format: u32,
    /// One for each count of connections.
    pub(crate) loopback: Vec<LoopbackRow>,
    /// One for each count of connections.
    pub(crate) echo: Vec<EchoRow>,
    /// Over unwritten extents, then over written ones.
    pub(crate) disk: Vec<DiskRow>,
    /// One for each way and size of write.
    pub(crate) flush: Vec<FlushRow>,
}

/// Bytes through loopback connections.
#[derive(Debug, Serialize)]
pub(crate) struct LoopbackRow {
    pub(crate) connection_count: usize,
    /// Of all connections together.
    pub(crate) bytes_per_second: f64,
    /// Of the side that sends, as a broker does that is consumed from.
    pub(crate) sender_cpu_seconds_per_gb: f64,
    /// Of the side that receives, as a broker does that is produced to.
    pub(crate) receiver_cpu_seconds_per_gb: f64,
}

/// Requests of 1 KiB, answers of 100 bytes. The CPU time is the server's thread's.
#[derive(Debug, Serialize)]
pub(crate) struct EchoRow {
    pub(crate) connection_count: usize,
    /// With one request in flight on each connection.
    pub(crate) closed_requests_per_second: f64,
    pub(crate) closed_cpu_us_per_request: f64,
    /// At the rate asked for, or half of the closed loop's.
    pub(crate) open_requests_per_second: f64,
    pub(crate) open_cpu_us_per_request: f64,
    /// Quantiles of the open loop's latency, from the intended time.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p99_9_ms: f64,
}

/// Direct writes of 1 MiB, eight in flight, and a flush at the end. The CPU time is the process's.
#[derive(Debug, Serialize)]
pub(crate) struct DiskRow {
    /// `unwritten` or `written`: what the extents were before.
    pub(crate) extents: &'static str,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_second: f64,
    pub(crate) cpu_seconds_per_gb: f64,
}

/// A write over written extents and its `fdatasync`, one after the other.
#[derive(Debug, Serialize)]
pub(crate) struct FlushRow {
    /// `blocking`: plain system calls, the floor. `runtime`: through the project's runtime, as a broker does it.
    pub(crate) way: &'static str,
    pub(crate) write_bytes: usize,
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) p99_9_ms: f64,
    pub(crate) max_ms: f64,
}

impl Limits {
    /// Adds the rows of `other`.
    pub(crate) fn extend(&mut self, other: Self) {
        self.loopback.extend(other.loopback);
        self.echo.extend(other.echo);
        self.disk.extend(other.disk);
        self.flush.extend(other.flush);
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { format: FORMAT, loopback: Vec::new(), echo: Vec::new(), disk: Vec::new(), flush: Vec::new() }
    }
}

impl Limits {
    /// Everything as text.
    pub(crate) fn tables(&self) -> String {
        let mut parts = Vec::new();
        if !self.loopback.is_empty() {
            parts.push(("loopback, 256 KiB sends", self.loopback_table()));
        }
        if !self.echo.is_empty() {
            parts.push(("echo server, 1 KiB requests; latency in open loop", self.echo_table()));
        }
        if !self.disk.is_empty() {
            parts.push(("direct sequential writes, 8 x 1 MiB in flight", self.disk_table()));
        }
        if !self.flush.is_empty() {
            parts.push(("write + fdatasync, one after the other", self.flush_table()));
        }
        let mut text = String::new();
        for (title, table) in parts {
            let _ = writeln!(text, "{title}\n{table}\n");
        }
        text.trim_end().to_owned()
    }

    fn loopback_table(&self) -> Table {
        let mut table = markdown(&["connections", "MB/s", "sender CPU s/GB", "receiver CPU s/GB"], 1);
        for row in &self.loopback {
            table.add_row([
                row.connection_count.to_string(),
                format!("{:.0}", row.bytes_per_second / 1e6),
                format!("{:.3}", row.sender_cpu_seconds_per_gb),
                format!("{:.3}", row.receiver_cpu_seconds_per_gb),
            ]);
        }
        table
    }

    fn echo_table(&self) -> Table {
        let header =
            ["connections", "closed/s", "CPU us each", "open/s", "CPU us each", "p50 ms", "p99 ms", "p99.9 ms"];
        let mut table = markdown(&header, 1);
        for row in &self.echo {
            table.add_row([
                row.connection_count.to_string(),
                format!("{:.0}", row.closed_requests_per_second),
                format!("{:.2}", row.closed_cpu_us_per_request),
                format!("{:.0}", row.open_requests_per_second),
                format!("{:.2}", row.open_cpu_us_per_request),
                format!("{:.3}", row.p50_ms),
                format!("{:.3}", row.p99_ms),
                format!("{:.3}", row.p99_9_ms),
            ]);
        }
        table
    }

    fn disk_table(&self) -> Table {
        let mut table = markdown(&["extents", "MiB", "MB/s", "CPU s/GB"], 1);
        for row in &self.disk {
            table.add_row([
                row.extents.to_owned(),
                (row.bytes >> 20).to_string(),
                format!("{:.0}", row.bytes_per_second / 1e6),
                format!("{:.3}", row.cpu_seconds_per_gb),
            ]);
        }
        table
    }

    fn flush_table(&self) -> Table {
        let mut table = markdown(&["way", "KiB", "n", "per s", "p50 ms", "p99 ms", "p99.9 ms", "max ms"], 1);
        for row in &self.flush {
            table.add_row([
                row.way.to_owned(),
                (row.write_bytes / 1024).to_string(),
                row.count.to_string(),
                format!("{:.0}", row.per_second),
                format!("{:.3}", row.p50_ms),
                format!("{:.3}", row.p99_ms),
                format!("{:.3}", row.p99_9_ms),
                format!("{:.3}", row.max_ms),
            ]);
        }
        table
    }
}

const FORMAT: u32 = 1;
