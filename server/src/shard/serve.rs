//! What a shard does with its own logs when somebody asks, be it one of its connections or another shard.
//!
//! Appends are taken in the order in which they arrived: [`AppendTurn`] takes the place in line, [`append`] waits for it.
//! Two Produce requests of one connection reach a log in the order in which the connection sent them, because each step on
//! their way keeps order: the connection, the link, this line.

use std::rc::Rc;

use millrace_engine::model::{Offset, PartitionId};
use millrace_engine::store::{FirstBatch, ReadError, TimedOffset};
use millrace_protocol::batch::{BatchView, Compression};
use millrace_runtime::local::Event;
use millrace_runtime::{Env, Tasks};

use super::budget::{Budget, Turn};
use super::mailbox::message::{
    Append, AppendRefusal, AppendedBatch, BatchPlace, DeleteRecords, DeleteTarget, FoundOffset, Keys, ListOffsets,
    OffsetPosition, OffsetQuery, Read, ReadPartition, ReadReply, ReplyWhen,
};
use super::placement::ShardIndex;
use super::router::{Piece, ReadAnswer};
use super::{LogSlice, Shard, keys, limits};

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

/// Reads for a connection of this shard. `wait` is notified when more comes than was found.
pub async fn read_own<E: Env>(shard: &Shard<E>, request: &Read, wait: Option<&WaitEvent>) -> ReadAnswer<E> {
    let mut found = read(shard, request).await;
    let mut is_watched = false;
    if let Some(event) = wait
        && found.is_wanting(request)
    {
        attach_to_logs(shard, &found, request, event);
        is_watched = true;
    }
    let mut pieces = Vec::new();
    if !found.slices.is_empty() {
        match shard.leases().borrow().pin(found.bytes) {
            Some(pin) => {
                let own = |slice| Piece::Own { slice, pin: Rc::clone(&pin) };
                pieces.extend(std::mem::take(&mut found.slices).into_iter().map(own));
            }
            None => found.withhold_records(),
        }
    }
    ReadAnswer { partitions: found.partitions, pieces, is_watched: is_watched && !found.is_starved }
}

/// Reads for another shard: the memory found is lent.
pub async fn read_for<E: Env>(shard: &Shard<E>, source: ShardIndex, request: &Read) -> ReadReply {
    let mut found = read(shard, request).await;
    let mut lent = None;
    if !found.slices.is_empty() {
        match shard.leases().borrow_mut().lend(std::mem::take(&mut found.slices)) {
            Ok(memory) => lent = Some(memory),
            Err(_) => found.withhold_records(),
        }
    }
    let mut is_watched = false;
    if let Some(watch) = request.watch
        && found.is_wanting(request)
        && !found.is_starved
    {
        is_watched = shard.watches().arm(source, watch, |event| attach_to_logs(shard, &found, request, event));
    }
    ReadReply { partitions: found.partitions, lent, is_watched }
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

/// The event of a wait, as [`millrace_engine::store::Store::watch`] takes it.
pub type WaitEvent = Rc<Event>;

struct Found<S> {
    partitions: Vec<Result<ReadPartition, ReadError>>,
    slices: Vec<S>,
    bytes: usize,
    /// Whether there is something to read and only the memory for it is missing. A watch would not see that change.
    is_starved: bool,
}

impl<S> Found<S> {
    /// Whether the reader would rather wait than have this.
    fn is_wanting(&self, request: &Read) -> bool {
        self.bytes < request.bytes_wanted && self.partitions.iter().all(Result::is_ok)
    }

    /// Gives nothing, because others took the room while this read waited for the disk.
    fn withhold_records(&mut self) {
        self.slices.clear();
        self.bytes = 0;
        self.is_starved = true;
        for partition in self.partitions.iter_mut().flatten() {
            partition.piece_count = 0;
            partition.bytes = 0;
        }
    }
}

/// Reads within the request's limits and the room there is for answers.
async fn read<E: Env>(shard: &Shard<E>, request: &Read) -> Found<LogSlice<E>> {
    let partitions = Vec::with_capacity(request.partitions.len());
    let mut found = Found { partitions, slices: Vec::new(), bytes: 0, is_starved: false };
    let mut first = request.first;
    for (index, position) in request.partitions.iter().enumerate() {
        if index % limits::READ_PARTITIONS_PER_YIELD == limits::READ_PARTITIONS_PER_YIELD - 1 {
            shard.env().tasks().yield_now().await;
        }
        let room_bytes = shard.leases().borrow().room_bytes().saturating_sub(found.bytes);
        let wanted_bytes = position.bytes_max.min(request.bytes_max.saturating_sub(found.bytes));
        let bytes_max = wanted_bytes.min(room_bytes);
        let read = match shard.store().read(position.partition, position.offset, bytes_max, first).await {
            Ok(read) => read,
            Err(error) => {
                found.partitions.push(Err(error));
                continue;
            }
        };
        // The first batch may exceed every limit but this one: memory that cannot be held cannot be sent.
        let is_held = read.bytes <= room_bytes;
        let bytes = if is_held { read.bytes } else { 0 };
        let slices = if is_held { read.slices } else { Vec::new() };
        let has_more = position.offset < read.offsets.high_watermark;
        found.is_starved |= bytes == 0 && has_more && (!is_held || bytes_max < wanted_bytes);
        if bytes > 0 {
            first = FirstBatch::WithinLimit;
        }
        found.bytes += bytes;
        found.partitions.push(Ok(ReadPartition { piece_count: slices.len(), bytes, offsets: read.offsets }));
        found.slices.extend(slices);
    }
    found
}

/// Has `event` notified when any log that was read grows past what was seen of it; at once if one has already.
fn attach_to_logs<E: Env>(shard: &Shard<E>, found: &Found<LogSlice<E>>, request: &Read, event: &WaitEvent) {
    let mut has_grown = false;
    for (position, partition) in request.partitions.iter().zip(&found.partitions) {
        let Ok(partition) = partition else { continue };
        has_grown |= shard.store().watch(position.partition, partition.offsets.high_watermark, event);
    }
    if has_grown {
        event.notify();
    }
}

/// Moves a log's start to `before`, or to the high watermark; gives where it starts then. A start behind it stays.
async fn move_start<E: Env>(shard: &Shard<E>, id: PartitionId, before: Option<Offset>) -> Result<Offset, ReadError> {
    let before = match before {
        Some(offset) => offset,
        None => shard.store().offsets(id).await?.high_watermark,
    };
    shard.store().delete_records(id, before).await
}

async fn find_offset<E: Env>(shard: &Shard<E>, query: &OffsetQuery) -> Result<Option<FoundOffset>, ReadError> {
    let id: PartitionId = query.partition;
    let offsets = shard.store().offsets(id).await?;
    let found = |offset| FoundOffset { offset, timestamp_ms: None, leader_epoch: offsets.leader_epoch };
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
