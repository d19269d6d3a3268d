//! Answers questions from outside about how the shard is. Starts before the shard has its logs, ends when it closes.
//!
//! One question at a time, between everything else the shard does; a report yields where it may take long.

use futures_util::future::{Either, select};
use millrace_engine::store::{Store, StoreReport};
use millrace_runtime::{Env, TaskClass};

use super::mailbox::question::{Question, Questions, ShardStatus};
use super::{Shard, Stage};
use crate::config::ShardBudget;
use crate::metrics::report::{
    BudgetReport, COMPACTION_FAILURE_COUNT_MAX, CompactionFailure, ShardReport, TOPIC_COUNT_MAX,
};

/// Starts answering.
pub fn start<E: Env>(shard: &Shard<E>, mut questions: Questions) {
    let own = shard.clone();
    shard.tasks().spawn("questions", TaskClass::Metadata, async move {
        loop {
            let (asked, closing) = (std::pin::pin!(questions.next()), std::pin::pin!(own.reached(Stage::Closing)));
            let Either::Right((Some(question), _)) = select(closing, asked).await else { return };
            // Whoever asked may have gone away: then the answer is dropped.
            match question {
                Question::Status(reply) => drop(reply.send(own.status())),
                Question::Report(reply) => drop(reply.send(Box::new(own.report().await))),
                Question::HighWatermarks(partitions, reply) => {
                    let store = own.inner.store.get();
                    let find = |id| Some(store?.known_high_watermark(id)?.get());
                    drop(reply.send(partitions.into_iter().map(find).collect()));
                }
            }
        }
    });
}

impl<E: Env> Shard<E> {
    fn status(&self) -> ShardStatus {
        let store = self.inner.store.get();
        let (recovered_count, log_count) = store.map_or((0, 0), Store::recovery_progress);
        ShardStatus {
            stage: self.stage(),
            is_open: store.is_some(),
            recovered_count,
            log_count,
            failure: store.and_then(Store::shard_failure),
            is_accepting: self.acceptor().is_some(),
        }
    }

    /// What the shard has counted, and how full everything bounded is.
    pub async fn report(&self) -> ShardReport {
        let counters = self.counters();
        let mut report = ShardReport {
            shard: self.index().get(),
            apis: counters.apis(),
            received_bytes: counters.received_bytes.count(),
            sent_bytes: counters.sent_bytes.count(),
            connection_count: self.connections().count(),
            accepted_count: counters.accepted.count(),
            refused_count: counters.refused.count(),
            open_file_count_max: self.broker().descriptors.open_file_count_max,
            recovered_count: self.status().recovered_count,
            groups: self.groups().report(self).await,
            ..ShardReport::default()
        };
        if let Some(store) = self.inner.store.get() {
            let store = store.report().await;
            self.add_topics(&mut report, &store);
            report.store = Some(store);
        }
        let empty = StoreReport::default();
        let store = report.store.as_ref().unwrap_or(&empty);
        report.queues = vec![
            ("requests", self.request_budget().waiting_count()),
            ("decoding", self.decoding_budget().waiting_count()),
            ("appends", self.append_line().waiting_count()),
            ("rounds", store.queued_count),
            ("calls", self.router().waiting_count()),
            ("outbox", self.mailbox().message_count()),
            ("watches", self.watches().count()),
        ];
        report.budgets = self.budgets(store);
        report
    }

    /// What the store says of topics and partitions, by name.
    fn add_topics(&self, report: &mut ShardReport, store: &StoreReport) {
        let image = self.image();
        for topic in image.topics().take(TOPIC_COUNT_MAX) {
            // A topic with few partitions has none on some shards.
            if let Some(traffic) = store.topics.get(&topic.id) {
                report.topics.push((topic.name.clone(), *traffic));
            }
        }
        report.topics_left_out_count = image.topic_count().saturating_sub(TOPIC_COUNT_MAX);
        for (id, reason) in store.compaction_failures.iter().take(COMPACTION_FAILURE_COUNT_MAX) {
            if let Some(topic) = image.find_topic(id.topic) {
                let reason = reason.chars().take(REASON_CHARS_MAX).collect();
                report.compaction_failures.push(CompactionFailure {
                    topic: topic.name.clone(),
                    partition: id.partition,
                    reason,
                });
            }
        }
    }

    fn budgets(&self, store: &StoreReport) -> Vec<BudgetReport> {
        let ShardBudget { write_buffers, tail_cache, read_cache, indexes, producers, leases, groups, .. } =
            self.broker().config.shards.memory.shard;
        let (requests, decoding) = (self.request_budget(), self.decoding_budget());
        let lent_bytes = leases - self.leases().borrow().room_bytes();
        let budgets = [
            ("requests", requests.used_bytes(), requests.capacity_bytes()),
            ("decoding", decoding.used_bytes(), decoding.capacity_bytes()),
            ("write_buffers", store.unstored_bytes, write_buffers),
            ("tail_cache", store.tail_bytes, tail_cache),
            ("read_cache", store.read_cache_bytes, read_cache),
            ("indexes", store.index_bytes, indexes),
            ("producers", store.producer_bytes, producers),
            ("leases", lent_bytes, leases),
            ("groups", self.groups().bytes(), groups),
        ];
        let report = |(class, used_bytes, limit_bytes)| BudgetReport { class, used_bytes, limit_bytes };
        budgets.into_iter().map(report).collect()
    }
}

/// The reason why a log was not compacted becomes a label, so it is cut to this many characters.
const REASON_CHARS_MAX: usize = 200;
