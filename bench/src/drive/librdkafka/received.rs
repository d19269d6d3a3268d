//! What one consumer was given, and what is wrong with it. Pure.
//!
//! Every offset must be there, as for the raw client. Records come one by one here, and where a batch ends cannot be seen: a
//! record without a stamp counts for the batch whose first record had one, as the raw client sends it.

use std::collections::BTreeMap;
use std::time::Duration;

use millrace_runtime::Moment;

use crate::check::{Entry, Findings, Place, Sequences};
use crate::drive::control::Window;
use crate::drive::live::Gauge;
use crate::drive::plan::{Check, Plan, ReadPlan, Timing};
use crate::measured::{Counts, Series};
use crate::workload::stamp::Stamp;

/// A record as the library gave it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) offset: i64,
    pub(super) value: Option<&'a [u8]>,
    /// Of key and value.
    pub(super) bytes: u64,
    /// When the library was asked for it.
    pub(super) asked: Moment,
    /// When it came.
    pub(super) came: Moment,
}

/// What one consumer has read of its partitions.
pub(super) struct Received {
    spans: Vec<Span>,
    entry: Entry,
    timing: Timing,
    /// Whether stamps are looked at.
    reads_stamps: bool,
    run_id: u32,
    sequences: Sequences,
    pub(super) series: Series,
    pub(super) findings: Findings,
    /// Of keys and values.
    pub(super) bytes: u64,
}

/// What is left to read of a partition.
#[derive(Clone, Copy, Debug)]
struct Span {
    place: Place,
    next: i64,
    /// Exclusive, once it is known.
    end: Option<i64>,
    run: Option<Run>,
}

/// Neighbouring records of one producer, which have not been compared with those before them yet.
#[derive(Clone, Copy, Debug)]
struct Run {
    producer: u64,
    first_sequence: u64,
    record_count: u64,
}

impl Received {
    /// Nothing yet of `places`.
    pub(super) fn new(plan: &Plan, reading: &ReadPlan, places: &[Place]) -> Self {
        let span = |place: &Place| Span {
            place: *place,
            next: reading.starts.get(place).copied().unwrap_or(0),
            end: reading.ends.as_ref().and_then(|ends| ends.get(place).copied()),
            run: None,
        };
        Self {
            spans: places.iter().map(span).collect(),
            entry: reading.entry,
            timing: reading.timing,
            reads_stamps: plan.check != Check::None || reading.timing == Timing::Records,
            run_id: plan.run_id,
            sequences: Sequences::default(),
            series: Series::new(&reading.series),
            findings: Findings::default(),
            bytes: 0,
        }
    }

    /// Where reading begins, of each partition.
    pub(super) fn starts(&self) -> impl Iterator<Item = (Place, i64)> + '_ {
        self.spans.iter().map(|span| (span.place, span.next))
    }

    /// The logs end there, as far as that was not known before.
    pub(super) fn tell_ends(&mut self, ends: &BTreeMap<Place, i64>) {
        for span in &mut self.spans {
            span.end = span.end.or(ends.get(&span.place).copied());
        }
    }

    /// Whether all partitions have been read to their ends.
    pub(super) fn is_complete(&self) -> bool {
        self.spans.iter().all(|span| span.end.is_some_and(|end| span.next >= end))
    }

    /// Takes in a record of the partition with this index.
    pub(super) fn take(&mut self, span_index: usize, record: &Record<'_>, window: &Window, gauge: &Gauge) {
        let span = &mut self.spans[span_index];
        if span.end.is_some_and(|end| record.offset >= end) {
            return;
        }
        if let Some(sentence) = span.walk(record.offset) {
            self.findings.push(sentence);
        }
        let counts = Counts { request_count: 1, record_count: 1, bytes: record.bytes, error_count: 0 };
        self.bytes += record.bytes;
        gauge.add(counts);
        if self.timing == Timing::Requests {
            let latency = record.came - record.asked;
            gauge.time(latency);
            if window.holds(record.came) {
                self.series.take(window.place_of(record.came), latency, counts);
            }
        }
        if !self.reads_stamps {
            return;
        }
        let stamp = record.value.and_then(Stamp::parse);
        if let Some(ended) = self.spans[span_index].extend(stamp) {
            self.compare(span_index, ended);
        }
        let own =
            stamp.filter(|stamp| self.timing == Timing::Records && stamp.producer >> 32 == u64::from(self.run_id));
        if let Some(stamp) = own {
            let due = Moment::from_nanos(stamp.due_nanos);
            let latency: Duration = record.came - due;
            gauge.time(latency);
            if window.holds(due) {
                self.series.take(window.place_of(record.came), latency, counts);
            }
        }
    }

    /// What is missing at the end, a sentence for each partition.
    pub(super) fn tell_missing(&mut self) {
        for span in &self.spans {
            if let Some(end) = span.end.filter(|end| span.next < *end) {
                let (partition, next) = (span.place.partition, span.next);
                self.findings.push(format!("partition {partition}: offsets {next} to {} never came", end - 1));
            }
        }
    }

    /// The series, what is wrong, and behind the last record of each partition and producer.
    pub(super) fn finish(mut self) -> (Series, Findings, BTreeMap<(Place, u64), u64>) {
        for index in 0..self.spans.len() {
            if let Some(run) = self.spans[index].run.take() {
                self.compare(index, run);
            }
        }
        (self.series, self.findings, self.sequences.into_ends())
    }

    fn compare(&mut self, span_index: usize, run: Run) {
        let place = self.spans[span_index].place;
        let seen = self.sequences.see(place, run.producer, run.first_sequence, run.record_count, self.entry);
        if let Err(sentence) = seen {
            self.findings.push(sentence);
        }
    }
}

impl Span {
    /// Moves on behind `offset`; says what is wrong with it.
    fn walk(&mut self, offset: i64) -> Option<String> {
        let (partition, next) = (self.place.partition, self.next);
        self.next = self.next.max(offset.saturating_add(1));
        match offset.cmp(&next) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => {
                Some(format!("partition {partition}: offsets {next} to {} are missing", offset - 1))
            }
            std::cmp::Ordering::Less => Some(format!("partition {partition}: offset {offset} came again")),
        }
    }

    /// Adds a record to the run, or begins the next one and gives the one that has ended.
    fn extend(&mut self, stamp: Option<Stamp>) -> Option<Run> {
        let Some(stamp) = stamp else {
            if let Some(run) = &mut self.run {
                run.record_count += 1;
            }
            return None;
        };
        if let Some(run) = &mut self.run
            && run.producer == stamp.producer
            && run.first_sequence + run.record_count == stamp.sequence
        {
            run.record_count += 1;
            return None;
        }
        self.run.replace(Run { producer: stamp.producer, first_sequence: stamp.sequence, record_count: 1 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { topic_index: 0, partition: 3 };

    fn received(entry: Entry, timing: Timing, end: Option<i64>) -> Received {
        Received {
            spans: vec![Span { place: PLACE, next: 0, end, run: None }],
            entry,
            timing,
            reads_stamps: true,
            run_id: 1,
            sequences: Sequences::default(),
            series: Series::new("consume"),
            findings: Findings::default(),
            bytes: 0,
        }
    }

    fn value(producer: u64, sequence: u64) -> Vec<u8> {
        let mut value = vec![b'A'; 40];
        Stamp { producer, sequence, due_nanos: 4_500 }.write(&mut value);
        value
    }

    fn take(received: &mut Received, offset: i64, value: &[u8]) {
        let window = Window {
            start: Moment::from_nanos(0),
            measured_from: Moment::from_nanos(1_000),
            measured_to: Moment::from_nanos(1_000_000),
        };
        let (asked, came) = (Moment::from_nanos(4_000), Moment::from_nanos(5_000));
        let record = Record { offset, value: Some(value), bytes: 40, asked, came };
        received.take(0, &record, &window, &Gauge::default());
    }

    #[test]
    fn neighbouring_records_are_one_run_whoever_else_is_in_between() {
        let mut received = received(Entry::AtStart, Timing::Requests, Some(6));
        for (offset, producer, sequence) in [(0, 7, 0), (1, 7, 1), (2, 8, 0), (3, 7, 2), (4, 8, 1)] {
            assert!(!received.is_complete());
            take(&mut received, offset, &value(producer, sequence));
        }
        take(&mut received, 5, b"no stamp: the second one of producer 8's batch");
        assert!(received.is_complete());
        let (series, findings, ends) = received.finish();
        assert_eq!(findings.into_sentences(), [""; 0]);
        assert_eq!(ends, BTreeMap::from([((PLACE, 7), 3), ((PLACE, 8), 3)]));
        assert_eq!((series.counts.record_count, series.counts.bytes, series.latency.max()), (6, 240, 1_000));
    }

    #[test]
    fn what_is_missing_or_comes_again_is_told() {
        let mut received = received(Entry::AtStart, Timing::Requests, Some(10));
        take(&mut received, 0, &value(7, 0));
        take(&mut received, 3, &value(7, 3));
        take(&mut received, 3, &value(7, 3));
        take(&mut received, 12, &value(7, 4));
        received.tell_missing();
        let (_, findings, _) = received.finish();
        let sentences = findings.into_sentences();
        let expected = [
            "offsets 1 to 2 are missing",
            "offset 3 came again",
            "2 records of producer 7 are missing from 1 on",
            "offsets 4 to 9 never came",
            "record 3 of producer 7 came again",
        ];
        assert_eq!(sentences.len(), expected.len(), "{sentences:?}");
        for part in expected {
            assert!(sentences.iter().any(|sentence| sentence.contains(part)), "{part}: {sentences:?}");
        }
    }

    #[test]
    fn records_of_this_run_are_timed_from_when_they_were_due() {
        let mut received = received(Entry::Anywhere, Timing::Records, None);
        take(&mut received, 0, &value(1 << 32 | 4, 0));
        take(&mut received, 1, &value(2 << 32 | 4, 0));
        assert!(!received.is_complete(), "no end is known");
        let (series, _, ends) = received.finish();
        assert_eq!((series.latency.len(), series.latency.max()), (1, 500));
        assert_eq!(ends.len(), 2);
    }
}
