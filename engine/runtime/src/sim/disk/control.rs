//! The test's hand on a disk: looking, damaging, copying.

use std::path::Path;
use std::rc::Rc;

use super::content::{Content, to_u64};
use super::namespace::Node;
use super::volume::Volume;
use crate::sim::machine::MachineState;

/// A machine's disk as the test sees it. Everything happens at once and costs no time.
#[derive(Clone)]
pub struct DiskControl {
    machine: Rc<MachineState>,
}

/// A copy of a whole disk: content, names, what is not durable yet, and writes in flight.
#[derive(Clone)]
pub struct DiskImage {
    pub(in crate::sim) volume: Volume,
}

impl DiskImage {
    /// How many sectors of 512 bytes were written and are not durable, in flight included. See
    /// [`crate::sim::Machine::mount_torn`].
    pub fn undurable_sectors(&self) -> usize {
        self.volume.undurable_sectors()
    }
}

impl DiskControl {
    pub(in crate::sim) fn new(machine: &Rc<MachineState>) -> Self {
        Self { machine: Rc::clone(machine) }
    }

    /// Copies the disk as it is at this moment. See [`crate::sim::Machine::mount`].
    pub fn fork(&self) -> DiskImage {
        DiskImage { volume: self.machine.volume.borrow().clone() }
    }

    /// Paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        self.machine.volume.borrow().namespace.files(false).into_iter().map(|(path, _)| path).collect()
    }

    /// Paths of all files whose names are durable, sorted.
    pub fn durable_files(&self) -> Vec<String> {
        self.machine.volume.borrow().namespace.files(true).into_iter().map(|(path, _)| path).collect()
    }

    /// A file's bytes as a read would see them.
    pub fn read(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let volume = self.machine.volume.borrow();
        let inode = find(&volume, path.as_ref())?;
        Some(volume.inode(inode).visible.to_vec())
    }

    /// A file's bytes as far as every crash leaves them alone. The name itself may be less durable than that.
    pub fn read_durable(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let volume = self.machine.volume.borrow();
        let inode = find(&volume, path.as_ref())?;
        Some(volume.inode(inode).durable.to_vec())
    }

    /// Flips a bit (0 to 7) of the byte at `position`, on the device: a crash does not bring it back.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn flip_bit(&self, path: impl AsRef<Path>, position: u64, bit: u8) {
        self.damage(path.as_ref(), |content| content.flip_bit(position, bit));
    }

    /// Overwrites bytes, on the device.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn corrupt(&self, path: impl AsRef<Path>, position: u64, bytes: &[u8]) {
        self.damage(path.as_ref(), |content| {
            content.write(position, bytes);
            content.grow(position + to_u64(bytes.len()));
        });
    }

    /// Cuts or extends a file, on the device.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn truncate(&self, path: impl AsRef<Path>, bytes: u64) {
        self.damage(path.as_ref(), |content| content.resize(bytes));
    }

    /// Changes the size of the disk. What is on it stays.
    pub fn resize(&self, capacity_bytes: u64) {
        self.machine.volume.borrow_mut().capacity_bytes = capacity_bytes;
    }

    /// Bytes that may still be allocated.
    pub fn available_bytes(&self) -> u64 {
        self.machine.volume.borrow().available_bytes()
    }

    fn damage(&self, path: &Path, change: impl Fn(&mut Content)) {
        let mut volume = self.machine.volume.borrow_mut();
        let inode = find(&volume, path).expect("the file to damage exists");
        let inode = volume.inode_mut(inode);
        change(&mut inode.visible);
        change(&mut inode.durable);
    }
}

fn find(volume: &Volume, path: &Path) -> Option<u64> {
    match volume.namespace.find(path) {
        Ok(Some(Node::File(inode))) => Some(inode),
        _ => None,
    }
}
