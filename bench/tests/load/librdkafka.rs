//! The same loads through librdkafka: counts are exact, and what goes wrong is noticed as it is with the raw client.

use super::broker::{self, Fault};
use super::{SHORT, SMALL, TOPIC, complaint, results};

const CLIENT: [&str; 2] = ["--client", "librdkafka"];

/// The first figure of this name in a report.
fn figure(report: &str, name: &str) -> u64 {
    let label = format!("\"{name}\": ");
    let mut texts = report.lines().filter_map(|line| line.trim().strip_prefix(&label));
    // Settings may have the same name, and are in quotes.
    texts.find_map(|text| text.trim_end_matches(',').parse().ok()).unwrap()
}

#[test]
fn what_was_produced_is_consumed_to_the_last_record_by_either_client() {
    let (address, state) = broker::start(2);
    let size = ["--bytes", "1M", "--connections", "3", "--threads", "2", "--check", "crc"];
    let produced = results("produce", &address, &[&CLIENT[..], &SMALL, &size].concat());
    assert!(produced.contains("\"client\": \"librdkafka "), "{produced}");
    // 105 batches of 10,000 bytes, each as full as the library makes it: 73 records of 100 bytes and 36 of overhead.
    assert_eq!(figure(&produced, "record_count"), 105 * 73);
    assert_eq!(figure(&produced, "bytes"), 105 * 73 * 100, "those of the values");
    assert!(state.lock().unwrap().logs[TOPIC].iter().all(|log| log.len() > 40), "both partitions are used");

    let ways: [&[&str]; 4] = [
        &CLIENT,
        &["--client", "librdkafka", "--check", "none"],
        &["--client", "librdkafka", "--check", "crc", "--consumer-connections", "2", "--threads", "2"],
        &["--client", "raw", "--check", "crc"],
    ];
    for way in ways {
        let consumed = results("consume", &address, way);
        assert_eq!(figure(&consumed, "record_count"), 105 * 73, "{way:?}: {consumed}");
    }
    let twice = results("consume", &address, &[&CLIENT[..], &["--consumers", "2"]].concat());
    assert_eq!(figure(&twice, "record_count"), 2 * 105 * 73);
}

#[test]
fn what_the_raw_client_produced_is_consumed() {
    for check in ["none", "headers", "crc"] {
        let (address, _) = broker::start(2);
        let produced = results("produce", &address, &[&SMALL[..], &["--bytes", "200K", "--check", check]].concat());
        let consumed = results("consume", &address, &CLIENT);
        assert_eq!(figure(&consumed, "record_count"), figure(&produced, "record_count"), "{check}");
    }
}

#[test]
fn every_way_to_send_makes_batches_that_a_broker_takes() {
    let ways: [&[&str]; 8] = [
        &["--idempotence"],
        &["--compression", "gzip"],
        &["--compression", "snappy", "--keys", "zipf:10"],
        &["--compression", "lz4", "--check", "crc"],
        &["--compression", "zstd", "--check", "crc"],
        &["--acks", "1", "--in-flight", "1", "--record-bytes", "40-90"],
        &["--partitions", "7", "--record-bytes", "10"],
        &["--acks", "0"],
    ];
    for way in ways {
        let (address, state) = broker::start(2);
        let produced =
            results("produce", &address, &[&CLIENT[..], &["--batch-bytes", "2000", "--bytes", "40K"], way].concat());
        let kept: i64 = state.lock().unwrap().logs[TOPIC].iter().filter_map(|log| log.last()).map(|last| last.1).sum();
        assert_eq!(i64::try_from(figure(&produced, "record_count")).unwrap(), kept, "{way:?}");
        let consumed = results("consume", &address, &["--check", "crc"]);
        assert_eq!(i64::try_from(figure(&consumed, "record_count")).unwrap(), kept, "{way:?}");
        let acks: i16 = if way.contains(&"0") {
            0
        } else if way.contains(&"1") {
            1
        } else {
            -1
        };
        assert!(state.lock().unwrap().acks.iter().all(|asked| *asked == acks), "{way:?}");
    }
}

#[test]
fn open_loops_send_what_is_due_and_consumers_find_all_of_it() {
    let (address, _) = broker::start(2);
    for linger in ["0", "5ms"] {
        let more = ["--rate", "2000", "--linger", linger, "--connections", "2"];
        let text = results("latency", &address, &[&CLIENT[..], &SHORT, &more].concat());
        assert_eq!(figure(&text, "record_count"), 600, "300 ms at 2000 records per second: {text}");
        assert_eq!(figure(&text, "sample_count"), 600, "each of them is timed: {text}");
    }
    for check in ["none", "headers", "crc"] {
        let more = ["--check", check, "--consumers", "2", "--record-bytes", "100", "--batch-bytes", "1000"];
        let text = results("mixed", &address, &[&CLIENT[..], &SHORT, &more].concat());
        assert!(text.contains("\"produce\"") && text.contains("\"consume\""), "{text}");
    }
    let text = results("end-to-end", &address, &[&CLIENT[..], &SHORT, &["--compression", "lz4"]].concat());
    let end_to_end = text.split("\"end-to-end\"").last().unwrap();
    assert_eq!(figure(end_to_end, "sample_count"), 300, "{text}");
}

#[test]
fn a_broker_that_goes_wrong_is_noticed_by_the_producer() {
    for (fault, expected) in [(Fault::Refuse, "KafkaStorageError"), (Fault::Overlap, "was given where")] {
        let (address, state) = broker::start(2);
        state.lock().unwrap().fault = Some((3, fault));
        let complaint = complaint("produce", &address, &[&CLIENT[..], &SMALL, &["--bytes", "200K"]].concat());
        assert!(complaint.contains(expected), "{fault:?}: {complaint}");
    }
}

#[test]
fn a_broker_that_goes_wrong_is_noticed_by_the_consumer() {
    let faults = [
        (Fault::Lose, "are missing"),
        (Fault::Repeat, "came again"),
        (Fault::Swap, "are missing"),
        (Fault::Damage, "BadMessage"),
    ];
    for (fault, expected) in faults {
        let (address, state) = broker::start(1);
        state.lock().unwrap().fault = Some((3, fault));
        results("produce", &address, &[&CLIENT[..], &SMALL, &["--bytes", "200K"]].concat());
        let complaint = complaint("consume", &address, &[&CLIENT[..], &["--check", "crc"]].concat());
        assert!(complaint.contains(expected), "{fault:?}: {complaint}");
    }
}

#[test]
fn an_acknowledged_record_that_no_consumer_got_is_noticed() {
    let (address, state) = broker::start(1);
    state.lock().unwrap().fault = Some((20, Fault::Lose));
    let more = ["--record-bytes", "100", "--batch-bytes", "1000"];
    let complaint = complaint("end-to-end", &address, &[&CLIENT[..], &SHORT, &more].concat());
    assert!(complaint.contains("partition 0"), "{complaint}");
}

#[test]
fn what_the_library_cannot_do_is_refused() {
    let (address, _) = broker::start(1);
    let refused: [(&str, &str, &str); 3] = [
        ("produce", "--batches-per-request", "2"),
        ("latency", "--batch-bytes", "1G"),
        ("mixed", "--fetch-wait", "2m"),
    ];
    for (task, option, value) in refused {
        let complaint = complaint(task, &address, &[&CLIENT[..], &[option, value]].concat());
        assert!(complaint.contains(option) && complaint.contains("librdkafka"), "{complaint}");
    }
    // A subcommand that has no such client does not read the option and go on.
    assert!(complaint("capacity", &address, &CLIENT).contains("--client"));
}
