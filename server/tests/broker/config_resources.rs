//! ListConfigResources: what has a configuration.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::list_config_resources::{ListConfigResourcesRequest, ListConfigResourcesResponse};

use crate::client::Client;
use crate::each_seed;
use crate::start::{Running, client_env};

/// Version, types asked for, the error, and the resources with their types.
type ResourceCase<'a> = (i16, &'a [i8], ErrorCode, &'a [(&'a str, i8)]);

#[test]
fn topics_and_brokers_have_configurations() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        client.make_topic("other").await;
        let topics = [("other", 2), ("weather", 2)];
        let both = [("other", 2), ("weather", 2), ("1", 4)];
        let (none, unknown) = (ErrorCode::None, ErrorCode::UnsupportedVersion);
        // What Kafka 4.3.1 answers to the same, in this order, except where a comment says otherwise.
        let cases: &[ResourceCase<'_>] = &[
            (0, &[], none, &[]),
            // Kafka lists the loggers of its broker as well.
            (1, &[], none, &both),
            (1, &[8], none, &[]),
            (1, &[2], none, &topics),
            (1, &[4], none, &[("1", 4)]),
            (1, &[4, 2, 2], none, &both),
            (1, &[16, 32], none, &[]),
            (1, &[3], unknown, &[]),
            (1, &[2, 0], unknown, &[]),
            (1, &[-1], unknown, &[]),
        ];
        for (version, resource_types, error, expected) in cases {
            let answer =
                client.call(*version, &ListConfigResourcesRequest { resource_types: resource_types.to_vec() }).await;
            let response: ListConfigResourcesResponse<'_> = answer.decode(*version);
            assert_eq!(response.error_code, error.code(), "{resource_types:?}");
            let resources = response.config_resources.iter().map(|found| (found.resource_name, found.resource_type));
            assert_eq!(resources.collect::<Vec<_>>(), *expected, "{resource_types:?}");
        }
        client.close();
        broker.stop().await;
    });
}
