//! Records that are drawn once and stamped for each sending.

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use crate::drive::plan::SendPlan;
use crate::numbers::u64_of;
use crate::workload::batch::Stamping;
use crate::workload::stamp::{STAMP_BYTES, Stamp};

/// The records of one producer. Invariant: not empty.
pub(super) struct Pool {
    records: Vec<Drawn>,
    next: usize,
    is_stamped: bool,
}

/// A record's key and value.
pub(super) struct Drawn {
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
}

impl Drawn {
    /// Of key and value.
    pub(super) fn bytes(&self) -> u64 {
        u64_of(self.value.len() + self.key.as_ref().map_or(0, Vec::len))
    }
}

impl Pool {
    /// Draws records for some batches of `batch_records` each, as many as may stay in a cache. The same for the same `seed`;
    /// of a file, the first one is line `first_line`.
    pub(super) fn draw(sending: &SendPlan, batch_records: u64, seed: u64, first_line: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let shape = &sending.shape;
        let bytes_max = POOL_BYTES_MAX / u64_of(sending.connection_count.max(1));
        let (mut records, mut bytes) = (Vec::new(), 0);
        while records.is_empty() || (bytes < bytes_max && u64_of(records.len()) < batch_records * BATCHES_MAX) {
            let value = shape.values.value(first_line + records.len(), &mut random);
            let drawn = Drawn { key: shape.keys.draw(&mut random), value };
            bytes += drawn.bytes();
            records.push(drawn);
        }
        // Batches are the library's, so the first record of one is not known: all have a stamp, or none.
        let is_room = records.iter().all(|drawn| drawn.value.len() >= STAMP_BYTES);
        Self { records, next: 0, is_stamped: is_room && shape.stamping != Stamping::None }
    }

    /// Whether records carry stamps: if that was asked for, and none is too short.
    pub(super) const fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    /// The record that comes next, which stays the next one until [`Pool::advance`].
    pub(super) fn stamped(&mut self, stamp: Stamp) -> &Drawn {
        let drawn = &mut self.records[self.next];
        if self.is_stamped {
            stamp.write(&mut drawn.value);
        }
        drawn
    }

    /// The next record has been sent.
    pub(super) fn advance(&mut self) {
        self.next = (self.next + 1) % self.records.len();
    }
}

/// Batches of one producer, so that not all are the same.
const BATCHES_MAX: u64 = 8;
/// Of all producers together, in bytes: few enough to stay in a cache.
const POOL_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millrace_protocol::batch::Compression;

    use super::*;
    use crate::workload::batch::BatchShape;
    use crate::workload::keys::{KeySource, Keys};
    use crate::workload::records::{Size, Values};

    fn pool(bytes_min: usize, stamping: Stamping) -> Pool {
        let sending = SendPlan {
            series: "produce".to_owned(),
            connection_count: 2,
            in_flight_max: 5,
            records_per_second: None,
            linger: Duration::ZERO,
            acks: -1,
            batches_per_request: 1,
            request_count_max: None,
            shape: BatchShape {
                values: Values::Made(Size { bytes_min, bytes_max: 40 }),
                keys: KeySource::new(Keys::Uniform(3)),
                batch_bytes: 1000,
                records_max: usize::MAX,
                compression: Compression::None,
                stamping,
            },
            producer_ids: Vec::new(),
            keeps_samples: false,
        };
        Pool::draw(&sending, 10, 1, 0)
    }

    #[test]
    fn every_record_is_stamped_if_one_of_a_batch_would_be() {
        let mut pool = pool(40, Stamping::First);
        assert_eq!(pool.records.len(), 80);
        for sequence in 0..200 {
            let stamp = Stamp { producer: 7, sequence, due_nanos: 3 };
            let drawn = pool.stamped(stamp);
            assert_eq!((Stamp::parse(&drawn.value), drawn.bytes()), (Some(stamp), 52));
            pool.advance();
        }
    }

    #[test]
    fn values_without_room_have_no_stamps() {
        assert!(!pool(10, Stamping::Every).is_stamped());
        let mut pool = pool(40, Stamping::None);
        assert!(!pool.is_stamped());
        assert_eq!(Stamp::parse(&pool.stamped(Stamp { producer: 7, sequence: 0, due_nanos: 3 }).value), None);
    }
}
