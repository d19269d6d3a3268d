//! The scenarios, each over the seeds of this run.

use millrace_sim::{lives, seeds};

#[test]
fn many_lives() {
    seeds::each(lives::run);
}
