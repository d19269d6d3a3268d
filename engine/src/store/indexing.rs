//! Reads a segment's index back when the log is first read after a clean stop.

use std::rc::Rc;

use millrace_runtime::{Env, TaskClass, Tasks};

use super::{Inner, SharedLog, prepare};
use crate::format::segment_header::RECORDS_START;
use crate::log::Failure;
use crate::log::offsets::Mark;
use crate::recovery::scan;

/// Waits until the whole log is in its index.
pub(super) async fn ensure<E: Env>(inner: &Rc<Inner<E>>, log: &SharedLog<E>) -> Result<(), Failure> {
    loop {
        let version = inner.prepared.version();
        {
            let mut borrowed = log.borrow_mut();
            if let Some(failure) = &borrowed.failure {
                return Err(failure.clone());
            }
            if borrowed.unindexed_end == RECORDS_START {
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
    let result = read_index(&inner, &log).await;
    log.borrow_mut().preparing = false;
    if let Err(failure) = result {
        inner.fail_log(&log, &failure);
    }
    inner.enqueue(&log);
    inner.prepared.notify();
}

async fn read_index<E: Env>(inner: &Inner<E>, log: &SharedLog<E>) -> Result<(), Failure> {
    let failure =
        |error: std::io::Error| Failure::Io { operation: "reading a segment's index", reason: error.to_string() };
    let segment = prepare::open(inner, log).await.map_err(failure)?;
    let end = log.borrow().unindexed_end;
    let start = Mark { offset: segment.base_offset(), position: RECORDS_START };
    let scanned = scan::scan(&inner.env, &segment, start, Some(end)).await.map_err(failure)?;
    if scanned.end.position != end {
        return Err(scan::damage(&segment, &scanned, end).into());
    }
    let mut borrowed = log.borrow_mut();
    borrowed.index.prepend(scanned.index);
    borrowed.unindexed_end = RECORDS_START;
    Ok(())
}
