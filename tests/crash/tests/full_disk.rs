//! A disk that fills up under a real client, and is given space again.

use millrace_compat::process::CLIENT_LIMIT;
use millrace_compat::{Broker, Kcat, java, python};
use millrace_crash::small_disk::small_disk;

const MIB: u64 = 1024 * 1024;
/// Journals of two shards take 128 MiB of it, and their reserve 32 MiB.
const DISK_BYTES: u64 = 320 * MIB;
/// Taken from outside once the disk is full, so that nothing but the reserve is left.
const BALLAST_BYTES_MAX: u64 = 64 * MIB;
/// Bytes of one record, and as many of them as do not fit.
const VALUE_BYTES: usize = 100_000;
const RECORDS: usize = 3000;

/// `key|value` lines; each value starts with its number.
fn records(from: usize, count: usize) -> Vec<u8> {
    let filler = "x".repeat(VALUE_BYTES);
    (from..from + count).flat_map(|number| format!("key|{number}:{filler}\n").into_bytes()).collect()
}

/// Numbers of the records of a topic, in their order.
fn numbers(broker: &Broker, topic: &str) -> Vec<usize> {
    let read = Kcat::new(broker.address()).read_all(topic, "%s\n");
    let read = String::from_utf8(read).expect("records are text");
    let number = |line: &str| line.split(':').next().and_then(|number| number.parse().ok()).expect("a number first");
    read.lines().map(number).collect()
}

/// Produces until a record is refused; gives how many were acknowledged.
fn fill(broker: &Broker, topic: &str) -> usize {
    let finished = python::acknowledged(broker.address(), topic, records(0, RECORDS)).finish(CLIENT_LIMIT);
    assert_eq!(finished.status.code(), Some(1), "the disk takes all that was sent");
    assert!(finished.stderr.contains("KAFKA_STORAGE_ERROR"), "{}", finished.stderr);
    String::from_utf8(finished.stdout).expect("numbers").lines().count()
}

#[test]
fn a_full_disk_refuses_producers_and_nobody_else() {
    let disk = small_disk(DISK_BYTES).unwrap_or_else(|what| panic!("{what}"));
    let mut broker = Broker::start_on(&disk.path().join("data"), &["--set", "log.segment.bytes=16MiB"]);
    for topic in ["large", "quiet"] {
        Kcat::new(broker.address()).run(&["-L", "-t", topic], "").output();
    }
    Kcat::new(broker.address()).produce("quiet", &[], "0:early\n");

    let acknowledged = fill(&broker, "large");
    assert!(acknowledged > 300, "the disk had room for {acknowledged} only");
    let said = broker.said();
    assert!(said.contains("the disk is full: producers are refused"), "{said}");
    assert_eq!(fill(&broker, "quiet"), 0, "a log that has room already is no exception");
    let kept = numbers(&broker, "large");
    assert!(kept.len() >= acknowledged, "{} of {acknowledged} are there", kept.len());
    assert!(kept.iter().copied().eq(0..kept.len()), "each once, in order");

    // Somebody else takes the rest: the broker lives on its reserve, over a kill and a start.
    let ballast = disk.ballast(disk.available_bytes().min(BALLAST_BYTES_MAX));
    java::tool(broker.address(), "TopicCommand", &["--create", "--topic", "late"], "").output();
    broker.kill();
    broker.start_again();
    assert_eq!(numbers(&broker, "large"), kept);
    assert_eq!(numbers(&broker, "quiet"), [0]);
    assert_eq!(fill(&broker, "late"), 0);

    // Whoever has the patience is served once there is space.
    java::tool(broker.address(), "TopicCommand", &["--delete", "--topic", "large"], "").output();
    Kcat::new(broker.address()).produce("quiet", &[], "1:late\n");
    assert_eq!(numbers(&broker, "quiet"), [0, 1]);
    assert!(fill(&broker, "late") > 300, "the space of the deleted topic is used again");
    drop(ballast);
    assert_eq!(broker.stop().code(), Some(0));
    broker.start_again();
    assert_eq!(numbers(&broker, "quiet"), [0, 1]);
    assert_eq!(broker.stop().code(), Some(0));
}
