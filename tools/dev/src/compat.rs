//! `cargo dev compat`: the foreign clients against the release binary, and their matrix in docs/COMPATIBILITY.md.
//!
//! Installs the clients and builds the broker first; `MILLRACE_BIN` names another binary. The tests are those that
//! `cargo dev test` runs too: there they fail where the page says something else, here they rewrite it.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::clients;
use crate::repository;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose names contain this, for example one client's.
    filter: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = repository::root()?;
    clients::install(&root, &repository::target()?)?;
    if std::env::var_os("MILLRACE_BIN").is_none() {
        cargo(&["build", "--release", "--package", "millrace-server"])?;
    }
    cargo(&["build", "--package", "millrace-bench"])?;
    let mut test = vec!["test", "--package", "millrace-compat"];
    if let Some(filter) = &arguments.filter {
        test.extend(["--", filter]);
    }
    cargo(&test)
}

/// Runs the cargo that built this program.
fn cargo(arguments: &[&str]) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).env("UPDATE", "1").current_dir(repository::root()?);
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
