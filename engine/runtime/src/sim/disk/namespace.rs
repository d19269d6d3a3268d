//! Names: the tree that everyone sees, and the journal of changes that are not durable yet.
//!
//! Directories are inodes, and a change names the directories it touches, so that a file made in a directory that is
//! renamed later is found there. `sync_dir` settles the changes of one directory; a rename between two directories is
//! settled when both were synced, and until then it happens or does not, as a whole.
//!
//! A crash keeps the settled changes and a random prefix, in order, of the others, as a journalling file system does;
//! unlike such a system, settling one directory says nothing about the changes of others. A change that needs a name
//! which did not survive is lost with it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Component, Path};

use crate::sim::random::Stream;

/// A directory's id.
pub(in crate::sim) type DirId = u64;

pub(in crate::sim) const ROOT: DirId = 0;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sim) enum Node {
    File(u64),
    Dir(DirId),
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct Name {
    pub(in crate::sim) dir: DirId,
    pub(in crate::sim) name: String,
}

#[derive(Clone, Debug)]
pub(in crate::sim) enum Change {
    Link { at: Name, node: Node },
    Unlink { at: Name, node: Node },
    Move { source: Name, target: Name },
}

#[derive(Clone, Default)]
pub(in crate::sim) struct Namespace {
    visible: Tree,
    durable: Tree,
    journal: VecDeque<Entry>,
}

#[derive(Clone)]
struct Entry {
    change: Change,
    /// Directories that were not synced since. Settled when empty.
    unsynced: BTreeSet<DirId>,
}

#[derive(Clone, Default)]
struct Tree {
    /// Names by directory. A directory may have an entry here and be reachable from nowhere.
    dirs: BTreeMap<DirId, BTreeMap<String, Node>>,
}

impl Namespace {
    /// Makes a change visible and remembers it as not durable.
    pub(in crate::sim) fn apply(&mut self, change: Change) {
        self.visible.apply(&change);
        let unsynced = match &change {
            Change::Link { at, .. } | Change::Unlink { at, .. } => BTreeSet::from([at.dir]),
            Change::Move { source, target } => BTreeSet::from([source.dir, target.dir]),
        };
        self.journal.push_back(Entry { change, unsynced });
    }

    /// Settles the changes of a directory, earlier ones of the same names (a later change of a name cannot be durable
    /// without them), and those within directories whose removal is settled (nobody can sync them any more).
    pub(in crate::sim) fn sync(&mut self, dir: DirId) {
        let mut synced = BTreeSet::from([dir]);
        let mut settled: BTreeSet<Name> = BTreeSet::new();
        for entry in self.journal.iter_mut().rev() {
            entry.unsynced.retain(|dir| !synced.contains(dir));
            if entry.change.names().into_iter().any(|name| settled.contains(name)) {
                entry.unsynced.clear();
            }
            if entry.unsynced.is_empty() {
                settled.extend(entry.change.names().into_iter().cloned());
                if let Change::Unlink { node: Node::Dir(removed), .. } = entry.change {
                    synced.insert(removed);
                }
            }
        }
        while self.journal.front().is_some_and(|entry| entry.unsynced.is_empty()) {
            let entry = self.journal.pop_front().expect("there is a front");
            self.durable.apply(&entry.change);
        }
    }

    /// Settles what a power failure leaves.
    pub(in crate::sim) fn lose_power(&mut self, random: &Stream) {
        let optional_count = self.journal.iter().filter(|entry| !entry.unsynced.is_empty()).count();
        let mut kept = random.index(optional_count + 1);
        for entry in std::mem::take(&mut self.journal) {
            let settled = entry.unsynced.is_empty();
            if settled || kept > 0 {
                self.durable.apply(&entry.change);
            }
            kept = kept.saturating_sub(usize::from(!settled));
        }
        self.visible = self.durable.clone();
    }

    /// Finds a path. `None` when its last name does not exist; an error when a directory on the way does not.
    pub(in crate::sim) fn find(&self, path: &Path) -> io::Result<Option<Node>> {
        match self.split(path)? {
            None => Ok(Some(Node::Dir(ROOT))),
            Some(name) => Ok(self.node(&name)),
        }
    }

    /// The parent and last name of a path; `None` for the root.
    pub(in crate::sim) fn split(&self, path: &Path) -> io::Result<Option<Name>> {
        let mut names = names_of(path)?;
        let Some(name) = names.pop() else { return Ok(None) };
        let mut dir = ROOT;
        for name in names {
            match self.node(&Name { dir, name: name.to_owned() }) {
                Some(Node::Dir(found)) => dir = found,
                Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
                None => return Err(io::ErrorKind::NotFound.into()),
            }
        }
        Ok(Some(Name { dir, name: name.to_owned() }))
    }

    pub(in crate::sim) fn node(&self, name: &Name) -> Option<Node> {
        self.visible.dirs.get(&name.dir)?.get(&name.name).copied()
    }

    pub(in crate::sim) fn children(&self, dir: DirId) -> impl Iterator<Item = (&str, Node)> {
        self.visible.dirs.get(&dir).into_iter().flatten().map(|(name, node)| (name.as_str(), *node))
    }

    /// Whether a directory is, or lies in, another.
    pub(in crate::sim) fn is_within(&self, dir: DirId, ancestor: DirId) -> bool {
        let mut reached = BTreeSet::new();
        self.visible.collect(Node::Dir(ancestor), &mut BTreeSet::new(), &mut reached);
        reached.contains(&dir)
    }

    /// Paths of all files that are visible now, or that are durable.
    pub(in crate::sim) fn files(&self, durable: bool) -> Vec<(String, u64)> {
        let tree = if durable { &self.durable } else { &self.visible };
        let mut files = Vec::new();
        let mut open = vec![(String::new(), ROOT)];
        while let Some((path, dir)) = open.pop() {
            for (name, node) in tree.dirs.get(&dir).into_iter().flatten() {
                let path = format!("{path}/{name}");
                match node {
                    Node::File(inode) => files.push((path, *inode)),
                    Node::Dir(dir) => open.push((path, *dir)),
                }
            }
        }
        files.sort();
        files
    }

    /// Files that a name may stand for now.
    pub(in crate::sim) fn visible_inodes(&self) -> BTreeSet<u64> {
        let mut files = BTreeSet::new();
        self.visible.collect(Node::Dir(ROOT), &mut files, &mut BTreeSet::new());
        files
    }

    /// Files that a name may stand for now or after a crash.
    pub(in crate::sim) fn reachable_inodes(&self) -> BTreeSet<u64> {
        let mut files = self.visible_inodes();
        let mut dirs = BTreeSet::new();
        self.durable.collect(Node::Dir(ROOT), &mut files, &mut dirs);
        for entry in &self.journal {
            if let Change::Link { node, .. } = entry.change {
                // The file may hang below a directory that is linked nowhere else.
                self.visible.collect(node, &mut files, &mut BTreeSet::new());
                self.durable.collect(node, &mut files, &mut BTreeSet::new());
            }
        }
        files
    }
}

impl Change {
    fn names(&self) -> Vec<&Name> {
        match self {
            Self::Link { at, .. } | Self::Unlink { at, .. } => vec![at],
            Self::Move { source, target } => vec![source, target],
        }
    }
}

impl Tree {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Link { at, node } => {
                self.dirs.entry(at.dir).or_default().insert(at.name.clone(), *node);
            }
            Change::Unlink { at, .. } => {
                self.dirs.entry(at.dir).or_default().remove(&at.name);
            }
            Change::Move { source, target } => {
                if let Some(node) = self.dirs.entry(source.dir).or_default().remove(&source.name) {
                    self.dirs.entry(target.dir).or_default().insert(target.name.clone(), node);
                }
            }
        }
    }

    /// Adds the files and directories at and below `node`.
    fn collect(&self, node: Node, files: &mut BTreeSet<u64>, dirs: &mut BTreeSet<DirId>) {
        let mut open = vec![node];
        while let Some(node) = open.pop() {
            match node {
                Node::File(inode) => {
                    files.insert(inode);
                }
                Node::Dir(dir) => {
                    if dirs.insert(dir) {
                        open.extend(self.dirs.get(&dir).into_iter().flatten().map(|(_, node)| *node));
                    }
                }
            }
        }
    }
}

/// The names on a path. Relative paths start at the root, as there is no working directory.
fn names_of(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => names.push(name.to_str().ok_or(io::ErrorKind::InvalidInput)?),
            Component::ParentDir | Component::Prefix(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(names)
}
