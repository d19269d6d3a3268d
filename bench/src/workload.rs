//! What a run sends and when: pure, and the same for the same seed.

pub(crate) mod batch;
pub(crate) mod keys;
pub(crate) mod quantity;
pub(crate) mod records;
pub(crate) mod schedule;
pub(crate) mod stamp;
