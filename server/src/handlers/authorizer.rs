//! The one place that says who may do what. Every handler asks it, for every resource it touches.
//!
//! Plaintext listeners know nobody, and without rules everybody may do everything, as in Kafka without an authorizer. The
//! hook is there so that rules can be filled in without touching a handler.

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular: the listener does not ask.
    Anonymous,
}

/// What somebody wants to do; Kafka's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// See that it is there.
    Describe,
    /// See how it is configured.
    DescribeConfigs,
    /// Consume from it.
    Read,
    /// Produce to it.
    Write,
    /// Make it.
    Create,
    /// Delete it, or records of it.
    Delete,
    /// Change what it consists of: its partitions, or who leads them.
    Alter,
    /// Configure it otherwise.
    AlterConfigs,
    /// Produce with a producer id.
    IdempotentWrite,
}

impl Operation {
    /// Kafka's number for it (`AclOperation`).
    pub fn code(self) -> u8 {
        match self {
            Self::Read => 3,
            Self::Write => 4,
            Self::Create => 5,
            Self::Delete => 6,
            Self::Alter => 7,
            Self::Describe => 8,
            Self::DescribeConfigs => 10,
            Self::AlterConfigs => 11,
            Self::IdempotentWrite => 12,
        }
    }
}

/// What can be done to a topic.
pub const TOPIC_OPERATIONS: [Operation; 8] = [
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];

/// What it is to be done to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The cluster as a whole.
    Cluster,
    /// A topic.
    Topic(&'a str),
    /// A consumer group.
    Group(&'a str),
    /// A transactional id.
    TransactionalId(&'a str),
}

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Authorizer;

impl Authorizer {
    /// Whether `principal`, coming in by `listener`, may do this.
    pub fn allows(&self, listener: &str, principal: &Principal, operation: Operation, resource: Resource<'_>) -> bool {
        tracing::trace!(listener, ?principal, ?operation, ?resource, "allowed");
        match principal {
            Principal::Anonymous => true,
        }
    }
}
