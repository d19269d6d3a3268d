//! Producer ids that one shard may give away without asking anyone.
//!
//! The metadata gives ids away in blocks; each shard takes a block and uses it up. Ids are never given away twice: what is
//! left of a block when the broker stops is lost.

use std::cell::Cell;

use millrace_runtime::Env;

use super::Shard;
use super::budget::Budget;
use super::mailbox::message::{Decision, Proposal, ProposeError};
use super::router::ShardGone;

/// The rest of the shard's block.
#[derive(Debug)]
pub struct ProducerIds {
    next: Cell<i64>,
    /// Invariant: at least `next`. Exclusive.
    end: Cell<i64>,
    /// One asks for a new block at a time; the others use it too.
    line: Budget,
}

impl Default for ProducerIds {
    fn default() -> Self {
        Self { next: Cell::new(0), end: Cell::new(0), line: Budget::new(1) }
    }
}

impl ProducerIds {
    /// An id that nobody had before.
    pub async fn take<E: Env>(&self, shard: &Shard<E>) -> Result<i64, NoProducerId> {
        let _turn = self.line.enqueue(1).expect("the line lets one through at a time").await;
        if self.next.get() == self.end.get() {
            match shard.propose(Proposal::AllocateProducerIds).await?? {
                Decision::ProducerIds { first, count } => {
                    self.next.set(first);
                    self.end.set(first + count);
                }
                Decision::BrokerRegistered
                | Decision::TopicCreated(_)
                | Decision::PartitionsCreated
                | Decision::ConfigAltered
                | Decision::TopicDeleted { .. } => unreachable!("a proposal is answered in kind"),
            }
        }
        let id = self.next.get();
        self.next.set(id + 1);
        Ok(id)
    }
}

/// Why there is no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoProducerId {
    /// The metadata gives none.
    Refused(ProposeError),
    /// The broker is stopping.
    Gone(ShardGone),
}

impl From<ProposeError> for NoProducerId {
    fn from(error: ProposeError) -> Self {
        Self::Refused(error)
    }
}

impl From<ShardGone> for NoProducerId {
    fn from(error: ShardGone) -> Self {
        Self::Gone(error)
    }
}
