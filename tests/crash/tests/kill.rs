//! kill -9 under load. `MILLRACE_CRASH_TIMES` says how often, `MILLRACE_SEED` when; see `cargo dev crash`.

use millrace_crash::kill;

/// Kills of a run that asks for no number.
const TIMES_DEFAULT: u64 = 3;

#[test]
fn what_was_acknowledged_survives_every_kill() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let times = number("MILLRACE_CRASH_TIMES").unwrap_or(TIMES_DEFAULT);
    let times = usize::try_from(times).expect("a count of kills");
    let tally = kill::run(times, number("MILLRACE_SEED").unwrap_or(0));
    println!("{tally:?}");
    assert_eq!(tally.kills, times);
    assert!(tally.acknowledged >= times, "every round waits for an acknowledgement at least");
}
