//! What a shard does with its own logs when somebody asks, be it one of its connections or another shard. Reading records
//! is in [`super::read`].
//!
//! Appends are taken in the order in which they arrived: [`AppendTurn`] takes the place in line, [`append`] waits for it.
//! Two Produce requests of one connection reach a log in the order in which the connection sent them, because each step on
//! their way keeps order: the connection, the link, this line.

use futures_util::{StreamExt, stream};
use millrace_engine::model::{Offset, PartitionId};
use millrace_engine::store::{ActiveProducer, EpochEnd, ReadError, TimedOffset};
use millrace_protocol::batch::{BatchView, Compression};
use millrace_runtime::Env;

use super::budget::{Budget, Turn};
use super::mailbox::message::{
    Append, AppendRefusal, AppendedBatch, BatchPlace, DeleteRecords, DeleteTarget, EpochQuery, FoundOffset, Keys,
    ListOffsets, OffsetPosition, OffsetQuery, ReplyWhen,
};
use super::{Shard, keys, limits};

/// A place in the line of appends.
pub struct AppendTurn(Turn);

/// The line of appends of one shard.
pub struct AppendLine(Budget);

impl Default for AppendLine {
    fn default() -> Self {
        Self(Budget::new(1))
    }
}

impl AppendLine {
    /// Takes the next place.
    pub fn enqueue(&self) -> AppendTurn {
        AppendTurn(self.0.enqueue(1).expect("the line lets one through at a time"))
    }

    /// How many requests wait for their turn.
    pub fn waiting_count(&self) -> usize {
        self.0.waiting_count()
    }
}

/// Appends the batches of one request, in order, and waits as long as the request wants.
///
/// Runs in a task of its own: whoever has its turn must not depend on anyone's patience to go on.
pub async fn append<E: Env>(
    shard: &Shard<E>,
    request: Append,
    turn: AppendTurn,
) -> Vec<Result<AppendedBatch, AppendRefusal>> {
    let store = shard.store();
    // Checked here and not on the connection's shard: the checksum brings the records into the cache that copies them.
    let checked: Vec<_> = request.batches.iter().map(|place| check(&request.frame, place)).collect();
    let guard = turn.0.await;
    let mut taken = Vec::with_capacity(request.batches.len());
    for (place, batch) in request.batches.iter().zip(&checked) {
        taken.push(match batch {
            Err(refusal) => Err(refusal.clone()),
            Ok(batch) => {
                store.room().await;
                let appended = store.append(place.partition, batch, place.leader_epoch).await;
                appended.map_err(AppendRefusal::Refused)
            }
        });
    }
    drop(guard);
    // The records are in the log's memory; the request's memory may go.
    drop(checked);
    drop(request.frame);

    let mut results = Vec::with_capacity(taken.len());
    for appended in taken {
        results.push(match appended {
            Err(refusal) => Err(refusal),
            Ok(appended) => {
                let batch = AppendedBatch {
                    base_offset: appended.base_offset,
                    log_start_offset: appended.log_start_offset,
                    log_append_time_ms: appended.append_time_ms,
                    throttle: appended.throttle,
                };
                match request.reply_when {
                    ReplyWhen::Appended => Ok(batch),
                    ReplyWhen::Durable => {
                        appended.ticket.durable().await.map(|()| batch).map_err(AppendRefusal::NotDurable)
                    }
                }
            }
        });
    }
    results
}

/// The batch at `place` of a request, if it may be appended there. The keys of a compressed one were looked for where it
/// was received.
fn check<'f>(frame: &'f [u8], place: &BatchPlace) -> Result<BatchView<'f>, AppendRefusal> {
    let batch = BatchView::parse_produced(&frame[place.range.clone()]).map_err(AppendRefusal::Invalid)?;
    if place.keys == Keys::Required && batch.header().attributes().compression() == Some(Compression::None) {
        keys::check_keys(batch.records().map_err(AppendRefusal::Invalid)?)?;
    }
    Ok(batch)
}

/// Answers questions about offsets, in order.
pub async fn list_offsets<E: Env>(
    shard: &Shard<E>,
    request: &ListOffsets,
) -> Vec<Result<Option<FoundOffset>, ReadError>> {
    let mut results = Vec::with_capacity(request.queries.len());
    for query in &request.queries {
        results.push(find_offset(shard, query).await);
    }
    results
}

/// Moves the start of logs forward, in order.
pub async fn delete_records<E: Env>(shard: &Shard<E>, request: &DeleteRecords) -> Vec<Result<Offset, ReadError>> {
    let mut results = Vec::with_capacity(request.targets.len());
    for DeleteTarget { partition, before } in &request.targets {
        results.push(move_start(shard, *partition, *before).await);
    }
    results
}

/// Tells how large logs are, in order. What was not opened since the start is opened, several logs at a time.
pub async fn log_bytes<E: Env>(shard: &Shard<E>, logs: &[PartitionId]) -> Vec<Result<u64, ReadError>> {
    let sizes = stream::iter(logs).map(|id| shard.store().log_bytes(*id));
    sizes.buffered(limits::LOGS_MEASURED_MAX).collect().await
}

/// Finds where leader epochs end, in order.
pub async fn epoch_ends<E: Env>(shard: &Shard<E>, queries: &[EpochQuery]) -> Vec<Result<EpochEnd, ReadError>> {
    let mut results = Vec::with_capacity(queries.len());
    for query in queries {
        results.push(find_epoch_end(shard, query).await);
    }
    results
}

/// Tells who has written to logs with a producer id, in order.
pub async fn active_producers<E: Env>(
    shard: &Shard<E>,
    logs: &[PartitionId],
) -> Vec<Result<Vec<ActiveProducer>, ReadError>> {
    let mut results = Vec::with_capacity(logs.len());
    for id in logs {
        results.push(shard.store().active_producers(*id).await);
    }
    results
}

/// Moves a log's start to `before`, or to the high watermark; gives where it starts then. A start behind it stays.
async fn move_start<E: Env>(shard: &Shard<E>, id: PartitionId, before: Option<Offset>) -> Result<Offset, ReadError> {
    let before = match before {
        Some(offset) => offset,
        None => shard.store().offsets(id).await?.high_watermark,
    };
    shard.store().delete_records(id, before).await
}

/// Where an epoch ends, as far as readers may see.
async fn find_epoch_end<E: Env>(shard: &Shard<E>, query: &EpochQuery) -> Result<EpochEnd, ReadError> {
    let found = shard.store().epoch_end_offset(query.partition, query.epoch).await?;
    let visible_end = shard.store().offsets(query.partition).await?.high_watermark;
    Ok(match found {
        // The log knows of a leader by its records; the one that leads now has begun, be it without any.
        Some(end) if query.epoch < query.leader_epoch => {
            EpochEnd { end_offset: end.end_offset.min(visible_end), ..end }
        }
        // A log without records begins where it ends.
        Some(_) | None => EpochEnd { leader_epoch: query.epoch, end_offset: visible_end },
    })
}

async fn find_offset<E: Env>(shard: &Shard<E>, query: &OffsetQuery) -> Result<Option<FoundOffset>, ReadError> {
    let id: PartitionId = query.partition;
    let offsets = shard.store().offsets(id).await?;
    let leader_epoch = offsets.leader_epoch.max(query.leader_epoch);
    let found = |offset| FoundOffset { offset, timestamp_ms: None, leader_epoch };
    match query.position {
        OffsetPosition::Earliest => Ok(Some(found(offsets.start))),
        // Both isolation levels: the last stable offset is the high watermark while there are no transactions.
        OffsetPosition::Latest => Ok(Some(found(offsets.high_watermark))),
        OffsetPosition::Time(time) => {
            let timed = shard.store().offset_by_time(id, time).await?;
            Ok(timed.map(|TimedOffset { offset, timestamp, leader_epoch }| FoundOffset {
                offset,
                timestamp_ms: Some(timestamp),
                leader_epoch,
            }))
        }
    }
}
