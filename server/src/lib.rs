//! The broker: Kafka's wire protocol in front of the storage engine.
//!
//! Modules in reading order. `config` says what the broker is to be; `machine` and `preflight` what it stands on, which
//! `doctor` says without a start; `lock`
//! and `identity` whose data directory it is; `run` puts them together and hands over to the shards. `metadata` is the
//! cluster's table of brokers and topics, `group` the coordinators of consumer groups, `fetch_session` what clients fetch, all
//! pure. A request's way: `net` receives it, `handlers` turn it into questions to the shards that own what it is about,
//! `shard` asks them and answers them. `metrics` is what they count, and `admin` shows it.
#![deny(unsafe_code)]

pub mod admin;
pub mod banner;
pub mod config;
pub mod doctor;
pub mod fetch_session;
pub mod group;
pub mod identity;
pub mod lock;
pub mod logging;
pub mod machine;
pub mod metadata;
pub mod metrics;
pub mod preflight;
pub mod run;
pub mod signals;

pub mod shard;

pub mod handlers;
pub mod net;

#[cfg(test)]
mod scenarios;
