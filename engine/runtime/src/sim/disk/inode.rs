//! One file: what reads see, what surely survives a crash, and the effects in between.
//!
//! A completed operation changes the visible content at once and leaves an effect behind. A sync moves the effects it
//! covers, in their order, into the durable content. A crash rebuilds the file from the durable content and what it
//! chooses to keep of the effects:
//! - of a write, each 512-byte sector stays or goes by itself; all, none and some are all likely;
//! - of the changes of length and allocation, in their order, a random prefix stays, as a journal would have it.

use std::collections::VecDeque;
use std::rc::Rc;

use super::buffer::SimBuffer;
use super::content::{Content, SECTOR_BYTES, to_u64};
use crate::Buffer;
use crate::sim::random::Stream;

#[derive(Clone, Default)]
pub(in crate::sim) struct Inode {
    pub(in crate::sim) visible: Content,
    pub(in crate::sim) durable: Content,
    /// In order of completion, which is the order of their sequence numbers.
    pending: VecDeque<Pending>,
    /// Open descriptors.
    pub(in crate::sim) open_count: u32,
}

#[derive(Clone)]
struct Pending {
    sequence: u64,
    /// Survives every crash, although an earlier effect that does not keeps it from being folded.
    durable: bool,
    /// A write over bytes that were written and flushed before: the device's own flush is all it needs.
    overwrites: bool,
    effect: Effect,
}

#[derive(Clone)]
pub(in crate::sim) enum Effect {
    /// The sectors of a buffer for which `kept` holds.
    Write { position: u64, buffer: Rc<SimBuffer>, kept: Vec<bool> },
    /// The file was at least this long.
    Grow { bytes: u64 },
    /// The file was cut or extended.
    Resize { bytes: u64 },
    /// Space was reserved.
    Reserve { start: u64, end: u64 },
}

impl Inode {
    /// Lets the sectors of a write for which `kept` holds land. `Synchronous` ones are durable at once, together with
    /// every earlier change of length: without it the bytes could not be read back.
    pub(in crate::sim) fn land(&mut self, sequence: u64, write: Effect, synchronous: bool) {
        let Effect::Write { position, buffer, .. } = &write else { unreachable!("only writes land") };
        let end = position + to_u64(buffer.as_slice().len());
        if end > self.visible.length_bytes() {
            self.apply(sequence, Effect::Grow { bytes: end });
        }
        let overwrites = self.durable.is_written(*position, end);
        self.apply(sequence, write);
        self.pending.back_mut().expect("just pushed").overwrites = overwrites;
        if synchronous {
            for pending in &mut self.pending {
                pending.durable |= !matches!(pending.effect, Effect::Write { .. });
            }
            self.pending.back_mut().expect("just pushed").durable = true;
            self.fold();
        }
    }

    /// Makes an effect visible and remembers it as not durable.
    pub(in crate::sim) fn apply(&mut self, sequence: u64, effect: Effect) {
        effect.apply_to(&mut self.visible);
        self.pending.push_back(Pending { sequence, durable: false, overwrites: false, effect });
    }

    /// Makes the effects up to `sequence` durable.
    pub(in crate::sim) fn sync(&mut self, sequence: u64) {
        for pending in &mut self.pending {
            pending.durable |= pending.sequence <= sequence;
        }
        self.fold();
    }

    /// A flush of the device that another file's sync caused: completed overwrites up to `sequence` become durable.
    pub(in crate::sim) fn flush_device(&mut self, sequence: u64) {
        for pending in &mut self.pending {
            pending.durable |= pending.overwrites && pending.sequence <= sequence;
        }
        self.fold();
    }

    /// A flush of the device that failed: of those overwrites each sector reached the device or never will, whatever later
    /// flushes say. Reads may still see the lost ones, from a cache, or not.
    pub(in crate::sim) fn lose_device_flush(&mut self, sequence: u64, random: &Stream) {
        let mut lost = false;
        for pending in &mut self.pending {
            if pending.overwrites && !pending.durable && pending.sequence <= sequence {
                pending.durable = true;
                pending.effect.tear(random);
                lost = true;
            }
        }
        self.fold();
        if lost && random.one_in(2) {
            self.reread();
        }
    }

    /// A sync that failed: of the effects up to `sequence` each sector reached the device or did not, and no later sync
    /// will try the lost ones again. Reads may still see them, from a cache, or not.
    pub(in crate::sim) fn lose_sync(&mut self, sequence: u64, random: &Stream) {
        let keeps_changes = random.one_in(2);
        self.pending.retain_mut(|pending| {
            if pending.sequence > sequence || pending.durable {
                return true;
            }
            pending.durable = true;
            if let Effect::Write { kept, .. } = &mut pending.effect {
                thin_out(kept, random);
                return true;
            }
            keeps_changes
        });
        self.fold();
        self.durable.cut_to_length();
        if random.one_in(2) {
            self.reread();
        }
    }

    /// Forgets what only a cache still held.
    fn reread(&mut self) {
        self.visible = self.durable.clone();
        for pending in &self.pending {
            pending.effect.apply_to(&mut self.visible);
        }
    }

    /// The writes that are not durable: their sequence numbers and how many sectors they have.
    pub(in crate::sim) fn undurable_writes(&self) -> impl Iterator<Item = (u64, usize)> {
        self.pending.iter().filter(|pending| !pending.durable).filter_map(|pending| match &pending.effect {
            Effect::Write { kept, .. } => Some((pending.sequence, kept.len())),
            _ => None,
        })
    }

    /// Decides that of this write the first `sectors` survive. Every change of length and allocation survives too.
    pub(in crate::sim) fn decide(&mut self, sequence: u64, sectors: usize) {
        for pending in &mut self.pending {
            match &mut pending.effect {
                Effect::Write { kept, .. } if pending.sequence == sequence => {
                    kept[sectors..].fill(false);
                    pending.durable = true;
                }
                Effect::Write { .. } => {}
                _ => pending.durable = true,
            }
        }
    }

    /// Settles what a power failure leaves.
    pub(in crate::sim) fn lose_power(&mut self, random: &Stream) {
        let optional_count = self.pending.iter().filter(|pending| pending.is_optional_change()).count();
        let mut changes_kept = random.index(optional_count + 1);
        for Pending { durable, effect, .. } in std::mem::take(&mut self.pending) {
            match effect {
                Effect::Write { position, buffer, mut kept } => {
                    if !durable {
                        thin_out(&mut kept, random);
                    }
                    Effect::Write { position, buffer, kept }.apply_to(&mut self.durable);
                }
                change if durable => change.apply_to(&mut self.durable),
                change if changes_kept > 0 => {
                    changes_kept -= 1;
                    change.apply_to(&mut self.durable);
                }
                _ => {}
            }
        }
        // Sectors whose length did not survive with them are out of reach.
        self.durable.cut_to_length();
        self.visible = self.durable.clone();
    }

    /// Moves the leading durable effects into the durable content.
    fn fold(&mut self) {
        while self.pending.front().is_some_and(|pending| pending.durable) {
            let pending = self.pending.pop_front().expect("there is a front");
            pending.effect.apply_to(&mut self.durable);
        }
    }
}

impl Pending {
    /// Whether a crash may undo this change of length or allocation.
    fn is_optional_change(&self) -> bool {
        !self.durable && !matches!(self.effect, Effect::Write { .. })
    }
}

impl Effect {
    /// A write of which every sector lands.
    pub(in crate::sim) fn write(position: u64, buffer: Rc<SimBuffer>) -> Self {
        let kept = vec![true; buffer.as_slice().len() / SECTOR_BYTES];
        Self::Write { position, buffer, kept }
    }

    /// Drops sectors of a write at random.
    pub(in crate::sim) fn tear(&mut self, random: &Stream) {
        if let Self::Write { kept, .. } = self {
            thin_out(kept, random);
        }
    }

    fn apply_to(&self, content: &mut Content) {
        match self {
            Self::Write { position, buffer, kept } => {
                let (sectors, _) = buffer.as_slice().as_chunks::<SECTOR_BYTES>();
                let mut position = *position;
                for (sector, &kept) in sectors.iter().zip(kept) {
                    if kept {
                        content.write(position, sector);
                    }
                    position += to_u64(SECTOR_BYTES);
                }
            }
            Self::Grow { bytes } => content.grow(*bytes),
            Self::Resize { bytes } => content.resize(*bytes),
            Self::Reserve { start, end } => {
                content.reserve(*start, *end);
                content.grow(*end);
            }
        }
    }
}

/// Keeps all, none or some of the sectors.
fn thin_out(kept: &mut [bool], random: &Stream) {
    match random.below(4) {
        0 => {}
        1 => kept.fill(false),
        _ => {
            for kept in kept {
                *kept &= random.one_in(2);
            }
        }
    }
}
