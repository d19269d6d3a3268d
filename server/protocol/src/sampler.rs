//! Random values for tests, the same for the same seed. Tests only.
//!
//! Strings and bytes are cut from constants, so that samples borrow from nothing that must be kept alive.

use crate::wire::Uuid;

/// A small generator (splitmix64): tests need repeatable variety, not quality.
pub(crate) struct Sampler {
    state: u64,
}

impl Sampler {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.next_u64() % bound).unwrap()
    }

    pub(crate) fn next_bool(&mut self) -> bool {
        self.next_u64().is_multiple_of(2)
    }

    pub(crate) fn next_i8(&mut self) -> i8 {
        let [byte, ..] = self.next_u64().to_le_bytes();
        byte.cast_signed()
    }

    pub(crate) fn next_u16(&mut self) -> u16 {
        let [low, high, ..] = self.next_u64().to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    pub(crate) fn next_i16(&mut self) -> i16 {
        self.next_u16().cast_signed()
    }

    pub(crate) fn next_u32(&mut self) -> u32 {
        u32::from(self.next_u16()) << 16 | u32::from(self.next_u16())
    }

    pub(crate) fn next_i32(&mut self) -> i32 {
        self.next_u32().cast_signed()
    }

    pub(crate) fn next_i64(&mut self) -> i64 {
        self.next_u64().cast_signed()
    }

    /// A number that equals itself, so that messages can be compared.
    #[allow(dead_code, reason = "no committed message has a float yet; the generator names this for those that do")]
    pub(crate) fn next_f64(&mut self) -> f64 {
        f64::from(self.next_i32()) / 8.0
    }

    pub(crate) fn next_uuid(&mut self) -> Uuid {
        let high = u128::from(self.next_u64());
        Uuid((high << 64 | u128::from(self.next_u64())).to_be_bytes())
    }

    /// Mostly short; sometimes longer than the 127 bytes at which a compact length grows.
    pub(crate) fn next_string(&mut self) -> &'static str {
        const STRINGS: &[&str] = &["", "a", "orders", "Überweisungen", "日志", "consumer-group.42"];
        const LONG: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
            0123456789012345678901234567890123456789012345678901234567890123456789";
        match self.below(8) {
            0 => &LONG[..self.below(LONG.len())],
            _ => STRINGS[self.below(STRINGS.len())],
        }
    }

    pub(crate) fn next_bytes(&mut self) -> &'static [u8] {
        const BYTES: &[u8; 300] = &[0xa5; 300];
        let end = self.below(BYTES.len());
        &BYTES[self.below(end + 1)..end]
    }

    pub(crate) fn nullable<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        match self.below(4) {
            0 => None,
            _ => Some(value(self)),
        }
    }

    pub(crate) fn array<T>(&mut self, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(4);
        (0..count).map(|_| element(self)).collect()
    }
}
