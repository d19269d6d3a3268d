//! The segment that takes the place of those that were compacted.

use std::io;
use std::rc::Rc;

use millrace_protocol::batch::BatchHeader;
use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env};

use super::super::{Inner, SharedLog, prepare};
use super::{CompactionError, remove_replaced};
use crate::format::segment_header::{Compacted, RECORDS_START};
use crate::log::index::SegmentIndex;
use crate::log::sealed::SealedSegment;
use crate::model::{EpochStart, LeaderEpoch, Offset, PartitionId, Position};
use crate::segment::{self, Segment};
use crate::segment_files;

/// Bytes are written when this many have come together.
const WRITE_BYTES: usize = 1024 * 1024;

/// A segment that is being written.
pub(super) struct Replacement<'a, E: Env> {
    inner: &'a Rc<Inner<E>>,
    id: PartitionId,
    segment: Segment<E>,
    /// What is not written yet; it belongs at `written_end`.
    pending: Vec<u8>,
    /// On a block boundary.
    written_end: Position,
    index: SegmentIndex,
}

impl<'a, E: Env> Replacement<'a, E> {
    /// Starts the file, under a name that a recovery removes.
    pub(super) async fn create(
        inner: &'a Rc<Inner<E>>,
        id: PartitionId,
        base_offset: Offset,
    ) -> Result<Self, CompactionError> {
        let segment = Segment::create_replacement(&inner.env, &inner.logs_directory, id, base_offset).await?;
        let index = SegmentIndex { end: RECORDS_START, ..SegmentIndex::default() };
        Ok(Self { inner, id, segment, pending: Vec::new(), written_end: RECORDS_START, index })
    }

    /// Appends whole batches.
    pub(super) async fn push(&mut self, batches: &[u8]) -> Result<(), CompactionError> {
        let mut rest = batches;
        while let Ok((header, bytes)) = BatchHeader::parse(rest) {
            let base_offset = Offset::new(header.base_offset.get());
            self.index.offsets.push(base_offset, self.index.end, header.max_timestamp.get());
            let epoch = LeaderEpoch::new(header.leader_epoch.get());
            if self.index.epochs.last().is_none_or(|last| last.epoch < epoch) {
                self.index.epochs.push(EpochStart { epoch, start_offset: base_offset });
            }
            self.index.end = self.index.end.plus(bytes);
            rest = &rest[bytes..];
        }
        assert!(rest.is_empty(), "the cleaner yields whole batches");
        self.pending.extend_from_slice(batches);
        while self.pending.len() >= WRITE_BYTES {
            self.write(WRITE_BYTES).await?;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: usize) -> Result<(), CompactionError> {
        let mut buffer = self.inner.env.disk().buffer(bytes.next_multiple_of(BLOCK_BYTES));
        buffer.as_mut_slice()[..bytes].copy_from_slice(&self.pending[..bytes]);
        self.segment.write(Rc::new(buffer), self.written_end).await?;
        self.pending.drain(..bytes);
        self.written_end = self.written_end.plus(bytes);
        Ok(())
    }

    /// Removes the file.
    pub(super) async fn abandon(self) -> io::Result<()> {
        self.inner.env.disk().remove_file(self.segment.path()).await
    }

    /// Puts the file in the place of `group`.
    pub(super) async fn put_in_place(
        mut self,
        log: &SharedLog<E>,
        life: u64,
        group: &[Offset],
    ) -> Result<(), CompactionError> {
        let Some(end_offset) = end_of(log, life, group) else {
            self.abandon().await?;
            return Err(CompactionError::Interrupted);
        };
        if !self.pending.is_empty() {
            self.write(self.pending.len()).await?;
        }
        let compacted = Compacted { end_offset, end_position: self.index.end };
        self.segment.write_header(&self.inner.env, self.id, RECORDS_START, Some(compacted)).await?;
        self.segment.sync().await?;
        let inner = self.inner;
        let result = self.swap(log, life, group, end_offset).await;
        if let Err(error) = &result
            && log.borrow().life == life
        {
            // From the first rename on the files may say something else than the log knows. Recovery brings it to an end
            // before anything else is done to them: a later pass, or retention, would leave a `.swap` that stands for
            // what is not there any more.
            inner.fail_log(log, &prepare::failure("replacing compacted segments", error));
        }
        Ok(result?)
    }

    /// Steps 2 to 4, and the rename before them.
    async fn swap(self, log: &SharedLog<E>, life: u64, group: &[Offset], end_offset: Offset) -> io::Result<()> {
        let Self { inner, id, index, segment, .. } = self;
        let base_offset = group[0];
        let segment = segment.rename_to(&inner.env, &segment::swap_file_name(base_offset)).await?;
        let index = Rc::new(index);
        let sealed = SealedSegment {
            bytes: index.end.get(),
            timestamp_max: index.offsets.timestamp_max(),
            index: Some(Rc::clone(&index)),
            file: Some(segment.clone()),
            ..SealedSegment::named(base_offset, end_offset)
        };
        replace(inner, log, life, group, sealed);
        inner.file_opened(log, base_offset);
        inner.index_loaded(log, base_offset);
        remove_replaced(inner, id, group).await?;
        let segment = segment.rename_to(&inner.env, &segment::file_name(base_offset)).await?;
        let directory = inner.logs_directory.join(id.directory_name());
        segment_files::write_index(&inner.env, &directory, id, (base_offset, end_offset), &index).await?;
        let mut log = log.borrow_mut();
        if let Some(sealed) = log.sealed.iter_mut().find(|sealed| sealed.base_offset == base_offset) {
            sealed.file = Some(segment);
        }
        Ok(())
    }
}

/// The end of the last segment of the group, if all of them are still there.
fn end_of<E: Env>(log: &SharedLog<E>, life: u64, group: &[Offset]) -> Option<Offset> {
    let log = log.borrow();
    let present = log.sealed.iter().filter(|sealed| group.contains(&sealed.base_offset));
    let ends: Vec<_> = present.map(|sealed| sealed.end_offset).collect();
    ends.last().copied().filter(|_| ends.len() == group.len() && log.life == life)
}

fn replace<E: Env>(inner: &Inner<E>, log: &SharedLog<E>, life: u64, group: &[Offset], sealed: SealedSegment<E>) {
    let mut log = log.borrow_mut();
    if log.life == life {
        for other in log.sealed.extract_if(.., |other| group.contains(&other.base_offset)) {
            inner.uncache(other.cache_key);
        }
        let place = log.sealed.partition_point(|other| other.base_offset < sealed.base_offset);
        log.sealed.insert(place, sealed);
    }
}
