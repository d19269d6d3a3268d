//! Where the repository is and which files belong to it.
//!
//! A file belongs if git tracks it, or would after `git add`: a rule must fail before the commit, not after it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

/// The folder that holds the workspace's `Cargo.toml`.
pub(crate) fn root() -> anyhow::Result<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = manifest.ancestors().nth(2).context("tools/dev lies two folders below the root")?;
    ensure!(root.join("Cargo.toml").is_file(), "no Cargo.toml in {}: was the repository moved?", root.display());
    Ok(root.to_path_buf())
}

/// The build folder: `target`, or where `CARGO_TARGET_DIR` puts it. This program runs from `<target>/<profile>/dev`.
pub(crate) fn target() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("asking for this program's path")?;
    let target = program.ancestors().nth(2).context("a built program lies two folders below the build folder")?;
    Ok(target.to_path_buf())
}

/// Paths of the repository's files, relative to the root, in order.
pub(crate) fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("running git ls-files")?;
    ensure!(output.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    let listing = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let mut files: Vec<String> = listing.split_terminator('\0').map(str::to_owned).collect();
    files.retain(|path| root.join(path).is_file());
    files.sort();
    files.dedup();
    Ok(files)
}
