//! Writes a producers file block by block, so that the producers of a log never have to be in memory all at once.

use millrace_protocol::batch::crc32c;
use zerocopy::IntoBytes;
use zerocopy::little_endian::{I16, I32, I64, U32, U64};

use super::{
    BATCH_BYTES, BLOCK_BYTES, BLOCK_CRC_START, BLOCK_HEAD_BYTES, HEADER_BYTES, HEADER_CRC_START, MAGIC, PRODUCER_BYTES,
    Producer, ProducersHeader, RawBatch, RawBlockHead, RawHeader, RawProducer, body_start,
};
use crate::format::{FORMAT_VERSION, put};
use crate::model::{Offset, PartitionId};

/// Lays the blocks of a producers file out in memory.
pub struct ProducersWriter {
    partition: PartitionId,
    offset: Offset,
    producer_count: u64,
    last_id: Option<i64>,
    /// Block 0, once it is full. It is written last, for the counts in its header.
    first: Option<Vec<u8>>,
    /// Later blocks that are full and were not taken yet.
    full: Vec<u8>,
    /// The first id of every block begun.
    first_ids: Vec<i64>,
    open: Vec<u8>,
    open_index: u32,
    open_count: u32,
}

/// A file's last pieces.
pub struct FinishedProducers {
    /// What the header says.
    pub header: ProducersHeader,
    /// Block 0 of the file.
    pub first: Vec<u8>,
    /// The blocks behind those that [`ProducersWriter::take_blocks`] gave out.
    pub rest: Vec<u8>,
    /// The first id of each block; empty when the file holds no producer.
    pub first_ids: Vec<i64>,
}

impl ProducersWriter {
    /// Starts the file that says what producers had sent below `offset`.
    pub fn new(partition: PartitionId, offset: Offset) -> Self {
        let mut writer = Self {
            partition,
            offset,
            producer_count: 0,
            last_id: None,
            first: None,
            full: Vec::new(),
            first_ids: Vec::new(),
            open: Vec::new(),
            open_index: 0,
            open_count: 0,
        };
        writer.begin_block(0);
        writer
    }

    /// Adds a producer.
    ///
    /// # Panics
    /// When ids do not rise, or it has a batch that ends behind the file's offset.
    pub fn push(&mut self, producer: &Producer) {
        assert!(self.last_id.is_none_or(|last| last < producer.id), "producers come in the order of their ids");
        assert!(producer.last().end_offset <= self.offset, "the file says what was sent below its offset");
        if self.open.len() + producer.encoded_bytes() > BLOCK_BYTES {
            self.close_block();
            self.begin_block(self.open_index.checked_add(1).expect("a file has far fewer than 2^32 blocks"));
        }
        if self.open_count == 0 {
            self.first_ids.push(producer.id);
        }
        let raw = RawProducer {
            id: I64::new(producer.id),
            epoch: I16::new(producer.epoch),
            batch_count: producer.batch_count,
            reserved: 0,
        };
        self.open.extend_from_slice(raw.as_bytes());
        for batch in producer.batches() {
            let raw = RawBatch {
                base_sequence: I32::new(batch.base_sequence),
                last_sequence: I32::new(batch.last_sequence),
                base_offset: I64::new(batch.base_offset.get()),
                end_offset: I64::new(batch.end_offset.get()),
                timestamp: I64::new(batch.timestamp),
            };
            self.open.extend_from_slice(raw.as_bytes());
        }
        self.open_count += 1;
        self.producer_count += 1;
        self.last_id = Some(producer.id);
    }

    /// The blocks that became full since the last call, to be written one after the other from block 1 on.
    pub fn take_blocks(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.full)
    }

    /// Ends the file.
    pub fn finish(mut self) -> FinishedProducers {
        self.close_block();
        let block_count = self.open_index + 1;
        let header = ProducersHeader {
            partition: self.partition,
            offset: self.offset,
            block_count,
            producer_count: self.producer_count,
        };
        let mut first = self.first.expect("a block was closed above");
        let mut raw = RawHeader {
            magic: MAGIC,
            crc: U32::ZERO,
            version: U32::new(FORMAT_VERSION),
            topic: *self.partition.topic.as_bytes(),
            partition: I32::new(self.partition.partition),
            block_count: U32::new(block_count),
            producer_count: U64::new(self.producer_count),
            offset: I64::new(self.offset.get()),
            reserved: [0; 8],
        };
        raw.crc = U32::new(crc32c::checksum(&raw.as_bytes()[HEADER_CRC_START..]));
        put(&mut first, raw.as_bytes());
        FinishedProducers { header, first, rest: self.full, first_ids: self.first_ids }
    }

    fn begin_block(&mut self, block_index: u32) {
        self.open = Vec::with_capacity(BLOCK_BYTES);
        self.open.resize(body_start(block_index) + BLOCK_HEAD_BYTES, 0);
        self.open_index = block_index;
        self.open_count = 0;
    }

    fn close_block(&mut self) {
        let mut block = std::mem::take(&mut self.open);
        block.resize(BLOCK_BYTES, 0);
        let body = &mut block[body_start(self.open_index)..];
        let mut head = RawBlockHead {
            crc: U32::ZERO,
            block_index: U32::new(self.open_index),
            producer_count: U32::new(self.open_count),
        };
        put(body, head.as_bytes());
        head.crc = U32::new(crc32c::checksum(&body[BLOCK_CRC_START..]));
        put(body, head.as_bytes());
        if self.first.is_none() {
            self.first = Some(block);
        } else {
            self.full.extend_from_slice(&block);
        }
    }
}

impl FinishedProducers {
    /// The whole file, when no block was taken before.
    ///
    /// # Panics
    /// When one was.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.first;
        bytes.extend_from_slice(&self.rest);
        let block_count = usize::try_from(self.header.block_count).expect("a count of blocks in memory fits");
        assert_eq!(bytes.len(), block_count * BLOCK_BYTES, "every block of the file is still here");
        bytes
    }
}

const _: () = assert!(
    HEADER_BYTES + BLOCK_HEAD_BYTES + PRODUCER_BYTES + super::BATCHES_MAX * BATCH_BYTES <= BLOCK_BYTES,
    "any producer fits the first block"
);
