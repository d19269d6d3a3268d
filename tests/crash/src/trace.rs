//! What a recorded run did to its disk, and what it promised meanwhile, in one sequence.
//!
//! A trace holds no handle of the machine it was recorded on, so it leaves its shard and outlives it. It never says what
//! is durable: that is worked out by [`crate::device`], from nothing but starts and ends.
//!
//! Invariants: an operation starts before it ends and ends at most once; one that is not ended by the end of the trace
//! was in flight. A start is noted before the operation begins and an end after it has completed, so what a trace calls
//! "ended before the flush started" really had.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use millrace_engine::model::{LeaderEpoch, Offset, PartitionId};

/// One step of a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// An existing file was opened.
    Opened {
        /// Number of the descriptor in this trace.
        handle: u64,
        /// See [`Recorder::path`].
        path: String,
    },
    /// An operation that changes the disk, or makes a change durable, starts.
    Started {
        /// Number of the operation in this trace.
        operation: u64,
        /// What it does.
        change: Change,
    },
    /// An operation ends.
    Ended {
        /// Number of the operation.
        operation: u64,
        /// Whether it succeeded.
        succeeded: bool,
    },
    /// The store took a batch.
    Taken(Taken),
    /// The store acknowledged every batch of a log up to an offset.
    Acknowledged {
        /// The log.
        partition: PartitionId,
        /// Offset behind the last acknowledged record.
        end: Offset,
    },
}

/// What an operation does. Paths are those of [`Recorder::path`].
#[derive(Clone, Debug)]
pub enum Change {
    /// Makes a file.
    Create {
        /// Its descriptor.
        handle: u64,
        /// Its name.
        path: String,
    },
    /// Makes a directory and its missing parents.
    CreateDirs {
        /// Its name.
        path: String,
    },
    /// Writes a buffer.
    Write {
        /// The descriptor.
        handle: u64,
        /// Where.
        position: u64,
        /// What.
        content: Content,
        /// Whether the write is durable once it has ended.
        synchronous: bool,
    },
    /// Sets a file's length.
    Truncate {
        /// The descriptor.
        handle: u64,
        /// The new length.
        bytes: u64,
    },
    /// Reserves space up to `end` and grows the file that far.
    Allocate {
        /// The descriptor.
        handle: u64,
        /// End of the reserved space.
        end: u64,
    },
    /// Flushes a file.
    Sync {
        /// The descriptor.
        handle: u64,
    },
    /// Makes a directory's names durable.
    SyncDir {
        /// The directory.
        path: String,
    },
    /// Renames, at once.
    Rename {
        /// The old name.
        source: String,
        /// The new name.
        target: String,
    },
    /// Renames in steps that a crash can come between. No file system that we serve does; see [`crate::recording::Lie`].
    TornRename {
        /// The old name.
        source: String,
        /// The new name.
        target: String,
    },
    /// Removes a file's name.
    RemoveFile {
        /// The name.
        path: String,
    },
    /// Removes a directory and all it holds.
    RemoveDir {
        /// The name.
        path: String,
    },
}

/// A written buffer. Filling ahead writes many zeros, which are not worth their memory.
#[derive(Clone, Debug)]
pub enum Content {
    /// So many zeros.
    Zeros(usize),
    /// Bytes.
    Bytes(Arc<[u8]>),
}

impl Content {
    /// The content of a buffer.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.iter().all(|byte| *byte == 0) { Self::Zeros(bytes.len()) } else { Self::Bytes(bytes.into()) }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Zeros(bytes) => *bytes,
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A batch that a store took.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The log.
    pub partition: PartitionId,
    /// Offset of its first record.
    pub base: Offset,
    /// Offset behind its last record.
    pub end: Offset,
    /// The leader epoch it was appended under.
    pub epoch: LeaderEpoch,
    /// As it was handed to the store.
    pub bytes: Arc<[u8]>,
}

/// Notes events. Clones note into the same trace.
#[derive(Clone)]
pub struct Recorder {
    shared: Rc<Shared>,
}

struct Shared {
    root: PathBuf,
    events: RefCell<Vec<Event>>,
    number_next: Cell<u64>,
}

impl Recorder {
    /// An empty trace of what happens below `root`.
    pub fn new(root: &Path) -> Self {
        let shared = Shared { root: root.to_owned(), events: RefCell::default(), number_next: Cell::new(0) };
        Self { shared: Rc::new(shared) }
    }

    /// A path as it stands in the trace: relative to the root, which itself is the empty text. `None` for one that does
    /// not lie below the root: what happens there is not recorded.
    pub fn path(&self, path: &Path) -> Option<String> {
        let relative = path.strip_prefix(&self.shared.root).ok()?;
        Some(relative.to_str().expect("the engine's names are ASCII").to_owned())
    }

    /// A number for a descriptor or an operation.
    pub fn number(&self) -> u64 {
        let number = self.shared.number_next.get();
        self.shared.number_next.set(number + 1);
        number
    }

    /// Notes an event.
    pub fn note(&self, event: Event) {
        self.shared.events.borrow_mut().push(event);
    }

    /// Notes the start of an operation and returns its number.
    pub fn start(&self, change: Change) -> u64 {
        let operation = self.number();
        self.note(Event::Started { operation, change });
        operation
    }

    /// Notes the end of an operation.
    pub fn end<T, E>(&self, operation: u64, result: &Result<T, E>) {
        self.note(Event::Ended { operation, succeeded: result.is_ok() });
    }

    /// The trace so far.
    pub fn take(&self) -> Vec<Event> {
        self.shared.events.take()
    }
}
