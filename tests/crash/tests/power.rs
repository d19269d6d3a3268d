//! Power failures under a loaded store. Seeds as in tests/sim: `MILLRACE_SEED` names one, `MILLRACE_SEEDS` says how many.

use millrace_crash::power::{Machine, Tally, run, run_torn_burst};
use millrace_crash::recording::Nature;
use millrace_runtime::FlushScope;
use millrace_sim::seeds;

/// Seeds of a run that asks for no number.
const SEEDS_DEFAULT: u64 = 12;

fn each_seed(seeds_default: u64, run: impl Fn(u64) -> Result<Tally, String>) -> Tally {
    let asked =
        ["MILLRACE_SEED", "MILLRACE_SEEDS", "MILLRACE_SEED_START"].iter().any(|name| std::env::var_os(name).is_some());
    let range = if asked { seeds::range() } else { 0..seeds_default };
    let mut total = Tally::default();
    for seed in range {
        total.add(run(seed).unwrap_or_else(|what| {
            panic!("{what}\n  repeat it with: cargo dev crash --power --times 1 --seed {seed}")
        }));
    }
    println!("{total:?}");
    total
}

fn recorded(machine: Machine, scope: FlushScope) {
    let total = each_seed(SEEDS_DEFAULT, |seed| run(seed, machine, Nature { scope, lie: None }));
    assert!(total.images >= total.acknowledgements / 10, "the power failed at too few acknowledgements");
}

#[test]
fn real_run_flushed_by_the_device() {
    recorded(Machine::Real, FlushScope::Device);
}

#[test]
fn real_run_flushed_file_by_file() {
    recorded(Machine::Real, FlushScope::File);
}

#[test]
fn simulated_run_flushed_by_the_device() {
    recorded(Machine::Simulated, FlushScope::Device);
}

#[test]
fn simulated_run_flushed_file_by_file() {
    recorded(Machine::Simulated, FlushScope::File);
}

#[test]
fn what_a_cut_took_away_does_not_come_back() {
    // Small ones, and what they look for is rare: a whole batch behind a torn one, and a cut between the two.
    let total =
        each_seed(8 * SEEDS_DEFAULT, |seed| run_torn_burst(seed, Nature { scope: FlushScope::Device, lie: None }));
    assert!(total.second_lives > 0, "nothing was cut");
}

#[test]
fn the_same_seed_makes_the_same_images() {
    let nature = Nature { scope: FlushScope::Device, lie: None };
    let tally = run(3, Machine::Simulated, nature);
    assert_eq!(tally, run(3, Machine::Simulated, nature));
    assert_ne!(tally, run(4, Machine::Simulated, nature));
}
