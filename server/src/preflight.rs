//! What about this machine will hurt, judged from the facts in `machine`.
//!
//! Each finding is one line: what is so, why it matters, and the exact command that mends it. A finding never stops the
//! start; what cannot work at all fails by itself a moment later, and then the finding above the error says why. Judging
//! is pure, so each finding has its test.

use std::fmt;

use crate::config::{Config, DescriptorPlan};
use crate::machine::Machine;

/// One thing that will hurt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is so.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to type.
    pub mend: String,
}

/// Judges `machine` as the home of a broker with this configuration.
pub fn judge(machine: &Machine, config: &Config, descriptors: &DescriptorPlan) -> Vec<Finding> {
    let mut findings = Vec::new();
    judge_io_uring(machine, &mut findings);
    judge_locked_memory(machine, config, &mut findings);
    judge_descriptors(machine, config, descriptors, &mut findings);
    judge_volume(machine, config, &mut findings);
    if let Some(governor) = machine.governor.as_deref().filter(|governor| matches!(*governor, "powersave" | "ondemand"))
    {
        findings.push(Finding {
            what: format!("cores use the `{governor}` governor"),
            why: "they slow down between requests, which shows in tail latency",
            mend: "sudo cpupower frequency-set -g performance".to_owned(),
        });
    }
    findings
}

fn judge_io_uring(machine: &Machine, findings: &mut Vec<Finding>) {
    if machine.io_uring_disabled.is_some_and(|disabled| disabled != 0) {
        findings.push(Finding {
            what: "io_uring is switched off in the kernel".to_owned(),
            why: "all disk and network I/O goes through it; the broker cannot start",
            mend: "sudo sysctl -w kernel.io_uring_disabled=0".to_owned(),
        });
    }
    if machine.seccomp_filtered && machine.in_container {
        findings.push(Finding {
            what: "a container's seccomp filter is active".to_owned(),
            why: "the default profiles of Docker and containerd block io_uring; the broker cannot start under them",
            mend: "docker run --security-opt seccomp=unconfined ... (or a profile that allows io_uring_setup, \
                   io_uring_enter, io_uring_register)"
                .to_owned(),
        });
    }
    if parse_kernel(&machine.kernel).is_some_and(|version| version < KERNEL_MIN) {
        findings.push(Finding {
            what: format!("Linux {} is older than {}.{}", machine.kernel, KERNEL_MIN.0, KERNEL_MIN.1),
            why: "io_uring lacks operations the broker relies on",
            mend: "upgrade the kernel; on Debian: sudo apt-get install -t stable-backports linux-image-amd64"
                .to_owned(),
        });
    }
}

fn judge_locked_memory(machine: &Machine, config: &Config, findings: &mut Vec<Finding>) {
    let locked_bytes = LOCKED_BYTES_PER_SHARD * u64::from(config.shards.count);
    if let Some(limit) = machine.locked_bytes_max.filter(|limit| *limit < locked_bytes && !machine.may_lock_memory) {
        findings.push(Finding {
            what: format!("only {} KiB of memory may be locked", limit >> 10),
            why: "each shard pins buffers for the kernel; with too little they are copied, or the start fails",
            mend: format!(
                "ulimit -l {} (systemd: LimitMEMLOCK=infinity; Docker: --ulimit memlock=-1)",
                locked_bytes >> 10
            ),
        });
    }
}

fn judge_descriptors(machine: &Machine, config: &Config, descriptors: &DescriptorPlan, findings: &mut Vec<Finding>) {
    let (wanted, had) = (config.net.connection_count_max, descriptors.connection_count_max);
    let files = descriptors.open_file_count_max * usize::from(config.shards.count);
    let Some(limit) = machine.open_file_count_max.filter(|_| had < wanted || files < OPEN_FILE_COUNT_MIN) else {
        return;
    };
    let enough = u64::from(wanted) * 2 + OPEN_FILES_BESIDES_CONNECTIONS;
    findings.push(Finding {
        what: format!("only {limit} files may be open: {had} connections and {files} segments"),
        why: "connections past that are closed, and segments are closed and opened again and again",
        mend: format!("ulimit -n {enough} (systemd: LimitNOFILE={enough}; Docker: --ulimit nofile={enough})"),
    });
}

fn judge_volume(machine: &Machine, config: &Config, findings: &mut Vec<Finding>) {
    let volume = &machine.volume;
    let directory = config.node.directory.display();
    let elsewhere = "millrace --data <directory on ext4 or xfs>".to_owned();
    if volume.file_system == "tmpfs" {
        findings.push(Finding {
            what: format!("{directory} is in memory (tmpfs)"),
            why: "records do not survive a reboot, and they count against the machine's memory",
            mend: elsewhere.clone(),
        });
    } else if matches!(volume.file_system.as_str(), "overlayfs" | "nfs" | "fuse" | "btrfs" | "zfs") {
        findings.push(Finding {
            what: format!("{directory} is on {}", volume.file_system),
            why: "direct writes and flushes behave or perform differently there; the broker is measured on ext4 and xfs",
            mend: elsewhere.clone(),
        });
    }
    if let Some(error) = &volume.direct_io {
        findings.push(Finding {
            what: format!("{directory} refuses O_DIRECT ({error})"),
            why: "the log is written with direct I/O; the broker cannot start",
            mend: elsewhere,
        });
    }
    let journals = config.store.journal_bytes * u64::from(config.shards.count);
    let reserve = config.store.reserve_bytes(volume.disk_bytes);
    let needed = journals.saturating_add(reserve).saturating_add(FREE_BYTES_MIN).saturating_sub(volume.held_bytes);
    if volume.free_bytes < needed {
        let (free, needed) = (volume.free_bytes >> 20, needed >> 20);
        findings.push(Finding {
            what: format!("{free} MiB are free under {directory}, and the broker needs {needed} MiB to begin with"),
            why: "without room for its journals and its reserve it refuses producers",
            mend: format!(
                "df -h {directory}; then free space, or lower millrace.journal.bytes or millrace.reserve.bytes"
            ),
        });
    }
}

/// What to look at when the runtime itself did not start.
pub fn explain_start(error: &std::io::Error, machine: &Machine) -> Option<Finding> {
    let (why, mend) = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::PERM | rustix::io::Errno::NOSYS | rustix::io::Errno::ACCESS) => (
            "the kernel or a container's seccomp filter does not allow io_uring",
            if machine.in_container {
                "docker run --security-opt seccomp=unconfined ..."
            } else {
                "sudo sysctl -w kernel.io_uring_disabled=0"
            },
        ),
        Some(rustix::io::Errno::NOMEM) => {
            ("the limit of locked memory is too low for the shards' rings", "ulimit -l unlimited")
        }
        Some(rustix::io::Errno::MFILE) => {
            ("the limit of open files is too low for the shards' rings", "ulimit -n 65536")
        }
        _ => return None,
    };
    Some(Finding { what: format!("a shard could not start ({error})"), why, mend: mend.to_owned() })
}

fn parse_kernel(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}. Mend: {}", self.what, self.why, self.mend)
    }
}

/// The oldest kernel that the storage path is tested on.
const KERNEL_MIN: (u32, u32) = (5, 15);
/// What one executor registers with the kernel, rounded up.
const LOCKED_BYTES_PER_SHARD: u64 = 32 << 20;
/// Segments, journals, rings and links.
const OPEN_FILES_BESIDES_CONNECTIONS: u64 = 4096;
/// Open segments that any broker should have room for.
const OPEN_FILE_COUNT_MIN: usize = 256;
/// What has to be free besides for a disk that is not full, of which some is for records.
const FREE_BYTES_MIN: u64 = 128 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;
    use crate::config::check::{Room, check};
    use crate::machine::Volume;

    fn config() -> Config {
        check(&RawConfig::new(), Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap()
    }

    fn good() -> Machine {
        Machine {
            kernel: "6.12.1-amd64".into(),
            io_uring_disabled: Some(0),
            governor: Some("performance".into()),
            volume: Volume {
                file_system: "ext4".into(),
                free_bytes: 1 << 40,
                disk_bytes: 1 << 41,
                ..Volume::default()
            },
            ..Machine::default()
        }
    }

    fn findings(machine: &Machine) -> Vec<Finding> {
        let config = config();
        let connection_count_max = config.net.connection_count_max;
        let cut = DescriptorPlan::cut(machine.open_file_count_max, config.shards.count, connection_count_max);
        judge(machine, &config, &cut.unwrap())
    }

    #[track_caller]
    fn one_finding(machine: &Machine, what: &str) {
        let findings = findings(machine);
        assert_eq!(findings.len(), 1, "{findings:?}");
        let shown = findings[0].to_string();
        assert!(shown.contains(what) && shown.contains("Mend: "), "{shown}");
    }

    #[test]
    fn a_good_machine_has_no_findings() {
        assert_eq!(findings(&good()), []);
        assert_eq!(findings(&Machine { locked_bytes_max: Some(1), may_lock_memory: true, ..good() }), []);
        assert_eq!(findings(&Machine { open_file_count_max: Some(30_000), ..good() }), []);
    }

    #[test]
    fn each_fault_is_found() {
        one_finding(&Machine { io_uring_disabled: Some(2), ..good() }, "io_uring is switched off");
        one_finding(&Machine { seccomp_filtered: true, in_container: true, ..good() }, "seccomp");
        one_finding(&Machine { kernel: "5.10.0-28".into(), ..good() }, "older than 5.15");
        one_finding(&Machine { locked_bytes_max: Some(8 << 20), ..good() }, "8192 KiB of memory may be locked");
        one_finding(
            &Machine { open_file_count_max: Some(1024), ..good() },
            "only 1024 files may be open: 608 connections and 304 segments",
        );
        one_finding(&Machine { governor: Some("powersave".into()), ..good() }, "powersave");
        let on = |file_system: &str| Volume { file_system: file_system.into(), ..good().volume };
        one_finding(&Machine { volume: on("tmpfs"), ..good() }, "in memory");
        one_finding(&Machine { volume: on("overlayfs"), ..good() }, "overlayfs");
        // Two journals of 64 MiB and the reserve.
        let small = Volume { free_bytes: 300 << 20, disk_bytes: 1 << 33, ..on("xfs") };
        let finding = "300 MiB are free under ./millrace-data, and the broker needs 512 MiB";
        one_finding(&Machine { volume: small.clone(), ..good() }, finding);
        let started_before = Volume { held_bytes: 384 << 20, ..small };
        assert_eq!(findings(&Machine { volume: started_before, ..good() }), []);
        let refused = Volume { direct_io: Some("EINVAL".into()), ..on("xfs") };
        one_finding(&Machine { volume: refused, ..good() }, "refuses O_DIRECT (EINVAL)");
    }

    #[test]
    fn a_failed_start_is_explained() {
        let eperm = std::io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error());
        assert!(explain_start(&eperm, &good()).unwrap().mend.contains("sysctl"));
        assert!(explain_start(&eperm, &Machine { in_container: true, ..good() }).unwrap().mend.contains("docker"));
        assert_eq!(explain_start(&std::io::Error::other("?"), &good()), None);
    }
}
