//! The device's names: what the program sees, what is durable, and the changes in between.
//!
//! Directories are numbered like files, so that what lies in a renamed one is found there. A change is settled once its
//! directory was synchronised after it. When the power fails, the settled changes are there and of the others a prefix,
//! in order: one prefix of all, as ext4 and XFS have it, which journal every change in one sequence; or one for each
//! directory, which is all that a program may rely on.

use std::collections::{BTreeMap, BTreeSet};

use super::Draw;

/// A directory or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    File(u64),
    Dir(u64),
}

/// The directory that holds everything.
pub(super) const ROOT: u64 = 0;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) dir: u64,
    pub(super) name: String,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Link { at: Name, node: Node },
    Unlink { at: Name },
    Move { source: Name, target: Name },
}

#[derive(Clone, Default)]
pub(super) struct Names {
    visible: Tree,
    durable: Tree,
    journal: Vec<Entry>,
}

#[derive(Clone)]
struct Entry {
    moment: u64,
    change: Change,
    settled: bool,
}

/// Names by directory.
#[derive(Clone, Default)]
pub(super) struct Tree(BTreeMap<u64, BTreeMap<String, Node>>);

impl Names {
    /// Names that are all durable.
    pub(super) fn durable(tree: Tree) -> Self {
        Self { visible: tree.clone(), durable: tree, journal: Vec::new() }
    }

    pub(super) fn apply(&mut self, moment: u64, change: Change) {
        self.visible.apply(&change);
        self.journal.push(Entry { moment, change, settled: false });
    }

    /// A synchronisation of `dir`, started at `moment`, succeeded.
    pub(super) fn sync(&mut self, dir: u64, moment: u64) {
        for entry in &mut self.journal {
            entry.settled |= entry.moment < moment && entry.change.dir() == dir;
        }
        let count = self.journal.iter().take_while(|entry| entry.settled).count();
        for entry in self.journal.drain(..count) {
            self.durable.apply(&entry.change);
        }
    }

    /// The names that a power failure leaves.
    pub(super) fn lose_power(&self, draw: &Draw) -> Tree {
        let unsettled = || self.journal.iter().filter(|entry| !entry.settled);
        let mut kept = BTreeMap::new();
        let one_sequence = draw.coin();
        let group = |change: &Change| if one_sequence { ROOT } else { change.dir() };
        for dir in unsettled().map(|entry| group(&entry.change)).collect::<BTreeSet<_>>() {
            kept.insert(dir, draw.prefix(unsettled().filter(|entry| group(&entry.change) == dir).count()));
        }
        let mut left = self.durable.clone();
        for entry in &self.journal {
            let survives = entry.settled || {
                let rest = kept.get_mut(&group(&entry.change)).expect("every unsettled change has a group");
                let survives = *rest > 0;
                *rest = rest.saturating_sub(1);
                survives
            };
            if survives {
                left.apply(&entry.change);
            }
        }
        left
    }

    pub(super) fn has_unsettled(&self) -> bool {
        !self.journal.is_empty()
    }

    pub(super) fn visible(&self) -> &Tree {
        &self.visible
    }
}

impl Change {
    fn dir(&self) -> u64 {
        match self {
            Self::Link { at, .. } | Self::Unlink { at } => at.dir,
            Self::Move { source, target } => {
                assert_eq!(source.dir, target.dir, "the engine renames within a directory only");
                target.dir
            }
        }
    }
}

impl Tree {
    /// What a path leads to; `None` when a name of it is missing.
    pub(super) fn find(&self, path: &str) -> Option<Node> {
        path.split('/').filter(|name| !name.is_empty()).try_fold(Node::Dir(ROOT), |node, name| match node {
            Node::Dir(dir) => self.0.get(&dir)?.get(name).copied(),
            Node::File(_) => None,
        })
    }

    /// The directory and last name of a path, whether or not there is such a name.
    pub(super) fn split(&self, path: &str) -> Name {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(Node::Dir(dir)) = self.find(parent) else { panic!("{parent} is no directory") };
        Name { dir, name: name.to_owned() }
    }

    /// Everything below a directory, with its path below it, directories before what is in them.
    pub(super) fn below(&self, dir: u64) -> Vec<(String, Name, Node)> {
        let mut found = Vec::new();
        let mut open = vec![(String::new(), dir)];
        while let Some((path, dir)) = open.pop() {
            for (name, node) in self.0.get(&dir).into_iter().flatten() {
                let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                found.push((path.clone(), Name { dir, name: name.clone() }, *node));
                if let Node::Dir(dir) = node {
                    open.push((path, *dir));
                }
            }
        }
        found
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Link { at, node } => {
                self.0.entry(at.dir).or_default().insert(at.name.clone(), *node);
            }
            Change::Unlink { at } => {
                self.0.entry(at.dir).or_default().remove(&at.name);
            }
            Change::Move { source, target } => {
                if let Some(node) = self.0.entry(source.dir).or_default().remove(&source.name) {
                    self.0.entry(target.dir).or_default().insert(target.name.clone(), node);
                }
            }
        }
    }
}
