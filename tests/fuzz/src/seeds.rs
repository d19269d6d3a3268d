//! What the fuzzer starts from: a few inputs for each target that reach what it is about.
//!
//! They are made here, from what other clients wrote and from our own encoders, and not kept as files. Shapes cannot be
//! run backwards from a log, so the seeds of targets that take shapes are patterns of bytes.

use std::fs;
use std::path::Path;

use millrace_engine::format::index::{IndexEntry, SegmentSummary};
use millrace_engine::format::producers::{self, Producer, ProducerBatch};
use millrace_engine::format::segment_header::{Compacted, RECORDS_START, SegmentHeader};
use millrace_engine::model::{EpochStart, LeaderEpoch, Offset, PartitionId, Position, TopicId};

use millrace_protocol::wire::Uuid;
use millrace_server::group::offsets::Committed;
use millrace_server::group::records::Record as StoredRecord;
use millrace_server::metadata::record::Partition;
use millrace_server::metadata::{Entry, NodeId, Record};

use crate::compaction::PASS_BYTES;
use crate::request::WHOLE_FRAME;

const PARTITION: PartitionId = PartitionId { topic: TopicId::from_bytes([1; 16]), partition: 0 };

/// For [`crate::batch`]: what foreign clients compressed, as it is and sealed again.
pub fn batch() -> Vec<Vec<u8>> {
    let golden = files("../../server/protocol/testdata/batches", "batch");
    let sealed = golden.iter().map(|batch| with_choice(0b1101, batch));
    golden.iter().map(|batch| with_choice(0b1110, batch)).chain(sealed).collect()
}

/// For [`crate::compaction`]: logs that Kafka's clients wrote, and shapes.
pub fn compaction() -> Vec<Vec<u8>> {
    let told = pattern(PASS_BYTES, 3);
    let golden = files("../../engine/testdata/compaction", "log");
    let raw = golden.iter().map(|log| with_choice(1, &[told.as_slice(), log].concat()));
    let shapes = [(200, 5), (400, 7), (900, 13), (1500, 29)];
    raw.chain(shapes.iter().map(|(bytes, step)| with_choice(0, &pattern(*bytes, *step)))).collect()
}

/// For [`crate::segment`]: shapes.
pub fn segment() -> Vec<Vec<u8>> {
    [(300, 5), (700, 13), (1200, 17), (2000, 31)].iter().map(|(bytes, step)| pattern(*bytes, *step)).collect()
}

/// For [`crate::checkpoint_and_ring`]: zeros to be sealed, and shapes.
pub fn checkpoint_and_ring() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        with_choice(8, &[0; 48 + 2 * 68]),
        with_choice(8 + 2, &[0; 48]),
        with_choice(8 + 3, &[0; 64]),
        with_choice(5, &pattern(300, 7)),
        with_choice(7, &[0; 40]),
    ];
    // An entry of kind 2 for the round.
    let mut round = vec![0; 64 + 56];
    (round[48], round[64 + 20]) = (1, 2);
    seeds.push(with_choice(8 + 3, &round));
    seeds
}

/// For [`crate::index`]: a header, an index and a producers file.
pub fn index() -> Vec<Vec<u8>> {
    let mut header = vec![0; 68];
    let compacted = Some(Compacted { end_offset: Offset::new(90), end_position: Position::new(5_000) });
    SegmentHeader { partition: PARTITION, base_offset: Offset::new(40), filled_end: Position::default(), compacted }
        .encode(&mut header);

    let summary = SegmentSummary {
        partition: PARTITION,
        base_offset: Offset::new(40),
        end_offset: Offset::new(90),
        end_position: Position::new(20_000),
        timestamp_max: Some(5_000),
        epochs: vec![
            EpochStart { epoch: LeaderEpoch::new(0), start_offset: Offset::new(40) },
            EpochStart { epoch: LeaderEpoch::new(3), start_offset: Offset::new(60) },
        ],
    };
    let entries = [
        IndexEntry { base_offset: Offset::new(40), position: RECORDS_START, timestamp_before: i64::MIN },
        IndexEntry { base_offset: Offset::new(70), position: Position::new(9_000), timestamp_before: 4_000 },
    ];
    let mut index = vec![0; summary.encoded_bytes(entries.len())];
    summary.encode(&entries, &mut index);

    let batch = ProducerBatch { end_offset: Offset::new(3), last_sequence: 2, ..ProducerBatch::default() };
    let known: Vec<_> = (0..3).map(|id| Producer::new(id, 1, batch)).collect();
    let producers = producers::encode(PARTITION, Offset::new(90), known.iter());
    let both = |choice: u8, bytes: &[u8]| [with_choice(choice, bytes), with_choice(choice | 4, bytes)];
    [both(0, &header), both(1, &producers), both(2, &index)].concat()
}

/// For [`crate::request`]: what foreign clients sent, and that again as a body alone is left to the fuzzer.
pub fn request() -> Vec<Vec<u8>> {
    let captured = files("../../server/protocol/testdata/requests", "request");
    captured.iter().map(|frame| with_choice(WHOLE_FRAME, frame)).collect()
}

/// For [`crate::metadata_entry`]: a broker, topics that come, change and go, and producer ids.
pub fn metadata_entry() -> Vec<Vec<u8>> {
    let topic = TopicId::from_bytes([7; 16]);
    let node = NodeId::new(1).expect("a broker's number");
    let partition = Partition {
        partition: 0,
        replicas: vec![node],
        isr: vec![node],
        leader: Some(node),
        leader_epoch: LeaderEpoch::new(0),
        partition_epoch: 0,
    };
    let lives = [
        vec![Record::Topic { topic, name: "weather".into() }, Record::Partition { topic, partition }],
        vec![Record::TopicConfig { topic, key: "retention.ms".into(), value: Some("5".into()) }],
        vec![Record::ProducerIdBlock { next: 1_000 }],
        vec![Record::RemoveTopic { topic }],
    ];
    let (mut log, mut first_bytes) = (Vec::new(), 0);
    for (index, records) in (1..).zip(lives) {
        let mut bytes = Vec::new();
        Entry { term: 1, index, records }.encode(&mut bytes);
        log.extend_from_slice(&u16::try_from(bytes.len()).expect("entries of a seed are short").to_le_bytes());
        log.extend_from_slice(&bytes);
        first_bytes = if index == 1 { log.len() } else { first_bytes };
    }
    vec![with_choice(0, &log), with_choice(1, &log), with_choice(1, &log[..first_bytes])]
}

/// For [`crate::group_record`]: a committed offset, that it is gone, and a group that is.
pub fn group_record() -> Vec<Vec<u8>> {
    let committed = Committed {
        offset: 42,
        leader_epoch: 3,
        metadata: "note".into(),
        commit_unix_ms: 1_750_000_000_000,
        expire_unix_ms: None,
        topic_id: Uuid::ZERO,
    };
    let commit = StoredRecord::offset("readers", "weather", 0, Some(&committed));
    let taken_back = StoredRecord::offset("readers", "weather", 0, None);
    let gone = StoredRecord::group("readers", None);
    let input = |records: &[&StoredRecord]| {
        let mut input = Vec::new();
        for record in records {
            let value_bytes = record.value.as_ref().map_or(usize::from(u16::MAX), Vec::len);
            input.push(u8::try_from(record.key.len()).expect("keys of a seed are short"));
            input.extend_from_slice(&u16::try_from(value_bytes).expect("so are values").to_le_bytes());
            input.extend_from_slice(&record.key);
            input.extend_from_slice(record.value.as_deref().unwrap_or_default());
        }
        input
    };
    vec![input(&[&commit]), input(&[&commit, &taken_back]), input(&[&commit, &gone, &commit])]
}

/// For [`crate::config`]: files and arguments that say something about most kinds of keys.
pub fn config() -> Vec<Vec<u8>> {
    let file = "node.id = 7\nlisteners = \"PLAINTEXT://127.0.0.1:0\"\n[log]\nretention.hours = 1\nlevel = \"debug\"\n";
    let arguments = "flush.policy=interval\nlog.cleaner.min.cleanable.ratio=0.25\nlog.segment.bytes=64MiB\n";
    vec![with_choice(0x18, file.as_bytes()), with_choice(0x19, arguments.as_bytes()), with_choice(0, b"")]
}

fn with_choice(choice: u8, bytes: &[u8]) -> Vec<u8> {
    let mut input = vec![choice];
    input.extend_from_slice(bytes);
    input
}

/// Bytes without a period that a shape would notice.
fn pattern(count: usize, step: u32) -> Vec<u8> {
    let mut state = step;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(count).collect()
}

/// The files with this extension in a folder that is named relative to this crate.
fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let names = fs::read_dir(&folder).expect("the folder of golden files is there");
    let mut paths: Vec<_> = names.map(|entry| entry.expect("the folder can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a golden file can be read")).collect()
}
