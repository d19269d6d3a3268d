//! Faults planted between engine and disk: a disk that does not keep what it promises is noticed, each way it may lie.

use millrace_crash::power::{Machine, run};
use millrace_crash::recording::{Lie, Nature};
use millrace_runtime::FlushScope;

/// Runs with a lying disk.
const SEEDS: u64 = 12;

/// Runs `SEEDS` loads on a disk that lies, and panics unless in at least `noticed_min` of them an image was wrong.
#[track_caller]
fn assert_noticed(lie: Lie, scope: FlushScope, noticed_min: usize) {
    let findings: Vec<String> =
        (0..SEEDS).filter_map(|seed| run(seed, Machine::Simulated, Nature { scope, lie: Some(lie) }).err()).collect();
    for finding in &findings {
        println!("{finding}");
    }
    println!("{lie:?}, {scope:?}: noticed in {} of {SEEDS} runs", findings.len());
    assert!(findings.len() >= noticed_min, "{lie:?}: noticed in {} of {SEEDS} runs", findings.len());
}

#[test]
fn a_skipped_flush_is_noticed() {
    assert_noticed(Lie::SkippedFlush, FlushScope::Device, 6);
    assert_noticed(Lie::SkippedFlush, FlushScope::File, 6);
}

#[test]
fn a_flush_that_is_answered_before_it_is_done_is_noticed() {
    assert_noticed(Lie::EarlyFlush, FlushScope::Device, 6);
    assert_noticed(Lie::EarlyFlush, FlushScope::File, 6);
}

#[test]
fn a_lost_synchronisation_of_a_directory_is_noticed() {
    assert_noticed(Lie::LostDirSync, FlushScope::Device, 6);
}

#[test]
fn a_torn_rename_is_noticed() {
    assert_noticed(Lie::TornRename, FlushScope::Device, 3);
}

#[test]
fn a_write_that_passes_a_flush_is_noticed() {
    assert_noticed(Lie::WritePassesFlush, FlushScope::Device, 6);
    assert_noticed(Lie::WritePassesFlush, FlushScope::File, 6);
}
