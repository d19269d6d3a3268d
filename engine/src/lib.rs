//! The storage engine: partitions as logs of Kafka record batches.

pub mod model;
