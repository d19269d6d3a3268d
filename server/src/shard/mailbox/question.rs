//! Questions to shards from a thread that is no shard: the one that shows how the broker is.
//!
//! Each shard has a channel of [`QUESTION_COUNT_MAX`] questions, and each question carries the place for its answer. Asking
//! waits where the channel is full, answering never does, so whoever asks and goes away costs a shard nothing. The channels
//! are tokio's, because one end lives in a tokio runtime and the other must wake an executor that is not: they wake through
//! plain wakers on both sides.

use millrace_engine::model::PartitionId;
use tokio::sync::{mpsc, oneshot};

use crate::metrics::report::ShardReport;
use crate::shard::Stage;
use crate::shard::placement::ShardIndex;

/// The place for an answer.
pub type Reply<T> = oneshot::Sender<T>;

/// What a shard is asked.
#[derive(Debug)]
pub enum Question {
    /// How far are you?
    Status(Reply<ShardStatus>),
    /// What have you counted?
    Report(Reply<Box<ShardReport>>),
    /// The high watermarks of these partitions, where they are known.
    HighWatermarks(Vec<PartitionId>, Reply<Vec<Option<i64>>>),
}

/// How far a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// In its life.
    pub stage: Stage,
    /// Whether it has its logs.
    pub is_open: bool,
    /// Logs that recovery has dealt with.
    pub recovered_count: usize,
    /// Logs that recovery deals with. Invariant: at least `recovered_count`.
    pub log_count: usize,
    /// Why all its logs are offline.
    pub failure: Option<String>,
    /// Whether it accepts connections for the whole broker; only the first shard ever does.
    pub is_accepting: bool,
}

/// The end that asks. Clones ask the same shards.
#[derive(Clone, Debug)]
pub struct Asker {
    /// By shard.
    senders: Vec<mpsc::Sender<Question>>,
}

/// One shard's end.
#[derive(Debug)]
pub struct Questions(mpsc::Receiver<Question>);

/// The shard has ended, or was not started yet and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// The ends for `shard_count` shards, in their order.
pub fn channels(shard_count: u16) -> (Asker, Vec<Questions>) {
    let channels = (0..shard_count).map(|_| mpsc::channel(QUESTION_COUNT_MAX));
    let (senders, receivers): (_, Vec<_>) = channels.unzip();
    (Asker { senders }, receivers.into_iter().map(Questions).collect())
}

impl Asker {
    /// All shards.
    pub fn shards(&self) -> impl Iterator<Item = ShardIndex> {
        ShardIndex::all(self.shard_count())
    }

    /// How many there are.
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.senders.len()).expect("shards are counted in 16 bits")
    }

    /// Asks a shard and waits for its answer, however long that takes.
    pub async fn ask<T>(&self, shard: ShardIndex, question: impl FnOnce(Reply<T>) -> Question) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        self.senders[shard.slot()].send(question(reply)).await.map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }
}

impl Questions {
    /// The next question; `None` when nobody can ask any more.
    pub async fn next(&mut self) -> Option<Question> {
        self.0.recv().await
    }
}

/// Questions that wait at one shard.
const QUESTION_COUNT_MAX: usize = 4;
