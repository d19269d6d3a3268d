//! What must happen on every executor before it first opens a file of a device.
//!
//! Guard: glommio finds out whether a device can be polled for completions by reading from the first file it opens
//! there. An empty file answers with 0 bytes, which glommio takes for a yes, and every later read on that device fails
//! with `EOPNOTSUPP`. The first file we open is therefore write-only: its probe fails whatever the device, and glommio
//! falls back to interrupts for good. glommio logs that failure as an error, once per shard and device; it is what we
//! want, and [`is_deliberate`] tells it from errors that matter.
//!
//! Guard: glommio looks alignments up under the wrong device number when the data lives on a partition. The alignment is
//! ours, [`BLOCK_BYTES`], and a block written and read back shows here that the device takes it.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use ::glommio::io::DmaFile;

use super::buffer::zeroed_memory;
use super::operations::io_error;
use crate::BLOCK_BYTES;

/// The devices that this executor has prepared.
#[derive(Clone)]
pub(super) struct Devices {
    shared: Rc<Shared>,
}

struct Shared {
    shard_index: u16,
    probe_count: Cell<u64>,
    /// Device numbers.
    prepared: RefCell<Vec<u64>>,
}

impl Devices {
    pub(super) fn new(shard_index: u16) -> Self {
        let shared = Shared { shard_index, probe_count: Cell::new(0), prepared: RefCell::default() };
        Self { shared: Rc::new(shared) }
    }

    /// Prepares the device of `directory` unless that was done. Two calls at a time may both do it.
    pub(super) async fn prepare(&self, directory: &Path) -> io::Result<()> {
        let device = std::fs::metadata(directory)?.dev();
        if self.shared.prepared.borrow().contains(&device) {
            return Ok(());
        }
        let path = self.probe_path(directory);
        let outcome = write_and_read_back(&path).await;
        // The write's error says more than that of a removal that follows it.
        let removal = std::fs::remove_file(&path);
        outcome?;
        removal?;
        let mut prepared = self.shared.prepared.borrow_mut();
        if !prepared.contains(&device) {
            prepared.push(device);
        }
        Ok(())
    }

    /// A name of our own: shards prepare one directory at the same time, and so may two processes.
    fn probe_path(&self, directory: &Path) -> PathBuf {
        let probe = self.shared.probe_count.get();
        self.shared.probe_count.set(probe + 1);
        directory.join(format!("{PROBE_PREFIX}{}-{}-{probe}", std::process::id(), self.shared.shard_index))
    }
}

/// Whether a log message says no more than that the guard has worked: glommio could not read from our write-only file,
/// because it is write-only. The same message about any other file, or for any other reason, is news.
pub fn is_deliberate(target: &str, message: &str) -> bool {
    target == "glommio::reactor"
        && message.starts_with("got unexpected error when probing iopoll support for file ")
        && message.contains(&format!("/{PROBE_PREFIX}"))
        && message.ends_with(NOT_READABLE)
}

async fn write_and_read_back(path: &Path) -> io::Result<()> {
    let mut block = zeroed_memory(BLOCK_BYTES);
    block.as_bytes_mut().fill(PROBE_BYTE);
    // Write-only, see the module's header.
    let file = DmaFile::create(path).await.map_err(io_error)?;
    let written = file.write_at(block, 0).await.map_err(io_error)?;
    file.close().await.map_err(io_error)?;

    let file = DmaFile::open(path).await.map_err(io_error)?;
    let read = file.read_at_aligned(0, BLOCK_BYTES).await.map_err(io_error)?;
    file.close().await.map_err(io_error)?;
    if written == BLOCK_BYTES && *read == [PROBE_BYTE; BLOCK_BYTES] {
        return Ok(());
    }
    Err(io::Error::other("the device does not give back a block that was written with direct I/O"))
}

const PROBE_BYTE: u8 = 0x5A;
const PROBE_PREFIX: &str = ".probe-";
/// `EBADF`, as `io::Error` shows it: the file is not open for reading.
const NOT_READABLE: &str = "Bad file descriptor (os error 9)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_guards_own_message_is_deliberate() {
        let message = |file: &str, error: &str| {
            format!(
                "got unexpected error when probing iopoll support for file \"{file}\" (fd: 17) hosted on (0, 45); the poll \
                 ring will be disabled for this device: {error}"
            )
        };
        let own = message("/data/.probe-4711-0-0", NOT_READABLE);
        assert!(is_deliberate("glommio::reactor", &own));
        assert!(!is_deliberate("glommio::sys", &own));
        assert!(!is_deliberate("glommio::reactor", &message("/data/journal-0", NOT_READABLE)));
        assert!(!is_deliberate(
            "glommio::reactor",
            &message("/data/.probe-4711-0-0", "Input/output error (os error 5)")
        ));
        assert!(!is_deliberate("glommio::reactor", "a task queue is stalled"));
    }
}
