//! `cargo dev fuzz`: builds the fuzz targets of tests/fuzz and runs them, each for some seconds.
//!
//! Works with the stable toolchain that builds everything else: the coverage that guides libFuzzer comes from flags of LLVM
//! that need no nightly, and libFuzzer itself is C++ inside a crate. So nothing is downloaded but that crate. What is given
//! up is the address sanitizer, which only a nightly offers: our own code has no `unsafe` where bytes are decoded.
//!
//! Inputs that reached something new are kept in `<target>/fuzz/corpus/<name>` and are where the next run goes on. One that
//! failed is kept in `<target>/fuzz/failed/` and named; the same program with that file as its argument repeats it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::clients;
use crate::repository;

const PACKAGE: &str = "millrace-fuzz";
const TARGETS: &[&str] = &[
    "batch",
    "checkpoint_and_ring",
    "compaction",
    "config",
    "group_record",
    "index",
    "metadata_entry",
    "request",
    "segment",
];

/// What `rustc` is told besides: count which edges of the control flow an input reaches, and which comparisons it meets.
const COVERAGE: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // The pass takes the counters of a module that the linker dropped for lost ones.
    "-Clink-dead-code",
];

/// An input that needs more memory than this is a failure.
const MEMORY_MIB_MAX: u32 = 1024;
/// An input that takes longer than this is a failure.
const INPUT_SECONDS_MAX: u32 = 10;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long each target runs.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// The target; all of them unless one is named.
    target: Option<String>,
}

impl Arguments {
    /// All targets, each for so long.
    pub(crate) fn every_target(seconds: u32) -> Arguments {
        Arguments { seconds, target: None }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let wanted = |name: &&&str| arguments.target.as_ref().is_none_or(|target| target == **name);
    let names: Vec<&str> = TARGETS.iter().filter(wanted).copied().collect();
    if names.is_empty() {
        bail!("no such target; there are {}", TARGETS.join(", "));
    }
    clients::install_compiler()?;
    let fuzzer = Fuzzer::new()?;
    fuzzer.build(&names)?;
    // All of them, even if one fails: each finds its own.
    let failed: Vec<&str> = names.into_iter().filter(|name| !fuzzer.finds_nothing(name, arguments.seconds)).collect();
    ensure!(failed.is_empty(), "the fuzzer found something in {}", failed.join(", "));
    Ok(())
}

/// Where things are.
struct Fuzzer {
    root: PathBuf,
    folder: PathBuf,
    /// The machine's own triple. Naming it keeps [`COVERAGE`] away from build scripts and macros.
    triple: String,
}

impl Fuzzer {
    fn new() -> anyhow::Result<Fuzzer> {
        let version = output(Command::new("rustc").arg("-vV"))?;
        let triple = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
        let folder = repository::target()?.join("fuzz");
        Ok(Fuzzer { root: repository::root()?, folder, triple: triple.to_owned() })
    }

    fn build(&self, names: &[&str]) -> anyhow::Result<()> {
        let mut command = cargo();
        command.args(["build", "--package", PACKAGE, "--features", "fuzzer", "--profile", "fuzz"]);
        command.args(names.iter().flat_map(|name| ["--bin", name]));
        command.args(["--target", &self.triple]).arg("--target-dir").arg(self.folder.join("build"));
        command.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f")).env_remove("RUSTFLAGS");
        run_to_end(command.current_dir(&self.root))
    }

    /// Runs one target; says what went wrong.
    fn finds_nothing(&self, name: &str, seconds: u32) -> bool {
        println!("== fuzz {name}, {seconds} s");
        let outcome = self.run_target(name, seconds);
        if let Err(error) = &outcome {
            eprintln!("fuzz {name}: {error:#}");
        }
        outcome.is_ok()
    }

    fn run_target(&self, name: &str, seconds: u32) -> anyhow::Result<()> {
        let (corpus, seeds) = (self.folder.join("corpus").join(name), self.folder.join("seeds").join(name));
        let failed = self.folder.join("failed");
        for folder in [&corpus, &seeds, &failed] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let mut command = cargo();
        command.args(["run", "--quiet", "--package", PACKAGE, "--bin", "seeds", "--", name]).arg(&seeds);
        run_to_end(command.current_dir(&self.root))?;

        let mut command = Command::new(self.program(name));
        command.arg(format!("-max_total_time={seconds}")).arg(format!("-rss_limit_mb={MEMORY_MIB_MAX}"));
        command.arg(format!("-timeout={INPUT_SECONDS_MAX}")).arg("-print_final_stats=1").arg("-verbosity=0");
        command.arg(format!("-artifact_prefix={}", failed.join(format!("{name}-")).display()));
        command.arg(&corpus).arg(&seeds);
        // libFuzzer says a great deal; who is not told of a failure wants to know two numbers.
        let output = command.output().with_context(|| format!("starting {}", self.program(name).display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{said}\n{}", output.status);
        }
        let is_summary = |line: &&str| line.contains("number_of_executed_units") || line.contains("peak_rss_mb");
        said.lines().filter(is_summary).for_each(|line| println!("{}", line.trim_start_matches("stat::")));
        Ok(())
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder.join("build").join(&self.triple).join("fuzz").join(name)
    }
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run_to_end(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let status = command.status().with_context(|| format!("starting {program}"))?;
    ensure!(status.success(), "{program}: {status}");
    Ok(())
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().context("starting rustc")?;
    ensure!(output.status.success(), "rustc: {}", output.status);
    String::from_utf8(output.stdout).context("rustc's answer is not UTF-8")
}
