//! The choices of a scenario, drawn from its seed.
//!
//! A generator of its own, not the world's: what the workload does must not depend on how often the disk drew. Written out
//! (`SplitMix64`), because a recorded seed must mean the same after any dependency update.

use std::cell::Cell;

/// A stream of choices.
#[derive(Debug)]
pub struct Dice(Cell<u64>);

impl Dice {
    /// The stream `label` of `seed`.
    pub fn new(seed: u64, label: u64) -> Self {
        Self(Cell::new(mix(mix(seed) ^ label)))
    }

    /// A stream that goes its own way from here on.
    #[must_use]
    pub fn split(&self) -> Self {
        Self(Cell::new(self.draw()))
    }

    /// Any number.
    pub fn draw(&self) -> u64 {
        self.0.set(self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        mix(self.0.get())
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&self, bound: u64) -> u64 {
        self.draw().checked_rem(bound).unwrap_or(0)
    }

    /// An index below `count`; 0 when that is 0.
    pub fn index(&self, count: usize) -> usize {
        let bound = u64::try_from(count).expect("a count fits u64");
        usize::try_from(self.below(bound)).expect("it is below a usize")
    }

    /// A size from `least` to `most`, both included.
    pub fn size(&self, least: usize, most: usize) -> usize {
        least + self.index(most - least + 1)
    }

    /// True once in `bound` times.
    pub fn one_in(&self, bound: u64) -> bool {
        self.below(bound) == 0
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

/// Spreads the bits of a number over all of its places.
pub fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
