//! Interleavings of two and three shards' flushes; and all there are of a few steps, against a plain model of a device.

use proptest::prelude::*;

use super::{Begun, Ended, Flushes, ShardFlushes, Verdict};

fn shards() -> (ShardFlushes, ShardFlushes) {
    let flushes = Flushes::new(2);
    (flushes.shard(0), flushes.shard(1))
}

#[test]
fn a_flush_alone_counts_at_once() {
    let (mut one, _) = shards();
    let begun = one.begin();
    let ended = one.end_well(begun);
    assert_eq!(one.verdict(ended), Verdict::Counts);
}

#[test]
fn a_flush_that_began_before_has_to_end_well() {
    for (fails, verdict) in [(false, Verdict::Counts), (true, Verdict::Lost)] {
        let (mut one, mut other) = shards();
        let before = other.begin();
        let begun = one.begin();
        let ended = one.end_well(begun);
        assert_eq!(one.verdict(ended), Verdict::Open);
        if fails {
            other.end_badly(before);
        } else {
            other.end_well(before);
        }
        assert_eq!(one.verdict(ended), verdict);
    }
}

#[test]
fn a_flush_that_began_meanwhile_has_to_end_well() {
    let (mut one, mut other) = shards();
    let begun = one.begin();
    let beside = other.begin();
    let ended = one.end_well(begun);
    assert_eq!(one.verdict(ended), Verdict::Open);
    other.end_badly(beside);
    assert_eq!(one.verdict(ended), Verdict::Lost);
}

#[test]
fn a_flush_that_begins_afterwards_is_not_waited_for() {
    let (mut one, mut other) = shards();
    let begun = one.begin();
    let ended = one.end_well(begun);
    let later = other.begin();
    assert_eq!(one.verdict(ended), Verdict::Counts);
    other.end_badly(later);
    assert!(one.is_stale(), "what it has written since may be gone");
}

#[test]
fn a_shard_that_flushes_without_end_is_waited_for_once() {
    let (mut one, mut other) = shards();
    let mut running = other.begin();
    let begun = one.begin();
    let ended = one.end_well(begun);
    let next = other.begin();
    other.end_well(std::mem::replace(&mut running, next));
    assert_eq!(one.verdict(ended), Verdict::Counts, "the one that runs now began too late to matter");
}

#[test]
fn flushes_of_one_shard_wait_for_each_other_too() {
    let (mut one, other) = shards();
    let (first, second) = (one.begin(), one.begin());
    let ended = one.end_well(second);
    assert_eq!(one.verdict(ended), Verdict::Open);
    one.end_badly(first);
    assert_eq!(one.verdict(ended), Verdict::Lost);
    assert!(one.is_stale() && other.is_stale());
}

#[test]
fn each_failure_has_every_shard_start_over_once() {
    let (mut one, mut other) = shards();
    let begun = one.begin();
    one.end_badly(begun);
    for shard in [&mut one, &mut other] {
        assert!(shard.is_stale());
        let begun = shard.begin();
        let ended = shard.end_well(begun);
        assert_eq!(shard.verdict(ended), Verdict::Lost, "until it has started over");
        shard.start_over();
        assert!(!shard.is_stale());
        assert_eq!(shard.verdict(ended), Verdict::Lost, "what an earlier life flushed stays lost");
        let begun = shard.begin();
        let ended = shard.end_well(begun);
        assert_eq!(shard.verdict(ended), Verdict::Counts);
    }
    assert!(!one.is_stale() && !other.is_stale(), "recoveries do not set each other off");
}

#[test]
fn a_flush_that_began_before_its_shard_started_over_does_not_count() {
    let (mut one, mut other) = shards();
    let begun = one.begin();
    let failing = other.begin();
    other.end_badly(failing);
    one.start_over();
    let ended = one.end_well(begun);
    assert_eq!(one.verdict(ended), Verdict::Lost);
}

/// A shard and its write: one each at a time.
#[derive(Default)]
struct Writer {
    /// A write has completed and no flush has counted since.
    written: bool,
    /// The device has dropped it.
    dropped: bool,
    begun: Option<Begun>,
    /// The flush under way has been done by the device, with this result.
    done: Option<bool>,
    ended: Option<Ended>,
}

/// Three shards step by step, with a device that fails any flush and takes flushes in any order: no write counts as flushed
/// that it has dropped.
fn run(steps: &[(usize, u8)]) {
    let flushes = Flushes::new(3);
    let mut shards: Vec<ShardFlushes> = (0..3).map(|index| flushes.shard(index)).collect();
    let mut writers: Vec<Writer> = (0..3).map(|_| Writer::default()).collect();
    let mut on_device = [false; 3];
    for (index, choice) in steps {
        let (index, fails) = (*index, *choice == 0);
        match &mut writers[index] {
            writer @ Writer { begun: None, ended: None, written: false, .. } => {
                (writer.written, writer.dropped, on_device[index]) = (true, false, false);
            }
            writer @ Writer { begun: None, ended: None, .. } => writer.begun = Some(shards[index].begin()),
            Writer { begun: Some(_), done: None, .. } => {
                // The device does it now. One that fails drops what it has of anybody's and was not flushed before.
                for (other, on_device) in writers.iter_mut().zip(&mut on_device) {
                    other.dropped |= fails && other.written && !*on_device;
                    *on_device |= !fails && other.written && !other.dropped;
                }
                writers[index].done = Some(!fails);
            }
            writer @ Writer { begun: Some(_), .. } => {
                let begun = writer.begun.take().unwrap();
                if writer.done.take().unwrap() {
                    writer.ended = Some(shards[index].end_well(begun));
                } else {
                    shards[index].end_badly(begun);
                    shards[index].start_over();
                    (writer.written, on_device[index]) = (false, false);
                }
            }
            writer => match shards[index].verdict(writer.ended.unwrap()) {
                Verdict::Open => {}
                Verdict::Counts => {
                    assert!(
                        on_device[index],
                        "shard {index} was told that a dropped write is on the device: {steps:?}"
                    );
                    (writer.written, writer.ended) = (false, None);
                }
                Verdict::Lost => {
                    shards[index].start_over();
                    (writer.written, writer.ended) = (false, None);
                }
            },
        }
    }
}

proptest! {
    #[test]
    fn no_dropped_write_counts(steps in prop::collection::vec((0..3_usize, 0..4_u8), 1..200)) {
        run(&steps);
    }
}
