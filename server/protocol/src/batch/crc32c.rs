//! CRC-32C (Castagnoli), the checksum of record batches and of everything that Millrace itself writes.
//!
//! By the widest carry-less multiplication that the processor has, found out when the program runs.

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use crc_fast::{Digest, checksum_combine, crc32_iscsi};

/// The checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32_iscsi(bytes)
}

/// The checksum of bytes whose checksum is `crc` with `bytes` behind them. Nothing has the checksum 0.
pub fn append(crc: u32, bytes: &[u8]) -> u32 {
    // The state is the checksum before its last inversion.
    let mut digest = Digest::new_with_init_state(Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    low_half(digest.finalize())
}

/// The checksum of bytes whose checksum is `first`, with `second_bytes` bytes behind them whose checksum is `second`.
pub fn combine(first: u32, second: u32, second_bytes: usize) -> u32 {
    let second_bytes = u64::try_from(second_bytes).expect("usize is at most 64 bits");
    low_half(checksum_combine(Crc32Iscsi, first.into(), second.into(), second_bytes))
}

fn low_half(value: u64) -> u32 {
    u32::try_from(value).expect("a CRC of 32 bits fits")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_value_is_right() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!((checksum(b""), append(7, b"")), (0, 7));
    }

    proptest! {
        /// Against another implementation, over lengths on both sides of every width, at any alignment.
        #[test]
        fn checksums_are_those_of_another_implementation(
            bytes in prop::collection::vec(any::<u8>(), 0..5000), start in 0_usize..64, cut in 0_usize..5000,
        ) {
            let bytes = &bytes[start.min(bytes.len())..];
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let expected = ::crc32c::crc32c(bytes);
            prop_assert_eq!(checksum(bytes), expected);
            prop_assert_eq!(append(checksum(first), second), expected);
            prop_assert_eq!(combine(checksum(first), checksum(second), second.len()), expected);
        }
    }
}
