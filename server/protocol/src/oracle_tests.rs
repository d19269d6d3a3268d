//! Judged by another codec: what we encode, the `kafka-protocol` crate decodes and encodes to the same bytes, and we
//! decode what it encoded to what we began with. Versions that only one of the two knows are left out.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages as oracle;
use kafka_protocol::protocol::{Decodable, Encodable, Message as OracleMessage};
use kafka_protocol::records::{Compression, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};
use proptest::prelude::*;

use crate::batch::{Attributes, BatchBuilder, BatchFields, BatchView, ProducerFields, RecordHeader};
use crate::group_data;
use crate::messages::every_message;
use crate::sampler::Sampler;
use crate::wire::{Reader, Structure, Writer};

/// Passes `bytes` through the other codec.
fn through_oracle<Theirs: Decodable + Encodable>(bytes: &[u8], version: i16) -> Vec<u8> {
    let mut input = Bytes::copy_from_slice(bytes);
    let message = Theirs::decode(&mut input, version).expect("the oracle decodes it");
    assert!(input.is_empty(), "the oracle leaves {} bytes", input.len());
    let mut output = BytesMut::new();
    message.encode(&mut output, version).expect("the oracle encodes it");
    output.to_vec()
}

fn encode<'a>(message: &impl Structure<'a>, version: i16) -> Vec<u8> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version).unwrap();
    writer.into_bytes()
}

/// Compares one structure in every version that both know.
macro_rules! compare {
    ($seed:ident, $ours:ty, $name:ident) => {
        let theirs = <oracle::$name as OracleMessage>::VERSIONS;
        let ours = <$ours>::VERSIONS;
        prop_assert!(ours.min <= theirs.max && theirs.min <= ours.max, "{} is not compared", stringify!($name));
        for version in ours.min.max(theirs.min)..=ours.max.min(theirs.max) {
            let message = <$ours>::sample(&mut Sampler::new($seed), version);
            let bytes = encode(&message, version);
            let echoed = through_oracle::<oracle::$name>(&bytes, version);
            prop_assert_eq!(&bytes, &echoed, "{} version {}", stringify!($name), version);
            let decoded = <$ours>::decode(&mut Reader::new(&echoed), version);
            prop_assert_eq!(decoded.as_ref(), Ok(&message));
        }
    };
}

macro_rules! test_against_oracle {
    ($(($module:ident, $name:ident))*) => {
        proptest! {
            #[test]
            fn the_oracle_agrees_on_every_message(seed: u64) {
                $(compare!(seed, crate::messages::$module::$name, $name);)*
            }
        }
    };
}

every_message!(test_against_oracle);

proptest! {
    /// What is stored by coordinators is not the oracle's to know.
    #[test]
    fn the_oracle_agrees_on_what_consumers_tell_each_other(seed: u64) {
        compare!(
            seed,
            group_data::consumer_protocol_subscription::ConsumerProtocolSubscription<'_>,
            ConsumerProtocolSubscription
        );
        compare!(
            seed,
            group_data::consumer_protocol_assignment::ConsumerProtocolAssignment<'_>,
            ConsumerProtocolAssignment
        );
    }
}

#[test]
fn the_oracle_reads_our_batches_and_we_read_its() {
    for seed in 0..200 {
        let mut random = Sampler::new(seed);
        let producer = ProducerFields { id: 1000, epoch: 3, base_sequence: 20 };
        let attributes = Attributes::default().with_transactional();
        let producer = Some(producer);
        let mut builder = BatchBuilder::new(BatchFields { base_offset: 500, leader_epoch: 4, attributes, producer });
        // The oracle refuses to encode an empty batch, and keeps headers in a map of its own order: at most one here.
        let record_count = 1 + random.below(20);
        // The oracle's base is the earliest time and not, as in Kafka, the first record's; rising times are both.
        let mut timestamp_ms = 1_700_000_000_000;
        for _ in 0..record_count {
            let headers = random.nullable(|random| RecordHeader { key: b"trace", value: Some(random.next_bytes()) });
            let (key, value) = (random.nullable(Sampler::next_bytes), random.nullable(Sampler::next_bytes));
            timestamp_ms += i64::from(random.next_u16());
            builder.push_with_headers(timestamp_ms, key, value, headers.as_slice());
        }
        let batch = builder.build();
        let theirs = RecordBatchDecoder::decode(&mut Bytes::copy_from_slice(&batch)).expect("the oracle decodes it");
        assert_eq!(theirs.records.len(), record_count);
        let mut echoed = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut echoed, &theirs.records, &options).expect("the oracle encodes it");
        assert_eq!(echoed, batch, "seed {seed}");
        assert!(BatchView::parse_produced(&echoed).is_ok());
    }
}
