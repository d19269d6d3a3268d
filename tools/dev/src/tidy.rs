//! `cargo dev tidy`: the style rules that a machine can hold.
//!
//! Each rule is a module with one `check`, its table of exceptions and its tests. A rule looks at one file, except those
//! on names and folders, which need only the path. Rules read text, not syntax trees: [`source`] takes strings and
//! comments out of the way and marks what only tests compile, and that is enough for all of them.
//!
//! Findings are printed as `path:line: rule: message`.

mod arrows;
mod budget;
mod folders;
mod header;
mod machine_paths;
mod names;
mod rooms;
mod source;
mod unfinished;

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::repository;
use source::Source;

#[derive(clap::Args)]
pub(crate) struct Arguments {}

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    rule: &'static str,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}: {}", self.path, self.line, self.rule, self.message)
    }
}

pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    let root = repository::root()?;
    let files = repository::files(&root)?;
    let mut findings = Vec::new();
    for path in &files {
        let bytes = fs::read(root.join(path)).with_context(|| format!("reading {path}"))?;
        // Golden files and fuzz corpora are bytes; the rules are about text.
        let Ok(text) = String::from_utf8(bytes) else { continue };
        findings.extend(check(path, &text));
    }
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} findings in {} files", findings.len(), files.len());
    }
    println!("tidy: {} files, nothing to say", files.len());
    Ok(())
}

/// Every finding in one file, by line.
fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings: Vec<Finding> = folders::check(path).into_iter().collect();
    findings.extend(names::check(path));
    findings.extend(machine_paths::check(path, text));
    findings.extend(rooms::check_manifest(path, text));
    if Path::new(path).extension().is_some_and(|extension| extension == "rs") {
        let source = Source::parse(path, text);
        findings.extend(header::check(&source));
        findings.extend(budget::check(&source));
        findings.extend(rooms::check(&source));
        findings.extend(unfinished::check(&source));
        findings.extend(arrows::check(&source));
    }
    findings.sort_by_key(|finding| finding.line);
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        let findings = check("engine/src/log.rs", "fn main() {}\n");
        let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["engine/src/log.rs:1: header: a file starts with `//!`: what it owns, what it must never do"]
        );
    }

    #[test]
    fn a_file_may_break_several_rules() {
        let text = "//! Header.\nuse glommio::Task;\nfn f() { todo!() }\n";
        let rules: Vec<&str> = check("server/src/util.rs", text).iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, ["names", "rooms", "unfinished"]);
    }
}
