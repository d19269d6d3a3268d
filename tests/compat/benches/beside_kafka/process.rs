//! What a process takes of the machine, as the kernel counts it.

use std::time::Duration;

use millrace_compat::process::Running;
use procfs::process::Process;

/// Of one process.
pub(crate) struct Taken {
    process: Process,
    cpu: Duration,
}

impl Taken {
    /// Counts from here.
    pub(crate) fn of(running: &Running) -> Taken {
        let id = i32::try_from(running.id()).expect("the kernel's ids are positive");
        let process = Process::new(id).expect("a running process is in /proc");
        let cpu = cpu(&process);
        Taken { process, cpu }
    }

    /// CPU time of all its threads since, the kernel's work for them included, in seconds. What the kernel does later, such
    /// as writing the page cache back, is nobody's.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        cpu(&self.process).saturating_sub(self.cpu).as_secs_f64()
    }

    /// Resident memory now, in 10^6 bytes.
    pub(crate) fn resident_mb(&self) -> f64 {
        let status = self.process.status().expect("a running process is in /proc");
        status.vmrss.map_or(0.0, kib_as_mb)
    }

    /// The most that was ever resident, in 10^6 bytes.
    pub(crate) fn resident_max_mb(&self) -> f64 {
        let status = self.process.status().expect("a running process is in /proc");
        status.vmhwm.map_or(0.0, kib_as_mb)
    }
}

fn cpu(process: &Process) -> Duration {
    let stat = process.stat().expect("a running process is in /proc");
    Duration::from_millis((stat.utime + stat.stime) * 1000 / procfs::ticks_per_second())
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a report rounds far more than this does")]
fn kib_as_mb(kib: u64) -> f64 {
    (kib * 1024) as f64 / 1e6
}
