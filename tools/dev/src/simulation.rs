//! `cargo dev sim` and `cargo dev replay-seed`: the storage engine's simulation over many seeds, and one seed again.
//!
//! Owns how the tests of tests/sim are started; what a seed means is theirs. A replay runs every scenario of its seed twice
//! and compares the fingerprints of all choices.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::repository;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seeds to run.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    start: u64,
}

#[derive(clap::Args)]
pub(crate) struct ReplayArguments {
    /// The seed that a failure named.
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (seeds, start) = (arguments.seeds.to_string(), arguments.start.to_string());
    test(&[("MILLRACE_SEEDS", &seeds), ("MILLRACE_SEED_START", &start)], &[])
}

pub(crate) fn replay(arguments: &ReplayArguments) -> anyhow::Result<()> {
    test(&[("MILLRACE_SEED", &arguments.seed.to_string())], &["--nocapture", "--test-threads=1"])
}

fn test(environment: &[(&str, &str)], arguments: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["test", "--package", "millrace-sim", "--test", "storage", "--"]).args(arguments);
    for variable in ["MILLRACE_SEED", "MILLRACE_SEEDS", "MILLRACE_SEED_START"] {
        command.env_remove(variable);
    }
    command.envs(environment.iter().copied()).current_dir(repository::root()?);
    let status = command.status().context("starting the simulation")?;
    ensure!(status.success(), "the simulation failed: {status}");
    Ok(())
}
