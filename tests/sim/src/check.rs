//! Compares what the engine answers with the model.

use std::path::PathBuf;

use millrace_engine::log::{Corruption, Failure};
use millrace_engine::model::{Offset, PartitionId};
use millrace_engine::store::{FirstBatch, Read, ReadError, TimeQuery};
use millrace_protocol::batch::BatchView;
use millrace_runtime::sim::SimEnv;

use crate::batches::{self, TIMESTAMP_BASE};
use crate::broker::Broker;
use crate::dice::Dice;
use crate::model::{Model, Presence, Promise};

/// Reads of single offsets after the whole log was read, per log.
const SINGLE_READS: usize = 12;

/// Queries by time after the whole log was read, per log.
const TIME_QUERIES: usize = 4;

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
    let (start, asked) = model.with(id, |log| (log.start, log.start_asked));
    assert!((start..=asked).contains(&offsets.start), "{id}: starts at {}, not {start} to {asked}", offsets.start);
    if moment == Moment::Start {
        model.with(id, |log| (log.start, log.start_asked) = (offsets.start, offsets.start));
    }
    let certain_end = model.with(id, |log| log.certain_end());
    let sent_end = model.with(id, |log| log.end());
    assert!(offsets.log_end <= sent_end, "{id}: ends at {}, only {sent_end} were sent", offsets.log_end);
    let count = read_whole(broker, model, id, offsets.start, dice).await?;
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
    // A batch's records all have the timestamp that its identity gives.
    let times: Vec<(i64, i64)> = model.with(id, |log| {
        let there = log.sent.iter().filter(|sent| sent.end > log.start);
        there.map(|sent| (batches::timestamp(sent.identity), sent.base.max(log.start).get())).collect()
    });
    let (start, asked) = model.with(id, |log| (log.start, log.start_asked));
    if start != asked {
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
        Err(ReadError::OffsetOutOfRange(_)) if model.with(id, |log| from < log.start_asked) => return Ok(from),
        Err(error) => return Err(admitted(id, error)),
    };
    assert!(from >= start, "{id}: read at {from}, although everything below {start} is deleted");
    let mut bytes = Vec::with_capacity(read.bytes);
    read.slices.iter().for_each(|slice| bytes.extend_from_slice(slice.as_slice()));
    assert_eq!(bytes.len(), read.bytes, "{id}: the answer says how long it is");
    let end = compare(model, id, from, &bytes)?;
    check_limits(model, id, from, &read, bytes_max, first);
    let visible = model.with(id, |log| {
        let count = log.count_below(read.offsets.high_watermark);
        log.promise(count);
        count.checked_sub(1).map_or(Offset::ZERO, |last| log.sent[last].end)
    });
    assert!(end <= visible, "{id}: a reader saw {end}, the high watermark was {visible}");
    Ok(end)
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
