//! Walks consecutive batches in memory, and says what became of them.
//!
//! A window may end inside a batch: the driver's next one begins with that batch.

use millrace_protocol::batch::compression::{CompressionError, Decompressor};
use millrace_protocol::batch::{BatchError, BatchView, Record, Records};
use thiserror::Error;

use crate::model::Offset;

/// What the cleaner did with one window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Bytes of the window that were dealt with: whole batches.
    pub consumed_bytes: usize,
    /// Size of the batch that the window does not hold whole, if it ends inside one: at least its header's.
    pub needed_bytes: Option<usize>,
    /// Whether what was written differs from what was read. A segment whose windows are all unchanged stays as it is.
    pub changed: bool,
    /// Records that were taken away.
    pub removed_count: u64,
    /// Of those, the ones without a key. Producers are refused such records, so they are older than the policy.
    pub without_key_count: u64,
    /// Batches that were kept because they could not be read.
    pub unread: Vec<Unread>,
}

/// A batch that was kept as it is because its records could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the batch at offset {base_offset} is kept as it is: {reason}")]
pub struct Unread {
    /// The batch's base offset.
    pub base_offset: Offset,
    /// Why.
    pub reason: UnreadReason,
}

/// Why records cannot be read. The checksum holds: the producer sent them so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum UnreadReason {
    /// They cannot be decompressed, take too much memory, or could not be compressed again.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record is malformed.
    #[error(transparent)]
    Malformed(#[from] BatchError),
    /// Records that are not in the order of their offsets.
    #[error("the records are not in the order of their offsets")]
    Disordered,
}

/// Bytes that are not the batches of a log. The pass must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("byte {position} of the window, where offset {expected} or a later one begins: {reason}")]
pub struct Damage {
    /// Where in the window the batch begins.
    pub position: usize,
    /// The offset that its base offset should at least be.
    pub expected: Offset,
    /// What is wrong.
    pub reason: DamageReason,
}

/// What is wrong with damaged bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DamageReason {
    /// They are not a batch, or its checksum does not hold.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch does not follow the one before.
    #[error("the batch's base offset {found} is too low")]
    OutOfOrder {
        /// The base offset.
        found: i64,
    },
}

/// The batches of one window, one after another.
pub(super) struct Walk<'a> {
    window: &'a [u8],
    position: usize,
    needed_bytes: Option<usize>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(window: &'a [u8]) -> Self {
        Self { window, position: 0, needed_bytes: None }
    }

    /// The next whole batch, if there is one. Its base offset is `next` or later, and `next` moves behind it.
    pub(super) fn next_batch(&mut self, next: &mut Offset) -> Result<Option<BatchView<'a>>, Damage> {
        let rest = &self.window[self.position..];
        let damage = |reason| Damage { position: self.position, expected: *next, reason };
        if rest.is_empty() {
            return Ok(None);
        }
        let batch = match BatchView::parse(rest) {
            Ok(batch) => batch,
            Err(BatchError::Incomplete { needed_bytes, .. }) => {
                self.needed_bytes = Some(needed_bytes);
                return Ok(None);
            }
            Err(error) => return Err(damage(DamageReason::Batch(error))),
        };
        let found = batch.header().base_offset.get();
        // The end of the last possible batch is no offset any more; no log gets there.
        let end = batch.header().last_offset().checked_add(1);
        let Some(end) = end.filter(|_| found >= next.get()) else {
            return Err(damage(DamageReason::OutOfOrder { found }));
        };
        *next = Offset::new(end);
        self.position += batch.bytes().len();
        Ok(Some(batch))
    }

    pub(super) fn consumed_bytes(&self) -> usize {
        self.position
    }

    pub(super) fn needed_bytes(&self) -> Option<usize> {
        self.needed_bytes
    }
}

/// The records of a batch that was checked, decompressed.
pub(super) struct ReadRecords<'a> {
    batch: BatchView<'a>,
    bytes: &'a [u8],
}

impl<'a> ReadRecords<'a> {
    /// Decompresses the records and hands each to `visit`. An error after some were visited is possible.
    pub(super) fn read(
        batch: BatchView<'a>,
        decompressor: &'a mut Decompressor,
        mut visit: impl FnMut(&Record<'_>),
    ) -> Result<Self, UnreadReason> {
        let compression = batch.header().attributes().compression().expect("a checked batch has a known codec");
        let bytes = decompressor.decompress(compression, batch.records_bytes())?;
        let mut next_offset = batch.header().base_offset.get();
        for record in Records::new(batch.header(), bytes) {
            let record = record?;
            if record.offset < next_offset {
                return Err(UnreadReason::Disordered);
            }
            next_offset = record.offset + 1;
            visit(&record);
        }
        Ok(Self { batch, bytes })
    }

    /// The same records once more.
    pub(super) fn again(&self) -> impl Iterator<Item = Record<'a>> {
        Records::new(self.batch.header(), self.bytes).map_while(Result::ok)
    }
}
