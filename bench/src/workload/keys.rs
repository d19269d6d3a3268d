//! How keys are spread over the records.

use std::str::FromStr;

use rand::Rng;

use crate::numbers::{float, u64_of};

/// Which keys records have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    /// None at all.
    None,
    /// Each of so many as often as the others.
    Uniform(usize),
    /// Key number `n`, from 1, as often as `1/n`.
    Zipf(usize),
}

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let (name, count) = text.split_once(':').ok_or("one of none, uniform:COUNT and zipf:COUNT")?;
        let count: usize = count.parse().map_err(|error| format!("{count}: {error}"))?;
        if !(1..=KEYS_MAX).contains(&count) {
            return Err(format!("1 to {KEYS_MAX} keys"));
        }
        match name {
            "uniform" => Ok(Self::Uniform(count)),
            "zipf" => Ok(Self::Zipf(count)),
            _ => Err(format!("{name} is none of none, uniform and zipf")),
        }
    }
}

/// Draws keys.
#[derive(Clone, Debug)]
pub(crate) struct KeySource {
    keys: Keys,
    /// Zipf only: up to each key, the sum of the shares.
    sums: Vec<f64>,
}

impl KeySource {
    pub(crate) fn new(keys: Keys) -> Self {
        let mut sums = Vec::new();
        if let Keys::Zipf(count) = keys {
            let mut sum = 0.0;
            for number in 1..=count {
                sum += 1.0 / float(u64_of(number));
                sums.push(sum);
            }
        }
        Self { keys, sums }
    }

    /// Bytes of a key; 0 if there are none.
    pub(crate) const fn bytes(&self) -> usize {
        match self.keys {
            Keys::None => 0,
            Keys::Uniform(_) | Keys::Zipf(_) => KEY_BYTES,
        }
    }

    /// The next record's key.
    pub(crate) fn draw(&self, random: &mut impl Rng) -> Option<Vec<u8>> {
        let index = match self.keys {
            Keys::None => return None,
            Keys::Uniform(count) => random.random_range(0..count),
            Keys::Zipf(count) => {
                let point = random.random_range(0.0..self.sums[count - 1]);
                self.sums.partition_point(|&sum| sum <= point)
            }
        };
        Some(format!("key-{index:08}").into_bytes())
    }
}

/// Eight digits are enough for every one of [`KEYS_MAX`] keys.
const KEY_BYTES: usize = "key-00000000".len();
/// More would only fill the table of shares.
const KEYS_MAX: usize = 10_000_000;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    fn counts(keys: &str) -> BTreeMap<Option<Vec<u8>>, u32> {
        let source = KeySource::new(keys.parse().unwrap());
        let mut random = SmallRng::seed_from_u64(1);
        let mut counts = BTreeMap::new();
        for _ in 0..10_000 {
            *counts.entry(source.draw(&mut random)).or_default() += 1;
        }
        counts
    }

    #[test]
    fn shares_are_as_named() {
        assert_eq!(counts("none"), BTreeMap::from([(None, 10_000)]));
        for keys in ["none", "uniform:10", "zipf:1000"] {
            let source = KeySource::new(keys.parse().unwrap());
            let key = source.draw(&mut SmallRng::seed_from_u64(1)).unwrap_or_default();
            assert_eq!(key.len(), source.bytes(), "{keys}");
        }
        let uniform = counts("uniform:10");
        assert_eq!(uniform.len(), 10);
        assert!(uniform.values().all(|count| (850..1150).contains(count)), "{uniform:?}");
        let zipf: Vec<u32> = counts("zipf:4").into_values().collect();
        // 1 + 1/2 + 1/3 + 1/4 = 2.083; the shares are 48, 24, 16 and 12 %.
        let expected = [4800_u32, 2400, 1600, 1200];
        assert!(zipf.iter().zip(expected).all(|(count, expected)| count.abs_diff(expected) < 200), "{zipf:?}");
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        for wrong in ["", "uniform", "uniform:0", "uniform:x", "pareto:3", "zipf:10000001"] {
            assert!(wrong.parse::<Keys>().is_err(), "{wrong}");
        }
    }
}
