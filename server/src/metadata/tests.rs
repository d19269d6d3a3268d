//! Text scenarios of controller and image, and properties of the bytes.
//!
//! The scenarios lie in `testdata/metadata`. Every entry a command proposes goes through its bytes, is applied to two images
//! (the controller's and a follower's), and after every command an image made from [`Image::records`] must be the same one.

use std::fmt::Write as _;
use std::path::Path;

use millrace_engine::model::{LeaderEpoch, TopicId};
use proptest::prelude::*;

use super::codec::{DecodeError, ENTRY_BYTES_MAX};
use super::controller::alter::{AlterConfig, ConfigChange, KeyChange, Operation, Resource};
use super::controller::partitions::CreatePartitions;
use super::controller::{self, Assignment, Controller, CreateTopic, DeleteTopic};
use super::record::{Broker, Endpoint, Partition};
use super::{Entry, Image, NodeId, Record};
use crate::config::RawConfig;
use crate::config::check::{Room, check};
use crate::scenarios;

#[test]
fn scenarios() {
    scenarios::run_all("metadata", Cluster::new, Cluster::run);
}

struct Cluster {
    controller: Controller,
    image: Image,
    follower: Image,
    random: u128,
}

impl Cluster {
    fn new() -> Self {
        let config = check(&RawConfig::new(), Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap();
        let controller = Controller {
            partition_count_default: 2,
            replication_factor_default: 1,
            batch_bytes_limit: 1_048_588,
            node: NodeId::new(1).unwrap(),
            effective: config.effective,
            delete_topics: true,
        };
        Self { controller, image: Image::new(), follower: Image::new(), random: 0xa0 << 120 }
    }

    fn run(&mut self, command: &str) -> String {
        let mut words = command.split_whitespace();
        let verb = words.next().unwrap();
        let options = Options(words.map(|word| word.split_once('=').unwrap_or((word, ""))).collect());
        let outcome = match verb {
            "register" => self.register(&options),
            "create" => self.create(&options),
            "grow" => self.grow(&options),
            "delete" => self.delete(&options),
            "alter" => self.alter(&options),
            "producer-ids" => self.producer_ids(),
            "change" => self.change(&options),
            "skip" => self.image.resume_at_and_show(self.image.applied_index() + options.number("entries", 1)),
            "show" => Ok(self.show()),
            _ => panic!("unknown command {verb}"),
        };
        let mut copy = Image::new();
        self.image.records().iter().for_each(|record| copy.apply(record).unwrap());
        copy.resume_at(self.image.applied_index());
        assert_eq!(copy, self.image, "a snapshot is the whole image");
        outcome.unwrap_or_else(|error| format!("refused: {error}"))
    }

    fn register(&mut self, options: &Options) -> Result<String, String> {
        let endpoint = Endpoint {
            listener: "PLAINTEXT".into(),
            host: options.text("host").unwrap_or("a.example").into(),
            port: options.number("port", 9092),
        };
        let broker = Broker {
            node: NodeId::new(options.number("node", 1)).unwrap(),
            incarnation: options.number("incarnation", 7),
            endpoints: if options.has("no-endpoints") { Vec::new() } else { vec![endpoint] },
            rack: options.text("rack").map(str::to_owned),
            shard_count: options.number("shards", 2),
        };
        let records = controller::register_broker(&self.image, broker).map_err(|refusal| refusal.to_string())?;
        self.propose(records)
    }

    fn create(&mut self, options: &Options) -> Result<String, String> {
        let parse_assignment = |text: &str| {
            let (partition, replicas) = text.split_once(':').unwrap();
            let replicas = replicas.split('+').filter(|node| !node.is_empty()).map(|node| node.parse().unwrap());
            Assignment { partition: partition.parse().unwrap(), replicas: replicas.collect() }
        };
        let parse_config = |text: &str| match text.split_once(':') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        let name = options.text("name").unwrap_or("");
        let request = CreateTopic {
            name: name.replace("<250>", &"n".repeat(250)).replace("<249>", &"n".repeat(249)),
            partition_count: options.number("partitions", -1),
            replication_factor: options.number("factor", -1),
            assignments: options.list("assign").map(parse_assignment).collect(),
            config: options.list("config").map(parse_config).collect(),
        };
        let random = options.number("random", self.random);
        self.random += 1;
        let planned = self.controller.create_topic(&self.image, &request, random);
        let planned = planned.map_err(|refusal| refusal.to_string())?;
        let said = format!(
            "topic {} partitions={} factor={}",
            planned.topic, planned.partition_count, planned.replication_factor
        );
        if options.has("validate") {
            return Ok(said);
        }
        Ok(format!("{said}\n{}", self.propose(planned.records)?))
    }

    /// `grow name=t partitions=4`, with `assign=1+2,1` for two new partitions.
    fn grow(&mut self, options: &Options) -> Result<String, String> {
        let parse =
            |text: &str| text.split('+').filter(|node| !node.is_empty()).map(|node| node.parse().unwrap()).collect();
        let request = CreatePartitions {
            name: options.text("name").unwrap_or("").to_owned(),
            partition_count: options.number("partitions", 0),
            assignments: options.has("assign").then(|| options.list("assign").map(parse).collect()),
        };
        let records =
            self.controller.create_partitions(&self.image, &request).map_err(|refusal| refusal.to_string())?;
        if options.has("validate") {
            return Ok(format!("{} records", records.len()));
        }
        self.propose(records)
    }

    fn delete(&mut self, options: &Options) -> Result<String, String> {
        let request = match options.text("id") {
            Some(id) => DeleteTopic::Id(TopicId::from_bytes(u128::from_str_radix(id, 16).unwrap().to_be_bytes())),
            None => DeleteTopic::Name(options.text("name").unwrap_or("").to_owned()),
        };
        self.controller.delete_topics = !options.has("disabled");
        let decided = self.controller.delete_topic(&self.image, &request);
        let records = decided.map(|(_, records)| records).map_err(|refusal| refusal.to_string())?;
        self.propose(records)
    }

    /// `alter name=t set=k:v;k:v append=k:v subtract=k:v delete=k` or `alter name=t all=k:v`; a key without `:` has no value.
    fn alter(&mut self, options: &Options) -> Result<String, String> {
        let parse = |text: &str| match text.split_once(':') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        };
        let items = |name: &str| {
            let items = options.text(name).unwrap_or("").split(';').filter(|item| !item.is_empty());
            items.map(parse).collect::<Vec<_>>()
        };
        let mut changes = Vec::new();
        for (name, operation) in [
            ("set", Operation::Set),
            ("delete", Operation::Delete),
            ("append", Operation::Append),
            ("subtract", Operation::Subtract),
        ] {
            changes.extend(items(name).into_iter().map(|(key, value)| KeyChange { key, operation, value }));
        }
        let change = if options.has("all") { ConfigChange::All(items("all")) } else { ConfigChange::Keys(changes) };
        let resource = match (options.text("group"), options.has("brokers"), options.has("broker")) {
            (Some(group), ..) => Resource::Group(group.to_owned()),
            (None, true, _) => Resource::Broker(None),
            (None, false, true) => Resource::Broker(NodeId::new(options.number("broker", 1))),
            (None, false, false) => Resource::Topic(options.text("name").unwrap_or("").to_owned()),
        };
        let request = AlterConfig { resource, change };
        let records = self.controller.alter_config(&self.image, &request).map_err(|refusal| refusal.to_string())?;
        self.propose(records)
    }

    fn producer_ids(&mut self) -> Result<String, String> {
        let block = controller::allocate_producer_ids(&self.image).map_err(|refusal| refusal.to_string())?;
        let said = format!("ids {}..{}", block.first, block.first + block.count);
        Ok(format!("{said}\n{}", self.propose(block.records)?))
    }

    /// Proposes records that no request leads to, as a damaged or foreign log would hold them.
    fn change(&mut self, options: &Options) -> Result<String, String> {
        let topic = options.text("topic").map(|name| self.image.find_topic_id(name).unwrap_or(TopicId::METADATA));
        let node = NodeId::new(1).unwrap();
        let record = match (topic, options.text("key"), options.text("name")) {
            (Some(topic), Some(key), _) => {
                Record::TopicConfig { topic, key: key.into(), value: options.text("value").map(str::to_owned) }
            }
            (Some(topic), None, Some(name)) => Record::Topic { topic, name: name.into() },
            (Some(topic), None, None) => {
                let partition = Partition {
                    partition: options.number("partition", 0),
                    replicas: vec![node],
                    isr: vec![node],
                    leader: (!options.has("leaderless")).then_some(node),
                    leader_epoch: LeaderEpoch::new(options.number("leader-epoch", 0)),
                    partition_epoch: options.number("partition-epoch", 0),
                };
                Record::Partition { topic, partition }
            }
            (None, ..) => Record::ProducerIdBlock { next: options.number("next-producer-id", 0) },
        };
        self.propose(vec![record])
    }

    fn propose(&mut self, records: Vec<Record>) -> Result<String, String> {
        if records.is_empty() {
            return Ok("nothing to propose".into());
        }
        let entry = Entry { term: 1, index: self.image.applied_index() + 1, records };
        let mut bytes = Vec::new();
        entry.encode(&mut bytes);
        assert_eq!(Entry::decode(&bytes), Ok(entry.clone()));
        let mut tried = self.image.clone();
        tried.apply_entry(&entry).map_err(|error| error.to_string())?;
        self.image = tried;
        self.follower.resume_at(entry.index - 1);
        self.follower.apply_entry(&entry).unwrap();
        assert_eq!(self.follower, self.image);
        Ok(format!("entry {}: {} records, {} bytes", entry.index, entry.records.len(), bytes.len()))
    }

    fn show(&self) -> String {
        let image = &self.image;
        let mut text = format!(
            "entry {}, {} topics, {} partitions, next producer id {}\n",
            image.applied_index(),
            image.topic_count(),
            image.partition_count(),
            image.producer_id_next()
        );
        for broker in image.brokers() {
            let endpoints: Vec<_> =
                broker.endpoints.iter().map(|at| format!("{}://{}:{}", at.listener, at.host, at.port)).collect();
            let (node, incarnation, shards) = (broker.node, broker.incarnation, broker.shard_count);
            let rack = broker.rack.as_deref().unwrap_or("none");
            writeln!(text, "broker {node} incarnation={incarnation} shards={shards} rack={rack} {endpoints:?}")
                .unwrap();
        }
        for (whose, node) in [("all brokers", None), ("broker 1", NodeId::new(1))] {
            if !image.broker_config(node).is_empty() {
                writeln!(text, "{whose} {:?}", image.broker_config(node)).unwrap();
            }
        }
        if image.configured_group_count() > 0 {
            writeln!(text, "{} groups, g {:?}", image.configured_group_count(), image.group_config("g")).unwrap();
        }
        for topic in image.topics() {
            writeln!(text, "topic {} {} {:?}", topic.id, topic.name, topic.config).unwrap();
            for partition in topic.partitions.iter().take(4) {
                let leader = partition.leader.map_or("none".to_owned(), |node| node.to_string());
                let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| node.get()).collect::<Vec<_>>();
                writeln!(
                    text,
                    "  {} leader={leader} epoch={} replicas={:?} isr={:?} partition-epoch={}",
                    partition.partition,
                    partition.leader_epoch.get(),
                    numbers(&partition.replicas),
                    numbers(&partition.isr),
                    partition.partition_epoch
                )
                .unwrap();
            }
        }
        text
    }
}

impl Image {
    fn resume_at_and_show(&mut self, index: u64) -> Result<String, String> {
        let entry = Entry { term: 1, index: index + 1, records: Vec::new() };
        self.clone().apply_entry(&entry).map(|()| "applied".to_owned()).map_err(|error| error.to_string())
    }
}

struct Options<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Options<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| *value)
    }

    fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &'a str> {
        self.text(name).unwrap_or("").split(',').filter(|item| !item.is_empty())
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        self.text(name).map_or(default, |text| text.parse().ok().unwrap())
    }
}

fn node() -> impl Strategy<Value = NodeId> {
    (0..=i32::MAX).prop_map(|number| NodeId::new(number).unwrap())
}

fn partition() -> impl Strategy<Value = Partition> {
    let numbers = (0..=i32::MAX, 0..=i32::MAX, 0..=i32::MAX);
    (proptest::collection::vec(node(), 1..4), 0usize..4, any::<bool>(), numbers).prop_map(
        |(replicas, in_sync, led, (partition, leader_epoch, partition_epoch))| Partition {
            partition,
            isr: replicas[..in_sync.min(replicas.len())].to_vec(),
            leader: led.then_some(replicas[0]),
            replicas,
            leader_epoch: LeaderEpoch::new(leader_epoch),
            partition_epoch,
        },
    )
}

fn broker() -> impl Strategy<Value = Broker> {
    let endpoint =
        (".{0,9}", ".{0,9}", 1..=u16::MAX).prop_map(|(listener, host, port)| Endpoint { listener, host, port });
    let endpoints = proptest::collection::vec(endpoint, 0..3);
    (node(), any::<u128>(), endpoints, proptest::option::of(".{0,9}"), 1..=u16::MAX).prop_map(
        |(node, incarnation, endpoints, rack, shard_count)| Broker { node, incarnation, endpoints, rack, shard_count },
    )
}

fn record() -> impl Strategy<Value = Record> {
    let topic = || any::<[u8; 16]>().prop_map(TopicId::from_bytes);
    prop_oneof![
        broker().prop_map(Record::RegisterBroker),
        (topic(), ".{0,20}").prop_map(|(topic, name)| Record::Topic { topic, name }),
        (topic(), partition()).prop_map(|(topic, partition)| Record::Partition { topic, partition }),
        topic().prop_map(|topic| Record::RemoveTopic { topic }),
        (topic(), ".{0,9}", proptest::option::of(".{0,9}")).prop_map(|(topic, key, value)| Record::TopicConfig {
            topic,
            key,
            value
        }),
        (0..=i64::MAX).prop_map(|next| Record::ProducerIdBlock { next }),
        (proptest::option::of(node()), ".{0,9}", proptest::option::of(".{0,9}"))
            .prop_map(|(node, key, value)| Record::BrokerConfig { node, key, value }),
        (".{0,9}", ".{0,9}", proptest::option::of(".{0,9}")).prop_map(|(group, key, value)| Record::GroupConfig {
            group,
            key,
            value
        }),
    ]
}

fn encode(entry: &Entry) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

/// The same bytes with a right checksum, so that damage reaches the decoder behind it.
fn seal(mut covered: Vec<u8>) -> Vec<u8> {
    let checksum = ::crc32c::crc32c(&covered);
    covered.extend_from_slice(&checksum.to_le_bytes());
    covered
}

proptest! {
    #[test]
    fn entries_survive_their_bytes(
        term in any::<u32>(), index in any::<u64>(), records in proptest::collection::vec(record(), 0..5)
    ) {
        let entry = Entry { term, index, records };
        let bytes = encode(&entry);
        prop_assert_eq!(Entry::decode(&bytes), Ok(entry));
        for length in 0..bytes.len() {
            prop_assert!(Entry::decode(&bytes[..length]).is_err());
            let sealed = seal(bytes[..length].to_vec());
            prop_assert!(Entry::decode(&sealed).is_err() || length == bytes.len() - 4);
        }
    }

    #[test]
    fn hostile_bytes_are_an_error_or_an_entry_that_writes_the_same_bytes(
        records in proptest::collection::vec(record(), 1..3),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = encode(&Entry { term: 1, index: 1, records });
        bytes.truncate(bytes.len() - 4);
        for (index, byte) in damage {
            let position = index.index(bytes.len());
            bytes[position] = byte;
        }
        let sealed = seal(bytes);
        if let Ok(entry) = Entry::decode(&sealed) {
            prop_assert_eq!(encode(&entry), sealed, "every entry has one spelling");
        }
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Entry::decode(&bytes);
        let _ = Entry::decode(&seal(bytes));
    }
}

#[test]
fn each_fault_has_its_error() {
    let entry = Entry { term: 3, index: 9, records: vec![Record::ProducerIdBlock { next: 1000 }] };
    let good = encode(&entry);
    let with = |position: usize, byte: u8| {
        let mut bytes = good[..good.len() - 4].to_vec();
        bytes[position] = byte;
        Entry::decode(&seal(bytes)).unwrap_err()
    };
    let mut flipped = good.clone();
    flipped[0] ^= 1;
    assert!(matches!(Entry::decode(&flipped), Err(DecodeError::Checksum { .. })));
    assert_eq!(with(12, 9), DecodeError::UnknownKind(9), "the entry's kind");
    assert_eq!(with(14, 1), DecodeError::UnknownVersion { kind: 1, version: 1 }, "the entry's version");
    assert_eq!(with(19, 77), DecodeError::UnknownKind(77), "the record's kind");
    assert_eq!(with(21, 5), DecodeError::UnknownVersion { kind: 6, version: 5 }, "the record's version");
    assert_eq!(with(33, 0xff), DecodeError::Illegal("producer id"));
    assert_eq!(Entry::decode(&seal([&good[..good.len() - 4], &[0]].concat())), Err(DecodeError::Long(1)));
    assert_eq!(Entry::decode(&[0; 3]), Err(DecodeError::Short("the checksum")));
    assert_eq!(Entry::decode(&vec![0; ENTRY_BYTES_MAX + 1]), Err(DecodeError::TooLarge(ENTRY_BYTES_MAX + 1)));
}

/// The bytes of docs/FORMAT.md's example. They may never change for version 0.
#[test]
fn the_documented_example_is_what_is_written() {
    let topic = TopicId::from_bytes([0x11; 16]);
    let entry = Entry { term: 1, index: 2, records: vec![Record::Topic { topic, name: "hi".into() }] };
    let hex: Vec<String> = encode(&entry).iter().map(|byte| format!("{byte:02x}")).collect();
    let docs = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")).unwrap();
    let pages = docs.map(|page| page.unwrap().path()).filter(|path| path.to_string_lossy().contains("FORMAT"));
    let page: String = pages.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    for line in hex.chunks(16) {
        assert!(page.contains(&line.join(" ")), "{:#?} is not on the page", hex.join(" "));
    }
}
