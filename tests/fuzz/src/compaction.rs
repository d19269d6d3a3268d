//! Target `compaction`: a pass over arbitrary bytes, or over a log of arbitrary shape, in windows of any size.
//!
//! Byte 0 chooses: an odd one takes the rest as the log itself, behind 40 bytes that say how the pass goes. A pass ends with damage or leaves a log in which batches
//! keep their places, records keep their content, the newest value of each key is there, and nothing at or past the
//! covered end is missing. What a pass leaves can be compacted again.

use std::collections::BTreeMap;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use millrace_engine::compaction::{AbortedTransactions, Cleaner, Damage, Indexer, PassConfig};
use millrace_engine::model::Offset;
use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{BatchView, Records};

use crate::Reached;
use crate::shape::ShapedLog;

/// Limits of decompression, in bytes.
const RECORDS_BYTES_MAX: [usize; 4] = [0, 100, 4096, 1 << 20];
const KEY_MAP_BYTES_MAX: usize = 24 * 64;

/// So many bytes of an input say what a pass is told.
pub const PASS_BYTES: usize = 40;

/// What a pass is told.
#[derive(Arbitrary, Clone, Debug)]
struct Pass {
    dirty_start: u8,
    dirty_end: Option<u8>,
    key_slots: u8,
    now_ms: i32,
    tombstone_age_ms: u16,
    records_bytes_max: u8,
    /// The last offset of producers 0 to 3.
    producers: [Option<u8>; 4],
    /// Producer, first offset, length.
    aborted: Vec<(u8, u8, u8)>,
    window_bytes: u16,
}

/// A record, with the time by which it is known.
type Content = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// A batch taken apart.
struct Parsed<'a> {
    view: BatchView<'a>,
    /// `None` if they cannot be read.
    records: Option<Vec<Content>>,
}

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    let Some((choice, rest)) = data.split_first() else { return Reached::Refusal };
    let Some((told, rest)) = rest.split_at_checked(PASS_BYTES) else { return Reached::Refusal };
    let Ok(pass) = Pass::arbitrary(&mut Unstructured::new(told)) else { return Reached::Refusal };
    let (log, end) = if choice & 1 == 1 {
        (rest.to_vec(), i64::MAX)
    } else {
        let Ok(shaped) = ShapedLog::arbitrary(&mut Unstructured::new(rest)) else { return Reached::Refusal };
        shaped.bytes(i64::from(shaped.start % 4))
    };
    let mut output = Vec::new();
    let Some(covered_end) = pass.run(&log, end, &mut output) else { return Reached::Refusal };
    pass.check(&log, &output, covered_end);
    let mut again = Vec::new();
    assert!(pass.run(&output, end, &mut again).is_some(), "a pass leaves a log");
    if log.is_empty() { Reached::Refusal } else { Reached::Content }
}

impl Pass {
    fn config(&self, end: i64) -> PassConfig {
        let dirty_end = self.dirty_end.map_or(end, |dirty_end| end.min(i64::from(dirty_end)));
        let dirty_start = i64::from(self.dirty_start).min(dirty_end);
        let producers = (0_i64..).zip(self.producers);
        let mut aborted = AbortedTransactions::default();
        for (id, first, length) in &self.aborted {
            let (first, id) = (i64::from(*first), i64::from(*id % 4));
            aborted.insert(id, Offset::new(first), Offset::new(first + 1 + i64::from(*length)));
        }
        PassConfig {
            dirty: Offset::new(dirty_start)..Offset::new(dirty_end),
            now_ms: i64::from(self.now_ms),
            tombstone_age_max: Duration::from_millis(u64::from(self.tombstone_age_ms)),
            producers: producers
                .filter_map(|(id, last)| last.map(|last| (id, Offset::new(i64::from(last)))))
                .collect::<BTreeMap<_, _>>(),
            aborted,
            key_map_bytes_max: usize::from(self.key_slots) * 24 % KEY_MAP_BYTES_MAX,
            records_bytes_max: self.records_bytes_max(),
            hash_key: [1, 2],
        }
    }

    fn records_bytes_max(&self) -> usize {
        RECORDS_BYTES_MAX[usize::from(self.records_bytes_max % 4)]
    }

    /// One pass; gives the covered end, or `None` if it met damage.
    fn run(&self, log: &[u8], end: i64, output: &mut Vec<u8>) -> Option<i64> {
        let config = self.config(end);
        let (dirty, slots) = (config.dirty.clone(), (config.key_map_bytes_max / 24).max(2));
        let mut indexer = Indexer::new(config);
        self.drive(log, |window| {
            let indexed = indexer.index(window)?;
            Ok((indexed.consumed_bytes, indexed.needed_bytes.filter(|_| !indexed.is_done), indexed.is_done))
        })?;
        let mut cleaner: Cleaner = indexer.into_cleaner();
        assert!(cleaner.key_count() < slots, "the map keeps to its memory");
        let covered_end = cleaner.covered_end();
        assert!(dirty.start <= covered_end && covered_end <= dirty.end, "a pass covers a part of what is dirty");
        let mut changed = false;
        let consumed = self.drive(log, |window| {
            let cleaned = cleaner.clean(window, output)?;
            changed |= cleaned.changed;
            Ok((cleaned.consumed_bytes, cleaned.needed_bytes, false))
        })?;
        assert_eq!(changed, log[..consumed] != **output, "a change is told");
        Some(covered_end.get())
    }

    /// Hands the log in, in windows that grow where a batch does not fit; gives what was consumed of it, or `None` after
    /// damage.
    fn drive(
        &self,
        log: &[u8],
        mut step: impl FnMut(&[u8]) -> Result<(usize, Option<usize>, bool), Damage>,
    ) -> Option<usize> {
        let (mut position, mut window_bytes) = (0_usize, usize::from(self.window_bytes).max(64));
        loop {
            let window = &log[position..log.len().min(position.saturating_add(window_bytes))];
            let (consumed, needed, is_done) = match step(window) {
                Ok(outcome) => outcome,
                Err(damage) => {
                    assert!(damage.position < window.len(), "damage lies in the window");
                    return None;
                }
            };
            assert!(consumed <= window.len());
            position += consumed;
            let at_end = position + window[consumed..].len() == log.len();
            if is_done || position == log.len() || (consumed == 0 && at_end) {
                return Some(position);
            }
            assert!(needed.is_none_or(|needed| needed > window.len() - consumed), "what is needed is not there");
            window_bytes =
                if consumed == 0 { needed.expect("no batch fitted").max(window_bytes) } else { window_bytes };
        }
    }

    fn parse<'a>(&self, log: &'a [u8]) -> Vec<Parsed<'a>> {
        let (mut batches, mut rest) = (Vec::new(), log);
        let mut decompressor = Decompressor::new(self.records_bytes_max());
        while let Ok(view) = BatchView::parse(rest) {
            rest = &rest[view.bytes().len()..];
            let compression = view.header().attributes().compression().expect("a checked batch has a known codec");
            let bytes = decompressor.decompress(compression, view.records_bytes()).ok();
            let records = bytes.and_then(|bytes| contents(&view, bytes));
            batches.push(Parsed { view, records });
        }
        batches
    }

    /// What a pass promises of its output.
    fn check(&self, log: &[u8], output: &[u8], covered_end: i64) {
        let (input, output) = (self.parse(log), self.parse(output));
        let kept: BTreeMap<i64, &Parsed<'_>> = output.iter().map(|batch| (base(batch), batch)).collect();
        assert_eq!(kept.len(), output.len());
        assert!(output.windows(2).all(|pair| base(&pair[0]) < base(&pair[1])), "batches stay in order");
        let known: BTreeMap<i64, &Parsed<'_>> = input.iter().map(|batch| (base(batch), batch)).collect();
        for batch in &output {
            let (found, original) = (batch.view.header(), known[&base(batch)].view.header());
            assert_eq!(found.last_offset(), original.last_offset());
            assert_eq!(found.leader_epoch, original.leader_epoch);
            assert_eq!((found.producer_id, found.producer_epoch), (original.producer_id, original.producer_epoch));
            assert_eq!(found.base_sequence, original.base_sequence);
        }
        for batch in &input {
            let header = batch.view.header();
            let is_visible = !header.attributes().is_control() && !header.attributes().is_transactional();
            let is_unreadable = batch.records.is_none() && header.record_count.get() > 0 && is_visible;
            if header.attributes().is_control() || base(batch) >= covered_end || is_unreadable {
                assert_eq!(kept[&base(batch)].view.bytes(), batch.view.bytes(), "it stays as it is");
            }
        }
        check_records(&input, &output, covered_end);
    }
}

fn check_records(input: &[Parsed<'_>], output: &[Parsed<'_>], covered_end: i64) {
    let records = |batches: &[Parsed<'_>]| -> BTreeMap<i64, Content> {
        let records = batches.iter().filter_map(|batch| batch.records.clone()).flatten();
        records.map(|record| (record.0, record)).collect()
    };
    let (before, after) = (records(input), records(output));
    for (offset, record) in &after {
        assert_eq!(before.get(offset), Some(record), "a record stays what it was");
    }
    let mut newest = BTreeMap::new();
    for batch in input.iter().filter(|batch| !batch.view.header().attributes().is_control()) {
        let is_transactional = batch.view.header().attributes().is_transactional();
        for (offset, _, key, value) in batch.records.iter().flatten() {
            if *offset >= covered_end {
                // The records of an aborted transaction go as a whole.
                assert!(is_transactional || after.contains_key(offset), "record {offset} is not covered");
            } else if let Some(key) = key {
                newest.insert(key.clone(), (*offset, value.is_some() && !is_transactional));
            }
        }
    }
    for (offset, _) in newest.into_values().filter(|(_, must_stay)| *must_stay) {
        assert!(after.contains_key(&offset), "record {offset} is the newest with its key");
    }
}

fn base(batch: &Parsed<'_>) -> i64 {
    batch.view.header().base_offset.get()
}

/// All records; `None` when one of them is malformed or out of order.
fn contents(view: &BatchView<'_>, bytes: &[u8]) -> Option<Vec<Content>> {
    let mut contents: Vec<Content> = Vec::new();
    for record in Records::new(view.header(), bytes) {
        let record = record.ok()?;
        if contents.last().is_some_and(|last| last.0 >= record.offset) {
            return None;
        }
        let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
        contents.push((record.offset, record.timestamp, key, value));
    }
    Some(contents)
}
