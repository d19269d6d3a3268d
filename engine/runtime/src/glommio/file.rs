//! Open files under direct I/O.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::rc::Rc;

use ::glommio::io::{DmaBuffer, DmaFile};

use super::buffer::{GlommioBuffer, assert_block_count, copied_memory};
use super::operations::{Operations, io_error};
use crate::{BLOCK_BYTES, Buffer, File};

/// An open file. Clones share the descriptor.
///
/// The descriptor is closed by the first turn of the executor after the last clone and the last operation are gone;
/// once the executor has ended, nobody closes it any more.
#[derive(Clone)]
pub struct GlommioFile {
    file: Rc<DmaFile>,
    operations: Operations,
}

impl GlommioFile {
    pub(super) fn new(file: DmaFile, operations: Operations) -> Self {
        Self { file: Rc::new(file), operations }
    }
}

impl File for GlommioFile {
    type Buffer = GlommioBuffer;

    async fn write_at(&self, buffer: Rc<GlommioBuffer>, position: u64) -> io::Result<()> {
        assert_block_position(position);
        assert_block_count(buffer.as_slice().len());
        let memory = buffer.to_written();
        let file = Rc::clone(&self.file);
        self.operations.run(async move { write_all(&file, memory, position).await }).await
    }

    async fn read_at(&self, position: u64, bytes: usize) -> io::Result<Option<GlommioBuffer>> {
        assert_block_position(position);
        assert_block_count(bytes);
        let file = Rc::clone(&self.file);
        self.operations.run(async move { read_up_to(&file, position, bytes).await }).await
    }

    async fn sync_data(&self) -> io::Result<()> {
        let file = Rc::clone(&self.file);
        self.operations.run(async move { file.fdatasync().await.map_err(io_error) }).await
    }

    async fn allocate(&self, start: u64, end: u64) -> io::Result<()> {
        assert!(start < end, "an allocation has a length");
        let descriptor = self.file.as_raw_fd();
        let allocate = move || {
            let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
            let start_signed = i64::try_from(start).map_err(invalid)?;
            let length_signed = i64::try_from(end - start).map_err(invalid)?;
            // SAFETY: the call takes no memory, and the descriptor stays open because the file is kept with the closure.
            let result = unsafe { libc::fallocate64(descriptor, 0, start_signed, length_signed) };
            if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
        };
        // glommio's own fallocate takes no start: it would fill holes that the caller left on purpose.
        self.operations.run_blocking(Rc::clone(&self.file), allocate).await
    }

    async fn truncate(&self, bytes: u64) -> io::Result<()> {
        let file = Rc::clone(&self.file);
        self.operations.run(async move { file.truncate(bytes).await.map_err(io_error) }).await
    }

    async fn size_bytes(&self) -> io::Result<u64> {
        size_bytes(&self.file)
    }
}

/// Writes all of `memory`, however many writes it takes.
async fn write_all(file: &DmaFile, mut memory: Rc<DmaBuffer>, mut position: u64) -> io::Result<()> {
    loop {
        let written = match file.write_rc_at(Rc::clone(&memory), position).await.map_err(io_error) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if written == memory.len() {
            return Ok(());
        }
        let Some((rest, whole_bytes)) = rest_after(memory.as_bytes(), written) else {
            return Err(io::ErrorKind::WriteZero.into());
        };
        memory = Rc::new(rest);
        position += u64_of(whole_bytes);
    }
}

/// What is left to write after a write that took only `written` bytes, and the bytes in front of it. It starts at a block
/// boundary, so it may repeat the end of what was written. `None` when not even one block was written.
fn rest_after(memory: &[u8], written: usize) -> Option<(DmaBuffer, usize)> {
    let whole_bytes = written - written % BLOCK_BYTES;
    // A copy, because glommio writes whole buffers only. It is as rare as a full disk.
    (whole_bytes > 0).then(|| (copied_memory(&memory[whole_bytes..]), whole_bytes))
}

/// Reads up to `bytes` at `position`, padded to whole blocks; `None` at or past the end.
///
/// Guard: glommio's `read_at` rounds the request up and cuts the answer by what was asked for instead of by what was
/// read, so at the end of a file it hands out what the buffer held before. Only `read_at_aligned` is used, and of its
/// answer nothing past the length it states.
async fn read_up_to(file: &DmaFile, position: u64, bytes: usize) -> io::Result<Option<GlommioBuffer>> {
    let first = read_once(file, position, bytes).await?;
    let is_whole = first.len().is_multiple_of(BLOCK_BYTES);
    if first.len() == bytes || (is_whole && position + u64_of(first.len()) >= size_bytes(file)?) {
        return Ok((!first.is_empty()).then(|| GlommioBuffer::from_read(first)));
    }

    // The file ends within a block, or the read was cut short for no reason that we can see.
    let mut buffer = GlommioBuffer::zeroed(bytes);
    buffer.as_mut_slice()[..first.len()].copy_from_slice(&first);
    let mut filled = first.len();
    while filled < bytes && filled.is_multiple_of(BLOCK_BYTES) {
        let next = read_once(file, position + u64_of(filled), bytes - filled).await?;
        if next.is_empty() {
            break;
        }
        buffer.as_mut_slice()[filled..filled + next.len()].copy_from_slice(&next);
        filled += next.len();
    }
    if filled == 0 {
        return Ok(None);
    }
    buffer.trim(filled.next_multiple_of(BLOCK_BYTES));
    Ok(Some(buffer))
}

async fn read_once(file: &DmaFile, position: u64, bytes: usize) -> io::Result<::glommio::io::ReadResult> {
    loop {
        match file.read_at_aligned(position, bytes).await.map_err(io_error) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// The file's length by its descriptor. glommio asks by name, which fails once the file is renamed or removed. The
/// answer is in memory, so the call does not block.
fn size_bytes(file: &DmaFile) -> io::Result<u64> {
    // SAFETY: `file` owns the descriptor and outlives this function; `ManuallyDrop` keeps the second owner from closing it.
    let borrowed = ManuallyDrop::new(unsafe { std::fs::File::from_raw_fd(file.as_raw_fd()) });
    Ok(borrowed.metadata()?.len())
}

fn assert_block_position(position: u64) {
    assert!(position.is_multiple_of(u64_of(BLOCK_BYTES)), "direct I/O starts at a block, not at byte {position}");
}

fn u64_of(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("a usize has at most 64 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_write_is_continued_at_the_block_boundary_before_its_end() {
        let mut memory = vec![1; 3 * BLOCK_BYTES];
        memory[BLOCK_BYTES..].fill(2);
        let (rest, whole_bytes) = rest_after(&memory, 2 * BLOCK_BYTES - 1).unwrap();
        assert_eq!(whole_bytes, BLOCK_BYTES);
        assert_eq!(rest.as_bytes(), &memory[BLOCK_BYTES..]);
    }

    #[test]
    fn a_write_of_less_than_a_block_is_not_continued() {
        assert!(rest_after(&vec![1; 2 * BLOCK_BYTES], 0).is_none());
        assert!(rest_after(&vec![1; 2 * BLOCK_BYTES], BLOCK_BYTES - 1).is_none());
    }
}
