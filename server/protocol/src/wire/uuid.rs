//! The 16-byte identifiers that Kafka gives to topics, directories and incarnations.
//!
//! Owns only their bytes and their text form; makes none, because that needs a source of randomness.

use std::fmt;

/// A Kafka uuid. All zeros is Kafka's "no id".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The id that stands for none.
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is the id that stands for none.
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }
}

/// Kafka's text form: base64 with the URL alphabet and no padding, always 22 characters.
impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0_u8; TEXT_BYTES];
        let bits = u128::from_be_bytes(self.0);
        // 22 groups of 6 bits are 132 bits: the last group holds two bits of the id and four of padding.
        for (index, character) in text.iter_mut().enumerate() {
            let group = if index == TEXT_BYTES - 1 { bits << 4 } else { bits >> (122 - 6 * index) };
            let group = usize::try_from(group & 0x3f).expect("six bits fit a usize");
            *character = ALPHABET[group];
        }
        formatter.write_str(std::str::from_utf8(&text).expect("the alphabet is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Uuid({self})")
    }
}

const TEXT_BYTES: usize = 22;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
