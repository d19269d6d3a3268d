//! The facts about this machine that the broker's defaults and warnings depend on.
//!
//! Reads /proc, /sys and the limits of this process, once, at start; never on a shard. It judges nothing: `config/check`
//! takes cores and memory, `preflight` says which facts will hurt. A fact that cannot be read is absent, not guessed.

use std::path::Path;

use millrace_runtime::kernel;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};
use rustix::time::ClockId;

use crate::config::check::Room;

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// Why an `io_uring` cannot be opened, which was tried.
    pub io_uring: Option<RingRefusal>,
    /// Value of `kernel.io_uring_disabled`; absent before Linux 6.6.
    pub io_uring_disabled: Option<u8>,
    /// Whether a seccomp filter is on this process, as container runtimes install.
    pub seccomp_filtered: bool,
    /// Whether this looks like the inside of a container.
    pub in_container: bool,
    /// Whether this process may lock memory without limit.
    pub may_lock_memory: bool,
    /// Soft limit of locked memory; absent is unlimited.
    pub locked_bytes_max: Option<u64>,
    /// Soft limit of open files; absent is unlimited.
    pub open_file_count_max: Option<u64>,
    /// Soft limit of the process's address space; absent is unlimited.
    pub address_bytes_max: Option<u64>,
    /// Memory of the machine or of the control group, whichever is less.
    pub memory_bytes: u64,
    /// The first core's frequency governor.
    pub governor: Option<String>,
    /// When processes get huge pages without asking: `always`, `madvise` or `never`.
    pub huge_pages: Option<String>,
    /// The clock.
    pub clock: WallClock,
    /// What is under the data directory.
    pub volume: Volume,
}

/// Why an `io_uring` cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingRefusal {
    /// The kernel has none.
    Missing,
    /// The kernel's settings or a filter do not allow it.
    Forbidden,
    /// Memory or descriptors did not suffice, or something unexpected.
    Other(String),
}

/// The clock that gives records their times.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WallClock {
    /// Seconds since 1970.
    pub unix_seconds: i64,
    /// Whether something keeps it in step with the world's; absent where the kernel does not say.
    pub is_synchronised: Option<bool>,
    /// What the kernel counts time with.
    pub source: Option<String>,
}

/// What is under the data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Volume {
    /// The file system's name, or its magic number.
    pub file_system: String,
    /// The error with which a file there does not open with `O_DIRECT`.
    pub direct_io: Option<String>,
    /// The error with which a file there cannot be made at all.
    pub unwritable: Option<String>,
    /// Bytes that this process may still write.
    pub free_bytes: u64,
    /// Bytes that the file system has, used or not.
    pub disk_bytes: u64,
    /// Bytes that journals and reserves of earlier starts have already.
    pub held_bytes: u64,
}

impl Machine {
    /// Looks at everything and changes nothing. Of a data directory that is not there, the directory that it would be made in
    /// is looked at.
    pub fn read(data_directory: &Path) -> Self {
        let trimmed = |path: &str| std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned());
        let status = read_text("/proc/self/status");
        Self {
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            io_uring: kernel::try_io_uring(RING_ENTRIES).err().as_ref().map(refusal),
            io_uring_disabled: read_text("/proc/sys/kernel/io_uring_disabled").trim().parse().ok(),
            seccomp_filtered: find_field(&status, "Seccomp:") == Some("2"),
            in_container: Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists(),
            may_lock_memory: find_field(&status, "CapEff:").is_some_and(may_lock_memory),
            locked_bytes_max: rustix::process::getrlimit(Resource::Memlock).current,
            open_file_count_max: rustix::process::getrlimit(Resource::Nofile).current,
            address_bytes_max: rustix::process::getrlimit(Resource::As).current,
            memory_bytes: read_room().memory_bytes,
            governor: trimmed("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            huge_pages: parse_chosen(&read_text("/sys/kernel/mm/transparent_hugepage/enabled")),
            clock: WallClock {
                unix_seconds: rustix::time::clock_gettime(ClockId::Realtime).tv_sec,
                is_synchronised: kernel::is_clock_synchronised(),
                source: trimmed("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            },
            volume: Volume::read(find_existing(data_directory)),
        }
    }
}

impl Volume {
    fn read(directory: &Path) -> Self {
        let Ok(facts) = rustix::fs::statfs(directory) else {
            return Self::default();
        };
        let block_bytes = u64::try_from(facts.f_bsize).unwrap_or(0);
        let (direct_io, unwritable) = probe_direct_io(directory);
        Self {
            file_system: file_system_name(u64::try_from(facts.f_type).unwrap_or(0)),
            direct_io,
            unwritable,
            free_bytes: facts.f_bavail.saturating_mul(block_bytes),
            disk_bytes: facts.f_blocks.saturating_mul(block_bytes),
            held_bytes: read_held_bytes(directory),
        }
    }
}

/// Bytes of the journals and reserves in a data directory.
fn read_held_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let is_held = |name: &str| name.starts_with("journal-") || name.starts_with("reserve-");
    let held = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_held));
    held.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

/// Cores and memory that this process may use.
pub fn read_room() -> Room {
    let core_count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let machine_bytes = parse_meminfo(&read_text("/proc/meminfo"));
    let group_bytes = group_files(&read_text("/proc/self/cgroup"))
        .into_iter()
        .filter_map(|file| read_text(&file).trim().parse::<u64>().ok())
        .min();
    let memory_bytes = match (machine_bytes, group_bytes) {
        (Some(machine), Some(group)) => machine.min(group),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => MEMORY_BYTES_UNKNOWN,
    };
    Room { core_count, memory_bytes }
}

/// Raises the limits of open files and of locked memory as far as this process may. What could not be raised shows up in
/// the facts that are read afterwards.
pub fn raise_limits() {
    for resource in [Resource::Nofile, Resource::Memlock] {
        let limit = rustix::process::getrlimit(resource);
        let unlimited = Rlimit { current: None, maximum: None };
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        // Beyond the hard limit only a privileged process may go; asking costs nothing.
        let beyond = resource == Resource::Memlock && rustix::process::setrlimit(resource, unlimited).is_ok();
        if !beyond && limit.current != limit.maximum {
            // A refusal is not an error: the preflight reports the limit that remains.
            let _ = rustix::process::setrlimit(resource, raised);
        }
    }
}

fn read_text(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn find_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn may_lock_memory(effective_capabilities: &str) -> bool {
    const CAP_IPC_LOCK: u64 = 1 << 14;
    u64::from_str_radix(effective_capabilities, 16).is_ok_and(|capabilities| capabilities & CAP_IPC_LOCK != 0)
}

fn parse_meminfo(meminfo: &str) -> Option<u64> {
    find_field(meminfo, "MemTotal:")?.strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The files that hold this process's memory limits: its own group's and every group's above it, since each of them binds.
/// An unlimited group says `max` (version 2) or a number near 2^63 (version 1), which loses against the machine's memory.
fn group_files(own_groups: &str) -> Vec<String> {
    let mut files = Vec::new();
    for line in own_groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        // Inside a container the path is often the host's while the mount shows only the own group, at its root.
        for ancestor in Path::new(path).ancestors() {
            let ancestor = ancestor.to_string_lossy();
            files.push(format!("{mount}{}/{file}", ancestor.trim_end_matches('/')));
        }
    }
    files
}

fn file_system_name(magic: u64) -> String {
    let known = FILE_SYSTEMS.iter().find(|(known, _)| *known == magic);
    known.map_or_else(|| format!("{magic:#x}"), |(_, name)| (*name).to_owned())
}

/// Tries to open a file in `directory` as the log's files are opened. The file has no name and is gone when it is closed.
/// Gives the error about `O_DIRECT`, and the error about making files at all.
fn probe_direct_io(directory: &Path) -> (Option<String>, Option<String>) {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::DIRECT | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        // File systems without nameless files say this; they are named by themselves.
        Ok(_) | Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => (None, None),
        Err(error @ Errno::INVAL) => (Some(error.to_string()), None),
        Err(error) => (None, Some(error.to_string())),
    }
}

/// `directory`, or the nearest directory above it that is there.
fn find_existing(directory: &Path) -> &Path {
    let is_there = |path: &&Path| path.is_dir();
    // The last one above a relative path is empty and means the current directory.
    directory.ancestors().find(is_there).unwrap_or(Path::new("."))
}

fn refusal(error: &std::io::Error) -> RingRefusal {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSYS) => RingRefusal::Missing,
        Some(Errno::PERM | Errno::ACCESS) => RingRefusal::Forbidden,
        _ => RingRefusal::Other(error.to_string()),
    }
}

/// The word in brackets, by which the kernel marks what is chosen.
fn parse_chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Magic numbers of statfs(2).
const FILE_SYSTEMS: &[(u64, &str)] = &[
    (0xef53, "ext4"),
    (0x5846_5342, "xfs"),
    (0x9123_683e, "btrfs"),
    (0x2fc1_2fc1, "zfs"),
    (0x0102_1994, "tmpfs"),
    (0x794c_7630, "overlayfs"),
    (0x6969, "nfs"),
    (0x6573_5546, "fuse"),
    (0xf2f5_2010, "f2fs"),
];
/// Entries of the ring that is tried. A broker's rings are larger; their memory has a limit of its own.
const RING_ENTRIES: u32 = 8;
/// What is assumed where nothing can be read.
const MEMORY_BYTES_UNKNOWN: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_every_group_above_are_looked_at() {
        let files = group_files("4:memory:/a/b\n3:cpuset:/x\n0::/c\nnonsense");
        let v1 = ["/a/b", "/a", ""].map(|path| format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"));
        assert_eq!(files[..3], v1);
        assert_eq!(files[3..], ["/sys/fs/cgroup/c/memory.max", "/sys/fs/cgroup/memory.max"]);
    }

    #[test]
    fn facts_are_parsed_from_their_files() {
        assert_eq!(parse_meminfo("MemTotal:       16 kB\nMemFree: 1 kB"), Some(16 << 10));
        assert_eq!(parse_meminfo("MemTotal: lots"), None);
        assert!(may_lock_memory("0000000000004000") && !may_lock_memory("0000000000003fff") && !may_lock_memory("x"));
        assert_eq!(find_field("A:\t1\nSeccomp:\t2\n", "Seccomp:"), Some("2"));
        assert_eq!(parse_chosen("always [madvise] never\n").as_deref(), Some("madvise"));
        assert_eq!(parse_chosen(""), None);
        assert_eq!(refusal(&std::io::Error::from(Errno::PERM)), RingRefusal::Forbidden);
        assert_eq!(refusal(&std::io::Error::from(Errno::NOSYS)), RingRefusal::Missing);
        assert_eq!(file_system_name(0xef53), "ext4");
        assert_eq!(file_system_name(1), "0x1");
    }

    #[test]
    fn this_machine_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let machine = Machine::read(directory.path());
        assert!(!machine.kernel.is_empty() && !machine.volume.file_system.is_empty());
        let absent = Machine::read(&directory.path().join("a/b"));
        assert_eq!((absent.volume.file_system, absent.volume.unwritable), (machine.volume.file_system, None));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "looking leaves nothing behind");
        let room = read_room();
        assert!(room.core_count >= 1 && room.memory_bytes > 1 << 20);
    }
}
