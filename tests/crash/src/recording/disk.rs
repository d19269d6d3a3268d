//! The disk of a recorded shard: notes the start of each operation, has the inner disk do it, notes its end.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use millrace_runtime::{Buffer, DirEntry, Disk, Env, File, FlushScope, OpenMode, TaskClass, Tasks, Unwritten};

use super::{Lie, Note};
use crate::trace::{Change, Content, Event};

/// A recorded disk.
#[derive(Clone)]
pub struct RecordingDisk<E: Env> {
    inner: E,
    note: Note,
    /// Writes that have completed, but pass the next flush: their ends are noted behind it.
    passing: Rc<RefCell<Vec<u64>>>,
}

impl<E: Env> RecordingDisk<E> {
    pub(super) fn new(inner: E, note: Note) -> Self {
        Self { inner, note, passing: Rc::default() }
    }

    /// Notes `change`, if there is one to note, around `operation`.
    async fn record<T>(&self, change: Option<Change>, operation: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let Some(change) = change else { return operation.await };
        let number = self.note.recorder.start(change);
        let result = operation.await;
        self.note.recorder.end(number, &result);
        result
    }

    fn path(&self, path: &Path) -> Option<String> {
        self.note.recorder.path(path)
    }
}

impl<E: Env> Disk for RecordingDisk<E> {
    type Buffer = <E::Disk as Disk>::Buffer;
    type File = RecordingFile<E>;

    fn buffer(&self, bytes: usize) -> Self::Buffer {
        self.inner.disk().buffer(bytes)
    }

    fn unwritten_buffer(&self, bytes: usize) -> Unwritten<Self::Buffer> {
        self.inner.disk().unwritten_buffer(bytes)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File> {
        let handle = self.note.recorder.number();
        let name = self.path(path).expect("the engine keeps its files below its data directory");
        let opening = self.inner.disk().open(path, mode);
        let file = if mode == OpenMode::New {
            self.record(Some(Change::Create { handle, path: name }), opening).await?
        } else {
            let file = opening.await?;
            self.note.recorder.note(Event::Opened { handle, path: name });
            file
        };
        Ok(RecordingFile { disk: self.clone(), file, handle, synchronous: mode == OpenMode::Synchronous })
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let change = self.path(path).map(|path| Change::CreateDirs { path });
        self.record(change, self.inner.disk().create_dir_all(path)).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.inner.disk().read_dir(path).await
    }

    async fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        let names = self.path(source).zip(self.path(target));
        let torn = self.note.lies(Lie::TornRename);
        let change =
            names.map(
                |(source, target)| {
                    if torn { Change::TornRename { source, target } } else { Change::Rename { source, target } }
                },
            );
        self.record(change, self.inner.disk().rename(source, target)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let change = self.path(path).map(|path| Change::RemoveFile { path });
        self.record(change, self.inner.disk().remove_file(path)).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let change = self.path(path).map(|path| Change::RemoveDir { path });
        self.record(change, self.inner.disk().remove_dir_all(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.note.lies(Lie::LostDirSync) {
            return Ok(());
        }
        let change = self.path(path).map(|path| Change::SyncDir { path });
        self.record(change, self.inner.disk().sync_dir(path)).await
    }

    async fn flush_scope(&self, _path: &Path) -> io::Result<FlushScope> {
        Ok(self.note.nature.scope)
    }

    async fn capacity_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.disk().capacity_bytes(path).await
    }

    async fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.disk().available_bytes(path).await
    }
}

/// An open file of a recorded disk.
#[derive(Clone)]
pub struct RecordingFile<E: Env> {
    disk: RecordingDisk<E>,
    file: <E::Disk as Disk>::File,
    handle: u64,
    synchronous: bool,
}

impl<E: Env> File for RecordingFile<E> {
    type Buffer = <E::Disk as Disk>::Buffer;

    async fn write_at(&self, buffer: Rc<Self::Buffer>, position: u64) -> io::Result<()> {
        let content = Content::of(buffer.as_slice());
        let change = Change::Write { handle: self.handle, position, content, synchronous: self.synchronous };
        let number = self.disk.note.recorder.start(change);
        let result = self.file.write_at(buffer, position).await;
        if result.is_ok() && self.disk.note.lies_now(Lie::WritePassesFlush) {
            self.disk.passing.borrow_mut().push(number);
        } else {
            self.disk.note.recorder.end(number, &result);
        }
        result
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<Option<Self::Buffer>> {
        self.file.read_at(position, bytes).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        if self.disk.note.lies_now(Lie::SkippedFlush) {
            return Ok(());
        }
        let (disk, file) = (self.disk.clone(), self.file.clone());
        let change = Change::Sync { handle: self.handle };
        if self.disk.note.lies(Lie::EarlyFlush) {
            let flush = async move { disk.record(Some(change), file.sync_data()).await };
            drop(self.disk.inner.tasks().spawn(TaskClass::Flush, flush));
            return Ok(());
        }
        let passing = self.disk.passing.take();
        let result = self.disk.record(Some(change), self.file.sync_data()).await;
        for number in passing {
            self.disk.note.recorder.end(number, &Ok::<(), io::Error>(()));
        }
        result
    }

    async fn allocate(&self, start: u64, end: u64) -> io::Result<()> {
        let change = Change::Allocate { handle: self.handle, end };
        self.disk.record(Some(change), self.file.allocate(start, end)).await
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        let change = Change::Truncate { handle: self.handle, bytes };
        self.disk.record(Some(change), self.file.truncate(bytes)).await
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        self.file.size_bytes().await
    }
}
