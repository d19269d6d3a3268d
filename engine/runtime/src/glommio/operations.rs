//! Operations that run to their end whether or not somebody waits for them.
//!
//! Guards:
//! - Dropping a glommio I/O future cancels the I/O, or leaves it half done with nobody to see the result. Every
//!   operation here runs in a detached task of its own; dropping the caller's future only stops the waiting.
//! - glommio clones the waker of a waiting task at every poll of some of its futures and panics at 32,768 clones. The
//!   detached task is polled only when its operation progresses, however often the caller is polled.
//! - A panic in a blocking closure kills the shard's blocking thread, and every later closure hangs. It is caught.
//! - A blocking thread whose executor is gone panics when it delivers its result: [`Operations::drained`] is awaited
//!   before an executor ends.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use crate::local::Event;

/// Starts operations on this shard and counts those in flight.
#[derive(Clone, Default)]
pub(super) struct Operations {
    in_flight: Rc<InFlight>,
}

#[derive(Default)]
struct InFlight {
    count: Cell<usize>,
    finished: Event,
}

impl Operations {
    /// Runs `operation` to its end, and returns its output if the caller still waits then.
    ///
    /// The operation starts at the first poll and takes its first step inside it.
    pub(super) async fn run<T: 'static>(&self, operation: impl Future<Output = T> + 'static) -> T {
        let ticket = Ticket::take(&self.in_flight);
        let task = ::glommio::spawn_local(async move {
            let output = operation.await;
            drop(ticket);
            output
        });
        match task.detach().await {
            Some(output) => output,
            // Nobody cancels the task and a panic aborts the process: the executor itself is being taken down.
            None => std::future::pending().await,
        }
    }

    /// Runs `closure` on the shard's blocking thread. `kept` lives until the closure has returned; it holds what the
    /// closure reaches only by number, such as an open file.
    pub(super) async fn run_blocking<T: Send + 'static>(
        &self,
        kept: impl Sized + 'static,
        closure: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let outcome = self
            .run(async move {
                let caught = move || catch_unwind(AssertUnwindSafe(closure));
                let outcome = ::glommio::executor().spawn_blocking(caught).await;
                drop(kept);
                outcome
            })
            .await;
        outcome.unwrap_or_else(|_| Err(io::Error::other("a blocking operation panicked")))
    }

    /// Completes when nothing is in flight.
    pub(super) async fn drained(&self) {
        loop {
            let version = self.in_flight.finished.version();
            if self.in_flight.count.get() == 0 {
                return;
            }
            self.in_flight.finished.changed(version).await;
        }
    }
}

/// One operation in flight.
struct Ticket {
    in_flight: Rc<InFlight>,
}

impl Ticket {
    fn take(in_flight: &Rc<InFlight>) -> Self {
        in_flight.count.set(in_flight.count.get() + 1);
        Self { in_flight: Rc::clone(in_flight) }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.in_flight.count.set(self.in_flight.count.get() - 1);
        self.in_flight.finished.notify();
    }
}

/// The error of the operating system inside glommio's, with its number, which glommio's own conversion drops.
pub(super) fn io_error<T>(error: ::glommio::GlommioError<T>) -> io::Error {
    match error {
        ::glommio::GlommioError::EnhancedIoError { source, .. } => source,
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use ::glommio::LocalExecutorBuilder;

    fn on_an_executor(main: impl Future<Output = ()>) {
        LocalExecutorBuilder::default().io_memory(0).make().unwrap().run(main);
    }

    #[test]
    fn a_panic_in_a_blocking_closure_is_an_error_and_the_next_closure_runs() {
        on_an_executor(async {
            let operations = Operations::default();
            let outcome = operations.run_blocking((), || -> io::Result<()> { panic!("on purpose") }).await;
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::Other);
            assert_eq!(operations.run_blocking((), || Ok(7)).await.unwrap(), 7);
        });
    }

    #[test]
    fn an_operation_nobody_waits_for_runs_to_its_end_and_is_drained() {
        on_an_executor(async {
            let operations = Operations::default();
            let has_run = Rc::new(Cell::new(false));
            {
                let has_run = Rc::clone(&has_run);
                let blocking = operations.clone();
                let mut dropped = pin!(operations.run(async move {
                    blocking.run_blocking((), || Ok(())).await.unwrap();
                    has_run.set(true);
                }));
                assert!(dropped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            }
            assert!(!has_run.get());
            operations.drained().await;
            assert!(has_run.get());
        });
    }

    #[test]
    fn a_caller_may_poll_an_operation_more_often_than_a_task_has_wakers() {
        on_an_executor(async {
            let operations = Operations::default();
            let (hold, held) = std::sync::mpsc::channel::<()>();
            let mut operation = pin!(operations.run_blocking((), move || Ok(held.recv().is_ok())));
            std::future::poll_fn(|context| {
                for _ in 0..100_000 {
                    assert!(operation.as_mut().poll(context).is_pending());
                }
                std::task::Poll::Ready(())
            })
            .await;
            hold.send(()).unwrap();
            assert!(operation.await.unwrap());
        });
    }
}
