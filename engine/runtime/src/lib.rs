//! The seam between Millrace and the machine.
//!
//! Everything above this crate reaches disk, network, time, tasks, other shards and randomness through [`Env`]. There are
//! two implementations: [`glommio`], which is the machine, and [`sim`], which is a seeded single-threaded executor with
//! virtual time whose disk and network fail on purpose. A component that compiles against `Env` runs on both.
//!
//! This crate is the only place that names glommio and, with `engine/io` and the lease type of the broker's mailbox, the
//! only one that holds unsafe code. It knows nothing of logs, partitions or requests.
//!
//! Channels that stay on one shard are not part of the seam: they need nothing but wakers, so every executor runs the
//! same code (see [`local`]).
#![expect(async_fn_in_trait, reason = "thread per core: futures never leave their shard, so no Send bound is wanted")]

pub mod clock;
pub mod disk;
pub mod env;
pub mod kernel;
pub mod links;
pub mod local;
pub mod net;
pub mod tasks;

pub mod glommio;
pub mod sim;

pub use clock::{Clock, Moment};
pub use disk::{BLOCK_BYTES, Buffer, DirEntry, Disk, File, FlushScope, OpenMode, Unwritten};
pub use env::{Env, Random};
pub use links::{LinkReceiver, LinkSender};
pub use net::{Connection, Listener, Net};
pub use tasks::{TaskClass, TaskHandle, Tasks};
