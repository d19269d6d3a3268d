//! Rule `machine-paths`: no path that exists on one person's machine only.

use super::Finding;

/// First folders of such paths, without the slash that must follow (so that this file passes its own rule).
const FIRST_FOLDERS: &[&str] = &["/work", "/root", "/home"];

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if let Some(folder) = FIRST_FOLDERS.iter().find(|folder| names_folder(line, folder)) {
            let message = format!("a path under {folder} exists on one machine only");
            findings.push(Finding { path: path.to_owned(), line: index + 1, rule: "machine-paths", message });
        }
    }
    findings
}

/// Whether the line has `folder` followed by a slash, and not as the inner part of a longer path.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(position, _)| {
        let before = line[..position].chars().next_back();
        let inner = before.is_some_and(|character| character.is_alphanumeric() || "_-.}*".contains(character));
        !inner && line[position + folder.len()..].starts_with('/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absolute_path_of_a_machine_fails() {
        for folder in FIRST_FOLDERS {
            assert_eq!(check("docs/A.md", &format!("fine\nsee `{folder}/a/b`\n"))[0].line, 2);
        }
    }

    #[test]
    fn inner_folders_pass() {
        assert_eq!(check("docs/A.md", &format!("https://example.org{}/a\ntarget{}/b\n", "/work", "/home")), []);
        assert_eq!(check("docs/A.md", "at home, /homely\n"), []);
    }
}
