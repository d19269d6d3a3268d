//! What a shard does with its own logs when somebody asks, be it one of its connections or another shard.
//!
//! Appends are taken in the order in which they arrived: [`AppendTurn`] takes the place in line, [`append`] waits for it.
//! Two Produce requests of one connection reach a log in the order in which the connection sent them, because each step on
//! their way keeps order: the connection, the link, this line.

use millrace_engine::model::PartitionId;
use millrace_engine::store::{ReadError, TimedOffset};
use millrace_protocol::batch::BatchView;
use millrace_runtime::{Env, Tasks};

use super::budget::{Budget, Turn};
use super::mailbox::message::{
    Append, AppendRefusal, AppendedBatch, FoundOffset, ListOffsets, OffsetPosition, OffsetQuery, Read, ReadPartition,
    ReadReply, ReplyWhen, WatchId,
};
use super::placement::ShardIndex;
use super::router::{Piece, ReadAnswer};
use super::{LogSlice, Shard, limits};

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
    let checked: Vec<_> =
        request.batches.iter().map(|place| BatchView::parse_produced(&request.frame[place.range.clone()])).collect();
    let guard = turn.0.await;
    let mut taken = Vec::with_capacity(request.batches.len());
    for (place, batch) in request.batches.iter().zip(&checked) {
        taken.push(match batch {
            Err(error) => Err(AppendRefusal::Invalid(*error)),
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
                let batch =
                    AppendedBatch { base_offset: appended.base_offset, log_start_offset: appended.log_start_offset };
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

/// Who reads, and so how the memory gets there.
#[derive(Clone, Copy)]
enum Reader {
    Own,
    Other,
}

/// Reads for a connection of this shard.
pub async fn read_own<E: Env>(shard: &Shard<E>, request: &Read, attach: Option<&WaitEvent>) -> ReadAnswer<E> {
    let found = read(shard, request, Reader::Own).await;
    let mut is_watched = false;
    if let Some(event) = attach
        && found.is_wanting(request)
    {
        attach_to_logs(shard, &found, request, event);
        is_watched = true;
    }
    let pieces = found.slices.into_iter().map(Piece::Own).collect();
    ReadAnswer { partitions: found.partitions, pieces, is_watched }
}

/// Reads for another shard: the memory found is lent.
pub async fn read_for<E: Env>(shard: &Shard<E>, source: ShardIndex, request: &Read) -> ReadReply {
    let mut found = read(shard, request, Reader::Other).await;
    let mut is_watched = false;
    if let Some(watch) = request.watch
        && found.is_wanting(request)
    {
        is_watched = arm(shard, source, watch, &found, request);
    }
    let mut lent = None;
    if !found.slices.is_empty() {
        match shard.leases().borrow_mut().lend(std::mem::take(&mut found.slices)) {
            Ok(memory) => lent = Some(memory),
            // Others took what was left while this read waited for the disk. The client asks again.
            Err(_) => found.withhold_records(),
        }
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

/// The event of a wait, as [`millrace_engine::store::Store::watch`] takes it.
pub type WaitEvent = std::rc::Rc<millrace_runtime::local::Event>;

struct Found<S> {
    partitions: Vec<Result<ReadPartition, ReadError>>,
    slices: Vec<S>,
    bytes: usize,
}

impl<S> Found<S> {
    /// Whether the reader would rather wait than have this.
    fn is_wanting(&self, request: &Read) -> bool {
        self.bytes < request.bytes_wanted && self.partitions.iter().all(Result::is_ok)
    }

    fn withhold_records(&mut self) {
        self.bytes = 0;
        for partition in self.partitions.iter_mut().flatten() {
            partition.piece_count = 0;
            partition.bytes = 0;
        }
    }
}

async fn read<E: Env>(shard: &Shard<E>, request: &Read, reader: Reader) -> Found<LogSlice<E>> {
    let partitions = Vec::with_capacity(request.partitions.len());
    let mut found = Found { partitions, slices: Vec::new(), bytes: 0 };
    let mut first = request.first;
    for (index, position) in request.partitions.iter().enumerate() {
        if index % limits::READ_PARTITIONS_PER_YIELD == limits::READ_PARTITIONS_PER_YIELD - 1 {
            shard.env().tasks().yield_now().await;
        }
        let room_bytes = match reader {
            Reader::Own => usize::MAX,
            Reader::Other => shard.leases().borrow().room_bytes().saturating_sub(found.bytes),
        };
        let bytes_max = position.bytes_max.min(request.bytes_max.saturating_sub(found.bytes)).min(room_bytes);
        let read = match shard.store().read(position.partition, position.offset, bytes_max, first).await {
            Ok(read) => read,
            Err(error) => {
                found.partitions.push(Err(error));
                continue;
            }
        };
        // The first batch may exceed every limit but this one: memory that cannot be lent cannot be sent.
        let is_lendable = read.bytes <= room_bytes;
        let bytes = if is_lendable { read.bytes } else { 0 };
        let slices = if is_lendable { read.slices } else { Vec::new() };
        if bytes > 0 {
            first = millrace_engine::store::FirstBatch::WithinLimit;
        }
        found.bytes += bytes;
        found.partitions.push(Ok(ReadPartition { piece_count: slices.len(), bytes, offsets: read.offsets }));
        found.slices.extend(slices);
    }
    found
}

/// Arms a watch of another shard on everything that was read.
fn arm<E: Env>(
    shard: &Shard<E>,
    source: ShardIndex,
    watch: WatchId,
    found: &Found<LogSlice<E>>,
    request: &Read,
) -> bool {
    shard.watches().arm(source, watch, |event| attach_to_logs(shard, found, request, event))
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

async fn find_offset<E: Env>(shard: &Shard<E>, query: &OffsetQuery) -> Result<Option<FoundOffset>, ReadError> {
    let id: PartitionId = query.partition;
    let offsets = shard.store().offsets(id).ok_or(ReadError::UnknownLog)?;
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
