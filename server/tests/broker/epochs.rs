//! OffsetForLeaderEpoch: where a leader's records end, on whichever shard they are.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderPartition, OffsetForLeaderTopic,
};

use crate::client::Client;
use crate::each_shard_count;
use crate::start::{Running, client_env};

#[test]
fn epochs_end_where_the_log_does() {
    each_shard_count(async |world, shards| {
        let broker = Running::start(world, &["num.partitions=2", shards]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        for _ in 0..3 {
            client.produce("weather", 1, b"one").await;
        }
        // Topic, partition, the epoch that the client believes in, the one it asks about; and the answer. What Kafka 4.3.1
        // answers to the same.
        let (fenced, unknown_epoch) = (ErrorCode::FencedLeaderEpoch, ErrorCode::UnknownLeaderEpoch);
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let cases = [
            ("weather", 1, -1, 0, Ok((0, 3))),
            ("weather", 1, 0, 0, Ok((0, 3))),
            ("weather", 0, 0, 0, Ok((0, 0))),
            ("weather", 1, 1, 0, Err(unknown_epoch)),
            ("weather", 1, -2, 0, Err(fenced)),
            ("weather", 1, -1, 5, Ok((-1, -1))),
            ("weather", 1, 0, 1, Ok((-1, -1))),
            ("weather", 1, 0, -1, Ok((-1, -1))),
            ("weather", 1, 0, i32::MIN, Ok((-1, -1))),
            ("weather", 2, -1, 0, Err(unknown)),
            ("weather", -1, -1, 0, Err(unknown)),
            ("nowhere", 0, 0, 0, Err(unknown)),
            ("", 0, 0, 0, Err(unknown)),
        ];
        for version in 2..=4 {
            for replica_id in [-1, -2, 1, 5] {
                let topics = cases.iter().map(|(topic, partition, current_leader_epoch, leader_epoch, _)| {
                    let (partition, leader_epoch) = (*partition, *leader_epoch);
                    let current_leader_epoch = *current_leader_epoch;
                    let asked = OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch };
                    OffsetForLeaderTopic { topic, partitions: vec![asked] }
                });
                // Version 2 cannot say who asks.
                let replica_id =
                    if version == 2 { OffsetForLeaderEpochRequest::default().replica_id } else { replica_id };
                let request = OffsetForLeaderEpochRequest { replica_id, topics: topics.collect() };
                let answer = client.call(version, &request).await;
                let response: OffsetForLeaderEpochResponse<'_> = answer.decode(version);
                assert_eq!(response.topics.len(), cases.len());
                for (found, (topic, partition, _, _, expected)) in response.topics.iter().zip(&cases) {
                    let end = &found.partitions[0];
                    assert_eq!((found.topic, end.partition), (*topic, *partition));
                    let (error, (leader_epoch, end_offset)) = match expected {
                        Ok(end) => (ErrorCode::None, *end),
                        Err(error) => (*error, (-1, -1)),
                    };
                    assert_eq!(
                        (end.error_code, end.leader_epoch, end.end_offset),
                        (error.code(), leader_epoch, end_offset)
                    );
                }
            }
        }
        client.close();
        broker.stop().await;
    });
}
