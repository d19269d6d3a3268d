//! What producers may send next, and that the state survives being written, read back and put together.

use proptest::prelude::*;

use super::*;
use crate::model::TopicId;
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView, ProducerFields};

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([4; 16]), partition: 0 };

fn header_at(timestamp: i64, id: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
    let producer = Some(ProducerFields { id, epoch, base_sequence });
    let mut builder = BatchBuilder::new(BatchFields { producer, ..BatchFields::default() });
    for _ in 0..records {
        builder.push(timestamp, None, None);
    }
    *BatchView::parse(&builder.build()).unwrap().header()
}

fn header(id: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
    header_at(0, id, epoch, base_sequence, records)
}

fn note(states: &mut ProducerStates, header: &BatchHeader, base: i64) {
    assert_eq!(states.check(header), Ok(Verdict::Append));
    let end = base + i64::from(header.record_count.get());
    states.note(header, Offset::new(base), Offset::new(end));
}

#[test]
fn the_last_five_batches_are_recognised_and_older_ones_refused() {
    let mut states = ProducerStates::default();
    for number in 0..6 {
        note(&mut states, &header_at(100 + i64::from(number), 7, 0, number * 2, 2), i64::from(number) * 2);
    }
    for number in 1..6 {
        let (base_offset, end_offset) = (Offset::new(number * 2), Offset::new(number * 2 + 2));
        let again = header(7, 0, i32::try_from(number).unwrap() * 2, 2);
        let original = Verdict::Duplicate { base_offset, end_offset, timestamp: 100 + number };
        assert_eq!(states.check(&again), Ok(original));
    }
    assert_eq!(states.check(&header(7, 0, 0, 2)), Err(SequenceError::OutOfOrder { found: 0, expected: 12 }));
    assert_eq!(states.check(&header(7, 0, 13, 1)), Err(SequenceError::OutOfOrder { found: 13, expected: 12 }));
    assert_eq!(states.check(&header(8, 0, 99, 1)), Ok(Verdict::Append), "an unknown producer starts anywhere");
    assert_eq!(states.check(&header(-1, -1, -1, 1)), Ok(Verdict::Append));
}

#[test]
fn a_new_epoch_starts_at_zero_and_fences_the_old_one() {
    let mut states = ProducerStates::default();
    note(&mut states, &header(7, 3, 40, 1), 0);
    assert_eq!(states.check(&header(7, 4, 41, 1)), Err(SequenceError::OutOfOrder { found: 41, expected: 0 }));
    note(&mut states, &header(7, 4, 0, 1), 1);
    assert_eq!(states.check(&header(7, 3, 41, 1)), Err(SequenceError::StaleEpoch { found: 3, current: 4 }));
    assert_eq!(
        states.check(&header(7, 4, 41, 1)),
        Err(SequenceError::OutOfOrder { found: 41, expected: 1 }),
        "what the old epoch sent is no duplicate"
    );
}

#[test]
fn sequences_wrap_to_zero() {
    let mut states = ProducerStates::default();
    note(&mut states, &header(7, 0, i32::MAX - 1, 3), 0);
    note(&mut states, &header(7, 0, 1, 1), 3);
    assert_eq!(advance(i32::MAX, 1), 0);
}

#[test]
fn a_silent_producer_expires_by_the_timestamp_of_its_last_batch() {
    let mut states = ProducerStates::default();
    note(&mut states, &header_at(500, 1, 0, 0, 1), 0);
    note(&mut states, &header_at(200, 1, 0, 1, 1), 1);
    note(&mut states, &header_at(200, 2, 0, 0, 1), 2);
    note(&mut states, &header_at(201, 2, 0, 1, 1), 3);
    states.expire(200);
    assert_eq!(states.check(&header(1, 0, 9, 1)), Err(SequenceError::OutOfOrder { found: 9, expected: 2 }));
    states.expire(201);
    assert_eq!(states.check(&header(1, 0, 9, 1)), Ok(Verdict::Append), "it is not known any more");
    assert_eq!(states.check(&header(2, 0, 9, 1)), Err(SequenceError::OutOfOrder { found: 9, expected: 2 }));
}

/// A batch and its offsets.
type Noted = (BatchHeader, Offset, Offset);

/// A log. Noting does not judge, so any sequences do; only the epochs of a producer never fall in a log.
fn any_log() -> impl Strategy<Value = Vec<Noted>> {
    let batch = (-1_i64..40, prop::bool::weighted(0.1), 0..i32::MAX, 1_i32..4, -1_i64..1000);
    prop::collection::vec(batch, 0..400).prop_map(|batches| {
        let (mut epochs, mut end) = (BTreeMap::new(), 0);
        let noted = batches.into_iter().map(|(id, next_epoch, base_sequence, records, timestamp)| {
            let epoch = epochs.entry(id).or_insert(0);
            *epoch += i16::from(next_epoch);
            let base = Offset::new(end);
            end += i64::from(records);
            (header_at(timestamp, id, *epoch, base_sequence, records), base, Offset::new(end))
        });
        noted.collect()
    })
}

fn built(batches: &[Noted]) -> ProducerStates {
    let mut states = ProducerStates::default();
    for (header, base_offset, end_offset) in batches {
        states.note(header, *base_offset, *end_offset);
    }
    states
}

proptest! {
    #[test]
    fn state_built_in_two_halves_is_the_same(log in any_log(), cut in 0_usize..401) {
        let (older, newer) = log.split_at(cut.min(log.len()));
        let whole = built(&log);

        let mut put_together = built(newer);
        put_together.prepend(built(older));
        prop_assert_eq!(&put_together, &whole);

        let snapshot_end = older.last().map_or(Offset::ZERO, |batch| batch.2);
        let snapshot = built(older).encode(PARTITION, snapshot_end);
        let (offset, mut replayed) = ProducerStates::decode(PARTITION, &snapshot).unwrap();
        prop_assert_eq!(offset, snapshot_end);
        for (header, base_offset, end_offset) in newer {
            replayed.note(header, *base_offset, *end_offset);
        }
        prop_assert_eq!(replayed, whole);
    }
}

#[test]
fn a_snapshot_of_another_partition_is_refused() {
    let mut states = ProducerStates::default();
    note(&mut states, &header(7, 0, 0, 1), 0);
    let snapshot = states.encode(PARTITION, Offset::new(1));
    assert_eq!(ProducerStates::decode(PartitionId { partition: 1, ..PARTITION }, &snapshot), None);
}
