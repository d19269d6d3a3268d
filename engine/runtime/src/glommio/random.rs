//! Random numbers from a small generator that the operating system seeds.

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use crate::Random;

/// A shard's source of random numbers.
#[derive(Clone)]
pub struct GlommioRandom {
    generator: Rc<RefCell<SmallRng>>,
}

impl GlommioRandom {
    pub(super) fn from_entropy() -> Self {
        // The keys of a hash map's hasher come from the operating system; this is entropy without a call of our own.
        let mut hasher = RandomState::new().build_hasher();
        hasher.write_u64(super::clock::now().as_nanos());
        Self { generator: Rc::new(RefCell::new(SmallRng::seed_from_u64(hasher.finish()))) }
    }
}

impl Random for GlommioRandom {
    fn next_u64(&self) -> u64 {
        self.generator.borrow_mut().next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sources_differ_and_bounds_hold() {
        let (one, other) = (GlommioRandom::from_entropy(), GlommioRandom::from_entropy());
        assert_ne!([one.next_u64(), one.next_u64()], [other.next_u64(), other.next_u64()]);
        assert!((0..1000).all(|_| one.below(7) < 7));
    }
}
