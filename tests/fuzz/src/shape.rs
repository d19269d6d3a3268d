//! Batches and logs of arbitrary shape: most of them whole, with every codec, gaps, markers and producers, and some of
//! them odd in one place behind a checksum that holds.

use arbitrary::{Arbitrary, Unstructured};
use millrace_protocol::batch::{
    Attributes, BatchBuilder, BatchFields, BatchHeader, BatchRewriter, BatchView, ProducerFields,
    assign_log_append_time, assign_offsets,
};

use crate::sealing;

/// Batches that follow each other, from some offset on.
#[derive(Arbitrary, Clone, Debug)]
pub struct ShapedLog {
    /// First offset, if the log has a choice of it.
    pub start: u8,
    /// The batches, at most [`BATCHES_MAX`].
    #[arbitrary(with = |input: &mut Unstructured<'_>| several(input, BATCHES_MAX))]
    pub batches: Vec<ShapedBatch>,
}

/// One batch.
#[derive(Arbitrary, Clone, Debug)]
pub struct ShapedBatch {
    /// Offsets left out before it. Only one in four batches leaves any.
    pub gap: u8,
    /// How much the leader epoch rises.
    pub epoch_step: u8,
    /// The codec, by its code; above 4 none.
    pub codec: u8,
    /// What it is besides records.
    pub kind: Kind,
    /// Its records, at most [`RECORDS_MAX`]; none means one.
    #[arbitrary(with = |input: &mut Unstructured<'_>| several(input, RECORDS_MAX))]
    pub records: Vec<ShapedRecord>,
    /// Whether it is odd: one batch in sixteen is.
    pub odd: u8,
    /// What is wrong with it then.
    pub oddity: Oddity,
}

/// What sort of batch it is.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Kind {
    /// Records, nothing more.
    Plain,
    /// The time of append holds for all records.
    AppendTime(i32),
    /// From an idempotent producer.
    Produced {
        /// Its id.
        id: u8,
        /// The first record's sequence.
        sequence: u16,
    },
    /// Part of a transaction.
    Transactional {
        /// The producer's id.
        id: u8,
    },
    /// A broker's marker.
    Control {
        /// The producer's id.
        id: u8,
    },
}

/// One record.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct ShapedRecord {
    /// The key, of few; none in one of eight.
    pub key: u8,
    /// Length of the value; a tombstone if a multiple of four.
    pub value_bytes: u8,
    /// The time.
    pub timestamp: i16,
}

/// What is wrong with a batch whose checksum holds.
#[derive(Arbitrary, Clone, Debug)]
pub enum Oddity {
    /// Header bytes from `at` on are others.
    Header {
        /// Which byte, modulo the header.
        at: u8,
        /// What stands there.
        bytes: [u8; 4],
    },
    /// A byte of the records is another.
    Records {
        /// Which one, modulo their length.
        at: u16,
        /// What stands there.
        byte: u8,
    },
    /// The records, whatever the header says of them, are these bytes.
    Noise(Vec<u8>),
}

/// So many batches a log has at most.
pub const BATCHES_MAX: usize = 24;
/// So many records a batch has at most.
pub const RECORDS_MAX: usize = 12;

impl ShapedLog {
    /// The log's bytes, the first batch at `start` unless it leaves a gap, and the offset behind its last batch.
    pub fn bytes(&self, start: i64) -> (Vec<u8>, i64) {
        let (mut log, mut offset, mut epoch) = (Vec::new(), start, 0_i32);
        for shaped in &self.batches {
            epoch = epoch.wrapping_add(i32::from(shaped.epoch_step / 64));
            let gap = if shaped.gap.is_multiple_of(4) { i64::from(shaped.gap / 4) } else { 0 };
            // A log near the end of the number range stays there.
            offset = offset.saturating_add(gap);
            let batch = shaped.bytes(offset, epoch);
            // An odd batch says itself where it ends, if that makes any sense.
            let last = BatchHeader::parse(&batch).map_or(offset, |(header, _)| header.last_offset());
            let plausible = offset..offset.saturating_add(1 << 40);
            offset = if plausible.contains(&last) { last } else { offset }.saturating_add(1);
            log.extend_from_slice(&batch);
        }
        (log, offset)
    }
}

impl ShapedBatch {
    /// The batch at `base_offset`.
    pub fn bytes(&self, base_offset: i64, leader_epoch: i32) -> Vec<u8> {
        let mut batch = compressed(&self.plain(), self.codec);
        if let Kind::AppendTime(timestamp) = self.kind {
            assign_log_append_time(&mut batch, i64::from(timestamp));
        }
        assign_offsets(&mut batch, base_offset, leader_epoch);
        if self.odd < 240 {
            return batch;
        }
        match &self.oddity {
            Oddity::Header { at, bytes } => {
                let at = usize::from(*at) % (HEADER_BYTES - bytes.len());
                batch[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Oddity::Records { at, byte } => {
                let at = HEADER_BYTES + usize::from(*at) % (batch.len() - HEADER_BYTES);
                batch[at] = *byte;
            }
            Oddity::Noise(noise) => {
                batch.truncate(HEADER_BYTES);
                batch.extend_from_slice(noise);
            }
        }
        sealing::batch(&mut batch);
        batch
    }

    fn plain(&self) -> Vec<u8> {
        let attributes = Attributes::default();
        let (attributes, producer) = match self.kind {
            Kind::Plain | Kind::AppendTime(_) => (attributes, None),
            Kind::Produced { id, sequence } => (attributes, Some((id, i32::from(sequence)))),
            Kind::Transactional { id } => (attributes.with_transactional(), Some((id, 0))),
            Kind::Control { id } => (attributes.with_transactional().with_control(), Some((id, -1))),
        };
        let producer =
            producer.map(|(id, base_sequence)| ProducerFields { id: i64::from(id % 4), epoch: 0, base_sequence });
        let mut builder = BatchBuilder::new(BatchFields { attributes, producer, ..BatchFields::default() });
        for record in &self.records {
            let key = [b'k', record.key / 8 % 8];
            let value = vec![record.key; usize::from(record.value_bytes)];
            let key = (record.key % 8 != 0).then_some(key.as_slice());
            let value = (record.value_bytes % 4 != 0).then_some(value.as_slice());
            builder.push(i64::from(record.timestamp), key, value);
        }
        if builder.record_count() == 0 {
            builder.push(0, Some(b"key"), Some(b"value"));
        }
        builder.build()
    }
}

const HEADER_BYTES: usize = millrace_protocol::batch::BATCH_BYTES_MIN;

/// As many as the next byte says, up to `count_max`. By its own measure `arbitrary` would nearly always give one or two.
fn several<'a, T: Arbitrary<'a>>(input: &mut Unstructured<'a>, count_max: usize) -> arbitrary::Result<Vec<T>> {
    let count = usize::from(input.arbitrary::<u8>()?) % (count_max + 1);
    let mut several = Vec::new();
    while several.len() < count && !input.is_empty() {
        several.push(input.arbitrary()?);
    }
    Ok(several)
}

/// The same batch with its records compressed.
fn compressed(plain: &[u8], codec: u8) -> Vec<u8> {
    let view = BatchView::parse(plain).expect("the builder makes batches");
    let codec = if codec > 4 { 0 } else { i16::from(codec) };
    let attributes = view.header().attributes().0 | codec;
    let (mut rewriter, mut output) = (BatchRewriter::default(), Vec::new());
    rewriter.begin(&BatchHeader { attributes: attributes.into(), ..*view.header() }, None);
    for record in view.records().expect("the builder does not compress") {
        rewriter.push(&record.expect("the builder makes records"));
    }
    rewriter.finish(&mut output).expect("small records can be compressed");
    output
}
