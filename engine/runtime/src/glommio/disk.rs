//! Names and directories, and the opening of files.
//!
//! `io_uring` has no call for most of this, so it runs on the shard's one blocking thread.

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ::glommio::io::OpenOptions;

use super::buffer::GlommioBuffer;
use super::device::Devices;
use super::file::GlommioFile;
use super::names::Names;
use super::operations::{Operations, io_error};
use crate::disk::{DirEntry, FlushScope, OpenMode};
use crate::{Disk, Unwritten};

/// The file system as one shard sees it.
#[derive(Clone)]
pub struct GlommioDisk {
    operations: Operations,
    devices: Devices,
    names: Names,
}

impl GlommioDisk {
    pub(super) fn new(shard_index: u16, operations: Operations) -> Self {
        Self { operations, devices: Devices::new(shard_index), names: Names::default() }
    }

    /// Makes the device of `directory` ready for this shard, and fails when it does not take direct I/O.
    ///
    /// [`Disk::open`] does the same on first use of a device; doing it at start finds a bad disk then.
    pub async fn prepare_data_device(&self, directory: &Path) -> io::Result<()> {
        let directory = directory.to_owned();
        let devices = self.devices.clone();
        self.operations.run(async move { devices.prepare(&directory).await }).await
    }
}

impl Disk for GlommioDisk {
    type Buffer = GlommioBuffer;
    type File = GlommioFile;

    fn buffer(&self, bytes: usize) -> GlommioBuffer {
        GlommioBuffer::zeroed(bytes)
    }

    fn unwritten_buffer(&self, bytes: usize) -> Unwritten<GlommioBuffer> {
        GlommioBuffer::unwritten(bytes)
    }

    async fn open(&self, path: &Path, mode: OpenMode) -> io::Result<GlommioFile> {
        // glommio panics on such a path.
        path_to_c_string(path)?;
        let path = path.to_owned();
        let this = self.clone();
        let open = async move {
            let _guard = this.names.open(&path).await;
            this.devices.prepare(parent(&path)).await?;
            let file = open_options(mode).dma_open(&path).await.map_err(io_error)?;
            Ok(GlommioFile::new(file, this.operations.clone()))
        };
        self.operations.run(open).await
    }

    async fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.operations.run_blocking((), move || std::fs::create_dir_all(path)).await
    }

    async fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let path = path.to_owned();
        self.operations.run_blocking((), move || read_dir(&path)).await
    }

    async fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        let guard = self.names.remove(source).await;
        let (source, target) = (source.to_owned(), target.to_owned());
        self.operations.run_blocking(guard, move || std::fs::rename(source, target)).await
    }

    async fn remove_file(&self, path: &Path) -> io::Result<()> {
        let guard = self.names.remove(path).await;
        let path = path.to_owned();
        self.operations.run_blocking(guard, move || std::fs::remove_file(path)).await
    }

    async fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let guard = self.names.remove(path).await;
        let path = path.to_owned();
        self.operations.run_blocking(guard, move || std::fs::remove_dir_all(path)).await
    }

    async fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        self.operations.run_blocking((), move || std::fs::File::open(path)?.sync_all()).await
    }

    async fn flush_scope(&self, path: &Path) -> io::Result<FlushScope> {
        let path = path_to_c_string(path)?;
        self.operations.run_blocking((), move || flush_scope(&path)).await
    }

    async fn capacity_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = path_to_c_string(path)?;
        let space = self.operations.run_blocking((), move || file_system_space(&path)).await?;
        Ok(space.f_blocks.saturating_mul(space.f_frsize))
    }

    async fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = path_to_c_string(path)?;
        let space = self.operations.run_blocking((), move || file_system_space(&path)).await?;
        Ok(space.f_bavail.saturating_mul(space.f_frsize))
    }
}

fn open_options(mode: OpenMode) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match mode {
        OpenMode::Existing => {}
        OpenMode::New => {
            options.create_new(true);
        }
        OpenMode::Synchronous => {
            options.custom_flags(libc::O_DSYNC);
        }
    }
    options
}

fn read_dir(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().into_string() {
            entries.push(DirEntry { name, is_dir: entry.file_type()?.is_dir() });
        }
    }
    entries.sort();
    Ok(entries)
}

/// File systems that write an already written extent in place and pass `fdatasync` on to the device as a flush of its
/// whole cache. Copy-on-write and network file systems are not among them, nor are those in memory.
const OVERWRITING_FILE_SYSTEMS: [u64; 2] = [EXT_MAGIC, XFS_MAGIC];
const EXT_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;

fn flush_scope(path: &CString) -> io::Result<FlushScope> {
    let mut answer = MaybeUninit::<libc::statfs64>::uninit();
    // SAFETY: the path ends with a zero byte and the answer has room for the structure.
    if unsafe { libc::statfs64(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the answer.
    let answer = unsafe { answer.assume_init() };
    let known = u64::try_from(answer.f_type).is_ok_and(|magic| OVERWRITING_FILE_SYSTEMS.contains(&magic));
    Ok(if known { FlushScope::Device } else { FlushScope::File })
}

fn file_system_space(path: &CString) -> io::Result<libc::statvfs64> {
    let mut answer = MaybeUninit::<libc::statvfs64>::uninit();
    // SAFETY: the path ends with a zero byte and the answer has room for the structure.
    if unsafe { libc::statvfs64(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it has filled the answer.
    Ok(unsafe { answer.assume_init() })
}

fn path_to_c_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The directory that holds `path`.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}
