//! How much CPU time a process has used, user and system together, threads of the kernel that work for it included; and
//! how much memory.

use std::time::Duration;

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};

/// CPU time of this process so far, to the nanosecond.
pub(crate) fn of_this_process() -> Duration {
    of_clock(ClockId::ProcessCPUTime)
}

/// CPU time of the calling thread so far, to the nanosecond.
pub(crate) fn of_this_thread() -> Duration {
    of_clock(ClockId::ThreadCPUTime)
}

fn of_clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).expect("CPU time is not negative");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("nanoseconds of a second fit u32"))
}

/// CPU time of another process so far, to the tick (usually 10 ms).
pub(crate) fn of_process(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let ticks = parse_ticks(&text).with_context(|| format!("{path} has an unknown form"))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / ticks_per_second))
}

/// Memory of a process that is resident now, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/statm");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let pages = text.split_ascii_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let page_bytes = crate::numbers::u64_of(rustix::param::page_size());
    Ok(pages.with_context(|| format!("{path} has an unknown form"))? * page_bytes)
}

/// Ticks in user and in system mode, from the text of a process's `stat`.
fn parse_ticks(text: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold spaces and parentheses itself.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(USER_TICKS_FIELD);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Place of the user mode's ticks among the fields behind the program's name; the system mode's follow.
const USER_TICKS_FIELD: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "42 (a (b) c) S 1 42 42 0 -1 4194560 100 0 0 0 70 30 0 0 20 0 8 0 100 1000 10";
        assert_eq!(parse_ticks(text), Some(100));
        assert_eq!(parse_ticks("42 (a) S 1"), None);
    }

    #[test]
    fn both_clocks_tell_of_this_process() {
        let before = of_this_process();
        assert!(of_process(std::process::id()).unwrap() <= before + Duration::from_secs(1));
        assert!(of_this_process() >= before);
    }

    #[test]
    fn a_process_has_memory() {
        let held = vec![1_u8; 1 << 20];
        let resident = resident_bytes(std::process::id()).unwrap();
        assert!((1 << 20..1 << 40).contains(&resident), "{resident} with {} held", held.len());
    }
}
