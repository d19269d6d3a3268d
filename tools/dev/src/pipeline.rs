//! Runs steps one after the other and closes with what the test runners said last.
//!
//! Every step is a command whose output is shown as it comes. The first step that fails ends the run. The closing lines
//! are repeated at the end in either case, so that the last screen of a log tells how it went.

use std::io::{self, BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

pub(crate) struct Pipeline {
    root: PathBuf,
    /// `test result: ...` lines, each after the name of what was tested.
    closing_lines: Vec<String>,
}

impl Pipeline {
    pub(crate) fn new(root: PathBuf) -> Pipeline {
        Pipeline { root, closing_lines: Vec::new() }
    }

    /// Runs cargo, the one that built this program.
    pub(crate) fn cargo(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        self.step(&format!("cargo {}", arguments.join(" ")), Command::new(cargo).args(arguments))
    }

    /// Runs `rustdoc` over the workspace; a broken link is an error.
    pub(crate) fn doc(&mut self) -> anyhow::Result<()> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = ["doc", "--workspace", "--no-deps", "--document-private-items"];
        let mut command = Command::new(cargo);
        self.step("cargo doc", command.args(arguments).env("RUSTDOCFLAGS", "-D warnings"))
    }

    /// Runs another subcommand of this program.
    pub(crate) fn dev(&mut self, arguments: &[&str]) -> anyhow::Result<()> {
        let program = std::env::current_exe().context("asking for this program's path")?;
        self.step(&format!("cargo dev {}", arguments.join(" ")), Command::new(program).args(arguments))
    }

    /// Repeats the runners' last lines.
    pub(crate) fn print_closing_lines(&self) {
        println!("\n== closing lines");
        self.closing_lines.iter().for_each(|line| println!("{line}"));
    }

    fn step(&mut self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        println!("\n== {name}");
        // One pipe for both outputs: cargo names a test on one and the test reports on the other, and order matters.
        let (reader, writer) = io::pipe().context("making a pipe")?;
        command.current_dir(&self.root).stdin(Stdio::null());
        command.stdout(writer.try_clone().context("cloning a pipe")?).stderr(writer);
        let mut child = command.spawn().with_context(|| format!("starting {name}"))?;
        // The command holds this process's copies of the writing end; the reader would wait for them for ever.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut closing = ClosingLines::default();
        for line in BufReader::new(reader).split(b'\n') {
            let line = line.with_context(|| format!("reading what {name} says"))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.closing_lines.extend(closing.line(&line));
        }
        let status = child.wait().with_context(|| format!("waiting for {name}"))?;
        if !status.success() {
            self.print_closing_lines();
            bail!("{name}: {status}");
        }
        Ok(())
    }
}

/// Finds the closing lines in a runner's output.
#[derive(Default)]
struct ClosingLines {
    /// What cargo last said it runs.
    subject: String,
}

impl ClosingLines {
    fn line(&mut self, line: &str) -> Option<String> {
        let text = line.trim();
        if let Some(documented) = text.strip_prefix("Doc-tests ") {
            self.subject = format!("{documented} docs");
        } else if let Some(subject) = text.strip_prefix("Running ") {
            // `Running tests/kcat.rs (target/debug/deps/kcat-4f2a)`: the program's name tells crates apart.
            let program = subject.rsplit('/').next().unwrap_or(subject).trim_end_matches(')');
            let (program, _hash) = program.rsplit_once('-').unwrap_or((program, ""));
            program.clone_into(&mut self.subject);
        }
        text.starts_with("test result: ").then(|| format!("{:<24} {text}", self.subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closing_line_follows_the_name_of_what_was_tested() {
        let mut closing = ClosingLines::default();
        assert_eq!(closing.line("     Running tests/kcat.rs (target/debug/deps/kcat-4f2a)"), None);
        assert_eq!(closing.line("test acks ... ok"), None);
        let line = closing.line("test result: ok. 1 passed; 0 failed");
        assert_eq!(line.as_deref(), Some("kcat                     test result: ok. 1 passed; 0 failed"));
        assert_eq!(closing.line("   Doc-tests millrace_engine"), None);
        assert!(
            closing.line("test result: ok. 0 passed").is_some_and(|line| line.starts_with("millrace_engine docs "))
        );
    }

    #[test]
    fn a_failing_step_fails_the_run() {
        let mut pipeline = Pipeline::new(std::env::temp_dir());
        pipeline.step("true", Command::new("sh").args(["-c", "echo 'test result: ok.'; echo x >&2"])).unwrap();
        assert_eq!(pipeline.closing_lines.len(), 1);
        let error = pipeline.step("false", Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
    }
}
