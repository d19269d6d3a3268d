//! What benchmarks of several programs work on. The same bytes in every run and on every machine.

use millrace_protocol::batch::{BatchBuilder, BatchFields};

/// An uncompressed batch of equal records.
#[derive(Clone, Copy, Debug)]
pub struct BatchShape {
    /// How many records. Invariant: above 0.
    pub record_count: usize,
    /// Bytes of each record's value; its key has [`KEY_BYTES`].
    pub value_bytes: usize,
}

/// Bytes of a record's key.
pub const KEY_BYTES: usize = 8;

impl BatchShape {
    /// One record of a kibibyte, as a client without batching sends it.
    pub const SINGLE: Self = Self { record_count: 1, value_bytes: 1024 };
    /// 256 KiB of 1 KiB records: a busy client.
    pub const LARGE: Self = Self { record_count: 250, value_bytes: 1024 };
    /// Just below 1 MiB, of 100 B records: as many records in a batch as clients come to.
    pub const SMALL_RECORDS: Self = Self { record_count: 8500, value_bytes: 100 };

    /// The batch, for a producer without idempotence, with offsets from 0 on.
    pub fn build(self) -> Vec<u8> {
        let mut builder = BatchBuilder::new(BatchFields::default());
        let mut noise = Noise::default();
        for time_ms in (FIRST_TIME_MS..).take(self.record_count) {
            let (key, value) = (noise.bytes(KEY_BYTES), noise.bytes(self.value_bytes));
            builder.push(time_ms, Some(&key), Some(&value));
        }
        builder.build()
    }
}

/// The time of the first record of every batch, in milliseconds since the epoch.
pub const FIRST_TIME_MS: i64 = 1_700_000_000_000;

/// A sequence of numbers without a visible order (a linear congruential generator).
#[derive(Clone, Debug)]
pub struct Noise(u64);

impl Default for Noise {
    fn default() -> Self {
        Self(1)
    }
}

impl Noise {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        // The low bits of such a generator repeat soon.
        self.0 ^ (self.0 >> 32)
    }

    /// The next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(count + 8);
        while bytes.len() < count {
            bytes.extend_from_slice(&self.next_u64().to_le_bytes());
        }
        bytes.truncate(count);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use millrace_protocol::batch::BatchView;

    use super::*;

    #[test]
    fn shapes_are_what_their_names_say() {
        for (shape, bytes) in [
            (BatchShape::SINGLE, 1000..1200),
            (BatchShape::LARGE, 255_000..262_144),
            (BatchShape::SMALL_RECORDS, 980_000..1 << 20),
        ] {
            let batch = shape.build();
            assert!(bytes.contains(&batch.len()), "{shape:?}: {}", batch.len());
            let view = BatchView::parse_produced(&batch).unwrap();
            assert_eq!(view.records().unwrap().count(), shape.record_count);
        }
    }

    #[test]
    fn noise_repeats_from_its_start_and_nowhere_else() {
        let (mut noise, mut again) = (Noise::default(), Noise::default());
        let first = noise.bytes(20);
        assert_eq!(again.bytes(20), first);
        assert_eq!(first.len(), 20);
        assert_ne!(noise.bytes(20), first);
    }
}
