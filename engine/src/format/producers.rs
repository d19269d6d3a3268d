//! The producers file of a log: what idempotent producers had sent up to some offset.
//!
//! ```text
//! block 0                          block 1                      block 2
//! | file header | head | producers 0 | head | producers      0 | head | producers   0 |
//! ```
//!
//! Producers are sorted by id, none spans two blocks, and every block has a checksum of its own: a reader who knows which
//! ids a block starts with reads one block to find a producer. The file is replaced as a whole, and can be made again
//! from the log.

mod writer;

#[cfg(test)]
mod tests;

pub use writer::{FinishedProducers, ProducersWriter};

use millrace_protocol::batch::crc32c;
use zerocopy::little_endian::{I16, I32, I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{FORMAT_VERSION, parse_offset_name};
use crate::model::{Offset, PartitionId, TopicId};

/// Bytes of a block of the file, which is the block of all I/O.
pub const BLOCK_BYTES: usize = millrace_runtime::BLOCK_BYTES;
/// Batches remembered of a producer: as many requests as it may have in flight.
pub const BATCHES_MAX: usize = 5;

const MAGIC: [u8; 8] = *b"MRPRODUC";
const SUFFIX: &str = ".producers";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    /// CRC-32C of the header behind this field.
    crc: U32,
    version: U32,
    topic: [u8; 16],
    partition: I32,
    block_count: U32,
    producer_count: U64,
    offset: I64,
    reserved: [u8; 8],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBlockHead {
    /// CRC-32C of the block behind this field, padding included.
    crc: U32,
    block_index: U32,
    producer_count: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawProducer {
    id: I64,
    epoch: I16,
    batch_count: u8,
    reserved: u8,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawBatch {
    base_sequence: I32,
    last_sequence: I32,
    base_offset: I64,
    end_offset: I64,
    timestamp: I64,
}

const HEADER_BYTES: usize = size_of::<RawHeader>();
const BLOCK_HEAD_BYTES: usize = size_of::<RawBlockHead>();
const PRODUCER_BYTES: usize = size_of::<RawProducer>();
const BATCH_BYTES: usize = size_of::<RawBatch>();
const HEADER_CRC_START: usize = 12;
const BLOCK_CRC_START: usize = 4;
const _: () = assert!(HEADER_BYTES == 64 && BLOCK_HEAD_BYTES == 12, "docs/FORMAT.md gives the layout byte by byte");
const _: () = assert!(PRODUCER_BYTES == 12 && BATCH_BYTES == 32, "docs/FORMAT.md gives the layout byte by byte");

/// Name of the file of spilled producers, which has the same layout.
pub const SPILL_FILE_NAME: &str = "producers.spill";

/// Name of the producers file as of `offset`, in twenty digits.
pub fn file_name(offset: Offset) -> String {
    format!("{offset:020}{SUFFIX}", offset = offset.get())
}

/// The offset in the name of a producers file.
pub fn parse_file_name(name: &str) -> Option<Offset> {
    parse_offset_name(name, SUFFIX)
}

/// One remembered batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub base_sequence: i32,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset behind its last record.
    pub end_offset: Offset,
    /// Its largest timestamp, in milliseconds.
    pub timestamp: i64,
}

/// What is remembered of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// Its id.
    pub id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// The last batches of that epoch, oldest first; unused places hold the default.
    batches: [ProducerBatch; BATCHES_MAX],
    /// Invariant: 1 to [`BATCHES_MAX`].
    batch_count: u8,
}

impl Producer {
    /// Bytes that a producer takes in a file at least.
    #[expect(clippy::as_conversions, reason = "a constant, and try_from is not const")]
    pub const ENCODED_BYTES_MIN: u64 = (PRODUCER_BYTES + BATCH_BYTES) as u64;

    /// A producer of which one batch is known.
    pub fn new(id: i64, epoch: i16, batch: ProducerBatch) -> Self {
        let mut batches = [ProducerBatch::default(); BATCHES_MAX];
        batches[0] = batch;
        Self { id, epoch, batches, batch_count: 1 }
    }

    /// Remembers the next batch, and forgets the oldest one when there are too many. A batch of another epoch makes the
    /// producer forget those of its own.
    pub fn push(&mut self, epoch: i16, batch: ProducerBatch) {
        if epoch != self.epoch {
            *self = Self::new(self.id, epoch, batch);
            return;
        }
        let count = usize::from(self.batch_count);
        if count < BATCHES_MAX {
            self.batches[count] = batch;
            self.batch_count += 1;
        } else {
            self.batches.rotate_left(1);
            self.batches[BATCHES_MAX - 1] = batch;
        }
    }

    /// The batches, oldest first. Never empty.
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.batches[..usize::from(self.batch_count)]
    }

    /// The newest batch.
    pub fn last(&self) -> &ProducerBatch {
        self.batches().last().expect("a producer is known by a batch")
    }

    /// Bytes in a producers file.
    fn encoded_bytes(&self) -> usize {
        PRODUCER_BYTES + self.batches().len() * BATCH_BYTES
    }
}

/// What a producers file says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducersHeader {
    /// The log.
    pub partition: PartitionId,
    /// All batches below count, none above.
    pub offset: Offset,
    /// Blocks of the file. Invariant: at least 1.
    pub block_count: u32,
    /// Producers in all blocks.
    pub producer_count: u64,
}

impl ProducersHeader {
    /// Reads the header at the start of the first block; `None` when there is no valid one.
    pub fn decode(block: &[u8]) -> Option<Self> {
        let (raw, _) = RawHeader::read_from_prefix(block).ok()?;
        let valid = raw.magic == MAGIC
            && raw.crc.get() == crc32c::checksum(&raw.as_bytes()[HEADER_CRC_START..])
            && raw.version.get() == FORMAT_VERSION
            && raw.partition.get() >= 0
            && raw.offset.get() >= 0
            && raw.block_count.get() > 0;
        valid.then(|| Self {
            partition: PartitionId { topic: TopicId::from_bytes(raw.topic), partition: raw.partition.get() },
            offset: Offset::new(raw.offset.get()),
            block_count: raw.block_count.get(),
            producer_count: raw.producer_count.get(),
        })
    }

    /// The producers in block `block_index`, sorted by id; `None` when it is not a valid block of this file.
    pub fn decode_block(&self, block_index: u32, block: &[u8]) -> Option<Vec<Producer>> {
        let body = block.get(body_start(block_index)..BLOCK_BYTES)?;
        let (head, mut bytes) = RawBlockHead::read_from_prefix(body).ok()?;
        let valid = head.crc.get() == crc32c::checksum(&body[BLOCK_CRC_START..])
            && head.block_index.get() == block_index
            && block_index < self.block_count;
        valid.then_some(())?;
        let producer_count = usize::try_from(head.producer_count.get()).ok()?;
        if producer_count > bytes.len() / (PRODUCER_BYTES + BATCH_BYTES) {
            return None;
        }
        let mut producers: Vec<Producer> = Vec::with_capacity(producer_count);
        for _ in 0..producer_count {
            let (producer, rest) = decode_producer(bytes, self.offset)?;
            if producers.last().is_some_and(|last| last.id >= producer.id) {
                return None;
            }
            producers.push(producer);
            bytes = rest;
        }
        bytes.iter().all(|byte| *byte == 0).then_some(producers)
    }
}

/// The whole file of these producers, which come sorted by id.
///
/// # Panics
/// When they do not, or one has a batch that ends behind `offset`.
pub fn encode<'a>(partition: PartitionId, offset: Offset, producers: impl Iterator<Item = &'a Producer>) -> Vec<u8> {
    let mut writer = ProducersWriter::new(partition, offset);
    for producer in producers {
        writer.push(producer);
    }
    writer.finish().into_bytes()
}

/// Reads a whole file; `None` when it is not a valid one. Bytes behind its last block are not looked at.
pub fn decode(bytes: &[u8]) -> Option<(ProducersHeader, Vec<Producer>)> {
    let header = ProducersHeader::decode(bytes)?;
    let file_bytes = usize::try_from(header.block_count).ok()?.checked_mul(BLOCK_BYTES)?;
    let blocks = bytes.get(..file_bytes)?.chunks_exact(BLOCK_BYTES);
    let mut producers: Vec<Producer> = Vec::new();
    for (block_index, block) in (0..header.block_count).zip(blocks) {
        let decoded = header.decode_block(block_index, block)?;
        let follows = match (producers.last(), decoded.first()) {
            (Some(last), Some(first)) => last.id < first.id,
            _ => true,
        };
        follows.then_some(())?;
        producers.extend(decoded);
    }
    (u64::try_from(producers.len()) == Ok(header.producer_count)).then_some((header, producers))
}

/// Where the block's own part begins: the first block has the file's header in front.
fn body_start(block_index: u32) -> usize {
    if block_index == 0 { HEADER_BYTES } else { 0 }
}

fn decode_producer(bytes: &[u8], end: Offset) -> Option<(Producer, &[u8])> {
    let (raw, rest) = RawProducer::read_from_prefix(bytes).ok()?;
    let batch_count = usize::from(raw.batch_count);
    if raw.id.get() < 0 || raw.reserved != 0 || !(1..=BATCHES_MAX).contains(&batch_count) {
        return None;
    }
    let (encoded, rest) = rest.split_at_checked(batch_count * BATCH_BYTES)?;
    let mut batches = [ProducerBatch::default(); BATCHES_MAX];
    let mut previous_end = Offset::ZERO;
    for (batch, bytes) in batches.iter_mut().zip(encoded.chunks_exact(BATCH_BYTES)) {
        let raw = RawBatch::read_from_bytes(bytes).ok()?;
        let (base, batch_end) = (raw.base_offset.get(), raw.end_offset.get());
        if base < previous_end.get() || batch_end <= base || batch_end > end.get() {
            return None;
        }
        previous_end = Offset::new(batch_end);
        *batch = ProducerBatch {
            base_sequence: raw.base_sequence.get(),
            last_sequence: raw.last_sequence.get(),
            base_offset: Offset::new(base),
            end_offset: previous_end,
            timestamp: raw.timestamp.get(),
        };
    }
    Some((Producer { id: raw.id.get(), epoch: raw.epoch.get(), batches, batch_count: raw.batch_count }, rest))
}
