//! Files that are not whole yet: made under another name, and renamed once they are whole and durable.

use std::io;
use std::path::Path;

use millrace_runtime::{Disk, Env, OpenMode};

/// Whether a file of this name was being made when a crash came.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.strip_suffix(".new").is_some() || name == "new-segment"
}

/// Opens a new file under the name it has until it is whole, in place of one whose making a crash cut short.
pub(crate) async fn open_unfinished<E: Env>(env: &E, path: &Path) -> io::Result<<E::Disk as Disk>::File> {
    match env.disk().open(path, OpenMode::New).await {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            env.disk().remove_file(path).await?;
            env.disk().open(path, OpenMode::New).await
        }
        other => other,
    }
}
