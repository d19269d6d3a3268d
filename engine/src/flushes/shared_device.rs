//! An `Env` whose disk flushes the device beside those of other shards: a flush of it succeeds only if it counts.
//!
//! It stands at the seam, and the store's logs, journal and recovery know no other disk. So no flush is forgotten, also
//! none that is written some day: rounds, fills, segments that are made, cut or replaced, the journal, checkpoints, and
//! the directories, since synchronising one ends with the same flush. Some of them could do without, such as an index
//! that is made again when it is damaged; they are rare, and a failed one may lose another's writes like any other.
//!
//! Everything but flushes is handed through.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use millrace_runtime::{Clock, DirEntry, Disk, Env, File, FlushScope, OpenMode, Tasks, Unwritten};

use super::{Begun, Ended, ShardFlushes, Verdict};

/// While other flushes are under way, the shard's other tasks get so many turns: mostly that is enough for a flush that
/// ended at the same moment.
const TURNS_MAX: u32 = 8;
/// From then on, it is looked so often how they ended. Whoever ends one does not wake those who wait: decision 004.
const PAUSE: Duration = Duration::from_micros(100);

/// A shard whose device is flushed by others too.
#[derive(Clone)]
pub(crate) struct SharedDevice<E: Env> {
    env: E,
    disk: SharedDisk<E>,
}

impl<E: Env> SharedDevice<E> {
    /// Wraps the shard `env`, whose flushes are `flushes`. Where they reach one file only, they stay as they are.
    pub(crate) fn new(env: E, flushes: Rc<RefCell<ShardFlushes>>, scope: FlushScope) -> Self {
        Self { disk: SharedDisk { watch: Rc::new(Watch { env: env.clone(), scope, flushes }) }, env }
    }
}

impl<E: Env> Env for SharedDevice<E> {
    type Disk = SharedDisk<E>;
    type Clock = E::Clock;
    type Tasks = E::Tasks;
    type Net = E::Net;
    type Random = E::Random;
    type Sender<T: Send + 'static> = E::Sender<T>;
    type Receiver<T: Send + 'static> = E::Receiver<T>;

    fn disk(&self) -> &Self::Disk {
        &self.disk
    }

    fn clock(&self) -> &Self::Clock {
        self.env.clock()
    }

    fn tasks(&self) -> &Self::Tasks {
        self.env.tasks()
    }

    fn net(&self) -> &Self::Net {
        self.env.net()
    }

    fn random(&self) -> &Self::Random {
        self.env.random()
    }

    fn shard_index(&self) -> u16 {
        self.env.shard_index()
    }

    fn link<T: Send + 'static>(capacity: usize) -> (Self::Sender<T>, Self::Receiver<T>) {
        E::link(capacity)
    }
}

struct Watch<E: Env> {
    env: E,
    scope: FlushScope,
    flushes: Rc<RefCell<ShardFlushes>>,
}

impl<E: Env> Watch<E> {
    /// Runs a flush, and waits until it is known whether it counts. `concerns_device` says of which errors the device may
    /// be the reason.
    async fn flush(
        &self,
        flush: impl Future<Output = io::Result<()>>,
        concerns_device: fn(&io::Error) -> bool,
    ) -> io::Result<()> {
        if self.scope == FlushScope::File {
            return flush.await;
        }
        let running = Running { watch: self, begun: Some(self.flushes.borrow_mut().begin()) };
        match flush.await {
            Ok(()) => self.confirm(running.end_well()).await,
            Err(error) if concerns_device(&error) => {
                drop(running);
                Err(error)
            }
            Err(error) => {
                // It did not get as far as the device.
                running.end_well();
                Err(error)
            }
        }
    }

    async fn confirm(&self, ended: Ended) -> io::Result<()> {
        let mut turn = 0;
        loop {
            let verdict = self.flushes.borrow().verdict(ended);
            match verdict {
                Verdict::Counts => return Ok(()),
                Verdict::Lost => return Err(io::Error::other("another flush of the device has failed")),
                Verdict::Open if turn < TURNS_MAX => self.env.tasks().yield_now().await,
                Verdict::Open => self.env.clock().sleep(PAUSE).await,
            }
            turn += 1;
        }
    }
}

/// A flush that is under way. One that is dropped has failed: nobody will learn more of it.
struct Running<'a, E: Env> {
    watch: &'a Watch<E>,
    begun: Option<Begun>,
}

impl<E: Env> Running<'_, E> {
    fn end_well(mut self) -> Ended {
        let begun = self.begun.take().expect("it ends once");
        self.watch.flushes.borrow_mut().end_well(begun)
    }
}

impl<E: Env> Drop for Running<'_, E> {
    fn drop(&mut self) {
        if let Some(begun) = self.begun.take() {
            self.watch.flushes.borrow_mut().end_badly(begun);
        }
    }
}

/// The disk of a [`SharedDevice`].
#[derive(Clone)]
pub(crate) struct SharedDisk<E: Env> {
    watch: Rc<Watch<E>>,
}

impl<E: Env> SharedDisk<E> {
    fn inner(&self) -> &E::Disk {
        self.watch.env.disk()
    }
}

impl<E: Env> Disk for SharedDisk<E> {
    type Buffer = <E::Disk as Disk>::Buffer;
    type File = SharedFile<E>;

    fn buffer(&self, bytes: usize) -> Self::Buffer {
        self.inner().buffer(bytes)
    }

    fn unwritten_buffer(&self, bytes: usize) -> Unwritten<Self::Buffer> {
        self.inner().unwritten_buffer(bytes)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File> {
        let file = self.inner().open(path, mode).await?;
        Ok(SharedFile { file, watch: Rc::clone(&self.watch), is_synchronous: mode == OpenMode::Synchronous })
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner().create_dir_all(path).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner().read_dir(path).await
    }

    async fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.inner().rename(source, target).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner().remove_file(path).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.inner().remove_dir_all(path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.watch.flush(self.inner().sync_dir(path), |error| !is_refusal(error)).await
    }

    async fn flush_scope(&self, path: &Path) -> io::Result<FlushScope> {
        self.inner().flush_scope(path).await
    }

    async fn capacity_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner().capacity_bytes(path).await
    }

    async fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner().available_bytes(path).await
    }
}

/// A file of a [`SharedDevice`].
pub(crate) struct SharedFile<E: Env> {
    file: <E::Disk as Disk>::File,
    watch: Rc<Watch<E>>,
    /// Every write of it may end with a flush of the device, and counts or not as one does.
    is_synchronous: bool,
}

impl<E: Env> Clone for SharedFile<E> {
    fn clone(&self) -> Self {
        Self { file: self.file.clone(), watch: Rc::clone(&self.watch), is_synchronous: self.is_synchronous }
    }
}

impl<E: Env> File for SharedFile<E> {
    type Buffer = <E::Disk as Disk>::Buffer;

    async fn write_at(&self, buffer: Rc<Self::Buffer>, position: u64) -> io::Result<()> {
        let write = self.file.write_at(buffer, position);
        if self.is_synchronous { self.watch.flush(write, |_| true).await } else { write.await }
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<Option<Self::Buffer>> {
        self.file.read_at(position, bytes).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.watch.flush(self.file.sync_data(), |_| true).await
    }

    async fn allocate(&self, start: u64, end: u64) -> io::Result<()> {
        self.file.allocate(start, end).await
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.file.truncate(bytes).await
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes().await
    }
}

/// Whether a directory was not even opened: there is none, or it may not be opened, or no file may.
fn is_refusal(error: &io::Error) -> bool {
    let by_kind = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
    by_kind || crate::io::is_out_of_files(error)
}
