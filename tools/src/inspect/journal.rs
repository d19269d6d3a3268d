//! Shows a journal: every round that is whole, and what the live ones say.

use std::collections::BTreeSet;

use millrace_engine::format::journal::{Entry, EntryKind, JournalHeader, RING_START, Round};
use millrace_engine::model::Position;
use millrace_engine::recovery::live_rounds;
use millrace_protocol::batch::BatchView;

use super::{Inspection, table};

const BLOCK_BYTES: usize = 4096;

/// A journal, as far as it can be read.
pub(super) enum Journal<'a> {
    /// A crash left it before anything was written to it.
    Unused,
    /// With the live rounds in order, each with its position in the file.
    Readable { header: JournalHeader, ring: &'a [u8], live: Vec<(u64, Round<'a>)> },
    /// Why not.
    Damaged(String),
}

/// Reads a journal from the bytes of its file.
pub(super) fn parse(bytes: &[u8]) -> Journal<'_> {
    let Some((block, rest)) = bytes.split_at_checked(BLOCK_BYTES) else {
        return Journal::Damaged(format!("{} bytes have no room for a header", bytes.len()));
    };
    if block.iter().all(|byte| *byte == 0) {
        return Journal::Unused;
    }
    let Some(header) = JournalHeader::decode(block) else {
        return Journal::Damaged("the header's magic, version or checksum does not hold".to_owned());
    };
    let ring = usize::try_from(header.ring_bytes).ok().and_then(|ring_bytes| rest.get(..ring_bytes));
    let Some(ring) = ring else {
        return Journal::Damaged(format!("the ring has {} bytes, the file only {}", header.ring_bytes, rest.len()));
    };
    match live_rounds(ring, header.nonce, 0) {
        Ok(live) => {
            let live = live.into_iter().map(|(position, round)| (RING_START + position, round)).collect();
            Journal::Readable { header, ring, live }
        }
        Err((position, what)) => Journal::Damaged(format!("at byte {}: {what}", RING_START + position)),
    }
}

pub(super) fn inspect(bytes: &[u8]) -> Inspection {
    let (header, ring, live) = match parse(bytes) {
        Journal::Unused => return Inspection { text: "never written to".to_owned(), damage: Vec::new() },
        Journal::Damaged(what) => return Inspection { text: format!("{} bytes", bytes.len()), damage: vec![what] },
        Journal::Readable { header, ring, live } => (header, ring, live),
    };
    let JournalHeader { shard_index, shard_count, ring_bytes, generation, nonce } = header;
    let text = format!(
        "shard {shard_index} of {shard_count}, generation {generation}, nonce {nonce:016x}, ring of {ring_bytes} bytes, \
         {} live rounds\n{}\n{}",
        live.len(),
        rounds_table(ring, nonce, &live),
        entries_table(&live)
    );
    Inspection { text, damage: damage(&live) }
}

/// What is wrong with the pieces of live rounds.
pub(super) fn damage(live: &[(u64, Round<'_>)]) -> Vec<String> {
    let mut damage = Vec::new();
    for (position, round) in live {
        for (entry, piece) in &round.entries {
            if let Some(what) = piece_damage(entry, piece) {
                let (sequence, partition) = (round.header.sequence, entry.partition);
                damage.push(format!("round {sequence} at byte {position}, piece of {partition}: {what}"));
            }
        }
    }
    damage
}

/// A piece is whole batches, up to the end offset that its entry states.
fn piece_damage(entry: &Entry, mut piece: &[u8]) -> Option<String> {
    let EntryKind::Piece { end_offset, .. } = entry.kind else { return None };
    let mut end = None;
    while !piece.is_empty() {
        match BatchView::parse(piece) {
            Ok(batch) => {
                end = batch.header().last_offset().checked_add(1);
                piece = &piece[batch.bytes().len()..];
            }
            Err(error) => return Some(error.to_string()),
        }
    }
    (end != Some(end_offset.get())).then(|| format!("it does not end at offset {end_offset}"))
}

fn rounds_table(ring: &[u8], nonce: u64, live: &[(u64, Round<'_>)]) -> comfy_table::Table {
    let live: BTreeSet<u64> = live.iter().map(|(_, round)| round.header.sequence).collect();
    let mut table =
        table(&["state", "byte", "round", "bytes", "pieces", "piece bytes", "durable ends", "oldest live round"], 1);
    for (position, block) in (RING_START..).step_by(BLOCK_BYTES).zip((0..ring.len()).step_by(BLOCK_BYTES)) {
        let Some(round) = Round::decode(&ring[block..], nonce) else { continue };
        let piece_bytes: usize = round.entries.iter().map(|(_, piece)| piece.len()).sum();
        let is_piece = |entry: &Entry| matches!(entry.kind, EntryKind::Piece { .. });
        let piece_count = round.entries.iter().filter(|(entry, _)| is_piece(entry)).count();
        table.add_row([
            if live.contains(&round.header.sequence) { "live" } else { "old" }.to_owned(),
            position.to_string(),
            round.header.sequence.to_string(),
            round.bytes.to_string(),
            piece_count.to_string(),
            piece_bytes.to_string(),
            (round.entries.len() - piece_count).to_string(),
            round.header.tail_sequence.to_string(),
        ]);
    }
    table
}

fn entries_table(live: &[(u64, Round<'_>)]) -> comfy_table::Table {
    let mut table =
        table(&["partition", "kind", "round", "segment", "position", "bytes", "end offset", "incarnation"], 2);
    for (_, round) in live {
        for (entry, _) in &round.entries {
            let (kind, position, bytes, end_offset) = match entry.kind {
                EntryKind::Piece { position, bytes, end_offset } => ("piece", position, bytes, end_offset),
                EntryKind::DurableEnd { position, end_offset } => ("durable end", position, 0, end_offset),
                EntryKind::Start { offset } => ("start", Position::default(), 0, offset),
            };
            table.add_row([
                entry.partition.to_string(),
                kind.to_owned(),
                round.header.sequence.to_string(),
                entry.segment_base.to_string(),
                position.get().to_string(),
                bytes.to_string(),
                end_offset.to_string(),
                entry.incarnation.get().to_string(),
            ]);
        }
    }
    table
}
