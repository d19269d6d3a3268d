//! Consumer groups: kcat's balanced consumer, confluent-kafka's `subscribe`, and Apache Kafka's own consumer and tools.

use std::fmt::Write as _;

use millrace_compat::{Broker, Kcat, java, kcat::lines_of, python};

/// A broker whose topics have four partitions, with `count` records in `weather`, spread over them.
fn broker_with(count: usize) -> Broker {
    let broker = Broker::start_with(&["--set", "num.partitions=4"]);
    let kcat = Kcat::new(broker.address());
    for partition in 0..4 {
        let mut lines = String::new();
        for number in (0..count).filter(|number| number % 4 == partition) {
            writeln!(lines, "{number}").expect("writing to a String cannot fail");
        }
        kcat.produce("weather", &["-p", &partition.to_string()], lines);
    }
    broker
}

/// What a kcat of the group reads before it has had `count` records, or reached the end of all partitions.
fn read_in_group(broker: &Broker, group: &str, count: usize) -> Vec<usize> {
    let count = count.to_string();
    let fixed = ["-G", group, "-e", "-c", &count, "-X", "auto.offset.reset=earliest", "-f", "%s\n", "weather"];
    let read = Kcat::new(broker.address()).run(&fixed, "").output();
    lines_of(&read).iter().map(|line| line.parse().expect("the records are numbers")).collect()
}

fn group_tool(broker: &Broker, arguments: &[&str]) -> String {
    java::tool(broker.address(), "consumer.group.ConsumerGroupCommand", arguments, "").text()
}

/// The words of the lines of `text` that have `word` among them.
fn rows<'a>(text: &'a str, word: &str) -> Vec<Vec<&'a str>> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    words.filter(|words| words.contains(&word)).collect()
}

#[test]
fn kcat_goes_on_where_its_group_was_also_after_a_crash() {
    let mut broker = broker_with(40);
    let mut read = read_in_group(&broker, "readers", 15);
    assert_eq!(read.len(), 15);
    read.extend(read_in_group(&broker, "readers", 10));
    broker.kill();
    broker.start_again();
    read.extend(read_in_group(&broker, "readers", 100));
    read.sort_unstable();
    assert_eq!(read, (0..40).collect::<Vec<_>>(), "each record once");
    assert_eq!(read_in_group(&broker, "others", 100).len(), 40, "another group reads everything");
    broker.assert_runs();
}

#[test]
fn two_members_of_confluent_kafka_share_the_partitions() {
    let broker = broker_with(100);
    for strategy in ["range", "roundrobin", "cooperative-sticky", "consumer"] {
        let told = python::members(broker.address(), strategy, "weather", strategy, 100);
        let expected = "shared 2 2 [0, 1, 2, 3]\nread 100\nalone [0, 1, 2, 3]\ncommitted 100\n";
        assert_eq!(told, expected, "{strategy}");
    }
}

/// While one of each protocol is there the broker shares out for both. When the newer member leaves, the older one goes on in a
/// classic group; when the older one leaves, the newer one has everything.
#[test]
fn members_of_both_protocols_share_the_partitions_of_one_group() {
    let broker = broker_with(100);
    for (strategies, kind) in
        [("range,consumer", "classic"), ("cooperative-sticky,consumer", "classic"), ("consumer,range", "consumer")]
    {
        let group = strategies.replace(',', "-then-");
        let told = python::members(broker.address(), &group, "weather", strategies, 100);
        let expected = "shared 2 2 [0, 1, 2, 3]\nread 100\nalone [0, 1, 2, 3]\ncommitted 100\n";
        assert_eq!(told, expected, "{strategies}");
        let listed = group_tool(&broker, &["--list", "--type", kind]);
        assert!(listed.lines().any(|line| line.starts_with(&group)), "{strategies}: {listed}");
    }
    broker.assert_runs();
}

#[test]
fn groups_of_the_newer_protocol_go_on_where_they_were_also_after_a_crash() {
    let mut broker = broker_with(40);
    let consume = |broker: &Broker, count: &str| {
        let fixed = ["--topic", "weather", "--group", "readers", "--from-beginning", "--max-messages", count];
        let protocol = ["--command-property", "group.protocol=consumer"];
        java::tool(broker.address(), "consumer.ConsoleConsumer", &[&fixed[..], &protocol[..]].concat(), "").text()
    };
    let mut read: Vec<usize> = Vec::new();
    let mut take = |text: &str| read.extend(text.lines().map(|line| line.parse::<usize>().expect("a number")));
    take(&consume(&broker, "25"));
    broker.kill();
    broker.start_again();
    let listed = group_tool(&broker, &["--list", "--type", "consumer"]);
    assert!(listed.contains("readers"), "{listed}");
    take(&consume(&broker, "15"));
    read.sort_unstable();
    assert_eq!(read, (0..40).collect::<Vec<_>>(), "each record once");
    let state = group_tool(&broker, &["--describe", "--group", "readers", "--state"]);
    assert!(rows(&state, "readers")[0].contains(&"Empty"), "{state}");
    let told = group_tool(&broker, &["--delete", "--group", "readers"]);
    assert!(told.contains("was successful"), "{told}");
    broker.assert_runs();
}

#[test]
fn the_console_consumer_and_the_group_command_agree() {
    let broker = broker_with(40);
    let consume = |group: &str, count: &str| {
        let arguments = ["--topic", "weather", "--group", group, "--from-beginning", "--max-messages", count];
        java::tool(broker.address(), "consumer.ConsoleConsumer", &arguments, "").text().lines().count()
    };
    assert_eq!(consume("readers", "25"), 25);
    assert_eq!(group_tool(&broker, &["--list"]), "readers\n");
    let described = group_tool(&broker, &["--describe", "--group", "readers"]);
    let lag: usize = rows(&described, "weather").iter().map(|row| row[5].parse::<usize>().expect("a lag")).sum();
    assert_eq!(lag, 15, "{described}");
    let state = group_tool(&broker, &["--describe", "--group", "readers", "--state"]);
    assert!(rows(&state, "readers")[0].contains(&"Empty"), "{state}");
    assert_eq!(consume("readers", "15"), 15);

    let reset = ["--reset-offsets", "--group", "readers", "--topic", "weather", "--to-earliest", "--execute"];
    let told = group_tool(&broker, &reset);
    assert_eq!(rows(&told, "weather").len(), 4, "{told}");
    assert_eq!(read_in_group(&broker, "readers", 100).len(), 40, "librdkafka reads from where Java has put the group");
    let told = group_tool(&broker, &["--delete-offsets", "--group", "readers", "--topic", "weather"]);
    assert!(told.contains("Successful"), "{told}");
    let told = group_tool(&broker, &["--delete", "--group", "readers"]);
    assert!(told.contains("was successful"), "{told}");
    assert_eq!(group_tool(&broker, &["--list"]).trim(), "");
}
