//! The device below a recorded run: follows a trace and says what a power failure at any moment of it could leave.
//!
//! Written without a look at the simulator's disk, from what [`millrace_runtime::disk`] promises and what ext4 and XFS do:
//! a second opinion on the same question. What it takes from a trace is only starts and ends:
//!
//! 1. A write has happened by its end; before, any of its sectors may have.
//! 2. A flush covers what had ended when it started, once it has ended itself: with [`FlushScope::File`] the changes of its
//!    file; with [`FlushScope::Device`] also writes to other files that went over bytes which were written and flushed.
//! 3. The same for names and the synchronisation of their directory.
//! 4. An operation in flight has happened or not.
//!
//! [`Device::lose_power`] draws one of the outcomes that this leaves open.

mod content;
mod file;
mod names;

pub use content::{Bytes, SECTOR_BYTES};

use std::collections::BTreeMap;

use millrace_runtime::FlushScope;
use millrace_sim::dice::Dice;

use crate::trace::{Change, Event};
use file::{Effect, FileState};
use names::{Name, Names, Node, ROOT, Tree};

/// What is on a device, all of it durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Paths of the directories.
    pub directories: Vec<String>,
    /// Files by path.
    pub files: BTreeMap<String, Bytes>,
}

/// A device in the middle of a run.
#[derive(Clone)]
pub struct Device {
    scope: FlushScope,
    names: Names,
    files: BTreeMap<u64, FileState>,
    /// Files by descriptor.
    open: BTreeMap<u64, u64>,
    /// Operations that have started and not ended, by number, with the moment of their start.
    in_flight: BTreeMap<u64, (u64, Change)>,
    /// Counts events.
    now: u64,
    node_next: u64,
}

impl Device {
    /// A device on which `image` is durable.
    pub fn new(image: &Image, scope: FlushScope) -> Self {
        let mut tree = Tree::default();
        let (mut files, mut node_next) = (BTreeMap::new(), ROOT + 1);
        for path in &image.directories {
            let at = tree.split(path);
            tree.apply(&names::Change::Link { at, node: Node::Dir(node_next) });
            node_next += 1;
        }
        for (path, bytes) in &image.files {
            let at = tree.split(path);
            tree.apply(&names::Change::Link { at, node: Node::File(node_next) });
            files.insert(node_next, FileState::durable(bytes.clone()));
            node_next += 1;
        }
        let (open, in_flight) = (BTreeMap::new(), BTreeMap::new());
        Self { scope, names: Names::durable(tree), files, open, in_flight, now: 0, node_next }
    }

    /// Follows one event.
    pub fn follow(&mut self, event: &Event) {
        self.now += 1;
        match event {
            Event::Opened { handle, path } => {
                let Some(Node::File(file)) = self.names.visible().find(path) else { panic!("{path} was opened") };
                self.open.insert(*handle, file);
            }
            Event::Started { operation, change } => {
                self.in_flight.insert(*operation, (self.now, change.clone()));
            }
            Event::Ended { operation, succeeded } => {
                let (started, change) = self.in_flight.remove(operation).expect("what ends has started, and once");
                if *succeeded {
                    self.happen(started, change);
                } else if matches!(change, Change::Write { .. } | Change::Truncate { .. } | Change::Allocate { .. }) {
                    // Nobody knows what a failed one has done: like one in flight, for ever.
                    self.in_flight.insert(*operation, (started, change));
                }
            }
            Event::Taken(_) | Event::Acknowledged { .. } => {}
        }
    }

    /// Whether there is a change of names that a power failure could undo.
    pub fn has_unsettled_names(&self) -> bool {
        self.names.has_unsettled()
    }

    /// One of the images that a power failure could leave now.
    pub fn lose_power(&self, dice: &Dice) -> Image {
        let draw = Draw::new(dice);
        let mut device = self.clone();
        for (started, change) in std::mem::take(&mut device.in_flight).into_values() {
            let flush = matches!(change, Change::Sync { .. } | Change::SyncDir { .. });
            // A flush in flight promises nothing, and what it may have brought down may be there anyhow.
            if !flush && draw.coin() {
                device.happen(started, change);
            }
        }
        let tree = device.names.lose_power(&draw);
        let mut image = Image::default();
        for (path, _, node) in tree.below(ROOT) {
            match node {
                Node::Dir(_) => image.directories.push(path),
                Node::File(file) => {
                    image.files.insert(path, device.files[&file].lose_power(&draw));
                }
            }
        }
        image
    }

    /// An operation has happened, between `started` and now.
    fn happen(&mut self, started: u64, change: Change) {
        match change {
            Change::Create { handle, path } => {
                let file = self.link_new_file(&path);
                self.open.insert(handle, file);
            }
            Change::CreateDirs { path } => self.create_dirs(&path),
            Change::Write { handle, position, content, synchronous } => {
                let now = self.now;
                if let Some(file) = self.file(handle) {
                    file.apply(now, Effect::Write { position, content });
                    if synchronous {
                        file.settle_last();
                    }
                }
            }
            Change::Truncate { handle, bytes } => self.resize(handle, Effect::Resize { length: bytes }),
            Change::Allocate { handle, end } => self.resize(handle, Effect::Grow { length: end }),
            Change::Sync { handle } => {
                if let Some(file) = self.file(handle) {
                    file.flush(started);
                }
                if self.scope == FlushScope::Device {
                    self.files.values_mut().for_each(|file| file.flush_device(started));
                }
            }
            Change::SyncDir { path } => {
                if let Some(Node::Dir(dir)) = self.names.visible().find(&path) {
                    self.names.sync(dir, started);
                }
            }
            Change::Rename { source, target } => {
                let (source, target) = (self.split(&source), self.split(&target));
                self.change_names(names::Change::Move { source, target });
            }
            Change::TornRename { source, target } => {
                self.link_new_file(&target);
                let (source, target) = (self.split(&source), self.split(&target));
                self.change_names(names::Change::Move { source, target });
            }
            Change::RemoveFile { path } => self.change_names(names::Change::Unlink { at: self.split(&path) }),
            Change::RemoveDir { path } => {
                let top = self.split(&path);
                if let Some(Node::Dir(dir)) = self.names.visible().find(&path) {
                    for (_, at, _) in self.names.visible().below(dir).into_iter().rev() {
                        self.change_names(names::Change::Unlink { at });
                    }
                }
                self.change_names(names::Change::Unlink { at: top });
            }
        }
    }

    fn create_dirs(&mut self, path: &str) {
        let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
        for directory in ends.map(|end| &path[..end]).filter(|directory| !directory.is_empty()) {
            if self.names.visible().find(directory).is_none() {
                let node = Node::Dir(self.number());
                self.change_names(names::Change::Link { at: self.split(directory), node });
            }
        }
    }

    fn link_new_file(&mut self, path: &str) -> u64 {
        let file = self.number();
        self.files.insert(file, FileState::default());
        self.change_names(names::Change::Link { at: self.split(path), node: Node::File(file) });
        file
    }

    fn resize(&mut self, handle: u64, effect: Effect) {
        let now = self.now;
        if let Some(file) = self.file(handle) {
            file.apply(now, effect);
        }
    }

    /// The file of a descriptor; `None` for one whose making is itself in flight and did not happen.
    fn file(&mut self, handle: u64) -> Option<&mut FileState> {
        self.files.get_mut(self.open.get(&handle)?)
    }

    fn split(&self, path: &str) -> Name {
        self.names.visible().split(path)
    }

    fn change_names(&mut self, change: names::Change) {
        self.names.apply(self.now, change);
    }

    fn number(&mut self) -> u64 {
        self.node_next += 1;
        self.node_next
    }
}

/// What becomes of a write that is not durable.
#[derive(Clone, Copy)]
enum Fate {
    Kept,
    /// Each sector by itself.
    Torn,
    Lost,
}

/// The choices of one power failure. Half of them are of one mind, because what is lost whole and what is kept whole is
/// what most defects need.
struct Draw<'a> {
    dice: &'a Dice,
    mood: Mood,
}

#[derive(Clone, Copy)]
enum Mood {
    KeepsNothing,
    KeepsAll,
    Mixed,
}

impl<'a> Draw<'a> {
    fn new(dice: &'a Dice) -> Self {
        Self { dice, mood: dice.pick(&[Mood::KeepsNothing, Mood::KeepsAll, Mood::Mixed, Mood::Mixed]) }
    }

    fn coin(&self) -> bool {
        match self.mood {
            Mood::KeepsNothing => false,
            Mood::KeepsAll => true,
            Mood::Mixed => self.dice.one_in(2),
        }
    }

    fn fate(&self) -> Fate {
        match self.mood {
            Mood::KeepsNothing => Fate::Lost,
            Mood::KeepsAll => Fate::Kept,
            Mood::Mixed => self.dice.pick(&[Fate::Kept, Fate::Torn, Fate::Torn, Fate::Lost]),
        }
    }

    /// How many of `count` changes in a row survive.
    fn prefix(&self, count: usize) -> usize {
        match self.mood {
            Mood::KeepsNothing => 0,
            Mood::KeepsAll => count,
            Mood::Mixed => self.dice.index(count + 1),
        }
    }
}

#[cfg(test)]
mod tests;
