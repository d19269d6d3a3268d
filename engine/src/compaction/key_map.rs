//! For each record key of the part of a log that a pass looks at: the newest offset. Never larger than it was told to be.
//!
//! Keys are known by their hash alone. A collision would take away a record that nobody replaced, so the hash has 128 bits
//! and a secret: `SipHash-2-4` with a key drawn for the pass. A map of ten million keys that is asked for ten billion more
//! meets a collision by chance with probability 10^17 / 2^128, below 10^-21. Kafka uses MD5, for which anyone can make two
//! keys that collide; without the secret nobody can, and the next pass has another one. The alternative, to compare the
//! keys themselves, needs them in memory, and they may be of any size.
//!
//! ```text
//! slot, 24 bytes:   hash 128 bits | newest offset + 1, 64 bits; 0 marks a free slot
//! ```
//!
//! Open addressing with linear probing; at most seven eighths of the slots are taken, so that probes stay short and one
//! is always free. Nothing is ever removed, and the table never grows: both halves of a growing table would have to fit.

use siphasher::sip128::SipHasher24;

use crate::model::Offset;

/// The newest offset of each key.
pub struct KeyMap {
    hasher: SipHasher24,
    /// Invariant: at least two, of which at least one is free.
    slots: Vec<Slot>,
    key_count: usize,
    key_count_max: usize,
}

/// An array rather than a structure, because the allocator gives zeroed memory of these without touching it.
type Slot = [u64; 3];

pub(super) const SLOT_BYTES: usize = size_of::<Slot>();

/// A key is new and there is no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl KeyMap {
    /// A map of at most `bytes_max` bytes, or of the 48 that one key takes, for at most `keys_expected_max` keys.
    pub fn new(hash_key: [u64; 2], bytes_max: usize, keys_expected_max: u64) -> Self {
        let slots_wanted = usize::try_from(keys_expected_max).unwrap_or(usize::MAX).saturating_add(1);
        let slots_wanted = slots_wanted.saturating_add(slots_wanted / 7);
        let slot_count = (bytes_max / SLOT_BYTES).min(slots_wanted).max(2);
        let key_count_max = slot_count - slot_count.div_ceil(8);
        let hasher = SipHasher24::new_with_keys(hash_key[0], hash_key[1]);
        Self { hasher, slots: vec![[0; 3]; slot_count], key_count: 0, key_count_max }
    }

    /// Remembers that `key` occurs at `offset`.
    pub fn note(&mut self, key: &[u8], offset: Offset) -> Result<(), Full> {
        let end = offset.get().cast_unsigned() + 1;
        let (index, hash) = self.find_slot(key);
        let [_, _, known_end] = &mut self.slots[index];
        if *known_end == 0 {
            if self.key_count == self.key_count_max {
                return Err(Full);
            }
            self.key_count += 1;
            self.slots[index] = [hash[0], hash[1], end];
        } else {
            *known_end = end.max(*known_end);
        }
        Ok(())
    }

    /// Whether a newer record with this key is known than the one at `offset`.
    pub fn is_outdated(&self, key: &[u8], offset: Offset) -> bool {
        let (index, _) = self.find_slot(key);
        let [_, _, end] = self.slots[index];
        end > offset.get().cast_unsigned() + 1
    }

    /// How many keys are remembered.
    pub fn key_count(&self) -> usize {
        self.key_count
    }

    /// The slot that holds the key, or the free one where it belongs.
    fn find_slot(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let hash = self.hasher.hash(key);
        let hash = [hash.h1, hash.h2];
        let slot_count = self.slots.len();
        let mut index = scale(hash[0], slot_count);
        loop {
            let [first, second, end] = self.slots[index];
            if end == 0 || [first, second] == hash {
                return (index, hash);
            }
            index = if index + 1 == slot_count { 0 } else { index + 1 };
        }
    }
}

/// Spreads all 64-bit numbers evenly over `0..count`: the high half of the product.
fn scale(number: u64, count: usize) -> usize {
    let count = u128::try_from(count).expect("usize fits 128 bits");
    usize::try_from((u128::from(number) * count) >> 64).expect("the result is below the count")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> [u8; 8] {
        number.to_le_bytes()
    }

    #[test]
    fn the_newest_offset_counts_in_whatever_order_they_come() {
        let mut map = KeyMap::new([1, 2], 1 << 20, 100);
        for offset in [3, 0, 7, 5] {
            map.note(b"a", Offset::new(offset)).unwrap();
        }
        map.note(b"", Offset::ZERO).unwrap();
        assert_eq!(map.key_count(), 2);
        assert!(map.is_outdated(b"a", Offset::new(6)));
        assert!(!map.is_outdated(b"a", Offset::new(7)));
        assert!(!map.is_outdated(b"a", Offset::new(8)));
        assert!(!map.is_outdated(b"", Offset::ZERO), "an empty key is a key");
        assert!(!map.is_outdated(b"unknown", Offset::ZERO));
        map.note(b"last", Offset::new(i64::MAX)).unwrap();
        assert!(map.is_outdated(b"last", Offset::new(i64::MAX - 1)));
    }

    #[test]
    fn a_full_map_takes_known_keys_only_and_holds_seven_eighths() {
        let mut map = KeyMap::new([1, 2], 1024 * SLOT_BYTES, u64::MAX);
        let mut count = 0;
        while map.note(&key(count), Offset::ZERO) == Ok(()) {
            count += 1;
        }
        assert_eq!(count, 1024 * 7 / 8);
        assert_eq!(map.note(&key(count), Offset::ZERO), Err(Full));
        for number in 0..count {
            assert_eq!(map.note(&key(number), Offset::new(1)), Ok(()));
            assert!(map.is_outdated(&key(number), Offset::ZERO));
        }
        assert!(!map.is_outdated(&key(count), Offset::ZERO));
        assert_eq!(map.key_count(), 896);
    }

    #[test]
    fn a_map_has_room_for_what_is_expected_and_always_for_one_key() {
        for expected in [1, 2, 6, 7, 8, 100, 1000] {
            let mut map = KeyMap::new([1, 2], 1 << 20, expected);
            assert!((0..expected).all(|number| map.note(&key(number), Offset::ZERO).is_ok()), "{expected}");
            assert!(map.slots.len() <= 3 + usize::try_from(expected * 8 / 7).unwrap());
        }
        for (bytes_max, expected) in [(0, 0), (0, 1000), (1 << 20, 0)] {
            let mut map = KeyMap::new([1, 2], bytes_max, expected);
            assert_eq!(map.note(b"one", Offset::ZERO), Ok(()));
        }
    }

    /// The published vectors of SipHash-2-4 with 128 bits: key 00 to 0f, input of no byte and of one zero byte.
    #[test]
    fn the_hash_is_siphash() {
        let map = KeyMap::new([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908], 0, 0);
        assert_eq!(map.find_slot(b"").1, [0xe6a8_25ba_047f_81a3, 0x9302_55c7_1472_f66d]);
        assert_eq!(map.find_slot(b"\0").1, [0x44af_996b_d8c1_87da, 0x45fc_229b_1159_7634]);
    }
}
