//! Rule `names`: no `mod.rs`, and no module or folder whose name says nothing.

use super::Finding;

/// A name that fits anything gathers everything.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "types", "misc"];

pub(super) fn check(path: &str) -> Option<Finding> {
    let finding = |message| Some(Finding { path: path.to_owned(), line: 1, rule: "names", message });
    if path.ends_with("/mod.rs") {
        return finding("a module `foo` lives in `foo.rs` with its rooms in `foo/`, never in `mod.rs`".to_owned());
    }
    let bare = path.strip_suffix(".rs").unwrap_or(path);
    let name = bare.split('/').find(|name| EMPTY_NAMES.contains(name))?;
    finding(format!("`{name}` says nothing about what is inside; name it after what it owns"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_say_nothing_fail() {
        for path in ["engine/src/log/mod.rs", "engine/src/util.rs", "server/src/common/a.rs", "tests/helpers/a.txt"] {
            assert!(check(path).is_some(), "{path}");
        }
    }

    #[test]
    fn names_that_say_something_pass() {
        for path in ["engine/src/log.rs", "engine/src/utilisation.rs", "server/src/commons.rs"] {
            assert_eq!(check(path), None);
        }
    }
}
