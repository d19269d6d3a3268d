//! Apache Kafka's own programs: topics, the console producer and consumer, offsets, versions.

use millrace_compat::{Broker, Kcat, java};

#[test]
fn the_console_consumer_reads_what_the_console_producer_wrote() {
    let broker = Broker::start();
    java::produce_keyed(broker.address(), "weather", "seattle|39.4\nsf|47.8\n");
    assert_eq!(java::consume_keyed(broker.address(), "weather", 0, 2), "seattle|39.4\nsf|47.8\n");
}

#[test]
fn java_and_librdkafka_read_each_other() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    java::produce_keyed(broker.address(), "weather", "seattle|39.4\n");
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let lines = format!("sf|{codec}{codec}{codec}\n").repeat(50);
        kcat.produce("weather", &["-K", "|", "-z", codec], lines.clone());
        java::produce_compressed(broker.address(), "weather", codec, lines);
    }
    let written: String = java::consume_keyed(broker.address(), "weather", 0, 401);
    assert_eq!(written.lines().count(), 401);
    assert_eq!(written.as_bytes(), kcat.read_all("weather", "%k|%s\n"));
}

#[test]
fn topics_are_created_listed_and_described() {
    let broker = Broker::start();
    let topics = |arguments: &[&str]| java::tool(broker.address(), "TopicCommand", arguments, "");
    let layout = ["--partitions", "4", "--replication-factor", "1", "--config", "max.message.bytes=4000"];
    let created = topics(&[&["--create", "--topic", "weather"][..], &layout].concat());
    assert_eq!(created.text().trim(), "Created topic weather.");
    assert_eq!(topics(&["--list"]).text(), "weather\n");
    let described = topics(&["--describe", "--topic", "weather"]).text();
    assert!(described.contains("PartitionCount: 4\tReplicationFactor: 1"), "{described}");
    // What was set for the topic, told by DescribeConfigs, and nothing that holds anyway.
    assert!(described.lines().any(|line| line.ends_with("Configs: max.message.bytes=4000")), "{described}");
    assert!(described.contains("Partition: 3\tLeader: 1\tReplicas: 1\tIsr: 1"), "{described}");
    // The second creation is refused by name, not by closing the connection.
    let again = topics(&["--create", "--topic", "weather"]);
    assert!(!again.status.success());
    assert!(
        String::from_utf8_lossy(&again.stdout).contains("already exists") || again.stderr.contains("already exists")
    );
}

#[test]
fn offsets_are_told() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    for lines in ["a\nb\n", "c\n"] {
        kcat.produce("weather", &[], lines);
    }
    // The last record, the first, the one with the largest time, the first that is here and not elsewhere.
    for (time, offset) in [("-1", 3), ("-2", 0), ("-3", 2), ("-4", 0)] {
        let told = java::tool(broker.address(), "GetOffsetShell", &["--topic", "weather", "--time", time], "").text();
        assert_eq!(told, format!("weather:0:{offset}\n"));
    }
}

#[test]
fn every_version_the_broker_offers_is_usable() {
    let broker = Broker::start();
    let listing = java::tool(broker.address(), "BrokerApiVersionsCommand", &[], "").text();
    assert!(listing.contains("(id: 1 rack: null"), "{listing}");
    let is_offered = |line: &&str| line.contains("): ") && !line.contains("UNSUPPORTED");
    let offered: Vec<_> = listing.lines().filter(is_offered).collect();
    assert_eq!(offered.len(), 36, "{listing}");
    for line in offered {
        assert!(line.contains("usable:"), "{line}");
    }
}
