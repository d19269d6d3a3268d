//! Every target over its seeds, and over inputs that once made it fail.

use std::fs;
use std::path::Path;

use millrace_fuzz::{Reached, TARGETS};

#[test]
fn every_seed_reaches_content() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(seeds.len() > 2, "{}", target.name);
        let refused: Vec<_> =
            (0..seeds.len()).filter(|index| (target.run)(&seeds[*index]) == Reached::Refusal).collect();
        assert!(refused.is_empty(), "{}: {refused:?} of {}", target.name, seeds.len());
    }
}

#[test]
fn broken_seeds_break_nothing() {
    let mut refused = 0;
    for target in TARGETS {
        for seed in (target.seeds)() {
            for place in (0..seed.len()).step_by(seed.len() / 20 + 1) {
                let mut broken = seed.clone();
                broken[place] ^= 0x55;
                refused += usize::from((target.run)(&broken) == Reached::Refusal);
                (target.run)(&seed[..place]);
            }
        }
    }
    assert!(refused > 0, "a decoder takes anything");
}

#[test]
fn what_was_found_stays_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        let (target, _) = name.split_once('-').unwrap();
        let target = TARGETS.iter().find(|known| known.name == target).unwrap();
        // A panic in here is the failure.
        println!("{name}: {:?}", (target.run)(&fs::read(&path).unwrap()));
        count += 1;
    }
    assert!(count > 0, "nothing was run");
}
