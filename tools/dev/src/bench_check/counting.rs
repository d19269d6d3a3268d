//! Bench programs: building them, asking what they can count, and counting it under callgrind.
//!
//! A program lists its benchmarks with `--list-counted` and runs one with `--count NAME`; see bench/micro. Every benchmark
//! has a process of its own, so that what one leaves in memory does not change another. The environment is empty and the
//! path always the same: both lie on the stack, whose alignment a few instructions depend on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};

/// The function of bench/micro inside of which is counted, as a pattern over names with and without their crate.
const REGION: &str = "--toggle-collect=*counted_region*";

/// One built bench program.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    executable: PathBuf,
}

/// One benchmark as its program lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Benchmark {
    pub(super) name: String,
    /// How many units of work a run does. Invariant: above 0.
    pub(super) units: u64,
    /// One unit of it.
    pub(super) unit: String,
}

/// What a run of it costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) benchmark: Benchmark,
    /// Instructions. Invariant: above 0.
    pub(super) instructions: u64,
}

impl Program {
    /// Builds the bench programs of `packages` whose name fits `pattern`, in the workspace at `tree`.
    pub(super) fn build(tree: &Path, target: &Path, packages: &[&str], pattern: &str) -> anyhow::Result<Vec<Program>> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(["bench", "--no-run", "--locked", "--bench", pattern, "--message-format=json-render-diagnostics"]);
        for package in packages {
            command.args(["--package", package]);
        }
        // The repository's own build folder: what is not of the workspace is built once for all.
        command.env("CARGO_TARGET_DIR", target);
        let output = command.current_dir(tree).stderr(Stdio::inherit()).output().context("running cargo bench")?;
        ensure!(output.status.success(), "building the benches: {}", output.status);
        let messages = String::from_utf8(output.stdout).context("cargo says something that is not UTF-8")?;
        let mut programs: Vec<_> = messages.lines().filter_map(parse_artifact).collect();
        programs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(programs)
    }

    /// What the program can count, in its own order.
    pub(super) fn benchmarks(&self) -> anyhow::Result<Vec<Benchmark>> {
        let output = Command::new(&self.executable).arg("--list-counted").stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("running {}", self.executable.display()))?;
        ensure!(output.status.success(), "{} --list-counted: {}", self.name, output.status);
        let listing = String::from_utf8(output.stdout).context("a benchmark's name is not UTF-8")?;
        let parse = |line| parse_listed(line).with_context(|| format!("{} lists {line:?}", self.name));
        listing.lines().map(parse).collect()
    }

    /// Runs one benchmark under callgrind. The profile goes to `profiles`, named after the benchmark.
    pub(super) fn count(&self, benchmark: Benchmark, profiles: &Path) -> anyhow::Result<Count> {
        let profile = profiles.join(format!("{}.callgrind", file_name(&benchmark.name)));
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--quiet", REGION]);
        command.arg(format!("--callgrind-out-file={}", profile.display()));
        command.arg(&self.executable).args(["--count", &benchmark.name]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        command.env_clear().env("PATH", path).stdin(Stdio::null()).stdout(Stdio::null());
        let output = command.output().context("running valgrind")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("counting {} of {}: {}\n{errors}", benchmark.name, self.name, output.status);
        }
        let text = fs::read_to_string(&profile).with_context(|| format!("reading {}", profile.display()))?;
        let instructions = parse_totals(&text).with_context(|| format!("no count in {}", profile.display()))?;
        // What is renamed or inlined away would be counted as free.
        ensure!(instructions > 0, "{}: callgrind did not find the function to count in", benchmark.name);
        Ok(Count { benchmark, instructions })
    }
}

/// A bench program among cargo's messages, one JSON object for each.
fn parse_artifact(message: &str) -> Option<Program> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let target = message.get("target")?;
    let is_bench = target.get("kind")?.as_array()?.iter().any(|kind| kind == "bench");
    let (name, executable) = (target.get("name")?.as_str()?, message.get("executable")?.as_str()?);
    is_bench.then(|| Program { name: name.to_owned(), executable: executable.into() })
}

fn parse_listed(line: &str) -> Option<Benchmark> {
    let mut fields = line.split('\t');
    let (name, units, unit) = (fields.next()?, fields.next()?.parse().ok()?, fields.next()?);
    (units > 0 && fields.next().is_none()).then(|| Benchmark { name: name.to_owned(), units, unit: unit.to_owned() })
}

/// The instructions of a whole profile.
fn parse_totals(profile: &str) -> Option<u64> {
    profile.lines().find_map(|line| line.strip_prefix("totals:")).and_then(|count| count.trim().parse().ok())
}

fn file_name(benchmark: &str) -> String {
    benchmark.chars().map(|character| if character.is_alphanumeric() { character } else { '-' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bench_programs_are_found_among_cargos_messages() {
        let artifact = |kind, executable| {
            format!(
                r#"{{"reason":"compiler-artifact","target":{{"kind":["{kind}"],"name":"codec"}},"executable":{executable}}}"#
            )
        };
        let program = parse_artifact(&artifact("bench", r#""target/release/deps/codec-1""#)).unwrap();
        assert_eq!(
            (program.name.as_str(), program.executable.to_str()),
            ("codec", Some("target/release/deps/codec-1"))
        );
        assert!(parse_artifact(&artifact("bin", r#""target/release/millbench""#)).is_none());
        assert!(parse_artifact(&artifact("bench", "null")).is_none());
        assert!(parse_artifact(r#"{"reason":"build-finished","success":true}"#).is_none());
        assert!(parse_artifact("").is_none());
    }

    #[test]
    fn a_listed_benchmark_has_a_name_and_units() {
        let listed = parse_listed("crc/1 KiB\t1024\tbyte").unwrap();
        assert_eq!((listed.name.as_str(), listed.units, listed.unit.as_str()), ("crc/1 KiB", 1024, "byte"));
        for line in ["", "crc", "crc\t1024", "crc\tmany\tbyte", "crc\t0\tbyte", "crc\t1\tbyte\tmore"] {
            assert!(parse_listed(line).is_none(), "{line:?}");
        }
    }

    #[test]
    fn the_count_is_that_of_the_whole_profile() {
        assert_eq!(parse_totals("version: 1\nevents: Ir\nfn=(1) main\n3 40\n\ntotals: 1234\n"), Some(1234));
        assert_eq!(parse_totals("events: Ir\n"), None);
    }
}
