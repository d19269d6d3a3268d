//! Whether anything was lost, repeated or reordered. Pure: fed with what brokers answered.

use std::collections::BTreeMap;

/// A partition of one of the run's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Which topic, by its place among those of the run.
    pub(crate) topic_index: usize,
    pub(crate) partition: i32,
}

impl Place {
    /// The same partition of the topic that is `count` places behind its own.
    pub(crate) const fn of_later_topic(self, count: usize) -> Self {
        Self { topic_index: self.topic_index + count, ..self }
    }
}

/// What is wrong, one sentence each. Keeps the first of them and counts the rest.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    sentences: Vec<String>,
    left_out_count: u64,
}

impl Findings {
    pub(crate) fn push(&mut self, sentence: String) {
        if self.sentences.len() < FINDINGS_MAX {
            self.sentences.push(sentence);
        } else {
            self.left_out_count += 1;
        }
    }

    /// Adds those of another connection.
    pub(crate) fn merge(&mut self, other: Self) {
        for sentence in other.sentences {
            self.push(sentence);
        }
        self.left_out_count += other.left_out_count;
    }

    /// All of them, and how many there are besides.
    pub(crate) fn into_sentences(mut self) -> Vec<String> {
        if self.left_out_count > 0 {
            self.sentences.push(format!("and {} more of the kind", self.left_out_count));
        }
        self.sentences
    }
}

/// The acknowledged offsets of one partition, as one connection sees them: they rise and do not overlap, because a
/// broker takes a connection's requests in their order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct AcknowledgedOffsets {
    /// Behind the last record that was acknowledged.
    end: i64,
    /// Records that were acknowledged.
    pub(crate) record_count: u64,
}

impl AcknowledgedOffsets {
    /// Takes in an acknowledgement of `record_count` records from `base_offset` on; says what is wrong with it.
    pub(crate) fn see(&mut self, place: Place, base_offset: i64, record_count: u32) -> Result<(), String> {
        self.record_count += u64::from(record_count);
        let partition = place.partition;
        if base_offset < 0 {
            return Err(format!("partition {partition}: {record_count} records were acknowledged without an offset"));
        }
        let expected = self.end;
        self.end = self.end.max(base_offset.saturating_add(i64::from(record_count)));
        if base_offset < expected {
            return Err(format!(
                "partition {partition}: offset {base_offset} was given where {expected} had been reached"
            ));
        }
        Ok(())
    }
}

/// The records of all producers, as one consumer reads them.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    /// Of each partition and producer: the sequence that is due.
    due: BTreeMap<(Place, u64), u64>,
}

/// Whether a producer that has not been seen before may be in the middle of its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// The partition is read from its start: the first record is due.
    AtStart,
    /// Reading began somewhere.
    Anywhere,
}

impl Sequences {
    /// Takes in `record_count` neighbouring records of `producer`, the first of which has `sequence`.
    pub(crate) fn see(
        &mut self,
        place: Place,
        producer: u64,
        sequence: u64,
        record_count: u64,
        entry: Entry,
    ) -> Result<(), String> {
        let first_due = if entry == Entry::AtStart { 0 } else { sequence };
        let due = self.due.entry((place, producer)).or_insert(first_due);
        let expected = *due;
        *due = sequence + record_count;
        let partition = place.partition;
        let connection = producer & u64::from(u32::MAX);
        match sequence.cmp(&expected) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Greater => {
                let count = sequence - expected;
                Err(format!(
                    "partition {partition}: {count} records of producer {connection} are missing from {expected} on"
                ))
            }
            std::cmp::Ordering::Less => Err(format!(
                "partition {partition}: record {sequence} of producer {connection} came again, or late: {expected} was due"
            )),
        }
    }

    /// Behind the last record of each partition and producer.
    pub(crate) fn into_ends(self) -> BTreeMap<(Place, u64), u64> {
        self.due
    }
}

/// What was acknowledged and is not among what was read, a sentence for each partition and producer.
pub(crate) fn compare_ends(
    acknowledged: &BTreeMap<(Place, u64), u64>,
    read: &BTreeMap<(Place, u64), u64>,
    findings: &mut Findings,
) {
    for (key, count) in acknowledged {
        let read_count = read.get(key).copied().unwrap_or(0);
        if read_count < *count {
            let (partition, connection) = (key.0.partition, key.1 & u64::from(u32::MAX));
            let sentence = format!(
                "partition {partition}: of producer {connection}, {count} records were acknowledged and {read_count} read"
            );
            findings.push(sentence);
        }
    }
}

/// More would not be read.
const FINDINGS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { topic_index: 0, partition: 3 };

    #[test]
    fn acknowledged_offsets_rise_without_overlap() {
        let mut offsets = AcknowledgedOffsets::default();
        assert_eq!(offsets.see(PLACE, 10, 5), Ok(()));
        assert_eq!(offsets.see(PLACE, 20, 5), Ok(()), "others write in between");
        assert!(offsets.see(PLACE, 24, 1).unwrap_err().contains("24 was given where 25"));
        assert!(offsets.see(PLACE, -1, 1).unwrap_err().contains("without an offset"));
        assert_eq!(offsets.see(PLACE, 25, 1), Ok(()));
        assert_eq!(offsets.record_count, 13);
    }

    #[test]
    fn gaps_and_repetitions_are_told_apart() {
        let mut sequences = Sequences::default();
        let mut see = |producer, sequence, count| sequences.see(PLACE, producer, sequence, count, Entry::AtStart);
        assert_eq!(see(1, 0, 10), Ok(()));
        assert_eq!(see(2, 0, 10), Ok(()));
        assert_eq!(see(1, 10, 1), Ok(()));
        assert!(see(1, 12, 1).unwrap_err().contains("1 records of producer 1 are missing from 11 on"));
        assert!(see(1, 12, 1).unwrap_err().contains("again"));
        assert!(see(3, 5, 1).unwrap_err().contains("5 records"));
        assert_eq!(sequences.see(PLACE, 4, 5, 1, Entry::Anywhere), Ok(()));
    }

    #[test]
    fn what_is_missing_at_the_end_is_found() {
        let acknowledged = BTreeMap::from([((PLACE, 1), 10), ((PLACE, 2), 5)]);
        let read = BTreeMap::from([((PLACE, 1), 9), ((PLACE, 2), 6)]);
        let mut findings = Findings::default();
        compare_ends(&acknowledged, &read, &mut findings);
        let sentences = findings.into_sentences();
        assert_eq!(sentences.len(), 1);
        assert!(sentences[0].contains("10 records were acknowledged and 9 read"));
    }

    #[test]
    fn many_findings_are_counted() {
        let mut findings = Findings::default();
        for index in 0..250 {
            findings.push(format!("{index}"));
        }
        let sentences = findings.into_sentences();
        assert_eq!(sentences.len(), 101);
        assert_eq!(sentences[100], "and 150 more of the kind");
    }
}
