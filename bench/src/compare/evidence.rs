//! What one run of a load against one broker left to judge by.

use crate::limits::Limits;
use crate::measured::{Counts, Measured, Series};
use crate::numbers::float;
use crate::report::figures::{Cost, per_second, quantile as quantile_of, total};

/// One run, and the machine's own floors around it.
pub(super) struct Evidence {
    /// Of the last command line.
    pub(super) measured: Measured,
    /// Right before the run, as far as the load asks for them.
    pub(super) floors: Limits,
    /// Bytes that the broker had read from devices meanwhile.
    pub(super) disk_read_bytes: u64,
    /// The broker's resident memory before the last command line, in bytes.
    pub(super) resident_bytes_before: u64,
}

impl Evidence {
    /// The broker's CPU seconds for 10^9 bytes.
    pub(super) fn cpu_per_gb(&self) -> Option<f64> {
        self.cost()?.cpu_s_per_gb
    }

    /// The broker's CPU seconds for 10^6 records.
    pub(super) fn cpu_per_million(&self) -> Option<f64> {
        self.cost()?.cpu_s_per_million_records
    }

    /// The most memory that was resident, in MiB.
    pub(super) fn resident_mib_max(&self) -> Option<f64> {
        Some(float(self.measured.broker?.resident_bytes_max) / MIB)
    }

    /// The same before the run.
    pub(super) fn resident_mib_before(&self) -> f64 {
        float(self.resident_bytes_before) / MIB
    }

    /// Bytes per second of all series.
    pub(super) fn bytes_per_second(&self) -> Option<f64> {
        per_second(self.total().bytes, self.measured.elapsed)
    }

    /// Bytes per second against the lesser of loopback and large direct writes.
    pub(super) fn share_of_machine(&self) -> Option<f64> {
        let disk = self.floors.disk.iter().map(|row| row.bytes_per_second).reduce(f64::max)?;
        Some(self.bytes_per_second()? / self.loopback()?.min(disk))
    }

    /// Bytes per second against loopback.
    pub(super) fn share_of_loopback(&self) -> Option<f64> {
        Some(self.bytes_per_second()? / self.loopback()?)
    }

    /// The broker's CPU time for a request against the echo server's with as many connections.
    pub(super) fn cpu_against_echo(&self) -> Option<f64> {
        let echo = self.floors.echo.last()?.closed_cpu_us_per_request;
        let requests = self.total().request_count;
        let broker = self.cost()?.cpu_s * 1e6 / float((requests > 0).then_some(requests)?);
        Some(broker / echo)
    }

    /// The 99th percentile of produce against a durable write's and an echo's, one after the other.
    pub(super) fn p99_against_floors(&self) -> Option<f64> {
        let flush = self.floors.flush.first()?.p99_ms;
        let echo = self.floors.echo.first()?.p99_ms;
        Some(self.quantile_ms(0.99)? / (flush + echo))
    }

    /// Of the first series.
    pub(super) fn quantile_ms(&self, quantile: f64) -> Option<f64> {
        quantile_of(&self.measured.series.first()?.latency, quantile)
    }

    /// From the intended time of sending until a consumer had it.
    pub(super) fn end_to_end_ms(&self, quantile: f64) -> Option<f64> {
        quantile_of(&self.series("end-to-end")?.latency, quantile)
    }

    /// Bytes read from devices for each byte that consumers were served, to four digits behind the point: a file system
    /// reads a block of its own records now and then, when space is allocated for what is written.
    pub(super) fn reads_per_byte_served(&self) -> Option<f64> {
        let consumed = self.series("consume")?.counts.bytes;
        let share = float(self.disk_read_bytes) / float((consumed > 0).then_some(consumed)?);
        Some((share * 1e4).round() / 1e4)
    }

    /// The number of one of the run's results.
    pub(super) fn result(&self, name: &str) -> Option<f64> {
        let (_, value) = self.measured.results.iter().find(|(found, _)| found.starts_with(name))?;
        value.split_ascii_whitespace().next()?.parse().ok()
    }

    /// A result that is a time in milliseconds, in seconds.
    pub(super) fn seconds(&self, name: &str) -> Option<f64> {
        Some(self.result(name)? / 1e3)
    }

    /// Bytes per second with many partitions against few.
    pub(super) fn share_of_few_partitions(&self) -> Option<f64> {
        Some(self.result("bytes per second with many partitions against few")? / 100.0)
    }

    /// The 99th percentile with many partitions against a durable write's.
    pub(super) fn many_p99_against_flush(&self) -> Option<f64> {
        Some(quantile_of(&self.measured.series.last()?.latency, 0.99)? / self.floors.flush.first()?.p99_ms)
    }

    /// CPU time for a byte with many partitions against few.
    pub(super) fn many_cpu_against_few(&self) -> Option<f64> {
        let [few, many] = &self.measured.series[..] else { return None };
        let of = |series: &Series| self.result(&format!("broker's CPU s per GB with {}", series.name));
        Some(of(many)? / of(few)?)
    }

    fn cost(&self) -> Option<Cost> {
        Some(Cost::of(self.measured.broker?, &self.measured))
    }

    fn total(&self) -> Counts {
        total(&self.measured)
    }

    fn series(&self, name: &str) -> Option<&Series> {
        self.measured.series.iter().find(|series| series.name == name)
    }

    fn loopback(&self) -> Option<f64> {
        self.floors.loopback.iter().map(|row| row.bytes_per_second).reduce(f64::max)
    }
}

const MIB: f64 = 1_048_576.0;
