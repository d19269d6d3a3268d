//! The scenarios, each over the seeds of this run.

use millrace_sim::{damage, faults, lives, producers, seeds, sweep, torn};

#[test]
fn many_lives() {
    seeds::each(lives::run);
}

#[test]
fn power_fails_at_any_operation() {
    seeds::each(sweep::run);
}

#[test]
fn disk_fails_any_operation() {
    seeds::each(faults::run);
}

#[test]
fn bits_flip() {
    seeds::each(damage::run);
}

#[test]
fn producers_send_again() {
    seeds::each(producers::run);
}

#[test]
fn power_fails_and_the_first_sectors_survive() {
    seeds::each(torn::run);
}
