//! Rule `folders`: the top level is fixed. A new folder there is a decision, written down, and then a row here.

use super::Finding;

const FOLDERS: &[(&str, &str)] = &[
    (".cargo", "the `cargo dev` alias"),
    (".ci", "what a build machine runs"),
    ("bench", "load, latency, comparison"),
    ("docs", "what the code cannot say"),
    ("engine", "storage and the runtime under it"),
    ("server", "the broker and its protocol"),
    ("tests", "simulation, clusters, foreign clients, crashes, fuzzing"),
    ("tools", "millctl and `cargo dev`"),
];

pub(super) fn check(path: &str) -> Option<Finding> {
    let (folder, _) = path.split_once('/')?;
    if FOLDERS.iter().any(|(known, _)| *known == folder) {
        return None;
    }
    let message = format!("`{folder}` is not a top-level folder; the list is in tools/dev/src/tidy/folders.rs");
    Some(Finding { path: path.to_owned(), line: 1, rule: "folders", message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_top_level_folder_fails() {
        assert!(check("scripts/run.sh").is_some());
        assert_eq!(check("engine/src/lib.rs"), None);
        assert_eq!(check("README.md"), None);
    }
}
