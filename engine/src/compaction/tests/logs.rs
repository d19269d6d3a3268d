//! Makes logs for the tests, and takes them apart again.

use std::collections::BTreeMap;

use millrace_protocol::batch::compression::Decompressor;
use millrace_protocol::batch::{
    Attributes, BatchBuilder, BatchFields, BatchHeader, BatchRewriter, BatchView, Compression, ProducerFields,
    assign_log_append_time, assign_offsets,
};
use proptest::prelude::{Strategy, any, prop_oneof};

use crate::compaction::AbortedTransactions;
use crate::model::Offset;

pub(super) const CODECS: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// A record, before or after its log was made; the offset is set by the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) time_ms: i64,
}

pub(super) fn value(key: u8) -> Record {
    Record { offset: 0, key: Some(vec![key]), value: Some(vec![key; 20]), time_ms: 10 + i64::from(key) }
}

pub(super) fn tombstone(key: u8) -> Record {
    Record { value: None, ..value(key) }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlledBy {
    Client,
    Broker,
}

/// A batch taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) base: i64,
    pub(super) last: i64,
    pub(super) leader_epoch: i32,
    /// Id, epoch, base sequence.
    pub(super) producer: (i64, i16, i32),
    pub(super) codec: Compression,
    pub(super) horizon_ms: Option<i64>,
    pub(super) max_time_ms: i64,
    pub(super) has_append_time: bool,
    pub(super) transactional: bool,
    pub(super) controlled_by: ControlledBy,
    pub(super) records: Vec<Record>,
}

/// Takes a log apart. Nothing in it may be unreadable.
pub(super) fn batches_of(log: &[u8]) -> Vec<Batch> {
    let (mut batches, mut rest) = (Vec::new(), log);
    let mut decompressor = Decompressor::new(1 << 20);
    while !rest.is_empty() {
        let view = BatchView::parse(rest).unwrap();
        rest = &rest[view.bytes().len()..];
        let header = view.header();
        let attributes = header.attributes();
        let records = decompressor.records(&view).unwrap().map(|record| {
            let record = record.unwrap();
            let (key, value) = (record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec));
            Record { offset: record.offset, key, value, time_ms: record.timestamp }
        });
        batches.push(Batch {
            base: header.base_offset.get(),
            last: header.last_offset(),
            leader_epoch: header.leader_epoch.get(),
            producer: (header.producer_id.get(), header.producer_epoch.get(), header.base_sequence.get()),
            codec: attributes.compression().unwrap(),
            horizon_ms: header.delete_horizon_ms(),
            max_time_ms: header.max_timestamp.get(),
            has_append_time: attributes.is_log_append_time(),
            transactional: attributes.is_transactional(),
            controlled_by: if attributes.is_control() { ControlledBy::Broker } else { ControlledBy::Client },
            records: records.collect(),
        });
    }
    batches
}

/// How [`LogBuilder::push_malformed`] spoils a batch. Its checksum holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Malformation {
    /// The last record lacks its end.
    Truncated,
    /// The second record has the first one's place.
    Disordered,
}

/// Makes a log batch by batch.
#[derive(Clone, Debug, Default)]
pub(super) struct LogBuilder {
    pub(super) bytes: Vec<u8>,
    pub(super) starts: Vec<usize>,
    pub(super) end: i64,
    sequences: BTreeMap<i64, i32>,
}

impl LogBuilder {
    pub(super) fn push(&mut self, codec: Compression, records: &[Record]) {
        self.append(compressed(&plain(BatchFields::default(), records), codec));
    }

    pub(super) fn push_of_producer(&mut self, id: i64, records: &[Record]) {
        let producer = Some(self.producer(id, records.len()));
        self.append(plain(BatchFields { producer, ..BatchFields::default() }, records));
    }

    pub(super) fn push_transactional(&mut self, id: i64, records: &[Record]) {
        let producer = Some(self.producer(id, records.len()));
        let attributes = Attributes::default().with_transactional();
        self.append(plain(BatchFields { producer, attributes, ..BatchFields::default() }, records));
    }

    /// The marker that ends a transaction.
    pub(super) fn push_marker(&mut self, id: i64) {
        let producer = Some(ProducerFields { id, epoch: 0, base_sequence: -1 });
        let attributes = Attributes::default().with_transactional().with_control();
        let marker = Record { offset: 0, key: Some(vec![0, 0, 0, 0]), value: Some(vec![0; 6]), time_ms: 5 };
        self.append(plain(BatchFields { producer, attributes, ..BatchFields::default() }, &[marker]));
    }

    /// A batch whose compressed records are noise, as a producer may send it.
    pub(super) fn push_unreadable(&mut self, codec: Compression, count: i32) {
        let mut builder = BatchBuilder::new(BatchFields::default());
        (0..count).for_each(|_| builder.push(0, Some(b"key"), Some(b"value")));
        let mut batch = builder.build();
        with_header(&mut batch, |header| header.attributes = code_of(codec).into());
        self.append(batch);
    }

    pub(super) fn push_malformed(&mut self, records: &[Record], malformation: Malformation) {
        let mut batch = plain(BatchFields::default(), records);
        match malformation {
            Malformation::Truncated => {
                batch.pop();
                let length = i32::try_from(batch.len() - 12).unwrap();
                with_header(&mut batch, |header| header.batch_length = length.into());
            }
            Malformation::Disordered => {
                let first_bytes = 61 + 1 + usize::from(batch[61] / 2);
                // Length, attributes, timestamp delta, offset delta.
                batch[first_bytes + 3] = 0;
                with_header(&mut batch, |_| ());
            }
        }
        self.append(batch);
    }

    fn producer(&mut self, id: i64, count: usize) -> ProducerFields {
        let sequence = self.sequences.entry(id).or_default();
        let base_sequence = *sequence;
        *sequence += i32::try_from(count).unwrap();
        ProducerFields { id, epoch: 0, base_sequence }
    }

    fn append(&mut self, mut batch: Vec<u8>) {
        // A new leader every now and then.
        let leader_epoch = 3 + i32::try_from(self.starts.len() / 6).unwrap();
        assign_offsets(&mut batch, self.end, leader_epoch);
        self.starts.push(self.bytes.len());
        self.end = BatchHeader::parse(&batch).unwrap().0.last_offset() + 1;
        self.bytes.extend(batch);
    }
}

fn plain(fields: BatchFields, records: &[Record]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(fields);
    for record in records {
        builder.push(record.time_ms, record.key.as_deref(), record.value.as_deref());
    }
    builder.build()
}

fn code_of(codec: Compression) -> i16 {
    i16::try_from(CODECS.iter().position(|known| *known == codec).unwrap()).unwrap()
}

fn compressed(plain: &[u8], codec: Compression) -> Vec<u8> {
    let view = BatchView::parse(plain).unwrap();
    let header = BatchHeader { attributes: code_of(codec).into(), ..*view.header() };
    let (mut rewriter, mut output) = (BatchRewriter::default(), Vec::new());
    rewriter.begin(&header, None);
    view.records().unwrap().for_each(|record| rewriter.push(&record.unwrap()));
    rewriter.finish(&mut output).unwrap();
    output
}

/// Changes the header and makes the checksum right.
fn with_header(batch: &mut [u8], change: impl FnOnce(&mut BatchHeader)) {
    use zerocopy::FromBytes as _;
    let crc_of = |batch: &[u8]| ::crc32c::crc32c(&batch[21..]);
    change(BatchHeader::mut_from_prefix(batch).unwrap().0);
    let crc = crc_of(batch);
    BatchHeader::mut_from_prefix(batch).unwrap().0.crc = crc.into();
}

/// A random log, and what a pass must know of it.
#[derive(Clone, Debug)]
pub(super) struct MadeLog {
    pub(super) bytes: Vec<u8>,
    pub(super) end: i64,
    pub(super) producers: BTreeMap<i64, Offset>,
    pub(super) aborted: AbortedTransactions,
}

#[derive(Clone, Debug)]
enum Kind {
    Plain { codec: Compression },
    AppendTime { time_ms: i64 },
    OfProducer { id: i64 },
    Transaction { aborted: bool },
}

pub(super) fn log_strategy() -> impl Strategy<Value = MadeLog> {
    let record = (proptest::option::weighted(0.95, 0..6_u8), proptest::option::weighted(0.7, any::<u8>()), 0..1000_i64);
    let record = record.prop_map(|(key, value, time_ms)| Record {
        offset: 0,
        key: key.map(|key| vec![key; usize::from(key)]),
        value: value.map(|value| vec![value; 9]),
        time_ms,
    });
    let kind = prop_oneof![
        4 => proptest::sample::select(CODECS.to_vec()).prop_map(|codec| Kind::Plain { codec }),
        1 => (0..1000_i64).prop_map(|time_ms| Kind::AppendTime { time_ms }),
        2 => (0..4_i64).prop_map(|id| Kind::OfProducer { id }),
        1 => any::<bool>().prop_map(|aborted| Kind::Transaction { aborted }),
    ];
    let batch = (kind, proptest::collection::vec(record, 1..6));
    proptest::collection::vec(batch, 0..25).prop_map(made)
}

fn made(batches: Vec<(Kind, Vec<Record>)>) -> MadeLog {
    const TRANSACTIONAL_ID: i64 = 9;
    let (mut builder, mut producers) = (LogBuilder::default(), BTreeMap::new());
    let mut aborted_transactions = AbortedTransactions::default();
    for (kind, records) in batches {
        let first = Offset::new(builder.end);
        match kind {
            Kind::Plain { codec } => builder.push(codec, &records),
            Kind::AppendTime { time_ms } => {
                let mut batch = compressed(&plain(BatchFields::default(), &records), Compression::Lz4);
                assign_log_append_time(&mut batch, time_ms);
                builder.append(batch);
            }
            Kind::OfProducer { id } => {
                builder.push_of_producer(id, &records);
                // Producers 2 and 3 are forgotten.
                if id < 2 {
                    producers.insert(id, Offset::new(builder.end - 1));
                }
            }
            Kind::Transaction { aborted } => {
                builder.push_transactional(TRANSACTIONAL_ID, &records);
                producers.insert(TRANSACTIONAL_ID, Offset::new(builder.end - 1));
                let marker = Offset::new(builder.end);
                builder.push_marker(TRANSACTIONAL_ID);
                if aborted {
                    aborted_transactions.insert(TRANSACTIONAL_ID, first, marker);
                }
            }
        }
    }
    MadeLog { bytes: builder.bytes, end: builder.end, producers, aborted: aborted_transactions }
}
