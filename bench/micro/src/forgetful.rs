//! A simulated shard whose disk can be told to forget: writes and flushes then end at once, and nothing is kept of them.
//!
//! The simulator's disk keeps every sector apart, so that it can lose it, and a benchmark that writes through it counts
//! little else. With this one it counts what is above the disk. Everything but writes and flushes stays the simulator's.
//!
//! Whoever reads what was written while the disk forgets gets what was there before: such a benchmark is a mistake.

use std::cell::Cell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use millrace_runtime::sim::{SimBuffer, SimDisk, SimEnv, SimFile};
use millrace_runtime::{DirEntry, Disk, Env, File, FlushScope, OpenMode, Unwritten};

/// A shard over such a disk. Clones are the same shard.
#[derive(Clone)]
pub struct ForgetfulEnv {
    env: SimEnv,
    disk: ForgetfulDisk,
}

impl ForgetfulEnv {
    /// The shard `env`, whose disk keeps everything until [`ForgetfulEnv::forget`].
    pub fn new(env: SimEnv) -> Self {
        let disk = ForgetfulDisk { disk: env.disk().clone(), forgets: Rc::default() };
        Self { env, disk }
    }

    /// From now on nothing is kept of what is written.
    pub fn forget(&self) {
        self.disk.forgets.set(true);
    }
}

impl Env for ForgetfulEnv {
    type Disk = ForgetfulDisk;
    type Clock = <SimEnv as Env>::Clock;
    type Tasks = <SimEnv as Env>::Tasks;
    type Net = <SimEnv as Env>::Net;
    type Random = <SimEnv as Env>::Random;
    type Sender<T: Send + 'static> = <SimEnv as Env>::Sender<T>;
    type Receiver<T: Send + 'static> = <SimEnv as Env>::Receiver<T>;

    fn disk(&self) -> &ForgetfulDisk {
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
        SimEnv::link(capacity)
    }
}

/// The disk of a [`ForgetfulEnv`].
#[derive(Clone)]
pub struct ForgetfulDisk {
    disk: SimDisk,
    forgets: Rc<Cell<bool>>,
}

impl Disk for ForgetfulDisk {
    type Buffer = SimBuffer;
    type File = ForgetfulFile;

    fn buffer(&self, bytes: usize) -> SimBuffer {
        self.disk.buffer(bytes)
    }

    fn unwritten_buffer(&self, bytes: usize) -> Unwritten<SimBuffer> {
        self.disk.unwritten_buffer(bytes)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<ForgetfulFile> {
        let file = self.disk.open(path, mode).await?;
        Ok(ForgetfulFile { file, forgets: Rc::clone(&self.forgets) })
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.disk.read_dir(path).await
    }

    async fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        self.disk.rename(source, target).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path).await
    }

    async fn flush_scope(&self, path: &Path) -> io::Result<FlushScope> {
        self.disk.flush_scope(path).await
    }

    async fn capacity_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.capacity_bytes(path).await
    }

    async fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        self.disk.available_bytes(path).await
    }
}

/// A file of a [`ForgetfulDisk`].
#[derive(Clone)]
pub struct ForgetfulFile {
    file: SimFile,
    forgets: Rc<Cell<bool>>,
}

impl File for ForgetfulFile {
    type Buffer = SimBuffer;

    async fn write_at(&self, buffer: Rc<SimBuffer>, position: u64) -> io::Result<()> {
        if self.forgets.get() { Ok(()) } else { self.file.write_at(buffer, position).await }
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<Option<SimBuffer>> {
        self.file.read_at(position, bytes).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        if self.forgets.get() { Ok(()) } else { self.file.sync_data().await }
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

#[cfg(test)]
mod tests {
    use millrace_runtime::sim::{World, WorldConfig};
    use millrace_runtime::{BLOCK_BYTES, Buffer};

    use super::*;

    #[test]
    fn what_is_written_is_kept_until_the_disk_is_told_to_forget() {
        let world = World::new(1, WorldConfig::default());
        world.run(async {
            let env = ForgetfulEnv::new(world.env(0));
            let file = env.disk().open(Path::new("/file"), OpenMode::New).await.unwrap();
            for byte in [1, 2] {
                let mut buffer = env.disk().buffer(BLOCK_BYTES);
                buffer.as_mut_slice().fill(byte);
                file.write_at(Rc::new(buffer), 0).await.unwrap();
                file.sync_data().await.unwrap();
                let read = file.read_at(0, BLOCK_BYTES).await.unwrap().unwrap();
                assert_eq!(read.as_slice()[0], 1);
                env.forget();
            }
        });
    }
}
