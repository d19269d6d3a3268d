//! `cargo dev ci`: what a build machine runs, here: `cargo dev test`, and what is too slow for every change. That joins
//! this list, not the other.

use crate::fuzz;
use crate::test;

/// How long each fuzz target runs. Building them takes longer than that.
const FUZZ_SECONDS: u32 = 10;

#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    test::run(&test::Arguments::everything())?;
    fuzz::run(&fuzz::Arguments::every_target(FUZZ_SECONDS))
}
