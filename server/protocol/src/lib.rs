//! Kafka's wire protocol: codec, frames, headers, record batches, error codes. Pure; performs no I/O whatsoever.
//!
//! - [`wire`]: the primitives, and the bounds on what a peer may make us allocate.
//! - [`api_key`], [`error_code`], [`messages`]: generated from the schemas by `cargo dev codegen`.
//! - [`group_data`]: generated likewise; what group coordinators store, and what consumers embed in group messages.
//! - [`frame`], [`header`]: what stands before a message, and how a whole request or response is put together.
//! - [`produce`], [`fetch_response`]: the two messages that carry records, read and written without copying them.
//! - [`batch`]: record batches of format v2, and their checksum.
//!
//! Must never name sockets, files, clocks or the runtime. No input may make it panic or allocate more than
//! [`wire::AMPLIFICATION_MAX`] times the input's size; [`batch::compression`] has a limit that its caller sets instead.

#![forbid(unsafe_code)]

pub mod wire;

#[allow(clippy::too_many_lines, reason = "generated: one arm per API")]
pub mod api_key;
#[allow(clippy::too_many_lines, reason = "generated: one arm per error")]
pub mod error_code;
#[allow(
    clippy::match_same_arms,
    clippy::semicolon_if_nothing_returned,
    clippy::trivially_copy_pass_by_ref,
    clippy::unnecessary_wraps,
    unused_variables,
    reason = "generated, as the messages are"
)]
pub mod group_data;
#[allow(
    clippy::match_same_arms,
    clippy::semicolon_if_nothing_returned,
    clippy::struct_excessive_bools,
    clippy::too_many_lines,
    clippy::trivially_copy_pass_by_ref,
    clippy::unnecessary_wraps,
    unused_variables,
    reason = "generated: the schemas decide how many fields a structure has and what depends on the version"
)]
pub mod messages;

pub mod frame;
pub mod header;

pub mod fetch_response;
pub mod produce;

pub mod batch;

#[cfg(test)]
mod oracle_tests;
#[cfg(test)]
mod round_trip_tests;
#[cfg(test)]
mod sampler;
