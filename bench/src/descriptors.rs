//! How many files and connections this process may have open.

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one, and fails if that leaves no room for `count` besides what a
/// process has open anyway.
pub(crate) fn make_room_for(count: usize) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .context("raising the limit of open files")?;
    let needed = crate::numbers::u64_of(count) + DESCRIPTORS_BESIDE;
    match limit.maximum {
        Some(maximum) if maximum < needed => {
            bail!("{needed} descriptors are needed; the hard limit (RLIMIT_NOFILE) is {maximum}")
        }
        _ => Ok(()),
    }
}

/// The log's, the rings', the standard ones and room to spare.
const DESCRIPTORS_BESIDE: u64 = 100;
