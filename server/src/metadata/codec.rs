//! Bytes of metadata entries; docs/FORMAT.md, section "Metadata entries".
//!
//! ```text
//! entry   term u32 | index u64 | kind u16 | version u8 | length u32 | records (length bytes) | crc32c u32
//! record  kind u16 | version u8 | length u32 | body (length bytes)
//! ```
//!
//! Little-endian throughout; the checksum covers every byte before it. The entry's kind is [`ENTRY_RECORDS`]: other kinds
//! are for what consensus will need of its own. Nothing read from the bytes allocates more than the bytes that are left
//! could hold, and no input panics. An unknown kind or version is an error of its own, because it means a newer program
//! wrote it; a body that is longer than its version says is one, too.

use millrace_engine::model::{LeaderEpoch, TopicId};
use millrace_protocol::batch::crc32c;

use super::record::{Broker, Endpoint, Entry, NodeId, Partition, Record};

/// Why bytes are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end inside something.
    #[error("ends inside {0}")]
    Short(&'static str),
    /// There are bytes behind the end.
    #[error("{0} bytes too many")]
    Long(usize),
    /// The entry is larger than any that is written.
    #[error("{0} bytes, more than an entry may have")]
    TooLarge(usize),
    /// The checksum is another.
    #[error("checksum is {found:08x}, computed {computed:08x}")]
    Checksum {
        /// What the bytes say.
        found: u32,
        /// What they should say.
        computed: u32,
    },
    /// A kind that this program does not know.
    #[error("unknown kind {0}")]
    UnknownKind(u16),
    /// A version that this program does not know.
    #[error("kind {kind} has unknown version {version}")]
    UnknownVersion {
        /// Of what.
        kind: u16,
        /// Which.
        version: u8,
    },
    /// A value outside its invariant.
    #[error("illegal {0}")]
    Illegal(&'static str),
}

impl Entry {
    /// Appends the entry's bytes to `target`.
    ///
    /// # Panics
    /// When the entry is larger than [`ENTRY_BYTES_MAX`] or a text or list is longer than its length field can say: the
    /// controller refuses such requests.
    pub fn encode(&self, target: &mut Vec<u8>) {
        let start = target.len();
        target.extend_from_slice(&self.term.to_le_bytes());
        target.extend_from_slice(&self.index.to_le_bytes());
        put_framed(target, ENTRY_RECORDS, |target| {
            for record in &self.records {
                put_framed(target, kind(record), |target| put_body(target, record));
            }
        });
        let checksum = crc32c::checksum(&target[start..]);
        target.extend_from_slice(&checksum.to_le_bytes());
        assert!(target.len() - start <= ENTRY_BYTES_MAX, "the controller bounds what is proposed together");
    }

    /// Reads an entry that takes up all of `bytes`.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(DecodeError::TooLarge(bytes.len()));
        }
        let Some((covered, checksum)) = bytes.split_last_chunk::<4>() else {
            return Err(DecodeError::Short("the checksum"));
        };
        let (found, computed) = (u32::from_le_bytes(*checksum), crc32c::checksum(covered));
        if found != computed {
            return Err(DecodeError::Checksum { found, computed });
        }
        let mut source = Source { bytes: covered };
        let term = u32::from_le_bytes(source.array("the term")?);
        let index = u64::from_le_bytes(source.array("the index")?);
        let (entry_kind, mut body) = source.framed("the entry")?;
        source.finish()?;
        if entry_kind != ENTRY_RECORDS {
            return Err(DecodeError::UnknownKind(entry_kind));
        }
        let mut records = Vec::new();
        while !body.bytes.is_empty() {
            let (kind, mut source) = body.framed("a record")?;
            records.push(take_body(kind, &mut source)?);
            source.finish()?;
        }
        Ok(Self { term, index, records })
    }
}

fn kind(record: &Record) -> u16 {
    match record {
        Record::RegisterBroker(_) => REGISTER_BROKER,
        Record::Topic { .. } => TOPIC,
        Record::Partition { .. } => PARTITION,
        Record::RemoveTopic { .. } => REMOVE_TOPIC,
        Record::TopicConfig { .. } => TOPIC_CONFIG,
        Record::ProducerIdBlock { .. } => PRODUCER_ID_BLOCK,
        Record::BrokerConfig { .. } => BROKER_CONFIG,
        Record::GroupConfig { .. } => GROUP_CONFIG,
    }
}

fn put_body(target: &mut Vec<u8>, record: &Record) {
    match record {
        Record::RegisterBroker(broker) => {
            target.extend_from_slice(&broker.node.get().to_le_bytes());
            target.extend_from_slice(&broker.incarnation.to_le_bytes());
            target.extend_from_slice(&broker.shard_count.to_le_bytes());
            put_option(target, broker.rack.as_deref());
            put_length(target, broker.endpoints.len());
            for endpoint in &broker.endpoints {
                put_text(target, &endpoint.listener);
                put_text(target, &endpoint.host);
                target.extend_from_slice(&endpoint.port.to_le_bytes());
            }
        }
        Record::Topic { topic, name } => {
            target.extend_from_slice(topic.as_bytes());
            put_text(target, name);
        }
        Record::Partition { topic, partition } => {
            target.extend_from_slice(topic.as_bytes());
            target.extend_from_slice(&partition.partition.to_le_bytes());
            target.extend_from_slice(&partition.leader.map_or(NO_LEADER, NodeId::get).to_le_bytes());
            target.extend_from_slice(&partition.leader_epoch.get().to_le_bytes());
            target.extend_from_slice(&partition.partition_epoch.to_le_bytes());
            for nodes in [&partition.replicas, &partition.isr] {
                put_length(target, nodes.len());
                for node in nodes {
                    target.extend_from_slice(&node.get().to_le_bytes());
                }
            }
        }
        Record::RemoveTopic { topic } => target.extend_from_slice(topic.as_bytes()),
        Record::TopicConfig { topic, key, value } => {
            target.extend_from_slice(topic.as_bytes());
            put_text(target, key);
            put_option(target, value.as_deref());
        }
        Record::ProducerIdBlock { next } => target.extend_from_slice(&next.to_le_bytes()),
        Record::BrokerConfig { node, key, value } => {
            target.extend_from_slice(&node.map_or(ALL_BROKERS, NodeId::get).to_le_bytes());
            put_text(target, key);
            put_option(target, value.as_deref());
        }
        Record::GroupConfig { group, key, value } => {
            put_text(target, group);
            put_text(target, key);
            put_option(target, value.as_deref());
        }
    }
}

fn take_body(kind: u16, source: &mut Source<'_>) -> Result<Record, DecodeError> {
    Ok(match kind {
        REGISTER_BROKER => {
            let node = source.node("node id")?;
            let incarnation = u128::from_le_bytes(source.array("the incarnation")?);
            let shard_count = u16::from_le_bytes(source.array("the shard count")?);
            let rack = source.option("the rack")?;
            let mut endpoints = Vec::new();
            for _ in 0..source.length("the endpoints")? {
                let (listener, host) = (source.text("a listener's name")?, source.text("a host")?);
                let port = u16::from_le_bytes(source.array("a port")?);
                endpoints.push(Endpoint { listener, host, port });
            }
            legal(shard_count >= 1, "shard count")?;
            legal(endpoints.iter().all(|endpoint| endpoint.port != 0), "port")?;
            Record::RegisterBroker(Broker { node, incarnation, endpoints, rack, shard_count })
        }
        TOPIC => Record::Topic { topic: source.topic()?, name: source.text("the topic's name")? },
        PARTITION => {
            let topic = source.topic()?;
            let partition = source.partition()?;
            Record::Partition { topic, partition }
        }
        REMOVE_TOPIC => Record::RemoveTopic { topic: source.topic()? },
        TOPIC_CONFIG => {
            let (topic, key) = (source.topic()?, source.text("the key")?);
            Record::TopicConfig { topic, key, value: source.option("the value")? }
        }
        PRODUCER_ID_BLOCK => {
            let next = i64::from_le_bytes(source.array("the producer id")?);
            legal(next >= 0, "producer id")?;
            Record::ProducerIdBlock { next }
        }
        BROKER_CONFIG => {
            let node = source.find_node(ALL_BROKERS, "node id")?;
            Record::BrokerConfig { node, key: source.text("the key")?, value: source.option("the value")? }
        }
        GROUP_CONFIG => {
            let (group, key) = (source.text("the group")?, source.text("the key")?);
            Record::GroupConfig { group, key, value: source.option("the value")? }
        }
        unknown => return Err(DecodeError::UnknownKind(unknown)),
    })
}

/// Writes kind, version and length in front of what `put` writes.
fn put_framed(target: &mut Vec<u8>, kind: u16, put: impl FnOnce(&mut Vec<u8>)) {
    target.extend_from_slice(&kind.to_le_bytes());
    target.push(VERSION);
    let at = target.len();
    target.extend_from_slice(&[0; 4]);
    put(target);
    let length = u32::try_from(target.len() - at - 4).expect("an entry is at most 1 MiB");
    target[at..at + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_length(target: &mut Vec<u8>, length: usize) {
    let length = u16::try_from(length).expect("the controller bounds texts and lists");
    target.extend_from_slice(&length.to_le_bytes());
}

fn put_text(target: &mut Vec<u8>, text: &str) {
    put_length(target, text.len());
    target.extend_from_slice(text.as_bytes());
}

fn put_option(target: &mut Vec<u8>, text: Option<&str>) {
    target.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(target, text);
    }
}

fn legal(holds: bool, what: &'static str) -> Result<(), DecodeError> {
    if holds { Ok(()) } else { Err(DecodeError::Illegal(what)) }
}

/// Bytes that are still to be read.
struct Source<'a> {
    bytes: &'a [u8],
}

impl<'a> Source<'a> {
    fn slice(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(DecodeError::Short(what))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self, what: &'static str) -> Result<[u8; LENGTH], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(DecodeError::Short(what))?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// Kind and body of something that `put_framed` wrote in a version this program knows.
    fn framed(&mut self, what: &'static str) -> Result<(u16, Source<'a>), DecodeError> {
        let kind = u16::from_le_bytes(self.array(what)?);
        let [version] = self.array(what)?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { kind, version });
        }
        let length = u32::from_le_bytes(self.array(what)?);
        let length = usize::try_from(length).map_err(|_| DecodeError::Short(what))?;
        Ok((kind, Source { bytes: self.slice(length, what)? }))
    }

    fn length(&mut self, what: &'static str) -> Result<usize, DecodeError> {
        Ok(usize::from(u16::from_le_bytes(self.array(what)?)))
    }

    fn text(&mut self, what: &'static str) -> Result<String, DecodeError> {
        let length = self.length(what)?;
        let bytes = self.slice(length, what)?;
        std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DecodeError::Illegal(what))
    }

    fn option(&mut self, what: &'static str) -> Result<Option<String>, DecodeError> {
        match self.array(what)? {
            [0] => Ok(None),
            [1] => self.text(what).map(Some),
            [_] => Err(DecodeError::Illegal(what)),
        }
    }

    fn topic(&mut self) -> Result<TopicId, DecodeError> {
        self.array("the topic id").map(TopicId::from_bytes)
    }

    fn number(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        let number = i32::from_le_bytes(self.array(what)?);
        legal(number >= 0, what)?;
        Ok(number)
    }

    fn node(&mut self, what: &'static str) -> Result<NodeId, DecodeError> {
        NodeId::new(i32::from_le_bytes(self.array(what)?)).ok_or(DecodeError::Illegal(what))
    }

    /// A node, or `none` where there is none.
    fn find_node(&mut self, none: i32, what: &'static str) -> Result<Option<NodeId>, DecodeError> {
        match i32::from_le_bytes(self.array(what)?) {
            number if number == none => Ok(None),
            number => NodeId::new(number).map(Some).ok_or(DecodeError::Illegal(what)),
        }
    }

    fn nodes(&mut self, what: &'static str) -> Result<Vec<NodeId>, DecodeError> {
        let mut nodes = Vec::new();
        for _ in 0..self.length(what)? {
            nodes.push(self.node(what)?);
        }
        Ok(nodes)
    }

    fn partition(&mut self) -> Result<Partition, DecodeError> {
        let partition = self.number("partition")?;
        let leader = self.find_node(NO_LEADER, "leader")?;
        let leader_epoch = LeaderEpoch::new(self.number("leader epoch")?);
        let partition_epoch = self.number("partition epoch")?;
        let (replicas, isr) = (self.nodes("replicas")?, self.nodes("isr")?);
        legal(!replicas.is_empty(), "replicas")?;
        legal(isr.iter().all(|node| replicas.contains(node)), "isr")?;
        legal(leader.is_none_or(|leader| replicas.contains(&leader)), "leader")?;
        Ok(Partition { partition, replicas, isr, leader, leader_epoch, partition_epoch })
    }

    fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Long(self.bytes.len())) }
    }
}

/// Largest entry, whole.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Kind of an entry that carries records.
pub const ENTRY_RECORDS: u16 = 1;

const REGISTER_BROKER: u16 = 1;
const TOPIC: u16 = 2;
const PARTITION: u16 = 3;
const REMOVE_TOPIC: u16 = 4;
const TOPIC_CONFIG: u16 = 5;
const PRODUCER_ID_BLOCK: u16 = 6;
const BROKER_CONFIG: u16 = 7;
const GROUP_CONFIG: u16 = 8;
/// Every kind has its first version so far.
const VERSION: u8 = 0;
/// Kafka's number for "nobody".
const NO_LEADER: i32 = -1;
/// What stands for all brokers.
const ALL_BROKERS: i32 = -1;
