//! Produce requests in the version that needs no copy of the records: what stands around them has a fixed size.
//!
//! ```text
//! | head, up to the count of partitions | index int32 | length int32 | batch header | records | index int32 | ...
//! ```

use std::io::IoSlice;

use anyhow::Context as _;
use millrace_protocol::batch::BATCH_BYTES_MIN;
use millrace_protocol::frame::{LENGTH_BYTES, encode_request};
use millrace_protocol::header::decode_response_header;
use millrace_protocol::messages::produce::{ProduceRequest, ProduceResponse, TopicProduceData};
use millrace_protocol::wire::{Message as _, Reader, Writer};

use crate::client::control::CLIENT_ID;
use crate::workload::batch::Template;

/// The last one without flexible encodings; every broker from 2.4 on has it.
pub(super) const PRODUCE_VERSION: i16 = 8;
const TIMEOUT_MS: i32 = 30_000;

/// The head of all requests for one topic.
pub(super) struct RequestHead(Vec<u8>);

impl RequestHead {
    pub(super) fn new(topic: &str, acks: i16) -> anyhow::Result<Self> {
        let topic = TopicProduceData { name: topic, ..TopicProduceData::default() };
        let request = ProduceRequest { transactional_id: None, acks, timeout_ms: TIMEOUT_MS, topic_data: vec![topic] };
        let mut writer = Writer::new();
        encode_request(&mut writer, PRODUCE_VERSION, 0, Some(CLIENT_ID), &request)?;
        Ok(Self(writer.into_bytes()))
    }

    /// Writes everything but the records into `meta`, and gives the bytes of the batches.
    pub(super) fn lay_out(
        &self,
        meta: &mut Vec<u8>,
        correlation_id: i32,
        partitions: impl ExactSizeIterator<Item = i32>,
        batches: &[Template],
    ) -> anyhow::Result<u64> {
        meta.clear();
        meta.extend_from_slice(&self.0);
        let count = i32::try_from(partitions.len()).context("partitions of a request")?;
        let count_start = meta.len() - COUNT_BYTES;
        meta[count_start..].copy_from_slice(&count.to_be_bytes());
        meta[CORRELATION_ID_START..CORRELATION_ID_START + 4].copy_from_slice(&correlation_id.to_be_bytes());
        let (mut records_bytes, mut batches_bytes) = (0, 0);
        for (partition, batch) in partitions.zip(batches) {
            let batch_bytes = BATCH_BYTES_MIN + batch.records().len();
            meta.extend_from_slice(&partition.to_be_bytes());
            meta.extend_from_slice(&i32::try_from(batch_bytes).context("bytes of a batch")?.to_be_bytes());
            meta.extend_from_slice(batch.header());
            records_bytes += batch.records().len();
            batches_bytes += batch_bytes;
        }
        let length = i32::try_from(meta.len() - LENGTH_BYTES + records_bytes).context("bytes of a request")?;
        meta[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(crate::numbers::u64_of(batches_bytes))
    }

    /// The pieces of the request whose rest is in `meta`, in their order.
    pub(super) fn pieces<'a>(&self, meta: &'a [u8], batches: &'a [Template]) -> Vec<IoSlice<'a>> {
        let mut pieces = Vec::with_capacity(2 * batches.len());
        let mut start = 0;
        let mut end = self.0.len() + PARTITION_BYTES;
        for batch in batches {
            pieces.push(IoSlice::new(&meta[start..end]));
            pieces.push(IoSlice::new(batch.records()));
            start = end;
            end += PARTITION_BYTES;
        }
        pieces
    }
}

/// Reads an answer, whose correlation id has been looked at.
pub(super) fn decode_answer(frame: &[u8]) -> anyhow::Result<ProduceResponse<'_>> {
    let mut reader = Reader::new(frame);
    decode_response_header(&mut reader, ProduceResponse::API_KEY, PRODUCE_VERSION)?;
    let answer = ProduceResponse::decode(&mut reader, PRODUCE_VERSION).context("decoding an answer to Produce")?;
    reader.finish()?;
    Ok(answer)
}

const CORRELATION_ID_START: usize = LENGTH_BYTES + 4;
const COUNT_BYTES: usize = 4;
/// Index, length and batch header.
const PARTITION_BYTES: usize = 8 + BATCH_BYTES_MIN;

#[cfg(test)]
mod tests {
    use millrace_protocol::batch::{BatchView, Compression};
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::workload::batch::{BatchShape, Stamping};
    use crate::workload::keys::{KeySource, Keys};
    use crate::workload::records::{Size, Values};
    use crate::workload::stamp::Stamp;

    #[test]
    fn the_pieces_are_the_request_that_a_broker_reads() {
        let shape = BatchShape {
            values: Values::Made(Size { bytes_min: 100, bytes_max: 100 }),
            keys: KeySource::new(Keys::None),
            batch_bytes: 1000,
            records_max: 100,
            compression: Compression::None,
            stamping: Stamping::First,
        };
        let mut random = SmallRng::seed_from_u64(1);
        let mut templates: Vec<_> = (0..3).map(|_| Template::draw(&shape, &mut 0, &mut random).unwrap()).collect();
        for template in &mut templates {
            let stamp = Stamp { producer: 1, sequence: 2, due_nanos: 3 };
            template.make(template.record_count(), 77, None, |_| stamp).unwrap();
        }
        let head = RequestHead::new("topic", -1).unwrap();
        let mut meta = Vec::new();
        let bytes = head.lay_out(&mut meta, 42, [5, 6, 7].into_iter(), &templates).unwrap();
        let frame: Vec<u8> = head.pieces(&meta, &templates).iter().flat_map(|piece| piece.to_vec()).collect();
        let mut reader = Reader::new(&frame);
        assert_eq!(usize::try_from(reader.read_i32().unwrap()).unwrap(), frame.len() - 4);
        let request_head = millrace_protocol::header::RequestHead::decode(&mut reader).unwrap();
        assert_eq!((request_head.correlation_id, request_head.client_id), (42, Some(CLIENT_ID)));
        let request = ProduceRequest::decode(&mut reader, PRODUCE_VERSION).unwrap();
        reader.finish().unwrap();
        let partitions = &request.topic_data[0].partition_data;
        assert_eq!(partitions.iter().map(|partition| partition.index).collect::<Vec<_>>(), [5, 6, 7]);
        let batches = partitions.iter().map(|partition| BatchView::parse_produced(partition.records.unwrap()).unwrap());
        let sizes: usize = batches.map(|batch| batch.bytes().len()).sum();
        assert_eq!(crate::numbers::u64_of(sizes), bytes);
    }
}
