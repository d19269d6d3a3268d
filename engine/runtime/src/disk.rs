//! Files under direct I/O, as narrow as the storage engine needs them.
//!
//! Invariants that every implementation asserts:
//! - positions, lengths and buffers of reads and writes are multiples of [`BLOCK_BYTES`];
//! - a buffer that was handed to a write is shared (`Rc`) and never changes again;
//! - nothing orders two writes: a caller that needs an order awaits the first before it starts the second;
//! - written bytes are durable only after a `sync_data` that began after the write completed (or after the write itself
//!   for a file opened with [`OpenMode::Synchronous`]); created, renamed and removed names only after `sync_dir`.

use std::io;
use std::path::Path;
use std::ptr::NonNull;
use std::rc::Rc;

/// Alignment and granularity of all direct I/O, in bytes. Fixed rather than asked of the device: every device we serve
/// accepts it, and the on-disk format depends on it.
pub const BLOCK_BYTES: usize = 4096;

/// An owned, block-aligned piece of memory. Its length is a non-zero multiple of [`BLOCK_BYTES`].
pub trait Buffer: 'static {
    /// The whole buffer.
    fn as_slice(&self) -> &[u8];

    /// The whole buffer, for filling.
    fn as_mut_slice(&mut self) -> &mut [u8];

    /// The whole buffer as memory that need not be initialised. It stays where it is when the buffer moves.
    fn memory(&mut self) -> NonNull<[u8]>;

    /// Shortens the buffer to its first `bytes`, a multiple of [`BLOCK_BYTES`] that is not above its length.
    fn trim(&mut self, bytes: usize);
}

/// Memory of a buffer that nobody has written yet, for whoever fills it anyway and need not have it zeroed.
pub struct Unwritten<B> {
    buffer: B,
}

impl<B: Buffer> Unwritten<B> {
    /// A buffer whose content does not matter.
    pub fn new(buffer: B) -> Self {
        Self { buffer }
    }

    /// The memory. It may not be initialised.
    pub fn memory(&mut self) -> NonNull<[u8]> {
        self.buffer.memory()
    }

    /// The buffer, shortened to its first `bytes`.
    ///
    /// # Safety
    /// Those have been written through [`Self::memory`].
    pub unsafe fn into_written(mut self, bytes: usize) -> B {
        if bytes < self.memory().len() {
            self.buffer.trim(bytes);
        }
        self.buffer
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file.
    Existing,
    /// A new file; fails with [`io::ErrorKind::AlreadyExists`] when the name is taken.
    New,
    /// An existing file of which every completed write is durable, without a flush of its own (`O_DSYNC`).
    Synchronous,
}

/// What one [`File::sync_data`] reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// Only the file it is called on.
    File,
    /// Besides that file, every completed write on the same device that went over extents which were written and flushed
    /// before: such a write changes no metadata, so all it still needs is the device's own flush.
    Device,
}

/// What [`Disk::read_dir`] tells of one name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name, without its directory. Names that are not UTF-8 are never ours and are left out of listings.
    pub name: String,
    /// Whether the name is a directory.
    pub is_dir: bool,
}

/// The file system as one shard sees it.
pub trait Disk: Clone + 'static {
    /// Memory for reads and writes.
    type Buffer: Buffer;
    /// An open file.
    type File: File<Buffer = Self::Buffer>;

    /// A zeroed buffer of `bytes`, a non-zero multiple of [`BLOCK_BYTES`].
    fn buffer(&self, bytes: usize) -> Self::Buffer;

    /// The same without the zeros.
    fn unwritten_buffer(&self, bytes: usize) -> Unwritten<Self::Buffer>;

    /// Opens a file for reading and writing.
    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Self::File>;

    /// Makes a directory and its missing parents. Durable after `sync_dir` of each parent.
    async fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The names in a directory, sorted.
    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>>;

    /// Renames a file or directory within its file system, replacing a file that has the new name.
    async fn rename(&self, source: &Path, target: &Path) -> io::Result<()>;

    /// Removes a file. Open handles stay usable.
    async fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes a directory and all it holds.
    async fn remove_dir_all(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    async fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// What a flush of a file under `path` reaches. [`FlushScope::Device`] only for file systems known to overwrite in
    /// place and to pass the flush on.
    async fn flush_scope(&self, path: &Path) -> io::Result<FlushScope>;

    /// Size of the file system of `path`, in bytes.
    async fn capacity_bytes(&self, path: &Path) -> io::Result<u64>;

    /// Bytes that may still be allocated on the file system of `path`.
    async fn available_bytes(&self, path: &Path) -> io::Result<u64>;
}

/// An open file. Clones share the descriptor; it is closed when the last clone goes.
///
/// Dropping the future of an operation leaves open whether the operation happened. Callers run I/O in tasks of its own
/// that nobody cancels, and never put a timeout around it.
pub trait File: Clone + 'static {
    /// Memory for reads and writes.
    type Buffer: Buffer;

    /// Writes a whole buffer at `position`. A short write is continued inside; success means all of it was written.
    async fn write_at(&self, buffer: Rc<Self::Buffer>, position: u64) -> io::Result<()>;

    /// Reads up to `bytes` at `position`. The answer is shorter only at the end of the file, and always whole blocks: a
    /// partial last block is padded with zeros. Empty (`None`) at or past the end.
    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<Option<Self::Buffer>>;

    /// Makes every completed write durable, and the file's length with it. After an error nothing is known about the
    /// writes since the last success, and trying again proves nothing: the caller gives the file up.
    async fn sync_data(&self) -> io::Result<()>;

    /// Reserves space for `start..end` and grows the file to `end` if it is shorter. New bytes read as zeros.
    async fn allocate(&self, start: u64, end: u64) -> io::Result<()>;

    /// Cuts or extends the file to `bytes`.
    async fn truncate(&self, bytes: u64) -> io::Result<()>;

    /// Length in bytes.
    async fn size_bytes(&self) -> io::Result<u64>;
}
