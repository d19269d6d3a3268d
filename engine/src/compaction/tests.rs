//! Compaction against a plain model on random logs, and each promise of its header on a log made for it.

mod logs;
mod model;

use std::time::Duration;

use millrace_protocol::batch::compression::{CompressionError, Decompressor};
use millrace_protocol::batch::{BatchError, BatchHeader, BatchView, Compression};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::*;
use logs::{Batch, LogBuilder, Record, batches_of, log_strategy, tombstone, value};

/// What the passes of these tests have in common: a clock that stands, and room for everything.
fn config(dirty: Range<i64>) -> PassConfig {
    PassConfig {
        dirty: Offset::new(dirty.start)..Offset::new(dirty.end),
        now_ms: 0,
        tombstone_age_max: Duration::from_secs(1),
        producers: BTreeMap::new(),
        aborted: AbortedTransactions::default(),
        key_map_bytes_max: 1 << 20,
        records_bytes_max: 1 << 20,
        hash_key: [3, 4],
    }
}

/// What a whole pass did.
struct Passed {
    log: Vec<u8>,
    covered_end: i64,
    key_count: usize,
    cleaned: Cleaned,
    /// What the indexer could not read.
    unread: Vec<Unread>,
}

/// Reads `log` in windows of `window_bytes`, as a driver does, up to its first batch at or past `end`.
fn drive(log: &[u8], window_bytes: usize, mut step: impl FnMut(&[u8]) -> (usize, Option<usize>, bool)) {
    let (mut position, mut bytes) = (0, window_bytes);
    while position < log.len() {
        let window = &log[position..log.len().min(position + bytes)];
        let (consumed_bytes, needed_bytes, is_done) = step(window);
        if is_done {
            return;
        }
        assert!(consumed_bytes > 0 || needed_bytes.is_some_and(|needed| needed > window.len()), "no progress");
        position += consumed_bytes;
        bytes = needed_bytes.unwrap_or(window_bytes).max(window_bytes);
    }
}

fn pass_in_windows(log: &[u8], config: &PassConfig, window_bytes: usize) -> Passed {
    let mut indexer = Indexer::new(config.clone());
    let mut unread = Vec::new();
    drive(log, window_bytes, |window| {
        let indexed = indexer.index(window).unwrap();
        unread.extend(indexed.unread);
        (indexed.consumed_bytes, indexed.needed_bytes, indexed.is_done)
    });
    let mut cleaner = indexer.into_cleaner();
    let (mut output, mut total) = (Vec::new(), Cleaned::default());
    drive(log, window_bytes, |window| {
        let cleaned = cleaner.clean(window, &mut output).unwrap();
        total.changed |= cleaned.changed;
        total.removed_count += cleaned.removed_count;
        total.without_key_count += cleaned.without_key_count;
        total.unread.extend(cleaned.unread);
        (cleaned.consumed_bytes, cleaned.needed_bytes, false)
    });
    let (covered_end, key_count) = (cleaner.covered_end().get(), cleaner.key_count());
    Passed { log: output, covered_end, key_count, cleaned: total, unread }
}

fn pass(log: &[u8], config: &PassConfig) -> Passed {
    pass_in_windows(log, config, usize::MAX / 2)
}

/// Offsets of the records that a log holds.
fn offsets(log: &[u8]) -> Vec<i64> {
    batches_of(log).iter().flat_map(|batch| batch.records.iter().map(|record| record.offset)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Passes with maps of any size over a growing log leave what the model leaves, batch for batch and field for field.
    #[test]
    fn every_pass_leaves_what_the_model_leaves(
        made in log_strategy(),
        steps in proptest::collection::vec((any::<u8>(), 0..20_usize, 1..400_usize, 0..900_i64), 1..6),
    ) {
        let (mut log, log_end) = (made.bytes.clone(), made.end);
        let (mut dirty_start, mut now_ms) = (0, 0);
        for (share, slots, window_bytes, elapsed_ms) in steps {
            now_ms += elapsed_ms;
            let dirty_end = dirty_start + (log_end - dirty_start) * i64::from(share) / 255;
            let mut config = config(dirty_start..dirty_end);
            config.now_ms = now_ms;
            config.key_map_bytes_max = slots * key_map::SLOT_BYTES;
            (config.producers, config.aborted) = (made.producers.clone(), made.aborted.clone());

            let passed = pass_in_windows(&log, &config, window_bytes);
            let batches = batches_of(&log);
            model::check_coverage(&batches, &config, passed.covered_end, passed.key_count);
            let expected = model::clean(&batches, &config, passed.covered_end);
            prop_assert_eq!(batches_of(&passed.log), expected);
            prop_assert_eq!(passed.cleaned.changed, passed.log != log);
            prop_assert_eq!(&passed.cleaned.unread, &[]);

            let again = pass_in_windows(&passed.log, &config, 100);
            prop_assert!(!again.cleaned.changed, "a pass that is repeated changes nothing");
            prop_assert_eq!(&again.log, &passed.log);
            (log, dirty_start) = (passed.log, passed.covered_end);
        }
    }

    /// Damage is an error or is noticed by nobody, for it may hit the parts that no checksum covers; it never panics.
    #[test]
    fn damage_never_panics(made in log_strategy(), bit in any::<usize>(), cut in any::<usize>()) {
        let mut log = made.bytes;
        if log.is_empty() {
            return Ok(());
        }
        log.truncate(1 + cut % log.len());
        let bit = bit % (log.len() * 8);
        log[bit / 8] ^= 1 << (bit % 8);
        let mut indexer = Indexer::new(config(0..made.end));
        let indexed = indexer.index(&log);
        let mut output = Vec::new();
        let cleaned = indexer.into_cleaner().clean(&log, &mut output);
        // The indexer stops where the dirty records end, and a damaged base offset may say that this is here.
        prop_assert!(indexed.is_ok() || cleaned.is_err());
    }
}

#[test]
fn the_newest_record_of_each_key_stays_where_it_was() {
    for codec in logs::CODECS {
        let mut builder = LogBuilder::default();
        builder.push(codec, &[value(1), value(2), value(1)]);
        builder.push(codec, &[value(3), value(2)]);
        builder.push(codec, &[value(3)]);
        let passed = pass(&builder.bytes, &config(0..6));
        assert_eq!(offsets(&passed.log), [2, 4, 5], "{codec:?}");
        assert_eq!((passed.cleaned.removed_count, passed.key_count), (3, 3));
        let batches = batches_of(&passed.log);
        assert_eq!(batches.iter().map(|batch| (batch.base, batch.last)).collect::<Vec<_>>(), [(0, 2), (3, 4), (5, 5)]);
        assert!(batches.iter().all(|batch| batch.codec == codec));
        assert!(passed.log.ends_with(&builder.bytes[builder.starts[2]..]), "an untouched batch stays as it is");
    }
}

/// A log of eighty records as Kafka 4.3.1 wrote it, and what its `MemoryRecords.filterTo` left of it in two passes: at 5,000
/// and at 9,000 ms, with 3,000 ms for tombstones, and producer 77 known by its last batch, at 50 to 59.
const LEFT_BY_KAFKA: [[&[u8]; 3]; 5] = [
    [
        include_bytes!("../../testdata/compaction/none.log"),
        include_bytes!("../../testdata/compaction/none.first"),
        include_bytes!("../../testdata/compaction/none.second"),
    ],
    [
        include_bytes!("../../testdata/compaction/gzip.log"),
        include_bytes!("../../testdata/compaction/gzip.first"),
        include_bytes!("../../testdata/compaction/gzip.second"),
    ],
    [
        include_bytes!("../../testdata/compaction/snappy.log"),
        include_bytes!("../../testdata/compaction/snappy.first"),
        include_bytes!("../../testdata/compaction/snappy.second"),
    ],
    [
        include_bytes!("../../testdata/compaction/lz4.log"),
        include_bytes!("../../testdata/compaction/lz4.first"),
        include_bytes!("../../testdata/compaction/lz4.second"),
    ],
    [
        include_bytes!("../../testdata/compaction/zstd.log"),
        include_bytes!("../../testdata/compaction/zstd.first"),
        include_bytes!("../../testdata/compaction/zstd.second"),
    ],
];

#[test]
fn kafka_leaves_the_same_of_the_same_log() {
    for ([log, first, second], codec) in LEFT_BY_KAFKA.into_iter().zip(logs::CODECS) {
        let mut config = config(0..80);
        config.now_ms = 5000;
        config.tombstone_age_max = Duration::from_secs(3);
        config.producers = BTreeMap::from([(77, Offset::new(59))]);
        let ours = pass(log, &config);
        assert_eq!(batches_of(&ours.log), batches_of(first), "{codec:?}");
        assert_eq!(offsets(&ours.log).len(), 25);
        config.now_ms = 9000;
        config.dirty = Offset::new(80)..Offset::new(80);
        let ours = pass(first, &config);
        assert_eq!(batches_of(&ours.log), batches_of(second), "{codec:?}");
        assert!(ours.cleaned.removed_count > 0);
        let emptied = batches_of(second).into_iter().find(|batch| batch.records.is_empty()).unwrap();
        assert_eq!((emptied.base, emptied.last, emptied.producer), (50, 59, (77, 1, 500)));
    }
}

#[test]
fn a_map_for_one_key_still_gets_to_the_end() {
    let mut builder = LogBuilder::default();
    for number in 0..60 {
        builder.push(Compression::Lz4, &[value(number % 9), value(number % 7), value(number % 2)]);
    }
    let (mut log, mut dirty_start, mut pass_count) = (builder.bytes, 0, 0);
    while dirty_start < 180 {
        let mut config = config(dirty_start..180);
        config.key_map_bytes_max = 0;
        let passed = pass(&log, &config);
        assert!(passed.covered_end > dirty_start);
        (log, dirty_start, pass_count) = (passed.log, passed.covered_end, pass_count + 1);
    }
    assert!(pass_count > 20);
    let kept = offsets(&log);
    assert_eq!(kept.len(), 9);
    assert_eq!(kept.last(), Some(&179));
}

#[test]
fn a_tombstone_is_kept_for_its_time_and_then_goes() {
    let mut builder = LogBuilder::default();
    builder.push(Compression::None, &[value(1)]);
    builder.push(Compression::Zstd, &[tombstone(1), value(2)]);
    let pass_at = |log: &[u8], dirty, now_ms| pass(log, &PassConfig { now_ms, ..config(dirty) });

    let first = pass_at(&builder.bytes, 0..3, 5000);
    assert_eq!(offsets(&first.log), [1, 2], "the value goes, the tombstone does not");
    assert_eq!(batches_of(&first.log)[1].horizon_ms, Some(6000));
    assert_eq!(batches_of(&first.log)[1].records[1].time_ms, batches_of(&builder.bytes)[1].records[1].time_ms);

    let early = pass_at(&first.log, 3..3, 5999);
    assert!(!early.cleaned.changed, "neither the tombstone goes nor does its horizon move");
    let late = pass_at(&first.log, 3..3, 6000);
    assert_eq!(offsets(&late.log), [2]);
    assert_eq!(batches_of(&late.log)[1].horizon_ms, Some(6000));

    // Without any time to stay, it still stays for the pass that sees it first.
    let no_time = PassConfig { tombstone_age_max: Duration::ZERO, ..config(0..3) };
    let first = pass(&builder.bytes, &no_time);
    assert_eq!(offsets(&first.log), [1, 2]);
    assert_eq!(offsets(&pass(&first.log, &PassConfig { dirty: Offset::new(3)..Offset::new(3), ..no_time }).log), [2]);
    // And one that stays for ever does not overflow.
    let for_ever = PassConfig { tombstone_age_max: Duration::MAX, ..config(0..3) };
    assert_eq!(batches_of(&pass(&builder.bytes, &for_ever).log)[1].horizon_ms, Some(i64::MAX));
}

#[test]
fn a_horizon_never_makes_a_batch_too_large_to_be_read() {
    let mut builder = LogBuilder::default();
    builder.push(Compression::Zstd, &[value(1), tombstone(2)]);
    builder.push(Compression::None, &[value(3), tombstone(4)]);
    let end = builder.end;
    let records_bytes = |log: &[u8]| {
        let mut decompressor = Decompressor::new(1 << 20);
        let batch = BatchView::parse(log).unwrap();
        decompressor.decompress(Compression::Zstd, batch.records_bytes()).unwrap().len()
    };
    let now_ms = 1 << 40;
    let grown = records_bytes(&pass(&builder.bytes, &PassConfig { now_ms, ..config(0..end) }).log);
    for (room, has_horizon) in [(records_bytes(&builder.bytes), false), (grown - 1, false), (grown, true)] {
        let config = PassConfig { now_ms, records_bytes_max: room, ..config(0..end) };
        let first = pass(&builder.bytes, &config);
        let second = pass(&first.log, &config);
        assert_eq!((first.cleaned.unread, second.cleaned.unread), (vec![], vec![]), "{room}");
        // What is not compressed has no limit.
        let horizons: Vec<_> = batches_of(&second.log).iter().map(|batch| batch.horizon_ms.is_some()).collect();
        assert_eq!(horizons, [has_horizon, true]);
        assert_eq!(second.log, first.log);
    }
}

#[test]
fn a_batch_that_is_covered_in_part_gets_no_horizon_yet() {
    let mut builder = LogBuilder::default();
    builder.push(Compression::None, &[tombstone(1), value(2)]);
    let one_key = PassConfig { key_map_bytes_max: 0, ..config(0..2) };
    let first = pass(&builder.bytes, &one_key);
    assert_eq!((first.covered_end, first.cleaned.changed), (1, false));
    let second = pass(&first.log, &PassConfig { dirty: Offset::new(1)..Offset::new(2), ..one_key });
    assert_eq!(batches_of(&second.log)[0].horizon_ms, Some(1000));
}

#[test]
fn the_last_batch_of_a_producer_keeps_its_header() {
    let mut builder = LogBuilder::default();
    builder.push_of_producer(7, &[value(1)]);
    builder.push_of_producer(7, &[value(1), value(2)]);
    builder.push(Compression::None, &[value(1), value(2)]);
    let producers = BTreeMap::from([(7, Offset::new(2)), (8, Offset::ZERO)]);
    let known = PassConfig { producers, ..config(0..5) };
    let passed = pass(&builder.bytes, &known);
    let batches = batches_of(&passed.log);
    // The first one begins a leader epoch.
    assert_eq!(batches.len(), 3);
    let Batch { base: 1, last: 2, producer: (7, 0, 1), records, .. } = &batches[1] else { panic!("{:?}", batches[1]) };
    assert_eq!(records.len(), 0);
    assert!(!pass(&passed.log, &known).cleaned.changed);
    // Once the producer is forgotten, the header goes.
    assert_eq!(batches_of(&pass(&passed.log, &config(5..5)).log).len(), 2);
}

#[test]
fn the_first_batch_of_a_leader_epoch_keeps_its_header() {
    let mut builder = LogBuilder::default();
    (0..20).for_each(|_| builder.push(Compression::Zstd, &[value(1)]));
    let passed = pass_in_windows(&builder.bytes, &config(0..20), 150);
    let kept = |log: &[u8]| {
        let batches = batches_of(log).into_iter();
        batches.map(|batch| (batch.base, batch.leader_epoch, batch.records.len())).collect::<Vec<_>>()
    };
    assert_eq!(kept(&passed.log), [(0, 3, 0), (6, 4, 0), (12, 5, 0), (18, 6, 0), (19, 6, 1)]);
    assert!(!pass(&passed.log, &config(0..20)).cleaned.changed);
}

#[test]
fn records_without_a_key_go_and_control_batches_stay() {
    let mut builder = LogBuilder::default();
    builder.push(Compression::Gzip, &[Record { key: None, ..value(0) }, value(1)]);
    builder.push_marker(5);
    builder.push(Compression::None, &[Record { key: None, ..value(0) }]);
    let passed = pass(&builder.bytes, &config(0..3));
    assert_eq!(offsets(&passed.log), [1, 2, 3], "the last is not covered");
    assert_eq!((passed.cleaned.removed_count, passed.cleaned.without_key_count), (1, 1));
}

#[test]
fn an_aborted_record_outdates_nothing_and_goes() {
    let mut builder = LogBuilder::default();
    builder.push(Compression::None, &[value(1)]);
    builder.push_transactional(5, &[value(1), value(2)]);
    builder.push_marker(5);
    builder.push_transactional(5, &[value(2)]);
    builder.push_marker(5);
    let mut aborted = AbortedTransactions::default();
    aborted.insert(5, Offset::new(1), Offset::new(3));
    let passed = pass(&builder.bytes, &PassConfig { aborted, ..config(0..6) });
    assert_eq!(offsets(&passed.log), [0, 3, 4, 5]);
}

/// A log with a batch in the middle that holds keys 1 and 3, with outdated records before and tombstones around it.
fn log_with_middle(middle: impl FnOnce(&mut LogBuilder)) -> Vec<u8> {
    let mut builder = LogBuilder::default();
    builder.push(Compression::None, &[value(1), tombstone(4)]);
    middle(&mut builder);
    builder.push(Compression::Lz4, &[value(1), tombstone(3)]);
    builder.bytes
}

#[test]
fn a_batch_that_cannot_be_read_stays_is_reported_and_keeps_the_tombstones_behind_it() {
    let log = log_with_middle(|builder| builder.push_unreadable(Compression::Snappy, 2));
    let first = pass(&log, &config(0..6));
    let reason = UnreadReason::Compression(CompressionError::Corrupt { compression: Compression::Snappy });
    let unread = [Unread { base_offset: Offset::new(2), reason }];
    assert_eq!((first.unread.as_slice(), first.cleaned.unread.as_slice()), (unread.as_slice(), unread.as_slice()));
    assert!(unread[0].to_string().contains("offset 2"));
    let second = pass(&first.log, &PassConfig { now_ms: 1000, ..config(6..6) });
    assert_eq!(second.cleaned.unread, unread);
    // The first record of key 1 goes, the tombstone before the unreadable batch expires, the one behind it does not.
    assert_eq!(second.cleaned.removed_count, 1);
    // Of the first batch the header stays: it begins a leader epoch.
    let (_, first_bytes) = BatchHeader::parse(&second.log).unwrap();
    let rest = &second.log[first_bytes..];
    let (unreadable, batch_bytes) = BatchHeader::parse(rest).unwrap();
    assert_eq!((unreadable.base_offset.get(), unreadable.record_count.get()), (2, 2));
    assert_eq!(offsets(&rest[batch_bytes..]), [4, 5]);
}

#[test]
fn a_batch_that_is_too_large_stays_and_is_reported() {
    let log = log_with_middle(|builder| builder.push(Compression::Zstd, &[value(1), value(3)]));
    let readable = pass(&log, &config(0..6));
    assert_eq!(offsets(&readable.log), [1, 4, 5]);
    let small = PassConfig { records_bytes_max: 20, ..config(0..6) };
    let passed = pass(&log, &small);
    let unread: Vec<_> = passed.cleaned.unread.iter().map(|unread| (unread.base_offset.get(), unread.reason)).collect();
    let too_large = UnreadReason::Compression(CompressionError::TooLarge { bytes_max: 20 });
    assert_eq!(unread, [(2, too_large), (4, too_large)]);
    assert_eq!(offsets(&passed.log), [0, 1, 2, 3, 4, 5], "nothing is known to be outdated");
}

#[test]
fn records_that_are_malformed_or_in_disorder_outdate_nothing() {
    for (damage, expected) in [
        (logs::Malformation::Truncated, UnreadReason::Malformed(BatchError::MalformedRecord { index: 1 })),
        (logs::Malformation::Disordered, UnreadReason::Disordered),
    ] {
        let log = log_with_middle(|builder| builder.push_malformed(&[value(4), value(3)], damage));
        let passed = pass(&log, &config(0..6));
        let unread = [Unread { base_offset: Offset::new(2), reason: expected }];
        assert_eq!((passed.unread, passed.cleaned.unread), (unread.to_vec(), unread.to_vec()));
        assert_eq!(passed.cleaned.removed_count, 1, "key 1 by the last batch, and not key 4 by the malformed one");
    }
}

#[test]
fn a_checksum_that_does_not_hold_ends_the_pass_and_says_where() {
    let mut builder = LogBuilder::default();
    builder.push(Compression::None, &[value(1)]);
    builder.push(Compression::None, &[value(1)]);
    let position = builder.starts[1];
    let mut log = builder.bytes.clone();
    *log.last_mut().unwrap() ^= 1;
    let reason = DamageReason::Batch(BatchError::ChecksumMismatch);
    let damage = Damage { position, expected: Offset::new(1), reason };
    let mut indexer = Indexer::new(config(0..2));
    assert_eq!(indexer.index(&log), Err(damage));
    let mut output = Vec::new();
    assert_eq!(indexer.into_cleaner().clean(&log, &mut output), Err(damage));

    // The same batch twice: the second cannot follow the first.
    let twice = [&builder.bytes[position..], &builder.bytes[position..]].concat();
    let reason = DamageReason::OutOfOrder { found: 1 };
    let damage = Damage { position: twice.len() / 2, expected: Offset::new(2), reason };
    assert_eq!(Indexer::new(config(0..2)).index(&twice), Err(damage));
}
