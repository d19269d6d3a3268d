//! The device against small traces, written by hand.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::trace::{Content, Recorder};

/// A trace in the making.
struct Script(Recorder);

impl Script {
    fn new() -> Self {
        Self(Recorder::new(Path::new("/")))
    }

    /// An operation that starts and ends.
    fn whole(&self, change: Change) {
        let number = self.0.start(change);
        self.0.end(number, &Ok::<(), ()>(()));
    }

    fn start(&self, change: Change) -> u64 {
        self.0.start(change)
    }

    fn end(&self, operation: u64) {
        self.0.end(operation, &Ok::<(), ()>(()));
    }

    /// A new file, its name durable, of two blocks that are written with zeros and flushed.
    fn filled_file(&self, handle: u64, path: &str) {
        self.whole(Change::Create { handle, path: path.to_owned() });
        self.whole(write(handle, 0, &[0; 8192]));
        self.whole(Change::Sync { handle });
        self.whole(Change::SyncDir { path: String::new() });
    }

    /// What power failures at the end may leave of a file: the sectors' first bytes, or nothing. Every image's.
    fn outcomes(&self, scope: FlushScope, path: &str) -> BTreeSet<Option<Vec<u8>>> {
        let mut device = Device::new(&Image::default(), scope);
        self.0.take().iter().for_each(|event| device.follow(event));
        let dice = Dice::new(7, 7);
        let images = (0..400).map(|_| device.lose_power(&dice));
        images.map(|image| image.files.get(path).map(first_bytes)).collect()
    }
}

fn first_bytes(bytes: &Bytes) -> Vec<u8> {
    let sectors = usize::try_from(bytes.length()).unwrap() / SECTOR_BYTES;
    let mut first = vec![0; sectors];
    for (position, block) in bytes.blocks() {
        for sector in 0..8 {
            let index = usize::try_from(position).unwrap() / SECTOR_BYTES + sector;
            first[index] = block[sector * SECTOR_BYTES];
        }
    }
    first
}

fn write(handle: u64, position: u64, bytes: &[u8]) -> Change {
    Change::Write { handle, position, content: Content::of(bytes), synchronous: false }
}

/// Two blocks whose sectors begin with these.
fn sectors(first: u8, second: u8) -> Vec<u8> {
    [vec![first; 8], vec![second; 8]].concat()
}

#[test]
fn a_flush_covers_what_had_ended_when_it_started() {
    let script = Script::new();
    script.filled_file(1, "a");
    script.whole(write(1, 0, &[1; 4096]));
    let late = script.start(write(1, 4096, &[2; 4096]));
    let flush = script.start(Change::Sync { handle: 1 });
    script.end(late);
    script.end(flush);
    let outcomes = script.outcomes(FlushScope::File, "a");
    assert!(outcomes.iter().all(|left| left.as_ref().unwrap()[..8] == [1; 8]));
    assert!(outcomes.contains(&Some(sectors(1, 0))) && outcomes.contains(&Some(sectors(1, 2))));
    assert!(outcomes.len() > 50, "sectors stay or go by themselves: {}", outcomes.len());
}

#[test]
fn a_flush_that_has_not_ended_covers_nothing() {
    let script = Script::new();
    script.filled_file(1, "a");
    script.whole(write(1, 0, &[1; 4096]));
    script.start(Change::Sync { handle: 1 });
    assert!(script.outcomes(FlushScope::Device, "a").contains(&Some(sectors(0, 0))));
}

#[test]
fn a_flush_of_the_device_reaches_overwrites_of_other_files_and_nothing_else() {
    for (scope, overwrite_is_safe) in [(FlushScope::Device, true), (FlushScope::File, false)] {
        let script = Script::new();
        script.filled_file(1, "a");
        script.filled_file(2, "b");
        script.whole(write(1, 0, &[1; 4096]));
        script.whole(write(1, 8192, &[2; 4096]));
        script.whole(Change::Sync { handle: 2 });
        let outcomes = script.outcomes(scope, "a");
        let overwritten = |left: &Option<Vec<u8>>| left.as_ref().unwrap()[..8] == [1; 8];
        assert_eq!(outcomes.iter().all(overwritten), overwrite_is_safe, "{scope:?}");
        // The file has grown for the other write, and a length is not the device's business.
        assert!(outcomes.iter().any(|left| left.as_ref().unwrap().len() == 16), "{scope:?}");
    }
}

#[test]
fn an_unwritten_extent_is_not_overwritten() {
    let script = Script::new();
    script.filled_file(1, "a");
    script.filled_file(2, "b");
    script.whole(Change::Allocate { handle: 1, end: 12_288 });
    script.whole(Change::Sync { handle: 1 });
    script.whole(write(1, 8192, &[3; 4096]));
    script.whole(Change::Sync { handle: 2 });
    let zeros = [sectors(0, 0), vec![0; 8]].concat();
    assert!(script.outcomes(FlushScope::Device, "a").contains(&Some(zeros)));
}

#[test]
fn a_name_that_was_not_synchronised_may_be_there() {
    let script = Script::new();
    script.whole(Change::Create { handle: 1, path: "a".to_owned() });
    script.whole(write(1, 0, &[1; 4096]));
    script.whole(Change::Sync { handle: 1 });
    assert_eq!(script.outcomes(FlushScope::File, "a"), BTreeSet::from([None, Some(vec![1; 8])]));
}

#[test]
fn a_rename_is_whole_or_not_at_all() {
    for (torn, whole) in [(false, true), (true, false)] {
        let script = Script::new();
        for (handle, path) in [(1, "old"), (2, "new")] {
            script.whole(Change::Create { handle, path: path.to_owned() });
            script.whole(write(handle, 0, &[u8::try_from(handle).unwrap(); 4096]));
            script.whole(Change::Sync { handle });
        }
        script.whole(Change::SyncDir { path: String::new() });
        let (source, target) = ("new".to_owned(), "old".to_owned());
        let change = if torn { Change::TornRename { source, target } } else { Change::Rename { source, target } };
        script.whole(change);
        let outcomes = script.outcomes(FlushScope::File, "old");
        let expected = BTreeSet::from([Some(vec![1; 8]), Some(vec![2; 8])]);
        assert_eq!(outcomes == expected, whole, "{outcomes:?}");
    }
}

#[test]
fn what_was_cut_off_is_gone_once_that_is_flushed() {
    let script = Script::new();
    script.filled_file(1, "a");
    script.whole(write(1, 4096, &[5; 4096]));
    script.whole(Change::Sync { handle: 1 });
    script.whole(Change::Truncate { handle: 1, bytes: 4096 });
    script.whole(Change::Sync { handle: 1 });
    script.whole(Change::Allocate { handle: 1, end: 8192 });
    let outcomes = script.outcomes(FlushScope::File, "a");
    assert_eq!(outcomes, BTreeSet::from([Some(vec![0; 8]), Some(sectors(0, 0))]));
}

#[test]
fn an_image_is_a_device_again() {
    let script = Script::new();
    script.whole(Change::CreateDirs { path: "logs/x".to_owned() });
    script.whole(Change::SyncDir { path: String::new() });
    script.whole(Change::SyncDir { path: "logs".to_owned() });
    script.whole(Change::Create { handle: 1, path: "logs/x/a".to_owned() });
    script.whole(write(1, 0, &[9; 4096]));
    script.whole(Change::Sync { handle: 1 });
    script.whole(Change::SyncDir { path: "logs/x".to_owned() });
    let mut device = Device::new(&Image::default(), FlushScope::Device);
    script.0.take().iter().for_each(|event| device.follow(event));
    let image = device.lose_power(&Dice::new(1, 1));
    assert_eq!(image.directories, ["logs", "logs/x"]);
    assert_eq!(first_bytes(&image.files["logs/x/a"]), [9; 8]);
    assert_eq!(Device::new(&image, FlushScope::Device).lose_power(&Dice::new(2, 2)), image);
}
