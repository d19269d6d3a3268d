//! Memory that is appended to, written by the device and lent to readers at the same time.
//!
//! One of the few rooms with unsafe code; see [`append_buffer`] for the argument why it is sound.

#[expect(unsafe_code, reason = "append-only memory shared between one writer and many readers")]
pub mod append_buffer;

pub use append_buffer::{AppendBuffer, Slice};
