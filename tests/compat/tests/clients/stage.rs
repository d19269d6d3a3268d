//! What a case has to work with: a client, a broker and a topic of its own.

use millrace_compat::contract::{Client, Record};
use millrace_compat::{Broker, Kcat};

/// The time of the first record, in milliseconds since the epoch; any would do.
pub(crate) const TIME: u64 = 1_700_000_000_000;

/// The partitions of a topic that is made by being asked for.
pub(crate) const PARTITIONS: u32 = 4;

pub(crate) struct Stage<'a> {
    pub(crate) client: Client,
    pub(crate) address: &'a str,
    /// A name that no other case uses; for groups and topics.
    pub(crate) topic: String,
}

impl<'a> Stage<'a> {
    pub(crate) fn new(client: Client, broker: &'a Broker, case: &str) -> Stage<'a> {
        let topic = case.replace(|character: char| !character.is_ascii_alphanumeric(), "-");
        Stage { client, address: broker.address(), topic }
    }

    /// A broker for the cases: groups form at once, and records of any time stay.
    pub(crate) fn start_broker() -> Broker {
        let partitions = format!("num.partitions={PARTITIONS}");
        let settings = [&partitions, "group.initial.rebalance.delay.ms=0", "log.retention.ms=-1"];
        let arguments: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
        Broker::start_with(&arguments)
    }

    /// Makes the topic, as a client does that asks for one that is not there.
    pub(crate) fn make_topic(&self) {
        Kcat::new(self.address).run(&["-L", "-t", &self.topic], "").output();
    }

    /// Runs a case of the client's program, without input.
    #[track_caller]
    pub(crate) fn run(&self, case: &[&str]) -> Vec<String> {
        self.client.run(self.address, case, "")
    }

    #[track_caller]
    pub(crate) fn produce(&self, records: &[Record]) -> Vec<Record> {
        self.client.produce(self.address, &self.topic, "none", records)
    }

    #[track_caller]
    pub(crate) fn read(&self, partition: u32, start: &str, count: usize) -> Vec<Record> {
        self.client.read(self.address, &self.topic, partition, start, count)
    }

    /// A partition as librdkafka reads it: `OFFSET VALUE` lines.
    #[track_caller]
    pub(crate) fn read_by_kcat(&self, partition: u32) -> Vec<String> {
        let partition = partition.to_string();
        let arguments = ["-C", "-t", &self.topic, "-p", &partition, "-o", "beginning", "-e", "-f", "%o %s\n"];
        let read = Kcat::new(self.address).run(&arguments, "").text();
        read.lines().map(str::to_owned).collect()
    }
}

/// `count` records with the numbers from `first` on, spread evenly over `partitions`.
pub(crate) fn numbered(first: u32, count: u32, partitions: u32) -> Vec<Record> {
    let record =
        |number: u32| Record::of_value(number % partitions, TIME + u64::from(number), format!("record-{number}"));
    (first..first + count).map(record).collect()
}

/// The values of records, in order.
pub(crate) fn sorted_values(records: &[Record]) -> Vec<String> {
    let mut values: Vec<String> = records.iter().filter_map(|record| record.value.clone()).collect();
    values.sort();
    values
}
