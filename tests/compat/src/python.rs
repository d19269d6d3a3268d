//! Python programs over confluent-kafka: one tells which records were acknowledged, one reads as two members of a group.

use std::path::Path;
use std::process::Command;

use crate::places;
use crate::process::{self, Running};
use crate::weather::{CITIES, lines, values_of};

/// Any Python program, with the installed clients for Python. No compiled files are left beside it.
pub fn program(path: impl AsRef<Path>) -> Command {
    let mut command = Command::new(places::client("venv").join("bin/python"));
    command.arg("-B").arg(path.as_ref());
    command
}

/// Starts clients/acknowledged.py: it publishes `key|value` lines and writes the number of each acknowledged one.
#[track_caller]
pub fn acknowledged(address: &str, topic: &str, lines: impl Into<Vec<u8>>) -> Running {
    let mut command = program(places::client_source("acknowledged.py"));
    command.args([address, topic]);
    Running::start(&mut command, lines.into())
}

/// Runs clients/members.py: two members of one group read `topic` together, then the first alone. Both use
/// the strategy, or each its own with a comma between. Gives what it wrote.
#[track_caller]
pub fn members(address: &str, group: &str, topic: &str, strategies: &str, count: usize) -> String {
    let mut command = program(places::client_source("members.py"));
    command.args([address, group, topic, strategies, &count.to_string()]);
    process::run(&mut command, "").text()
}

/// Panics unless `read` is what a log may hold after `records` were sent by [`acknowledged`]: per key a prefix of them, in
/// their order and each once, that reaches at least to the last acknowledged one. All are `key|value` lines.
#[track_caller]
pub fn assert_kept(records: &[u8], acknowledged: &[usize], read: &[u8]) {
    let sent = lines(records);
    for city in CITIES {
        let key = format!("{city}|");
        let is_of_city = |index: usize| sent[index].starts_with(key.as_bytes());
        let last = acknowledged.iter().copied().filter(|index| is_of_city(*index)).max();
        let due_count = last.map_or(0, |last| (0..=last).filter(|index| is_of_city(*index)).count());
        let (sent_values, kept) = (values_of(city, records), values_of(city, read));
        assert!(sent_values.starts_with(&kept), "{city}: a record is missing, twice, or out of order");
        let kept_count = lines(&kept).len();
        assert!(kept_count >= due_count, "{city}: {due_count} acknowledged, {kept_count} kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &[u8] = b"sf|1\nseattle|1\nsf|2\nsf|3\n";

    #[test]
    fn an_unacknowledged_tail_may_be_there_or_not() {
        assert_kept(RECORDS, &[0, 1], b"sf|1\nseattle|1\n");
        assert_kept(RECORDS, &[0, 1], b"seattle|1\nsf|1\nsf|2\n");
    }

    #[test]
    #[should_panic(expected = "2 acknowledged, 1 kept")]
    fn a_lost_record_is_seen() {
        assert_kept(RECORDS, &[0, 2], b"sf|1\nseattle|1\n");
    }

    #[test]
    #[should_panic(expected = "missing, twice, or out of order")]
    fn a_record_twice_is_seen() {
        assert_kept(RECORDS, &[0], b"sf|1\nsf|1\n");
    }
}
