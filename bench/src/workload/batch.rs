//! Batches that are built once and stamped for each sending.
//!
//! The records of a [`Template`] stay as they are, but for the stamps in their values; the 61 bytes of the header are
//! written anew each time. Any number of the first records makes a batch too, because a record's place in its batch is
//! written in it and nothing else of its neighbours. The checksum is made of what changed and, behind it, of what is
//! known from before.

use anyhow::{Context as _, ensure};
use millrace_protocol::batch::compression::Compressor;
use millrace_protocol::batch::crc32c;
use millrace_protocol::batch::{BATCH_BYTES_MIN, BatchBuilder, BatchFields, BatchHeader, Compression, ProducerFields};
use rand::Rng;
use zerocopy::IntoBytes as _;

use super::keys::KeySource;
use super::records::Values;
use super::stamp::{STAMP_BYTES, Stamp};

/// Which records of a batch are stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamping {
    /// None: records are the same in every batch.
    None,
    /// The first one.
    First,
    /// Every one.
    Every,
}

/// How batches are made.
#[derive(Clone, Debug)]
pub(crate) struct BatchShape {
    pub(crate) values: Values,
    pub(crate) keys: KeySource,
    /// A batch is full when the next record would not fit. Before compression.
    pub(crate) batch_bytes: usize,
    /// One record is always in it, and never more than this.
    pub(crate) records_max: usize,
    pub(crate) compression: Compression,
    pub(crate) stamping: Stamping,
}

/// A batch, ready to be sent over and over.
pub(crate) struct Template {
    stamping: Stamping,
    compression: Compression,
    compressor: Compressor,
    /// The encoded records, not compressed.
    records: Vec<u8>,
    /// Where each record ends.
    ends: Vec<usize>,
    /// Where each value begins. Empty if the values are too short for stamps.
    slots: Vec<usize>,
    /// Of a full batch: the checksum of what stands behind the last stamp.
    tail_crc: u32,
    header: [u8; BATCH_BYTES_MIN],
    /// How many bytes of the records are in the batch that was made last.
    used_bytes: usize,
    /// The compressed records of the batch that was made last, and how many records they are.
    compressed: Vec<u8>,
    compressed_count: usize,
}

impl Template {
    /// A full batch of new records; `index` counts the records drawn so far and is moved on.
    pub(crate) fn draw(shape: &BatchShape, index: &mut usize, random: &mut impl Rng) -> anyhow::Result<Self> {
        let mut builder = BatchBuilder::new(BatchFields::default());
        let (mut ends, mut slots) = (Vec::new(), Vec::new());
        while ends.len() < shape.records_max {
            let value = shape.values.value(*index, random);
            let key = shape.keys.draw(random);
            let record_bytes = value.len() + key.as_ref().map_or(0, Vec::len) + RECORD_OVERHEAD_BYTES;
            if !ends.is_empty() && builder.batch_bytes() + record_bytes > shape.batch_bytes {
                break;
            }
            builder.push(0, key.as_deref(), Some(&value));
            let end = builder.batch_bytes() - BATCH_BYTES_MIN;
            ends.push(end);
            // The one byte behind a value says that there are no headers.
            if value.len() >= STAMP_BYTES {
                slots.push(end - 1 - value.len());
            }
            *index += 1;
        }
        let stamping = if slots.len() == ends.len() { shape.stamping } else { Stamping::None };
        let mut records = builder.build();
        ensure!(records.len() <= BATCH_BYTES_MAX, "a batch of {} bytes is too large", records.len());
        records.drain(..BATCH_BYTES_MIN);
        let mut template = Self {
            stamping,
            compression: shape.compression,
            compressor: Compressor::default(),
            used_bytes: records.len(),
            records,
            ends,
            slots,
            tail_crc: 0,
            header: [0; BATCH_BYTES_MIN],
            compressed: Vec::new(),
            compressed_count: 0,
        };
        template.tail_crc = crc32c::checksum(&template.records[template.stamped_bytes(template.record_count())..]);
        Ok(template)
    }

    /// Which records are stamped: what was asked for, unless the values are too short.
    pub(crate) fn stamping(&self) -> Stamping {
        self.stamping
    }

    /// How many records a full batch has.
    pub(crate) fn record_count(&self) -> usize {
        self.ends.len()
    }

    /// Makes a batch of the first `count` records. `stamp_of` gives the stamp of each, by its place.
    pub(crate) fn make(
        &mut self,
        count: usize,
        timestamp_ms: i64,
        producer: Option<ProducerFields>,
        stamp_of: impl Fn(u64) -> Stamp,
    ) -> anyhow::Result<()> {
        assert!((1..=self.record_count()).contains(&count), "a batch has records, and no more than were drawn");
        let stamped = match self.stamping {
            Stamping::None => 0,
            Stamping::First => 1,
            Stamping::Every => count,
        };
        for (place, slot) in (0..).zip(&self.slots[..stamped]) {
            stamp_of(place).write(&mut self.records[*slot..]);
        }
        self.used_bytes = self.ends[count - 1];
        if self.compression != Compression::None {
            self.compress(count)?;
        }
        let producer = producer.unwrap_or(ProducerFields { id: -1, epoch: -1, base_sequence: -1 });
        let record_count = i32::try_from(count).context("records of a batch")?;
        let batch_length = BATCH_BYTES_MIN - LENGTH_END + self.records().len();
        let mut header = BatchHeader {
            base_offset: 0.into(),
            batch_length: i32::try_from(batch_length).context("bytes of a batch")?.into(),
            leader_epoch: (-1).into(),
            magic: MAGIC,
            crc: 0.into(),
            attributes: code_of(self.compression).into(),
            last_offset_delta: (record_count - 1).into(),
            base_timestamp: timestamp_ms.into(),
            max_timestamp: timestamp_ms.into(),
            producer_id: producer.id.into(),
            producer_epoch: producer.epoch.into(),
            base_sequence: producer.base_sequence.into(),
            record_count: record_count.into(),
        };
        header.crc = self.checksum(&header.as_bytes()[CRC_START..], count).into();
        self.header.copy_from_slice(header.as_bytes());
        Ok(())
    }

    /// The header of the batch that was made last.
    pub(crate) fn header(&self) -> &[u8] {
        &self.header
    }

    /// The records of the batch that was made last.
    pub(crate) fn records(&self) -> &[u8] {
        match self.compression {
            Compression::None => &self.records[..self.used_bytes],
            _ => &self.compressed,
        }
    }

    fn checksum(&self, header: &[u8], count: usize) -> u32 {
        let crc = crc32c::checksum(header);
        let stamped_bytes = self.stamped_bytes(count);
        let tail_bytes = self.used_bytes - stamped_bytes;
        let is_tail_known = count == self.record_count() && self.compression == Compression::None;
        if is_tail_known && tail_bytes >= COMBINED_BYTES_MIN {
            let crc = crc32c::append(crc, &self.records[..stamped_bytes]);
            return crc32c::combine(crc, self.tail_crc, tail_bytes);
        }
        crc32c::append(crc, self.records())
    }

    /// Up to where stamps change the records.
    fn stamped_bytes(&self, count: usize) -> usize {
        match self.stamping {
            Stamping::None => 0,
            Stamping::First => self.slots[0] + STAMP_BYTES,
            Stamping::Every => self.slots[count - 1] + STAMP_BYTES,
        }
    }

    fn compress(&mut self, count: usize) -> anyhow::Result<()> {
        if self.stamping == Stamping::None && self.compressed_count == count {
            return Ok(());
        }
        let compressed = self.compressor.compress(self.compression, &self.records[..self.used_bytes])?;
        self.compressed.clear();
        self.compressed.extend_from_slice(compressed);
        self.compressed_count = count;
        Ok(())
    }
}

const fn code_of(compression: Compression) -> i16 {
    match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

/// Above what a record takes besides its key and its value.
const RECORD_OVERHEAD_BYTES: usize = 24;
/// What `batch_length` does not count.
const LENGTH_END: usize = 12;
/// Where the checksum begins to count.
const CRC_START: usize = 21;
/// The format's number.
const MAGIC: i8 = 2;
const BATCH_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Below this it is cheaper to go over the bytes than to combine two checksums.
const COMBINED_BYTES_MIN: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use millrace_protocol::batch::BatchView;
    use millrace_protocol::batch::compression::Decompressor;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::super::keys::Keys;
    use super::super::records::Size;
    use super::*;

    fn shape(stamping: Stamping, compression: Compression, batch_bytes: usize) -> BatchShape {
        let values = Values::Made(Size { bytes_min: 40, bytes_max: 90 });
        let keys = KeySource::new(Keys::Uniform(3));
        BatchShape { values, keys, batch_bytes, records_max: usize::MAX, compression, stamping }
    }

    fn template(shape: &BatchShape) -> Template {
        Template::draw(shape, &mut 0, &mut SmallRng::seed_from_u64(3)).unwrap()
    }

    fn stamp_of(place: u64) -> Stamp {
        Stamp { producer: 7, sequence: 100 + place, due_nanos: place }
    }

    /// The stamps of a batch that was made, which must be one that a broker takes.
    fn stamps(template: &Template) -> Vec<Option<Stamp>> {
        let bytes = [template.header(), template.records()].concat();
        let batch = BatchView::parse_produced(&bytes).unwrap();
        let mut decompressor = Decompressor::new(1 << 24);
        let records = decompressor.records(&batch).unwrap();
        records.map(|record| Stamp::parse(record.unwrap().value.unwrap())).collect()
    }

    #[test]
    fn any_number_of_the_first_records_is_a_batch() {
        for batch_bytes in [2000, 300_000] {
            let mut template = template(&shape(Stamping::Every, Compression::None, batch_bytes));
            let full = template.record_count();
            for count in [full, 1, full / 2, full] {
                template.make(count, 5, None, stamp_of).unwrap();
                let expected: Vec<_> = (0..).map(|place| Some(stamp_of(place))).take(count).collect();
                assert_eq!(stamps(&template), expected);
            }
        }
    }

    #[test]
    fn checksums_are_right_whatever_is_stamped_and_compressed() {
        let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
        for compression in codecs {
            for stamping in [Stamping::None, Stamping::First, Stamping::Every] {
                let mut template = template(&shape(stamping, compression, 200_000));
                let producer = ProducerFields { id: 9, epoch: 1, base_sequence: 50 };
                for round in 0..2 {
                    template.make(template.record_count(), 1000 + round, Some(producer), stamp_of).unwrap();
                    let stamps = stamps(&template);
                    let stamped = stamps.iter().flatten().count();
                    let expected = match stamping {
                        Stamping::None => 0,
                        Stamping::First => 1,
                        Stamping::Every => stamps.len(),
                    };
                    assert_eq!(stamped, expected, "{compression:?} {stamping:?}");
                }
            }
        }
    }

    #[test]
    fn values_without_room_have_no_stamps() {
        let mut shape = shape(Stamping::Every, Compression::None, 2000);
        shape.values = Values::Made(Size { bytes_min: 10, bytes_max: 40 });
        let mut template = template(&shape);
        template.make(template.record_count(), 0, None, stamp_of).unwrap();
        assert!(stamps(&template).iter().all(Option::is_none));
    }
}
