//! What a request asks of logs, sorted by the shards that own them, so that each owner is asked once.

use futures_util::future::join_all;
use millrace_runtime::Env;

use crate::shard::Shard;
use crate::shard::placement::ShardIndex;
use crate::shard::router::ShardGone;

/// The questions of one request.
pub(super) struct ByOwner<T> {
    groups: Vec<Group<T>>,
}

/// What one owner is asked.
struct Group<T> {
    owner: ShardIndex,
    questions: Vec<T>,
    ordinals: Vec<usize>,
}

impl<T> ByOwner<T> {
    /// Nothing asked yet.
    pub(super) fn new() -> Self {
        Self { groups: Vec::new() }
    }

    /// Adds a question. The caller knows its answer again by `ordinal`.
    pub(super) fn add(&mut self, owner: ShardIndex, ordinal: usize, question: T) {
        let index = self.groups.iter().position(|group| group.owner == owner).unwrap_or_else(|| {
            self.groups.push(Group { owner, questions: Vec::new(), ordinals: Vec::new() });
            self.groups.len() - 1
        });
        self.groups[index].questions.push(question);
        self.groups[index].ordinals.push(ordinal);
    }

    /// Asks all owners at once; gives every answer with the ordinal of its question.
    pub(super) async fn ask<E: Env, R>(
        self,
        shard: &Shard<E>,
        ask: impl AsyncFn(ShardIndex, Vec<T>) -> Result<Vec<R>, ShardGone>,
    ) -> Result<Vec<(usize, R)>, ShardGone> {
        let owners = self.groups.iter().map(|group| group.owner);
        let _slots = shard.router().slots(shard.remote_count(owners)).await;
        let mut ordinals = Vec::new();
        let mut asked = Vec::new();
        for group in self.groups {
            ordinals.push(group.ordinals);
            asked.push(ask(group.owner, group.questions));
        }
        let mut answers = Vec::new();
        for (ordinals, results) in ordinals.into_iter().zip(join_all(asked).await) {
            answers.extend(ordinals.into_iter().zip(results?));
        }
        Ok(answers)
    }
}
