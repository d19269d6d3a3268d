//! kill -9 under load from a real client, over and over, on one directory.
//!
//! One idempotent producer (librdkafka) runs through all of it. Each round waits for a number of acknowledgements, kills the
//! broker with whatever it was doing, starts it again on the same directory and port, and reads every partition from its
//! beginning with another client. The moment of a kill is an acknowledgement drawn from the seed: the producer keeps
//! hundreds of records on their way, so a round of writes, a fill or a checkpoint is cut off wherever it happens to be.
//!
//! What a partition may hold follows from the producer alone (clients/numbered.py): record n lies in partition n mod
//! [`PARTITIONS`] at offset n / [`PARTITIONS`]. Anything lost, doubled, swapped or left out shows in the first record that is
//! not where it belongs. A group's member reads and commits all the while; what holds of its offsets is said in
//! [`crate::commits`].

use std::path::PathBuf;

use millrace_compat::process::{CLIENT_LIMIT, Running};
use millrace_compat::{Broker, Kcat, python};
use millrace_sim::dice::Dice;
use rustix::process::Signal;

use crate::commits::{self, Commits, Member};

/// Partitions of the topic.
pub const PARTITIONS: usize = 4;
/// Keys; a multiple of the partitions, so that each key stays in one.
pub const KEYS: usize = 12;
const _: () = assert!(KEYS.is_multiple_of(PARTITIONS));

const TOPIC: &str = "numbered";

/// A record that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledged {
    /// Its number.
    pub number: usize,
    /// The partition that it was sent to.
    pub partition: usize,
    /// The offset that the broker gave it.
    pub offset: usize,
}

/// How much was done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    /// Kills.
    pub kills: usize,
    /// Records that were acknowledged, the last ones after the last kill.
    pub acknowledged: usize,
    /// Records that were read and compared, over all rounds.
    pub compared: usize,
    /// Commits of the group that were acknowledged.
    pub committed: usize,
}

/// Kills the broker `times` times.
///
/// # Panics
/// When a partition is not what it must be, or anything of the set-up fails.
pub fn run(times: usize, seed: u64) -> Tally {
    let dice = Dice::new(seed, 50);
    let partitions = format!("num.partitions={PARTITIONS}");
    let mut broker = Broker::start_with(&["--set", &partitions, "--set", "group.initial.rebalance.delay.ms=0"]);
    Kcat::new(broker.address()).run(&["-L", "-t", TOPIC], "").output();
    let mut producer = start_producer(broker.address());
    let mut tally = Tally::default();
    let mut acknowledged: Vec<Acknowledged> = Vec::new();
    let mut commits = Commits::default();
    for round in 0..times {
        let mut member = Member::start(broker.address(), TOPIC);
        // A few kills follow so closely on a start that the producer has hardly come back.
        let count = 1 + dice.index(dice.pick(&[4, 200, 1000]));
        for _ in 0..count {
            acknowledged.push(parse_acknowledged(&producer.next_line(CLIENT_LIMIT)));
        }
        member.wait_for_commit(&mut commits);
        broker.kill();
        member.end(&mut commits);
        tally.kills += 1;
        broker.start_again();
        // Quiet, so that the topic does not outgrow the test while it is read.
        producer.signal(Signal::STOP);
        let read = read_all(&broker);
        tally.compared +=
            compare(&read, &acknowledged).unwrap_or_else(|what| panic!("seed {seed}, kill {round}: {what}"));
        let told = commits::ask(broker.address(), TOPIC, PARTITIONS);
        commits.compare(&told).unwrap_or_else(|what| panic!("seed {seed}, kill {round}: {what}"));
        producer.signal(Signal::CONT);
    }
    producer.signal(Signal::TERM);
    let rest = producer.finish(CLIENT_LIMIT).text();
    acknowledged.extend(rest.lines().map(parse_acknowledged));
    let read = read_all(&broker);
    tally.compared += compare(&read, &acknowledged).unwrap_or_else(|what| panic!("seed {seed}, at the end: {what}"));
    tally.acknowledged = acknowledged.len();
    tally.committed = commits.count;
    assert_eq!(read.lines().count(), acknowledged.len(), "at the end all that was sent is acknowledged");
    tally
}

fn start_producer(address: &str) -> Running {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients/numbered.py");
    let mut command = python::program(program);
    command.args([address, TOPIC, &PARTITIONS.to_string(), &KEYS.to_string()]);
    Running::start(&mut command, Vec::new())
}

/// Every record of the topic as `partition offset key value` lines.
fn read_all(broker: &Broker) -> String {
    let read = Kcat::new(broker.address()).read_all(TOPIC, "%p %o %k %s\n");
    String::from_utf8(read).expect("the producer sends text")
}

fn parse_acknowledged(line: &str) -> Acknowledged {
    let mut numbers = line.split(' ').map(|number| number.parse().expect("the producer prints numbers"));
    let mut next = || numbers.next().expect("three numbers");
    Acknowledged { number: next(), partition: next(), offset: next() }
}

/// Compares what was read with what may be there; returns how many records that were.
pub fn compare(read: &str, acknowledged: &[Acknowledged]) -> Result<usize, String> {
    let mut ends = [0; PARTITIONS];
    for line in read.lines() {
        let mut fields = line.splitn(4, ' ');
        let mut next = || fields.next().ok_or_else(|| format!("not a record: {line}"));
        let (partition, offset, key, value) = (next()?, next()?, next()?, next()?);
        let partition: usize = partition.parse().map_err(|_| format!("not a partition: {line}"))?;
        let end = ends.get_mut(partition).ok_or_else(|| format!("not a partition: {line}"))?;
        if offset != end.to_string() {
            return Err(format!("partition {partition}: offset {offset} where {end} is next"));
        }
        let number = *end * PARTITIONS + partition;
        if key != (number % KEYS).to_string() || value != value_of(number) {
            return Err(format!("partition {partition}, offset {offset}: not record {number} but {key} {value}"));
        }
        *end += 1;
    }
    for record in acknowledged {
        let Acknowledged { number, partition, offset } = *record;
        if (partition, offset) != (number % PARTITIONS, number / PARTITIONS) {
            return Err(format!("record {number} was acknowledged as offset {offset} of partition {partition}"));
        }
        if offset >= ends[partition] {
            return Err(format!("record {number} was acknowledged; partition {partition} ends at {}", ends[partition]));
        }
    }
    Ok(ends.iter().sum())
}

/// The value that clients/numbered.py gives a record.
fn value_of(number: usize) -> String {
    format!("{number}:{}", "abcdefghijklmnopqrstuvwxyz".repeat(number * 7919 % 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records with these numbers, as they would be read from partition 1.
    fn read(numbers: &[usize]) -> String {
        let record =
            |(offset, number): (usize, &usize)| format!("1 {offset} {} {}\n", number % KEYS, value_of(*number));
        numbers.iter().enumerate().map(record).collect()
    }

    fn acknowledged(number: usize, offset: usize) -> Acknowledged {
        Acknowledged { number, partition: 1, offset }
    }

    #[test]
    fn records_in_their_places_pass() {
        assert_eq!(compare(&read(&[1, 5, 9]), &[acknowledged(1, 0), acknowledged(5, 1)]), Ok(3));
    }

    #[test]
    fn a_lost_a_doubled_and_a_swapped_record_are_seen() {
        assert!(compare(&read(&[1, 5]), &[acknowledged(9, 2)]).unwrap_err().ends_with("partition 1 ends at 2"));
        for numbers in [&[1, 9][..], &[1, 1, 5], &[5, 1]] {
            assert!(compare(&read(numbers), &[]).unwrap_err().contains("not record"), "{numbers:?}");
        }
        let gap = read(&[1, 5]).replace("1 1 5", "1 2 5");
        assert_eq!(compare(&gap, &[]).unwrap_err(), "partition 1: offset 2 where 1 is next");
    }

    #[test]
    fn a_wrong_offset_in_an_answer_is_seen() {
        assert!(compare(&read(&[1, 5]), &[acknowledged(5, 0)]).unwrap_err().contains("acknowledged as offset 0"));
    }
}
