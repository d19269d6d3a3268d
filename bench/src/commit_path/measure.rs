//! Times rounds. All variants of a cell run in turn, round by round, each time in another order: whatever else the
//! machine does hits all of them alike.

use std::io;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use millrace_runtime::{Clock, Env};

use super::driver::Rig;
use super::report::RoundRow;
use super::workload::{Cell, Variant};
use crate::numbers::{histogram, record, u64_of};
use crate::{cpu, numbers};

/// Measures every variant of a cell.
pub(super) async fn cell<E: Env>(env: &E, directory: &Path, cell: &Cell) -> io::Result<Vec<RoundRow>> {
    let device = DeviceCounters::of(directory);
    let mut rig = Rig::prepare(env, directory, cell).await?;
    let variants = cell.variants();
    let mut series: Vec<Series> = variants.iter().map(|_| Series::default()).collect();
    let start = env.clock().now();
    let mut round_index = 0;
    loop {
        for step in 0..variants.len() {
            let index = (step + round_index) % variants.len();
            let flushes_before = device.read_flushes();
            let watch = Stopwatch::start(env);
            rig.round(variants[index], round_index).await?;
            let (elapsed, cpu) = watch.stop(env);
            let flushes = device.read_flushes().zip(flushes_before).map(|(after, before)| after - before);
            // The first round of each variant pays for first touches.
            if round_index > 0 {
                series[index].take(elapsed, cpu, u64_of(cell.payload_bytes()), flushes);
            }
        }
        if cell.is_enough(round_index, env.clock().now() - start) {
            break;
        }
        round_index += 1;
    }
    rig.remove().await?;
    Ok(variants.iter().zip(&series).map(|(variant, series)| series.row(cell, *variant)).collect())
}

/// Wall and CPU time from one moment on.
pub(super) struct Stopwatch {
    start: millrace_runtime::Moment,
    cpu_start: Duration,
}

impl Stopwatch {
    pub(super) fn start<E: Env>(env: &E) -> Self {
        Self { cpu_start: cpu::of_this_process(), start: env.clock().now() }
    }

    pub(super) fn stop<E: Env>(&self, env: &E) -> (Duration, Duration) {
        let elapsed = env.clock().now() - self.start;
        (elapsed, cpu::of_this_process().saturating_sub(self.cpu_start))
    }
}

/// What was measured of one variant, or of one kind of operation.
pub(super) struct Series {
    latency: Histogram<u64>,
    pub(super) count: u64,
    pub(super) bytes: u64,
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
    flushes: Option<u64>,
}

impl Default for Series {
    fn default() -> Self {
        let (elapsed, cpu) = (Duration::ZERO, Duration::ZERO);
        Self { latency: histogram(), count: 0, bytes: 0, elapsed, cpu, flushes: Some(0) }
    }
}

impl Series {
    pub(super) fn take(&mut self, elapsed: Duration, cpu: Duration, bytes: u64, flushes: Option<u64>) {
        record(&mut self.latency, elapsed);
        self.count += 1;
        self.bytes += bytes;
        self.elapsed += elapsed;
        self.cpu += cpu;
        self.flushes = self.flushes.zip(flushes).map(|(sum, flushes)| sum + flushes);
    }

    pub(super) fn p50_ms(&self) -> f64 {
        numbers::quantile_ms(&self.latency, 0.5)
    }

    pub(super) fn p99_ms(&self) -> f64 {
        numbers::quantile_ms(&self.latency, 0.99)
    }

    fn row(&self, cell: &Cell, variant: Variant) -> RoundRow {
        let count = numbers::float(self.count);
        RoundRow {
            file_count: cell.file_count,
            piece_bytes: cell.piece_bytes,
            variant,
            round_count: self.count,
            p50_ms: self.p50_ms(),
            p99_ms: self.p99_ms(),
            rounds_per_second: count / self.elapsed.as_secs_f64(),
            cpu_seconds_per_gb: numbers::seconds_per_gb(self.cpu, self.bytes),
            device_flushes_per_round: self.flushes.map(|flushes| numbers::float(flushes) / count),
        }
    }
}

/// The counters that the kernel keeps of the device under a directory, if it has any.
struct DeviceCounters {
    path: Option<String>,
}

impl DeviceCounters {
    fn of(directory: &Path) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let device = std::fs::metadata(directory).map(|metadata| metadata.dev());
        let path = device.ok().map(|device| {
            let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
            format!("/sys/dev/block/{major}:{minor}/stat")
        });
        Self { path }
    }

    /// Flushes that the device has completed, those of other programs included.
    fn read_flushes(&self) -> Option<u64> {
        let text = std::fs::read_to_string(self.path.as_ref()?).ok()?;
        text.split_ascii_whitespace().nth(FLUSHES_FIELD)?.parse().ok()
    }
}

/// Place of the completed flushes among the fields of a block device's `stat`.
const FLUSHES_FIELD: usize = 15;
