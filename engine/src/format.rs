//! Bytes on disk, pure: structures, checksums and their checks, no I/O. docs/FORMAT.md describes every one of them and
//! changes with this module.
//!
//! All integers are little-endian, except inside record batches, which are stored as Kafka sends them. Every structure
//! starts with a magic number and carries a CRC-32C; a decoder answers `None` or an error for anything else, never a panic.

pub mod checkpoint;
pub mod journal;
pub mod segment_header;

/// Version of the on-disk format as a whole; a directory of another version is refused.
pub const FORMAT_VERSION: u32 = 1;

/// Copies `bytes` to the start of `target`.
///
/// # Panics
/// When they do not fit.
fn put(target: &mut [u8], bytes: &[u8]) {
    target[..bytes.len()].copy_from_slice(bytes);
}
