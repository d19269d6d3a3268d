//! Asks the shards, all at the same time, and waits no longer than [`ANSWER_TIME_MAX`] for any of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use millrace_engine::model::PartitionId;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::health::{ShardAnswer, Silence};
use super::process;
use crate::metrics::report::{BrokerReport, ShardReport};
use crate::shard::mailbox::question::{Asker, Question, Reply};
use crate::shard::placement::{self, ShardIndex};

/// The broker that is looked at.
#[derive(Debug)]
pub struct Watched {
    asker: Asker,
    directory: PathBuf,
    reserve_bytes: u64,
    started: Instant,
    /// Held while a report is put together.
    turn: Semaphore,
}

impl Watched {
    /// A broker that starts now.
    pub fn new(asker: Asker, directory: PathBuf, reserve_bytes: u64) -> Self {
        #[expect(clippy::disallowed_methods, reason = "outside the shards, never simulated")]
        let started = Instant::now();
        Self { asker, directory, reserve_bytes, started, turn: Semaphore::new(1) }
    }

    /// How far each shard is.
    pub async fn statuses(&self) -> Vec<(ShardIndex, ShardAnswer)> {
        self.ask_all(Question::Status).await
    }

    /// Everything there is to show. A shard that does not answer is missing from it, by name.
    pub async fn report(&self) -> BrokerReport {
        let _turn = self.turn.acquire().await.expect("nobody closes the semaphore");
        let mut report = BrokerReport {
            process: process::read(&self.directory, self.reserve_bytes, self.started),
            ..BrokerReport::default()
        };
        for (shard, answer) in self.ask_all(Question::Report).await {
            match answer {
                Ok(answer) => report.shards.push(*answer),
                Err(_) => report.silent_shards.push(shard.get()),
            }
        }
        let high_watermarks = self.find_high_watermarks(&report.shards).await;
        report.take_lags(|partition| high_watermarks.get(&partition).copied());
        report
    }

    /// The high watermarks of everything that groups have committed for, as far as their owners know them.
    async fn find_high_watermarks(&self, shards: &[ShardReport]) -> BTreeMap<PartitionId, i64> {
        let mut by_owner: BTreeMap<ShardIndex, Vec<PartitionId>> = BTreeMap::new();
        for committed in shards.iter().flat_map(|shard| &shard.groups.committed) {
            for &(partition, _) in &committed.offsets {
                let id = PartitionId { topic: committed.topic_id, partition };
                by_owner.entry(placement::owner(id, self.asker.shard_count())).or_default().push(id);
            }
        }
        let questions = by_owner.into_iter().map(|(owner, mut partitions)| async move {
            partitions.sort_unstable();
            partitions.dedup();
            let asked = partitions.clone();
            let answer = self.ask(owner, move |reply| Question::HighWatermarks(asked, reply)).await;
            let found = partitions.into_iter().zip(answer.unwrap_or_default());
            found.filter_map(|(id, high_watermark)| Some((id, high_watermark?))).collect::<Vec<_>>()
        });
        join_all(questions).await.into_iter().flatten().collect()
    }

    async fn ask_all<T>(
        &self,
        question: impl Fn(Reply<T>) -> Question + Copy,
    ) -> Vec<(ShardIndex, Result<T, Silence>)> {
        join_all(self.asker.shards().map(|shard| async move { (shard, self.ask(shard, question).await) })).await
    }

    async fn ask<T>(&self, shard: ShardIndex, question: impl FnOnce(Reply<T>) -> Question) -> Result<T, Silence> {
        match timeout(ANSWER_TIME_MAX, self.asker.ask(shard, question)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(Silence::Ended),
            Err(_) => Err(Silence::TooLong),
        }
    }
}

/// How long a shard is waited for. A shard that has not run for this long does not serve either.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
