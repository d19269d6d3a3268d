//! What about this machine will hurt, judged from the facts in `machine`.
//!
//! Each finding is one line: what is so, why it matters, and the exact command that mends it. A finding never stops the
//! start; what cannot work at all fails by itself a moment later, and then the finding above the error says why. Judging
//! is pure, so each finding has its test. `doctor` judges the same facts without a start.

use std::fmt;

use crate::config::descriptors::TooFew;
use crate::config::{Config, DescriptorPlan};
use crate::machine::{Machine, RingRefusal};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The broker does not start.
    Stops,
    /// It starts, and works worse than it could.
    Hurts,
}

/// One thing that will hurt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What is so.
    pub what: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to type.
    pub mend: String,
}

/// Judges `machine` as the home of a broker with this configuration. The worst comes first.
pub fn judge(machine: &Machine, config: &Config, descriptors: Result<&DescriptorPlan, &TooFew>) -> Vec<Finding> {
    let mut findings = Vec::new();
    judge_io_uring(machine, &mut findings);
    judge_locked_memory(machine, config, &mut findings);
    judge_descriptors(machine, config, descriptors, &mut findings);
    judge_volume(machine, config, &mut findings);
    judge_memory(machine, config, &mut findings);
    judge_clock(machine, &mut findings);
    if let Some(governor) = machine.governor.as_deref().filter(|governor| matches!(*governor, "powersave" | "ondemand"))
    {
        findings.push(Finding {
            level: Level::Hurts,
            what: format!("cores use the `{governor}` governor"),
            why: "they slow down between requests, which shows in tail latency",
            mend: "sudo cpupower frequency-set -g performance".to_owned(),
        });
    }
    findings.sort_by_key(|finding| finding.level);
    findings
}

fn judge_io_uring(machine: &Machine, findings: &mut Vec<Finding>) {
    if let Some(refusal) = &machine.io_uring {
        let (what, mend) = explain_refusal(machine, refusal);
        let why = "all disk and network I/O goes through it";
        findings.push(Finding { level: Level::Stops, what, why, mend: mend.to_owned() });
    }
    if parse_kernel(&machine.kernel).is_some_and(|version| version < KERNEL_MIN) {
        findings.push(Finding {
            level: Level::Hurts,
            what: format!("Linux {} is older than {}.{}", machine.kernel, KERNEL_MIN.0, KERNEL_MIN.1),
            why: "io_uring lacks operations the broker relies on",
            mend: "upgrade the kernel; on Debian: sudo apt-get install -t stable-backports linux-image-amd64"
                .to_owned(),
        });
    }
}

/// What keeps an `io_uring` from being opened, and what to type against it.
fn explain_refusal(machine: &Machine, refusal: &RingRefusal) -> (String, &'static str) {
    let is_disabled = machine.io_uring_disabled.is_some_and(|disabled| disabled != 0);
    match refusal {
        RingRefusal::Missing => ("this kernel has no io_uring".to_owned(), "upgrade the kernel to 5.15 or newer"),
        RingRefusal::Forbidden if is_disabled => {
            ("io_uring is switched off in the kernel".to_owned(), "sudo sysctl -w kernel.io_uring_disabled=0")
        }
        RingRefusal::Forbidden if machine.seccomp_filtered => (
            "a container's seccomp filter forbids io_uring, as the default ones of Docker and containerd do".to_owned(),
            "docker run --security-opt seccomp=unconfined ... (or a profile that allows io_uring_setup, io_uring_enter, \
             io_uring_register)",
        ),
        RingRefusal::Forbidden => (
            "a security policy of this machine forbids io_uring".to_owned(),
            "journalctl -k --grep io_uring (then allow it in the policy that refused it)",
        ),
        RingRefusal::Other(error) => {
            (format!("io_uring does not work ({error})"), "ulimit -l unlimited; ulimit -n 65536")
        }
    }
}

fn judge_locked_memory(machine: &Machine, config: &Config, findings: &mut Vec<Finding>) {
    let locked_bytes = LOCKED_BYTES_PER_SHARD * u64::from(config.shards.count);
    if let Some(limit) = machine.locked_bytes_max.filter(|limit| *limit < locked_bytes && !machine.may_lock_memory) {
        findings.push(Finding {
            level: Level::Hurts,
            what: format!("only {} KiB of memory may be locked", limit >> 10),
            why: "each shard pins buffers for the kernel; with too little they are copied, or the start fails",
            mend: format!(
                "ulimit -l {} (systemd: LimitMEMLOCK=infinity; Docker: --ulimit memlock=-1)",
                locked_bytes >> 10
            ),
        });
    }
}

fn judge_descriptors(
    machine: &Machine,
    config: &Config,
    descriptors: Result<&DescriptorPlan, &TooFew>,
    findings: &mut Vec<Finding>,
) {
    let wanted = config.net.connection_count_max;
    let enough = u64::from(wanted) * 2 + OPEN_FILES_BESIDES_CONNECTIONS;
    let mend = format!("ulimit -n {enough} (systemd: LimitNOFILE={enough}; Docker: --ulimit nofile={enough})");
    let plan = match descriptors {
        Ok(plan) => plan,
        Err(TooFew { limit, needed }) => {
            let what = format!("only {limit} files may be open, at least {needed} are needed");
            let why = "each shard has rings, links and files";
            return findings.push(Finding { level: Level::Stops, what, why, mend });
        }
    };
    let had = plan.connection_count_max;
    let files = plan.open_file_count_max * usize::from(config.shards.count);
    let Some(limit) = machine.open_file_count_max.filter(|_| had < wanted || files < OPEN_FILE_COUNT_MIN) else {
        return;
    };
    findings.push(Finding {
        level: Level::Hurts,
        what: format!("only {limit} files may be open: {had} connections and {files} segments"),
        why: "connections past that are closed, and segments are closed and opened again and again",
        mend,
    });
}

fn judge_volume(machine: &Machine, config: &Config, findings: &mut Vec<Finding>) {
    let volume = &machine.volume;
    let directory = config.node.directory.display();
    let elsewhere = "millrace --data <directory on ext4 or xfs>".to_owned();
    if volume.file_system == "tmpfs" {
        findings.push(Finding {
            level: Level::Hurts,
            what: format!("{directory} is in memory (tmpfs)"),
            why: "records do not survive a reboot, and they count against the machine's memory",
            mend: elsewhere.clone(),
        });
    } else if matches!(volume.file_system.as_str(), "overlayfs" | "nfs" | "fuse" | "btrfs" | "zfs") {
        findings.push(Finding {
            level: Level::Hurts,
            what: format!("{directory} is on {}", volume.file_system),
            why: "direct writes and flushes behave or perform differently there; the broker is measured on ext4 and xfs",
            mend: elsewhere.clone(),
        });
    }
    if let Some(error) = &volume.direct_io {
        findings.push(Finding {
            level: Level::Stops,
            what: format!("{directory} refuses O_DIRECT ({error})"),
            why: "the log is written with direct I/O",
            mend: elsewhere,
        });
    }
    if let Some(error) = &volume.unwritable {
        findings.push(Finding {
            level: Level::Stops,
            what: format!("no file can be made in {directory} ({error})"),
            why: "everything is kept there",
            mend: format!("sudo install -d -o \"$(id -un)\" {directory}"),
        });
    }
    let journals = config.store.journal_bytes * u64::from(config.shards.count);
    let reserve = config.store.reserve_bytes(volume.disk_bytes);
    let needed = journals.saturating_add(reserve).saturating_add(FREE_BYTES_MIN).saturating_sub(volume.held_bytes);
    if volume.free_bytes < needed {
        let (free, needed) = (volume.free_bytes >> 20, needed >> 20);
        findings.push(Finding {
            level: Level::Hurts,
            what: format!("{free} MiB are free under {directory}, and the broker needs {needed} MiB to begin with"),
            why: "without room for its journals and its reserve it refuses producers",
            mend: format!(
                "df -h {directory}; then free space, or lower millrace.journal.bytes or millrace.reserve.bytes"
            ),
        });
    }
}

fn judge_memory(machine: &Machine, config: &Config, findings: &mut Vec<Finding>) {
    let planned_bytes = config.shards.memory.bytes();
    let quarter_bytes = machine.memory_bytes / 4;
    if planned_bytes > quarter_bytes * 3 {
        findings.push(Finding {
            level: Level::Hurts,
            what: format!(
                "the broker may take {} MiB of {} MiB of memory",
                planned_bytes >> 20,
                machine.memory_bytes >> 20
            ),
            why: "the rest is for the kernel and the broker's own needs; past it the process is killed",
            mend: format!("millrace --set millrace.memory.bytes={quarter_bytes}"),
        });
    }
    if let Some(limit) = machine.address_bytes_max.filter(|limit| *limit / 4 < planned_bytes) {
        findings.push(Finding {
            level: Level::Hurts,
            what: format!("the address space is limited to {} MiB", limit >> 20),
            why: "threads and allocator reserve more than they use, and the process ends when nothing is left",
            mend: "ulimit -v unlimited (systemd: LimitAS=infinity)".to_owned(),
        });
    }
    if machine.huge_pages.as_deref() == Some("always") {
        findings.push(Finding {
            level: Level::Hurts,
            what: "every process gets transparent huge pages".to_owned(),
            why: "the kernel stops shards to gather pages, and memory grows past what was asked for",
            mend: "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
        });
    }
}

fn judge_clock(machine: &Machine, findings: &mut Vec<Finding>) {
    let clock = &machine.clock;
    let mut push = |what: String, why: &'static str, mend: &str| {
        findings.push(Finding { level: Level::Hurts, what, why, mend: mend.to_owned() });
    };
    if clock.unix_seconds < UNIX_SECONDS_MIN {
        push(
            "the clock is before 2026".to_owned(),
            "records are deleted by their age, and those of clients with the right time would seem to be of the future",
            "sudo timedatectl set-ntp true",
        );
    } else if clock.is_synchronised == Some(false) {
        push(
            "nothing keeps the clock in step".to_owned(),
            "records are deleted by their age; a clock that is wrong, or jumps, deletes them too early or never",
            "sudo timedatectl set-ntp true",
        );
    }
    if let Some(source) = clock.source.as_deref().filter(|source| matches!(*source, "hpet" | "acpi_pm" | "jiffies")) {
        push(
            format!("the kernel counts time with `{source}`"),
            "each look at the clock goes into the kernel, and every request looks several times",
            "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource",
        );
    }
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
/// The beginning of 2026: no clock that is right is before it.
const UNIX_SECONDS_MIN: i64 = 1_767_225_600;
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
    use crate::machine::{Volume, WallClock};

    fn config() -> Config {
        let mut raw = RawConfig::new();
        raw.add_assignment("millrace.shards=2");
        check(&raw, Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap()
    }

    fn good() -> Machine {
        Machine {
            kernel: "6.12.1-amd64".into(),
            io_uring_disabled: Some(0),
            memory_bytes: 4 << 30,
            huge_pages: Some("madvise".into()),
            clock: WallClock {
                unix_seconds: UNIX_SECONDS_MIN,
                is_synchronised: Some(true),
                source: Some("tsc".into()),
            },
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
        judge(machine, &config, cut.as_ref())
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
        one_finding(&Machine { kernel: "5.10.0-28".into(), ..good() }, "older than 5.15");
        one_finding(&Machine { locked_bytes_max: Some(8 << 20), ..good() }, "8192 KiB of memory may be locked");
        one_finding(
            &Machine { open_file_count_max: Some(1024), ..good() },
            "only 1024 files may be open: 594 connections and 298 segments",
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
    fn a_ring_that_is_refused_stops_the_start_and_the_reason_is_told() {
        let refused = |refusal| Machine { io_uring: Some(refusal), ..good() };
        let forbidden = || refused(RingRefusal::Forbidden);
        let cases = [
            (refused(RingRefusal::Missing), "upgrade the kernel"),
            (Machine { io_uring_disabled: Some(2), ..forbidden() }, "sysctl -w kernel.io_uring_disabled=0"),
            (Machine { seccomp_filtered: true, ..forbidden() }, "seccomp=unconfined"),
            (forbidden(), "journalctl"),
            (refused(RingRefusal::Other("no memory".into())), "ulimit -l unlimited"),
        ];
        for (machine, mend) in cases {
            one_finding(&machine, mend);
            assert_eq!(findings(&machine)[0].level, Level::Stops);
        }
        // What could forbid it does not matter where it works.
        assert_eq!(findings(&Machine { io_uring_disabled: Some(1), seccomp_filtered: true, ..good() }), []);
    }

    #[test]
    fn what_prevents_the_start_comes_first() {
        let unwritable = Volume { unwritable: Some("EACCES".into()), ..good().volume };
        let machine = Machine {
            governor: Some("powersave".into()),
            open_file_count_max: Some(100),
            volume: unwritable,
            ..good()
        };
        let levels: Vec<_> = findings(&machine).iter().map(|finding| finding.level).collect();
        assert_eq!(levels, [Level::Stops, Level::Stops, Level::Hurts]);
        assert!(findings(&machine)[0].what.contains("only 100 files may be open, at least 180"));
    }

    #[test]
    fn memory_and_clock_are_looked_at() {
        one_finding(&Machine { memory_bytes: 1 << 30, ..good() }, "1024 MiB of 1024 MiB");
        one_finding(&Machine { address_bytes_max: Some(2 << 30), ..good() }, "limited to 2048 MiB");
        one_finding(&Machine { huge_pages: Some("always".into()), ..good() }, "transparent huge pages");
        let clock = |clock: WallClock| Machine { clock, ..good() };
        one_finding(&clock(WallClock { unix_seconds: 0, ..good().clock }), "before 2026");
        one_finding(&clock(WallClock { is_synchronised: Some(false), ..good().clock }), "in step");
        one_finding(&clock(WallClock { source: Some("hpet".into()), ..good().clock }), "`hpet`");
        assert_eq!(findings(&clock(WallClock { is_synchronised: None, source: None, ..good().clock })), []);
    }
}
