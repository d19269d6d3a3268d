//! `millbench` against a broker of a few lines: what is sent arrives, and what goes wrong is noticed.
#![expect(clippy::unwrap_used, reason = "an unwrap of a test is an assertion")]
#![expect(clippy::disallowed_types, reason = "a broker of the test's own, without shards")]

mod broker;
mod librdkafka;

use std::process::{Command, Output};

use broker::{Fault, Shared};

const TOPIC: &str = "load";

fn millbench(task: &str, address: &str, rest: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_millbench"))
        .args([task, "--bootstrap", address, "--topic", TOPIC, "--json", "-"])
        .args(rest)
        .output()
        .unwrap()
}

/// Runs a task that must succeed and gives its results as JSON.
fn results(task: &str, address: &str, rest: &[&str]) -> String {
    let output = millbench(task, address, rest);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{task}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// Runs a task that must fail and gives what it says about it.
fn complaint(task: &str, address: &str, rest: &[&str]) -> String {
    let output = millbench(task, address, rest);
    assert!(!output.status.success(), "{task} noticed nothing: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn kept_bytes(state: &Shared) -> usize {
    state.lock().unwrap().logs.values().flatten().flatten().map(|(.., bytes)| bytes.len()).sum()
}

const SMALL: [&str; 4] = ["--record-bytes", "100", "--batch-bytes", "10000"];

#[test]
fn what_was_produced_is_consumed_to_the_last_byte() {
    let (address, state) = broker::start(2);
    let pid = std::process::id().to_string();
    let size = ["--bytes", "1M", "--connections", "3", "--broker-pid", &pid, "--check", "crc"];
    let produced = results("produce", &address, &[&SMALL[..], &size].concat());
    let kept = kept_bytes(&state);
    assert!((1_000_000..(1 << 20) + 10_000).contains(&kept), "{kept}");
    assert!(state.lock().unwrap().logs[TOPIC].iter().all(|log| log.len() > 40), "both partitions are used");
    assert!(produced.contains(&format!("\"bytes\": {kept}")), "{produced}");

    for more in [&["--check", "none"][..], &["--check", "headers"], &["--check", "crc", "--consumer-connections", "2"]]
    {
        let consumed = results("consume", &address, more);
        assert!(consumed.contains(&format!("\"bytes\": {kept}")), "{consumed}");
    }
    let twice = results("consume", &address, &["--consumers", "2"]);
    assert!(twice.contains(&format!("\"bytes\": {}", 2 * kept)), "{twice}");
}

#[test]
fn every_way_to_send_makes_batches_that_a_broker_takes() {
    let keyed = ["--keys", "zipf:10", "--record-bytes", "40-90", "--batch-bytes", "2000"];
    let ways: [&[&str]; 8] = [
        &["--idempotence"],
        &["--compression", "lz4", "--check", "crc"],
        &["--compression", "zstd"],
        &["--acks", "1", "--in-flight", "1"],
        &["--check", "none", "--threads", "2", "--connections", "2"],
        &["--partitions", "7", "--batches-per-request", "3"],
        &["--record-bytes", "10", "--check", "crc"],
        &["--acks", "0"],
    ];
    for way in ways {
        let (address, state) = broker::start(2);
        let has_size = way.contains(&"--record-bytes");
        let keyed = if has_size { &keyed[..2] } else { &keyed[..] };
        results("produce", &address, &[keyed, way, &["--bytes", "40K"]].concat());
        assert!(kept_bytes(&state) > 2000, "{way:?}");
        if !way.contains(&"0") {
            results("consume", &address, &["--check", "crc"]);
        }
        assert_eq!(state.lock().unwrap().logs[TOPIC].len(), if way.contains(&"7") { 7 } else { 2 });
    }
}

#[test]
fn a_broker_that_goes_wrong_is_noticed_by_the_producer() {
    for (fault, expected) in [(Fault::Refuse, "KAFKA_STORAGE_ERROR"), (Fault::Overlap, "was given where")] {
        let (address, state) = broker::start(2);
        state.lock().unwrap().fault = Some((3, fault));
        let complaint = complaint("produce", &address, &[&SMALL[..], &["--bytes", "200K"]].concat());
        assert!(complaint.contains(expected), "{fault:?}: {complaint}");
    }
}

#[test]
fn a_broker_that_goes_wrong_is_noticed_by_the_consumer() {
    let faults = [
        (Fault::Lose, "are missing"),
        (Fault::Repeat, "came again"),
        (Fault::Swap, "are missing"),
        (Fault::Damage, "checksum"),
    ];
    for (fault, expected) in faults {
        let (address, state) = broker::start(1);
        state.lock().unwrap().fault = Some((3, fault));
        results("produce", &address, &[&SMALL[..], &["--bytes", "200K"]].concat());
        let complaint = complaint("consume", &address, &["--check", "crc"]);
        assert!(complaint.contains(expected), "{fault:?}: {complaint}");
    }
}

const SHORT: [&str; 4] = ["--warm-up", "50ms", "--duration", "300ms"];

#[test]
fn open_loops_send_what_is_due_and_consumers_find_all_of_it() {
    let (address, _) = broker::start(2);
    for linger in ["0", "5ms"] {
        let text = results("latency", &address, &[&SHORT[..], &["--rate", "2000", "--linger", linger]].concat());
        // 300 ms at 2000 records per second, whenever they were really sent.
        assert!(text.contains("\"record_count\": 600,"), "{text}");
    }
    for check in ["none", "headers", "crc"] {
        let text = results("mixed", &address, &[&SHORT[..], &["--check", check, "--consumers", "2"]].concat());
        assert!(text.contains("\"produce\"") && text.contains("\"consume\""), "{text}");
    }
    for more in [&["--linger", "2ms"][..], &["--compression", "lz4"]] {
        let text = results("end-to-end", &address, &[&SHORT[..], more].concat());
        assert!(text.contains("\"end-to-end\""), "{text}");
    }
}

#[test]
fn an_acknowledged_record_that_no_consumer_got_is_noticed() {
    for fault in [Fault::Lose, Fault::Overlap] {
        for task in ["mixed", "end-to-end"] {
            let (address, state) = broker::start(1);
            state.lock().unwrap().fault = Some((20, fault));
            let more = ["--record-bytes", "100", "--batch-bytes", "1000"];
            let complaint = complaint(task, &address, &[&SHORT[..], &more[..]].concat());
            assert!(complaint.contains("partition 0"), "{task}, {fault:?}: {complaint}");
        }
    }
}

#[test]
fn connections_are_counted_and_asked() {
    let (address, _) = broker::start(1);
    let more = ["--count", "20", "--duration", "200ms", "--every", "100ms"];
    let output = Command::new(env!("CARGO_BIN_EXE_millbench"))
        .args(["connections", "--bootstrap", &address, "--json", "-"])
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("\"open\"") && text.contains("\"ask\""), "{text}");
    assert!(text.contains("\"request_count\": 20,"), "{text}");
}

#[test]
fn a_scan_stands_beside_producers() {
    let (address, _) = broker::start(2);
    let more = ["--cold-topic", "cold", "--fill", "1M", "--rounds", "1", "--batch-bytes", "10000"];
    let text = results("cold-read", &address, &[&SHORT[..], &more[..]].concat());
    for series in ["\"produce alone\"", "\"produce beside scan\"", "\"scan\""] {
        assert!(text.contains(series), "{text}");
    }
}

#[test]
fn rolls_and_many_partitions_are_measured() {
    let (address, _) = broker::start(1);
    let small = ["--segment-bytes", "100K", "--rate", "2MB/s", "--linger", "1ms"];
    let text = results("roll", &address, &[&SHORT[..], &small[..]].concat());
    let rolls = text.lines().find(|line| line.contains("\"rolls\"")).unwrap();
    // 600 kB and what batches and a slow start add or take away.
    assert!(["3", "4", "5", "6", "7"].iter().any(|count| rolls.contains(&format!("\"{count}\""))), "{rolls}");

    let few = ["--few", "2", "--partitions", "50", "--rounds", "1", "--outstanding", "64K", "--batch-bytes", "1K"];
    let text = results("partitions", &address, &[&SHORT[..], &few[..], &["--record-bytes", "100"]].concat());
    assert!(text.contains("\"2 partitions\"") && text.contains("\"50 partitions\""), "{text}");
}

#[test]
fn the_capacity_is_a_rate_that_kept_its_bound() {
    let (address, _) = broker::start(1);
    let short = ["--warm-up", "0", "--duration", "100ms", "--precision", "100"];
    let found = |bound: &str, rate: &str| {
        results("capacity", &address, &[&short[..], &["--p99", bound, "--rate", rate]].concat())
    };
    // No answer comes within a nanosecond; within a second they do until the broker, or the generator, has too much to do.
    assert!(found("0.001us", "4").contains("\"capacity\": \"none\""));
    let text = found("1s", "1000");
    let capacity = text.lines().find_map(|line| line.trim().strip_prefix("\"capacity\": \"")).unwrap();
    let rate: f64 = capacity.split_once(' ').unwrap().0.parse().unwrap();
    assert!(rate >= 1000.0, "{text}");
    assert!(text.contains(&format!("\"name\": \"{rate} records/s\"")), "its run is reported: {text}");
}

#[test]
fn a_soak_counts_errors_and_looks_at_memory() {
    let (address, _) = broker::start(3);
    let pid = std::process::id().to_string();
    let many = ["--partitions", "3", "--connections", "3", "--consumer-connections", "3", "--probe", "100ms"];
    let text = results("soak", &address, &[&SHORT[..], &many, &["--broker-pid", &pid]].concat());
    assert!(text.contains("\"errors\": \"0\"") && text.contains("\"growth of the broker's memory\""), "{text}");
    assert!(complaint("soak", &address, &SHORT).contains("--broker-pid"));
}
