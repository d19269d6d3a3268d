//! The shard's journal: where a round of small appends becomes durable with one write.
//!
//! The journal is a file of fixed size whose extents were written with zeros once. Rounds go around it as in a ring (see
//! [`crate::format::journal`]). A round stays live while recovery may need it: until every piece in it is also in its
//! segment, and a checkpoint knows how far each log is durable.
//!
//! This module places rounds and writes them. When a round may be let go is the store's decision.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::rc::Rc;

use millrace_runtime::{BLOCK_BYTES, Buffer, Disk, Env, File, OpenMode, Random};

use crate::format::journal::{Entry, JournalHeader, RING_START, RoundEncoder, RoundHeader};
use crate::io::open_unfinished;

/// The smallest ring, in bytes.
pub const RING_BYTES_MIN: u64 = 256 * 1024;
const FILL_WRITE_BYTES: u64 = 1024 * 1024;

/// Name of a shard's journal file.
pub fn file_name(shard_index: u16) -> String {
    format!("journal-{shard_index:03}")
}

/// Where rounds go in the ring. Pure.
#[derive(Debug)]
pub struct Ring {
    capacity_bytes: u64,
    /// Where the next round goes if it fits there, from the start of the ring.
    head: u64,
    next_sequence: u64,
    live: VecDeque<LiveRound>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LiveRound {
    sequence: u64,
    position: u64,
    bytes: u64,
}

/// A place in the ring that was taken for one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The round's number.
    pub sequence: u64,
    /// Where it starts, from the start of the ring.
    pub position: u64,
    /// The oldest live round, which may be this one.
    pub tail_sequence: u64,
    /// Where that one starts.
    pub tail_position: u64,
}

impl Ring {
    /// An empty ring of `capacity_bytes`.
    pub fn new(capacity_bytes: u64) -> Self {
        Self { capacity_bytes, head: 0, next_sequence: 1, live: VecDeque::new() }
    }

    /// Takes room for a round of `bytes`, whole blocks; `None` when the live rounds leave none.
    pub fn place(&mut self, bytes: u64) -> Option<Placement> {
        let position = self.find_room(bytes)?;
        let round = LiveRound { sequence: self.next_sequence, position, bytes };
        self.next_sequence += 1;
        self.head = position + bytes;
        self.live.push_back(round);
        let tail = self.live.front().copied().unwrap_or(round);
        Some(Placement {
            sequence: round.sequence,
            position,
            tail_sequence: tail.sequence,
            tail_position: tail.position,
        })
    }

    fn find_room(&self, bytes: u64) -> Option<u64> {
        let Some(tail) = self.live.front() else {
            return (bytes <= self.capacity_bytes).then_some(if self.head + bytes <= self.capacity_bytes {
                self.head
            } else {
                0
            });
        };
        let wrapped = self.live.back().is_some_and(|last| last.position < tail.position);
        if wrapped {
            return (self.head + bytes <= tail.position).then_some(self.head);
        }
        if self.head + bytes <= self.capacity_bytes {
            return Some(self.head);
        }
        // A round is never split: it goes to the start of the ring, if the oldest live one leaves room there.
        (bytes <= tail.position).then_some(0)
    }

    /// Lets go of every round up to and including `sequence`.
    pub fn release(&mut self, sequence: u64) {
        while self.live.front().is_some_and(|round| round.sequence <= sequence) {
            self.live.pop_front();
        }
    }

    /// Number of the oldest live round, or of the next one when none is live.
    pub fn tail_sequence(&self) -> u64 {
        self.live.front().map_or(self.next_sequence, |round| round.sequence)
    }

    /// Number of the newest round; 0 before the first.
    pub fn last_sequence(&self) -> u64 {
        self.next_sequence - 1
    }

    /// Bytes of the ring that live rounds span, with what is lost between them.
    pub fn live_bytes(&self) -> u64 {
        let (Some(tail), Some(last)) = (self.live.front(), self.live.back()) else { return 0 };
        if last.position < tail.position {
            self.capacity_bytes - tail.position + last.position + last.bytes
        } else {
            last.position + last.bytes - tail.position
        }
    }

    /// Length of the ring in bytes.
    pub fn capacity_bytes(&self) -> u64 {
        self.capacity_bytes
    }
}

/// The open journal of a shard.
pub struct Journal<E: Env> {
    env: E,
    file: JournalFile<E>,
    header: JournalHeader,
    ring: Ring,
    /// The newest round that is on the device; 0 when none is.
    flushed_sequence: u64,
}

impl<E: Env> Journal<E> {
    /// Makes the journal, or empties the one that is there, for a new generation. Whatever it held is in segments and
    /// in a checkpoint of that generation by now.
    pub async fn reset(env: &E, directory: &Path, header: JournalHeader) -> io::Result<Self> {
        assert!(header.ring_bytes >= RING_BYTES_MIN, "the configuration bounds the ring's size");
        let path = directory.join(file_name(header.shard_index));
        let present = match env.disk().open(&path, OpenMode::Existing).await {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let file = match present {
            Some(file) if file.size_bytes().await? == RING_START + header.ring_bytes => {
                write_header(env, &file, &header).await?;
                file
            }
            _ => make(env, directory, &path, &header).await?,
        };
        let synchronous = env.disk().open(&path, OpenMode::Synchronous).await?;
        let file = JournalFile { file, synchronous };
        Ok(Self { env: env.clone(), file, header, ring: Ring::new(header.ring_bytes), flushed_sequence: 0 })
    }

    /// A header for the generation after `generation`, with a nonce of its own.
    pub fn next_header(env: &E, shard_index: u16, shard_count: u16, ring_bytes: u64, generation: u64) -> JournalHeader {
        JournalHeader {
            shard_index,
            shard_count,
            ring_bytes,
            generation: generation + 1,
            nonce: env.random().next_u64(),
        }
    }

    /// The places of the rounds.
    pub fn ring(&mut self) -> &mut Ring {
        &mut self.ring
    }

    /// Every round up to `sequence` is on the device.
    pub fn note_flushed(&mut self, sequence: u64) {
        self.flushed_sequence = self.flushed_sequence.max(sequence);
    }

    /// Whether every round before `sequence` is on the device.
    pub fn is_flushed_before(&self, sequence: u64) -> bool {
        self.flushed_sequence + 1 >= sequence
    }

    /// Generation of the ring.
    pub fn generation(&self) -> u64 {
        self.header.generation
    }

    /// Lays a round out for `placement`, ready for [`JournalFile::write`].
    pub fn encode<'a>(
        &self,
        placement: &Placement,
        entries: &[Entry],
        piece_bytes: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> <E::Disk as Disk>::Buffer {
        let mut buffer = self.env.disk().buffer(RoundEncoder::round_bytes(entries.len(), piece_bytes));
        let mut encoder = RoundEncoder::new(buffer.as_mut_slice(), entries.len());
        for (entry, piece) in entries.iter().zip(pieces) {
            encoder.add(entry, piece);
        }
        encoder.finish(&RoundHeader {
            nonce: self.header.nonce,
            sequence: placement.sequence,
            tail_sequence: placement.tail_sequence,
            tail_position: placement.tail_position,
            flushed_sequence: self.flushed_sequence,
        });
        buffer
    }

    /// A handle for writing, which needs no access to the ring.
    pub fn file(&self) -> JournalFile<E> {
        self.file.clone()
    }
}

/// The journal's file, opened in two ways.
#[derive(Clone)]
pub struct JournalFile<E: Env> {
    file: <E::Disk as Disk>::File,
    synchronous: <E::Disk as Disk>::File,
}

impl<E: Env> JournalFile<E> {
    /// Writes an encoded round to its place.
    pub async fn write(&self, buffer: <E::Disk as Disk>::Buffer, placement: &Placement) -> io::Result<()> {
        self.file.write_at(Rc::new(buffer), RING_START + placement.position).await
    }

    /// The same, and the round is durable with that. It says nothing of any other write.
    pub async fn write_durably(&self, buffer: <E::Disk as Disk>::Buffer, placement: &Placement) -> io::Result<()> {
        self.synchronous.write_at(Rc::new(buffer), RING_START + placement.position).await
    }

    /// Flushes; with a flush that reaches the whole device, completed segment writes become durable too.
    pub async fn sync(&self) -> io::Result<()> {
        self.file.sync_data().await
    }
}

/// Makes a journal's file. It gets its name when it is whole and durable: one that has its name can be relied on, whatever
/// became of the start that made it.
async fn make<E: Env>(
    env: &E,
    directory: &Path,
    path: &Path,
    header: &JournalHeader,
) -> io::Result<<E::Disk as Disk>::File> {
    let disk = env.disk();
    let unfinished = path.with_extension("new");
    let file = open_unfinished(env, &unfinished).await?;
    let end = RING_START + header.ring_bytes;
    file.allocate(0, end).await?;
    fill(env, &file, end).await?;
    write_header(env, &file, header).await?;
    disk.rename(&unfinished, path).await?;
    disk.sync_dir(directory).await?;
    Ok(file)
}

async fn write_header<E: Env>(env: &E, file: &<E::Disk as Disk>::File, header: &JournalHeader) -> io::Result<()> {
    let mut block = env.disk().buffer(BLOCK_BYTES);
    header.encode(block.as_mut_slice());
    file.write_at(Rc::new(block), 0).await?;
    file.sync_data().await
}

async fn fill<E: Env>(env: &E, file: &<E::Disk as Disk>::File, end: u64) -> io::Result<()> {
    let mut position = 0;
    while position < end {
        let bytes = (end - position).min(FILL_WRITE_BYTES);
        let zeros = env.disk().buffer(usize::try_from(bytes).expect("one step of filling fits usize"));
        file.write_at(Rc::new(zeros), position).await?;
        position += bytes;
    }
    file.sync_data().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Live rounds never overlap, stay inside the ring, and an emptied ring always takes a round that fits it.
        #[test]
        fn live_rounds_never_overlap(steps in prop::collection::vec((1_u64..20, 0_u64..6), 1..300)) {
            let ring_bytes = 64 * 4096;
            let mut ring = Ring::new(ring_bytes);
            for (blocks, release) in steps {
                if let Some(placed) = ring.place(blocks * 4096) {
                    prop_assert!(placed.position + blocks * 4096 <= ring_bytes);
                    prop_assert!(placed.tail_sequence <= placed.sequence);
                }
                let live: Vec<_> = ring.live.iter().collect();
                for (index, one) in live.iter().enumerate() {
                    for other in &live[index + 1..] {
                        let apart = one.position + one.bytes <= other.position || other.position + other.bytes <= one.position;
                        prop_assert!(apart, "{one:?} {other:?}");
                    }
                }
                prop_assert!(ring.live_bytes() <= ring_bytes);
                ring.release(ring.last_sequence().saturating_sub(release));
                if ring.live.is_empty() {
                    prop_assert!(ring.find_room(ring_bytes / 2).is_some());
                }
            }
        }
    }
}
