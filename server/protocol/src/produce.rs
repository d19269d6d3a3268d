//! Reads Produce requests for the hot path: where names and records stand, without copying or borrowing either.
//!
//! [`ProducePositions`] holds positions instead of references, so that a broker can keep it beside the frame it
//! describes, send both to other shards, and use its memory again for the next request. The generated
//! [`crate::messages::produce::ProduceRequest`] is the same message in the usual shape; a test holds both together.
//!
//! Invariants: topics and partitions stand in the order of the request; the partitions of one topic are neighbours;
//! every range lies within the frame that was read.

use std::ops::Range;

use crate::messages::produce::ProduceRequest;
use crate::wire::{DecodeError, Layout, Reader, Uuid, is_amplification_bounded};

/// Where everything stands in the frame of one Produce request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducePositions {
    /// The transactional id, if the producer has one.
    pub transactional_id: Option<Range<usize>>,
    /// How many acknowledgements the producer asks for: 0, 1, or -1 for all. Not checked here.
    pub acks: i16,
    /// How long the leader may wait for acknowledgements.
    pub timeout_ms: i32,
    /// The topics.
    pub topics: Vec<TopicPosition>,
    /// The partitions of all topics.
    pub partitions: Vec<PartitionPosition>,
}

/// One topic of a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPosition {
    /// What the request calls the topic.
    pub name_or_id: TopicKey,
    /// Which entries of [`ProducePositions::partitions`] belong to it.
    pub partitions: Range<usize>,
}

/// How a Produce request names a topic: by name up to version 12, by id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicKey {
    /// Where the name stands in the frame; checked to be UTF-8.
    Name(Range<usize>),
    /// The id.
    Id(Uuid),
}

/// One partition of a Produce request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionPosition {
    /// Which entry of [`ProducePositions::topics`] it belongs to.
    pub topic: usize,
    /// The partition's number in its topic.
    pub index: i32,
    /// Where the records stand in the frame, if there are any.
    pub records: Option<Range<usize>>,
}

impl ProducePositions {
    /// Reads a body in place of what was held before, and keeps the memory. Positions count from the start of the
    /// bytes that `reader` was made from: make it from the whole frame.
    pub fn decode(&mut self, reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
        self.topics.clear();
        self.partitions.clear();
        if !ProduceRequest::VERSIONS.contains(version) {
            return Err(DecodeError::UnsupportedVersion { version });
        }
        let layout = Layout::at(version, FLEXIBLE_FROM);
        let transactional_id = reader.read_nullable_string(layout)?.map(str::len);
        self.transactional_id = transactional_id.map(|byte_count| range_before(reader, byte_count));
        self.acks = reader.read_i16()?;
        self.timeout_ms = reader.read_i32()?;
        let topic_count = read_count(reader, layout, TOPIC_BYTES_MIN, size_of::<TopicPosition>())?;
        for _ in 0..topic_count {
            self.decode_topic(reader, version)?;
        }
        skip_tags(reader, layout)
    }

    /// The transactional id in the frame that was read.
    pub fn transactional_id<'a>(&self, frame: &'a [u8]) -> Option<&'a str> {
        text(frame, self.transactional_id.as_ref()?)
    }

    fn decode_topic(&mut self, reader: &mut Reader<'_>, version: i16) -> Result<(), DecodeError> {
        let layout = Layout::at(version, FLEXIBLE_FROM);
        let name_or_id = if version >= TOPIC_ID_FROM {
            TopicKey::Id(reader.read_uuid()?)
        } else {
            let byte_count = reader.read_string(layout)?.len();
            TopicKey::Name(range_before(reader, byte_count))
        };
        let partitions_start = self.partitions.len();
        let partition_count = read_count(reader, layout, PARTITION_BYTES_MIN, size_of::<PartitionPosition>())?;
        for _ in 0..partition_count {
            let index = reader.read_i32()?;
            let records = reader.read_nullable_bytes(layout)?.map(<[u8]>::len);
            let records = records.map(|byte_count| range_before(reader, byte_count));
            skip_tags(reader, layout)?;
            self.partitions.push(PartitionPosition { topic: self.topics.len(), index, records });
        }
        skip_tags(reader, layout)?;
        self.topics.push(TopicPosition { name_or_id, partitions: partitions_start..self.partitions.len() });
        Ok(())
    }
}

impl TopicKey {
    /// The name in the frame that was read; none if the request goes by id.
    pub fn name<'a>(&self, frame: &'a [u8]) -> Option<&'a str> {
        match self {
            Self::Name(range) => text(frame, range),
            Self::Id(_) => None,
        }
    }
}

/// The count of an array that may not be null and whose entries take `memory_bytes` each. They are charged twice over,
/// because vectors grow by doubling.
fn read_count(
    reader: &mut Reader<'_>,
    layout: Layout,
    element_bytes_min: usize,
    memory_bytes: usize,
) -> Result<usize, DecodeError> {
    let position = reader.position();
    let count = reader.read_nullable_count(layout, element_bytes_min)?;
    let count = count.ok_or(DecodeError::UnexpectedNull { position })?;
    reader.take_memory(count.saturating_mul(2 * memory_bytes))?;
    Ok(count)
}

fn skip_tags(reader: &mut Reader<'_>, layout: Layout) -> Result<(), DecodeError> {
    if layout.is_flexible() { reader.skip_tagged_fields() } else { Ok(()) }
}

/// The range of what was just read.
fn range_before(reader: &Reader<'_>, byte_count: usize) -> Range<usize> {
    reader.position() - byte_count..reader.position()
}

fn text<'a>(frame: &'a [u8], range: &Range<usize>) -> Option<&'a str> {
    std::str::from_utf8(frame.get(range.clone())?).ok()
}

/// A topic of a flexible version: the lengths of its name and of its array, and tags.
const TOPIC_BYTES_MIN: usize = 3;
/// A partition of a flexible version: its index, the length of its records, and tags.
const PARTITION_BYTES_MIN: usize = 6;
// What is charged; no well-formed request meets the reader's own limit.
const _: () = assert!(is_amplification_bounded(2 * size_of::<TopicPosition>(), TOPIC_BYTES_MIN));
const _: () = assert!(is_amplification_bounded(2 * size_of::<PartitionPosition>(), PARTITION_BYTES_MIN));

const FLEXIBLE_FROM: i16 = 9;
const TOPIC_ID_FROM: i16 = 13;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::Sampler;
    use crate::wire::Writer;

    /// Reads a body that stands behind a few bytes of header, as it does in a frame.
    fn decode(frame: &[u8], version: i16) -> Result<ProducePositions, DecodeError> {
        let mut reader = Reader::new(frame);
        reader.read_slice(HEADER.len()).unwrap();
        let mut positions = ProducePositions::default();
        positions.decode(&mut reader, version)?;
        reader.finish()?;
        Ok(positions)
    }

    fn frame_of(request: &ProduceRequest<'_>, version: i16) -> Vec<u8> {
        let mut writer = Writer::with_buffer(HEADER.to_vec());
        request.encode(&mut writer, version).unwrap();
        writer.into_bytes()
    }

    const HEADER: &[u8] = b"header";

    #[test]
    fn positions_point_at_what_the_generated_decoder_reads() {
        for version in 3..=13 {
            for seed in 0..200 {
                let request = ProduceRequest::sample(&mut Sampler::new(seed), version);
                let frame = frame_of(&request, version);
                let positions = decode(&frame, version).unwrap();
                assert_eq!(positions.transactional_id(&frame), request.transactional_id);
                assert_eq!((positions.acks, positions.timeout_ms), (request.acks, request.timeout_ms));
                assert_eq!(positions.topics.len(), request.topic_data.len());
                for (topic_index, (topic, data)) in positions.topics.iter().zip(&request.topic_data).enumerate() {
                    match topic.name_or_id {
                        TopicKey::Name(_) => assert_eq!(topic.name_or_id.name(&frame), Some(data.name)),
                        TopicKey::Id(id) => assert_eq!(id, data.topic_id),
                    }
                    let partitions = &positions.partitions[topic.partitions.clone()];
                    assert_eq!(partitions.len(), data.partition_data.len());
                    for (partition, data) in partitions.iter().zip(&data.partition_data) {
                        assert_eq!((partition.topic, partition.index), (topic_index, data.index));
                        assert_eq!(partition.records.clone().map(|range| &frame[range]), data.records);
                    }
                }
            }
        }
    }

    #[test]
    fn both_decoders_refuse_the_same_bytes() {
        for version in 2..=14 {
            for seed in 0..300 {
                let mut random = Sampler::new(seed);
                let mut frame = frame_of(&ProduceRequest::sample(&mut random, 9), 9);
                let index = HEADER.len() + random.below(frame.len() - HEADER.len());
                frame[index] = random.next_i8().cast_unsigned();
                let mut reader = Reader::new(&frame[HEADER.len()..]);
                let generated = ProduceRequest::decode(&mut reader, version).and_then(|_| reader.finish());
                assert_eq!(decode(&frame, version).is_ok(), generated.is_ok(), "version {version} seed {seed}");
            }
        }
    }

    #[test]
    fn a_second_request_replaces_the_first() {
        let mut positions = ProducePositions::default();
        for seed in 0..20 {
            let frame = frame_of(&ProduceRequest::sample(&mut Sampler::new(seed), 9), 9);
            let body = &frame[HEADER.len()..];
            positions.decode(&mut Reader::new(body), 9).unwrap();
            let mut fresh = ProducePositions::default();
            fresh.decode(&mut Reader::new(body), 9).unwrap();
            assert_eq!(positions, fresh);
        }
    }
}
