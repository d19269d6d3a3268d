//! Apache Kafka's own administration programs: topics and their configuration from the first day to the last.

use std::fmt::Write as _;

use millrace_compat::{Broker, Kcat, java};

/// What `kafka-configs --describe` says of `topic`, without its first line.
fn described(broker: &Broker, topic: &str) -> Vec<String> {
    let told = java::configs(broker.address(), &["--describe", "--topic", topic]).text();
    told.lines().skip(1).map(|line| line.trim().split(' ').next().unwrap_or("").to_owned()).collect()
}

fn alter(broker: &Broker, topic: &str, change: &[&str]) {
    let told = java::configs(broker.address(), &[&["--alter", "--topic", topic], change].concat()).text();
    assert_eq!(told.trim(), format!("Completed updating config for topic {topic}."));
}

#[test]
fn a_topic_is_configured_changed_and_deleted() {
    let mut broker = Broker::start();
    let address = broker.address().to_owned();
    let configs = ["--config", "retention.ms=3600000", "--config", "cleanup.policy=compact,delete"];
    let create = ["--create", "--topic", "weather", "--partitions", "3"];
    let created = java::tool(&address, "TopicCommand", &[&create[..], &configs].concat(), "").text();
    assert_eq!(created.trim(), "Created topic weather.");
    assert_eq!(described(&broker, "weather"), ["cleanup.policy=compact,delete", "retention.ms=3600000"]);

    alter(&broker, "weather", &["--add-config", "segment.bytes=1048576,flush.policy=interval"]);
    alter(&broker, "weather", &["--delete-config", "retention.ms"]);
    // Another life of the broker knows the same.
    broker.kill();
    broker.start_again();
    let own = ["cleanup.policy=compact,delete", "flush.policy=interval", "segment.bytes=1048576"];
    assert_eq!(described(&broker, "weather"), own);

    let refused = java::configs(&address, &["--alter", "--topic", "weather", "--add-config", "segment.bytes=5"]);
    assert!(refused.stderr.contains("InvalidConfigurationException: segment.bytes: "), "{}", refused.stderr);
    assert_eq!(described(&broker, "weather"), own);

    let delete = ["--delete", "--topic", "weather"];
    java::tool(&address, "TopicCommand", &delete, "").text();
    assert_eq!(java::tool(&address, "TopicCommand", &["--list"], "").text().trim(), "");
    let again = java::tool(&address, "TopicCommand", &delete, "");
    assert!(!again.status.success(), "it is gone");
}

/// What `kafka-configs --describe --all` says of one key of an entity, without what its value falls back on.
fn described_key(address: &str, entity: &[&str], key: &str) -> String {
    let told = java::configs(address, &[&["--describe", "--all"], entity].concat()).text();
    let is_wanted = |line: &&str| line.trim().starts_with(&format!("{key}="));
    let line = told.lines().find(is_wanted).unwrap_or_else(|| panic!("{key} is not in {told}"));
    line.trim().to_owned()
}

#[test]
fn brokers_and_groups_are_configured_while_they_run() {
    let mut broker = Broker::start();
    let address = broker.address().to_owned();
    let one = ["--entity-type", "brokers", "--entity-name", "1"];
    let all = ["--entity-type", "brokers", "--entity-default"];
    let group = ["--entity-type", "groups", "--entity-name", "readers"];
    let alter = |entity: &[&str], change: &[&str]| java::configs(&address, &[&["--alter"], entity, change].concat());
    java::tool(&address, "TopicCommand", &["--create", "--topic", "weather"], "").text();

    let told = java::configs(&address, &[&["--describe", "--all"], &one[..]].concat()).text();
    let count = told.lines().filter(|line| line.contains(" sensitive=")).count();
    assert!(count >= 340, "Kafka 4.3.1 tells 340 keys, not {count}");

    alter(&all, &["--add-config", "log.retention.ms=200000,num.io.threads=12"]).text();
    alter(&one, &["--add-config", "log.retention.ms=100000"]).text();
    alter(&group, &["--add-config", "consumer.session.timeout.ms=50000"]).text();
    // Another life of the broker knows the same.
    broker.kill();
    broker.start_again();
    let retention = described_key(&address, &one, "log.retention.ms");
    let synonyms =
        "DYNAMIC_BROKER_CONFIG:log.retention.ms=100000, DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=200000";
    assert!(retention.starts_with("log.retention.ms=100000 ") && retention.contains(synonyms), "{retention}");
    let of_topic = described_key(&address, &["--entity-type", "topics", "--entity-name", "weather"], "retention.ms");
    assert!(of_topic.starts_with("retention.ms=100000 ") && of_topic.contains(synonyms), "{of_topic}");
    let of_group = described_key(&address, &group, "consumer.session.timeout.ms");
    assert!(of_group.starts_with("consumer.session.timeout.ms=50000 "), "{of_group}");

    alter(&one, &["--delete-config", "log.retention.ms"]).text();
    assert!(described_key(&address, &one, "log.retention.ms").starts_with("log.retention.ms=200000 "));
    for (change, said) in [
        ("num.partitions=3", "InvalidRequestException: num.partitions: it is set where the broker is started"),
        ("ssl.keystore.type=PEM", "InvalidRequestException: ssl.keystore.type: Listeners are PLAINTEXT"),
    ] {
        let refused = alter(&one, &["--add-config", change]);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[test]
fn records_are_deleted_up_to_an_offset() {
    let broker = Broker::start();
    java::produce_keyed(broker.address(), "weather", "a|1\na|2\na|3\na|4\na|5\n");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("offsets.json");
    let delete = |offset: i64| {
        let mut json = String::new();
        write!(json, r#"{{"partitions":[{{"topic":"weather","partition":0,"offset":{offset}}}],"version":1}}"#)
            .unwrap();
        std::fs::write(&file, json).unwrap();
        let path = file.to_str().unwrap();
        java::tool(broker.address(), "DeleteRecordsCommand", &["--offset-json-file", path], "").text()
    };
    assert!(delete(3).contains("partition: weather-0\tlow_watermark: 3"));
    assert_eq!(java::consume_keyed(broker.address(), "weather", 0, 2), "a|4\na|5\n");
    assert!(delete(99).contains("OffsetOutOfRangeException"));
    assert!(delete(-1).contains("partition: weather-0\tlow_watermark: 5"));
    for time in ["-1", "-2"] {
        let told = java::tool(broker.address(), "GetOffsetShell", &["--topic", "weather", "--time", time], "").text();
        assert_eq!(told, "weather:0:5\n");
    }
}

#[test]
fn a_topic_gets_more_partitions() {
    let mut broker = Broker::start();
    let address = broker.address().to_owned();
    let topics = |arguments: &[&str]| java::tool(&address, "TopicCommand", arguments, "");
    topics(&["--create", "--topic", "weather", "--partitions", "2"]).text();
    let kcat = Kcat::new(&address);
    kcat.produce("weather", &["-p", "1"], "old\n");
    assert_eq!(topics(&["--alter", "--topic", "weather", "--partitions", "5"]).text(), "");
    kcat.produce("weather", &["-p", "4"], "new\n");
    for fewer in ["5", "3"] {
        let refused = topics(&["--alter", "--topic", "weather", "--partitions", fewer]);
        assert!(!refused.status.success());
        let told = String::from_utf8_lossy(&refused.stdout);
        assert!(told.contains("topic \"weather\" has 5 partitions already"), "{told}");
    }
    // Another life of the broker knows the same.
    broker.kill();
    broker.start_again();
    let described = topics(&["--describe", "--topic", "weather"]).text();
    assert!(described.contains("PartitionCount: 5\tReplicationFactor: 1"), "{described}");
    assert!(described.contains("Partition: 4\tLeader: 1\tReplicas: 1\tIsr: 1"), "{described}");
    let read = String::from_utf8(kcat.read_all("weather", "%p|%s\n")).unwrap();
    let mut records: Vec<_> = read.lines().collect();
    records.sort_unstable();
    assert_eq!(records, ["1|old", "4|new"]);
}

#[test]
fn directories_are_described() {
    let broker = Broker::start();
    let kcat = Kcat::new(broker.address());
    let size = |partition: &str| {
        let asked = ["--describe", "--topic-list", "weather"];
        let told = java::tool(broker.address(), "LogDirsCommand", &asked, "").text();
        assert!(told.contains(&format!(r#""logDir":"{}""#, broker.data().display())), "{told}");
        // Each partition is an object without further ones in it.
        let objects = told.split(['{', '}']).find(|object| object.contains(&format!(r#""{partition}""#)));
        let mut fields = objects.unwrap_or_else(|| panic!("{partition} in {told}")).split(',');
        let size = fields.find_map(|field| field.strip_prefix(r#""size":"#));
        size.unwrap_or_else(|| panic!("a size in {told}")).parse::<u64>().unwrap()
    };
    java::tool(broker.address(), "TopicCommand", &["--create", "--topic", "weather", "--partitions", "2"], "").text();
    assert_eq!((size("weather-0"), size("weather-1")), (0, 0));
    kcat.produce("weather", &["-p", "1"], format!("{}\n", "x".repeat(5000)));
    assert_eq!(size("weather-0"), 0);
    assert!((5000..5200).contains(&size("weather-1")), "{}", size("weather-1"));
}
