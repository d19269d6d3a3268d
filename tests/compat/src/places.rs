//! Where the broker's binary and the foreign clients are.

use std::path::PathBuf;

use tempfile::TempDir;

/// The broker under test: `MILLRACE_BIN` if set, else the release binary of this build folder.
pub fn broker() -> PathBuf {
    let binary =
        std::env::var_os("MILLRACE_BIN").map_or_else(|| build_folder().join("release/millrace"), PathBuf::from);
    assert!(binary.is_file(), "no broker at {}; `cargo dev test` builds it", binary.display());
    binary
}

/// The load generator, as `cargo dev test` builds it.
pub fn millbench() -> PathBuf {
    let binary = build_folder().join("debug/millbench");
    assert!(binary.is_file(), "no millbench at {}; `cargo dev test` builds it", binary.display());
    binary
}

/// A file or folder among the installed clients.
pub fn client(path: &str) -> PathBuf {
    let place = build_folder().join("compat").join(path);
    assert!(place.exists(), "{} is missing; `cargo dev test` installs it", place.display());
    place
}

/// A file that describes or drives a client.
pub fn client_source(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// An empty folder that goes with its handle. In the build folder, not in `/tmp`: that may be memory, and what a broker
/// writes should meet a device.
pub fn fresh_folder() -> TempDir {
    let parent = build_folder().join("compat/data");
    std::fs::create_dir_all(&parent).expect("the build folder is writable");
    tempfile::tempdir_in(parent).expect("a fresh folder takes another")
}

/// The build folder. A test runs from `<target>/<profile>/deps/<test>`.
pub fn build_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    test.ancestors().nth(3).expect("a test lies three folders below the build folder").to_path_buf()
}
