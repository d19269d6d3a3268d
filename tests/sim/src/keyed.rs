//! Batches of logs that are compacted: records with keys, and what may be left of them. Pure.
//!
//! A record may be gone only when a later one has its key, or when it is a tombstone whose time is over. What is there is
//! as it was sent: same offset, time, key and value, in a batch with the same first and last offset.

use std::collections::BTreeMap;
use std::rc::Rc;

use millrace_engine::model::Offset;
use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchRewriter, BatchView};

use crate::batches::BYTES_MIN;
use crate::dice::{Dice, mix};
use crate::model::{LogModel, Sent};

/// Different keys of a log.
const KEYS: usize = 12;
/// Codes of the codecs, and none most of the time.
const CODECS: [i16; 8] = [0, 0, 0, 0, 0, 2, 3, 4];
/// The most that the records of a batch take.
const RECORDS_BYTES_MAX: usize = 1 << 22;

/// A record with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyed {
    /// The key, one byte.
    pub key: u8,
    /// The value; `None` is a tombstone.
    pub value: Option<Rc<[u8]>>,
}

/// For each key the offset of the newest record.
pub type Newest = BTreeMap<u8, Offset>;

/// A batch of about `bytes`, sent at `now_ms`: one record or a few, some of them tombstones, sometimes compressed.
pub fn draw(dice: &Dice, identity: u64, now_ms: i64, bytes: usize) -> (Rc<[u8]>, Rc<[Keyed]>) {
    let count = dice.size(1, 6);
    let value_bytes = bytes.saturating_sub(BYTES_MIN) / count;
    let record = |number: usize| {
        let key = u8::try_from(dice.index(KEYS)).expect("few keys");
        let seed = mix(identity ^ mix(u64::try_from(number).expect("few records")));
        let value = (!dice.one_in(5)).then(|| seed.to_le_bytes().repeat(1 + value_bytes / 8).into());
        Keyed { key, value }
    };
    let records: Rc<[Keyed]> = (0..count).map(record).collect();
    (build(&records, now_ms, dice.pick(&CODECS)).into(), records)
}

/// The batch of these records.
fn build(records: &[Keyed], now_ms: i64, codec: i16) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    for Keyed { key, value } in records {
        builder.push(now_ms, Some(&[*key]), value.as_deref());
    }
    let plain = builder.build();
    if codec == 0 {
        return plain;
    }
    let plain = BatchView::parse(&plain).expect("the builder builds valid batches");
    let mut header = *plain.header();
    header.attributes.set(codec);
    let (mut rewriter, mut bytes) = (BatchRewriter::default(), Vec::new());
    rewriter.begin(&header, None);
    for record in plain.records().expect("it is not compressed") {
        rewriter.push(&record.expect("the builder builds valid records"));
    }
    rewriter.finish(&mut bytes).expect("the codecs work");
    bytes
}

/// The newest record of each key.
pub fn newest(sent: &[Sent]) -> Newest {
    sent.iter().flat_map(offsets).map(|(offset, record)| (record.key, offset)).collect()
}

/// Whether compaction may have left nothing of a batch.
pub fn may_be_empty(batch: &Sent, newest: &Newest) -> bool {
    offsets(batch).all(|(offset, record)| record.value.is_none() || newest[&record.key] > offset)
}

fn offsets(batch: &Sent) -> impl Iterator<Item = (Offset, &Keyed)> {
    (batch.base.get()..).map(Offset::new).zip(batch.keyed.iter())
}

/// What a reader got of a compacted log.
#[derive(Debug, Default)]
pub struct Answer {
    /// Offsets of its records.
    pub there: Vec<Offset>,
    /// Its batches.
    pub batch_count: usize,
    /// Offset behind the last batch; where it was read when there is none.
    pub end: Offset,
}

/// Compares the batches of an answer to a read at `from` with what was sent. An error is a batch that says itself that it is
/// damaged.
///
/// # Panics
/// When the answer holds anything that was not sent so.
pub fn compare(log: &LogModel, from: Offset, bytes: &[u8]) -> Result<Answer, String> {
    let mut answer = Answer { end: from, ..Answer::default() };
    let mut decompressor = Decompressor::new(RECORDS_BYTES_MAX);
    let mut rest = bytes;
    while !rest.is_empty() {
        let batch = BatchView::parse(rest).map_err(|error| format!("damaged batch at {}: {error}", answer.end))?;
        rest = &rest[batch.bytes().len()..];
        let base = Offset::new(batch.header().base_offset.get());
        let sent = log.find(base).map(|index| &log.sent[index]).filter(|sent| sent.base == base);
        let sent = sent.unwrap_or_else(|| panic!("a batch at {base}, where none was sent"));
        assert!(sent.end > answer.end, "a batch at {base}, but {} was next", answer.end);
        assert_eq!(batch.header().last_offset() + 1, sent.end.get(), "the batch at {base} keeps its offsets");
        assert_eq!(batch.header().leader_epoch.get(), sent.epoch.get(), "the batch at {base} keeps its epoch");
        for record in decompressor.records(&batch).expect("what is whole can be decompressed") {
            let record = record.expect("what is whole has whole records");
            let number = usize::try_from(record.offset - base.get()).expect("a record lies in its batch");
            let Keyed { key, value } = &sent.keyed[number];
            assert_eq!(record.key, Some(&[*key][..]), "the key at {}", record.offset);
            assert!(record.value == value.as_deref(), "the value at {} changed", record.offset);
            assert_eq!(record.timestamp, sent.timestamp(), "the time at {}", record.offset);
            answer.there.push(Offset::new(record.offset));
        }
        answer.end = sent.end;
        answer.batch_count += 1;
    }
    assert!(answer.there.is_sorted_by(|one, next| one < next), "offsets rise");
    Ok(answer)
}

/// Looks whether every record of `from..end` that is not `there` may be gone.
pub fn check_gone(log: &LogModel, from: Offset, end: Offset, there: &[Offset]) -> Result<(), String> {
    let newest = newest(&log.sent);
    let first = log.sent.partition_point(|batch| batch.end <= from);
    for batch in log.sent[first..].iter().take_while(|batch| batch.base < end) {
        for (offset, record) in offsets(batch).filter(|(offset, _)| (from..end).contains(offset)) {
            if there.binary_search(&offset).is_ok() || newest[&record.key] > offset {
                continue;
            }
            if record.value.is_some() {
                return Err(format!("the newest value of key {} is gone, it was at {offset}", record.key));
            }
            if !log.cleanup.tombstone_may_be_gone(batch.timestamp()) {
                return Err(format!("the tombstone of key {} at {offset} is gone too early", record.key));
            }
        }
    }
    Ok(())
}

/// Looks whether a record that is `there` should be gone: another below `end`, up to which everything was compacted, has
/// its key.
pub fn check_left(log: &LogModel, end: Offset, there: &[Offset]) -> Result<(), String> {
    let compacted: Vec<_> = log.sent.iter().take_while(|batch| batch.end <= end).cloned().collect();
    let newest = newest(&compacted);
    for (offset, record) in compacted.iter().flat_map(offsets) {
        if there.binary_search(&offset).is_ok() && newest[&record.key] > offset {
            let by = newest[&record.key];
            return Err(format!("the record at {offset} is still there, {by} has its key {}", record.key));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cleanup::tests::config;
    use crate::model::LogModel;
    use millrace_engine::log::config::CleanupPolicy;
    use millrace_engine::model::LeaderEpoch;

    const NOW_MS: i64 = 1_000;

    /// Batches of one record each with these keys; `None` as a value is a tombstone.
    fn log(records: &[(u8, Option<&[u8]>)]) -> LogModel {
        let mut log = LogModel::default();
        log.configure(&config(CleanupPolicy::Compact, None, None));
        for ((key, value), offset) in records.iter().zip(0..) {
            let keyed: Rc<[Keyed]> = [Keyed { key: *key, value: value.map(Rc::from) }].into();
            let mut bytes = build(&keyed, NOW_MS, 0);
            bytes[..8].copy_from_slice(&i64::to_be_bytes(offset));
            let (base, end) = (Offset::new(offset), Offset::new(offset + 1));
            let identity = offset.unsigned_abs();
            let epoch = LeaderEpoch::new(0);
            log.sent.push(Sent { identity, bytes: bytes.into(), keyed, base, end, epoch, follows: None });
        }
        log
    }

    fn offsets(numbers: &[i64]) -> Vec<Offset> {
        numbers.iter().copied().map(Offset::new).collect()
    }

    fn gone(log: &LogModel, there: &[i64]) -> Result<(), String> {
        check_gone(log, Offset::ZERO, log.end(), &offsets(there))
    }

    #[test]
    fn only_what_was_replaced_may_be_gone() {
        let log = log(&[(1, Some(b"a")), (2, Some(b"b")), (1, Some(b"c"))]);
        assert_eq!(gone(&log, &[1, 2]), Ok(()));
        assert_eq!(gone(&log, &[0, 1, 2]), Ok(()));
        assert!(gone(&log, &[0, 1]).unwrap_err().contains("newest value of key 1 is gone"));
        assert!(gone(&log, &[2]).unwrap_err().contains("newest value of key 2 is gone"));
    }

    #[test]
    fn a_tombstone_stays_for_its_time() {
        let mut log = log(&[(1, Some(b"a")), (1, None)]);
        log.cleanup.advance(NOW_MS + 19);
        assert!(gone(&log, &[]).unwrap_err().contains("too early"));
        log.cleanup.advance(NOW_MS + 20);
        assert_eq!(gone(&log, &[]), Ok(()));
    }

    #[test]
    fn what_was_not_compacted_is_noticed() {
        let log = log(&[(1, Some(b"a")), (2, Some(b"b")), (1, Some(b"c"))]);
        assert!(check_left(&log, Offset::new(3), &offsets(&[0, 1, 2])).unwrap_err().contains("still there"));
        assert_eq!(check_left(&log, Offset::new(2), &offsets(&[0, 1, 2])), Ok(()), "what replaces it is not compacted");
        assert_eq!(check_left(&log, Offset::new(3), &offsets(&[1, 2])), Ok(()));
    }

    #[test]
    #[should_panic(expected = "the value at 1 changed")]
    fn a_value_that_changed_is_noticed() {
        let (sent, other) = (log(&[(1, Some(b"a")), (2, Some(b"b"))]), log(&[(1, Some(b"a")), (2, Some(b"x"))]));
        let _ = compare(&sent, Offset::ZERO, &other.sent[1].bytes);
    }

    #[test]
    #[should_panic(expected = "where none was sent")]
    fn a_batch_that_nobody_sent_is_noticed() {
        let (sent, other) = (log(&[(1, Some(b"a"))]), log(&[(1, Some(b"a")), (2, Some(b"x"))]));
        let _ = compare(&sent, Offset::ZERO, &other.sent[1].bytes);
    }

    #[test]
    #[should_panic(expected = "was next")]
    fn offsets_that_fall_are_noticed() {
        let sent = log(&[(1, Some(b"a")), (2, Some(b"b"))]);
        let bytes = [&sent.sent[1].bytes[..], &sent.sent[0].bytes[..]].concat();
        let _ = compare(&sent, Offset::ZERO, &bytes);
    }
}
