//! A real file system that is soon full, for the time of a test.
//!
//! ext4 in a file, mounted over a loop device: blocks run out as they do on a disk, direct I/O works, and a flush reaches the
//! device, none of which a quota in memory gives. That takes root and a kernel that allows loop mounts. Where they are
//! missing, `MILLRACE_SMALL_DISK` may name a directory on a small file system that somebody else has mounted; without either
//! there is an error that says so, and the test has to fail with it: a test that did not run has not passed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use millrace_compat::{places, process};
use tempfile::TempDir;

/// Names a directory on a small file system.
const VARIABLE: &str = "MILLRACE_SMALL_DISK";
/// A file system that was made elsewhere may be so many times larger than asked for.
const LARGER_MAX: u64 = 4;

/// What ext4 gives out at once.
const BLOCK_BYTES: u64 = 4096;

/// A directory on a small file system. Gone, with what is in it, when dropped: drop what runs on it first.
pub struct SmallDisk {
    directory: PathBuf,
    /// The mount to undo.
    mount: Option<PathBuf>,
    /// Holds the file system's image, or is the directory itself.
    _folder: TempDir,
}

/// Makes a file system of `bytes`, of which its own tables take some. An error says why that cannot be done here.
pub fn small_disk(bytes: u64) -> Result<SmallDisk, String> {
    match std::env::var_os(VARIABLE) {
        Some(directory) => on_a_mounted_one(Path::new(&directory), bytes),
        None => mounted(bytes).map_err(|what| {
            format!("this test could not run: {what}. It takes root and loop mounts, or {VARIABLE} naming a small disk")
        }),
    }
}

fn on_a_mounted_one(directory: &Path, bytes: u64) -> Result<SmallDisk, String> {
    let place = format!("{VARIABLE}={}", directory.display());
    let found = rustix::fs::statvfs(directory).map_err(|error| format!("this test could not run: {place}: {error}"))?;
    let size = found.f_blocks * found.f_frsize;
    if size > LARGER_MAX * bytes {
        return Err(format!("this test could not run: {place} has {size} bytes; about {bytes} are wanted"));
    }
    let folder =
        tempfile::tempdir_in(directory).map_err(|error| format!("this test could not run: {place}: {error}"))?;
    Ok(SmallDisk { directory: folder.path().to_owned(), mount: None, _folder: folder })
}

fn mounted(bytes: u64) -> Result<SmallDisk, String> {
    let folder = places::fresh_folder();
    let (image, directory) = (folder.path().join("image"), folder.path().join("disk"));
    let made = fs::File::create_new(&image).and_then(|file| file.set_len(bytes));
    made.and_then(|()| fs::create_dir(&directory)).map_err(|error| format!("{}: {error}", image.display()))?;
    // Without blocks that only root may use: the broker of a test may be root, an operator's is not.
    run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
    run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&directory))?;
    Ok(SmallDisk { mount: Some(directory.clone()), directory, _folder: folder })
}

fn run(command: &mut Command) -> Result<(), String> {
    let described = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{described}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{described}: {}, {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

impl SmallDisk {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Bytes that a program which is not root can still write.
    pub fn available_bytes(&self) -> u64 {
        let found = rustix::fs::statvfs(&self.directory).expect("a mounted file system tells its size");
        found.f_bavail * found.f_frsize
    }

    /// Takes `bytes` of the disk, or all blocks that are left if those are fewer, until the returned file is dropped.
    pub fn ballast(&self, bytes: u64) -> Ballast {
        let path = self.directory.join("ballast");
        let file = fs::File::create_new(&path).expect("one ballast at a time, on a disk with room for a name");
        let (mut taken, mut step) = (0, bytes);
        while taken < bytes && step >= BLOCK_BYTES {
            let wanted = step.min(bytes - taken);
            match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), taken, wanted) {
                Ok(()) => taken += wanted,
                // The file system needs blocks of its own to keep track of them.
                Err(rustix::io::Errno::NOSPC) => step /= 2,
                Err(error) => panic!("taking space: {error}"),
            }
        }
        Ballast { path }
    }
}

/// Space that is taken.
pub struct Ballast {
    path: PathBuf,
}

impl Drop for Ballast {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("nobody else removes the ballast");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let Some(mount) = &self.mount else { return };
        // A broker that is still there keeps it busy; then it goes when the broker does.
        let unmounted = process::run(Command::new("umount").arg("--lazy").arg(mount), "");
        assert!(unmounted.status.success() || std::thread::panicking(), "{}", unmounted.stderr);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_of_another_size_is_refused() {
        let refused = on_a_mounted_one(&std::env::temp_dir(), 1).err();
        assert!(refused.is_some_and(|what| what.starts_with("this test could not run: MILLRACE_SMALL_DISK=")));
        let missing = on_a_mounted_one(Path::new("/nowhere"), 1).err();
        assert!(missing.is_some_and(|what| what.contains("No such file or directory")));
    }
}
