//! The values of records: of one size, of sizes in a range, or the lines of a file.

use std::str::FromStr;

use rand::Rng;

use crate::numbers::{float, parse_bytes, u64_of};

/// How large values are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    /// Bytes, inclusive.
    pub(crate) bytes_min: usize,
    /// Bytes, inclusive. Invariant: at least `bytes_min`.
    pub(crate) bytes_max: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (least, most) = text.split_once('-').unwrap_or((text, text));
        let parse = |text| usize::try_from(parse_bytes(text)?).map_err(|error| error.to_string());
        let (bytes_min, bytes_max) = (parse(least)?, parse(most)?);
        if bytes_min > bytes_max || bytes_max > RECORD_BYTES_MAX {
            return Err(format!("a size or a range of sizes, up to {RECORD_BYTES_MAX} bytes"));
        }
        Ok(Self { bytes_min, bytes_max })
    }
}

/// Where values come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Values {
    /// Made up: capital letters at random, which shrink to some 60 % when compressed.
    Made(Size),
    /// Real ones, in turn. Invariant: not empty.
    Lines(Vec<Vec<u8>>),
}

impl Values {
    /// The lines of a file's content, each a record.
    pub(crate) fn of_lines(content: &[u8]) -> Result<Self, String> {
        let lines: Vec<Vec<u8>> = content.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let lines: Vec<Vec<u8>> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        if lines.is_empty() {
            return Err("the file has no records".to_owned());
        }
        if lines.iter().any(|line| line.len() > RECORD_BYTES_MAX) {
            return Err(format!("a record has more than {RECORD_BYTES_MAX} bytes"));
        }
        Ok(Self::Lines(lines))
    }

    /// Bytes of a value on average.
    pub(crate) fn bytes_mean(&self) -> f64 {
        match self {
            Self::Made(size) => float(u64_of(size.bytes_min + size.bytes_max)) / 2.0,
            Self::Lines(lines) => float(u64_of(lines.iter().map(Vec::len).sum())) / float(u64_of(lines.len())),
        }
    }

    /// The same in whole bytes, rounded up.
    pub(crate) fn bytes_mean_rounded(&self) -> u64 {
        match self {
            Self::Made(size) => u64_of(size.bytes_min + size.bytes_max).div_ceil(2),
            Self::Lines(lines) => u64_of(lines.iter().map(Vec::len).sum()).div_ceil(u64_of(lines.len())),
        }
    }

    /// Bytes of the largest value.
    pub(crate) fn bytes_max(&self) -> usize {
        match self {
            Self::Made(size) => size.bytes_max,
            Self::Lines(lines) => lines.iter().map(Vec::len).max().unwrap_or_default(),
        }
    }

    /// Bytes of the smallest value that is made up; nothing for real ones, whose bytes are not ours to write over.
    pub(crate) const fn bytes_min(&self) -> Option<usize> {
        match self {
            Self::Made(size) => Some(size.bytes_min),
            Self::Lines(_) => None,
        }
    }

    /// The value of record number `index`.
    pub(crate) fn value(&self, index: usize, random: &mut impl Rng) -> Vec<u8> {
        match self {
            Self::Made(size) => {
                let byte_count = random.random_range(size.bytes_min..=size.bytes_max);
                (0..byte_count).map(|_| random.random_range(b'A'..=b'Z')).collect()
            }
            Self::Lines(lines) => lines[index % lines.len()].clone(),
        }
    }
}

/// No broker takes more in its usual settings.
const RECORD_BYTES_MAX: usize = 64 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn sizes_are_fixed_or_a_range() {
        assert_eq!("1K".parse(), Ok(Size { bytes_min: 1024, bytes_max: 1024 }));
        assert_eq!("100-2000".parse(), Ok(Size { bytes_min: 100, bytes_max: 2000 }));
        for wrong in ["", "-", "5-", "20-10", "1G"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        let mut random = SmallRng::seed_from_u64(7);
        let values = Values::Made(Size { bytes_min: 3, bytes_max: 5 });
        let mut seen = [0; 6];
        for index in 0..300 {
            seen[values.value(index, &mut random).len()] += 1;
        }
        assert!(seen[..3] == [0; 3] && seen[3..].iter().all(|count| *count > 70), "{seen:?}");
        assert!((values.bytes_mean() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn lines_of_a_file_come_in_turn() {
        let values = Values::of_lines(b"first\nsecond record\n\n").unwrap();
        let mut random = SmallRng::seed_from_u64(7);
        let mut value = |index| values.value(index, &mut random);
        assert_eq!([value(0), value(1), value(2)], [&b"first"[..], b"second record", b"first"].map(<[u8]>::to_vec));
        assert!((values.bytes_mean() - 9.0).abs() < 1e-9);
        assert!(Values::of_lines(b"\n\n").is_err());
    }
}
