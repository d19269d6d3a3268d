//! ListPartitionReassignments: nothing is ever on its way on one broker.

use millrace_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, ListPartitionReassignmentsTopics,
};

use crate::client::Client;
use crate::start::{Running, client_env};
use crate::{PARTITIONS, each_seed};

/// What Kafka 4.3.1 answers to the same.
#[test]
fn no_partition_is_on_its_way() {
    each_seed(async |world| {
        let broker = Running::start(world, PARTITIONS).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let topic =
            |name, indexes: &[i32]| ListPartitionReassignmentsTopics { name, partition_indexes: indexes.to_vec() };
        let asked = [
            None,
            Some(vec![]),
            Some(vec![topic("weather", &[0, 9])]),
            Some(vec![topic("nowhere", &[0]), topic("no spaces", &[-1]), topic("", &[])]),
        ];
        for topics in asked {
            let answer = client.call(0, &ListPartitionReassignmentsRequest { timeout_ms: 30_000, topics }).await;
            let response: ListPartitionReassignmentsResponse<'_> = answer.decode(0);
            assert_eq!((response.error_code, response.error_message), (0, None));
            assert!(response.topics.is_empty());
        }
        client.close();
        broker.stop().await;
    });
}
