//! Rule `unfinished`: what is left to do has an issue, and nothing half-done or left over from debugging is merged.

use super::Finding;
use super::source::{Source, words};

/// Macros that only fit unfinished code.
const MACROS: &[&str] = &["dbg", "todo", "unimplemented"];
/// Marks of unfinished work in comments; only the first may stay, with an issue.
const TASK: &str = concat!("TO", "DO");
const FAULT: &str = concat!("FIX", "ME");

pub(super) fn check(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in source.numbered() {
        let mut finding =
            |message| findings.push(Finding { path: source.path.clone(), line, rule: "unfinished", message });
        for name in MACROS {
            if text.code.match_indices(&format!("{name}!")).any(|(position, _)| starts_word(&text.code, position)) {
                finding(format!("`{name}!` must not be merged"));
            }
        }
        if words(&text.comment).any(|word| word == FAULT) {
            finding(format!("a {FAULT} must not be merged; mend it, or open an issue and write `{TASK}(#issue)`"));
        }
        let bare = text.comment.match_indices(TASK).any(|(position, _)| {
            starts_word(&text.comment, position) && !names_issue(&text.comment[position + TASK.len()..])
        });
        if bare {
            finding(format!("a {TASK} names its issue: `{TASK}(#issue)`"));
        }
    }
    findings
}

fn starts_word(text: &str, position: usize) -> bool {
    !text[..position].ends_with(|character: char| character.is_alphanumeric() || character == '_')
}

/// Whether what follows the mark is `(#12)`.
fn names_issue(rest: &str) -> bool {
    let Some((number, _)) = rest.strip_prefix("(#").and_then(|inner| inner.split_once(')')) else { return false };
    !number.is_empty() && number.chars().all(|character| character.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        check(&Source::parse("engine/src/log.rs", text)).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn marks_without_an_issue_and_debug_macros_fail() {
        assert_eq!(lines(&format!("//! A.\n// {TASK}: later\n// {FAULT} now\n")), [2, 3]);
        assert_eq!(lines(&format!("// {TASK}(#): later\n// {TASK}(me)\n")), [1, 2]);
        assert_eq!(lines("fn f() {\n    dbg!(1);\n    todo!()\n}\nfn g() { unimplemented!() }\n"), [2, 3, 5]);
    }

    #[test]
    fn an_issue_a_string_and_longer_words_pass() {
        assert_eq!(lines(&format!("// {TASK}(#12): later\nlet a = \"{FAULT} todo!\";\nmy_todo!();\n")), [0; 0]);
    }
}
