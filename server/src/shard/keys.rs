//! Looks for records without a key in batches for compacted logs.
//!
//! Compressed ones are decompressed away from the shard, before the batch goes to its owner: only the connection that sent
//! it waits, and the owner's line of appends stays short. One batch of a shard is decompressed at a time, within the limit
//! that the memory plan has for it.

use std::cell::RefCell;
use std::ops::Range;

use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{BatchHeader, BatchView, Compression, Records};
use millrace_runtime::{Env, Tasks};

use super::budget::Budget;
use super::limits;
use super::mailbox::frame::Frame;
use super::mailbox::message::AppendRefusal;

/// The decompressor of one shard, and the line before it.
pub struct KeySearch {
    line: Budget,
    bytes_max: usize,
    /// Away while it works, and until it is first needed.
    decompressor: RefCell<Option<Decompressor>>,
}

impl KeySearch {
    /// A search in batches whose decompressed records take at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self { line: Budget::new(1), bytes_max, decompressor: RefCell::new(None) }
    }

    /// Refuses the batch at `range` of a request if it is compressed and records of it lack a key. What is not a batch is
    /// left to the owner.
    pub async fn check<E: Env>(&self, env: &E, frame: &Frame, range: Range<usize>) -> Result<(), AppendRefusal> {
        // The header alone: the checksum takes its time, and is looked at off the shard first.
        let header = BatchHeader::parse(&frame[range.clone()]);
        if !header.is_ok_and(|(header, _)| header.attributes().compression() != Some(Compression::None)) {
            return Ok(());
        }
        let turn = self.line.enqueue(1).expect("the line lets one through at a time").await;
        let taken = self.decompressor.borrow_mut().take();
        let mut decompressor = taken.unwrap_or_else(|| Decompressor::new(self.bytes_max));
        let frame = frame.clone();
        let search = move || {
            let result = match BatchView::parse_produced(&frame[range]) {
                Ok(batch) => match decompressor.records(&batch) {
                    Ok(records) => check_keys(records),
                    Err(error) => Err(AppendRefusal::Decompression(error)),
                },
                Err(error) => Err(AppendRefusal::Invalid(error)),
            };
            (decompressor, result)
        };
        let (decompressor, result) = env.tasks().offload(search).await;
        *self.decompressor.borrow_mut() = Some(decompressor);
        drop(turn);
        result
    }
}

/// Refuses records that compaction could not tell apart.
pub fn check_keys(records: Records<'_>) -> Result<(), AppendRefusal> {
    let (mut count, mut first) = (0, Vec::new());
    for (index, record) in (0..).zip(records) {
        if record.map_err(AppendRefusal::Invalid)?.key.is_none() {
            count += 1;
            if first.len() < limits::RECORD_ERROR_COUNT_MAX {
                first.push(index);
            }
        }
    }
    if count == 0 { Ok(()) } else { Err(AppendRefusal::KeysMissing { count, first }) }
}
