//! Speaks Kafka's protocol: fixed versions that every broker of the last years has, and no others.
//!
//! [`control`] asks one question at a time, before and after the load; [`frames`] is what the load itself goes through.

pub(crate) mod cluster;
pub(crate) mod control;
pub(crate) mod frames;
