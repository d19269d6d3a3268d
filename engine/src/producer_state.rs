//! What a log remembers of idempotent producers (KIP-98): enough to refuse gaps and to recognise what is sent twice.
//!
//! Pure. For each producer id: its epoch and its last five batches, five being how many requests a producer may have in
//! flight. A batch counts from the moment it is appended, before it is durable. The state is a function of the log's
//! batches, so it is rebuilt by reading them, or by reading a snapshot and the batches behind it.
//!
//! A producer that is not known may start at any sequence: its batches may have been deleted (KIP-360).

use std::collections::BTreeMap;

use millrace_protocol::batch::BatchHeader;
use thiserror::Error;

use crate::format::producers::{self, Producer, ProducerBatch};
use crate::model::{Offset, PartitionId};

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
        /// Its largest timestamp, in milliseconds: what the first answer told of it.
        timestamp: i64,
    },
}

/// The idempotent producers of one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<i64, Producer>,
}

impl ProducerStates {
    /// The state that a snapshot of `partition` holds, and the offset it was made at; `None` when the bytes are no valid
    /// snapshot of it. The batches from that offset on are still to be noted.
    pub fn decode(partition: PartitionId, bytes: &[u8]) -> Option<(Offset, Self)> {
        let (header, producers) = producers::decode(bytes)?;
        let producers = producers.into_iter().map(|producer| (producer.id, producer)).collect();
        (header.partition == partition).then_some((header.offset, Self { producers }))
    }

    /// A snapshot, in whole blocks. `end` is the offset behind the last batch noted.
    ///
    /// # Panics
    /// When a batch behind `end` was noted.
    pub fn encode(&self, partition: PartitionId, end: Offset) -> Vec<u8> {
        producers::encode(partition, end, self.producers.values())
    }

    /// Judges a batch that is about to be appended. Batches without a producer id are always new.
    pub fn check(&self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        self.producers.get(&header.producer_id.get()).map_or(Ok(Verdict::Append), |producer| judge(producer, header))
    }

    /// Remembers a batch that was appended at `base_offset`. The header is the one in the log: a leader that assigns
    /// timestamps has done so.
    pub fn note(&mut self, header: &BatchHeader, base_offset: Offset, end_offset: Offset) {
        let (id, epoch) = (header.producer_id.get(), header.producer_epoch.get());
        if id < 0 {
            return;
        }
        let batch = ProducerBatch {
            base_sequence: header.base_sequence.get(),
            last_sequence: last_sequence(header),
            base_offset,
            end_offset,
            timestamp: header.max_timestamp.get(),
        };
        match self.producers.get_mut(&id) {
            Some(producer) => producer.push(epoch, batch),
            None => {
                self.producers.insert(id, Producer::new(id, epoch, batch));
            }
        }
        if self.producers.len() > PRODUCERS_MAX {
            let silent =
                self.producers.iter().min_by_key(|(_, producer)| producer.last().end_offset).map(|(id, _)| *id);
            silent.and_then(|id| self.producers.remove(&id));
        }
    }

    /// Puts the state that older batches left in front of this one, which was built from later batches of the same log.
    pub fn prepend(&mut self, older: Self) {
        for (id, mut producer) in older.producers {
            if let Some(newer) = self.producers.remove(&id) {
                for batch in newer.batches() {
                    producer.push(newer.epoch, *batch);
                }
            }
            self.producers.insert(id, producer);
        }
    }

    /// Forgets the producers whose last batch has a timestamp below `before_timestamp_ms` (`producer.id.expiration.ms`).
    /// Kafka goes by the batch's own timestamp too, whoever assigned it.
    pub fn expire(&mut self, before_timestamp_ms: i64) {
        self.producers.retain(|_, producer| producer.last().timestamp >= before_timestamp_ms);
    }
}

fn judge(producer: &Producer, header: &BatchHeader) -> Result<Verdict, SequenceError> {
    let (epoch, base_sequence) = (header.producer_epoch.get(), header.base_sequence.get());
    if epoch < producer.epoch {
        return Err(SequenceError::StaleEpoch { found: epoch, current: producer.epoch });
    }
    let mut expected = 0;
    if epoch == producer.epoch {
        expected = advance(producer.last().last_sequence, 1);
        let last_sequence = last_sequence(header);
        let same =
            |batch: &&ProducerBatch| (batch.base_sequence, batch.last_sequence) == (base_sequence, last_sequence);
        if let Some(ProducerBatch { base_offset, end_offset, timestamp, .. }) =
            producer.batches().iter().find(same).copied()
        {
            return Ok(Verdict::Duplicate { base_offset, end_offset, timestamp });
        }
    }
    if base_sequence == expected {
        Ok(Verdict::Append)
    } else {
        Err(SequenceError::OutOfOrder { found: base_sequence, expected })
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
mod tests;
