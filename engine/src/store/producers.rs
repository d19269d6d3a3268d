//! Producers that memory has no room for: the file of them is written, read, and made again from the log when it does not
//! hold.
//!
//! One task of a log writes its files at a time: it stands for `finishing`. The next file is written under another name and
//! renamed; the log learns of it in the same step in which the task learns that it is renamed. A reader in between finds
//! another header than it expects and asks again.
//!
//! The file is never flushed and no part of recovery: a damaged one is as good as none, and the log is opened again from
//! its records.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode, TaskClass, Tasks};

use super::{Inner, ReadError, SharedLog, Store, finish, open, prepare};
use crate::format::producers::{Producer, ProducersHeader, SPILL_FILE_NAME};
use crate::io::open_unfinished;
use crate::log::Log;
use crate::model::{Offset, PartitionId};
use crate::producer_state::{Spill, SpillMerge, SpillRead};

/// Blocks of a file that are read at once, when all of it is.
const WINDOW_BLOCKS: u32 = 32;
/// Logs that begin to spill in one look at all of them.
const SPILLS_MAX: usize = 16;
/// A log with fewer producers in memory is left alone, however little memory there is for all.
const SPILLED_COUNT_MIN: usize = 16;

impl<E: Env> Inner<E> {
    fn spill_path(&self, id: PartitionId) -> PathBuf {
        self.logs_directory.join(id.directory_name()).join(SPILL_FILE_NAME)
    }
}

/// Has the producer of a verdict in memory, as far as the file knows of it. Done when it may be asked again.
pub(super) async fn load<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, read: SpillRead) {
    let version = inner.prepared.version();
    if !std::mem::replace(&mut log.borrow_mut().preparing, true) {
        // A task of its own: the caller may go away, and its I/O with it.
        inner.env.tasks().spawn(TaskClass::Network, run_load(Rc::clone(inner), Rc::clone(log), read));
    }
    inner.prepared.changed(version).await;
}

async fn run_load<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>, read: SpillRead) {
    let (id, life) = (log.borrow().id, log.borrow().life);
    let block = read_block(&inner, id, &read).await;
    let version = inner.prepared.version();
    let replaced = {
        let mut borrowed = log.borrow_mut();
        match block {
            _ if borrowed.life != life || !borrowed.producers.expects(&read) => Ok(false),
            Ok(Some(block)) if borrowed.producers.restore(&read, block.as_slice()) => Ok(false),
            // The next file may have its name already.
            Ok(None) if borrowed.finishing => Ok(true),
            Ok(_) => Err(damaged()),
            Err(error) => Err(error),
        }
    };
    if matches!(replaced, Ok(true)) {
        inner.prepared.changed(version).await;
    }
    log.borrow_mut().preparing = false;
    if let Err(error) = replaced {
        inner.fail_log(&log, &prepare::failure("reading spilled producers", &error));
    }
    inner.prepared.notify();
}

/// One block of the file that a verdict means; `None` when it is another file.
async fn read_block<E: Env>(
    inner: &Inner<E>,
    id: PartitionId,
    read: &SpillRead,
) -> io::Result<Option<<E::Disk as Disk>::Buffer>> {
    let file = inner.env.disk().open(&inner.spill_path(id), OpenMode::Existing).await?;
    let first = file.read_at(0, BLOCK_BYTES).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    // Two files with the same header say the same.
    if ProducersHeader::decode(first.as_slice()).as_ref() != Some(read.header()) {
        return Ok(None);
    }
    if read.block_index() == 0 {
        return Ok(Some(first));
    }
    let position = u64::from(read.block_index()) * BLOCK_SIZE;
    let block = file.read_at(position, BLOCK_BYTES).await?;
    Ok(Some(block.ok_or(io::ErrorKind::UnexpectedEof)?))
}

/// Spills a log's producers if too many are in memory and nothing else works on its files.
pub(super) fn consider<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) {
    let count_max = inner.config.producer_count_max;
    if log.borrow().producers.known_count() > count_max {
        spill_down_to(inner, log, count_max / 2);
    }
}

/// Spills producers of those logs that have most of them in memory, until all logs' fit their budget.
pub(super) fn fit_budget<E: Env>(inner: &Rc<Inner<E>>) {
    let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
    let bytes = |log: &SharedLog<E>| log.borrow().producers.memory_bytes();
    let mut total: usize = logs.iter().map(bytes).sum();
    if total <= inner.config.producer_bytes_max {
        return;
    }
    let mut largest: Vec<_> = logs.into_iter().map(|log| (bytes(&log), log)).collect();
    largest.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    for (before, log) in largest.into_iter().take(SPILLS_MAX) {
        if total <= inner.config.producer_bytes_max / 4 * 3 || log.borrow().producers.known_count() < SPILLED_COUNT_MIN
        {
            return;
        }
        total -= before;
        spill_down_to(inner, &log, 0);
    }
}

/// Leaves about `known_count` producers of a log in memory.
fn spill_down_to<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>, known_count: usize) {
    let mut borrowed = log.borrow_mut();
    if borrowed.finishing {
        return;
    }
    // Those that only were asked for are in the file as they are.
    shrink(&mut borrowed, known_count);
    let many = borrowed.producers.known_count() > known_count;
    let idle = borrowed.recorded.is_none() && borrowed.active.is_some();
    if many && idle && !inner.stopped.get() && !inner.space.full.get() {
        borrowed.finishing = true;
        inner.env.tasks().spawn(TaskClass::Background, run_spill(Rc::clone(inner), Rc::clone(log), known_count));
    }
}

fn shrink<E: Env>(log: &mut Log<E>, known_count: usize) {
    let durable_end = log.offsets.durable().offset;
    log.producers.shrink_to(known_count, durable_end);
}

async fn run_spill<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>, known_count: usize) {
    let life = log.borrow().life;
    let merge = begin(&mut log.borrow_mut());
    let result = write(&inner, &log, merge).await;
    log.borrow_mut().finishing = false;
    if log.borrow().life == life {
        match result {
            Ok(()) => shrink(&mut log.borrow_mut(), known_count),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                inner.fail_log(&log, &prepare::failure("reading spilled producers", &error));
            }
            Err(error) => {
                let (partition, shard) = (log.borrow().id, inner.config.shard_index);
                tracing::warn!(%partition, shard, %error, "producers not spilled; they stay in memory");
            }
        }
    }
    finish::consider(&inner, &log);
    inner.prepared.notify();
}

/// Begins the next file of a log's producers, which will tell of all batches up to the log's end.
pub(super) fn begin<E: Env>(log: &mut Log<E>) -> SpillMerge {
    log.producers.begin_spill(log.id, log.offsets.written().offset)
}

/// Writes the file that was begun and puts it in the place of the old one. `InvalidData` is damage of the old one.
pub(super) async fn write<E: Env>(inner: &Inner<E>, log: &SharedLog<E>, merge: SpillMerge) -> io::Result<()> {
    let (id, life) = (log.borrow().id, log.borrow().life);
    let result = write_file(inner, id, merge).await;
    let mut borrowed = log.borrow_mut();
    if borrowed.life == life {
        match result {
            Ok(spill) => borrowed.producers.finish_spill(spill),
            Err(error) => {
                borrowed.producers.abandon_spill();
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn write_file<E: Env>(inner: &Inner<E>, id: PartitionId, mut merge: SpillMerge) -> io::Result<Spill> {
    let path = inner.spill_path(id);
    let unfinished = path.with_extension("spill.new");
    let file = open_unfinished(&inner.env, &unfinished).await?;
    let old = match merge.block_wanted() {
        Some(_) => Some(inner.env.disk().open(&path, OpenMode::Existing).await.map_err(|_| damaged())?),
        None => None,
    };
    let mut written_end = BLOCK_SIZE;
    while let (Some(first), Some(old)) = (merge.block_wanted(), &old) {
        let bytes = BLOCK_BYTES * usize::try_from(WINDOW_BLOCKS).expect("a small constant");
        let window = old.read_at(u64::from(first) * BLOCK_SIZE, bytes).await?.ok_or_else(damaged)?;
        for block in window.as_slice().chunks_exact(BLOCK_BYTES) {
            if merge.block_wanted().is_some() {
                merge.add_block(block).ok_or_else(damaged)?;
            }
        }
        written_end += write_blocks(inner, &file, &merge.take_blocks(), written_end).await?;
        inner.env.tasks().yield_now().await;
    }
    let finished = merge.finish();
    write_blocks(inner, &file, &finished.rest, written_end).await?;
    write_blocks(inner, &file, &finished.first, 0).await?;
    inner.env.disk().rename(&unfinished, &path).await?;
    Ok(finished.spill)
}

async fn write_blocks<E: Env>(
    inner: &Inner<E>,
    file: &<E::Disk as Disk>::File,
    blocks: &[u8],
    position: u64,
) -> io::Result<u64> {
    if !blocks.is_empty() {
        let mut buffer = inner.env.disk().buffer(blocks.len());
        buffer.as_mut_slice().copy_from_slice(blocks);
        file.write_at(Rc::new(buffer), position).await?;
    }
    Ok(u64::try_from(blocks.len()).expect("a length fits"))
}

/// An idempotent producer that a log still knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActiveProducer {
    /// Its id.
    pub id: i64,
    /// Its newest epoch.
    pub epoch: i16,
    /// Sequence of its last record.
    pub last_sequence: i32,
    /// Largest timestamp of its last batch, in milliseconds.
    pub last_timestamp_ms: i64,
}

impl ActiveProducer {
    fn of(producer: &Producer) -> Self {
        let last = producer.last();
        let (last_sequence, last_timestamp_ms) = (last.last_sequence, last.timestamp);
        Self { id: producer.id, epoch: producer.epoch, last_sequence, last_timestamp_ms }
    }
}

impl<E: Env> Store<E> {
    /// The idempotent producers that a log knows, by id, in memory or spilled.
    pub async fn active_producers(&self, id: PartitionId) -> Result<Vec<ActiveProducer>, ReadError> {
        let inner = &self.inner;
        let log = inner.log(id).ok_or(ReadError::UnknownLog)?;
        log.borrow_mut().used = true;
        loop {
            open::ensure(inner, &log).await.map_err(ReadError::Offline)?;
            let life = log.borrow().life;
            let found = collect(inner, &log, ActiveProducer::of).await;
            if log.borrow().life != life || log.borrow().recorded.is_some() {
                continue;
            }
            return found.map(|producers| producers.into_values().collect()).map_err(|error| {
                // As for an append: the log is opened again, from its records.
                let failure = prepare::failure("reading spilled producers", &error);
                inner.fail_log(&log, &failure);
                ReadError::Offline(failure)
            });
        }
    }
}

/// The last offset of every producer of a log, spilled ones included.
pub(super) async fn last_offsets<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> io::Result<BTreeMap<i64, Offset>> {
    collect(inner, log, |producer| Offset::new(producer.last().end_offset.get() - 1)).await
}

/// What `pick` takes of every producer of a log, spilled ones included.
async fn collect<E: Env, T>(
    inner: &Inner<E>,
    log: &SharedLog<E>,
    pick: impl Fn(&Producer) -> T,
) -> io::Result<BTreeMap<i64, T>> {
    loop {
        let version = inner.prepared.version();
        let (id, header, floor) = {
            let log = log.borrow();
            (log.id, log.producers.spill_header(), log.producers.spill_floor())
        };
        let mut found = BTreeMap::new();
        let Some(header) = header else {
            log.borrow().producers.overlay(&mut found, pick);
            return Ok(found);
        };
        let is_read = read_spilled(inner, id, &header, |producer| {
            if producer.last().timestamp >= floor {
                found.insert(producer.id, pick(producer));
            }
        })
        .await;
        if log.borrow().producers.spill_header().is_some_and(|now| Rc::ptr_eq(&now, &header)) {
            if is_read? {
                log.borrow().producers.overlay(&mut found, pick);
                return Ok(found);
            }
            if !log.borrow().finishing {
                return Err(damaged());
            }
            // The next file has its name already.
            inner.prepared.changed(version).await;
        }
    }
}

/// Hands out every producer in the file with this header; `false` when it is another file.
async fn read_spilled<E: Env>(
    inner: &Inner<E>,
    id: PartitionId,
    header: &ProducersHeader,
    mut take: impl FnMut(&Producer),
) -> io::Result<bool> {
    let file = inner.env.disk().open(&inner.spill_path(id), OpenMode::Existing).await?;
    let mut block_index = 0;
    while block_index < header.block_count {
        let bytes = BLOCK_BYTES * usize::try_from(WINDOW_BLOCKS).expect("a small constant");
        let window = file.read_at(u64::from(block_index) * BLOCK_SIZE, bytes).await?.ok_or_else(damaged)?;
        if block_index == 0 && ProducersHeader::decode(window.as_slice()).as_ref() != Some(header) {
            return Ok(false);
        }
        for block in window.as_slice().chunks_exact(BLOCK_BYTES) {
            if block_index == header.block_count {
                break;
            }
            header.decode_block(block_index, block).ok_or_else(damaged)?.iter().for_each(&mut take);
            block_index += 1;
        }
        inner.env.tasks().yield_now().await;
    }
    Ok(true)
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file of spilled producers does not hold")
}

#[expect(clippy::as_conversions, reason = "a constant, and try_from is not const")]
const BLOCK_SIZE: u64 = BLOCK_BYTES as u64;
