//! The stage for foreign clients: starts the release binary, drives kcat, Kafka's Java programs and a Python producer
//! against it, and compares bytes.
//!
//! Shares no code with Millrace. The broker is a program with a command line, a `ready:` line, signals and exit codes;
//! the judges are clients that other people wrote. Nothing here sleeps: a test waits for a line, for an exit or for the
//! end of a pipe, each within a limit, and whatever outlives its limit or its test is killed.
#![forbid(unsafe_code)]

pub mod apache;
pub mod broker;
pub mod contract;
pub mod java;
pub mod kcat;
pub mod places;
pub mod process;
pub mod python;
pub mod weather;
pub mod wire;

pub use broker::Broker;
pub use kcat::Kcat;
