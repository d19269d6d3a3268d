//! `cargo dev crash`: kill -9 under load, or power failures, as often as one likes.
//!
//! Owns how the tests of tests/crash are started; what they do is theirs. Without `--power` a real client and the release
//! binary are needed, which are installed and built first; `MILLRACE_BIN` names another binary.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::clients;
use crate::repository;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Kills; with --power, loads that are recorded. 100 unless told otherwise, with --power 20.
    #[arg(long)]
    times: Option<u64>,
    /// Fail the power of a recorded disk instead of killing the broker.
    #[arg(long)]
    power: bool,
    /// Where the choices come from; with --power, the first of so many seeds.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (times, seed) = (arguments.times, arguments.seed.to_string());
    if arguments.power {
        let times = times.unwrap_or(20).to_string();
        return test("power", &[("MILLRACE_SEEDS", &times), ("MILLRACE_SEED_START", &seed)]);
    }
    let root = repository::root()?;
    clients::install(&root, &repository::target()?)?;
    if std::env::var_os("MILLRACE_BIN").is_none() {
        run_to_end(cargo().args(["build", "--release", "--package", "millrace-server"]))?;
    }
    let times = times.unwrap_or(100).to_string();
    test("kill", &[("MILLRACE_CRASH_TIMES", &times), ("MILLRACE_SEED", &seed)])
}

fn test(name: &str, environment: &[(&str, &str)]) -> anyhow::Result<()> {
    let mut command = cargo();
    command.args(["test", "--package", "millrace-crash", "--test", name, "--", "--nocapture"]);
    for variable in ["MILLRACE_SEED", "MILLRACE_SEEDS", "MILLRACE_SEED_START", "MILLRACE_CRASH_TIMES"] {
        command.env_remove(variable);
    }
    run_to_end(command.envs(environment.iter().copied()))
}

/// The cargo that built this program.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn run_to_end(command: &mut Command) -> anyhow::Result<()> {
    let status = command.current_dir(repository::root()?).status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
