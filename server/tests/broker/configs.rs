//! DescribeConfigs, from outside: every version, every kind of resource, every refusal.

use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use millrace_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
};

use crate::client::Client;
use crate::each_seed;
use crate::start::{Running, client_env};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

fn all_of(resource_type: i8, resource_name: &str) -> DescribeConfigsResource<'_> {
    DescribeConfigsResource { resource_type, resource_name, configuration_keys: None }
}

fn find<'r, 'a>(configs: &'r [DescribeConfigsResourceResult<'a>], name: &str) -> &'r DescribeConfigsResourceResult<'a> {
    configs.iter().find(|config| config.name == name).unwrap()
}

#[test]
fn topics_and_brokers_are_described_in_every_version() {
    each_seed(async |world| {
        let broker = Running::start(world, &["message.max.bytes=500000"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let configs = vec![CreatableTopicConfig { name: "max.message.bytes", value: Some("4000") }];
        let topic = CreatableTopic {
            name: "weather",
            num_partitions: 1,
            replication_factor: 1,
            configs,
            ..CreatableTopic::default()
        };
        let answer =
            client.call(7, &CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }).await;
        let response: CreateTopicsResponse<'_> = answer.decode(7);
        assert_eq!(response.topics[0].error_code, ErrorCode::None.code());

        for version in 1..=4 {
            let resources = vec![all_of(TOPIC, "weather"), all_of(BROKER, "1")];
            let include_documentation = version >= 3;
            let request = DescribeConfigsRequest { resources, include_synonyms: true, include_documentation };
            let answer = client.call(version, &request).await;
            let response: DescribeConfigsResponse<'_> = answer.decode(version);
            let [topic, broker] = response.results.as_slice() else { panic!("{response:?}") };
            assert_eq!((topic.error_code, topic.resource_type, topic.resource_name), (0, TOPIC, "weather"));
            assert_eq!((broker.error_code, broker.resource_type, broker.resource_name), (0, BROKER, "1"));

            let own = find(&topic.configs, "max.message.bytes");
            assert_eq!((own.value, own.config_source, own.read_only), (Some("4000"), 1, false));
            let said: Vec<_> = own.synonyms.iter().map(|said| (said.name, said.value, said.source)).collect();
            let expected = [
                ("max.message.bytes", Some("4000"), 1),
                ("message.max.bytes", Some("500000"), 4),
                ("message.max.bytes", Some("1048588"), 5),
            ];
            assert_eq!(said, expected);
            let policy = find(&topic.configs, "cleanup.policy");
            assert_eq!((policy.value, policy.config_source), (Some("delete"), 5));
            let shards = find(&broker.configs, "millrace.shards");
            assert_eq!((shards.value, shards.config_source, shards.read_only), (Some("2"), 4, true));
            if include_documentation {
                assert_eq!((own.config_type, shards.config_type), (3, 3));
                assert!(own.documentation.is_some_and(|text| text.contains("batch")));
            }
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn only_what_is_asked_for_is_told() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let asked = |keys: Vec<&'static str>| DescribeConfigsResource {
            configuration_keys: Some(keys),
            ..all_of(TOPIC, "weather")
        };
        for (keys, expected) in
            [(vec!["retention.ms", "segment.jitter.ms", "x"], Some(2)), (vec!["x"], Some(0)), (vec![], None)]
        {
            // The second time the resource is named, it is not described again.
            let resources = vec![asked(keys), all_of(TOPIC, "weather")];
            let answer =
                client.call(4, &DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() }).await;
            let response: DescribeConfigsResponse<'_> = answer.decode(4);
            assert_eq!(response.results.len(), 1);
            let configs = &response.results[0].configs;
            assert!(expected.map_or(configs.len() > 1, |expected| configs.len() == expected), "{configs:?}");
            assert!(configs.iter().all(|config| config.synonyms.is_empty() && config.documentation.is_none()));
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn loggers_client_metrics_and_groups_are_described_as_far_as_they_go() {
    each_seed(async |world| {
        let broker = Running::start(world, &["log.level=warn"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        // Type, name, keys, one of them with its value, source and type, as Kafka 4.3.1 has them.
        let cases = [
            (8, "1", 1, ("root", "WARN", 6, 0)),
            (16, "anything", 3, ("interval.ms", "300000", 5, 3)),
            (32, "anything", 17, ("consumer.session.timeout.ms", "45000", 5, 3)),
        ];
        for (resource_type, name, count, expected) in cases {
            let resources = vec![all_of(resource_type, name)];
            let answer =
                client.call(4, &DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() }).await;
            let response: DescribeConfigsResponse<'_> = answer.decode(4);
            let [result] = response.results.as_slice() else { panic!("{response:?}") };
            assert_eq!((result.error_code, result.configs.len()), (0, count));
            let one = find(&result.configs, expected.0);
            assert_eq!((one.name, one.value.unwrap(), one.config_source, one.config_type), expected);
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn what_cannot_be_described_is_refused_by_resource() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let cases = [
            (TOPIC, "nowhere", ErrorCode::UnknownTopicOrPartition),
            (TOPIC, "no spaces", ErrorCode::InvalidTopicException),
            (TOPIC, "", ErrorCode::InvalidTopicException),
            (BROKER, "", ErrorCode::None),
            (BROKER, "2", ErrorCode::InvalidRequest),
            (BROKER, "one", ErrorCode::InvalidRequest),
            (8, "2", ErrorCode::InvalidRequest),
            (8, "", ErrorCode::InvalidRequest),
            (16, "", ErrorCode::InvalidRequest),
            (32, "", ErrorCode::InvalidRequest),
        ];
        let resources = cases.iter().map(|&(resource_type, name, _)| all_of(resource_type, name)).collect();
        let answer = client.call(4, &DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() }).await;
        let response: DescribeConfigsResponse<'_> = answer.decode(4);
        for ((_, name, error), result) in cases.iter().zip(&response.results) {
            assert_eq!((result.error_code, result.resource_name), (error.code(), *name));
            assert!(result.configs.is_empty());
        }
        assert_eq!(response.results.len(), cases.len());

        let resources = vec![all_of(BROKER, "1"), all_of(3, "1")];
        let answer = client.call(4, &DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() }).await;
        let response: DescribeConfigsResponse<'_> = answer.decode(4);
        let codes: Vec<_> = response.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [ErrorCode::InvalidRequest.code(); 2], "a type that nobody knows spoils the request");
        client.close();
        broker.stop().await;
    });
}
