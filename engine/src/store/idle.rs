//! What open files, indexes and tails may take: files and indexes that were not used for longest are let go of when there
//! are too many, and a log that nobody uses keeps none of them.
//!
//! Letting go never waits for anything: whoever reads a file holds a clone of it, and what is needed again is opened or
//! loaded again. A file is closed only when all that was written to it is flushed: a failed flush is told to who has the
//! file open. Records that only the journal has do not need it. When there are too many files, [`await_file`] holds those up
//! that want to open one more.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::time::Duration;

use futures_util::future::select;
use millrace_runtime::{Clock, Env, Tasks};

use super::turns::{LOOKS_MAX, Turn};
use super::{Inner, SharedLog};
use crate::log::Log;
use crate::model::Offset;

/// How often what could not be let go of is looked at again.
const TICK: Duration = Duration::from_secs(1);
/// The longest that a file is waited for. Far beyond a round, which lets go of what it has written.
const FILE_WAIT_MAX: Duration = Duration::from_secs(1);
/// Logs that are looked at between two looks at other work.
const LOGS_PER_YIELD: usize = 64;

/// A segment of a log in one of its lives.
pub(super) struct Owned<E: Env> {
    log: Weak<RefCell<Log<E>>>,
    life: u64,
    base_offset: Offset,
}

impl<E: Env> Owned<E> {
    fn new(log: &SharedLog<E>, base_offset: Offset) -> Self {
        Self { log: Rc::downgrade(log), life: log.borrow().life, base_offset }
    }

    /// Asks the log for its decision, if it is still in that life.
    fn ask(&self, decide: impl FnOnce(&mut Log<E>, Offset) -> Turn) -> Turn {
        let Some(log) = self.log.upgrade() else { return Turn::Gone };
        let mut log = log.borrow_mut();
        if log.life == self.life { decide(&mut log, self.base_offset) } else { Turn::Gone }
    }
}

impl<E: Env> Inner<E> {
    /// A log has opened the file of one of its segments. No log is borrowed.
    pub(super) fn file_opened(&self, log: &SharedLog<E>, base_offset: Offset) {
        self.open_files.borrow_mut().push(Owned::new(log, base_offset), 1);
        self.fit();
    }

    /// A log has the index of one of its sealed segments in memory, and could load it again. No log is borrowed.
    pub(super) fn index_loaded(&self, log: &SharedLog<E>, base_offset: Offset) {
        let bytes = {
            let log = log.borrow();
            let index = log.find_sealed(base_offset).and_then(|sealed| sealed.index.as_ref());
            index.map(|index| index.memory_bytes())
        };
        if let Some(bytes) = bytes {
            self.indexes.borrow_mut().push(Owned::new(log, base_offset), bytes);
            self.fit();
        }
    }

    fn fit(&self) {
        self.fit_files(self.config.open_file_count_max);
        self.indexes.borrow_mut().fit(self.config.index_bytes_max, |owned| owned.ask(drop_index));
    }

    /// Closes files until no more than `count_max` are open, or for now enough was looked at. True when it is done.
    fn fit_files(&self, count_max: usize) -> bool {
        let mut files = self.open_files.borrow_mut();
        files.fit(count_max, |owned| {
            let turn = owned.ask(close_file);
            if let Some(log) = owned.log.upgrade().filter(|log| log.borrow().write_back_wanted) {
                self.enqueue(&log);
            }
            turn
        });
        files.cost() <= count_max
    }

    /// Drops the tail of a log if all of it is on the device.
    pub(super) fn drop_tail(&self, log: &mut Log<E>) {
        if log.recorded.is_none() && log.is_settled() {
            self.tail_bytes.set(self.tail_bytes.get() - log.tail.memory_bytes());
            log.tail.clear();
        }
    }
}

fn close_file<E: Env>(log: &mut Log<E>, base_offset: Offset) -> Turn {
    let (flushed, worked_on, compacting) = (log.is_file_flushed(), log.is_worked_on(), log.compacting);
    if let Some(active) = log.active.as_mut().filter(|active| active.base_offset == base_offset) {
        if active.file.is_none() {
            return Turn::Gone;
        }
        let used = std::mem::take(&mut active.file_used);
        if used || !flushed || worked_on || active.unnamed {
            // By the time of the next look it may be flushed.
            log.write_back_wanted |= !used && !flushed && log.recorded.is_none();
            return Turn::Another;
        }
        active.file = None;
        // Prepared once more when it is wanted.
        log.next = None;
        return Turn::Gone;
    }
    let Some(sealed) = log.find_sealed_mut(base_offset).filter(|sealed| sealed.file.is_some()) else {
        return Turn::Gone;
    };
    // While it is compacted, its file may have another name.
    if std::mem::take(&mut sealed.file_used) || !sealed.finished || compacting {
        return Turn::Another;
    }
    sealed.file = None;
    Turn::Gone
}

fn drop_index<E: Env>(log: &mut Log<E>, base_offset: Offset) -> Turn {
    let Some(sealed) = log.find_sealed_mut(base_offset).filter(|sealed| sealed.index.is_some()) else {
        return Turn::Gone;
    };
    if std::mem::take(&mut sealed.index_used) || !sealed.finished {
        return Turn::Another;
    }
    sealed.index = None;
    Turn::Gone
}

/// Waits until one more file may be open, but not for long: when all of them are in use, there have to be more.
pub(super) async fn await_file<E: Env>(inner: &Inner<E>) {
    let deadline = inner.env.clock().now() + FILE_WAIT_MAX;
    loop {
        let (prepared, ended) = (inner.prepared.version(), inner.round_ended.version());
        let now = inner.env.clock().now();
        if make_room_for_file(inner).await || now >= deadline {
            return;
        }
        let freed = select(inner.prepared.changed(prepared), inner.round_ended.changed(ended));
        select(freed, pin!(inner.env.clock().sleep(deadline - now))).await;
    }
}

/// Looks at every open file for some that can be closed, and once more: the first look may only find that it was used. True
/// when there are few enough.
async fn make_room_for_file<E: Env>(inner: &Inner<E>) -> bool {
    let looks = 2 * inner.open_files.borrow().cost();
    for _ in 0..=looks / LOOKS_MAX {
        // Those that wait beside this one open a file each.
        let count_max = inner.config.open_file_count_max.saturating_sub(inner.preparing.get()).max(1);
        if inner.fit_files(count_max) {
            return true;
        }
        inner.env.tasks().yield_now().await;
    }
    false
}

/// Looks for logs that nobody uses until the store closes.
pub(super) async fn run<E: Env>(inner: Rc<Inner<E>>) {
    let mut waited = Duration::ZERO;
    while !inner.closing.get() {
        let tick = TICK.min(inner.config.idle_interval);
        inner.env.clock().sleep(tick).await;
        inner.fit();
        waited += tick;
        if waited < inner.config.idle_interval {
            continue;
        }
        waited = Duration::ZERO;
        let logs: Vec<_> = inner.logs.borrow().values().cloned().collect();
        for logs in logs.chunks(LOGS_PER_YIELD) {
            for log in logs {
                let used = std::mem::take(&mut log.borrow_mut().used);
                if !used && !inner.closing.get() {
                    rest(&inner, log);
                }
            }
            inner.env.tasks().yield_now().await;
        }
    }
}

/// Has an idle log keep neither files nor memory of records. What only the journal has is written back first, and the log
/// rests the next time.
fn rest<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) {
    let mut borrowed = log.borrow_mut();
    if borrowed.recorded.is_some() || borrowed.is_worked_on() {
        return;
    }
    if !borrowed.is_settled() {
        borrowed.write_back_wanted = true;
        drop(borrowed);
        return inner.enqueue(log);
    }
    let Some(active) = borrowed.active.as_mut().filter(|active| !active.unnamed) else { return };
    (active.file, active.file_used) = (None, false);
    borrowed.next = None;
    for sealed in borrowed.sealed.iter_mut().filter(|sealed| sealed.finished) {
        (sealed.file, sealed.index) = (None, None);
    }
    inner.drop_tail(&mut borrowed);
}
