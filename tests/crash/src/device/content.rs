//! Bytes of a file: sparse, shared between copies, changed by whole sectors.

use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_runtime::BLOCK_BYTES;

/// What a device writes all or nothing, in bytes (docs/FORMAT.md).
pub const SECTOR_BYTES: usize = 512;

const _: () = assert!(BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
const BLOCK: u64 = 4096;
const _: () = assert!(BLOCK_BYTES == 4096, "as in BLOCK");

/// A written block; `None` is one of zeros.
type Block = Option<Rc<[u8; BLOCK_BYTES]>>;

/// Sparse bytes with a length. A block that is absent was never written and reads as zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    length: u64,
    blocks: BTreeMap<u64, Block>,
}

impl Bytes {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes one sector at `position`, a multiple of [`SECTOR_BYTES`], without touching the length.
    pub(super) fn write_sector(&mut self, position: u64, sector: Option<&[u8]>) {
        let block = self.blocks.entry(position / BLOCK).or_default();
        if sector.is_none() && block.is_none() {
            return;
        }
        let block = block.get_or_insert_with(|| Rc::new([0; BLOCK_BYTES]));
        let target = &mut Rc::make_mut(block)[index(position % BLOCK)..][..SECTOR_BYTES];
        match sector {
            Some(sector) => target.copy_from_slice(sector),
            None => target.fill(0),
        }
    }

    /// Makes the file at least `length` long.
    pub(super) fn grow(&mut self, length: u64) {
        self.length = self.length.max(length);
    }

    /// Sets the length. What is cut off reads as zeros when the file grows again.
    pub(super) fn resize(&mut self, length: u64) {
        self.length = length;
        self.blocks.split_off(&length.div_ceil(BLOCK));
        let kept = index(length % BLOCK);
        if let (true, Some(Some(block))) = (kept > 0, self.blocks.get_mut(&(length / BLOCK))) {
            Rc::make_mut(block)[kept..].fill(0);
        }
    }

    /// Whether all of `start..end` was written.
    pub(super) fn is_written(&self, start: u64, end: u64) -> bool {
        let (first, last) = (start / BLOCK, end.div_ceil(BLOCK));
        self.blocks.range(first..last).count() == index(last - first)
    }

    /// The blocks that are not zeros, with their positions.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, &[u8; BLOCK_BYTES])> {
        self.blocks.iter().filter_map(|(number, block)| Some((number * BLOCK, &**block.as_ref()?)))
    }
}

fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("sizes of a test fit usize")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_is_zeros_later() {
        let mut bytes = Bytes::default();
        for sector in 0..16 {
            bytes.write_sector(sector * 512, Some(&[7; SECTOR_BYTES]));
        }
        bytes.grow(8192);
        assert!(bytes.is_written(0, 8192) && !bytes.is_written(0, 8193));
        bytes.resize(600);
        bytes.resize(8192);
        let blocks: Vec<_> = bytes.blocks().collect();
        assert_eq!(blocks.len(), 1);
        assert_eq!((blocks[0].0, blocks[0].1[599], blocks[0].1[600]), (0, 7, 0));
        assert!(!bytes.is_written(4096, 8192));
    }
}
