//! The offsets that a group committed while its broker was killed, over and over.
//!
//! One static member (clients/committing.py) reads the topic of [`crate::kill`] and commits every few records. It says what it
//! is about to commit, and what was acknowledged. After a kill each partition's committed offset must lie between the last
//! acknowledged and the last tried one: an older one would hand records out twice that were done with, a newer one would
//! skip records.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use millrace_compat::process::{self, CLIENT_LIMIT, Running};
use millrace_compat::python;
use rustix::process::Signal;

const GROUP: &str = "readers";

/// What a group's member tried to commit and what was acknowledged, over all its lives.
#[derive(Debug, Default)]
pub struct Commits {
    /// The last offset that was acknowledged, by partition.
    acknowledged: BTreeMap<usize, u64>,
    /// The last offset that was sent, by partition.
    tried: BTreeMap<usize, u64>,
    /// Commits that were acknowledged.
    pub count: usize,
}

impl Commits {
    /// Takes in one line of the member.
    ///
    /// # Panics
    /// When it is not one, or the member goes back behind what was acknowledged to it.
    pub fn follow(&mut self, line: &str) {
        let (what, positions) = line.split_once(' ').expect("a word and positions");
        for (partition, offset) in parse_positions(positions) {
            let acknowledged = self.acknowledged.get(&partition).copied().unwrap_or(0);
            assert!(offset >= acknowledged, "partition {partition}: read from before {acknowledged} again: {line}");
            match what {
                "trying" => self.tried.insert(partition, offset),
                "committed" => self.acknowledged.insert(partition, offset),
                _ => panic!("the member says {line}"),
            };
        }
        self.count += usize::from(what == "committed");
    }

    /// Compares with what the broker has, given as the `told` line of the program.
    pub fn compare(&self, told: &str) -> Result<(), String> {
        let positions = told.trim_end().strip_prefix("told").ok_or_else(|| format!("not what was asked: {told}"))?;
        let told: BTreeMap<usize, u64> = parse_positions(positions).collect();
        if let Some(partition) = self.acknowledged.keys().find(|partition| !told.contains_key(partition)) {
            return Err(format!("partition {partition}: the committed offset is gone"));
        }
        for (partition, offset) in told {
            let acknowledged = self.acknowledged.get(&partition).copied().unwrap_or(0);
            let tried = self.tried.get(&partition).copied().unwrap_or(0);
            if !(acknowledged..=tried).contains(&offset) {
                return Err(format!(
                    "partition {partition}: committed {offset}, acknowledged {acknowledged}, tried {tried}"
                ));
            }
        }
        Ok(())
    }
}

fn parse_positions(text: &str) -> impl Iterator<Item = (usize, u64)> {
    text.split_ascii_whitespace().map(|position| {
        let (partition, offset) = position.split_once(':').expect("partition:offset");
        (partition.parse().expect("a partition"), offset.parse().expect("an offset"))
    })
}

/// The member at work.
pub struct Member {
    running: Running,
}

impl Member {
    /// Starts the member, in the place of the one before.
    pub fn start(address: &str, topic: &str) -> Member {
        Member { running: Running::start(&mut command(address, topic), Vec::new()) }
    }

    /// Waits until a commit is acknowledged.
    pub fn wait_for_commit(&mut self, commits: &mut Commits) {
        let before = commits.count;
        while commits.count == before {
            commits.follow(&self.running.next_line(CLIENT_LIMIT));
        }
    }

    /// Ends the member without a good-bye to its broker and takes in what it has said.
    pub fn end(self, commits: &mut Commits) {
        self.running.signal(Signal::KILL);
        let finished = self.running.finish(CLIENT_LIMIT);
        let said = String::from_utf8(finished.stdout).expect("the member writes text");
        said.lines().for_each(|line| commits.follow(line));
    }
}

/// What another client is told is committed.
#[track_caller]
pub fn ask(address: &str, topic: &str, partition_count: usize) -> String {
    process::run(command(address, topic).arg(partition_count.to_string()), "").text()
}

fn command(address: &str, topic: &str) -> Command {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/committing.py");
    let mut command = python::program(program);
    command.args([address, GROUP, topic]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits() -> Commits {
        let mut commits = Commits::default();
        for line in ["trying 0:5 1:7", "committed 0:5 1:7", "trying 0:9"] {
            commits.follow(line);
        }
        commits
    }

    #[test]
    fn an_unacknowledged_commit_may_hold_or_not() {
        assert_eq!(commits().count, 1);
        commits().compare("told 0:5 1:7\n").unwrap();
        commits().compare("told 0:9 1:7\n").unwrap();
    }

    #[test]
    fn what_is_lost_old_or_invented_is_seen() {
        assert!(commits().compare("told 0:5\n").unwrap_err().contains("partition 1: the committed offset is gone"));
        assert!(commits().compare("told 0:4 1:7\n").unwrap_err().contains("committed 4, acknowledged 5, tried 9"));
        assert!(commits().compare("told 0:5 1:8\n").unwrap_err().contains("committed 8, acknowledged 7, tried 7"));
        assert!(commits().compare("told 0:5 1:7 2:1\n").unwrap_err().contains("acknowledged 0, tried 0"));
    }

    #[test]
    #[should_panic(expected = "read from before 5 again")]
    fn reading_again_what_was_done_with_is_seen() {
        commits().follow("trying 0:4");
    }
}
