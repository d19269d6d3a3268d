//! One contract for all client programs, so that a case is written once.
//!
//! A program takes `ADDRESS CASE [ARGUMENT...]` and writes plain lines. It fails loudly: with the client's own error on
//! stderr and an exit status that is not 0. What it does is the client's; what must come out is decided here.
//!
//! | case | does | writes |
//! |---|---|---|
//! | `produce TOPIC CODEC [idempotent]` | publishes the records on stdin with acks=all, at most 50 unacknowledged | `PARTITION OFFSET` as each is acknowledged, per partition in order |
//! | `read TOPIC PARTITION START COUNT` | reads from `beginning`, `end` or an offset | for `end` first `ready`; the records |
//! | `offsets TOPIC PARTITION [TIME...]` | asks for offsets | `beginning N`, `end N`, `TIME N`, -1 for none |
//! | `member TOPIC GROUP` | reads as a member of a group, until stdin ends | `assigned PARTITION...`; each record once its commit has succeeded |
//! | `committed TOPIC GROUP` | asks what a group has committed | `PARTITION OFFSET` |
//! | `create TOPIC PARTITIONS [KEY=VALUE...]`, `partitions TOPIC COUNT`, `delete TOPIC` | makes, enlarges, deletes a topic | |
//! | `topics`, `groups` | lists what is not internal | `NAME PARTITIONS`; names |
//! | `configs TOPIC KEY...`, `alter TOPIC KEY=VALUE` | describes, changes a configuration | `KEY=VALUE` |
//! | `delete-records TOPIC PARTITION OFFSET`, `delete-group GROUP` | deletes | |
//!
//! A record is a line: [`Record`].

use std::process::Command;
use std::time::Duration;

use crate::process::{self, CLIENT_LIMIT, Running};
use crate::{places, python};

/// A client under the contract.
#[derive(Clone, Copy)]
pub struct Client {
    /// Its own name, as its people write it.
    pub name: &'static str,
    program: fn() -> Command,
}

/// All clients under the contract.
pub const CLIENTS: [Client; 6] = [
    Client {
        name: "confluent-kafka",
        program: || python::program(places::client_source("python/confluent_client.py")),
    },
    Client { name: "aiokafka", program: || python::program(places::client_source("python/aiokafka_client.py")) },
    Client { name: "KafkaJS", program: kafkajs },
    Client { name: "Sarama", program: || Command::new(places::client("go/sarama")) },
    Client { name: "kafka-go", program: || Command::new(places::client("go/kafka-go")) },
    Client { name: "rskafka", program: || Command::new(places::client("rskafka/debug/rskafka-client")) },
];

fn kafkajs() -> Command {
    let mut command = Command::new("node");
    command.env("NODE_PATH", places::client("kafkajs/node_modules"));
    command.arg(places::client_source("kafkajs/client.js"));
    command
}

/// The client with this name.
#[track_caller]
pub fn client(name: &str) -> Client {
    *CLIENTS.iter().find(|client| client.name == name).expect("a client of the table")
}

impl Client {
    /// The command for one case against the broker at `address`.
    pub fn command(&self, address: &str, case: &[&str]) -> Command {
        let mut command = (self.program)();
        command.arg(address).args(case);
        command
    }

    /// Runs one case to its end and gives the lines it wrote.
    #[track_caller]
    pub fn run(&self, address: &str, case: &[&str], input: impl Into<Vec<u8>>) -> Vec<String> {
        let text = process::run(&mut self.command(address, case), input).text();
        text.lines().map(str::to_owned).collect()
    }

    /// Publishes `records`, and panics unless all are acknowledged. Gives them with the offsets that were told.
    #[track_caller]
    pub fn produce(&self, address: &str, topic: &str, codec: &str, records: &[Record]) -> Vec<Record> {
        let told = self.run(address, &["produce", topic, codec], input(records));
        let acknowledged = with_offsets(records, &told);
        assert_eq!(acknowledged.len(), records.len(), "{}: not all is acknowledged", self.name);
        acknowledged
    }

    /// Reads `count` records of one partition from `start`.
    #[track_caller]
    pub fn read(&self, address: &str, topic: &str, partition: u32, start: &str, count: usize) -> Vec<Record> {
        let case = ["read", topic, &partition.to_string(), start, &count.to_string()];
        self.run(address, &case, "").iter().map(|line| Record::parse_read(line)).collect()
    }
}

/// A record on its way to a topic, or as it came back.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    /// The partition.
    pub partition: u32,
    /// `None` before it was published.
    pub offset: Option<u64>,
    /// Milliseconds since the epoch.
    pub time: u64,
    /// Text without spaces.
    pub key: Option<String>,
    /// Text without spaces.
    pub value: Option<String>,
    /// `name=text`, without spaces.
    pub headers: Vec<String>,
}

impl Record {
    /// A record with a value alone.
    pub fn of_value(partition: u32, time: u64, value: impl Into<String>) -> Record {
        Record { partition, offset: None, time, key: None, value: Some(value.into()), headers: Vec::new() }
    }

    /// `PARTITION TIME KEY VALUE [HEADER...]`; a key or a value is `-` for none, or `=` and its text.
    pub fn to_line(&self) -> String {
        let shown = |text: &Option<String>| text.as_ref().map_or_else(|| "-".to_owned(), |text| format!("={text}"));
        let mut line = format!("{} {} {} {}", self.partition, self.time, shown(&self.key), shown(&self.value));
        for header in &self.headers {
            line.push(' ');
            line.push_str(header);
        }
        line
    }

    /// The inverse of [`Self::to_line`], with the offset after the partition.
    #[track_caller]
    pub fn parse_read(line: &str) -> Record {
        let fields: Vec<&str> = line.split(' ').collect();
        let [partition, offset, time, key, value, headers @ ..] = &fields[..] else { panic!("no record: {line}") };
        let number = |field: &str| field.parse::<u64>().unwrap_or_else(|_| panic!("no number in: {line}"));
        Record {
            partition: u32::try_from(number(partition)).expect("partitions are few"),
            offset: Some(number(offset)),
            time: number(time),
            key: key.strip_prefix('=').map(str::to_owned),
            value: value.strip_prefix('=').map(str::to_owned),
            headers: headers.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What a `produce` gets on its stdin.
pub fn input(records: &[Record]) -> String {
    records.iter().map(|record| record.to_line() + "\n").collect()
}

/// Those of `records` that the lines of a `produce` call acknowledged, with their offsets. Per partition these are the
/// first ones.
#[track_caller]
pub fn with_offsets(records: &[Record], told: &[String]) -> Vec<Record> {
    let mut left: Vec<&Record> = records.iter().collect();
    let mut acknowledged = Vec::new();
    for line in told {
        let numbers = line.split_once(' ').map(|(partition, offset)| (partition.parse::<u32>(), offset.parse::<u64>()));
        let Some((Ok(partition), Ok(offset))) = numbers else { panic!("no acknowledgement: {line}") };
        let index = left.iter().position(|record| record.partition == partition);
        let record = left.remove(index.expect("no more is acknowledged than was sent"));
        acknowledged.push(Record { offset: Some(offset), ..record.clone() });
    }
    acknowledged
}

/// A running `member`.
pub struct Member {
    running: Running,
    /// The partitions it has; `None` while it has not been told.
    pub assigned: Option<Vec<u32>>,
    /// What it has read and committed, in its order.
    pub records: Vec<Record>,
}

impl Member {
    /// Lets `client` join `group`.
    pub fn join(client: &Client, address: &str, topic: &str, group: &str) -> Member {
        let mut command = client.command(address, &["member", topic, group]);
        Member { running: Running::start_open(&mut command), assigned: None, records: Vec::new() }
    }

    /// Takes one line that comes within `limit`, if one does.
    #[track_caller]
    pub fn take_line(&mut self, limit: Duration) {
        let Some(line) = self.running.poll_line(limit) else { return };
        match line.strip_prefix("assigned") {
            Some(partitions) => {
                let partitions = partitions.split_whitespace().map(str::parse::<u32>);
                self.assigned = Some(partitions.collect::<Result<_, _>>().expect("partitions are numbers"));
            }
            None => self.records.push(Record::parse_read(&line)),
        }
    }

    /// Lets it leave the group, and gives what it had read and committed.
    #[track_caller]
    pub fn leave(mut self) -> Vec<Record> {
        self.running.close_stdin();
        let rest = self.running.finish(CLIENT_LIMIT).text();
        self.records.extend(rest.lines().filter(|line| !line.starts_with("assigned")).map(Record::parse_read));
        self.records
    }
}

/// Takes what the members say until `is_done`; panics if that takes longer than a client may.
#[track_caller]
pub fn follow(members: &mut [&mut Member], is_done: impl Fn(&[&mut Member]) -> bool) {
    const SLICE: Duration = Duration::from_millis(20);
    let mut slices_left = CLIENT_LIMIT.as_millis() / SLICE.as_millis();
    while !is_done(members) {
        assert!(slices_left > 0, "not done: {:?}", members.iter().map(|member| &member.assigned).collect::<Vec<_>>());
        for member in members.iter_mut() {
            member.take_line(SLICE);
        }
        slices_left -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_went() {
        let mut record = Record::of_value(1, 5, "39.4");
        record.headers = vec!["unit=F".to_owned(), "empty=".to_owned()];
        assert_eq!(record.to_line(), "1 5 - =39.4 unit=F empty=");
        let read = Record::parse_read("1 7 5 - =39.4 unit=F empty=");
        assert_eq!(read, Record { offset: Some(7), ..record });
        assert_eq!(Record::parse_read("0 0 0 = -").key, Some(String::new()));
    }

    #[test]
    fn acknowledgements_count_per_partition() {
        let records = [Record::of_value(0, 1, "a"), Record::of_value(1, 1, "b"), Record::of_value(0, 1, "c")];
        let told = ["0 4".to_owned(), "0 5".to_owned()];
        let acknowledged = with_offsets(&records, &told);
        assert_eq!(acknowledged.iter().map(Record::to_line).collect::<Vec<_>>(), ["0 1 - =a", "0 1 - =c"]);
        assert_eq!(acknowledged[1].offset, Some(5));
    }
}
