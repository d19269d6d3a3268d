//! Reads a segment's batches when a log is first used after a clean stop: for its index, and for what its producers sent.

use std::rc::Rc;

use millrace_runtime::{Env, TaskClass, Tasks};

use super::{Inner, SharedLog, prepare};
use crate::format::segment_header::RECORDS_START;
use crate::log::offsets::Mark;
use crate::log::{Corruption, Failure};
use crate::recovery::scan;

/// Waits until all that is in the log is known.
pub(super) async fn ensure<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> Result<(), Failure> {
    loop {
        let version = inner.prepared.version();
        {
            let mut borrowed = log.borrow_mut();
            if let Some(failure) = &borrowed.failure {
                return Err(failure.clone());
            }
            if borrowed.unread_end == RECORDS_START {
                return Ok(());
            }
            if !borrowed.preparing {
                borrowed.preparing = true;
                inner.env.tasks().spawn(TaskClass::Background, run(Rc::clone(inner), Rc::clone(log)));
            }
        }
        inner.prepared.changed(version).await;
    }
}

async fn run<E: Env>(inner: Rc<Inner<E>>, log: SharedLog<E>) {
    let result = read_contents(&inner, &log).await;
    log.borrow_mut().preparing = false;
    if let Err(failure) = result {
        inner.fail_log(&log, &failure);
    }
    inner.enqueue(&log);
    inner.prepared.notify();
}

async fn read_contents<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> Result<(), Failure> {
    let failure = |error: std::io::Error| Failure::Io { operation: "reading a segment", reason: error.to_string() };
    let segment = prepare::open(inner, log).await.map_err(failure)?;
    let (id, end) = {
        let borrowed = log.borrow();
        (borrowed.id, borrowed.unread_end)
    };
    if !segment.header_holds(id).await.map_err(failure)? {
        let (file, what) = (segment.path().to_owned(), scan::HEADER_DAMAGED.to_owned());
        return Err(Corruption { file, position: 0, what }.into());
    }
    let start = Mark { offset: segment.base_offset(), position: RECORDS_START };
    let scanned = scan::scan(&inner.env, &segment, start, Some(end)).await.map_err(failure)?;
    if scanned.end.position != end {
        return Err(scan::damage(&segment, &scanned, end).into());
    }
    let mut borrowed = log.borrow_mut();
    borrowed.contents.index.prepend(scanned.contents.index);
    borrowed.contents.producers.prepend(scanned.contents.producers);
    borrowed.unread_end = RECORDS_START;
    Ok(())
}
