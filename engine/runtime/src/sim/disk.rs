//! The disk in time: operations start, take effect and are answered at moments drawn from the seed.
//!
//! An operation takes effect somewhere between its start and its answer, so a crash finds it not begun, in force but
//! unanswered, or answered. Writes are in flight until they are answered. Operations go on when their future is dropped.

mod buffer;
mod content;
mod control;
mod inode;
mod namespace;
mod volume;

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use self::buffer::assert_length;
use self::content::to_u64;
use super::env::Place;
use super::faults::{Failure, Operation};
use super::machine::Ending;
use crate::disk::{DirEntry, FlushScope, OpenMode};
use crate::local::oneshot;
use crate::{BLOCK_BYTES, Buffer, Disk, File, Unwritten};

pub use self::buffer::SimBuffer;
pub use self::control::{DiskControl, DiskImage};
pub(super) use self::volume::Volume;

/// The disk of a simulated machine, as one of its shards sees it.
#[derive(Clone)]
pub struct SimDisk {
    place: Rc<Place>,
}

impl SimDisk {
    pub(super) fn new(place: &Rc<Place>) -> Self {
        Self { place: Rc::clone(place) }
    }
}

impl Disk for SimDisk {
    type Buffer = SimBuffer;
    type File = SimFile;

    fn buffer(&self, bytes: usize) -> SimBuffer {
        SimBuffer::new(bytes)
    }

    fn unwritten_buffer(&self, bytes: usize) -> Unwritten<SimBuffer> {
        let mut buffer = SimBuffer::new(bytes);
        // Whoever relies on zeros is to find out.
        buffer.as_mut_slice().fill(0xA5);
        Unwritten::new(buffer)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<SimFile> {
        let path = path.to_owned();
        let synchronous = mode == OpenMode::Synchronous;
        operate(&self.place, Operation::Open, move |place| {
            let inode = place.machine.volume.borrow_mut().open(&path, mode)?;
            Ok(SimFile { open: Rc::new(OpenFile { place: Rc::clone(place), inode, synchronous }) })
        })
        .await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        operate(&self.place, Operation::CreateDir, move |place| place.machine.volume.borrow_mut().create_dir_all(&path))
            .await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let path = path.to_owned();
        operate(&self.place, Operation::ReadDir, move |place| place.machine.volume.borrow().read_dir(&path)).await
    }

    async fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        let (source, target): (PathBuf, PathBuf) = (source.to_owned(), target.to_owned());
        operate(&self.place, Operation::Rename, move |place| place.machine.volume.borrow_mut().rename(&source, &target))
            .await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        operate(&self.place, Operation::Remove, move |place| place.machine.volume.borrow_mut().remove_file(&path)).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        operate(&self.place, Operation::Remove, move |place| place.machine.volume.borrow_mut().remove_dir_all(&path))
            .await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let (path, place) = (path.to_owned(), &self.place);
        place.check_alive().await?;
        let start = begin(place, Operation::SyncDir);
        let (covered, failure) = (place.machine.volume.borrow().last_sequence(), start.failure);
        let effect = move |place: &Rc<Place>| {
            let mut volume = place.machine.volume.borrow_mut();
            match failure {
                // It ends with a flush of the device, and that may be what failed.
                Some(failure) => {
                    volume.lose_device_flush(covered, place.core.config.disk.flush_scope, &place.machine.disk_random);
                    Err(failure.to_error())
                }
                None if place.machine.faults.borrow().ignores_syncs => Ok(()),
                None => volume.sync_dir(&path),
            }
        };
        run(place, &start, effect).await
    }

    async fn flush_scope(&self, _path: &Path) -> io::Result<FlushScope> {
        self.place.check_alive().await?;
        Ok(self.place.core.config.disk.flush_scope)
    }

    async fn capacity_bytes(&self, _path: &Path) -> io::Result<u64> {
        operate(&self.place, Operation::Stat, |place| Ok(place.machine.volume.borrow().capacity_bytes)).await
    }

    async fn available_bytes(&self, _path: &Path) -> io::Result<u64> {
        operate(&self.place, Operation::Stat, |place| Ok(place.machine.volume.borrow().available_bytes())).await
    }
}

/// An open file of a simulated machine.
#[derive(Clone)]
pub struct SimFile {
    open: Rc<OpenFile>,
}

/// A descriptor.
struct OpenFile {
    place: Rc<Place>,
    inode: u64,
    synchronous: bool,
}

impl File for SimFile {
    type Buffer = SimBuffer;

    async fn write_at(&self, buffer: Rc<SimBuffer>, position: u64) -> io::Result<()> {
        let place = &self.open.place;
        place.check_alive().await?;
        assert_length(buffer.as_slice().len());
        assert_position(position);
        let start = begin(place, if self.open.synchronous { Operation::SyncData } else { Operation::Write });
        let hash = buffer.hash();
        place.core.trace.fold(position ^ hash);
        let id = {
            let mut volume = place.machine.volume.borrow_mut();
            volume.submit_write(self.open.inode, position, buffer, hash, place.core.config.disk.check_overlaps)
        };
        let (sender, receiver) = oneshot();
        // The event keeps the file open.
        let file = self.clone();
        place.call_after(start.effect_after_ns + start.answer_after_ns, move || {
            let machine = &file.open.place.machine;
            let failure = start.failure.map(Failure::to_error);
            let mut volume = machine.volume.borrow_mut();
            if file.open.synchronous && failure.is_some() {
                // It may have ended with a flush of the device, and that may be what failed.
                let covered = volume.last_sequence();
                volume.lose_device_flush(covered, file.open.place.core.config.disk.flush_scope, &machine.disk_random);
            }
            let result = volume.complete_write(id, file.open.synchronous, failure, &machine.disk_random);
            drop(volume);
            sender.send(result);
        });
        place.answer(receiver).await
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<Option<SimBuffer>> {
        assert_length(bytes);
        assert_position(position);
        let file = self.clone();
        operate(&self.open.place, Operation::Read, move |place| {
            Ok(place.machine.volume.borrow().read(file.open.inode, position, bytes))
        })
        .await
    }

    async fn sync_data(&self) -> io::Result<()> {
        let place = &self.open.place;
        place.check_alive().await?;
        let start = begin(place, Operation::SyncData);
        // What completes from now on is not covered.
        let covered = place.machine.volume.borrow().last_sequence();
        let (file, failure) = (self.clone(), start.failure);
        let effect = move |place: &Rc<Place>| {
            let mut volume = place.machine.volume.borrow_mut();
            let scope = place.core.config.disk.flush_scope;
            if failure.is_some() {
                volume.lose_sync(file.open.inode, covered, scope, &place.machine.disk_random);
            } else if !place.machine.faults.borrow().ignores_syncs {
                volume.sync_data(file.open.inode, covered, scope);
            }
            failure.map_or(Ok(()), |failure| Err(failure.to_error()))
        };
        run(place, &start, effect).await
    }

    async fn allocate(&self, start: u64, end: u64) -> io::Result<()> {
        assert!(start < end, "the range to allocate is not empty");
        let file = self.clone();
        operate(&self.open.place, Operation::Allocate, move |place| {
            place.machine.volume.borrow_mut().allocate(file.open.inode, start, end)
        })
        .await
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        let file = self.clone();
        operate(&self.open.place, Operation::Truncate, move |place| {
            place.machine.volume.borrow_mut().truncate(file.open.inode, bytes);
            Ok(())
        })
        .await
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        let file = self.clone();
        operate(&self.open.place, Operation::Stat, move |place| {
            Ok(place.machine.volume.borrow().inode(file.open.inode).visible.length_bytes())
        })
        .await
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        // A crash has closed it already.
        if self.place.is_alive() {
            self.place.machine.volume.borrow_mut().close(self.inode);
        }
    }
}

/// What is decided when an operation starts.
struct Start {
    effect_after_ns: u64,
    /// From the effect to the answer.
    answer_after_ns: u64,
    failure: Option<Failure>,
}

/// Runs an operation that does nothing when it fails.
async fn operate<T: 'static>(
    place: &Rc<Place>,
    operation: Operation,
    effect: impl FnOnce(&Rc<Place>) -> io::Result<T> + 'static,
) -> io::Result<T> {
    place.check_alive().await?;
    let start = begin(place, operation);
    let failure = start.failure;
    run(place, &start, move |place| match failure {
        Some(failure) => Err(failure.to_error()),
        None => effect(place),
    })
    .await
}

/// Counts an operation, draws its times and its fate, and arms the crash that was set for it.
fn begin(place: &Rc<Place>, operation: Operation) -> Start {
    let machine = &place.machine;
    let random = &machine.disk_random;
    let config = &place.core.config.disk;
    let verdict = machine.faults.borrow_mut().begin(operation, random);
    let latency_ns = match operation {
        Operation::SyncData | Operation::SyncDir => random.delay(&config.sync_latency_ns),
        _ => random.delay(&config.latency_ns),
    };
    let effect_after_ns = random.below(latency_ns + 1);
    if verdict.crashes {
        let (core, machine) = (Rc::clone(&place.core), Rc::clone(machine));
        let crash_after_ns = random.below(latency_ns + 1);
        place.call_after(crash_after_ns, move || machine.end_life(&core, Ending::PowerLoss));
    }
    Start { effect_after_ns, answer_after_ns: latency_ns - effect_after_ns, failure: verdict.failure }
}

/// Lets an operation take effect and answers it, each in its time.
async fn run<T: 'static>(
    place: &Rc<Place>,
    start: &Start,
    effect: impl FnOnce(&Rc<Place>) -> io::Result<T> + 'static,
) -> io::Result<T> {
    let (sender, receiver) = oneshot();
    let answer_after_ns = start.answer_after_ns;
    let worker = Rc::clone(place);
    place.call_after(start.effect_after_ns, move || {
        let result = effect(&worker);
        worker.call_after(answer_after_ns, move || sender.send(result));
    });
    place.answer(receiver).await
}

fn assert_position(position: u64) {
    assert!(
        position.is_multiple_of(to_u64(BLOCK_BYTES)),
        "position {position} of direct I/O is a multiple of the block"
    );
}
