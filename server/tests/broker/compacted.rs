//! Topics that are compacted take no records without a key.

use millrace_protocol::batch::compression::Compressor;
use millrace_protocol::batch::{BatchBuilder, BatchFields, BatchView, Compression};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use millrace_protocol::messages::fetch::FetchResponse;
use millrace_protocol::messages::produce::ProduceResponse;
use millrace_runtime::sim::SimEnv;

use crate::client::{Client, batch, fetch_request, produce_request};
use crate::each_seed;
use crate::start::{Running, client_env};

/// A batch of one record for each key.
fn keyed(keys: &[Option<&[u8]>]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(BatchFields::default());
    for key in keys {
        builder.push(1_750_000_000_000, *key, Some(b"value"));
    }
    builder.build()
}

/// The same batch with its records compressed.
pub(crate) fn compressed(batch: &[u8], compression: Compression) -> Vec<u8> {
    let mut compressor = Compressor::default();
    let records = compressor.compress(compression, BatchView::parse(batch).unwrap().records_bytes()).unwrap();
    let mut bytes = [&batch[..RECORDS_START], records].concat();
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[22] |= match compression {
        Compression::None => 0,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    };
    seal(&mut bytes);
    bytes
}

/// Makes the checksum right.
fn seal(batch: &mut [u8]) {
    let checksum = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&checksum.to_be_bytes());
}

const RECORDS_START: usize = 61;

async fn create(client: &mut Client<SimEnv>, name: &str, policy: &'static str) {
    let configs = vec![CreatableTopicConfig { name: "cleanup.policy", value: Some(policy) }];
    let topic = CreatableTopic { name, num_partitions: 4, replication_factor: 1, configs, ..CreatableTopic::default() };
    client.call(7, &CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }).await;
}

#[test]
fn records_without_a_key_are_named_and_nothing_of_their_batch_is_taken() {
    each_seed(async |world| {
        let broker = Running::start(world, &["num.partitions=4"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        for (name, policy) in [("compacted", "compact"), ("both", "delete,compact"), ("deleted", "delete")] {
            create(&mut client, name, policy).await;
        }
        let (good, bad) = (keyed(&[Some(b"a"), Some(b"")]), keyed(&[Some(b"a"), None, Some(b"b"), None]));
        let none = batch(&vec![&b"x"[..]; 1000]);
        for (topic, expected) in
            [("compacted", ErrorCode::InvalidRecord), ("both", ErrorCode::InvalidRecord), ("deleted", ErrorCode::None)]
        {
            for version in [7, 9, 12] {
                let request = produce_request(topic, &[(0, &good), (1, &bad), (2, &none), (3, &good)], -1);
                let answer = client.call(version, &request).await;
                let response: ProduceResponse<'_> = answer.decode(version);
                assert_eq!(response.throttle_time_ms, 0);
                let results = &response.responses[0].partition_responses;
                let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
                assert_eq!(codes, [0, expected.code(), expected.code(), 0], "{topic} version {version}");
                if expected == ErrorCode::None || version < 8 {
                    assert!(results.iter().all(|result| result.record_errors.is_empty()));
                    continue;
                }
                let indexes: Vec<_> = results[1].record_errors.iter().map(|error| error.batch_index).collect();
                assert_eq!(indexes, [1, 3]);
                assert!(results[1].error_message.is_some_and(|text| text.starts_with("2 records")));
                assert_eq!(results[2].record_errors.len(), 100, "a long list ends somewhere");
                assert!(results[2].error_message.is_some_and(|text| text.starts_with("1000 records")));
            }
        }
        let found = client.fetch(&fetch_request("compacted", &[(0, 0), (1, 0), (2, 0), (3, 0)], 0, 1)).await;
        assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [6, 0, 0, 6]);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn compressed_records_are_looked_at_too() {
    each_seed(async |world| {
        let broker = Running::start(world, &["num.partitions=4"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        create(&mut client, "compacted", "compact").await;
        let (good, bad) = (keyed(&[Some(b"a"), Some(b"")]), keyed(&[Some(b"a"), None, Some(b"b"), None]));
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let (good, bad) = (compressed(&good, compression), compressed(&bad, compression));
            // The header is right and the rest is not what the codec writes.
            let mut rubbish = good.clone();
            rubbish[RECORDS_START..].fill(0xff);
            seal(&mut rubbish);
            let mut damaged = good.clone();
            *damaged.last_mut().unwrap() ^= 1;
            let request = produce_request("compacted", &[(0, &good), (1, &bad), (2, &rubbish), (3, &damaged)], -1);
            let answer = client.call(9, &request).await;
            let response: ProduceResponse<'_> = answer.decode(9);
            let results = &response.responses[0].partition_responses;
            let codes: Vec<_> = results.iter().map(|result| result.error_code).collect();
            let (invalid, corrupt) = (ErrorCode::InvalidRecord.code(), ErrorCode::CorruptMessage.code());
            assert_eq!(codes, [0, invalid, invalid, corrupt], "{compression:?}");
            let indexes: Vec<_> = results[1].record_errors.iter().map(|error| error.batch_index).collect();
            assert_eq!(indexes, [1, 3]);
            assert!(results[1].error_message.is_some_and(|text| text.starts_with("2 records")));
            assert!(results[2].error_message.is_some_and(|text| text.contains("not valid")));
        }
        // Small as it is sent, and larger than may be decompressed.
        let mut builder = BatchBuilder::new(BatchFields::default());
        builder.push(0, Some(b"key"), Some(&vec![0; 5 << 20]));
        let bomb = compressed(&builder.build(), Compression::Zstd);
        let answer = client.call(9, &produce_request("compacted", &[(0, &bomb)], -1)).await;
        let response: ProduceResponse<'_> = answer.decode(9);
        let result = &response.responses[0].partition_responses[0];
        assert_eq!(result.error_code, ErrorCode::MessageTooLarge.code());
        assert!(result.error_message.is_some_and(|text| text.contains("more than 4194304 bytes")));

        let answer = client.call(12, &fetch_request("compacted", &[(0, 0), (1, 0), (2, 0), (3, 0)], 0, 1)).await;
        let response: FetchResponse<'_> = answer.decode(12);
        let ends: Vec<_> = response.responses[0].partitions.iter().map(|found| found.high_watermark).collect();
        assert_eq!(ends, [8, 0, 0, 0]);
        client.close();
        broker.stop().await;
    });
}
