//! A process that may have few descriptors, and many partitions.

use std::collections::BTreeSet;

use millrace_compat::kcat::lines_of;
use millrace_compat::{Broker, Kcat};

const DESCRIPTORS: u32 = 256;
const PARTITIONS: usize = 1000;
/// So many keys that each partition gets some of them, and all clients agree on which.
const RECORDS: usize = 20_000;

fn records(round: usize) -> Vec<u8> {
    (0..RECORDS).flat_map(|number| format!("key-{number}|{round}/{number}\n").into_bytes()).collect()
}

/// Panics unless the topic holds the records of the rounds, each once, and some of them in every partition.
#[track_caller]
fn assert_whole(broker: &Broker, rounds: usize) {
    let read = Kcat::new(broker.address()).read_all("many", "%p|%k|%s\n");
    let lines = lines_of(&read);
    let (partitions, found): (BTreeSet<&str>, BTreeSet<&str>) =
        lines.iter().map(|line| line.split_once('|').expect("a partition first")).unzip();
    assert_eq!(lines.len(), rounds * RECORDS);
    assert_eq!(partitions.len(), PARTITIONS);
    let sent: Vec<Vec<u8>> = (0..rounds).map(records).collect();
    let sent: BTreeSet<&str> = sent.iter().flat_map(|round| lines_of(round)).collect();
    assert!(found == sent, "something is missing or twice");
}

#[test]
fn more_partitions_than_descriptors_are_written_and_read() {
    let settings = [format!("num.partitions={PARTITIONS}"), "log.segment.bytes=1MiB".to_owned()];
    let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut broker = Broker::start_with_descriptors(DESCRIPTORS, &arguments);
    Kcat::new(broker.address()).run(&["-L", "-t", "many"], "").output();
    for round in 0..2 {
        // Whatever had to be sent again is there once.
        let options = ["-K", "|", "-X", "enable.idempotence=true", "-X", "partitioner=consistent"];
        Kcat::new(broker.address()).produce("many", &options, records(round));
        assert_whole(&broker, round + 1);
    }
    let said = broker.said();
    assert!(!said.contains("ERROR") && !said.contains("WARN"), "{said}");
    assert_eq!(broker.stop().code(), Some(0));
    broker.start_again();
    assert_whole(&broker, 2);
    broker.kill();
    broker.start_again();
    assert_whole(&broker, 2);
    assert_eq!(broker.stop().code(), Some(0));
}
