//! `cargo dev plant`: breaks the storage engine in one known way at a time and requires that a named test notices.
//!
//! The faults are a table of small changes to the source ([`table`]), never switches in the product. Nothing in the work
//! tree is touched:
//!
//! 1. The repository's files are copied to `target/plant/tree`, which has a build folder of its own beside it.
//! 2. Every test that the chosen faults name runs on the unchanged copy and must pass, with at least one test in it: only
//!    then does a failure say anything.
//! 3. For each fault: change the file, build the test, which must succeed, run it, which must fail, change the file back.
//!
//! A text that does not occur exactly once is an error, here and in a unit test, so that a fault cannot quietly stop being
//! planted when the engine changes.

mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

use crate::repository;
use table::{FAULTS, Fault};

/// A test that takes longer hangs. Far beyond what any needs.
const LIMIT_SECONDS: &str = "900";
/// What `timeout` answers when it has ended a command.
const TIMED_OUT: i32 = 124;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The faults to plant; without a name they are listed.
    names: Vec<String>,
    /// Plant every fault there is.
    #[arg(long, conflicts_with = "names")]
    all: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.names.is_empty() && !arguments.all {
        for fault in FAULTS {
            println!("{:<36} {}\n{:<36} noticed by: {}", fault.name, fault.what, "", fault.test.join(" "));
        }
        return Ok(());
    }
    let mut chosen = Vec::new();
    for name in &arguments.names {
        chosen.push(FAULTS.iter().find(|fault| fault.name == name).with_context(|| format!("no fault {name}"))?);
    }
    if arguments.all {
        chosen.extend(FAULTS);
    }
    let field = Field::make(&repository::root()?, &repository::target()?.join("plant"))?;
    for test in chosen.iter().map(|fault| fault.test).collect::<BTreeSet<_>>() {
        println!("without a fault: cargo test {}", test.join(" "));
        let outcome = field.test(test)?;
        ensure!(outcome.passed && outcome.test_count > 0, "must pass without a fault:\n{}", outcome.output);
    }
    let mut unnoticed = Vec::new();
    for fault in chosen {
        let test = fault.test.join(" ");
        if let Some(words) = field.plant(fault).with_context(|| fault.name)? {
            println!("{}: noticed by {test}\n    {words}", fault.name);
        } else {
            println!("{}: NOT NOTICED by {test}", fault.name);
            unnoticed.push(fault.name);
        }
    }
    ensure!(unnoticed.is_empty(), "not noticed: {}", unnoticed.join(", "));
    Ok(())
}

impl Fault {
    /// The source with the fault in it.
    fn apply(&self, source: &str) -> anyhow::Result<String> {
        let count = source.matches(self.text).count();
        ensure!(count == 1, "the text to replace occurs {count} times in {}:\n{}", self.file, self.text);
        Ok(source.replacen(self.text, self.replacement, 1))
    }
}

/// A copy of the repository in which faults are planted.
struct Field {
    root: PathBuf,
    tree: PathBuf,
    build: PathBuf,
}

/// How a test ended.
struct Outcome {
    passed: bool,
    test_count: usize,
    output: String,
}

impl Field {
    /// Brings the copy in line with the repository. Only what differs is written, so that cargo builds little.
    fn make(root: &Path, folder: &Path) -> anyhow::Result<Field> {
        let tree = folder.join("tree");
        let wanted = repository::files(root)?;
        for path in files_below(&tree)? {
            if !wanted.contains(&path) {
                fs::remove_file(tree.join(&path)).with_context(|| format!("removing {path}"))?;
            }
        }
        let field = Field { root: root.to_path_buf(), tree, build: folder.join("build") };
        wanted.iter().try_for_each(|path| field.restore(path))?;
        Ok(field)
    }

    /// Brings one file of the copy in line with the repository's.
    fn restore(&self, path: &str) -> anyhow::Result<()> {
        let bytes = fs::read(self.root.join(path)).with_context(|| format!("reading {path}"))?;
        let copy = self.tree.join(path);
        if fs::read(&copy).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        let folder = copy.parent().context("a file lies in a folder")?;
        fs::create_dir_all(folder).and_then(|()| fs::write(&copy, bytes)).with_context(|| format!("copying {path}"))
    }

    /// Plants one fault and runs its test. `None` when that passes, else what it said.
    fn plant(&self, fault: &Fault) -> anyhow::Result<Option<String>> {
        let path = self.tree.join(fault.file);
        let source = fs::read_to_string(&path).with_context(|| format!("reading {}", fault.file))?;
        fs::write(&path, fault.apply(&source)?)?;
        let outcome = self.test(fault.test);
        self.restore(fault.file)?;
        let outcome = outcome?;
        Ok((!outcome.passed).then(|| first_words(&outcome.output)))
    }

    /// Builds a test, which must succeed, and runs it.
    fn test(&self, test: &[&str]) -> anyhow::Result<Outcome> {
        let build = self.cargo(&[&["--no-run"], test].concat())?;
        ensure!(build.status.success(), "does not compile:\n{}", String::from_utf8_lossy(&build.stderr));
        let run = self.cargo(test)?;
        if run.status.code() == Some(TIMED_OUT) {
            bail!("did not end within {LIMIT_SECONDS} s: cargo test {}", test.join(" "));
        }
        let output = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        Ok(Outcome { passed: run.status.success(), test_count: count_tests(&output), output })
    }

    fn cargo(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new("timeout");
        command.arg(LIMIT_SECONDS).arg(cargo).arg("test").args(arguments);
        command.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.build).stdin(Stdio::null());
        // A backtrace is longer than what a test says.
        command.env("RUST_BACKTRACE", "0").output().with_context(|| format!("running {command:?}"))
    }
}

/// Paths of all files below a folder, relative to it; none when there is no such folder.
fn files_below(folder: &Path) -> anyhow::Result<Vec<String>> {
    let (mut files, mut open) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(current) = open.pop() {
        let Ok(entries) = fs::read_dir(&current) else { continue };
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let relative = path.strip_prefix(folder).context("what is found in a folder lies in it")?;
                files.push(relative.to_string_lossy().into_owned());
            }
        }
    }
    Ok(files)
}

/// How many tests passed or failed, all runners together.
fn count_tests(output: &str) -> usize {
    let results = output.lines().filter_map(|line| line.trim().strip_prefix("test result: "));
    let counted = results.flat_map(|result| result.split([';', '.'])).map(str::trim);
    let counts = counted.filter_map(|part| part.strip_suffix(" passed").or_else(|| part.strip_suffix(" failed")));
    counts.filter_map(|count| count.parse::<usize>().ok()).sum()
}

/// What the first panic said.
fn first_words(output: &str) -> String {
    let mut lines = output.lines().skip_while(|line| !line.contains(" panicked at "));
    let (place, words) = (lines.next(), lines.next());
    words.or(place).unwrap_or("it said nothing").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_planted_in_the_present_source() {
        let root = repository::root().unwrap();
        for fault in FAULTS {
            let source = fs::read_to_string(root.join(fault.file)).unwrap();
            let broken = fault.apply(&source).unwrap_or_else(|error| panic!("{}: {error}", fault.name));
            assert_ne!(broken, source, "{}", fault.name);
        }
    }

    #[test]
    fn names_are_used_once_and_tests_exist() {
        let names: BTreeSet<_> = FAULTS.iter().map(|fault| fault.name).collect();
        assert_eq!(names.len(), FAULTS.len());
        let root = repository::root().unwrap();
        for fault in FAULTS {
            let [_, package, _, file, name] = fault.test else { panic!("{}: -p PACKAGE --test FILE NAME", fault.name) };
            let package = package.trim_start_matches("millrace-");
            // A package of tests lies among the tests, another at the top.
            let mut folders = [root.join("tests").join(package), root.join(package)].into_iter();
            let folder = folders.find(|folder| folder.is_dir()).unwrap();
            let source = fs::read_to_string(folder.join("tests").join(format!("{file}.rs"))).unwrap();
            assert!(source.contains(&format!("fn {name}()")), "{}: no test {name} in {file}.rs", fault.name);
        }
    }

    #[test]
    fn a_text_that_is_gone_or_doubled_is_an_error() {
        let fault = Fault { name: "", what: "", file: "a.rs", text: "a();", replacement: "", test: &[] };
        assert_eq!(fault.apply("a(); b();").unwrap(), " b();");
        assert!(fault.apply("b();").unwrap_err().to_string().contains("occurs 0 times"));
        assert!(fault.apply("a(); a();").unwrap_err().to_string().contains("occurs 2 times"));
    }

    #[test]
    fn runners_are_counted_and_quoted() {
        let output = "test result: ok. 2 passed; 0 failed; 1 ignored\nthread 'x' panicked at a.rs:1:1:\nit was lost\n\
                      test result: FAILED. 1 passed; 3 failed; 0 ignored\n";
        assert_eq!(count_tests(output), 6);
        assert_eq!(first_words(output), "it was lost");
    }
}
