//! What a log remembers of idempotent producers (KIP-98): enough to refuse gaps and to recognise what is sent twice.
//!
//! Pure. For each producer id: its epoch and its last five batches, five being how many requests a producer may have in
//! flight. A batch counts from the moment it is appended, before it is durable. The state is a function of the log's
//! batches, so it is rebuilt by reading them.
//!
//! A producer that is not known may start at any sequence: its batches may have been deleted (KIP-360).

use std::collections::{BTreeMap, VecDeque};

use millrace_protocol::batch::BatchHeader;
use thiserror::Error;

use crate::model::Offset;

/// Batches remembered of a producer.
const BATCHES_MAX: usize = 5;
/// Producers remembered of one log. Past it the one that was silent for longest is forgotten, and may then start anywhere.
const PRODUCERS_MAX: usize = 10_000;

/// Why a batch of an idempotent producer is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SequenceError {
    /// A batch before it is missing, or it is older than the remembered ones.
    #[error("sequence {found} where {expected} is next")]
    OutOfOrder {
        /// The batch's first sequence.
        found: i32,
        /// The one that comes next.
        expected: i32,
    },
    /// A newer incarnation of the producer has written already.
    #[error("producer epoch {found} is older than {current}")]
    StaleEpoch {
        /// The batch's epoch.
        found: i16,
        /// The newest one.
        current: i16,
    },
}

/// What to do with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new.
    Append,
    /// It is in the log already.
    Duplicate {
        /// Offset of its first record.
        base_offset: Offset,
        /// Offset behind its last record.
        end_offset: Offset,
    },
}

/// The idempotent producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<i64, Producer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    /// Oldest first. Invariant: never empty, at most [`BATCHES_MAX`].
    batches: VecDeque<Batch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    base_sequence: i32,
    last_sequence: i32,
    base_offset: Offset,
    end_offset: Offset,
}

impl ProducerStates {
    /// Judges a batch that is about to be appended. Batches without a producer id are always new.
    pub fn check(&self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        let Some(producer) = self.producers.get(&header.producer_id.get()) else { return Ok(Verdict::Append) };
        let (epoch, base_sequence) = (header.producer_epoch.get(), header.base_sequence.get());
        if epoch < producer.epoch {
            return Err(SequenceError::StaleEpoch { found: epoch, current: producer.epoch });
        }
        let expected = if epoch == producer.epoch { producer.next_sequence() } else { 0 };
        if epoch == producer.epoch {
            let last_sequence = last_sequence(header);
            let same = |batch: &&Batch| batch.base_sequence == base_sequence && batch.last_sequence == last_sequence;
            if let Some(batch) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate { base_offset: batch.base_offset, end_offset: batch.end_offset });
            }
        }
        if base_sequence == expected {
            Ok(Verdict::Append)
        } else {
            Err(SequenceError::OutOfOrder { found: base_sequence, expected })
        }
    }

    /// Remembers a batch that was appended at `base_offset`.
    pub fn note(&mut self, header: &BatchHeader, base_offset: Offset, end_offset: Offset) {
        let (id, epoch) = (header.producer_id.get(), header.producer_epoch.get());
        if id < 0 {
            return;
        }
        let batch = Batch {
            base_sequence: header.base_sequence.get(),
            last_sequence: last_sequence(header),
            base_offset,
            end_offset,
        };
        let producer = self.producers.entry(id).or_insert_with(|| Producer { epoch, batches: VecDeque::new() });
        if producer.epoch != epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == BATCHES_MAX {
            producer.batches.pop_front();
        }
        producer.batches.push_back(batch);
        if self.producers.len() > PRODUCERS_MAX {
            let silent =
                self.producers.iter().min_by_key(|(_, producer)| producer.last().end_offset).map(|(id, _)| *id);
            silent.and_then(|id| self.producers.remove(&id));
        }
    }

    /// Puts the state that older batches left in front of this one, which was built from later batches of the same log.
    pub fn prepend(&mut self, older: Self) {
        for (id, old) in older.producers {
            match self.producers.get_mut(&id) {
                None => {
                    self.producers.insert(id, old);
                }
                Some(new) if new.epoch == old.epoch => {
                    let room = BATCHES_MAX - new.batches.len();
                    for batch in old.batches.into_iter().rev().take(room) {
                        new.batches.push_front(batch);
                    }
                }
                Some(_) => {}
            }
        }
    }
}

impl Producer {
    fn last(&self) -> &Batch {
        self.batches.back().expect("a producer is known by a batch")
    }

    fn next_sequence(&self) -> i32 {
        advance(self.last().last_sequence, 1)
    }
}

fn last_sequence(header: &BatchHeader) -> i32 {
    advance(header.base_sequence.get(), header.last_offset_delta.get())
}

/// The sequence `count` after `sequence`: 0 follows the largest number.
fn advance(sequence: i32, count: i32) -> i32 {
    sequence.checked_add(count).unwrap_or_else(|| {
        let over = i64::from(sequence) + i64::from(count) - (i64::from(i32::MAX) + 1);
        i32::try_from(over).expect("two 32-bit numbers overflow less than once")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView, ProducerFields};

    fn header(id: i64, epoch: i16, base_sequence: i32, records: i32) -> BatchHeader {
        let producer = Some(ProducerFields { id, epoch, base_sequence });
        let mut builder = BatchBuilder::new(BatchFields { producer, ..BatchFields::default() });
        (0..records).for_each(|_| builder.push(0, None, None));
        *BatchView::parse(&builder.build()).unwrap().header()
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
            note(&mut states, &header(7, 0, number * 2, 2), i64::from(number) * 2);
        }
        for number in 1..6 {
            let (base_offset, end_offset) = (Offset::new(number * 2), Offset::new(number * 2 + 2));
            let again = header(7, 0, i32::try_from(number).unwrap() * 2, 2);
            assert_eq!(states.check(&again), Ok(Verdict::Duplicate { base_offset, end_offset }));
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
    }

    #[test]
    fn sequences_wrap_to_zero() {
        let mut states = ProducerStates::default();
        note(&mut states, &header(7, 0, i32::MAX - 1, 3), 0);
        note(&mut states, &header(7, 0, 1, 1), 3);
        assert_eq!(advance(i32::MAX, 1), 0);
    }

    #[test]
    fn state_built_in_two_halves_is_the_same() {
        let headers: Vec<_> = (0..9).map(|number| header(i64::from(number % 2), 0, number / 2, 1)).collect();
        let (mut whole, mut older, mut newer) =
            (ProducerStates::default(), ProducerStates::default(), ProducerStates::default());
        for (number, header) in headers.iter().enumerate() {
            let base = i64::try_from(number).unwrap();
            whole.note(header, Offset::new(base), Offset::new(base + 1));
            let half = if number < 5 { &mut older } else { &mut newer };
            half.note(header, Offset::new(base), Offset::new(base + 1));
        }
        newer.prepend(older);
        assert_eq!(newer, whole);
    }
}
