//! Reads a journal back: which rounds are live, and what they say of each log.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode};

use crate::format::checkpoint::Checkpoint;
use crate::format::journal::{EntryKind, JournalHeader, RING_START, Round, RoundHeader};
use crate::format::segment_header::RECORDS_START;
use crate::log::Corruption;
use crate::log::offsets::Mark;
use crate::log::recorded::Piece;
use crate::model::{Incarnation, Offset, PartitionId};

const READ_BYTES: usize = 1024 * 1024;

/// What the journal says of one log.
#[derive(Debug, Default)]
pub(crate) struct JournaledLog {
    /// The newest incarnation that the journal knows of. What it says of older ones is left out.
    pub(crate) incarnation: Incarnation,
    /// Pieces in the order in which they were appended.
    pub(crate) pieces: Vec<Piece>,
    /// First offset of a segment and a position in it. Damage below is corruption: a flush after it was completed.
    pub(crate) durable_end: Option<(Offset, Mark)>,
    /// The log start offset.
    pub(crate) start_offset: Offset,
}

/// A journal read back.
pub(crate) struct JournalContents {
    pub(crate) header: JournalHeader,
    pub(crate) logs: BTreeMap<PartitionId, JournaledLog>,
}

/// Why a journal could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Which rounds a checkpoint leaves to the journal. What is older is all in segments, and may be overwritten in part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Needed {
    /// The oldest generation that counts.
    pub(crate) generation: u64,
    /// The oldest round of that generation that counts.
    tail: u64,
}

impl From<Option<&Checkpoint>> for Needed {
    fn from(checkpoint: Option<&Checkpoint>) -> Self {
        checkpoint.map_or_else(Self::default, |checkpoint| Self {
            generation: checkpoint.journal_generation,
            tail: checkpoint.journal_tail,
        })
    }
}

/// Reads a journal, as far as it is needed; `None` when there is no such file.
pub(crate) async fn read<E: Env>(
    env: &E,
    path: &Path,
    needed: Needed,
) -> Result<Option<JournalContents>, JournalError> {
    let file = match env.disk().open(path, OpenMode::Existing).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let corrupt = |position: u64, what: String| Corruption { file: path.to_owned(), position, what };
    let block = file.read_at(0, BLOCK_BYTES).await?;
    let header = block.and_then(|block| JournalHeader::decode(block.as_slice()));
    let header = header.ok_or_else(|| corrupt(0, "the journal's header does not hold".to_owned()))?;
    let mut contents = JournalContents { header, logs: BTreeMap::new() };
    if header.generation < needed.generation {
        return Ok(Some(contents));
    }
    let ring = read_ring::<E>(&file, header.ring_bytes).await?;
    let needed_tail = if header.generation == needed.generation { needed.tail } else { 0 };
    let rounds = live_rounds(&ring, header.nonce, needed_tail)
        .map_err(|(position, what)| corrupt(position + RING_START, what))?;
    let flushed_sequence = rounds.last().map_or(0, |(_, round)| round.header.flushed_sequence);
    for (position, round) in rounds {
        let flushed = round.header.sequence <= flushed_sequence;
        contents.take(&round, flushed).map_err(|what| corrupt(position + RING_START, what))?;
    }
    Ok(Some(contents))
}

async fn read_ring<E: Env>(file: &<E::Disk as Disk>::File, ring_bytes: u64) -> io::Result<Vec<u8>> {
    // Memory is taken for what is there, whatever the header says.
    let ring_bytes = ring_bytes.min(file.size_bytes().await?.saturating_sub(RING_START));
    let mut ring = Vec::with_capacity(usize::try_from(ring_bytes).unwrap_or(0));
    while u64::try_from(ring.len()).is_ok_and(|bytes| bytes < ring_bytes) {
        let position = RING_START + u64::try_from(ring.len()).expect("the ring fits memory");
        let remaining = usize::try_from(RING_START + ring_bytes - position).unwrap_or(READ_BYTES);
        let Some(buffer) = file.read_at(position, remaining.min(READ_BYTES)).await? else { break };
        ring.extend_from_slice(buffer.as_slice());
    }
    Ok(ring)
}

/// The rounds that recovery needs, in order, each with its position in the ring.
///
/// The newest whole round says where the oldest live one is, unless a checkpoint written after it let go of more: a round
/// that was torn may have overwritten those. It also says up to which round everything was flushed before it: these must
/// all be whole, and a gap is damage. Of those behind, any may be missing after the loss of power, and what comes behind
/// the first gap was on the device by chance: it does not count. The error is where damage was noticed, and what it is.
pub fn live_rounds(ring: &[u8], nonce: u64, needed_tail: u64) -> Result<Vec<(u64, Round<'_>)>, (u64, String)> {
    let mut rounds = BTreeMap::new();
    for position in (0..ring.len()).step_by(BLOCK_BYTES) {
        if let Some(round) = Round::decode(&ring[position..], nonce) {
            let position = u64::try_from(position).expect("a ring position fits u64");
            rounds.insert(round.header.sequence, (position, round));
        }
    }
    let Some((newest, (_, round))) = rounds.last_key_value() else { return Ok(Vec::new()) };
    let (newest, RoundHeader { tail_sequence: noted_tail, tail_position, flushed_sequence, .. }) =
        (*newest, round.header);
    let tail = noted_tail.max(needed_tail);
    let mut live = rounds.split_off(&tail);
    for expected in tail..=newest {
        let Some((position, _)) = live.get(&expected) else {
            if expected > flushed_sequence {
                live.split_off(&expected);
                break;
            }
            let behind = live.range(expected..).next().map_or(0, |(_, (position, _))| *position);
            return Err((behind, format!("round {expected} is missing or damaged, but was flushed before {newest}")));
        };
        if expected == noted_tail && *position != tail_position {
            return Err((*position, format!("round {expected} is not where round {newest} says")));
        }
    }
    Ok(live.into_values().collect())
}

impl JournalContents {
    /// Takes in a round. A piece says how far its log is durable only if its round was flushed: of the bytes before it,
    /// which earlier rounds wrote to the segment, some may be lost otherwise.
    fn take(&mut self, round: &Round<'_>, flushed: bool) -> Result<(), String> {
        for (entry, bytes) in &round.entries {
            let log = self.logs.entry(entry.partition).or_default();
            if entry.incarnation > log.incarnation {
                *log = JournaledLog { incarnation: entry.incarnation, ..JournaledLog::default() };
            }
            if entry.incarnation < log.incarnation {
                continue;
            }
            match entry.kind {
                EntryKind::Piece { position, end_offset, .. } => {
                    let start = (entry.segment_base, position);
                    let continues = log.pieces.last().is_none_or(|piece| piece.end() <= start);
                    if !continues {
                        return Err(format!("a piece of {} overlaps the one before", entry.partition));
                    }
                    let piece = Piece { segment_base: entry.segment_base, position, bytes: bytes.to_vec() };
                    let end = (entry.segment_base, Mark { offset: end_offset, position: piece.end().1 });
                    if flushed {
                        log.durable_end = log.durable_end.max(Some(end));
                    }
                    log.pieces.push(piece);
                }
                EntryKind::DurableEnd { position, end_offset } => {
                    let end = (entry.segment_base, Mark { offset: end_offset, position });
                    log.durable_end = log.durable_end.max(Some(end));
                }
                EntryKind::Start { offset } => {
                    log.start_offset = log.start_offset.max(offset);
                    // A log that has lost records had a segment on the device.
                    let start = Mark { offset: entry.segment_base, position: RECORDS_START };
                    log.durable_end = log.durable_end.max(Some((entry.segment_base, start)));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::journal::RoundEncoder;

    const NONCE: u64 = 5;

    fn put_round(ring: &mut [u8], position: usize, sequence: u64, tail: (u64, u64)) {
        put_unflushed(ring, position, (sequence, sequence - 1), tail);
    }

    fn put_unflushed(ring: &mut [u8], position: usize, (sequence, flushed_sequence): (u64, u64), tail: (u64, u64)) {
        let encoder = RoundEncoder::new(&mut ring[position..position + BLOCK_BYTES], 0);
        let (tail_sequence, tail_position) = tail;
        encoder.finish(&RoundHeader { nonce: NONCE, sequence, tail_sequence, tail_position, flushed_sequence });
    }

    fn sequences(ring: &[u8]) -> Result<Vec<u64>, (u64, String)> {
        live_rounds_from(ring, 0)
    }

    fn live_rounds_from(ring: &[u8], needed_tail: u64) -> Result<Vec<u64>, (u64, String)> {
        live_rounds(ring, NONCE, needed_tail)
            .map(|rounds| rounds.iter().map(|(_, round)| round.header.sequence).collect())
    }

    #[test]
    fn the_newest_round_names_the_oldest_live_one() {
        let mut ring = vec![0; 4 * BLOCK_BYTES];
        assert_eq!(sequences(&ring), Ok(vec![]));
        // Rounds 5 and 6 stand in the second lap, 3 and 4 are left over from the first; 3 is no longer needed.
        put_round(&mut ring, 2 * BLOCK_BYTES, 3, (1, 0));
        put_round(&mut ring, 3 * BLOCK_BYTES, 4, (1, 0));
        put_round(&mut ring, 0, 5, (3, 8192));
        put_round(&mut ring, BLOCK_BYTES, 6, (4, 12288));
        assert_eq!(sequences(&ring), Ok(vec![4, 5, 6]));
    }

    #[test]
    fn the_last_number_of_all_is_a_number() {
        let mut ring = vec![0; 2 * BLOCK_BYTES];
        put_round(&mut ring, 0, u64::MAX - 1, (u64::MAX - 1, 0));
        put_round(&mut ring, BLOCK_BYTES, u64::MAX, (u64::MAX - 1, 0));
        assert_eq!(sequences(&ring), Ok(vec![u64::MAX - 1, u64::MAX]));
    }

    #[test]
    fn a_torn_newest_round_is_left_out_and_a_damaged_older_one_reported() {
        let mut ring = vec![0; 4 * BLOCK_BYTES];
        for sequence in 1..=3 {
            put_round(&mut ring, (sequence - 1) * BLOCK_BYTES, u64::try_from(sequence).unwrap(), (1, 0));
        }
        ring[2 * BLOCK_BYTES + 20] ^= 1;
        assert_eq!(sequences(&ring), Ok(vec![1, 2]));
        ring[20] ^= 1;
        assert!(sequences(&ring).is_err());
        ring[20] ^= 1;
        ring[2 * BLOCK_BYTES + 20] ^= 1;
        ring[BLOCK_BYTES + 20] ^= 1;
        assert!(sequences(&ring).is_err());
        // A checkpoint let go of rounds 1 and 2: the next round may have been torn over them.
        assert_eq!(live_rounds_from(&ring, 3), Ok(vec![3]));
        assert_eq!(live_rounds_from(&ring, 4), Ok(vec![]));
        assert!(live_rounds_from(&ring, 2).is_err());
    }

    #[test]
    fn rounds_behind_the_last_flush_may_be_missing() {
        let mut ring = vec![0; 5 * BLOCK_BYTES];
        put_unflushed(&mut ring, 0, (1, 0), (1, 0));
        for (place, flushed) in [(1, 1), (3, 2), (4, 2)] {
            let sequence = u64::try_from(place).unwrap() + 1;
            put_unflushed(&mut ring, place * BLOCK_BYTES, (sequence, flushed), (1, 0));
        }
        assert_eq!(sequences(&ring), Ok(vec![1, 2]), "round 3 is missing, so 4 and 5 do not count");
        ring[BLOCK_BYTES + 20] ^= 1;
        assert!(sequences(&ring).is_err(), "round 2 was flushed");
    }
}
