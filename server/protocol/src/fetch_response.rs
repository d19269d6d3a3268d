//! Writes Fetch responses for the hot path: everything but the record bytes, with gaps where those belong.
//!
//! The record bytes of a response lie in caches and read buffers of their own. [`encode_fetch_response`] writes what
//! stands before, between and after them into one buffer and lists in which order buffer and records go to the socket:
//!
//! ```text
//! buffer   | length, header, topic, partition 0 | partition 1 | tags |
//! pieces     Meta(0..90)     Records(0)   Meta(90..130)  Records(1)   Meta(130..133)
//! ```
//!
//! The bytes are the same as the generated [`FetchResponse`] gives with the records in it; a test holds every version
//! to that. Must never copy or look at records.

use std::ops::Range;

use crate::api_key::ApiKey;
use crate::frame::LENGTH_BYTES;
use crate::header::encode_response_header;
use crate::messages::fetch::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData, SnapshotId,
};
use crate::wire::{EncodeError, Layout, Writer};

/// What goes to the socket next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the writer's buffer, by their positions in it.
    Meta(Range<usize>),
    /// The records of one partition.
    Records {
        /// The partition's place in the response, counted over all topics; the index into `records_bytes`.
        ordinal: usize,
        /// How many bytes of records. Invariant: at least 1.
        byte_count: usize,
    },
}

/// The version and the number that belong to the request being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchAnswer {
    /// The version of the request.
    pub version: i16,
    /// The request's correlation id.
    pub correlation_id: i32,
}

/// Appends the frame of a Fetch response to `writer` without its records, and the order of its pieces to `pieces`.
///
/// `records_bytes` says for each partition, counted over all topics, how many bytes of records it has; the partitions'
/// own `records` must be none. Gives the size of the whole frame, its length field included. On an error both
/// `writer` and `pieces` are as they were.
pub fn encode_fetch_response(
    writer: &mut Writer,
    pieces: &mut Vec<Piece>,
    answer: FetchAnswer,
    response: &FetchResponse<'_>,
    records_bytes: &[usize],
) -> Result<usize, EncodeError> {
    let (start, piece_count) = (writer.position(), pieces.len());
    let mut encoder = Encoder { writer, pieces, version: answer.version, meta_start: start, ordinal: 0, records_bytes };
    let encoded = encoder.encode(answer.correlation_id, response);
    if encoded.is_err() {
        writer.truncate(start);
        pieces.truncate(piece_count);
    }
    encoded
}

struct Encoder<'e> {
    writer: &'e mut Writer,
    pieces: &'e mut Vec<Piece>,
    version: i16,
    /// Where the metadata that no piece covers yet begins.
    meta_start: usize,
    /// How many partitions were written.
    ordinal: usize,
    records_bytes: &'e [usize],
}

impl Encoder<'_> {
    fn encode(&mut self, correlation_id: i32, response: &FetchResponse<'_>) -> Result<usize, EncodeError> {
        let version = self.version;
        if !FetchResponse::VERSIONS.contains(version) {
            return Err(EncodeError::UnsupportedVersion { version });
        }
        let partition_count: usize = response.responses.iter().map(|topic| topic.partitions.len()).sum();
        assert_eq!(partition_count, self.records_bytes.len(), "every partition has a count of bytes");

        let start = self.writer.position();
        self.writer.write_i32(0);
        encode_response_header(self.writer, ApiKey::Fetch, version, correlation_id)?;
        self.writer.write_i32(response.throttle_time_ms);
        if version >= 7 {
            self.writer.write_error_code(response.error_code);
            self.writer.write_i32(response.session_id);
        } else if response.session_id != 0 {
            return Err(EncodeError::FieldNotInVersion { field: "SessionId", version });
        }
        let layout = self.layout();
        self.writer.write_length(layout, response.responses.len())?;
        for topic in &response.responses {
            self.encode_topic(topic)?;
        }
        self.encode_node_endpoints(response)?;
        self.close_meta();

        let records_bytes: usize = self.records_bytes.iter().sum();
        let frame_bytes = self.writer.position() - start + records_bytes;
        let length = frame_bytes - LENGTH_BYTES;
        let length = i32::try_from(length).map_err(|_| EncodeError::TooLong { length })?;
        self.writer.overwrite_i32(start, length);
        Ok(frame_bytes)
    }

    fn encode_topic(&mut self, topic: &FetchableTopicResponse<'_>) -> Result<(), EncodeError> {
        let layout = self.layout();
        if self.version >= TOPIC_ID_FROM {
            self.writer.write_uuid(topic.topic_id);
        } else {
            self.writer.write_string(layout, topic.topic)?;
        }
        self.writer.write_length(layout, topic.partitions.len())?;
        for partition in &topic.partitions {
            self.encode_partition(partition)?;
        }
        if layout.is_flexible() {
            self.writer.write_uvarint(0);
        }
        Ok(())
    }

    fn encode_partition(&mut self, partition: &PartitionData<'_>) -> Result<(), EncodeError> {
        assert!(partition.records.is_none(), "records travel beside the metadata, never in it");
        let (version, layout) = (self.version, self.layout());
        self.writer.write_i32(partition.partition_index);
        self.writer.write_error_code(partition.error_code);
        self.writer.write_i64(partition.high_watermark);
        self.writer.write_i64(partition.last_stable_offset);
        if version >= 5 {
            self.writer.write_i64(partition.log_start_offset);
        }
        let aborted = partition.aborted_transactions.as_deref();
        self.writer.write_nullable_array(layout, aborted, |writer, element| element.encode(writer, version))?;
        if version >= 11 {
            self.writer.write_i32(partition.preferred_read_replica);
        } else if partition.preferred_read_replica != -1 {
            return Err(EncodeError::FieldNotInVersion { field: "PreferredReadReplica", version });
        }

        let (ordinal, byte_count) = (self.ordinal, self.records_bytes[self.ordinal]);
        self.ordinal += 1;
        // Kafka answers a partition without data with empty records, never with null.
        self.writer.write_length(layout, byte_count)?;
        if byte_count > 0 {
            self.close_meta();
            self.pieces.push(Piece::Records { ordinal, byte_count });
        }
        self.encode_partition_tags(partition)
    }

    fn encode_partition_tags(&mut self, partition: &PartitionData<'_>) -> Result<(), EncodeError> {
        let (version, PartitionData { diverging_epoch, current_leader, snapshot_id, .. }) = (self.version, partition);
        let has_diverging_epoch = *diverging_epoch != EpochEndOffset::default();
        let has_current_leader = *current_leader != LeaderIdAndEpoch::default();
        let has_snapshot_id = *snapshot_id != SnapshotId::default();
        if !self.layout().is_flexible() {
            let fields = [
                (has_diverging_epoch, "DivergingEpoch"),
                (has_current_leader, "CurrentLeader"),
                (has_snapshot_id, "SnapshotId"),
            ];
            return match fields.into_iter().find(|(is_present, _)| *is_present) {
                Some((_, field)) => Err(EncodeError::FieldNotInVersion { field, version }),
                None => Ok(()),
            };
        }
        self.writer.write_tag_count(&[has_diverging_epoch, has_current_leader, has_snapshot_id]);
        if has_diverging_epoch {
            self.writer.write_tagged(0, |writer| diverging_epoch.encode(writer, version))?;
        }
        if has_current_leader {
            self.writer.write_tagged(1, |writer| current_leader.encode(writer, version))?;
        }
        if has_snapshot_id {
            self.writer.write_tagged(2, |writer| snapshot_id.encode(writer, version))?;
        }
        Ok(())
    }

    fn encode_node_endpoints(&mut self, response: &FetchResponse<'_>) -> Result<(), EncodeError> {
        let (version, layout, endpoints) = (self.version, self.layout(), &response.node_endpoints);
        if version < NODE_ENDPOINTS_FROM && !endpoints.is_empty() {
            return Err(EncodeError::FieldNotInVersion { field: "NodeEndpoints", version });
        }
        if !layout.is_flexible() {
            return Ok(());
        }
        self.writer.write_tag_count(&[!endpoints.is_empty()]);
        if !endpoints.is_empty() {
            self.writer.write_tagged(0, |writer| {
                writer.write_array(layout, endpoints, |writer, element| element.encode(writer, version))
            })?;
        }
        Ok(())
    }

    /// Ends the piece of metadata that was being written.
    fn close_meta(&mut self) {
        let end = self.writer.position();
        if end > self.meta_start {
            self.pieces.push(Piece::Meta(self.meta_start..end));
        }
        self.meta_start = end;
    }

    fn layout(&self) -> Layout {
        Layout::at(self.version, FLEXIBLE_FROM)
    }
}

const FLEXIBLE_FROM: i16 = 12;
const TOPIC_ID_FROM: i16 = 13;
const NODE_ENDPOINTS_FROM: i16 = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::encode_response;
    use crate::messages::fetch::NodeEndpoint;
    use crate::sampler::Sampler;

    const CORRELATION_ID: i32 = 0x0102_0304;

    /// Takes the records out of a response, as the broker has them beside it.
    fn split(mut response: FetchResponse<'_>) -> (FetchResponse<'_>, Vec<&[u8]>) {
        let mut records = Vec::new();
        for partition in response.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
            records.push(partition.records.take().unwrap_or_default());
        }
        (response, records)
    }

    #[test]
    fn pieces_and_records_together_are_the_generated_frame() {
        for version in 4..=18 {
            for seed in 0..300 {
                let mut sample = FetchResponse::sample(&mut Sampler::new(seed), version);
                for partition in sample.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                    partition.records.get_or_insert_default();
                }
                let mut expected = Writer::new();
                encode_response(&mut expected, version, CORRELATION_ID, &sample).unwrap();

                let (response, records) = split(sample);
                let records_bytes: Vec<_> = records.iter().map(|records| records.len()).collect();
                let mut writer = Writer::with_buffer(b"an earlier frame".to_vec());
                let mut pieces = Vec::new();
                let answer = FetchAnswer { version, correlation_id: CORRELATION_ID };
                let frame_bytes =
                    encode_fetch_response(&mut writer, &mut pieces, answer, &response, &records_bytes).unwrap();
                let mut frame = Vec::new();
                for piece in pieces {
                    match piece {
                        Piece::Meta(range) => frame.extend_from_slice(&writer.bytes()[range]),
                        Piece::Records { ordinal, byte_count } => {
                            assert_eq!(byte_count, records[ordinal].len());
                            frame.extend_from_slice(records[ordinal]);
                        }
                    }
                }
                assert_eq!(frame, expected.bytes(), "version {version} seed {seed}");
                assert_eq!(frame_bytes, frame.len());
            }
        }
    }

    #[test]
    fn partitions_without_records_make_no_piece() {
        let (mut writer, mut pieces) = (Writer::new(), Vec::new());
        let topic = FetchableTopicResponse { partitions: vec![PartitionData::default(); 3], ..Default::default() };
        let response = FetchResponse { responses: vec![topic], ..FetchResponse::default() };
        let answer = FetchAnswer { version: 12, correlation_id: 1 };
        let frame_bytes = encode_fetch_response(&mut writer, &mut pieces, answer, &response, &[0, 100, 0]).unwrap();
        assert!(matches!(
            &pieces[..],
            [Piece::Meta(_), Piece::Records { ordinal: 1, byte_count: 100 }, Piece::Meta(_)]
        ));
        assert_eq!(frame_bytes, writer.position() + 100);
    }

    #[test]
    fn what_a_version_cannot_carry_is_refused_as_in_the_generated_encoder() {
        let with_partition = |partition| {
            let topic = FetchableTopicResponse { partitions: vec![partition], ..Default::default() };
            FetchResponse { responses: vec![topic], ..FetchResponse::default() }
        };
        let current_leader = LeaderIdAndEpoch { leader_id: 1, leader_epoch: 1 };
        let endpoint = NodeEndpoint { node_id: 1, ..NodeEndpoint::default() };
        let responses = [
            with_partition(PartitionData { current_leader, ..PartitionData::default() }),
            with_partition(PartitionData { preferred_read_replica: 1, ..PartitionData::default() }),
            FetchResponse { session_id: 1, ..FetchResponse::default() },
            FetchResponse { node_endpoints: vec![endpoint], ..FetchResponse::default() },
        ];
        for (response, version) in
            responses.iter().flat_map(|response| (3..=19).map(move |version| (response, version)))
        {
            let records_bytes = vec![0; response.responses.len()];
            let (mut writer, mut pieces) = (Writer::with_buffer(b"before".to_vec()), Vec::new());
            let answer = FetchAnswer { version, correlation_id: 1 };
            let encoded = encode_fetch_response(&mut writer, &mut pieces, answer, response, &records_bytes);
            let generated = encode_response(&mut Writer::new(), version, 1, response);
            assert_eq!(encoded.map(drop), generated, "version {version}");
            if encoded.is_err() {
                assert_eq!((writer.bytes(), pieces.len()), (&b"before"[..], 0));
            }
        }
    }
}
