//! Kafka's programs that produce and consume as fast as they can.

use std::process::Command;
use std::time::Duration;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::{CreateTopicsRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use millrace_compat::places;
use millrace_compat::process::Running;
use millrace_compat::wire::Connection;

/// A run of a program may take this long.
const LIMIT: Duration = Duration::from_mins(5);

/// Partitions of every topic.
pub(crate) const PARTITION_COUNT: i32 = 4;

/// Records of one size.
#[derive(Clone, Copy)]
pub(crate) struct Records {
    pub(crate) count: u32,
    pub(crate) bytes: u32,
}

impl Records {
    /// Bytes of all values, in 10^9.
    pub(crate) fn gigabytes(self) -> f64 {
        f64::from(self.count) * f64::from(self.bytes) / 1e9
    }
}

/// Makes a topic.
pub(crate) fn make_topic(address: &str, topic: &str) {
    let name = TopicName(StrBytes::from_string(topic.to_owned()));
    let layout = CreatableTopic::default().with_name(name).with_num_partitions(PARTITION_COUNT);
    let request = CreateTopicsRequest::default().with_topics(vec![layout.with_replication_factor(1)]);
    let answer = Connection::open(address).ask(7, &request.with_timeout_ms(60_000));
    let answer = answer.expect("the connection stays");
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
}

/// Produces as fast as the broker takes it, acks=all. Records in a second.
pub(crate) fn produce(address: &str, topic: &str, records: Records, batch_bytes: u32) -> f64 {
    let mut command = program("ProducerPerformance");
    command.args(["--topic", topic, "--throughput", "-1", "--bootstrap-server", address]);
    command.args(["--num-records", &records.count.to_string(), "--record-size", &records.bytes.to_string()]);
    let batch = format!("batch.size={batch_bytes}");
    command.args(["--command-property", "acks=all", "--command-property", &batch]);
    let told = Running::start(&mut command, Vec::new()).finish(LIMIT).text();
    // The last line: "N records sent, R records/sec (...".
    let line = told.lines().rfind(|line| line.contains("records sent, ")).expect("it reports at its end");
    let rate = line.split("records sent, ").nth(1).and_then(|rest| rest.split(' ').next());
    rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("no rate in {line}"))
}

/// Consumes the topic from its start. Records in a second, without the time in which the group forms.
pub(crate) fn consume(address: &str, topic: &str, records: Records) -> f64 {
    let mut command = program("ConsumerPerformance");
    command.args(["--topic", topic, "--bootstrap-server", address, "--hide-header", "--timeout", "60000"]);
    command.args(["--num-records", &records.count.to_string()]);
    let told = Running::start(&mut command, Vec::new()).finish(LIMIT).text();
    let fields: Vec<&str> = told.trim().split(", ").collect();
    let number = |index: usize| -> f64 {
        fields.get(index).and_then(|field| field.parse().ok()).unwrap_or_else(|| panic!("no report: {told}"))
    };
    assert!(number(COUNT_FIELD) >= f64::from(records.count), "not everything came: {told}");
    number(RATE_FIELD)
}

/// Fields of its line: "start, end, MB, MB/s, records, records/s, ms of rebalancing, ms of fetching, MB/s, records/s".
const COUNT_FIELD: usize = 4;
const RATE_FIELD: usize = 9;

fn program(class: &str) -> Command {
    let mut command = Command::new("java");
    let logging = format!("-Dlog4j2.configurationFile={}", places::client_source("log4j2.properties").display());
    // The heap and the collector that Kafka's scripts give to programs.
    command.args(["-Xmx512M", "-server", "-XX:+UseG1GC", &logging, "-cp"]).arg(places::client("kafka").join("*"));
    command.arg(format!("org.apache.kafka.tools.{class}"));
    command
}
