//! Random streams and the trace they leave.
//!
//! One root seed; every part of the world (scheduling, each machine's disk, the network, links, each shard) draws from a
//! stream of its own, so that a change in one part does not shift the choices of the others. Every draw is folded into
//! the world's trace: two runs with the same fingerprint made the same choices.
//!
//! The generator is written out here (`SplitMix64`) because a recorded seed must mean the same after any dependency update.

use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

use crate::Random;

/// A deterministic stream of numbers.
pub(super) struct Stream {
    state: Cell<u64>,
    trace: Rc<Trace>,
}

impl Stream {
    /// The stream of `labels` under `seed`.
    pub(super) fn new(seed: u64, labels: &[u64], trace: &Rc<Trace>) -> Self {
        let state = labels.iter().fold(mix(seed), |state, &label| mix(state ^ mix(label)));
        Self { state: Cell::new(state), trace: Rc::clone(trace) }
    }

    pub(super) fn next_u64(&self) -> u64 {
        let state = self.state.get().wrapping_add(GOLDEN);
        self.state.set(state);
        let drawn = mix(state);
        self.trace.fold(drawn);
        drawn
    }

    /// A number from `0..bound`, or 0 when `bound` is 0.
    pub(super) fn below(&self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the high half of a 128-bit product fits 64 bits")
    }

    /// An index below `count`, which is not 0.
    pub(super) fn index(&self, count: usize) -> usize {
        let bound = u64::try_from(count).expect("counts fit 64 bits");
        usize::try_from(self.below(bound)).expect("below a usize")
    }

    pub(super) fn between(&self, range: &Range<u64>) -> u64 {
        range.start + self.below(range.end.saturating_sub(range.start))
    }

    /// A delay from `range`; now and then ten times as long, because tails are where orders change.
    pub(super) fn delay(&self, range: &Range<u64>) -> u64 {
        let delay = self.between(range);
        if self.one_in(16) { delay.saturating_mul(10) } else { delay }
    }

    /// A length in `1..=most`, the whole of it half of the time. `most` is not 0.
    pub(super) fn portion(&self, most: usize) -> usize {
        if self.one_in(2) { most } else { 1 + self.index(most) }
    }

    pub(super) fn one_in(&self, bound: u64) -> bool {
        self.below(bound) == 0
    }
}

/// A running hash of everything that was decided.
pub(super) struct Trace(Cell<u64>);

impl Trace {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self(Cell::new(0)))
    }

    pub(super) fn fold(&self, value: u64) {
        self.0.set(mix(self.0.get().rotate_left(5) ^ value));
    }

    pub(super) fn value(&self) -> u64 {
        self.0.get()
    }
}

/// The randomness of one shard.
#[derive(Clone)]
pub struct SimRandom(Rc<Stream>);

impl SimRandom {
    pub(super) fn new(stream: Stream) -> Self {
        Self(Rc::new(stream))
    }
}

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        self.0.next_u64()
    }
}

/// A 64-bit hash of `bytes`; for traces and for noticing changed buffers, not for anything stored.
pub(super) fn hash_bytes(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut hash = mix(u64::try_from(bytes.len()).expect("lengths fit 64 bits"));
    for word in words {
        hash = (hash ^ u64::from_le_bytes(*word)).wrapping_mul(GOLDEN).rotate_left(29);
    }
    for &byte in rest {
        hash = (hash ^ u64::from(byte)).wrapping_mul(GOLDEN).rotate_left(29);
    }
    mix(hash)
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
