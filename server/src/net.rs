//! Sockets: accepting, cutting streams into requests, answering in order.
//!
//! Modules in reading order: [`listener`] accepts on the first shard and hands out; [`connection`] serves one [`client`] on
//! the shard that was handed it; [`frame`] cuts its stream into requests; [`decoding`] bounds what they
//! are decoded into; [`outgoing`] gathers its answers; [`sweep`] closes
//! those that stall.

pub mod listener;
mod mute;
mod produces;
mod progress;

pub mod client;
pub mod connection;
pub mod decoding;
pub mod frame;
pub mod outgoing;
pub mod sweep;
