//! The faults that `cargo dev plant` knows: where, what stands there, what is put in its place, which test notices.
//!
//! A text is as short as it can be and still occur once. What was observed is in docs/TESTING.md.

/// A fault of the storage engine.
pub(super) struct Fault {
    pub(super) name: &'static str,
    /// What is wrong with it, in a sentence.
    pub(super) what: &'static str,
    /// The file, from the root.
    pub(super) file: &'static str,
    /// Occurs in it exactly once.
    pub(super) text: &'static str,
    pub(super) replacement: &'static str,
    /// Arguments of `cargo test`: `-p PACKAGE --test FILE NAME`.
    pub(super) test: &'static [&'static str],
}

const POWER_DEVICE: &[&str] = &["-p", "millrace-crash", "--test", "power", "simulated_run_flushed_by_the_device"];
const POWER_FILE: &[&str] = &["-p", "millrace-crash", "--test", "power", "simulated_run_flushed_file_by_file"];
const POWER_TORN: &[&str] = &["-p", "millrace-crash", "--test", "power", "what_a_cut_took_away_does_not_come_back"];
const SIM_DAMAGE: &[&str] = &["-p", "millrace-sim", "--test", "storage", "bits_flip"];
const SIM_LIVES: &[&str] = &["-p", "millrace-sim", "--test", "storage", "many_lives"];
const ENGINE_FLUSHES: &[&str] =
    &["-p", "millrace-engine", "--test", "rebuild", "a_flush_that_fails_is_heard_by_every_shard_of_the_device"];
const ENGINE_DURABLE: &[&str] =
    &["-p", "millrace-engine", "--test", "rebuild", "a_durable_write_is_no_flush_of_what_was_written_before"];

pub(super) const FAULTS: &[Fault] = &[
    Fault {
        name: "acknowledge-before-flush",
        what: "A round is acknowledged once it is written.",
        file: "engine/src/store/round.rs",
        text: "let (journal_result, results) = join(journal.sync(), join_all(files.iter().map(Segment::sync))).await;",
        replacement: "let (journal_result, results) = (io::Result::Ok(()), Vec::<io::Result<()>>::new());\n    drop(join(journal.sync(), join_all(files.iter().map(Segment::sync))));",
        test: POWER_DEVICE,
    },
    Fault {
        name: "flush-the-journal-only",
        what: "Where a flush reaches one file, the segments of a round are not flushed.",
        file: "engine/src/store/round.rs",
        text: "join_all(files.iter().map(Segment::sync))",
        replacement: "join_all(files.iter().take(0).map(Segment::sync))",
        test: POWER_FILE,
    },
    Fault {
        name: "fill-without-a-flush",
        what: "Extents count as filled before their zeros are durable.",
        file: "engine/src/store/prepare.rs",
        text: "let flushed = segment.sync().await;",
        replacement: "let flushed = io::Result::Ok(());",
        test: POWER_DEVICE,
    },
    Fault {
        name: "release-the-ring-early",
        what: "A checkpoint lets go of journal rounds whose pieces are not in their segments.",
        file: "engine/src/store/checkpointing.rs",
        text: "    write_back(&inner, |log| log.borrow().pinned_sequence.is_some_and(|sequence| sequence <= through)).await;\n    // What an offline log left in the journal is needed when it is recovered.\n    let pinned = inner.logs.borrow().values().filter_map(|log| log.borrow().pinned_sequence).min();\n    let tail = pinned.map_or(through + 1, |pinned| pinned.min(through + 1));",
        replacement: "    let tail = through + 1;",
        test: POWER_DEVICE,
    },
    Fault {
        name: "forget-what-a-round-pins",
        what: "A log does not know that its bytes are in the journal only.",
        file: "engine/src/store/round.rs",
        text: "log.pinned_sequence.get_or_insert(placement.sequence);",
        replacement: "let _ = placement.sequence;",
        test: POWER_DEVICE,
    },
    Fault {
        name: "overwrite-live-rounds",
        what: "A wrapped ring takes rounds over the place of live ones.",
        file: "engine/src/journal.rs",
        text: "return (self.head + bytes <= tail.position).then_some(self.head);",
        replacement: "return (self.head + bytes <= self.capacity_bytes).then_some(self.head);",
        test: POWER_DEVICE,
    },
    Fault {
        name: "repeat-the-nonce",
        what: "Rounds of an emptied ring pass for rounds of the next generation.",
        file: "engine/src/journal.rs",
        text: "nonce: env.random().next_u64(),",
        replacement: "nonce: env.random().below(1),",
        test: POWER_DEVICE,
    },
    Fault {
        name: "note-what-is-not-durable",
        what: "The journal says of a log's own round that it is durable.",
        file: "engine/src/store/round.rs",
        text: "    let kind = EntryKind::DurableEnd { position, end_offset: log.in_segment.offset };",
        replacement: "    let (position, end_offset) = (position.max(log.locate_active(log.offsets.written().position)), log.offsets.written().offset);\n    let kind = EntryKind::DurableEnd { position, end_offset };",
        test: POWER_DEVICE,
    },
    Fault {
        name: "keep-the-rest-of-a-cut-block",
        what: "A cut does not zero the rest of the block it lies in.",
        file: "engine/src/segment.rs",
        text: "zeroed.as_mut_slice()[..kept].copy_from_slice(&block.as_slice()[..kept]);",
        replacement: "zeroed.as_mut_slice().copy_from_slice(&block.as_slice()[..kept.max(BLOCK_BYTES)]);",
        test: POWER_TORN,
    },
    Fault {
        name: "keep-the-blocks-behind-a-cut",
        what: "A cut leaves the blocks behind it in the file.",
        file: "engine/src/segment.rs",
        text: "self.file.truncate(end.block_ceil().get()).await?;\n        if end",
        replacement: "if end",
        test: POWER_TORN,
    },
    Fault {
        name: "trust-a-stale-checkpoint",
        what: "A clean checkpoint counts although the journal is newer.",
        file: "engine/src/recovery.rs",
        text: "checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.clean) && journal_generation < generation;",
        replacement: "checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.clean);",
        test: POWER_DEVICE,
    },
    Fault {
        name: "rename-before-the-flush",
        what: "A checkpoint takes its name before its bytes are durable.",
        file: "engine/src/checkpoint.rs",
        text: "    file.sync_data().await?;\n    disk.rename(",
        replacement: "    disk.rename(",
        test: POWER_DEVICE,
    },
    Fault {
        name: "forget-the-new-segments-name",
        what: "A new segment is used before its name is durable.",
        file: "engine/src/segment.rs",
        text: "        disk.rename(&unfinished, &segment.path).await?;\n        disk.sync_dir(&directory).await?;",
        replacement: "        disk.rename(&unfinished, &segment.path).await?;",
        test: POWER_DEVICE,
    },
    Fault {
        name: "accept-a-later-base-offset",
        what: "A batch continues a log although offsets are missing before it.",
        file: "engine/src/recovery/scan.rs",
        text: "if found < expected || (found > expected && self.compacted.is_none()) {",
        replacement: "if found < expected {",
        test: SIM_DAMAGE,
    },
    Fault {
        name: "do-not-rewrite-behind-a-failed-flush",
        what: "Recovery takes for durable what it can read.",
        file: "engine/src/recovery/open.rs",
        text: "rewrite(segment, flushed, end).await?;",
        replacement: "",
        test: SIM_LIVES,
    },
    Fault {
        name: "do-not-look-at-other-flushes",
        what: "A failed flush of another shard is not looked at.",
        file: "engine/src/flushes.rs",
        text: "        if self.shared.failed_count.load(Ordering::SeqCst) != ended.failures_known {",
        replacement: "        if self.shared.failed_count.load(Ordering::SeqCst) < ended.failures_known {",
        test: ENGINE_FLUSHES,
    },
    Fault {
        name: "do-not-wait-for-other-flushes",
        what: "Flushes of other shards that are under way are not waited for.",
        file: "engine/src/flushes.rs",
        text: "oldest < ended.began_before",
        replacement: "oldest < ended.began_before.min(0)",
        test: ENGINE_FLUSHES,
    },
    Fault {
        name: "write-a-block-twice",
        what: "Chunks that are written at the same time share a block.",
        file: "engine/src/log/tail.rs",
        text: "|next: Position| next.min(chunk.end())",
        replacement: "|_: Position| chunk.end()",
        test: SIM_LIVES,
    },
    Fault {
        name: "durable-write-without-flush",
        what: "A round that is one write of the journal is written like one that is flushed afterwards.",
        file: "engine/src/journal.rs",
        text: "self.synchronous.write_at(",
        replacement: "self.file.write_at(",
        test: POWER_DEVICE,
    },
    Fault {
        name: "durable-write-for-others",
        what: "A durable write of the journal is taken for a flush of what was written before.",
        file: "engine/src/store/round.rs",
        text: "if flush_wanted && segment_writes.is_empty() && is_all_durable_before(inner, &write)",
        replacement: "if flush_wanted && segment_writes.is_empty() && (true || is_all_durable_before(inner, &write))",
        test: ENGINE_DURABLE,
    },
];
