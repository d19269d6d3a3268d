//! One file of the device: what surely survives a power failure, and what was done to it since.
//!
//! An ended operation leaves an effect. A flush makes the effects that it covers durable. When the power fails,
//! - of a write that is not durable every 512-byte sector stays or goes by itself;
//! - of the changes of length that are not durable a prefix stays, in their order, as a journalling file system has it.

use super::content::{Bytes, SECTOR_BYTES};
use super::{Draw, Fate};
use crate::trace::Content;

/// A file and what is pending of it.
#[derive(Clone, Default)]
pub(super) struct FileState {
    durable: Bytes,
    /// Length as the program sees it.
    length: u64,
    /// In the order in which the operations ended.
    pending: Vec<Pending>,
}

#[derive(Clone)]
struct Pending {
    /// When it ended.
    moment: u64,
    durable: bool,
    /// A write over bytes that had been written and flushed: all it needs is the device's own flush.
    overwrites: bool,
    effect: Effect,
}

/// What an operation does to a file.
#[derive(Clone)]
pub(super) enum Effect {
    Write { position: u64, content: Content },
    Grow { length: u64 },
    Resize { length: u64 },
}

impl FileState {
    /// A file that is durable as it is.
    pub(super) fn durable(bytes: Bytes) -> Self {
        Self { length: bytes.length(), durable: bytes, pending: Vec::new() }
    }

    /// An operation ended at `moment`.
    pub(super) fn apply(&mut self, moment: u64, effect: Effect) {
        let mut overwrites = false;
        match &effect {
            Effect::Write { position, content } => {
                let end = position + u64::try_from(content.len()).expect("a usize fits u64");
                if end > self.length {
                    self.apply(moment, Effect::Grow { length: end });
                }
                overwrites = self.durable.is_written(*position, end);
            }
            Effect::Grow { length } => self.length = self.length.max(*length),
            Effect::Resize { length } => self.length = *length,
        }
        self.pending.push(Pending { moment, durable: false, overwrites, effect });
    }

    /// The last effect is durable by itself, with every change of length before it: else it could not be read.
    pub(super) fn settle_last(&mut self) {
        for pending in &mut self.pending {
            pending.durable |= !matches!(pending.effect, Effect::Write { .. });
        }
        if let Some(last) = self.pending.last_mut() {
            last.durable = true;
        }
        self.fold();
    }

    /// A flush of this file, started at `moment`, succeeded.
    pub(super) fn flush(&mut self, moment: u64) {
        for pending in &mut self.pending {
            pending.durable |= pending.moment < moment;
        }
        self.fold();
    }

    /// A flush of another file on the device, started at `moment`, succeeded.
    pub(super) fn flush_device(&mut self, moment: u64) {
        for pending in &mut self.pending {
            pending.durable |= pending.overwrites && pending.moment < moment;
        }
        self.fold();
    }

    /// What a power failure leaves.
    pub(super) fn lose_power(&self, draw: &Draw) -> Bytes {
        let optional = |pending: &&Pending| !pending.durable && !matches!(pending.effect, Effect::Write { .. });
        let mut changes_kept = draw.prefix(self.pending.iter().filter(optional).count());
        let mut left = self.durable.clone();
        for pending in &self.pending {
            match &pending.effect {
                Effect::Write { .. } if !pending.durable => pending.effect.land(&mut left, draw, draw.fate()),
                Effect::Write { .. } => pending.effect.land(&mut left, draw, Fate::Kept),
                change if pending.durable => change.land(&mut left, draw, Fate::Kept),
                change if changes_kept > 0 => {
                    changes_kept -= 1;
                    change.land(&mut left, draw, Fate::Kept);
                }
                _ => {}
            }
        }
        // Sectors whose length did not survive with them are out of reach.
        left.resize(left.length());
        left
    }

    /// Moves the leading durable effects into the durable bytes.
    fn fold(&mut self) {
        let count = self.pending.iter().take_while(|pending| pending.durable).count();
        for pending in self.pending.drain(..count) {
            pending.effect.land_whole(&mut self.durable);
        }
    }
}

impl Effect {
    fn land_whole(&self, bytes: &mut Bytes) {
        self.land_sectors(bytes, || true);
    }

    fn land(&self, bytes: &mut Bytes, draw: &Draw, fate: Fate) {
        match fate {
            Fate::Kept => self.land_whole(bytes),
            Fate::Torn => self.land_sectors(bytes, || draw.coin()),
            Fate::Lost => {}
        }
    }

    fn land_sectors(&self, bytes: &mut Bytes, mut keeps: impl FnMut() -> bool) {
        match self {
            Self::Write { position, content } => {
                let mut position = *position;
                for sector in 0..content.len() / SECTOR_BYTES {
                    if keeps() {
                        let sector = match content {
                            Content::Zeros(_) => None,
                            Content::Bytes(bytes) => Some(&bytes[sector * SECTOR_BYTES..][..SECTOR_BYTES]),
                        };
                        bytes.write_sector(position, sector);
                    }
                    position += 512;
                }
            }
            Self::Grow { length } => bytes.grow(*length),
            Self::Resize { length } => bytes.resize(*length),
        }
    }
}

const _: () = assert!(SECTOR_BYTES == 512, "as in land_sectors");
