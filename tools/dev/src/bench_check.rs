//! `cargo dev bench-check`: the microbenchmarks of two commits, compared by the instructions they execute.
//!
//! Times on a machine that others use say little; the number of instructions of the same work repeats to the last one.
//! What it leaves out: caches, branches, and whatever waits.
//!
//! For each commit, in `target/bench-check`:
//!
//! 1. Check it out into `tree`, a git worktree; both commits have the same one, one after the other, so that paths, which
//!    are in the programs, do not differ, and cargo builds only what has changed.
//! 2. Build the bench programs of [`PACKAGES`] ([`counting`] knows how to ask them what they can count).
//! 3. Run each benchmark once under callgrind, which counts inside of one function only.
//!
//! Then [`table`] puts both beside each other. More instructions than the bound allows are an error; so is nothing to
//! compare. A commit that has no such benchmarks yet counts as one without any.

mod counting;
mod table;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::clients;
use crate::repository;
use counting::{Count, Program};

/// Whose benches are counted.
const PACKAGES: &[&str] = &["millrace-engine", "millrace-bench"];
/// What declares the benchmarks. A commit without it has none that can be counted.
const HARNESS: &str = "bench/micro/Cargo.toml";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The commit to compare with.
    #[arg(default_value = "HEAD~1")]
    base: String,
    /// The commit that is compared; with what is not committed it is `$(git stash create)`.
    #[arg(default_value = "HEAD")]
    head: String,
    /// By how much a benchmark may grow, in percent.
    #[arg(long, default_value_t = 3.0)]
    bound: f64,
    /// Only benchmarks whose name contains this.
    #[arg(long, default_value = "", hide_default_value = true)]
    only: String,
    /// Build and ask only the bench program of this name, such as `codec`.
    #[arg(long, default_value = "*", hide_default_value = true)]
    program: String,
    /// Count the second commit alone and print its figures as the table of docs/TESTING.md.
    #[arg(long)]
    baseline: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    clients::install_valgrind()?;
    let target = repository::target()?;
    let field = Field { root: repository::root()?, folder: target.join("bench-check"), target };
    if arguments.baseline {
        let counts = field.count("head", &arguments.head, arguments)?;
        ensure!(!counts.is_empty(), "nothing to count");
        print!("{}", table::baseline(&counts));
        return Ok(());
    }
    let base = field.count("base", &arguments.base, arguments)?;
    let head = field.count("head", &arguments.head, arguments)?;
    ensure!(!head.is_empty(), "{} has nothing to count", arguments.head);
    let rows = table::compare(&base, &head);
    print!("\n{}", table::comparison(&rows, arguments.bound));
    println!("\nprofiles: {}, read them with callgrind_annotate", field.folder.join("{base,head}").display());
    let grown = rows.iter().filter(|row| row.has_grown(arguments.bound)).count();
    ensure!(grown == 0, "{grown} of {} benchmarks grew by more than {} %", rows.len(), arguments.bound);
    Ok(())
}

/// Where commits are built and counted.
struct Field {
    root: PathBuf,
    folder: PathBuf,
    target: PathBuf,
}

impl Field {
    /// Counts the chosen benchmarks of `commit`; profiles go to the folder `side`.
    fn count(&self, side: &str, commit: &str, arguments: &Arguments) -> anyhow::Result<Vec<Count>> {
        let id = self.output(&["rev-parse", "--verify", "--quiet", &format!("{commit}^{{commit}}")]);
        let id = id.with_context(|| format!("no commit is called {commit}"))?;
        println!("{side}: {}", self.output(&["log", "-1", "--format=%h %s", &id])?);
        self.check_out(&id)?;
        let tree = self.folder.join("tree");
        if !tree.join(HARNESS).is_file() {
            println!("{side}: no benchmarks that can be counted");
            return Ok(Vec::new());
        }
        let profiles = self.folder.join(side);
        if profiles.exists() {
            fs::remove_dir_all(&profiles).with_context(|| format!("removing {}", profiles.display()))?;
        }
        fs::create_dir_all(&profiles).with_context(|| format!("making {}", profiles.display()))?;
        let mut counts = Vec::new();
        for program in Program::build(&tree, &self.target, PACKAGES, &arguments.program)? {
            for benchmark in program.benchmarks()? {
                if benchmark.name.contains(&arguments.only) {
                    let count = program.count(benchmark, &profiles)?;
                    println!("{side}: {:<48} {:>14}", count.benchmark.name, table::grouped(count.instructions));
                    counts.push(count);
                }
            }
        }
        Ok(counts)
    }

    /// Brings the tree to a commit. Files that do not differ keep their times, so cargo does not build them again.
    fn check_out(&self, id: &str) -> anyhow::Result<()> {
        let tree = self.folder.join("tree");
        let path = tree.to_str().context("the build folder's path is not UTF-8")?;
        if tree.join(".git").is_file() {
            self.git(&["-C", path, "checkout", "--quiet", "--force", "--detach", id])
        } else {
            // One that was removed with the build folder is still on git's list.
            self.git(&["worktree", "prune"])?;
            self.git(&["worktree", "add", "--quiet", "--force", "--detach", path, id])
        }
    }

    fn git(&self, arguments: &[&str]) -> anyhow::Result<()> {
        self.output(arguments).map(drop)
    }

    fn output(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new("git").args(arguments).current_dir(&self.root).output().context("running git")?;
        if !output.status.success() {
            bail!("git {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout).context("git says something that is not UTF-8")?.trim().to_owned())
    }
}
