//! The broker: Kafka's wire protocol in front of the storage engine.
//!
//! Modules in reading order. `config` says what the broker is to be, `machine` and `preflight` what it stands on, `lock`
//! and `identity` whose data directory it is, `run` puts them together and hands over to the shards. `metadata` is pure:
//! the table of brokers, topics and partitions.

pub mod config;
