//! A segment: one file of record batches behind a header block.
//!
//! Batches are only ever written over extents that were written with zeros before and flushed ("filled"), in whole
//! blocks. So a write changes no file system metadata, a single device flush makes any number of segments durable, and
//! the space for what was acknowledged is already taken. What lies behind the last batch is zeros.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::future::join_all;
use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode};

use crate::format::parse_offset_name;
use crate::format::segment_header::{Compacted, RECORDS_START, SegmentHeader};
use crate::io::open_unfinished;
use crate::model::{Offset, PartitionId, Position};

/// A new segment is filled up to here, header included.
pub const FILL_BYTES_MIN: u64 = 64 * 1024;
/// Filling ahead goes in steps that double up to this size.
pub const FILL_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Largest single write of zeros, in bytes.
const FILL_WRITE_BYTES: usize = 256 * 1024;

/// How zeros are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillPace {
    /// Beside the rounds: the device gets one small write at a time, and theirs get between them.
    Beside,
    /// Appends wait for the room.
    Awaited,
}

impl FillPace {
    fn write_count(self) -> usize {
        match self {
            Self::Beside => 1,
            Self::Awaited => 8,
        }
    }
}

/// Name of the prepared segment, and of the active one until the one before it is finished.
pub const NEXT_FILE_NAME: &str = "next-segment";

/// Name of a segment file: the offset of its first record in twenty digits, as in Kafka.
pub fn file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}.log", base_offset = base_offset.get())
}

/// Offset of the first record of the segment with this file name.
pub fn parse_file_name(name: &str) -> Option<Offset> {
    parse_offset_name(name, ".log")
}

/// Name of a compacted segment while those that it replaces are removed.
pub fn swap_file_name(base_offset: Offset) -> String {
    format!("{base_offset:020}.swap", base_offset = base_offset.get())
}

/// An open segment file. Cheap to clone.
pub struct Segment<E: Env> {
    file: <E::Disk as Disk>::File,
    base_offset: Offset,
    path: Rc<PathBuf>,
}

impl<E: Env> Clone for Segment<E> {
    fn clone(&self) -> Self {
        Self { file: self.file.clone(), base_offset: self.base_offset, path: Rc::clone(&self.path) }
    }
}

impl<E: Env> Segment<E> {
    /// Makes the partition's directory and its first segment, filled up to [`FILL_BYTES_MIN`] and durable, name included.
    ///
    /// A file of that name left behind by a crash in the middle of this function is replaced: nothing that was
    /// acknowledged can be in a segment whose making did not end.
    pub async fn create(env: &E, logs: &Path, id: PartitionId, base_offset: Offset) -> io::Result<Self> {
        let disk = env.disk();
        let directory = logs.join(id.directory_name());
        disk.create_dir_all(&directory).await?;
        let path = directory.join(file_name(base_offset));
        let unfinished = directory.join("new-segment");
        let file = open_unfinished(env, &unfinished).await?;
        let segment = Self { file, base_offset, path: Rc::new(path) };
        segment.write_header(env, id, Position::new(FILL_BYTES_MIN), None).await?;
        // The header is new here and the file's own flush covers it. Written over a filled extent, it could be lost
        // with another file's flush of the device.
        segment.fill(env, RECORDS_START, Position::new(FILL_BYTES_MIN)).await?;
        disk.rename(&unfinished, &segment.path).await?;
        disk.sync_dir(&directory).await?;
        disk.sync_dir(logs).await?;
        Ok(segment)
    }

    /// Prepares the segment that will follow the active one, filled up to [`FILL_BYTES_MIN`] and durable under the name
    /// [`NEXT_FILE_NAME`]. Its header is zeros until it is used: only then is its first offset known.
    pub async fn prepare_next(env: &E, logs: &Path, id: PartitionId) -> io::Result<Self> {
        let directory = logs.join(id.directory_name());
        let unfinished = directory.join("new-segment");
        let path = directory.join(NEXT_FILE_NAME);
        let file = open_unfinished(env, &unfinished).await?;
        let segment = Self { file, base_offset: Offset::ZERO, path: Rc::new(path) };
        segment.fill(env, Position::default(), Position::new(FILL_BYTES_MIN)).await?;
        env.disk().rename(&unfinished, &segment.path).await?;
        env.disk().sync_dir(&directory).await?;
        Ok(segment)
    }

    /// The prepared segment, whose first offset is known now.
    #[must_use]
    pub fn renumbered(self, base_offset: Offset) -> Self {
        Self { base_offset, ..self }
    }

    /// Starts a segment that is to replace others, empty and under a name that does not count.
    pub async fn create_replacement(env: &E, logs: &Path, id: PartitionId, base_offset: Offset) -> io::Result<Self> {
        let path = logs.join(id.directory_name()).join(file_name(base_offset) + ".new");
        let file = open_unfinished(env, &path).await?;
        Ok(Self { file, base_offset, path: Rc::new(path) })
    }

    /// Gives a prepared segment that is in use the name of its first offset, durably.
    pub async fn rename(&self, env: &E) -> io::Result<Self> {
        self.rename_to(env, &file_name(self.base_offset)).await
    }

    /// Gives the file another name in its directory, durably.
    pub async fn rename_to(&self, env: &E, name: &str) -> io::Result<Self> {
        let directory = self.path.parent().expect("a segment lies in its log's directory");
        let path = directory.join(name);
        env.disk().rename(&self.path, &path).await?;
        env.disk().sync_dir(directory).await?;
        Ok(Self { path: Rc::new(path), ..self.clone() })
    }

    /// Opens a segment that exists. The header is not looked at.
    pub async fn open(env: &E, logs: &Path, id: PartitionId, base_offset: Offset) -> io::Result<Self> {
        let path = logs.join(id.directory_name()).join(file_name(base_offset));
        let file = env.disk().open(&path, OpenMode::Existing).await?;
        Ok(Self { file, base_offset, path: Rc::new(path) })
    }

    /// Opens the file at `path`, whatever its name, as the segment its header says it is; `None` when the header does not
    /// hold or names another partition.
    pub async fn open_by_header(env: &E, path: PathBuf, id: PartitionId) -> io::Result<Option<(Self, SegmentHeader)>> {
        let file = env.disk().open(&path, OpenMode::Existing).await?;
        let segment = Self { file, base_offset: Offset::ZERO, path: Rc::new(path) };
        let header = segment.read_header().await?.filter(|header| header.partition == id);
        Ok(header.map(|header| (segment.renumbered(header.base_offset), header)))
    }

    /// The header; `None` when it does not hold, or is another's than this partition's and first offset's. A name in
    /// the file system proves nothing.
    pub async fn header(&self, id: PartitionId) -> io::Result<Option<SegmentHeader>> {
        let header = self.read_header().await?;
        Ok(header.filter(|header| header.partition == id && header.base_offset == self.base_offset))
    }

    async fn read_header(&self) -> io::Result<Option<SegmentHeader>> {
        let block = self.read(Position::default(), BLOCK_BYTES).await?;
        Ok(block.and_then(|block| SegmentHeader::decode(block.as_slice())))
    }

    /// Writes the header. Durable after the next flush.
    pub async fn write_header(
        &self,
        env: &E,
        id: PartitionId,
        filled_end: Position,
        compacted: Option<Compacted>,
    ) -> io::Result<()> {
        let mut block = env.disk().buffer(BLOCK_BYTES);
        let base_offset = self.base_offset;
        SegmentHeader { partition: id, base_offset, filled_end, compacted }.encode(block.as_mut_slice());
        self.file.write_at(Rc::new(block), 0).await
    }

    /// First offset of the segment.
    pub fn base_offset(&self) -> Offset {
        self.base_offset
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the file in bytes.
    pub async fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes().await
    }

    /// Makes `start..end`, both on block boundaries, extents written with zeros, and flushes.
    pub async fn fill(&self, env: &E, start: Position, end: Position) -> io::Result<()> {
        self.write_zeros(env, start, end, |_| Some(FillPace::Awaited)).await?;
        self.sync().await
    }

    /// Writes zeros from `start` on, at the pace that is asked for before each of them, up to `end` or until there is none;
    /// says how far it came. Both positions are on block boundaries. What was written counts as filled after the next flush.
    pub async fn write_zeros(
        &self,
        env: &E,
        start: Position,
        end: Position,
        pace_at: impl Fn(Position) -> Option<FillPace>,
    ) -> io::Result<Position> {
        assert_eq!(start, start.block_floor(), "filling starts on a block");
        assert_eq!(end, end.block_floor(), "filling ends on a block");
        self.file.allocate(start.get(), end.get()).await?;
        let zeros = Rc::new(env.disk().buffer(end.bytes_since(start).min(FILL_WRITE_BYTES)));
        let mut position = start;
        while position < end
            && let Some(pace) = pace_at(position)
        {
            let mut writes = Vec::new();
            while position < end && writes.len() < pace.write_count() {
                let bytes = end.bytes_since(position).min(FILL_WRITE_BYTES);
                let is_whole = bytes == zeros.as_slice().len();
                let buffer = if is_whole { Rc::clone(&zeros) } else { Rc::new(env.disk().buffer(bytes)) };
                writes.push(self.file.write_at(buffer, position.get()));
                position = position.plus(bytes);
            }
            join_all(writes).await.into_iter().collect::<io::Result<()>>()?;
        }
        Ok(position)
    }

    /// Writes whole blocks. Durable after the next flush.
    pub async fn write(&self, buffer: Rc<<E::Disk as Disk>::Buffer>, position: Position) -> io::Result<()> {
        self.file.write_at(buffer, position.get()).await
    }

    /// Reads whole blocks from `position`, a block boundary; shorter or `None` at the end of the file.
    pub async fn read(&self, position: Position, bytes: usize) -> io::Result<Option<<E::Disk as Disk>::Buffer>> {
        self.file.read_at(position.get(), bytes.next_multiple_of(BLOCK_BYTES)).await
    }

    /// Cuts the file behind the block that holds `end`, durably: what lies there is zeros.
    pub async fn trim(&self, end: Position) -> io::Result<()> {
        self.file.truncate(end.block_ceil().get()).await?;
        self.file.sync_data().await
    }

    /// Flushes this file alone.
    pub async fn sync(&self) -> io::Result<()> {
        self.file.sync_data().await
    }

    /// Makes everything from `end` on unreadable, durably: the file ends with the block that holds `end`, and the rest
    /// of that block is zeros. Batches that lay there can never come back, however the file grows again.
    pub async fn cut(&self, env: &E, id: PartitionId, end: Position) -> io::Result<()> {
        let header = self.header(id).await?.ok_or(io::ErrorKind::InvalidData)?;
        self.write_header(env, id, header.filled_end.min(end.block_ceil()), header.compacted).await?;
        self.file.truncate(end.block_ceil().get()).await?;
        if end != end.block_floor() {
            let block = self.file.read_at(end.block_floor().get(), BLOCK_BYTES).await?;
            let block = block.ok_or(io::ErrorKind::UnexpectedEof)?;
            let kept = end.bytes_since(end.block_floor());
            let mut zeroed = env.disk().buffer(BLOCK_BYTES);
            zeroed.as_mut_slice()[..kept].copy_from_slice(&block.as_slice()[..kept]);
            self.file.write_at(Rc::new(zeroed), end.block_floor().get()).await?;
        }
        self.file.sync_data().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_sort_by_offset_and_have_one_spelling() {
        assert_eq!(file_name(Offset::new(42)), "00000000000000000042.log");
        assert_eq!(parse_file_name("00000000000000000042.log"), Some(Offset::new(42)));
        for wrong in ["42.log", "00000000000000000042.idx", "0000000000000000004x.log", "-0000000000000000042.log"] {
            assert_eq!(parse_file_name(wrong), None, "{wrong}");
        }
    }
}
