//! The disk of one machine as plain state: inodes, names, writes in flight. No time, no tasks.
//!
//! Methods are the moments at which an operation takes effect; [`super`] decides when those are.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::rc::Rc;

use super::buffer::SimBuffer;
use super::content::to_u64;
use super::inode::{Effect, Inode};
use super::namespace::{Change, DirId, Name, Namespace, Node, ROOT};
use crate::Buffer;
use crate::disk::{DirEntry, FlushScope, OpenMode};
use crate::sim::random::Stream;

#[derive(Clone)]
pub(in crate::sim) struct Volume {
    pub(in crate::sim) capacity_bytes: u64,
    pub(in crate::sim) namespace: Namespace,
    inodes: BTreeMap<u64, Inode>,
    in_flight: BTreeMap<u64, WriteInFlight>,
    /// Source of ids and of the order of effects.
    sequence: u64,
    /// At least what is allocated; spares most writes the count.
    allocated_bytes_bound: u64,
    /// Number of inodes from which on a search for unreachable ones pays.
    garbage_search_count: usize,
}

#[derive(Clone)]
struct WriteInFlight {
    inode: u64,
    position: u64,
    buffer: Rc<SimBuffer>,
    /// Of the buffer at submission.
    hash: u64,
}

impl Volume {
    pub(in crate::sim) fn new(capacity_bytes: u64) -> Self {
        Self {
            capacity_bytes,
            namespace: Namespace::default(),
            inodes: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            sequence: ROOT,
            allocated_bytes_bound: 0,
            garbage_search_count: 64,
        }
    }

    /// Opens a file and counts the descriptor.
    pub(in crate::sim) fn open(&mut self, path: &Path, mode: OpenMode) -> io::Result<u64> {
        let name = self.namespace.split(path)?.ok_or(io::ErrorKind::IsADirectory)?;
        let inode = match (self.namespace.node(&name), mode) {
            (Some(Node::Dir(_)), _) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(Node::File(_)), OpenMode::New) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(Node::File(inode)), _) => inode,
            (None, OpenMode::New) => {
                let inode = self.next_sequence();
                self.inodes.insert(inode, Inode::default());
                self.namespace.apply(Change::Link { at: name, node: Node::File(inode) });
                inode
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        self.inode_mut(inode).open_count += 1;
        Ok(inode)
    }

    pub(in crate::sim) fn close(&mut self, inode: u64) {
        let inode = self.inode_mut(inode);
        inode.open_count = inode.open_count.checked_sub(1).expect("a descriptor is closed once");
        if inode.open_count == 0 {
            self.collect_garbage();
        }
    }

    pub(in crate::sim) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        for ancestor in ancestors {
            let Some(name) = self.namespace.split(ancestor)? else { continue };
            match self.namespace.node(&name) {
                Some(Node::Dir(_)) => {}
                Some(Node::File(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                None => {
                    let dir: DirId = self.next_sequence();
                    self.namespace.apply(Change::Link { at: name, node: Node::Dir(dir) });
                }
            }
        }
        Ok(())
    }

    pub(in crate::sim) fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.find_dir(path)?;
        let entry =
            |(name, node): (&str, Node)| DirEntry { name: name.to_owned(), is_dir: matches!(node, Node::Dir(_)) };
        Ok(self.namespace.children(dir).map(entry).collect())
    }

    pub(in crate::sim) fn rename(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let source = self.namespace.split(source)?.ok_or(io::ErrorKind::InvalidInput)?;
        let target = self.namespace.split(target)?.ok_or(io::ErrorKind::InvalidInput)?;
        let moved = self.namespace.node(&source).ok_or(io::ErrorKind::NotFound)?;
        if source == target {
            return Ok(());
        }
        if let Node::Dir(dir) = moved
            && self.namespace.is_within(target.dir, dir)
        {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        match (moved, self.namespace.node(&target)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::File(_), Some(Node::Dir(_))) => return Err(io::ErrorKind::IsADirectory.into()),
            (Node::Dir(_), Some(Node::File(_))) => return Err(io::ErrorKind::NotADirectory.into()),
            (Node::Dir(_), Some(Node::Dir(replaced))) => {
                if self.namespace.children(replaced).next().is_some() {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
            }
        }
        self.namespace.apply(Change::Move { source, target });
        self.collect_garbage();
        Ok(())
    }

    pub(in crate::sim) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let name = self.namespace.split(path)?.ok_or(io::ErrorKind::IsADirectory)?;
        match self.namespace.node(&name) {
            Some(node @ Node::File(_)) => self.namespace.apply(Change::Unlink { at: name, node }),
            Some(Node::Dir(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        self.collect_garbage();
        Ok(())
    }

    /// Removes name by name, children first, so that a crash can leave half of it.
    pub(in crate::sim) fn remove_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let top = self.namespace.split(path)?.ok_or(io::ErrorKind::InvalidInput)?;
        if !matches!(self.namespace.node(&top).ok_or(io::ErrorKind::NotFound)?, Node::Dir(_)) {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let mut doomed = vec![top];
        let mut next = 0;
        while let Some(name) = doomed.get(next) {
            if let Some(Node::Dir(dir)) = self.namespace.node(name) {
                let children = self.namespace.children(dir).map(|(name, _)| Name { dir, name: name.to_owned() });
                let children: Vec<Name> = children.collect();
                doomed.extend(children);
            }
            next += 1;
        }
        for name in doomed.into_iter().rev() {
            let node = self.namespace.node(&name).expect("found above");
            self.namespace.apply(Change::Unlink { at: name, node });
        }
        self.collect_garbage();
        Ok(())
    }

    /// Settles the names of a directory. What else was in flight or pending is left as it is.
    pub(in crate::sim) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.find_dir(path)?;
        self.namespace.sync(dir);
        self.collect_garbage();
        Ok(())
    }

    /// Registers a write in flight; `hash` is the buffer's.
    pub(in crate::sim) fn submit_write(
        &mut self,
        inode: u64,
        position: u64,
        buffer: Rc<SimBuffer>,
        hash: u64,
        check_overlaps: bool,
    ) -> u64 {
        let end = position + to_u64(buffer.as_slice().len());
        if check_overlaps {
            for other in self.in_flight.values() {
                let other_end = other.position + to_u64(other.buffer.as_slice().len());
                let apart = other.inode != inode || other_end <= position || end <= other.position;
                assert!(apart, "block rewritten before its previous write completed");
            }
        }
        let id = self.next_sequence();
        self.in_flight.insert(id, WriteInFlight { inode, position, buffer, hash });
        id
    }

    /// Lets a write land. With `failure` a random part of it does.
    pub(in crate::sim) fn complete_write(
        &mut self,
        id: u64,
        synchronous: bool,
        failure: Option<io::Error>,
        random: &Stream,
    ) -> io::Result<()> {
        let write = self.in_flight.remove(&id).expect("a write in flight completes once");
        assert!(write.hash == write.buffer.hash(), "buffer changed between the start and the end of its write");
        let end = write.position + to_u64(write.buffer.as_slice().len());
        self.check_space(write.inode, write.position, end)?;
        let mut effect = Effect::write(write.position, write.buffer);
        if failure.is_some() {
            effect.tear(random);
        }
        let sequence = self.next_sequence();
        self.inode_mut(write.inode).land(sequence, effect, synchronous && failure.is_none());
        failure.map_or(Ok(()), Err)
    }

    /// Reads whole blocks; `None` at or past the end.
    pub(in crate::sim) fn read(&self, inode: u64, position: u64, bytes: usize) -> Option<SimBuffer> {
        let content = &self.inodes.get(&inode).expect("open files exist").visible;
        let left_bytes = content.length_bytes().checked_sub(position).filter(|left_bytes| *left_bytes > 0)?;
        let left_bytes = usize::try_from(left_bytes).unwrap_or(usize::MAX);
        let bytes = if left_bytes < bytes { left_bytes.next_multiple_of(crate::BLOCK_BYTES) } else { bytes };
        let mut buffer = SimBuffer::new(bytes);
        content.read(position, buffer.as_mut_slice());
        Some(buffer)
    }

    /// Makes durable what completed up to `sequence`, as far as the flush reaches.
    pub(in crate::sim) fn sync_data(&mut self, inode: u64, sequence: u64, scope: FlushScope) {
        self.inode_mut(inode).sync(sequence);
        if scope == FlushScope::Device {
            self.inodes.values_mut().for_each(|inode| inode.flush_device(sequence));
        }
    }

    /// A sync of a file that failed, and with it the flush of the device.
    pub(in crate::sim) fn lose_sync(&mut self, inode: u64, sequence: u64, scope: FlushScope, random: &Stream) {
        self.inode_mut(inode).lose_sync(sequence, random);
        self.lose_device_flush(sequence, scope, random);
        self.recount_allocated();
    }

    /// A flush of the device that failed, if there are such flushes: of any file it may take completed writes along.
    pub(in crate::sim) fn lose_device_flush(&mut self, sequence: u64, scope: FlushScope, random: &Stream) {
        if scope == FlushScope::Device {
            self.inodes.values_mut().for_each(|inode| inode.lose_device_flush(sequence, random));
        }
    }

    pub(in crate::sim) fn allocate(&mut self, inode: u64, start: u64, end: u64) -> io::Result<()> {
        self.check_space(inode, start, end)?;
        let sequence = self.next_sequence();
        self.inode_mut(inode).apply(sequence, Effect::Reserve { start, end });
        Ok(())
    }

    pub(in crate::sim) fn truncate(&mut self, inode: u64, bytes: u64) {
        let sequence = self.next_sequence();
        self.inode_mut(inode).apply(sequence, Effect::Resize { bytes });
    }

    /// Lets every write in flight land.
    fn land_in_flight(&mut self) {
        for write in std::mem::take(&mut self.in_flight).into_values() {
            let sequence = self.next_sequence();
            self.inode_mut(write.inode).land(sequence, Effect::write(write.position, write.buffer), false);
        }
    }

    /// Sectors of all writes that are not durable, those in flight included.
    pub(in crate::sim) fn undurable_sectors(&self) -> usize {
        let mut landed = self.clone();
        landed.land_in_flight();
        landed.inodes.values().flat_map(Inode::undurable_writes).map(|(_, sectors)| sectors).sum()
    }

    /// Settles what a power failure leaves that keeps the first `sectors` of what was not durable, in the order in which
    /// it was written, and nothing behind.
    pub(in crate::sim) fn lose_power_behind(&mut self, sectors: usize, random: &Stream) {
        self.land_in_flight();
        let undurable = |(id, inode): (&u64, &Inode)| {
            let id = *id;
            inode.undurable_writes().map(move |(sequence, sectors)| (sequence, id, sectors)).collect::<Vec<_>>()
        };
        let mut writes: Vec<_> = self.inodes.iter().flat_map(undurable).collect();
        writes.sort_unstable();
        let mut left = sectors;
        for (sequence, inode, sectors) in writes {
            let kept = sectors.min(left);
            self.inode_mut(inode).decide(sequence, kept);
            left -= kept;
        }
        self.lose_power(random);
    }

    /// Settles what a power failure leaves; all descriptors are gone.
    pub(in crate::sim) fn lose_power(&mut self, random: &Stream) {
        self.land_in_flight();
        for inode in self.inodes.values_mut() {
            inode.lose_power(random);
            inode.open_count = 0;
        }
        self.namespace.lose_power(random);
        self.collect_garbage();
        self.recount_allocated();
    }

    /// Settles what a killed process leaves: its writes in flight land or do not, its descriptors are gone.
    pub(in crate::sim) fn lose_handles(&mut self, random: &Stream) {
        for write in std::mem::take(&mut self.in_flight).into_values() {
            if random.one_in(2) {
                let sequence = self.next_sequence();
                self.inode_mut(write.inode).land(sequence, Effect::write(write.position, write.buffer), false);
            }
        }
        for inode in self.inodes.values_mut() {
            inode.open_count = 0;
        }
        self.collect_garbage();
    }

    /// The last id given to an effect; a sync covers the effects up to it.
    pub(in crate::sim) fn last_sequence(&self) -> u64 {
        self.sequence
    }

    pub(in crate::sim) fn inode(&self, inode: u64) -> &Inode {
        self.inodes.get(&inode).expect("files that are named or open exist")
    }

    pub(in crate::sim) fn inode_mut(&mut self, inode: u64) -> &mut Inode {
        self.inodes.get_mut(&inode).expect("files that are named or open exist")
    }

    /// Bytes still free. Files that are neither named nor open are free already.
    pub(in crate::sim) fn available_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.count_allocated())
    }

    fn count_allocated(&self) -> u64 {
        let named = self.namespace.visible_inodes();
        let counted = self.inodes.iter().filter(|(id, inode)| inode.open_count > 0 || named.contains(id));
        counted.map(|(_, inode)| inode.visible.allocated_bytes()).sum()
    }

    /// Makes the bound exact; needed wherever visible space may grow without a check.
    fn recount_allocated(&mut self) {
        self.allocated_bytes_bound = self.count_allocated();
    }

    fn check_space(&mut self, inode: u64, start: u64, end: u64) -> io::Result<()> {
        let missing_bytes = self.inode(inode).visible.missing_bytes(start, end);
        if missing_bytes > self.capacity_bytes.saturating_sub(self.allocated_bytes_bound) {
            self.recount_allocated();
            if missing_bytes > self.capacity_bytes.saturating_sub(self.allocated_bytes_bound) {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
        }
        self.allocated_bytes_bound += missing_bytes;
        Ok(())
    }

    fn find_dir(&self, path: &Path) -> io::Result<DirId> {
        match self.namespace.find(path)? {
            Some(Node::Dir(dir)) => Ok(dir),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Forgets files that neither a descriptor nor any outcome of a crash can reach, when there may be many.
    fn collect_garbage(&mut self) {
        if self.inodes.len() < self.garbage_search_count {
            return;
        }
        let reachable = self.namespace.reachable_inodes();
        self.inodes.retain(|id, inode| inode.open_count > 0 || reachable.contains(id));
        self.garbage_search_count = 2 * self.inodes.len() + 64;
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}
