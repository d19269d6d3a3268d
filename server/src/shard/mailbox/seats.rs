//! Handing each shard what it starts with, across the start of its thread.

use std::fmt;
use std::sync::Arc;
#[expect(clippy::disallowed_types, reason = "locked once per shard, before the shard runs")]
use std::sync::Mutex;

use crate::shard::placement::ShardIndex;

/// One value per shard, each to be taken once. Clones are the same seats.
#[expect(clippy::disallowed_types, reason = "locked once per shard, before the shard runs")]
pub struct Seats<T> {
    seats: Arc<Vec<Mutex<Option<T>>>>,
}

impl<T> Clone for Seats<T> {
    fn clone(&self) -> Self {
        Self { seats: Arc::clone(&self.seats) }
    }
}

impl<T> fmt::Debug for Seats<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Seats({})", self.seats.len())
    }
}

impl<T> Seats<T> {
    /// Seats for the shards, in their order.
    #[expect(clippy::disallowed_types, reason = "locked once per shard, before the shard runs")]
    pub fn new(values: Vec<T>) -> Self {
        Self { seats: Arc::new(values.into_iter().map(|value| Mutex::new(Some(value))).collect()) }
    }

    /// Takes what the shard starts with.
    ///
    /// # Panics
    /// When it was taken before.
    pub fn take(&self, shard: ShardIndex) -> T {
        let mut seat = self.seats[shard.slot()].lock().expect("nobody panics while taking a seat");
        seat.take().expect("a shard starts once")
    }
}
