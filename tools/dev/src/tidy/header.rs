//! Rule `header`: a Rust file opens by saying what it owns and what it must never do.

use super::Finding;
use super::source::Source;

/// Test files up to this many lines may start at once: their test's name says it.
const SMALL_TEST_LINES_MAX: usize = 60;

pub(super) fn check(source: &Source) -> Option<Finding> {
    let build_script = source.path.ends_with("build.rs");
    let small_test = source.lines.iter().all(|line| line.test) && source.lines.len() <= SMALL_TEST_LINES_MAX;
    // A root file may have attributes or a licence line first, never code.
    if build_script || small_test || source.is_generated() || source.header().any(|text| !text.is_empty()) {
        return None;
    }
    let message = "a file starts with `//!`: what it owns, what it must never do".to_owned();
    Some(Finding { path: source.path.clone(), line: 1, rule: "header", message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails(path: &str, text: &str) -> bool {
        check(&Source::parse(path, text)).is_some()
    }

    #[test]
    fn a_file_without_a_header_fails() {
        assert!(fails("engine/src/log.rs", "use std::fmt;\n"));
        assert!(fails("engine/src/log.rs", "//!\nuse std::fmt;\n"));
        assert!(fails("engine/src/log.rs", "// Not a header.\nuse std::fmt;\n"));
        assert!(fails("tests/crash/src/lib.rs", &"fn f() {}\n".repeat(SMALL_TEST_LINES_MAX + 1)));
    }

    #[test]
    fn a_header_a_build_script_and_a_small_test_pass() {
        assert!(!fails("engine/src/log.rs", "//! One partition's segments.\nuse std::fmt;\n"));
        assert!(!fails("engine/build.rs", "fn main() {}\n"));
        assert!(!fails("engine/tests/open.rs", "fn f() {}\n"));
    }
}
