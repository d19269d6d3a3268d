//! Memory that is appended to, written by the device and lent to readers at the same time; files that are not whole yet.
//!
//! One of the few rooms with unsafe code; see [`append_buffer`] for the argument why it is sound.

#[expect(unsafe_code, reason = "append-only memory shared between one writer and many readers")]
pub mod append_buffer;
pub(crate) mod unfinished;

#[cfg(test)]
pub(crate) use append_buffer::Memory;
pub use append_buffer::{AppendBuffer, Slice};
pub(crate) use unfinished::{is_out_of_files, is_unfinished, open_unfinished};
