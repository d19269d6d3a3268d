//! The facts the metadata log consists of.
//!
//! An [`Entry`] is one proposal: its records are applied together or not at all, so that a crash can never leave a topic
//! with half of its partitions. Bytes: `codec` and docs/FORMAT.md, section "Metadata entries".

use std::fmt;

use millrace_engine::model::{LeaderEpoch, TopicId};

/// A broker's number. Invariant: not negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(i32);

/// One proposal that became part of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Term of the controller that proposed it.
    pub term: u32,
    /// Position in the log. Invariant: one more than the entry before; the first is 1.
    pub index: u64,
    /// What it says, in the order of application.
    pub records: Vec<Record>,
}

/// One fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// A broker is here, or is here again.
    RegisterBroker(Broker),
    /// There is a topic. Its partitions follow in the same entry.
    Topic {
        /// Its id, which is never used again.
        topic: TopicId,
        /// Its name.
        name: String,
    },
    /// There is a partition, or who leads and replicates it changed.
    Partition {
        /// Its topic.
        topic: TopicId,
        /// Its state from now on.
        partition: Partition,
    },
    /// The topic is gone, with its partitions and configuration.
    RemoveTopic {
        /// Which.
        topic: TopicId,
    },
    /// A topic sets a configuration key, or takes it back.
    TopicConfig {
        /// Which topic.
        topic: TopicId,
        /// The key.
        key: String,
        /// The value; `None` takes the key back.
        value: Option<String>,
    },
    /// A broker is told the value of a configuration key, or that it has its own again.
    BrokerConfig {
        /// Which broker; `None` is all that are not told otherwise.
        node: Option<NodeId>,
        /// The key.
        key: String,
        /// The value; `None` takes the key back.
        value: Option<String>,
    },
    /// A group gets a configuration key, or loses it.
    GroupConfig {
        /// Which group. It need not be there.
        group: String,
        /// The key.
        key: String,
        /// The value; `None` takes the key back.
        value: Option<String>,
    },
    /// All producer ids below `next` are given away.
    ProducerIdBlock {
        /// The first id that is free. Invariant: not negative, never falls.
        next: i64,
    },
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub node: NodeId,
    /// Different at each of its starts.
    pub incarnation: u128,
    /// The addresses it tells clients, by listener.
    pub endpoints: Vec<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
    /// How many shards it has, from which everyone can compute where a partition lives. Invariant: `>= 1`.
    pub shard_count: u16,
}

/// An address that clients are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The listener's name.
    pub listener: String,
    /// Host name or address.
    pub host: String,
    /// Port. Invariant: not 0.
    pub port: u16,
}

/// A partition's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Index in its topic, counted from 0. Invariant: not negative.
    pub partition: i32,
    /// Brokers that hold it, the preferred leader first. Invariant: not empty.
    pub replicas: Vec<NodeId>,
    /// Those that are in sync. Invariant: a subset of `replicas`.
    pub isr: Vec<NodeId>,
    /// Who leads; `None` while nobody does.
    pub leader: Option<NodeId>,
    /// Grows by one with each new leader.
    pub leader_epoch: LeaderEpoch,
    /// Grows with each change of this state. Invariant: not negative.
    pub partition_epoch: i32,
}

impl NodeId {
    /// The broker with this number, if a broker may have it.
    pub fn new(number: i32) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// The number as Kafka spells it.
    pub fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
