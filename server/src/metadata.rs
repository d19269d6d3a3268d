//! What the cluster is made of: brokers, topics, partitions, configurations, producer ids.
//!
//! A log of records is the truth, and everything else follows from it:
//!
//! ```text
//! request -> controller -> records -> (metadata log, durable) -> image on every shard -> reconcile with the store
//! ```
//!
//! - `record`: what can happen, one kind per fact, and the entries that carry them; `codec`: their bytes.
//! - `image`: the table that the records add up to. Each shard has its own and applies the same entries.
//! - `topic_config`, `broker_config`, `group_config`: which keys a topic, a running broker and a group may be given.
//! - `controller`: turns a request into the records to propose, or into a refusal.
//!
//! All of it is pure: no files, sockets, clocks or randomness, so that the simulator and text scenarios
//! (`testdata/metadata`) run exactly what a broker runs. The caller proposes one entry at a time: the controller decides
//! against an image that holds everything proposed before.

pub mod broker_config;
pub mod codec;
pub mod controller;
pub mod group_config;
pub mod image;
pub mod record;
pub mod topic_config;

pub use controller::{Controller, Refusal};
pub use image::Image;
pub use record::{Entry, NodeId, Record};

#[cfg(test)]
mod tests;
