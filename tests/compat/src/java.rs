//! Apache Kafka's own command-line programs.

use std::process::Command;

use crate::places;
use crate::process::{self, Finished};

/// Runs the class `org.apache.kafka.tools.<class>` against the broker at `address`.
#[track_caller]
pub fn tool(address: &str, class: &str, arguments: &[&str], input: impl Into<Vec<u8>>) -> Finished {
    run(address, &format!("org.apache.kafka.tools.{class}"), arguments, input)
}

/// Runs `kafka-configs`, which is older than the other tools and lives elsewhere.
#[track_caller]
pub fn configs(address: &str, arguments: &[&str]) -> Finished {
    run(address, "kafka.admin.ConfigCommand", arguments, "")
}

#[track_caller]
fn run(address: &str, class: &str, arguments: &[&str], input: impl Into<Vec<u8>>) -> Finished {
    let jars = places::client("kafka").join("*");
    let logging = format!("-Dlog4j2.configurationFile={}", places::client_source("log4j2.properties").display());
    let mut command = Command::new("java");
    // A small heap and the first compiler only: these programs start, say one thing and end.
    command.args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", &logging, "-cp"]).arg(jars);
    command.arg(class).args(["--bootstrap-server", address]).args(arguments);
    process::run(&mut command, input)
}

/// Publishes `key|value` lines with the console producer, acks=all.
#[track_caller]
pub fn produce_keyed(address: &str, topic: &str, lines: impl Into<Vec<u8>>) {
    produce_compressed(address, topic, "none", lines);
}

/// The same with a codec: `gzip`, `snappy`, `lz4`, `zstd` or `none`.
#[track_caller]
pub fn produce_compressed(address: &str, topic: &str, codec: &str, lines: impl Into<Vec<u8>>) {
    let arguments = ["--topic", topic, "--command-property", "acks=all", "--compression-codec", codec];
    let reader = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=|"];
    let finished = tool(address, "ConsoleProducer", &[&arguments[..], &reader[..]].concat(), lines);
    // A record that failed is only reported: the exit status stays 0.
    assert!(!finished.stderr.contains("ERROR"), "{}", finished.stderr);
    finished.output();
}

/// The first `count` records of a partition as `key|value` lines, read by the console consumer without a group.
#[track_caller]
pub fn consume_keyed(address: &str, topic: &str, partition: u32, count: usize) -> String {
    let (partition, count) = (partition.to_string(), count.to_string());
    let arguments = ["--topic", topic, "--partition", &partition, "--offset", "earliest", "--max-messages", &count];
    let formatter = ["--formatter-property", "print.key=true", "--formatter-property", "key.separator=|"];
    tool(address, "consumer.ConsoleConsumer", &[&arguments[..], &formatter[..]].concat(), "").text()
}
