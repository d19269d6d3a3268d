//! Compares what the engine answers with the model.

use std::path::PathBuf;

use millrace_engine::log::{Corruption, Failure};
use millrace_engine::model::{Offset, PartitionId};
use millrace_engine::store::{FirstBatch, Read, ReadError, TimeQuery};
use millrace_protocol::batch::BatchView;
use millrace_runtime::sim::SimEnv;

use crate::batches::TIMESTAMP_BASE;
use crate::broker::Broker;
use crate::dice::Dice;
use crate::keyed;
use crate::model::{Model, Presence, Promise};

/// Reads of single offsets after the whole log was read, per log.
const SINGLE_READS: usize = 12;

/// Queries by time after the whole log was read, per log.
const TIME_QUERIES: usize = 4;

/// Bytes of one read of a compacted log.
const KEYED_READ_BYTES: usize = 60_000;

/// Why a log could not be compared to its end: it says itself that something is wrong.
#[derive(Debug)]
pub struct Admitted(pub Failure);

/// When a log is compared as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Right after a start: nobody has appended yet.
    Start,
    /// In the middle of a life, while nobody appends.
    Running,
}

/// Compares every log with the model right after a start, and tells the model which of the batches that nobody was
/// promised are there.
///
/// # Panics
/// When a log is not what the model allows, or admits a failure.
pub async fn recovered(broker: &Broker, model: &Model, dice: &Dice) {
    let waits = dice.one_in(2);
    if waits {
        // Otherwise the first reads meet the background that opens logs.
        broker.reports().await;
    }
    for id in model.partitions() {
        if let Err(Admitted(what)) = log(broker, model, id, dice, Moment::Start).await {
            assert!(model.is_suspect(id), "{id}: {what}");
        }
    }
    let damage = broker.damage().await.into_iter();
    let damage: Vec<_> = damage.filter(|(id, _)| !model.is_suspect(*id) && !model.is_deleted(*id)).collect();
    assert_eq!(damage, [], "nothing was damaged");
}

/// Compares one log with the model, and tells the model which of the batches that nobody was promised are there.
///
/// # Panics
/// When the log is not what the model allows.
pub async fn log(broker: &Broker, model: &Model, id: PartitionId, dice: &Dice, moment: Moment) -> Result<(), Admitted> {
    let (certain, presence) = model.with(id, |log| (log.certain, log.presence));
    if presence != Presence::There {
        deleted(broker, model, id, moment);
        return Ok(());
    }
    let known = model.with(id, |log| log.start);
    let offsets = match broker.store(id).offsets(id).await {
        Ok(offsets) => offsets,
        Err(ReadError::UnknownLog) => {
            assert_eq!(certain, 0, "{id}: the log is unknown after the restart");
            model.with(id, |log| log.settle(0));
            return Ok(());
        }
        Err(error) => return Err(admitted(id, error)),
    };
    assert_eq!(offsets.high_watermark, offsets.log_end, "{id}: all that is left may be read");
    see_start(model, id, known, offsets.start);
    if moment == Moment::Start {
        model.with(id, |log| (log.start, log.start_asked) = (offsets.start, offsets.start));
    }
    let certain_end = model.with(id, |log| log.certain_end());
    let sent_end = model.with(id, |log| log.end());
    assert!(offsets.log_end <= sent_end, "{id}: ends at {}, only {sent_end} were sent", offsets.log_end);
    let count = if model.with(id, |log| log.cleanup.compacts()) {
        read_keyed(broker, model, id).await?;
        model.with(id, |log| log.count_below(offsets.log_end))
    } else {
        read_whole(broker, model, id, offsets.start, dice).await?
    };
    assert!(offsets.log_end >= certain_end, "{id}: promised up to {certain_end}, but it ends at {}", offsets.log_end);
    let read_end = model.with(id, |log| log.end_of(count));
    assert_eq!(offsets.log_end, read_end, "{id}: it can be read up to its end");
    let epoch = model.with(id, |log| {
        match moment {
            Moment::Start => log.settle(count),
            Moment::Running => log.settle_running(count),
        }
        log.sent.last().map_or(-1, |batch| batch.epoch.get())
    });
    if offsets.start < offsets.log_end || offsets.start == Offset::ZERO {
        assert_eq!(offsets.leader_epoch.get(), epoch, "{id}: the last batch's leader epoch");
    }
    single_reads(broker, model, id, dice).await?;
    queries_by_time(broker, model, id, dice).await
}

/// Somebody was told of a log's start, and knew of the start `known` when he asked.
fn see_start(model: &Model, id: PartitionId, known: Offset, found: Offset) {
    model.with(id, |log| log.see_start(known, found)).unwrap_or_else(|wrong| panic!("{id}: {wrong}"));
}

/// A log that was deleted is unknown, at the latest from the second start on, or when it was deleted once more.
fn deleted(broker: &Broker, model: &Model, id: PartitionId, moment: Moment) {
    let store = broker.store(id);
    if !store.contains(id) {
        let found = if moment == Moment::Start { Presence::Gone } else { Presence::Deleted };
        model.with(id, |log| log.presence = log.presence.max(found));
        return;
    }
    assert_eq!(model.with(id, |log| log.presence), Presence::Deleted, "{id}: was gone, and is back");
    assert_eq!(moment, Moment::Start, "{id}: was deleted");
    // As the broker would, whose metadata knows that it is deleted.
    store.delete(id);
}

fn admitted(id: PartitionId, error: ReadError) -> Admitted {
    match error {
        ReadError::Offline(failure) => Admitted(failure),
        ReadError::UnknownLog => Admitted(Failure::Deleted),
        ReadError::Corrupt(corruption) => Admitted(Failure::Corrupt(corruption)),
        error @ ReadError::OffsetOutOfRange(_) => panic!("{id}: {error}"),
    }
}

/// Reads from the start to the end and returns how many batches there are.
async fn read_whole(
    broker: &Broker,
    model: &Model,
    id: PartitionId,
    start: Offset,
    dice: &Dice,
) -> Result<usize, Admitted> {
    let mut from = start;
    loop {
        let bytes_max = dice.pick(&[1, 1_000, 20_000, 400_000]);
        let next = read_once(broker, model, id, from, bytes_max, FirstBatch::WholeEvenIfLarger).await?;
        if next == from {
            return Ok(model.with(id, |log| log.count_below(from)));
        }
        from = next;
    }
}

async fn single_reads(broker: &Broker, model: &Model, id: PartitionId, dice: &Dice) -> Result<(), Admitted> {
    let end = model.with(id, |log| log.end());
    for _ in 0..SINGLE_READS {
        let from = Offset::new(dice_offset(dice, end));
        let bytes_max = dice.pick(&[1, 300, 5_000, 70_000, 1_000_000]);
        let first = if dice.one_in(3) { FirstBatch::WithinLimit } else { FirstBatch::WholeEvenIfLarger };
        read_once(broker, model, id, from, bytes_max, first).await?;
    }
    Ok(())
}

async fn queries_by_time(broker: &Broker, model: &Model, id: PartitionId, dice: &Dice) -> Result<(), Admitted> {
    // All records of a batch have its timestamp.
    let times: Vec<(i64, i64)> = model.with(id, |log| {
        let there = log.sent.iter().filter(|sent| sent.end > log.start);
        there.map(|sent| (sent.timestamp(), sent.base.max(log.start).get())).collect()
    });
    let (start, may_move) =
        model.with(id, |log| (log.start, log.start != log.start_asked || log.cleanup.may_lose_records()));
    if may_move {
        return Ok(());
    }
    let largest = times.iter().map(|(time, _)| *time).max();
    // The largest timestamp is that of whole segments, so of deleted records too.
    let first = usize::from(start > Offset::ZERO);
    for number in first..TIME_QUERIES {
        let span = largest.map_or(0, |largest| largest - TIMESTAMP_BASE);
        let wanted = TIMESTAMP_BASE + dice_offset(dice, Offset::new(span + 1));
        let (query, wanted) =
            if number == 0 { (TimeQuery::Largest, largest) } else { (TimeQuery::AtOrAfter(wanted), Some(wanted)) };
        let expected = times.iter().find(|(time, _)| Some(*time) >= wanted).copied();
        let found = broker.store(id).offset_by_time(id, query).await.map_err(|error| admitted(id, error))?;
        let found = found.map(|found| (found.timestamp, found.offset.get()));
        assert_eq!(found, expected, "{id}: asked for {query:?}");
    }
    Ok(())
}

/// An offset up to `end`, the end itself included.
pub fn dice_offset(dice: &Dice, end: Offset) -> i64 {
    let bound = u64::try_from(end.get()).expect("offsets are not negative") + 1;
    i64::try_from(dice.below(bound)).expect("it is at most an offset")
}

/// Reads once and compares every batch of the answer. What was read counts as promised from then on. Returns the offset
/// behind the last batch.
pub async fn read_once(
    broker: &Broker,
    model: &Model,
    id: PartitionId,
    from: Offset,
    bytes_max: usize,
    first: FirstBatch,
) -> Result<Offset, Admitted> {
    let (cuts, start) = model.with(id, |log| (log.cuts, log.start));
    let result = broker.store(id).read(id, from, bytes_max, first).await;
    if model.with(id, |log| log.cuts != cuts && log.acknowledged == Promise::Nothing) {
        // It may have read what is gone by now.
        return Ok(from);
    }
    let read = match result {
        Ok(read) => read,
        Err(ReadError::OffsetOutOfRange(_)) if model.with(id, |log| log.acknowledged == Promise::Nothing) => {
            return Ok(from);
        }
        Err(ReadError::OffsetOutOfRange(offsets)) if from < offsets.start => {
            see_start(model, id, start, offsets.start);
            return Ok(offsets.start);
        }
        Err(error) => return Err(admitted(id, error)),
    };
    assert!(from >= start, "{id}: read at {from}, although everything below {start} is deleted");
    see_start(model, id, start, read.offsets.start);
    let mut bytes = Vec::with_capacity(read.bytes);
    read.slices.iter().for_each(|slice| bytes.extend_from_slice(slice.as_slice()));
    assert_eq!(bytes.len(), read.bytes, "{id}: the answer says how long it is");
    let compacts = model.with(id, |log| log.cleanup.compacts());
    let end = if compacts {
        let whole = first == FirstBatch::WholeEvenIfLarger;
        let answer = compare_keyed(model, id, from, &bytes, whole.then_some(read.offsets.high_watermark))?;
        let alone = whole && answer.batch_count == 1;
        assert!(bytes.len() <= bytes_max || alone, "{id}: {} bytes of {bytes_max}", bytes.len());
        answer.end
    } else {
        let end = compare(model, id, from, &bytes)?;
        check_limits(model, id, from, &read, bytes_max, first);
        end
    };
    let visible = model.with(id, |log| {
        let count = log.count_below(read.offsets.high_watermark);
        log.promise(count);
        count.checked_sub(1).map_or(Offset::ZERO, |last| log.sent[last].end)
    });
    assert!(end <= visible, "{id}: a reader saw {end}, the high watermark was {visible}");
    Ok(end)
}

/// Reads a compacted log from its start to its end and returns the offsets of its records.
pub async fn read_keyed(broker: &Broker, model: &Model, id: PartitionId) -> Result<Vec<Offset>, Admitted> {
    let mut from = model.with(id, |log| log.start);
    let mut there = Vec::new();
    loop {
        let known = model.with(id, |log| log.start);
        let first = FirstBatch::WholeEvenIfLarger;
        let read = match broker.store(id).read(id, from, KEYED_READ_BYTES, first).await {
            Ok(read) => read,
            Err(ReadError::OffsetOutOfRange(offsets)) if from < offsets.start => {
                see_start(model, id, known, offsets.start);
                from = offsets.start;
                continue;
            }
            Err(error) => return Err(admitted(id, error)),
        };
        let bytes: Vec<u8> = read.slices.iter().flat_map(|slice| slice.as_slice().to_vec()).collect();
        let answer = compare_keyed(model, id, from, &bytes, Some(read.offsets.high_watermark))?;
        there.extend(answer.there);
        if answer.batch_count == 0 {
            return Ok(there);
        }
        from = answer.end;
    }
}

/// Compares the answer to a read of a compacted log. What lies between its batches has to be of no use any more, and when
/// it is empty everything up to `end`, if that is known.
fn compare_keyed(
    model: &Model,
    id: PartitionId,
    from: Offset,
    bytes: &[u8],
    end: Option<Offset>,
) -> Result<keyed::Answer, Admitted> {
    model.with(id, |log| {
        let answer = keyed::compare(log, from, bytes)
            .map_err(|what| Admitted(Failure::Corrupt(Corruption { file: PathBuf::new(), position: 0, what })))?;
        let end = end.filter(|_| bytes.is_empty()).unwrap_or(answer.end);
        keyed::check_gone(log, from, end, &answer.there).unwrap_or_else(|wrong| panic!("{id}: {wrong}"));
        Ok(answer)
    })
}

/// Compares the batches of an answer, one after the other. A batch whose checksum does not hold says itself that it is
/// damaged: every client checks that.
fn compare(model: &Model, id: PartitionId, from: Offset, bytes: &[u8]) -> Result<Offset, Admitted> {
    let mut rest = bytes;
    let mut next = from;
    while !rest.is_empty() {
        let batch = BatchView::parse(rest).map_err(|error| {
            let what = format!("a reader got a damaged batch at {next}: {error}");
            Admitted(Failure::Corrupt(Corruption { file: PathBuf::new(), position: 0, what }))
        })?;
        rest = &rest[batch.bytes().len()..];
        next = model.with(id, |log| {
            let index = log.find(next).unwrap_or_else(|| panic!("{id}: a batch at {next}, where none was sent"));
            let sent = &log.sent[index];
            assert!(
                sent.is_stored_as(batch.bytes()),
                "{id}: at {next} should be batch {} of {} bytes at {}, but there is one of {} bytes at {} with epoch {}",
                sent.identity,
                sent.bytes.len(),
                sent.base,
                batch.bytes().len(),
                batch.header().base_offset,
                batch.header().leader_epoch,
            );
            sent.end
        });
    }
    Ok(next)
}

fn check_limits(
    model: &Model,
    id: PartitionId,
    from: Offset,
    read: &Read<SimEnv>,
    bytes_max: usize,
    first: FirstBatch,
) {
    let first_bytes = model.with(id, |log| log.find(from).map(|index| log.sent[index].bytes.len()));
    let first_bytes = first_bytes.filter(|_| from < read.offsets.high_watermark);
    let Some(first_bytes) = first_bytes else {
        return assert_eq!(read.bytes, 0, "{id}: nothing may be read at {from}");
    };
    let fits = first_bytes <= bytes_max;
    if fits {
        assert!((first_bytes..=bytes_max).contains(&read.bytes), "{id}: {} bytes of {bytes_max}", read.bytes);
    } else if first == FirstBatch::WholeEvenIfLarger {
        assert_eq!(read.bytes, first_bytes, "{id}: the first batch alone, whole");
    } else {
        assert_eq!(read.bytes, 0, "{id}: the first batch is over the limit");
    }
}
