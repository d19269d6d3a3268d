//! Text scenarios, for the tests of pure state machines.
//!
//! A scenario is a file: a command, a line of dashes, what it leads to, an empty line. Lines that start with `#` before a
//! command are comments; a block of nothing else is one, too. `UPDATE=1` rewrites what is expected.

use std::path::Path;

/// Runs every scenario in `testdata/<folder>`, each with a subject of its own. `run` takes a command and gives what it
/// prints.
#[track_caller]
pub(crate) fn run_all<S>(folder: &str, subject: impl Fn() -> S, run: impl Fn(&mut S, &str) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let expected = std::fs::read_to_string(&path).unwrap();
        let mut subject = subject();
        let actual = run_one(&expected, |command| run(&mut subject, command));
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &actual).unwrap();
        } else {
            assert!(actual == expected, "{}: now prints\n{actual}", path.display());
        }
    }
}

/// The scenario with what its commands print now.
fn run_one(text: &str, mut run: impl FnMut(&str) -> String) -> String {
    let mut blocks = Vec::new();
    for block in text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()) {
        let mut lines: Vec<&str> = block.lines().take_while(|line| *line != "----").collect();
        let (command, comments) = lines.split_last().expect("a block has a line");
        assert!(comments.iter().all(|line| line.starts_with('#')), "one command a block: {block}");
        let printed;
        if !command.starts_with('#') {
            printed = run(command);
            lines.push("----");
            lines.extend(printed.trim_end().lines());
        }
        blocks.push(lines.join("\n"));
    }
    blocks.join("\n\n") + "\n"
}
