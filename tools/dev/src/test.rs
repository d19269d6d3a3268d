//! `cargo dev test`: every check and every test, in an order that lets the cheap ones fail first.
//!
//! Needs a Rust toolchain and nothing else: what the foreign clients need is installed by [`clients`], after naming it.

use crate::clients;
use crate::pipeline::Pipeline;
use crate::repository;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out what is slow or foreign: the release build, the foreign clients, the documentation.
    #[arg(long)]
    quick: bool,
}

impl Arguments {
    /// Nothing left out.
    pub(crate) fn everything() -> Arguments {
        Arguments { quick: false }
    }
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let root = repository::root()?;
    let mut pipeline = Pipeline::new(root.clone());
    pipeline.cargo(&["fmt", "--all", "--check"])?;
    pipeline.dev(&["tidy"])?;
    pipeline.dev(&["codegen", "--check"])?;
    if !arguments.quick {
        clients::install(&root, &repository::target()?)?;
    }
    pipeline.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    if !arguments.quick {
        pipeline.doc()?;
    }
    pipeline.cargo(&["test", "--workspace", "--exclude", "millrace-compat", "--exclude", "millrace-crash"])?;
    pipeline.cargo(&["test", "--package", "millrace-crash", "--lib", "--test", "power", "--test", "seam"])?;
    if !arguments.quick {
        pipeline.cargo(&["build", "--release", "--package", "millrace-server"])?;
        pipeline.cargo(&["build", "--package", "millrace-bench"])?;
        pipeline.cargo(&["test", "--package", "millrace-compat"])?;
        pipeline.cargo(&["test", "--package", "millrace-crash", "--test", "kill", "--test", "full_disk"])?;
    }
    pipeline.print_closing_lines();
    Ok(())
}
