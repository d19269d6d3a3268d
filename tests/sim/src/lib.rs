//! The storage engine under simulated machines that crash, fail and rot, from a seed.
//!
//! The crate is the adversary of `millrace-engine`: it appends, reads and stops in every way it can think of, and compares
//! what is left with a model. It holds no decisions of the product, and what it finds is a seed that repeats bit for bit.
//!
//! Modules in reading order: [`dice`] draws, [`batches`] makes record batches, [`keyed`] those of compacted logs, [`model`] is the
//! truth, [`cleanup`] says what of it may go by itself, [`broker`] opens the stores, [`check`] compares, [`upkeep`] looks whether
//! enough went, [`client`] is one client, [`workload`] many of them, [`life`] one life of a machine; then the scenarios: [`lives`], [`sweep`], [`torn`], [`faults`], [`producers`], [`damage`]; [`seeds`] runs them.
#![forbid(unsafe_code)]

pub mod dice;

pub mod batches;
pub mod cleanup;
pub mod keyed;
pub mod model;

pub mod broker;
pub mod check;
pub mod client;
pub mod life;
pub mod upkeep;
pub mod workload;

pub mod damage;
pub mod faults;
pub mod lives;
pub mod producers;
pub mod sweep;
pub mod torn;

pub mod seeds;
