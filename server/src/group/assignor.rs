//! How the partitions of a group's topics are shared out among its members by the coordinator (KIP-848).
//!
//! Pure: the same work gives the same parts, whatever order members came in.
//!
//! - `uniform`: everybody gets as many as everybody else, give or take one, and keeps what they had as far as that allows.
//! - `range`: of each topic by itself, consecutive partitions, so that members that read the same topics get partitions of
//!   the same numbers.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use millrace_protocol::wire::Uuid;

use super::request::IdPartition;

/// A way to share out partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Balanced and sticky.
    Uniform,
    /// Consecutive, topic by topic.
    Range,
}

impl Assignor {
    /// Every one there is.
    pub const ALL: &[Self] = &[Self::Uniform, Self::Range];

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|assignor| assignor.name() == name)
    }

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// Shares the work out: one part for each member, in their order. Every partition that somebody reads is in one part.
    pub fn assign(self, work: &Work<'_>) -> Vec<BTreeSet<IdPartition>> {
        assert!(work.members.iter().all(|worker| worker.subscription < work.subscriptions.len()));
        match self {
            Self::Uniform => uniform::assign(work),
            Self::Range => range::assign(work),
        }
    }
}

/// What is to be shared out, and among whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work<'a> {
    /// Topics that are there, with how many partitions each has.
    pub topics: BTreeMap<Uuid, i32>,
    /// Sets of topics that somebody reads. Invariant: all different, and of `topics` only.
    pub subscriptions: Vec<BTreeSet<Uuid>>,
    /// Everybody.
    pub members: Vec<Worker<'a>>,
}

/// A member among whom work is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker<'a> {
    /// By what members are put in order: the name of a static member, else the id.
    pub name: &'a str,
    /// Which of the subscriptions is its.
    pub subscription: usize,
    /// What it had before.
    pub previous: &'a BTreeSet<IdPartition>,
}

impl Work<'_> {
    fn partitions(&self, topic_id: Uuid) -> impl Iterator<Item = IdPartition> {
        (0..self.topics[&topic_id]).map(move |partition| IdPartition { topic_id, partition })
    }

    /// Who reads the topic, by place among the members.
    fn readers(&self, topic_id: Uuid) -> Vec<usize> {
        let reads = |index: &usize| self.subscriptions[self.members[*index].subscription].contains(&topic_id);
        (0..self.members.len()).filter(reads).collect()
    }

    /// Topics that somebody reads.
    fn read_topics(&self) -> BTreeSet<Uuid> {
        self.members.iter().flat_map(|worker| self.subscriptions[worker.subscription].iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests;
