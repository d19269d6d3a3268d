//! Target `checkpoint_and_ring`: bytes as a checkpoint, as a journal's header, as a round, and as a ring of rounds.
//!
//! Byte 0 chooses the structure (bits 0 to 2) and whether the rest is sealed as one (bit 3). What is decoded is encoded
//! again and must be the same. A ring is made of arbitrary rounds at arbitrary places; the live ones must follow each
//! other. The last choice starts a whole store from an arbitrary checkpoint and journal: it may refuse them, and must
//! not panic.

use std::path::{Path, PathBuf};

use arbitrary::{Arbitrary, Unstructured};
use millrace_engine::format::checkpoint::{Checkpoint, CheckpointEntry};
use millrace_engine::format::journal::{Entry, EntryKind, JournalHeader, Round, RoundEncoder, RoundHeader};
use millrace_engine::model::{Incarnation, LeaderEpoch, Offset, PartitionId, Position, TopicId};
use millrace_engine::recovery::live_rounds;
use millrace_engine::store::{Store, StoreConfig};
use millrace_runtime::BLOCK_BYTES;
use millrace_runtime::sim::{World, WorldConfig};

use crate::segment::put_file;
use crate::{Reached, sealing};

const JOURNAL_HEADER_BYTES: usize = 48;
const NONCE: u64 = 0x0123_4567_89ab_cdef;

/// Runs the target.
pub fn run(data: &[u8]) -> Reached {
    let Some((choice, bytes)) = data.split_first() else { return Reached::Refusal };
    let (mut sealed, is_sealed) = (bytes.to_vec(), choice & 8 != 0);
    match choice & 7 {
        0 | 1 => {
            if is_sealed {
                seal_checkpoint(&mut sealed);
            }
            checkpoint(&sealed)
        }
        2 => {
            if is_sealed {
                sealing::structure(&mut sealed, *b"MRJOURNL", JOURNAL_HEADER_BYTES);
            }
            journal_header(&sealed)
        }
        3 | 4 => {
            if is_sealed {
                seal_round(&mut sealed);
            }
            round(&sealed)
        }
        5 | 6 => ShapedRing::arbitrary(&mut Unstructured::new(bytes)).map_or(Reached::Refusal, |ring| ring.check()),
        _ => Start::arbitrary(&mut Unstructured::new(bytes)).map_or(Reached::Refusal, |start| start.check()),
    }
}

fn checkpoint(bytes: &[u8]) -> Reached {
    let Some(checkpoint) = Checkpoint::decode(bytes) else { return Reached::Refusal };
    let mut again = vec![0; checkpoint.encoded_bytes()];
    checkpoint.encode(&mut again);
    assert_eq!(Checkpoint::decode(&again), Some(checkpoint));
    Reached::Content
}

fn journal_header(bytes: &[u8]) -> Reached {
    let Some(header) = JournalHeader::decode(bytes) else { return Reached::Refusal };
    let mut again = vec![0; JOURNAL_HEADER_BYTES];
    header.encode(&mut again);
    assert_eq!(again, bytes[..JOURNAL_HEADER_BYTES], "a journal's header has one spelling");
    Reached::Content
}

fn round(bytes: &[u8]) -> Reached {
    let Some(round) = Round::decode(bytes, NONCE) else { return Reached::Refusal };
    let piece_bytes = round.entries.iter().map(|(_, piece)| piece.len()).sum();
    let mut again = vec![0; RoundEncoder::round_bytes(round.entries.len(), piece_bytes)];
    assert_eq!(round.bytes, again.len(), "a round takes whole blocks");
    let mut encoder = RoundEncoder::new(&mut again, round.entries.len());
    for (entry, piece) in &round.entries {
        encoder.add(entry, piece);
    }
    encoder.finish(&round.header);
    assert_eq!(Round::decode(&again, NONCE), Some(round));
    Reached::Content
}

/// As many entries as there is room for.
fn seal_checkpoint(bytes: &mut [u8]) {
    if bytes.len() < 48 {
        return;
    }
    let entry_count = (bytes.len() - 48) / 68;
    bytes[32..40].copy_from_slice(&u64::try_from(entry_count).unwrap_or(0).to_le_bytes());
    bytes[45..48].fill(0);
    sealing::structure(bytes, *b"MRCHECKP", 48 + 68 * entry_count);
}

/// One to four entries, the rest pieces.
fn seal_round(bytes: &mut [u8]) {
    if bytes.len() < 64 {
        return;
    }
    let used = u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
    bytes[..8].copy_from_slice(b"MRROUND1");
    bytes[12..16].copy_from_slice(&used);
    bytes[16..24].copy_from_slice(&NONCE.to_le_bytes());
    bytes[49..52].fill(0);
    bytes[48] %= 5;
    let end = bytes.len();
    sealing::checksum(bytes, 8, 12, end);
}

/// Rounds at blocks of a small ring, later ones over earlier ones.
#[derive(Arbitrary, Debug)]
struct ShapedRing {
    block_count: u8,
    needed_tail: u64,
    rounds: Vec<ShapedRound>,
}

#[derive(Arbitrary, Debug)]
struct ShapedRound {
    block: u8,
    /// One in 64 rounds has an arbitrary number; the others go on counting.
    jump: u8,
    number: u64,
    /// How far back the tail is.
    tail_back: u8,
    tail_position: u64,
    entries: Vec<ShapedEntry>,
}

#[derive(Arbitrary, Debug)]
struct ShapedEntry {
    partition: u8,
    base: u64,
    position: u64,
    end: u64,
    kind: u8,
    piece: Vec<u8>,
}

const RING_BLOCKS_MAX: u8 = 32;
const ENTRIES_MAX: usize = 8;

impl ShapedRing {
    fn bytes(&self) -> Vec<u8> {
        let block_count = usize::from(self.block_count % RING_BLOCKS_MAX) + 1;
        let mut ring = vec![0; block_count * BLOCK_BYTES];
        let (mut sequence, mut block, mut positions) = (0_u64, 0, Vec::new());
        for round in &self.rounds {
            sequence = if round.jump / 4 == 63 { round.number } else { sequence.wrapping_add(1) };
            block = if round.jump % 4 == 3 { usize::from(round.block) } else { block } % block_count;
            let entries: Vec<_> = round.entries.iter().take(ENTRIES_MAX).map(ShapedEntry::entry).collect();
            let piece_bytes = entries.iter().map(|(_, piece)| piece.len()).sum();
            let bytes = RoundEncoder::round_bytes(entries.len(), piece_bytes);
            positions.push(block * BLOCK_BYTES);
            let Some(target) = ring[block * BLOCK_BYTES..].get_mut(..bytes) else { continue };
            target.fill(0);
            let mut encoder = RoundEncoder::new(target, entries.len());
            for (entry, piece) in &entries {
                encoder.add(entry, piece);
            }
            let back = usize::from(round.tail_back) % positions.len();
            let tail = u64::try_from(positions[positions.len() - 1 - back]).unwrap_or(0);
            let is_odd = round.jump % 64 == 62;
            encoder.finish(&RoundHeader {
                nonce: NONCE,
                sequence,
                tail_sequence: sequence.saturating_sub(u64::try_from(back).unwrap_or(0)),
                tail_position: if is_odd { round.tail_position } else { tail },
                flushed_sequence: sequence.saturating_sub(1),
            });
            block += bytes / BLOCK_BYTES;
        }
        ring
    }

    fn check(&self) -> Reached {
        let ring = self.bytes();
        match live_rounds(&ring, NONCE, self.needed_tail % 4) {
            Err((position, what)) => {
                assert!(position < u64::try_from(ring.len()).unwrap_or(0) && !what.is_empty());
                Reached::Refusal
            }
            Ok(rounds) if rounds.is_empty() => Reached::Refusal,
            Ok(rounds) => {
                let sequences: Vec<_> = rounds.iter().map(|(_, round)| round.header.sequence).collect();
                assert!(sequences[0] >= self.needed_tail % 4);
                assert!(sequences.windows(2).all(|pair| pair[0] + 1 == pair[1]), "live rounds follow each other");
                Reached::Content
            }
        }
    }
}

impl ShapedEntry {
    fn entry(&self) -> (Entry, &[u8]) {
        let (position, end_offset) = (Position::new(self.position), offset(self.end));
        let piece = &self.piece[..self.piece.len().min(BLOCK_BYTES)];
        let bytes = u32::try_from(piece.len()).unwrap_or(0);
        let (kind, piece) = match self.kind % 4 {
            0 => (EntryKind::DurableEnd { position, end_offset }, &[][..]),
            1 => (EntryKind::Start { offset: end_offset }, &[][..]),
            _ => (EntryKind::Piece { position, bytes, end_offset }, piece),
        };
        // Mostly the same one: what an older one says is left out.
        let incarnation = incarnation(u32::from(self.kind / 64));
        (Entry { partition: partition(self.partition), segment_base: offset(self.base), incarnation, kind }, piece)
    }
}

fn partition(number: u8) -> PartitionId {
    PartitionId { topic: TopicId::from_bytes([1; 16]), partition: i32::from(number % 3) }
}

/// One of the incarnations that there are.
fn incarnation(number: u32) -> Incarnation {
    Incarnation::new(number % (Incarnation::MAX + 1)).unwrap_or_default()
}

/// A number without its sign: small numbers stay what they are.
fn offset(number: u64) -> Offset {
    Offset::new((number & (u64::MAX >> 1)).cast_signed())
}

/// A data directory of which only the checkpoint and the journal are there.
#[derive(Arbitrary, Debug)]
struct Start {
    ring: ShapedRing,
    /// The journal's own word for the size of its ring, when it is not the true one.
    ring_blocks: Option<u64>,
    journal_generation: u64,
    checkpoint: Option<ShapedCheckpoint>,
}

#[derive(Arbitrary, Debug)]
struct ShapedCheckpoint {
    generation: u64,
    tail: u64,
    clean: bool,
    entries: Vec<(u8, i32, u64, u64, u64, u32)>,
}

impl Start {
    fn check(&self) -> Reached {
        let world = World::new(1, WorldConfig::default());
        let directory = PathBuf::from("/data");
        world.run(async {
            let env = world.env(0);
            put_file(&env, &world.disk(), &directory.join("journal-000"), &self.journal()).await;
            if let Some(checkpoint) = &self.checkpoint {
                put_file(&env, &world.disk(), &directory.join("checkpoint-000"), &checkpoint.bytes()).await;
            }
            let config = StoreConfig { journal_bytes: 256 * 1024, ..StoreConfig::at(directory.clone()) };
            let Ok(store) = Store::open(env, config, |_| true).await else { return Reached::Refusal };
            let report = store.recovered().await;
            let ids: Vec<_> = (0..3).map(partition).filter(|id| store.contains(*id)).collect();
            assert_eq!(report.log_count, ids.len());
            for id in ids {
                // No segment is there: a log of which anything is known to be durable is damaged.
                let offsets = store.offsets(id).await;
                assert_eq!(offsets.is_err(), store.failure(id).is_some());
                assert!(offsets.is_err() || offsets.is_ok_and(|offsets| offsets.log_end == Offset::ZERO));
            }
            store.close().await.expect("a store without writes closes");
            assert!(world.disk().read(Path::new("/data/checkpoint-000")).is_some());
            Reached::Content
        })
    }

    fn journal(&self) -> Vec<u8> {
        let ring = self.ring.bytes();
        let mut journal = vec![0; BLOCK_BYTES];
        let true_blocks = u64::try_from(ring.len() / BLOCK_BYTES).unwrap_or(0);
        let ring_bytes = self.ring_blocks.unwrap_or(true_blocks).wrapping_mul(4096);
        let generation = self.journal_generation;
        let header = JournalHeader { shard_index: 0, shard_count: 1, ring_bytes, generation, nonce: NONCE };
        header.encode(&mut journal);
        journal.extend_from_slice(&ring);
        journal
    }
}

impl ShapedCheckpoint {
    fn bytes(&self) -> Vec<u8> {
        let entries =
            self.entries.iter().take(ENTRIES_MAX).map(|(number, epoch, base, position, end, state)| CheckpointEntry {
                partition: partition(*number),
                leader_epoch: LeaderEpoch::new(*epoch),
                start_offset: offset(base ^ end),
                segment_base: offset(*base),
                position: Position::new(*position),
                end_offset: offset(*end),
                settled: state & 1 != 0,
                cut_pending: state & 2 != 0,
                incarnation: incarnation(state >> 8),
                compacted_end: offset(*end / 2),
            });
        let checkpoint = Checkpoint {
            journal_generation: self.generation,
            journal_tail: self.tail,
            shard_count: 1,
            clean: self.clean,
            entries: entries.collect(),
        };
        let mut bytes = vec![0; checkpoint.encoded_bytes().next_multiple_of(BLOCK_BYTES)];
        checkpoint.encode(&mut bytes);
        bytes
    }
}
