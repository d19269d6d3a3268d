//! The answer to a Fetch: a small encoded part and the records where they lie.

use std::vec::IntoIter;

use millrace_engine::store::ReadError;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::fetch_response::{self, FetchAnswer, encode_fetch_response};
use millrace_protocol::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use millrace_runtime::Env;

use super::super::{Context, errors};
use super::plan::{Group, Plan, Slot};
use crate::fetch_session::{Closed, Marks, Naming, Outcome, TopicKey, Wanted};
use crate::net::connection::Close;
use crate::net::outgoing::Outgoing;
use crate::shard::mailbox::message::ReadPartition;
use crate::shard::router::{Piece, ReadAnswer};

/// The answer to every partition that was wanted, in that order.
pub(super) struct Found<E: Env> {
    data: Vec<PartitionData<'static>>,
    /// The pieces that are sent.
    pieces: Vec<Piece<E>>,
    /// By partition.
    piece_counts: Vec<usize>,
    /// By partition.
    records_bytes: Vec<usize>,
}

impl<E: Env> Found<E> {
    /// What came of each partition.
    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        let outcome = |(data, records_bytes): (&PartitionData<'_>, &usize)| Outcome {
            has_records: *records_bytes > 0,
            has_error: data.error_code != ErrorCode::None.code(),
            marks: Marks {
                high_watermark: data.high_watermark,
                last_stable: data.last_stable_offset,
                log_start: data.log_start_offset,
            },
        };
        self.data.iter().zip(&self.records_bytes).map(outcome).collect()
    }

    /// Encodes the partitions that the client is told of.
    pub(super) fn encode(
        self,
        context: &Context<'_, E>,
        wanted: &[Wanted],
        closed: &Closed,
        outgoing: &mut Outgoing<E>,
    ) -> Result<(), Close> {
        let (mut piece_counts, mut records_bytes) = (Vec::new(), Vec::new());
        let mut responses: Vec<FetchableTopicResponse<'_>> = Vec::new();
        let mut last_topic = None;
        for (index, (data, key)) in self.data.into_iter().zip(wanted.iter().map(|wanted| &wanted.key)).enumerate() {
            if !closed.is_told[index] {
                assert!(self.piece_counts[index] == 0, "a partition with records has news");
                continue;
            }
            piece_counts.push(self.piece_counts[index]);
            records_bytes.push(self.records_bytes[index]);
            if last_topic != Some(&key.topic) {
                last_topic = Some(&key.topic);
                responses.push(match &key.topic {
                    TopicKey::Name(topic) => FetchableTopicResponse { topic, ..FetchableTopicResponse::default() },
                    TopicKey::Id(id) => FetchableTopicResponse { topic_id: *id, ..FetchableTopicResponse::default() },
                });
            }
            let topic = responses.last_mut().expect("the partition's topic was pushed");
            topic.partitions.push(PartitionData { partition_index: key.partition, ..data });
        }
        let response = FetchResponse { session_id: closed.session_id, responses, ..FetchResponse::default() };

        let mut order = Vec::new();
        let answer = FetchAnswer { version: context.head.version, correlation_id: context.head.correlation_id };
        encode_fetch_response(outgoing.writer(), &mut order, answer, &response, &records_bytes)?;
        let mut pieces = self.pieces.into_iter();
        let mut position = 0;
        for part in order {
            match part {
                fetch_response::Piece::Meta(range) => position = range.end,
                fetch_response::Piece::Records { ordinal, .. } => {
                    outgoing.insert_records(position, pieces.by_ref().take(piece_counts[ordinal]));
                }
            }
        }
        Ok(())
    }
}

/// The owners' answers, while they are taken in the order of what is wanted, within the request's limit.
pub(super) struct Gathered<E: Env> {
    /// By group.
    groups: Vec<GroupRest<E>>,
    naming: Naming,
    bytes_left: usize,
    is_first: bool,
    found: Found<E>,
}

/// What is left of one owner's answer.
struct GroupRest<E: Env> {
    results: IntoIter<Result<ReadPartition, ReadError>>,
    /// The partitions' own limits.
    bytes_max: IntoIter<usize>,
    pieces: IntoIter<Piece<E>>,
}

impl<E: Env> Gathered<E> {
    pub(super) fn new(plan: &Plan, answers: Vec<ReadAnswer<E>>, naming: Naming) -> Self {
        let rest = |(group, answer): (&Group, ReadAnswer<E>)| {
            let bytes_max: Vec<_> = group.read.partitions.iter().map(|position| position.bytes_max).collect();
            let (results, pieces) = (answer.partitions.into_iter(), answer.pieces.into_iter());
            GroupRest { results, bytes_max: bytes_max.into_iter(), pieces }
        };
        let groups = plan.groups().iter().zip(answers).map(rest);
        let count = plan.slots.len();
        let found = Found {
            data: Vec::with_capacity(count),
            pieces: Vec::new(),
            piece_counts: Vec::with_capacity(count),
            records_bytes: Vec::with_capacity(count),
        };
        Self { groups: groups.collect(), naming, bytes_left: plan.bytes_max, is_first: true, found }
    }

    /// Takes the answers for all partitions.
    pub(super) fn take_all(mut self, plan: &Plan, request: &FetchRequest<'_>) -> Found<E> {
        let is_committed = request.isolation_level == READ_COMMITTED;
        for slot in &plan.slots {
            let (mut data, piece_count, bytes) = match slot {
                Slot::Refused(error) => (refuse(*error), 0, 0),
                Slot::Group(index) => self.take_of(*index),
            };
            // Without transactions nothing is ever aborted; null stands for "not asked" (FetchResponse.json). Of a
            // partition that cannot be found, or may not be read, Kafka does not look whether somebody asked.
            let is_missing = matches!(slot, Slot::Refused(error) if is_missing(*error));
            data.aborted_transactions = (is_committed || is_missing).then(Vec::new);
            self.found.data.push(data);
            self.found.piece_counts.push(piece_count);
            self.found.records_bytes.push(bytes);
        }
        self.found
    }

    fn take_of(&mut self, index: usize) -> (PartitionData<'static>, usize, usize) {
        let GroupRest { results, bytes_max, pieces } = &mut self.groups[index];
        let bytes_max = bytes_max.next().expect("every partition that was read has a limit").min(self.bytes_left);
        let found = match results.next().expect("every partition that was read has a result") {
            Ok(found) => found,
            Err(error) => return (refuse(errors::read(&error, self.naming.into())), 0, 0),
        };
        let data = PartitionData {
            high_watermark: found.offsets.high_watermark.get(),
            last_stable_offset: found.offsets.last_stable.get(),
            log_start_offset: found.offsets.start.get(),
            ..PartitionData::default()
        };
        let taken = pieces.by_ref().take(found.piece_count);
        // Each owner let its own first batch exceed the limits; only the first of them all may (KIP-74).
        if found.bytes == 0 || (found.bytes > bytes_max && !self.is_first) {
            taken.for_each(drop);
            return (data, 0, 0);
        }
        self.found.pieces.extend(taken);
        self.is_first = false;
        self.bytes_left = self.bytes_left.saturating_sub(found.bytes);
        (data, found.piece_count, found.bytes)
    }
}

/// Whether it stands for a partition that is not there for this client.
fn is_missing(error: ErrorCode) -> bool {
    use ErrorCode::{InvalidTopicException, TopicAuthorizationFailed, UnknownTopicId, UnknownTopicOrPartition};
    matches!(error, InvalidTopicException | TopicAuthorizationFailed | UnknownTopicId | UnknownTopicOrPartition)
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
