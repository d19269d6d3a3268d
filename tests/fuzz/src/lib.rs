//! Arbitrary bytes, and batches of arbitrary shape, for everything of Millrace's that reads bytes.
//!
//! A *target* is a function of bytes that panics when the code under it does, or when what it yields breaks a promise. The
//! fuzzer, which looks for bytes that do, is only in the programs under `fuzz_targets`; `cargo dev fuzz` builds and runs
//! them. The tests run every target over the [`seeds`] and over what was found once.
//!
//! A decoder behind a checksum would never be reached by chance, so targets *seal* most of their inputs: they make magic
//! number, version and checksum right, and leave the rest to the fuzzer.
//!
//! Modules in reading order: [`shape`] makes batches and logs; [`sealing`] makes checksums right; a module for each target;
//! [`seeds`] is what the fuzzer starts from.
#![forbid(unsafe_code)]

pub mod sealing;
pub mod shape;

pub mod batch;
pub mod checkpoint_and_ring;
pub mod compaction;
pub mod config;
pub mod group_record;
pub mod index;
pub mod metadata_entry;
pub mod request;
pub mod segment;

pub mod seeds;

/// How far an input got. The fuzzer does not care; a test that runs a seed does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The bytes were refused.
    Refusal,
    /// Something in them was accepted, and every promise about it held.
    Content,
}

/// One target.
pub struct Target {
    /// Its name, which is also its program's.
    pub name: &'static str,
    /// Runs it over one input.
    pub run: fn(&[u8]) -> Reached,
    /// What the fuzzer starts from. Each of them reaches content.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "batch", run: batch::run, seeds: seeds::batch },
    Target { name: "checkpoint_and_ring", run: checkpoint_and_ring::run, seeds: seeds::checkpoint_and_ring },
    Target { name: "compaction", run: compaction::run, seeds: seeds::compaction },
    Target { name: "config", run: config::run, seeds: seeds::config },
    Target { name: "group_record", run: group_record::run, seeds: seeds::group_record },
    Target { name: "index", run: index::run, seeds: seeds::index },
    Target { name: "metadata_entry", run: metadata_entry::run, seeds: seeds::metadata_entry },
    Target { name: "request", run: request::run, seeds: seeds::request },
    Target { name: "segment", run: segment::run, seeds: seeds::segment },
];
