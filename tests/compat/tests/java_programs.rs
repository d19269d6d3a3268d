//! Apache Kafka's own test and performance programs, as they come.

use millrace_compat::process::Finished;
use millrace_compat::{Broker, Kcat, java};

fn broker() -> Broker {
    Broker::start_with(&["--set", "num.partitions=2", "--set", "group.initial.rebalance.delay.ms=0"])
}

fn run(broker: &Broker, class: &str, arguments: &[&str]) -> Finished {
    java::tool(broker.address(), class, arguments, "")
}

#[test]
fn the_verifiable_consumer_reads_what_the_verifiable_producer_wrote() {
    let broker = broker();
    let produced = run(&broker, "VerifiableProducer", &["--topic", "numbers", "--max-messages", "1000"]).text();
    assert_eq!(produced.matches(r#""name":"producer_send_success""#).count(), 1000, "{produced}");
    assert!(produced.contains(r#""sent":1000"#) && produced.contains(r#""acked":1000"#), "{produced}");
    for protocol in ["classic", "consumer"] {
        let arguments =
            ["--topic", "numbers", "--group-id", protocol, "--group-protocol", protocol, "--max-messages", "1000"];
        let consumed = run(&broker, "VerifiableConsumer", &arguments).text();
        for event in ["startup_complete", "partitions_assigned", "offsets_committed", "shutdown_complete"] {
            assert!(consumed.contains(&format!(r#""name":"{event}""#)), "{event} in {consumed}");
        }
        assert!(!consumed.contains(r#""success":false"#), "{consumed}");
        let described =
            run(&broker, "consumer.group.ConsumerGroupCommand", &["--describe", "--group", protocol]).text();
        let rows = described.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let committed = rows.filter(|row| row.get(1) == Some(&"numbers")).map(|row| row[3].parse::<u32>().unwrap());
        assert_eq!(committed.sum::<u32>(), 1000, "{described}");
    }
}

#[test]
fn the_performance_programs_measure() {
    let broker = broker();
    let size = ["--topic", "load", "--num-records", "20000", "--record-size", "100", "--throughput", "-1"];
    let produced = run(&broker, "ProducerPerformance", &size).text();
    assert!(produced.contains("20000 records sent"), "{produced}");
    let arguments = ["--topic", "load", "--num-records", "20000", "--hide-header"];
    let consumed = run(&broker, "ConsumerPerformance", &arguments).text();
    let fields: Vec<&str> = consumed.trim().split(", ").collect();
    assert_eq!(fields.get(4), Some(&"20000"), "{consumed}");
    assert_eq!(Kcat::new(broker.address()).read_all("load", "%o\n").split(|byte| *byte == b'\n').count(), 20_001);
}

#[test]
fn records_go_from_end_to_end() {
    let broker = broker();
    Kcat::new(broker.address()).run(&["-L", "-t", "latency"], "").output();
    let arguments = ["--topic", "latency", "--num-records", "200", "--producer-acks", "all", "--record-size", "100"];
    let told = run(&broker, "EndToEndLatency", &arguments).text();
    assert!(told.contains("Percentiles: 50th = "), "{told}");
}

/// Kafka's own test of what a client may expect of a broker, with everything expected but ACLs.
#[test]
fn the_client_compatibility_test_passes() {
    let broker = broker();
    let mut arguments = vec!["--topic", "compatibility", "--num-cluster-nodes", "1"];
    for (feature, expected) in [
        ("--offsets-for-times-supported", "True"),
        ("--cluster-id-supported", "True"),
        ("--expect-record-too-large-exception", "False"),
        ("--create-topics-supported", "True"),
        ("--describe-acls-supported", "False"),
        ("--describe-configs-supported", "True"),
        ("--idempotent-producer-supported", "True"),
    ] {
        arguments.extend([feature, expected]);
    }
    let told = run(&broker, "ClientCompatibilityTest", &arguments).text();
    assert!(told.contains("SUCCESS"), "{told}");
}
