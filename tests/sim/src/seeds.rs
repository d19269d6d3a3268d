//! Which seeds a run takes, and how a failure names its seed.

use std::cell::Cell;
use std::ops::Range;
use std::sync::Once;

/// Seeds of a run that asks for no number.
pub const SEEDS_DEFAULT: u64 = 300;

/// The seeds to run: `MILLRACE_SEED` names one, `MILLRACE_SEEDS` says how many, `MILLRACE_SEED_START` from where.
///
/// # Panics
/// When one of them is not a number.
pub fn range() -> Range<u64> {
    if let Some(seed) = variable("MILLRACE_SEED") {
        return seed..seed + 1;
    }
    let start = variable("MILLRACE_SEED_START").unwrap_or(0);
    start..start + variable("MILLRACE_SEEDS").unwrap_or(SEEDS_DEFAULT)
}

/// Whether one seed is being replayed, so that it is to tell more.
pub fn is_replay() -> bool {
    variable("MILLRACE_SEED").is_some()
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

thread_local! {
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Seeds that may fail before a run gives up.
const FAILURES_MAX: usize = 10;

/// Runs `scenario` for every seed of [`range`]. A panic is reported with its seed first.
///
/// # Panics
/// At the end, with the seeds that failed.
pub fn each(scenario: fn(u64) -> u64) {
    name_seeds_of_panics();
    let mut failed = Vec::new();
    for seed in range() {
        RUNNING.set(Some(seed));
        let result = std::panic::catch_unwind(|| {
            let fingerprint = scenario(seed);
            if is_replay() {
                assert_eq!(fingerprint, scenario(seed), "the same seed made other choices");
                println!("seed {seed}: fingerprint {fingerprint:016x}, twice");
            }
        });
        RUNNING.set(None);
        if result.is_err() {
            failed.push(seed);
        }
        assert!(failed.len() < FAILURES_MAX, "gave up after these seeds failed: {failed:?}");
    }
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
}

fn name_seeds_of_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(seed) = RUNNING.get() {
                eprintln!("seed {seed} failed; repeat it with: cargo dev replay-seed {seed}");
            }
            default(info);
        }));
    });
}
