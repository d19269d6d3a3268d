//! Changing and deleting topics, from outside: every version, every refusal, and that it is in force at once everywhere.

use millrace_protocol::api_key::ApiKey;
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::alter_configs::{
    AlterConfigsRequest, AlterConfigsResource as WholeResource, AlterConfigsResponse, AlterableConfig as WholeConfig,
};
use millrace_protocol::messages::create_topics::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
};
use millrace_protocol::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsResponse, DeleteRecordsTopic,
};
use millrace_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest, DeleteTopicsResponse};
use millrace_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use millrace_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use millrace_protocol::wire::{Uuid, Writer};
use millrace_runtime::sim::SimEnv;

use crate::client::Client;
use crate::each_seed;
use crate::start::{Running, client_env};

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const SET: i8 = 0;
pub(crate) const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Makes a topic of four partitions; gives its id.
pub(crate) async fn create(client: &mut Client<SimEnv>, name: &str, configs: &[(&'static str, &'static str)]) -> Uuid {
    let configs = configs.iter().map(|&(name, value)| CreatableTopicConfig { name, value: Some(value) }).collect();
    let topic = CreatableTopic { name, num_partitions: 4, replication_factor: 1, configs, ..CreatableTopic::default() };
    let answer = client.call(7, &CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() }).await;
    let response: CreateTopicsResponse<'_> = answer.decode(7);
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
    response.topics[0].topic_id
}

/// Value and source of a topic's key.
async fn describe(client: &mut Client<SimEnv>, topic: &str, key: &str) -> (String, i8) {
    let resource =
        DescribeConfigsResource { resource_type: TOPIC, resource_name: topic, configuration_keys: Some(vec![key]) };
    let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
    let answer = client.call(4, &request).await;
    let response: DescribeConfigsResponse<'_> = answer.decode(4);
    let config = &response.results[0].configs[0];
    (config.value.unwrap().to_owned(), config.config_source)
}

pub(crate) fn resource<'a>(
    resource_type: i8,
    name: &'a str,
    changes: &[(&'a str, i8, Option<&'a str>)],
) -> AlterConfigsResource<'a> {
    let config = |&(name, config_operation, value): &(&'a str, i8, Option<&'a str>)| AlterableConfig {
        name,
        config_operation,
        value,
    };
    AlterConfigsResource { resource_type, resource_name: name, configs: changes.iter().map(config).collect() }
}

pub(crate) async fn alter(
    client: &mut Client<SimEnv>,
    version: i16,
    resources: Vec<AlterConfigsResource<'_>>,
) -> Vec<i16> {
    let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
    let answer = client.call(version, &request).await;
    let response: IncrementalAlterConfigsResponse<'_> = answer.decode(version);
    assert!(response.responses.iter().all(|result| (result.error_code == 0) == result.error_message.is_none()));
    response.responses.iter().map(|result| result.error_code).collect()
}

#[test]
fn keys_change_one_by_one_and_survive_a_restart() {
    each_seed(async |world| {
        let broker = Running::start(world, &["log.retention.hours=2"]).await;
        // Two connections, so that both shards serve one.
        let mut clients = [
            Client::connect(&client_env(world), broker.address).await,
            Client::connect(&client_env(world), broker.address).await,
        ];
        create(&mut clients[0], "weather", &[("retention.ms", "5000"), ("cleanup.policy", "compact")]).await;
        let steps: &[(&str, i8, Option<&str>, &str, i8)] = &[
            ("retention.ms", SET, Some("6000"), "6000", 1),
            ("retention.ms", DELETE, None, "7200000", 4),
            ("cleanup.policy", APPEND, Some("delete"), "compact,delete", 1),
            ("cleanup.policy", SUBTRACT, Some("compact"), "delete", 1),
            ("cleanup.policy", DELETE, Some("whatever"), "delete", 5),
            ("segment.bytes", SET, Some("1048576"), "1048576", 1),
        ];
        for (number, (key, operation, value, expected, source)) in steps.iter().enumerate() {
            let version = i16::try_from(number % 2).unwrap();
            let changed = vec![resource(TOPIC, "weather", &[(key, *operation, *value)])];
            assert_eq!(alter(&mut clients[number % 2], version, changed).await, [0]);
            for client in &mut clients {
                assert_eq!(describe(client, "weather", key).await, ((*expected).to_owned(), *source), "{key}");
            }
        }
        clients.iter().for_each(Client::close);
        broker.stop().await;

        let broker = Running::start(world, &["log.retention.hours=3"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        assert_eq!(describe(&mut client, "weather", "segment.bytes").await, ("1048576".to_owned(), 1));
        assert_eq!(describe(&mut client, "weather", "retention.ms").await, ("10800000".to_owned(), 4));
        client.close();
        broker.stop().await;
    });
}

#[test]
fn a_change_that_cannot_be_is_refused_by_resource() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        client.make_topic("other").await;
        let one = |kind, name, key, operation, value| resource(kind, name, &[(key, operation, value)]);
        // What Kafka 4.3.1 answers to the same, except where a comment says otherwise.
        let cases = [
            (one(TOPIC, "nowhere", "retention.ms", SET, Some("1")), ErrorCode::UnknownTopicOrPartition),
            (one(TOPIC, "no spaces", "retention.ms", SET, Some("1")), ErrorCode::InvalidTopicException),
            (one(TOPIC, "", "retention.ms", SET, Some("1")), ErrorCode::InvalidRequest),
            (one(TOPIC, "weather", "retention.ms", SET, None), ErrorCode::InvalidRequest),
            (one(TOPIC, "weather", "retention.ms", SET, Some("-2")), ErrorCode::InvalidConfig),
            (one(TOPIC, "weather", "retention.ms", APPEND, Some("5")), ErrorCode::InvalidConfig),
            (one(TOPIC, "weather", "bogus", SUBTRACT, Some("5")), ErrorCode::InvalidConfig),
            (one(TOPIC, "weather", "bogus", SET, Some("5")), ErrorCode::InvalidConfig),
            (one(TOPIC, "weather", "bogus", DELETE, None), ErrorCode::None),
            (one(TOPIC, "weather", "cleanup.policy", SET, Some("archive")), ErrorCode::InvalidConfig),
            (
                resource(TOPIC, "weather", &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)]),
                ErrorCode::InvalidRequest,
            ),
            (resource(TOPIC, "weather", &[]), ErrorCode::None),
            // Kafka: UNKNOWN_SERVER_ERROR, which tells the client nothing.
            (one(TOPIC, "weather", "retention.ms", 9, Some("1")), ErrorCode::InvalidRequest),
            (one(3, "weather", "retention.ms", SET, Some("1")), ErrorCode::InvalidRequest),
            (one(BROKER, "1", "log.dirs", SET, Some("x")), ErrorCode::InvalidRequest),
            (one(BROKER, "2", "log.retention.ms", SET, Some("5")), ErrorCode::InvalidRequest),
            (one(BROKER, "one", "log.retention.ms", SET, Some("5")), ErrorCode::InvalidRequest),
            (one(BROKER, "", "num.partitions", SET, Some("3")), ErrorCode::InvalidRequest),
            (one(BROKER, "1", "log.retention.ms", SET, Some("abc")), ErrorCode::InvalidRequest),
            (one(BROKER, "", "log.cleanup.policy", SET, Some("x")), ErrorCode::InvalidRequest),
            (one(BROKER, "1", "log.retention.ms", APPEND, Some("1")), ErrorCode::InvalidConfig),
            (one(BROKER, "1", "bogus", DELETE, None), ErrorCode::None),
            (one(BROKER, "", "ssl.keystore.type", SET, Some("PEM")), ErrorCode::InvalidRequest),
            (one(32, "", "consumer.session.timeout.ms", SET, Some("50000")), ErrorCode::InvalidRequest),
            (one(32, "x", "consumer.session.timeout.ms", SET, Some("1")), ErrorCode::InvalidConfig),
            (one(32, "x", "bogus", SET, Some("1")), ErrorCode::InvalidConfig),
            // Kafka takes these. The first would be kept by nobody, the second lie in wait for a restart.
            (one(BROKER, "", "bogus", SET, Some("5")), ErrorCode::InvalidRequest),
            (one(BROKER, "", "max.connections", SET, Some("5")), ErrorCode::InvalidRequest),
            (one(BROKER, "", "compression.type", SET, Some("zstd")), ErrorCode::InvalidRequest),
            (one(8, "1", "root", SET, Some("INFO")), ErrorCode::InvalidRequest),
            (one(16, "x", "interval.ms", SET, Some("1000")), ErrorCode::InvalidRequest),
        ];
        for (resource, error) in cases {
            // A good one beside it is not held back.
            let good = one(TOPIC, "other", "retention.ms", SET, Some("77"));
            let asked = format!("{resource:?}");
            assert_eq!(alter(&mut client, 1, vec![resource, good]).await, [error.code(), 0], "{asked}");
        }
        let twice = one(TOPIC, "weather", "retention.ms", SET, Some("5"));
        let good = one(TOPIC, "other", "retention.ms", SET, Some("78"));
        let refused = ErrorCode::InvalidRequest.code();
        assert_eq!(alter(&mut client, 1, vec![twice.clone(), good, twice]).await, [refused, 0, refused]);
        assert_eq!(describe(&mut client, "weather", "retention.ms").await, ("604800000".to_owned(), 5));
        assert_eq!(describe(&mut client, "other", "retention.ms").await, ("78".to_owned(), 1));

        for (value, error) in [("9", ErrorCode::None), ("x", ErrorCode::InvalidConfig)] {
            let resources = vec![one(TOPIC, "weather", "retention.ms", SET, Some(value))];
            let answer = client.call(1, &IncrementalAlterConfigsRequest { resources, validate_only: true }).await;
            let response: IncrementalAlterConfigsResponse<'_> = answer.decode(1);
            assert_eq!(response.responses[0].error_code, error.code());
        }
        assert_eq!(describe(&mut client, "weather", "retention.ms").await, ("604800000".to_owned(), 5));
        client.close();
        broker.stop().await;
    });
}

#[test]
fn a_whole_configuration_replaces_the_old_one() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        create(&mut client, "weather", &[("retention.ms", "5000")]).await;
        let whole = |configs: Vec<WholeConfig<'static>>| WholeResource {
            resource_type: TOPIC,
            resource_name: "weather",
            configs,
        };
        let segment_ms = |value| vec![WholeConfig { name: "segment.ms", value }];
        for version in 0..=2 {
            for (configs, validate_only, error) in [
                (segment_ms(Some("9999")), true, ErrorCode::None),
                (segment_ms(Some("0")), false, ErrorCode::InvalidConfig),
                (segment_ms(None), false, ErrorCode::InvalidRequest),
            ] {
                let request = AlterConfigsRequest { resources: vec![whole(configs)], validate_only };
                let answer = client.call(version, &request).await;
                let response: AlterConfigsResponse<'_> = answer.decode(version);
                assert_eq!(response.responses[0].error_code, error.code());
            }
        }
        assert_eq!(describe(&mut client, "weather", "retention.ms").await, ("5000".to_owned(), 1));
        let request = AlterConfigsRequest { resources: vec![whole(segment_ms(Some("9999")))], validate_only: false };
        let answer = client.call(2, &request).await;
        let response: AlterConfigsResponse<'_> = answer.decode(2);
        assert_eq!((response.responses[0].error_code, response.responses[0].resource_name), (0, "weather"));
        assert_eq!(describe(&mut client, "weather", "retention.ms").await, ("604800000".to_owned(), 5));
        assert_eq!(describe(&mut client, "weather", "segment.ms").await, ("9999".to_owned(), 1));
        client.close();
        broker.stop().await;
    });
}

/// Topics that this broker tells of.
async fn topics(client: &mut Client<SimEnv>) -> Vec<String> {
    let answer = client.call(12, &MetadataRequest { topics: None, ..MetadataRequest::default() }).await;
    let response: MetadataResponse<'_> = answer.decode(12);
    response.topics.iter().map(|topic| topic.name.unwrap().to_owned()).collect()
}

async fn delete_by_name(client: &mut Client<SimEnv>, version: i16, names: &[&'static str]) -> Vec<(String, i16)> {
    let state = |name: &&'static str| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
    let (topics, topic_names) =
        if version >= 6 { (names.iter().map(state).collect(), Vec::new()) } else { (Vec::new(), names.to_vec()) };
    let request = DeleteTopicsRequest { topics, topic_names, timeout_ms: 30_000 };
    let answer = client.call(version, &request).await;
    let response: DeleteTopicsResponse<'_> = answer.decode(version);
    response.responses.iter().map(|result| (result.name.unwrap().to_owned(), result.error_code)).collect()
}

#[test]
fn a_deleted_topic_is_gone_for_everyone_at_once() {
    each_seed(async |world| {
        let broker = Running::start(world, &["num.partitions=4"]).await;
        let env = client_env(world);
        let mut client = Client::connect(&env, broker.address).await;
        let mut other = Client::connect(&env, broker.address).await;
        for version in 1..=6 {
            let id = create(&mut client, "weather", &[]).await;
            client.produce("weather", 1, b"gone").await;
            let unknown = ErrorCode::UnknownTopicOrPartition.code();
            let deleted = delete_by_name(&mut client, version, &["weather", "nowhere", "no spaces"]).await;
            let expected = [("weather", 0), ("nowhere", unknown), ("no spaces", unknown)];
            assert_eq!(deleted, expected.map(|(name, code)| (name.to_owned(), code)));
            assert!(topics(&mut other).await.is_empty(), "version {version}");

            // Its name is free again, and who knew the old topic does not meet the new one.
            assert_ne!(create(&mut client, "weather", &[]).await, id);
            assert_eq!(client.produce("weather", 1, b"new").await, 0, "the new topic starts empty");
            let topic = MetadataRequestTopic { name: None, topic_id: id };
            let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
            let answer = client.call(12, &request).await;
            let response: MetadataResponse<'_> = answer.decode(12);
            assert_eq!(response.topics[0].error_code, ErrorCode::UnknownTopicId.code());
            // Ids are answered from version 12 on; before, a request with one is refused as a whole.
            let answer = client.call(11, &request).await;
            let response: MetadataResponse<'_> = answer.decode(11);
            assert_eq!(response.topics[0].error_code, ErrorCode::InvalidRequest.code());
            assert!(response.brokers.is_empty(), "nothing is told");
            assert_eq!(delete_by_name(&mut other, version, &["weather"]).await, [("weather".to_owned(), 0)]);
        }
        client.close();
        other.close();
        broker.stop().await;

        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&env, broker.address).await;
        assert!(topics(&mut client).await.is_empty(), "it does not come back");
        client.close();
        broker.stop().await;
    });
}

#[test]
fn topics_are_deleted_by_id_and_duplicates_refused() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let [first, second] = [create(&mut client, "first", &[]).await, create(&mut client, "second", &[]).await];
        let state = |name, topic_id| DeleteTopicState { name, topic_id };
        let unknown = Uuid([7; 16]);
        let asked = vec![
            state(None, Uuid::ZERO),
            state(Some("first"), first),
            state(Some("second"), Uuid::ZERO),
            state(None, second),
            state(None, unknown),
            state(None, first),
        ];
        let request = DeleteTopicsRequest { topics: asked, ..DeleteTopicsRequest::default() };
        let answer = client.call(6, &request).await;
        let response: DeleteTopicsResponse<'_> = answer.decode(6);
        let results: Vec<_> = response.responses.iter().map(|r| (r.name, r.topic_id, r.error_code)).collect();
        let refused = ErrorCode::InvalidRequest.code();
        let expected = [
            (None, Uuid::ZERO, refused),
            (Some("first"), first, refused),
            // Named twice, in two ways: refused once.
            (Some("second"), Uuid::ZERO, refused),
            (None, unknown, ErrorCode::UnknownTopicId.code()),
            (Some("first"), first, 0),
        ];
        assert_eq!(results, expected);
        assert_eq!(topics(&mut client).await, ["second"]);
        client.close();
        broker.stop().await;

        let broker = Running::start(world, &["delete.topic.enable=false"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        for (version, error) in [(1, ErrorCode::InvalidRequest), (3, ErrorCode::TopicDeletionDisabled)] {
            let deleted = delete_by_name(&mut client, version, &["second"]).await;
            assert_eq!(deleted, [("second".to_owned(), error.code())]);
        }
        assert_eq!(topics(&mut client).await, ["second"]);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn records_that_cannot_be_deleted_are_refused_by_partition() {
    each_seed(async |world| {
        let broker = Running::start(world, &["num.partitions=4"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        create(&mut client, "compacted", &[("cleanup.policy", "compact")]).await;
        create(&mut client, "__consumer_offsets", &[]).await;
        for _ in 0..5 {
            client.produce("weather", 2, b"kept").await;
        }
        // What Kafka 4.3.1 answers to the same.
        let cases = [
            ("weather", 2, 6, ErrorCode::OffsetOutOfRange),
            ("weather", 2, -2, ErrorCode::OffsetOutOfRange),
            ("weather", 2, 0, ErrorCode::None),
            ("weather", 3, -1, ErrorCode::None),
            ("weather", 4, 0, ErrorCode::UnknownTopicOrPartition),
            ("weather", -1, 0, ErrorCode::UnknownTopicOrPartition),
            ("nowhere", 0, 0, ErrorCode::UnknownTopicOrPartition),
            ("compacted", 0, -1, ErrorCode::PolicyViolation),
            ("__consumer_offsets", 0, -1, ErrorCode::InvalidTopicException),
        ];
        for version in 0..=2 {
            let topic = |&(name, partition_index, offset, _): &(&'static str, i32, i64, _)| DeleteRecordsTopic {
                name,
                partitions: vec![DeleteRecordsPartition { partition_index, offset }],
            };
            let topics = cases.iter().map(topic).collect();
            let answer = client.call(version, &DeleteRecordsRequest { topics, timeout_ms: 30_000 }).await;
            let response: DeleteRecordsResponse<'_> = answer.decode(version);
            assert_eq!(response.topics.len(), cases.len());
            for ((name, index, _, error), topic) in cases.iter().zip(&response.topics) {
                let result = &topic.partitions[0];
                assert_eq!((topic.name, result.partition_index, result.error_code), (*name, *index, error.code()));
                assert_eq!(result.low_watermark, if result.error_code == 0 { 0 } else { -1 });
            }
        }
        client.close();
        broker.stop().await;
    });
}

#[test]
fn requests_behind_a_change_see_it() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        client.make_topic("weather").await;
        let mut writer = Writer::new();
        let resources = vec![resource(TOPIC, "weather", &[("max.message.bytes", SET, Some("100"))])];
        client.push(&mut writer, 1, &IncrementalAlterConfigsRequest { resources, validate_only: false });
        let topic_names = vec!["weather"];
        client.push(&mut writer, 5, &DeleteTopicsRequest { topic_names, ..DeleteTopicsRequest::default() });
        client.push(&mut writer, 12, &MetadataRequest { topics: None, ..MetadataRequest::default() });
        client.send(writer.bytes()).await;
        for (api_key, version) in [(ApiKey::IncrementalAlterConfigs, 1), (ApiKey::DeleteTopics, 5)] {
            client.receive(api_key, version).await.unwrap();
        }
        let answer = client.receive(ApiKey::Metadata, 12).await.unwrap();
        assert!(answer.decode::<MetadataResponse<'_>>(12).topics.is_empty());
        client.close();
        broker.stop().await;
    });
}
