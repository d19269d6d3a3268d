//! Files that are not whole yet: made under another name, and renamed once they are whole and durable. And those that
//! cannot be opened at all.

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

/// Whether the process, or the system, may not open any more files.
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(SYSTEM_OUT_OF_FILES | PROCESS_OUT_OF_FILES))
}

/// `ENFILE` and `EMFILE` of Linux.
const SYSTEM_OUT_OF_FILES: i32 = 23;
const PROCESS_OUT_OF_FILES: i32 = 24;
