//! Reading a shard's logs for an answer to a Fetch, be it for one of its own connections or for another shard.
//!
//! 1. Partitions are read in the order of the request, each in steps of at most [`limits::READ_BYTES_MAX`], until the
//!    request's limits, the end of the logs, or the answer's share of the room for leases is reached. So what waits for the
//!    disk at once is bounded, however large the answer.
//! 2. What the steps give is gathered into parts of about the same size, and each part is held on its own: pinned for a
//!    connection of this shard, lent to another one. A client that takes a large answer gives its memory back in parts.
//! 3. A read that finds no room at all gives nothing, and looks for a client that keeps memory for long ([`RoomSearch`]).
//!
//! No record byte is copied.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use millrace_engine::log::offsets::LogOffsets;
use millrace_engine::store::{self, FirstBatch, ReadError};
use millrace_runtime::local::Event;
use millrace_runtime::{Clock, Env, Moment, Tasks};

use super::mailbox::message::{Read, ReadPartition, ReadPosition, ReadReply, Request};
use super::placement::ShardIndex;
use super::router::{Piece, ReadAnswer};
use super::{LogSlice, Shard, limits};
use crate::net::sweep;

/// The event of a wait, as [`millrace_engine::store::Store::watch`] takes it.
pub type WaitEvent = Rc<Event>;

/// Reads for a connection of this shard. `wait` is notified when more comes than was found.
pub async fn read_own<E: Env>(shard: &Shard<E>, request: &Read, wait: Option<&WaitEvent>) -> ReadAnswer<E> {
    let pin = |slices: Vec<LogSlice<E>>, bytes| {
        let pin = shard.leases().borrow().pin(bytes)?;
        let own = |slice| Piece::Own { slice, pin: Rc::clone(&pin) };
        Some(slices.into_iter().map(own).collect::<Vec<_>>())
    };
    let found = Reading::new(shard, request, pin).run().await;
    let mut is_watched = false;
    if let Some(event) = wait
        && found.is_wanting(request)
    {
        attach_to_logs(shard, &found.partitions, request, event);
        is_watched = !found.is_starved;
    }
    let pieces = found.parts.into_iter().flatten().collect();
    ReadAnswer { partitions: found.partitions, pieces, is_watched, is_full: found.is_full }
}

/// Reads for another shard: the memory found is lent.
pub async fn read_for<E: Env>(shard: &Shard<E>, source: ShardIndex, request: &Read) -> ReadReply {
    let lend = |slices, _| shard.leases().borrow_mut().lend(slices).ok();
    let found = Reading::new(shard, request, lend).run().await;
    let mut is_watched = false;
    if let Some(watch) = request.watch
        && found.is_wanting(request)
        && !found.is_starved
    {
        let attach = |event: &WaitEvent| attach_to_logs(shard, &found.partitions, request, event);
        is_watched = shard.watches().arm(source, watch, attach);
    }
    ReadReply { partitions: found.partitions, lent: found.parts, is_watched, is_full: found.is_full }
}

/// Has `event` notified when any log that was read grows past what was seen of it; at once if one has already.
fn attach_to_logs<E: Env>(
    shard: &Shard<E>,
    partitions: &[Result<ReadPartition, ReadError>],
    request: &Read,
    event: &WaitEvent,
) {
    let mut has_grown = false;
    for (position, partition) in request.partitions.iter().zip(partitions) {
        let Ok(partition) = partition else { continue };
        has_grown |= shard.store().watch(position.partition, partition.offsets.high_watermark, event);
    }
    if has_grown {
        event.notify();
    }
}

/// What was read, in parts that are held as `P`.
struct Found<P> {
    /// One result per partition, in the order of the request.
    partitions: Vec<Result<ReadPartition, ReadError>>,
    /// The memory of all results, one after the other.
    parts: Vec<P>,
    bytes: usize,
    /// Whether there is something to read and only the memory for it is missing. A watch would not see that change.
    is_starved: bool,
    /// Whether something was found, and there is memory for no more.
    is_full: bool,
}

impl<P> Found<P> {
    /// Whether the reader would rather wait than have this.
    fn is_wanting(&self, request: &Read) -> bool {
        self.bytes < request.bytes_wanted && !self.is_full && self.partitions.iter().all(Result::is_ok)
    }

    fn lack_room(&mut self) {
        if self.bytes == 0 {
            self.is_starved = true;
        } else {
            self.is_full = true;
        }
    }
}

/// A read under way. `hold` keeps slices of so many bytes, or refuses because others took the room meanwhile.
struct Reading<'r, E: Env, P, H: Fn(Vec<LogSlice<E>>, usize) -> Option<P>> {
    shard: &'r Shard<E>,
    request: &'r Read,
    hold: H,
    found: Found<P>,
    /// The part that is being gathered.
    pending: Pending<LogSlice<E>>,
    first: FirstBatch,
    /// Most bytes that there is memory for: the answer's share of the room.
    share_bytes: usize,
}

/// Slices that are not held yet.
struct Pending<S> {
    slices: Vec<S>,
    bytes: usize,
    steps: Vec<Step>,
}

/// What one step found: pieces and bytes of the partition with this index.
struct Step {
    index: usize,
    piece_count: usize,
    bytes: usize,
}

impl<S> Default for Pending<S> {
    fn default() -> Self {
        Self { slices: Vec::new(), bytes: 0, steps: Vec::new() }
    }
}

impl<'r, E: Env, P, H: Fn(Vec<LogSlice<E>>, usize) -> Option<P>> Reading<'r, E, P, H> {
    fn new(shard: &'r Shard<E>, request: &'r Read, hold: H) -> Self {
        let partitions = Vec::with_capacity(request.partitions.len());
        let found = Found { partitions, parts: Vec::new(), bytes: 0, is_starved: false, is_full: false };
        let share_bytes = shard.leases().borrow().share_bytes();
        Self { shard, request, hold, found, pending: Pending::default(), first: request.first, share_bytes }
    }

    async fn run(mut self) -> Found<P> {
        for (index, position) in self.request.partitions.iter().enumerate() {
            if index % limits::READ_PARTITIONS_PER_YIELD == limits::READ_PARTITIONS_PER_YIELD - 1 {
                self.shard.env().tasks().yield_now().await;
            }
            self.read_partition(position).await;
        }
        self.hold_pending();
        if self.found.is_starved {
            self.shard.room_search().search(self.shard);
        }
        self.found
    }

    /// Reads the next partition, step by step, up to the first limit.
    async fn read_partition(&mut self, position: &ReadPosition) {
        let index = self.found.partitions.len();
        let (mut from, mut taken_bytes, mut step_bytes_max) = (position.offset, 0, limits::READ_BYTES_MAX);
        loop {
            let room_bytes = self.shard.leases().borrow().room_bytes().saturating_sub(self.pending.bytes);
            let held_max = self.share_bytes.saturating_sub(self.found.bytes).min(room_bytes);
            let asked_max = self.request.bytes_max.saturating_sub(self.found.bytes);
            let asked_max = asked_max.min(position.bytes_max.saturating_sub(taken_bytes));
            let bytes_max = held_max.min(asked_max);
            if taken_bytes > 0 && bytes_max == 0 {
                self.found.is_full |= asked_max > 0;
                return;
            }
            let step_max = bytes_max.min(step_bytes_max);
            let read = match self.shard.store().read(position.partition, from, step_max, self.first).await {
                Ok(read) => read,
                Err(error) => {
                    // What was read before it stays true. The client hears of it when it asks for what comes next.
                    if index == self.found.partitions.len() {
                        self.found.partitions.push(Err(error));
                    }
                    return;
                }
            };
            self.note_offsets(index, read.offsets);
            let has_more = read.next_offset < read.offsets.high_watermark;
            // The first batch may exceed every limit but this one: memory that cannot be held cannot be sent.
            let is_held = read.bytes <= room_bytes;
            if read.bytes > 0 && is_held {
                from = read.next_offset;
                taken_bytes += read.bytes;
                self.take_step(index, read);
                if !has_more {
                    return;
                }
                self.shard.env().tasks().yield_now().await;
            } else if is_held && has_more && step_max < bytes_max {
                // The next batch is larger than a step.
                step_bytes_max = step_bytes_max.saturating_mul(STEP_GROWTH);
            } else {
                if !is_held || (has_more && held_max < asked_max) {
                    self.found.lack_room();
                }
                return;
            }
        }
    }

    /// Notes where a log stands. A partition's first note makes its result.
    fn note_offsets(&mut self, index: usize, offsets: LogOffsets) {
        match self.found.partitions.get_mut(index) {
            Some(Ok(partition)) => partition.offsets = offsets,
            Some(Err(_)) => unreachable!("a partition that cannot be read is read once"),
            None => self.found.partitions.push(Ok(ReadPartition { piece_count: 0, bytes: 0, offsets })),
        }
    }

    /// Takes what one step has found.
    fn take_step(&mut self, index: usize, read: store::Read<E>) {
        let step = Step { index, piece_count: read.slices.len(), bytes: read.bytes };
        let partition = self.found.partitions[index].as_mut().expect("the step's offsets were noted");
        partition.piece_count += step.piece_count;
        partition.bytes += step.bytes;
        self.found.bytes += step.bytes;
        self.pending.bytes += step.bytes;
        self.pending.slices.extend(read.slices);
        self.pending.steps.push(step);
        self.first = FirstBatch::WithinLimit;
        if self.pending.bytes >= limits::READ_BYTES_MAX {
            self.hold_pending();
        }
    }

    /// Holds what was gathered. When others took the room while this read waited for the disk, it is given up, and nothing
    /// more is read.
    fn hold_pending(&mut self) {
        let Pending { slices, bytes, steps } = std::mem::take(&mut self.pending);
        if slices.is_empty() {
            return;
        }
        if let Some(part) = (self.hold)(slices, bytes) {
            return self.found.parts.push(part);
        }
        for Step { index, piece_count, bytes } in steps {
            let partition = self.found.partitions[index].as_mut().expect("a step belongs to a partition that was read");
            partition.piece_count -= piece_count;
            partition.bytes -= bytes;
            self.found.bytes -= bytes;
        }
        self.share_bytes = 0;
        self.found.lack_room();
    }
}

/// Looks for room when a read has found none.
#[derive(Debug, Default)]
pub struct RoomSearch {
    /// When it last looked.
    looked_at: Cell<Option<Moment>>,
}

impl RoomSearch {
    /// Has every shard close the connection that takes its answer slowest, if any takes one too slowly: what this shard
    /// lacks may be held anywhere.
    fn search<E: Env>(&self, shard: &Shard<E>) {
        let now = shard.env().clock().now();
        if self.looked_at.get().is_some_and(|looked_at| now.saturating_since(looked_at) < SEARCH_PAUSE) {
            return;
        }
        self.looked_at.set(Some(now));
        sweep::close_slowest(shard);
        for peer in ShardIndex::all(shard.shard_count()).filter(|peer| *peer != shard.index()) {
            // Without a slot it is told the next time.
            shard.router().try_tell(peer, Request::FreeRoom);
        }
    }
}

/// How much larger the next step is when a batch is larger than a step.
const STEP_GROWTH: usize = 4;
/// Readers without room look again all the time; this often somebody is closed for them.
const SEARCH_PAUSE: Duration = Duration::from_millis(50);
