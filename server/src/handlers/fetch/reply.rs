//! The answer to a Fetch: a small encoded part and the records where they lie.

use std::vec::IntoIter;

use millrace_engine::store::ReadError;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::fetch_response::{self, FetchAnswer, encode_fetch_response};
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use millrace_runtime::Env;

use super::super::errors::Naming;
use super::super::{Context, errors};
use super::plan::{BY_ID_FROM, Plan, Slot};
use crate::net::connection::Close;
use crate::net::outgoing::Outgoing;
use crate::shard::mailbox::message::ReadPartition;
use crate::shard::router::{Piece, ReadAnswer};

/// Encodes what was read, in the order of the request.
pub(super) fn encode<E: Env>(
    context: &Context<'_, E>,
    request: &FetchRequest<'_>,
    plan: &Plan,
    answers: Vec<ReadAnswer<E>>,
    outgoing: &mut Outgoing<E>,
) -> Result<(), Close> {
    let naming = if context.head.version >= BY_ID_FROM { Naming::Id } else { Naming::Name };
    let mut gathered = Gathered::new(plan, answers, naming);
    let is_committed = request.isolation_level == READ_COMMITTED;
    let mut slots = plan.slots.iter();
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for (partition, slot) in topic.partitions.iter().zip(slots.by_ref()) {
            let mut data = gathered.take(*slot);
            data.partition_index = partition.partition;
            // Without transactions nothing is ever aborted; null stands for "not asked" (FetchResponse.json).
            data.aborted_transactions = is_committed.then(Vec::new);
            partitions.push(data);
        }
        responses.push(FetchableTopicResponse { topic: topic.topic, topic_id: topic.topic_id, partitions });
    }
    let response = FetchResponse { responses, ..FetchResponse::default() };

    let mut order = Vec::new();
    let answer = FetchAnswer { version: context.head.version, correlation_id: context.head.correlation_id };
    encode_fetch_response(outgoing.writer(), &mut order, answer, &response, &gathered.records_bytes)?;
    let mut pieces = gathered.pieces.into_iter();
    let mut position = 0;
    for part in order {
        match part {
            fetch_response::Piece::Meta(range) => position = range.end,
            fetch_response::Piece::Records { ordinal, .. } => {
                outgoing.insert_records(position, pieces.by_ref().take(gathered.piece_counts[ordinal]));
            }
        }
    }
    Ok(())
}

/// Results taken from the owners' answers in the order of the request, within the request's limit.
struct Gathered<E: Env> {
    /// By group.
    groups: Vec<GroupRest<E>>,
    naming: Naming,
    bytes_left: usize,
    is_first: bool,
    /// The pieces that are sent.
    pieces: Vec<Piece<E>>,
    /// By partition.
    piece_counts: Vec<usize>,
    /// By partition.
    records_bytes: Vec<usize>,
}

/// What is left of one owner's answer.
struct GroupRest<E: Env> {
    results: IntoIter<Result<ReadPartition, ReadError>>,
    pieces: IntoIter<Piece<E>>,
}

impl<E: Env> Gathered<E> {
    fn new(plan: &Plan, answers: Vec<ReadAnswer<E>>, naming: Naming) -> Self {
        let groups = answers
            .into_iter()
            .map(|answer| GroupRest { results: answer.partitions.into_iter(), pieces: answer.pieces.into_iter() });
        Self {
            groups: groups.collect(),
            naming,
            bytes_left: plan.bytes_max,
            is_first: true,
            pieces: Vec::new(),
            piece_counts: Vec::with_capacity(plan.slots.len()),
            records_bytes: Vec::with_capacity(plan.slots.len()),
        }
    }

    /// The answer for the next partition, without its index.
    fn take(&mut self, slot: Slot) -> PartitionData<'static> {
        let (data, piece_count, bytes) = match slot {
            Slot::Refused(error) => (refuse(error), 0, 0),
            Slot::Group(index) => self.take_of(index),
        };
        self.piece_counts.push(piece_count);
        self.records_bytes.push(bytes);
        data
    }

    fn take_of(&mut self, index: usize) -> (PartitionData<'static>, usize, usize) {
        let GroupRest { results, pieces } = &mut self.groups[index];
        let found = match results.next().expect("every partition that was read has a result") {
            Ok(found) => found,
            Err(error) => return (refuse(errors::read(&error, self.naming)), 0, 0),
        };
        let data = PartitionData {
            high_watermark: found.offsets.high_watermark.get(),
            last_stable_offset: found.offsets.last_stable.get(),
            log_start_offset: found.offsets.start.get(),
            ..PartitionData::default()
        };
        let taken = pieces.by_ref().take(found.piece_count);
        // Each owner let its own first batch exceed the limits; only the first of them all may (KIP-74).
        if found.bytes == 0 || (found.bytes > self.bytes_left && !self.is_first) {
            taken.for_each(drop);
            return (data, 0, 0);
        }
        self.pieces.extend(taken);
        self.is_first = false;
        self.bytes_left = self.bytes_left.saturating_sub(found.bytes);
        (data, found.piece_count, found.bytes)
    }
}

fn refuse(error: ErrorCode) -> PartitionData<'static> {
    PartitionData {
        error_code: error.code(),
        high_watermark: UNKNOWN,
        last_stable_offset: UNKNOWN,
        log_start_offset: UNKNOWN,
        ..PartitionData::default()
    }
}

const READ_COMMITTED: i8 = 1;
const UNKNOWN: i64 = -1;
