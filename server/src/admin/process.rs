//! What the system knows of this process and of its disk. Read by the admin thread when somebody asks, so it costs the
//! shards nothing; what cannot be read is zero.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Resource;
use rustix::time::ClockId;

use crate::metrics::report::ProcessReport;

/// Reads everything. `directory` lies on the disk in question.
pub fn read(directory: &Path, reserve_bytes: u64, started: Instant) -> ProcessReport {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu_time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
    let (disk_free_bytes, disk_bytes) = rustix::fs::statvfs(directory).map_or((0, 0), |facts| {
        (facts.f_bavail.saturating_mul(facts.f_frsize), facts.f_blocks.saturating_mul(facts.f_frsize))
    });
    let descriptor_count = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    ProcessReport {
        uptime: started.elapsed(),
        cpu_time: Duration::try_from(cpu_time).unwrap_or_default(),
        shard_cpu_times: read_shard_times(Path::new("/proc/self/task")),
        resident_bytes: parse_resident(&status).unwrap_or(0),
        // The one that lists them is counted as well.
        descriptor_count: u64::try_from(descriptor_count.saturating_sub(1)).unwrap_or(0),
        descriptor_count_max: rustix::process::getrlimit(Resource::Nofile).current,
        disk_free_bytes,
        disk_bytes,
        disk_reserve_bytes: reserve_bytes,
    }
}

/// The processor time of the threads that are named after shards, by shard.
fn read_shard_times(tasks: &Path) -> Vec<(u16, Duration)> {
    let Ok(entries) = std::fs::read_dir(tasks) else { return Vec::new() };
    let read = |path: &Path, name: &str| std::fs::read_to_string(path.join(name)).ok();
    let threads = entries.flatten().map(|entry| entry.path());
    let times =
        threads.filter_map(|path| Some((parse_shard(&read(&path, "comm")?)?, parse_time(&read(&path, "schedstat")?)?)));
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times
}

/// The shard that a thread's name names.
fn parse_shard(name: &str) -> Option<u16> {
    name.trim().strip_prefix(SHARD_PREFIX)?.parse().ok()
}

/// Nanoseconds on a processor, the first number of `schedstat`.
fn parse_time(schedstat: &str) -> Option<Duration> {
    Some(Duration::from_nanos(schedstat.split_ascii_whitespace().next()?.parse().ok()?))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the names of shards' threads begin with, before the number.
const SHARD_PREFIX: &str = "shard-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_proc_are_parsed() {
        assert_eq!(parse_shard("shard-12\n"), Some(12));
        assert_eq!((parse_shard("admin\n"), parse_shard("shard-12-disk\n")), (None, None));
        assert_eq!(parse_time("1500 7 3\n"), Some(Duration::from_nanos(1500)));
        assert_eq!(parse_time(""), None);
        assert_eq!(parse_resident("VmPeak: 9 kB\nVmRSS:\t  20 kB\n"), Some(20 << 10));
    }

    #[test]
    fn this_process_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        #[expect(clippy::disallowed_methods, reason = "outside the shards, never simulated")]
        let report = read(directory.path(), 7, Instant::now());
        assert!(report.resident_bytes > 1 << 20 && report.descriptor_count > 2 && report.disk_bytes > 0);
        assert!(report.disk_free_bytes <= report.disk_bytes && report.disk_reserve_bytes == 7);
    }
}
