//! A disk that fills up under a real client, and is given space again.
//!
//! What the broker does today is asserted here, the parts that are to change included: a log that finds no room goes
//! offline whole until the broker is started again, and that takes a little space too.

use millrace_compat::broker::command_line;
use millrace_compat::process::CLIENT_LIMIT;
use millrace_compat::{Broker, Kcat, python};
use millrace_crash::small_disk::small_disk;

const MIB: u64 = 1024 * 1024;
/// Journals of two shards take 128 MiB of it.
const DISK_BYTES: u64 = 320 * MIB;
/// Taken before the broker starts, and given back to it later.
const BALLAST_BYTES: u64 = 96 * MIB;
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

#[test]
fn what_was_acknowledged_before_the_disk_was_full_is_there_once_it_has_space() {
    let disk = small_disk(DISK_BYTES).unwrap_or_else(|what| panic!("{what}"));
    let ballast = disk.ballast(BALLAST_BYTES);
    let mut broker = Broker::start_on(&disk.path().join("data"), &[]);
    for topic in ["large", "quiet"] {
        Kcat::new(broker.address()).run(&["-L", "-t", topic], "").output();
    }
    Kcat::new(broker.address()).produce("quiet", &[], "0:early\n");

    let finished = python::acknowledged(broker.address(), "large", records(0, RECORDS)).finish(CLIENT_LIMIT);
    assert_eq!(finished.status.code(), Some(1), "the disk takes all that was sent");
    assert!(finished.stderr.contains("KAFKA_STORAGE_ERROR"), "{}", finished.stderr);
    let acknowledged = String::from_utf8(finished.stdout).expect("numbers").lines().count();
    assert!(acknowledged > 0, "the disk had room for some");
    assert!(broker.said().contains("No space left on device"), "{}", broker.said());

    // A log that has room already does not notice.
    broker.assert_runs();
    Kcat::new(broker.address()).produce("quiet", &[], "1:late\n");
    assert_eq!(numbers(&broker, "quiet"), [0, 1]);

    // Without any space there is no start: it writes a block to see whether the device takes direct I/O.
    broker.kill();
    assert_eq!(disk.available_bytes(), 0);
    let data = disk.path().join("data");
    let refused = command_line(&["--listen", "127.0.0.1:0", "--data", data.to_str().expect("the path is text")]);
    assert!(!refused.status.success() && refused.stderr.contains("No space left on device"), "{refused:?}");

    drop(ballast);
    broker.start_again();
    let kept = numbers(&broker, "large");
    assert!(kept.len() >= acknowledged, "{} of {acknowledged} are there", kept.len());
    assert!(kept.iter().copied().eq(0..kept.len()), "each once, in order");
    assert_eq!(numbers(&broker, "quiet"), [0, 1]);
    Kcat::new(broker.address()).produce("large", &[], format!("{}:again\n", kept.len()));
    assert_eq!(numbers(&broker, "large").len(), kept.len() + 1);
    assert_eq!(broker.stop().code(), Some(0));
}
