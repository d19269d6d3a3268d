//! Power failures under a loaded store. Seeds as in tests/sim: `MILLRACE_SEED` names one, `MILLRACE_SEEDS` says how many.

use millrace_crash::power::{Machine, Tally, run};
use millrace_crash::recording::Nature;
use millrace_runtime::FlushScope;
use millrace_sim::seeds;

/// Seeds of a run that asks for no number.
const SEEDS_DEFAULT: u64 = 6;

fn each_seed(machine: Machine, scope: FlushScope) {
    let asked =
        ["MILLRACE_SEED", "MILLRACE_SEEDS", "MILLRACE_SEED_START"].iter().any(|name| std::env::var_os(name).is_some());
    let range = if asked { seeds::range() } else { 0..SEEDS_DEFAULT };
    let mut total = Tally::default();
    for seed in range {
        let tally = run(seed, machine, Nature { scope, lie: None })
            .unwrap_or_else(|what| panic!("{what}\n  repeat it with: cargo dev crash --power --times 1 --seed {seed}"));
        total.acknowledgements += tally.acknowledgements;
        total.images += tally.images;
        total.real_recoveries += tally.real_recoveries;
        total.second_lives += tally.second_lives;
    }
    println!("{machine:?}, {scope:?}: {total:?}");
    assert!(total.images >= total.acknowledgements / 10, "the power failed at too few acknowledgements");
}

#[test]
fn real_run_flushed_by_the_device() {
    each_seed(Machine::Real, FlushScope::Device);
}

#[test]
fn real_run_flushed_file_by_file() {
    each_seed(Machine::Real, FlushScope::File);
}

#[test]
fn simulated_run_flushed_by_the_device() {
    each_seed(Machine::Simulated, FlushScope::Device);
}

#[test]
fn simulated_run_flushed_file_by_file() {
    each_seed(Machine::Simulated, FlushScope::File);
}

#[test]
fn the_same_seed_makes_the_same_images() {
    let nature = Nature { scope: FlushScope::Device, lie: None };
    let tally = run(3, Machine::Simulated, nature);
    assert_eq!(tally, run(3, Machine::Simulated, nature));
    assert_ne!(tally, run(4, Machine::Simulated, nature));
}
