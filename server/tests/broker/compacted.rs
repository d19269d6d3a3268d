//! Topics that are compacted take no records without a key.

use millrace_protocol::batch::{BatchBuilder, BatchFields};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use millrace_protocol::messages::produce::ProduceResponse;

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

#[test]
fn records_without_a_key_are_named_and_nothing_of_their_batch_is_taken() {
    each_seed(async |world| {
        let broker = Running::start(world, &["num.partitions=4"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        for (name, policy) in [("compacted", "compact"), ("both", "delete,compact"), ("deleted", "delete")] {
            let configs = vec![CreatableTopicConfig { name: "cleanup.policy", value: Some(policy) }];
            let topic =
                CreatableTopic { name, num_partitions: 4, replication_factor: 1, configs, ..CreatableTopic::default() };
            client.call(7, &CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }).await;
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
