//! Keeps names from vanishing under an open in progress.
//!
//! Guard: glommio's open looks the path up a second time after the descriptor is open, and panics when the name is gone
//! by then. So removals and renames wait for the opens at or below their path, and later opens wait for them. Only this
//! shard's operations are ordered; a directory tree belongs to one shard at a time.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::local::Event;

/// The names in use by opens and removals of one shard.
#[derive(Clone, Default)]
pub(super) struct Names {
    shared: Rc<Shared>,
}

#[derive(Default)]
struct Shared {
    opening: RefCell<Vec<PathBuf>>,
    removing: RefCell<Vec<PathBuf>>,
    released: Event,
}

impl Names {
    /// Waits until nothing at or above `path` is being removed and holds off such removals.
    pub(super) async fn open(&self, path: &Path) -> NameGuard {
        loop {
            let version = self.shared.released.version();
            if !self.shared.removing.borrow().iter().any(|removed| path.starts_with(removed)) {
                break;
            }
            self.shared.released.changed(version).await;
        }
        self.guard(Use::Opening, path)
    }

    /// Holds off opens at or below `path` and waits for those in progress.
    pub(super) async fn remove(&self, path: &Path) -> NameGuard {
        // Entered before the wait, so that a stream of opens cannot keep a removal out.
        let guard = self.guard(Use::Removing, path);
        loop {
            let version = self.shared.released.version();
            if !self.shared.opening.borrow().iter().any(|opened| opened.starts_with(path)) {
                return guard;
            }
            self.shared.released.changed(version).await;
        }
    }

    fn guard(&self, name_use: Use, path: &Path) -> NameGuard {
        self.shared.paths(name_use).borrow_mut().push(path.to_owned());
        NameGuard { shared: Rc::clone(&self.shared), name_use, path: path.to_owned() }
    }
}

impl Shared {
    fn paths(&self, name_use: Use) -> &RefCell<Vec<PathBuf>> {
        match name_use {
            Use::Opening => &self.opening,
            Use::Removing => &self.removing,
        }
    }
}

#[derive(Clone, Copy)]
enum Use {
    Opening,
    Removing,
}

/// Holds a name until it is dropped.
pub(super) struct NameGuard {
    shared: Rc<Shared>,
    name_use: Use,
    path: PathBuf,
}

impl Drop for NameGuard {
    fn drop(&mut self) {
        let mut paths = self.shared.paths(self.name_use).borrow_mut();
        let index = paths.iter().position(|path| *path == self.path).expect("a guard's path stays entered");
        paths.swap_remove(index);
        drop(paths);
        self.shared.released.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_removal_waits_for_opens_below_it_and_later_opens_wait_for_the_removal() {
        let names = Names::default();
        let Poll::Ready(open) = poll(pin!(names.open(Path::new("/data/a/1.log")))) else { panic!("nothing holds it") };
        let mut removal = pin!(names.remove(Path::new("/data/a")));
        assert!(poll(removal.as_mut()).is_pending());
        assert!(poll(pin!(names.open(Path::new("/data/b/1.log")))).is_ready());
        let mut later = pin!(names.open(Path::new("/data/a/2.log")));
        assert!(poll(later.as_mut()).is_pending());

        drop(open);
        let Poll::Ready(removed) = poll(removal) else { panic!("the open has ended") };
        assert!(poll(later.as_mut()).is_pending());
        drop(removed);
        assert!(poll(later).is_ready());
    }
}
