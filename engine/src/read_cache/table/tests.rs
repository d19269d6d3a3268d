//! The table holds what it was given and no more than it may, and a scan takes nothing from what is read repeatedly.

use proptest::prelude::*;

use super::*;

/// Chunks of the budget.
const CAPACITY: usize = 40;
const BUDGET_BYTES: usize = CAPACITY * CHUNK_BYTES;

fn key(segment: u64, index: u32) -> ChunkKey {
    ChunkKey { segment, index }
}

/// Reads a chunk as the cache does, and says whether it was there.
fn read(table: &mut Table<ChunkKey>, key: ChunkKey) -> bool {
    if let Some(found) = table.find(key) {
        assert_eq!(*found, key);
        return true;
    }
    table.insert(key, Rc::new(key), CHUNK_BYTES);
    false
}

fn scan(table: &mut Table<ChunkKey>, segment: u64, count: u32) {
    for index in 0..count {
        // A reader of small batches comes to each chunk several times.
        for _ in 0..5 {
            read(table, key(segment, index));
        }
    }
}

#[test]
fn a_scan_does_not_evict_what_is_read_repeatedly() {
    let mut table = Table::new(BUDGET_BYTES);
    let wanted: Vec<_> = (0..20).map(|index| key(1, index)).collect();
    for round in 0..3 {
        for key in &wanted {
            read(&mut table, *key);
        }
        scan(&mut table, 100 + round, 15);
    }
    scan(&mut table, 200, 10_000);
    let hits = wanted.iter().filter(|key| read(&mut table, **key)).count();
    assert_eq!(hits, wanted.len());
}

#[test]
fn what_is_not_read_any_more_gives_way() {
    let mut table = Table::new(BUDGET_BYTES);
    let generation = |table: &mut Table<ChunkKey>, segment| {
        let mut hits = 0;
        for round in 0..12_u64 {
            hits = (0..25).filter(|index| read(table, key(segment, *index))).count();
            scan(table, 1000 * segment + round, 12);
        }
        hits
    };
    assert_eq!(generation(&mut table, 1), 25);
    assert_eq!(generation(&mut table, 2), 25, "new ones take the place of old ones");
}

#[test]
fn of_the_proven_chunks_those_go_first_that_nobody_reads() {
    let mut table = Table::new(BUDGET_BYTES);
    let prove = |table: &mut Table<ChunkKey>, indexes: std::ops::Range<u32>| {
        for index in indexes {
            table.remember(key(1, index));
            assert!(!read(table, key(1, index)));
        }
    };
    prove(&mut table, 0..40);
    for index in 0..5 {
        assert!(read(&mut table, key(1, index)));
    }
    prove(&mut table, 40..60);
    let here: Vec<_> = (0..60).filter(|index| table.peek(key(1, *index)).is_some()).collect();
    assert_eq!(here, (0..5).chain(25..60).collect::<Vec<_>>());
}

#[test]
fn a_chunk_that_grew_keeps_its_place() {
    let mut table = Table::new(BUDGET_BYTES);
    table.insert(key(1, 0), Rc::new(key(1, 0)), 4096);
    table.insert(key(1, 0), Rc::new(key(1, 0)), 8192);
    assert_eq!(table.bytes(), 8192);
    table.remove_segment(1);
    assert_eq!(table.bytes(), 0);
}

#[test]
fn what_loads_have_set_aside_is_not_used() {
    let mut table = Table::new(BUDGET_BYTES);
    scan(&mut table, 1, 100);
    assert_eq!(table.bytes(), BUDGET_BYTES);
    table.reserve(BUDGET_BYTES - CHUNK_BYTES);
    assert_eq!(table.bytes(), CHUNK_BYTES);
    table.reserve(CHUNK_BYTES);
    assert!(!read(&mut table, key(2, 0)));
    assert!(table.peek(key(2, 0)).is_none(), "there is no room at all");
    table.release(BUDGET_BYTES);
    assert!(!read(&mut table, key(2, 0)) && read(&mut table, key(2, 0)));
}

#[derive(Clone, Debug)]
enum Step {
    Read(u64, u32),
    Grow(u64, u32, usize),
    Remove(u64),
    Reserve(usize),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0_u64..4, 0_u32..40).prop_map(|(segment, index)| Step::Read(segment, index)),
        3 => (0_u64..4, 0_u32..40, 1_usize..=32).prop_map(|(segment, index, blocks)| Step::Grow(segment, index, blocks)),
        1 => (0_u64..4).prop_map(Step::Remove),
        1 => (1_usize..50).prop_map(Step::Reserve),
        2 => Just(Step::Release),
    ]
}

proptest! {
    /// Values are numbered: what is found is the last that was put in, and nothing from before a removal.
    #[test]
    fn finds_the_latest_within_the_budget(steps in prop::collection::vec(step(), 1..600)) {
        let mut table: Table<u64> = Table::new(BUDGET_BYTES);
        let (mut latest, mut number, mut reserved) = (BTreeMap::new(), 0, Vec::new());
        for step in steps {
            match step {
                Step::Read(segment, index) => {
                    if let Some(found) = table.find(key(segment, index)) {
                        prop_assert_eq!(Some(&*found), latest.get(&key(segment, index)));
                    }
                }
                Step::Grow(segment, index, blocks) => {
                    number += 1;
                    latest.insert(key(segment, index), number);
                    table.insert(key(segment, index), Rc::new(number), blocks * 4096);
                }
                Step::Remove(segment) => {
                    latest.retain(|key, _| key.segment != segment);
                    table.remove_segment(segment);
                }
                Step::Reserve(chunks) => {
                    reserved.push(chunks * CHUNK_BYTES);
                    table.reserve(chunks * CHUNK_BYTES);
                }
                Step::Release => {
                    if let Some(bytes) = reserved.pop() {
                        table.release(bytes);
                    }
                }
            }
            let reserved_bytes: usize = reserved.iter().sum();
            prop_assert!(table.bytes() <= BUDGET_BYTES.saturating_sub(reserved_bytes));
            let (queued, held) = (table.probation.keys.len() + table.proven.keys.len(), table.chunks.len());
            prop_assert_eq!(queued, held);
            prop_assert_eq!(table.bytes(), table.chunks.values().map(|chunk| chunk.bytes).sum::<usize>());
            prop_assert!(table.ghosts.len() == table.ghost_names.len() && table.ghosts.len() <= CAPACITY);
        }
    }
}
