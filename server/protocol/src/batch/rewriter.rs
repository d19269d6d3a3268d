//! Writes what remains of a batch when compaction takes records away.
//!
//! The remainder occupies the offsets and the sequences of the original: base offset, last offset delta, producer id, epoch,
//! base sequence and leader epoch stay, and so do the offsets of the records in it. Length, count, checksum and largest
//! timestamp are those of what is left. Never decides what remains, and never reorders.

use crate::wire::Writer;

use super::builder::{NO_TIMESTAMP, append_batch};
use super::compression::{CompressionError, Compressor};
use super::{BatchHeader, Compression, Record};

/// Writes one remainder after another: [`BatchRewriter::begin`], a [`BatchRewriter::push`] for each record that stays, in
/// order, and [`BatchRewriter::finish`].
pub struct BatchRewriter {
    /// The header of the remainder in progress.
    header: BatchHeader,
    rebased: bool,
    record_count: i32,
    max_timestamp: i64,
    records: Writer,
    scratch: Writer,
    compressor: Compressor,
}

impl Default for BatchRewriter {
    fn default() -> Self {
        Self {
            header: zerocopy::FromZeros::new_zeroed(),
            rebased: false,
            record_count: 0,
            max_timestamp: NO_TIMESTAMP,
            records: Writer::new(),
            scratch: Writer::new(),
            compressor: Compressor::default(),
        }
    }
}

impl BatchRewriter {
    /// Begins the remainder of the batch with this header. A delete horizon is set only where there was none (KIP-534): it
    /// takes the place of the base timestamp, and the records' times are written relative to it.
    pub fn begin(&mut self, header: &BatchHeader, new_delete_horizon_ms: Option<i64>) {
        self.header = *header;
        self.rebased = new_delete_horizon_ms.is_some();
        if let Some(delete_horizon_ms) = new_delete_horizon_ms {
            assert!(!header.attributes().has_delete_horizon(), "a delete horizon is set once");
            self.header.attributes = header.attributes().with_delete_horizon().0.into();
            self.header.base_timestamp = delete_horizon_ms.into();
        }
        self.record_count = 0;
        self.max_timestamp = NO_TIMESTAMP;
        self.records.clear();
    }

    /// Takes over one record of the batch.
    pub fn push(&mut self, record: &Record<'_>) {
        if self.rebased {
            let base_timestamp = self.header.base_timestamp.get();
            record.write_with_base_timestamp(base_timestamp, &mut self.records, &mut self.scratch);
        } else {
            self.records.write_slice(record.encoded());
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        self.record_count += 1;
    }

    /// How many bytes the records taken over so far have, before they are compressed.
    pub fn records_bytes(&self) -> usize {
        self.records.position()
    }

    /// Appends the remainder to `output`, compressed as the original was. On an error nothing is appended.
    pub fn finish(&mut self, output: &mut Vec<u8>) -> Result<(), CompressionError> {
        let compression = self.header.attributes().compression().unwrap_or(Compression::None);
        let records = self.compressor.compress(compression, self.records.bytes())?;
        if records.len() > RECORDS_BYTES_MAX {
            return Err(CompressionError::TooLarge { bytes_max: RECORDS_BYTES_MAX });
        }
        self.header.record_count = self.record_count.into();
        if !self.header.attributes().is_log_append_time() {
            self.header.max_timestamp = self.max_timestamp.into();
        }
        append_batch(self.header, records, output);
        Ok(())
    }
}

/// Appends what is kept of a batch that has lost all of its records: the header alone, because it tells which sequence the
/// producer has reached. Kafka's `DefaultRecordBatch` describes it; the largest timestamp stays as it was.
pub fn write_emptied(header: &BatchHeader, output: &mut Vec<u8>) {
    let emptied = BatchHeader {
        attributes: header.attributes().emptied().0.into(),
        base_timestamp: NO_TIMESTAMP.into(),
        record_count: 0.into(),
        ..*header
    };
    append_batch(emptied, &[], output);
}

/// The most that the records of one batch may take: its length is a 32-bit number.
const RECORDS_BYTES_MAX: usize = (1 << 31) - 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::compression::Decompressor;
    use crate::batch::{Attributes, BatchBuilder, BatchFields, BatchView, ProducerFields, RecordHeader};

    /// Records at offsets 100 to 104 with times 1000, 1001 and so on, compressed as asked.
    fn batch(compression: Compression) -> Vec<u8> {
        let producer = Some(ProducerFields { id: 7, epoch: 2, base_sequence: 40 });
        let fields = BatchFields { base_offset: 100, leader_epoch: 3, attributes: Attributes::default(), producer };
        let mut builder = BatchBuilder::new(fields);
        for number in 0..5_i64 {
            let headers = [RecordHeader { key: b"h", value: Some(b"x") }];
            builder.push_with_headers(1000 + number, Some(format!("key-{number}").as_bytes()), Some(b"v"), &headers);
        }
        let plain = builder.build();
        let view = BatchView::parse(&plain).unwrap();
        let mut rewriter = BatchRewriter::default();
        let code = i16::try_from(CODECS.iter().position(|codec| *codec == compression).unwrap()).unwrap();
        let header = BatchHeader { attributes: code.into(), ..*view.header() };
        rewriter.begin(&header, None);
        view.records().unwrap().for_each(|record| rewriter.push(&record.unwrap()));
        let mut output = Vec::new();
        rewriter.finish(&mut output).unwrap();
        output
    }

    const CODECS: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// Offset, time, key, header count of every record.
    fn contents(batch: &[u8]) -> Vec<(i64, i64, Vec<u8>, usize)> {
        let mut decompressor = Decompressor::new(1 << 20);
        let records = decompressor.records(&BatchView::parse(batch).unwrap()).unwrap().map(Result::unwrap);
        records
            .map(|record| (record.offset, record.timestamp, record.key.unwrap().to_vec(), record.headers().count()))
            .collect()
    }

    fn remainder(batch: &[u8], offsets: &[i64], delete_horizon_ms: Option<i64>) -> Vec<u8> {
        let view = BatchView::parse(batch).unwrap();
        let mut decompressor = Decompressor::new(1 << 20);
        let (mut rewriter, mut output) = (BatchRewriter::default(), b"before".to_vec());
        rewriter.begin(view.header(), delete_horizon_ms);
        for record in decompressor.records(&view).unwrap().map(Result::unwrap) {
            if offsets.contains(&record.offset) {
                rewriter.push(&record);
            }
        }
        rewriter.finish(&mut output).unwrap();
        output.split_off(6)
    }

    #[test]
    fn what_stays_keeps_its_offsets_times_and_sequences() {
        for codec in CODECS {
            let original = batch(codec);
            let all = contents(&original);
            for horizon in [None, Some(i64::MAX), Some(0), Some(5_000_000)] {
                let bytes = remainder(&original, &[101, 103], horizon);
                let view = BatchView::parse(&bytes).unwrap();
                assert_eq!(view.bytes().len(), bytes.len());
                assert_eq!(contents(&bytes), [all[1].clone(), all[3].clone()], "{codec:?}");
                let header = view.header();
                assert_eq!((header.base_offset.get(), header.last_offset(), header.record_count.get()), (100, 104, 2));
                assert_eq!((header.producer_id.get(), header.producer_epoch.get()), (7, 2));
                assert_eq!((header.base_sequence.get(), header.last_sequence()), (40, 44));
                assert_eq!((header.leader_epoch.get(), header.max_timestamp.get()), (3, 1003));
                assert_eq!(header.attributes().compression(), Some(codec));
                assert_eq!(header.delete_horizon_ms(), horizon);
            }
        }
    }

    #[test]
    fn a_horizon_stays_through_later_rewrites_and_times_with_it() {
        let first = remainder(&batch(Compression::Zstd), &[100, 102, 104], Some(77));
        let second = remainder(&first, &[102], None);
        assert_eq!(BatchView::parse(&second).unwrap().header().delete_horizon_ms(), Some(77));
        assert_eq!(contents(&second), [(102, 1002, b"key-2".to_vec(), 1)]);
    }

    #[test]
    fn an_append_time_stays() {
        let mut original = batch(Compression::Lz4);
        crate::batch::assign_log_append_time(&mut original, 9999);
        let bytes = remainder(&original, &[101], Some(5));
        assert_eq!(BatchView::parse(&bytes).unwrap().header().max_timestamp.get(), 9999);
        assert_eq!(contents(&bytes), [(101, 9999, b"key-1".to_vec(), 1)]);
    }

    #[test]
    fn an_emptied_batch_keeps_its_place_and_its_producer() {
        let original = remainder(&batch(Compression::Gzip), &[104], Some(5));
        let mut emptied = Vec::new();
        write_emptied(BatchView::parse(&original).unwrap().header(), &mut emptied);
        let view = BatchView::parse(&emptied).unwrap();
        let header = view.header();
        assert_eq!(view.records().unwrap().count(), 0);
        assert_eq!((header.base_offset.get(), header.last_offset(), header.last_sequence()), (100, 104, 44));
        assert_eq!((header.producer_id.get(), header.producer_epoch.get(), header.leader_epoch.get()), (7, 2, 3));
        assert_eq!((header.max_timestamp.get(), header.delete_horizon_ms()), (1004, None));
        assert_eq!(header.attributes(), Attributes::default());
    }
}
