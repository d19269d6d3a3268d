//! Bytes on disk, pure: structures, checksums and their checks, no I/O. docs/FORMAT.md describes every one of them and
//! changes with this module.
//!
//! All integers are little-endian, except inside record batches, which are stored as Kafka sends them. Every structure
//! starts with a magic number and carries a CRC-32C; a decoder answers `None` or an error for anything else, never a panic.

pub mod checkpoint;
pub mod index;
pub mod journal;
pub mod producers;
pub mod segment_header;

use crate::model::Offset;

/// Version of the on-disk format as a whole; a directory of another version is refused.
pub const FORMAT_VERSION: u32 = 2;

/// The largest position or count in a structure that is believed. No file is longer than a signed number says, nothing
/// counts further, and a sum with what memory holds stays in the number range.
const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();

/// The offset in a file name of twenty digits and `suffix`; every offset has one spelling.
pub(crate) fn parse_offset_name(name: &str, suffix: &str) -> Option<Offset> {
    let digits = name.strip_suffix(suffix).filter(|digits| digits.len() == 20)?;
    // A sign would be a second spelling.
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits).map(Offset::new)
}

/// Copies `bytes` to the start of `target`.
///
/// # Panics
/// When they do not fit.
fn put(target: &mut [u8], bytes: &[u8]) {
    target[..bytes.len()].copy_from_slice(bytes);
}
