//! Lays files out and runs rounds over them. Holds no clock: [`super::measure`] does the timing.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use futures_util::future::{join_all, try_join};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use millrace_engine::format::journal::{Entry, EntryKind, RoundEncoder, RoundHeader};
use millrace_engine::model::{Incarnation, Offset, PartitionId, Position, TopicId};
use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode};

use super::workload::{Cell, LOG_BYTES, Variant};
use crate::numbers::u64_of;

type FileOf<E> = <<E as Env>::Disk as Disk>::File;
type BufferOf<E> = <<E as Env>::Disk as Disk>::Buffer;

/// Files and log of one cell, ready for rounds.
pub(super) struct Rig<E: Env> {
    env: E,
    cell: Cell,
    directory: PathBuf,
    files: Vec<FileOf<E>>,
    /// What is written, whole blocks each. Several, so that not every write reads the same few cache lines.
    sources: Vec<Rc<BufferOf<E>>>,
    log: Log<E>,
}

impl<E: Env> Rig<E> {
    /// Makes the files in a folder of their own: a part that is written, a part that is only allocated.
    pub(super) async fn prepare(env: &E, directory: &Path, cell: &Cell) -> io::Result<Self> {
        let directory = directory.join(format!("files-{}-{}", cell.file_count, cell.piece_bytes));
        env.disk().create_dir_all(&directory).await?;
        let files = stream::iter(0..cell.file_count)
            .map(|index| make_file(env, directory.join(format!("{index:05}")), cell.written_end(), cell.file_end()))
            .buffered(PREPARING_MAX)
            .try_collect()
            .await?;
        let source_count = (SOURCE_BYTES / cell.blocks_bytes()).clamp(1, SOURCE_COUNT_MAX);
        let sources = (1..=source_count).map(|index| source(env, cell.blocks_bytes(), index)).collect();
        let log = Log::make(env, &directory.join("log")).await?;
        env.disk().sync_dir(&directory).await?;
        Ok(Self { env: env.clone(), cell: *cell, directory, files, sources, log })
    }

    /// Makes one round durable.
    pub(super) async fn round(&mut self, variant: Variant, round_index: usize) -> io::Result<()> {
        let written = self.cell.written_position(round_index);
        match variant {
            Variant::FileFlushUnwritten => {
                self.write_files(self.cell.unwritten_position(round_index)).await?;
                self.flush_files().await
            }
            Variant::FileFlushWritten => {
                self.write_files(written).await?;
                self.flush_files().await
            }
            Variant::DeviceFlush => {
                self.write_files(written).await?;
                self.log.plain.sync_data().await
            }
            Variant::Log => {
                let (round, position) = self.encode_pieces();
                self.log.plain.write_at(round, position).await?;
                self.log.plain.sync_data().await
            }
            Variant::LogSynchronous => {
                let (round, position) = self.encode_pieces();
                self.log.synchronous.write_at(round, position).await
            }
            Variant::SegmentsAndLog => {
                let (round, position) = self.encode_notes();
                try_join(self.write_files(written), self.log.plain.write_at(round, position)).await?;
                self.log.plain.sync_data().await
            }
            Variant::SegmentsThenLogSynchronous => {
                self.write_files(written).await?;
                let (round, position) = self.encode_notes();
                self.log.synchronous.write_at(round, position).await
            }
        }
    }

    /// Closes and removes everything.
    pub(super) async fn remove(self) -> io::Result<()> {
        let Self { env, directory, files, log, .. } = self;
        drop((files, log));
        env.disk().remove_dir_all(&directory).await
    }

    async fn write_files(&self, position: u64) -> io::Result<()> {
        let writes = self.files.iter().enumerate().map(|(index, file)| {
            let source = &self.sources[index % self.sources.len()];
            file.write_at(Rc::clone(source), position)
        });
        // All of them run to their end, as in the engine, where one failed file does not stop the others.
        join_all(writes).await.into_iter().collect()
    }

    async fn flush_files(&self) -> io::Result<()> {
        join_all(self.files.iter().map(File::sync_data)).await.into_iter().collect()
    }

    /// A round of the log that holds every file's piece.
    fn encode_pieces(&mut self) -> (Rc<BufferOf<E>>, u64) {
        let piece_bytes = self.cell.piece_bytes;
        let bytes = u32::try_from(piece_bytes).expect("PIECE_BYTES_MAX fits u32");
        let kind = EntryKind::Piece { position: Position::new(0), bytes, end_offset: Offset::ZERO };
        self.encode(kind, piece_bytes)
    }

    /// A round of the log that notes how far every file is durable.
    fn encode_notes(&mut self) -> (Rc<BufferOf<E>>, u64) {
        self.encode(EntryKind::DurableEnd { position: Position::new(0), end_offset: Offset::ZERO }, 0)
    }

    fn encode(&mut self, kind: EntryKind, piece_bytes: usize) -> (Rc<BufferOf<E>>, u64) {
        let file_count = self.cell.file_count;
        let mut buffer = self.env.disk().buffer(RoundEncoder::round_bytes(file_count, file_count * piece_bytes));
        let mut encoder = RoundEncoder::new(buffer.as_mut_slice(), file_count);
        for index in 0..file_count {
            let partition = i32::try_from(index).expect("a count of files fits i32");
            let partition = PartitionId { topic: TopicId::from_bytes([1; 16]), partition };
            let source = &self.sources[index % self.sources.len()];
            let (segment_base, incarnation) = (Offset::ZERO, Incarnation::FIRST);
            let entry = Entry { partition, segment_base, incarnation, kind };
            encoder.add(&entry, &source.as_slice()[..piece_bytes]);
        }
        encoder.finish(&RoundHeader { nonce: 1, sequence: 1, tail_sequence: 1, tail_position: 0, flushed_sequence: 0 });
        let position = self.log.take(u64_of(buffer.as_slice().len()));
        (Rc::new(buffer), position)
    }
}

/// What stands for a shard's journal: a file of written extents that rounds go around.
struct Log<E: Env> {
    plain: FileOf<E>,
    synchronous: FileOf<E>,
    next_position: u64,
}

impl<E: Env> Log<E> {
    async fn make(env: &E, path: &Path) -> io::Result<Self> {
        let plain = make_file(env, path.to_owned(), LOG_BYTES, LOG_BYTES).await?;
        let synchronous = env.disk().open(path, OpenMode::Synchronous).await?;
        Ok(Self { plain, synchronous, next_position: 0 })
    }

    fn take(&mut self, bytes: u64) -> u64 {
        assert!(bytes <= LOG_BYTES, "a round fits the log");
        let position = if self.next_position + bytes <= LOG_BYTES { self.next_position } else { 0 };
        self.next_position = position + bytes;
        position
    }
}

/// A new file: allocated up to `end`, its extents written with zeros up to `written_end`, and flushed.
pub(super) async fn make_file<E: Env>(env: &E, path: PathBuf, written_end: u64, end: u64) -> io::Result<FileOf<E>> {
    let file = env.disk().open(&path, OpenMode::New).await?;
    file.allocate(0, end).await?;
    fill(env, &file, written_end).await?;
    file.sync_data().await?;
    Ok(file)
}

/// Writes zeros from the file's start to `end`, some pieces at a time.
pub(super) async fn fill<E: Env>(env: &E, file: &FileOf<E>, end: u64) -> io::Result<()> {
    let zeros = Rc::new(env.disk().buffer(FILL_BYTES));
    let step = u64_of(FILL_BYTES);
    let whole_end = end - end % step;
    let writes = (0..whole_end / step).map(|index| file.write_at(Rc::clone(&zeros), index * step));
    stream::iter(writes).buffer_unordered(FILLING_MAX).try_collect::<()>().await?;
    let rest = usize::try_from(end - whole_end).expect("less than a step is left");
    if rest == 0 {
        return Ok(());
    }
    file.write_at(Rc::new(env.disk().buffer(rest)), whole_end).await
}

fn source<E: Env>(env: &E, bytes: usize, index: usize) -> Rc<BufferOf<E>> {
    let mut buffer = env.disk().buffer(bytes);
    buffer.as_mut_slice().fill(u8::try_from(index).expect("SOURCE_COUNT_MAX fits u8"));
    Rc::new(buffer)
}

const FILL_BYTES: usize = 1024 * 1024;
const _: () = assert!(FILL_BYTES.is_multiple_of(BLOCK_BYTES));
const FILLING_MAX: usize = 8;
const PREPARING_MAX: usize = 32;
const SOURCE_BYTES: usize = 8 * 1024 * 1024;
const SOURCE_COUNT_MAX: usize = 128;
