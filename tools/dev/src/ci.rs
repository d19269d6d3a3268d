//! `cargo dev ci`: what a build machine runs, here. At present the same as `cargo dev test`; what is too slow for every
//! change (long simulations, fuzzing) joins this list, not that one.

use crate::test;

#[derive(clap::Args)]
pub(crate) struct Arguments {}

pub(crate) fn run(_arguments: &Arguments) -> anyhow::Result<()> {
    test::run(&test::Arguments::everything())
}
