//! Configurations that change while the broker runs, from outside: at once, for all topics, and past a restart.

use millrace_protocol::batch::{BatchBuilder, BatchFields};
use millrace_protocol::error_code::ErrorCode;
use millrace_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResponse,
};
use millrace_protocol::messages::metadata::{MetadataRequest, MetadataResponse};
use millrace_protocol::messages::produce::ProduceResponse;
use millrace_runtime::sim::{SimEnv, WorldConfig};

use crate::admin::{BROKER, DELETE, SET, TOPIC, alter, create, resource};
use crate::client::{Client, batch, produce_request};
use crate::each_seed;
use crate::start::{Running, client_env};

const GROUP: i8 = 32;

/// Value, source and all that was said of one key: name, value and source.
type Told = (Option<String>, i8, Vec<(String, String, i8)>);

async fn describe(client: &mut Client<SimEnv>, resource_type: i8, name: &str, key: &str) -> Option<Told> {
    let resource = DescribeConfigsResource { resource_type, resource_name: name, configuration_keys: Some(vec![key]) };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..DescribeConfigsRequest::default()
    };
    let answer = client.call(4, &request).await;
    let response: DescribeConfigsResponse<'_> = answer.decode(4);
    let config = response.results[0].configs.first()?;
    let said = config.synonyms.iter();
    let said = said.map(|said| (said.name.to_owned(), said.value.unwrap_or_default().to_owned(), said.source));
    Some((config.value.map(str::to_owned), config.config_source, said.collect()))
}

async fn change(client: &mut Client<SimEnv>, kind: i8, name: &str, key: &str, value: Option<&str>) {
    let operation = if value.is_some() { SET } else { DELETE };
    assert_eq!(alter(client, 1, vec![resource(kind, name, &[(key, operation, value)])]).await, [0], "{key}={value:?}");
}

fn told(value: &str, said: &[(&str, &str, i8)]) -> Told {
    let source = said.first().map_or(5, |(.., source)| *source);
    let said = said.iter().map(|(name, value, source)| ((*name).to_owned(), (*value).to_owned(), *source));
    (Some(value.to_owned()), source, said.collect())
}

/// Produces `bytes` to partition 0 of the topic; gives the error.
async fn produce(client: &mut Client<SimEnv>, topic: &str, bytes: &[u8]) -> ErrorCode {
    let answer = client.call(9, &produce_request(topic, &[(0, bytes)], -1)).await;
    let response: ProduceResponse<'_> = answer.decode(9);
    let result = &response.responses[0].partition_responses[0];
    assert!(result.error_code == 0 || result.error_message.is_some());
    ErrorCode::from_code(result.error_code).unwrap()
}

#[test]
fn what_brokers_are_told_holds_for_topics_that_do_not_say() {
    each_seed(async |world| {
        let broker = Running::start(world, &["log.retention.ms=300"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        create(&mut client, "weather", &[]).await;
        create(&mut client, "own", &[("retention.ms", "7")]).await;
        let name = "log.retention.ms";
        change(&mut client, BROKER, "", name, Some("200")).await;
        change(&mut client, BROKER, "", "num.io.threads", Some("12")).await;
        let by_all = [(name, "200", 3), (name, "300", 4)];
        assert_eq!(describe(&mut client, TOPIC, "weather", "retention.ms").await, Some(told("200", &by_all)));
        assert_eq!(describe(&mut client, BROKER, "", name).await, Some(told("200", &by_all[..1])));
        change(&mut client, BROKER, "1", name, Some("100")).await;
        let by_both = [(name, "100", 2), (name, "200", 3), (name, "300", 4)];
        assert_eq!(describe(&mut client, BROKER, "1", name).await, Some(told("100", &by_both)));
        assert_eq!(describe(&mut client, TOPIC, "own", "retention.ms").await.unwrap().0.unwrap(), "7");
        let threads = [("num.io.threads", "12", 3), ("num.io.threads", "8", 5)];
        assert_eq!(describe(&mut client, BROKER, "1", "num.io.threads").await, Some(told("12", &threads)));
        client.close();
        broker.stop().await;

        let broker = Running::start(world, &["log.retention.ms=300"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        assert_eq!(describe(&mut client, TOPIC, "weather", "retention.ms").await, Some(told("100", &by_both)));
        change(&mut client, BROKER, "1", name, None).await;
        change(&mut client, BROKER, "", name, None).await;
        assert_eq!(
            describe(&mut client, TOPIC, "weather", "retention.ms").await,
            Some(told("300", &[(name, "300", 4)]))
        );
        assert_eq!(describe(&mut client, BROKER, "", name).await, None);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn the_largest_batch_changes_at_once_on_every_shard() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut clients = [
            Client::connect(&client_env(world), broker.address).await,
            Client::connect(&client_env(world), broker.address).await,
        ];
        create(&mut clients[0], "weather", &[]).await;
        // More than the broker's own limit, as in Kafka.
        create(&mut clients[0], "large", &[("max.message.bytes", "2000000")]).await;
        let value = vec![7; 1_100_000];
        let large = batch(&[&value]);
        assert_eq!(produce(&mut clients[0], "weather", &large).await, ErrorCode::MessageTooLarge);
        assert_eq!(produce(&mut clients[0], "large", &large).await, ErrorCode::None);
        change(&mut clients[0], BROKER, "", "message.max.bytes", Some("1200000")).await;
        for client in &mut clients {
            assert_eq!(produce(client, "weather", &large).await, ErrorCode::None);
        }
        change(&mut clients[1], BROKER, "1", "message.max.bytes", Some("2000")).await;
        for client in &mut clients {
            assert_eq!(produce(client, "weather", &large).await, ErrorCode::MessageTooLarge);
            assert_eq!(produce(client, "weather", &batch(&[b"small"])).await, ErrorCode::None);
        }
        let beyond = resource(BROKER, "", &[("message.max.bytes", SET, Some("268435456"))]);
        assert_eq!(alter(&mut clients[0], 1, vec![beyond]).await, [ErrorCode::InvalidRequest.code()]);
        clients.iter().for_each(Client::close);
        broker.stop().await;
    });
}

#[test]
fn timestamps_far_from_the_brokers_time_are_refused() {
    each_seed(async |world| {
        let broker = Running::start(world, &[]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        create(&mut client, "weather", &[]).await;
        create(&mut client, "narrow", &[("message.timestamp.before.max.ms", "60000")]).await;
        create(&mut client, "replaced", &[("message.timestamp.type", "LogAppendTime")]).await;
        let now = WorldConfig::default().unix_start_ms;
        let at = |timestamp: i64| {
            let mut builder = BatchBuilder::new(BatchFields::default());
            builder.push(timestamp, None, Some(b"x"));
            builder.build()
        };
        let (hour, day) = (3_600_000, 86_400_000);
        let cases = [
            ("weather", now + 2 * hour, ErrorCode::InvalidTimestamp),
            ("weather", now + hour / 2, ErrorCode::None),
            ("weather", now - 1000 * day, ErrorCode::None),
            ("narrow", now - hour, ErrorCode::InvalidTimestamp),
            ("narrow", now, ErrorCode::None),
            ("replaced", now + day, ErrorCode::None),
        ];
        for (topic, timestamp, error) in cases {
            assert_eq!(produce(&mut client, topic, &at(timestamp)).await, error, "{topic} {}", timestamp - now);
        }
        change(&mut client, BROKER, "", "log.message.timestamp.after.max.ms", Some("172800000")).await;
        assert_eq!(produce(&mut client, "weather", &at(now + day)).await, ErrorCode::None);
        client.close();
        broker.stop().await;
    });
}

#[test]
fn groups_keep_their_configuration() {
    each_seed(async |world| {
        let broker = Running::start(world, &["broker.rack=r1"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let key = "consumer.session.timeout.ms";
        change(&mut client, GROUP, "readers", key, Some("50000")).await;
        client.close();
        broker.stop().await;

        let broker = Running::start(world, &["broker.rack=r1"]).await;
        let mut client = Client::connect(&client_env(world), broker.address).await;
        let by_default = ("group.consumer.session.timeout.ms", "45000", 5);
        let expected = Some(told("50000", &[(key, "50000", 8), by_default]));
        assert_eq!(describe(&mut client, GROUP, "readers", key).await, expected);
        assert_eq!(describe(&mut client, GROUP, "others", key).await, Some(told("45000", &[by_default])));
        change(&mut client, GROUP, "readers", key, None).await;
        assert_eq!(describe(&mut client, GROUP, "readers", key).await, Some(told("45000", &[by_default])));

        let answer = client.call(12, &MetadataRequest { topics: None, ..MetadataRequest::default() }).await;
        let response: MetadataResponse<'_> = answer.decode(12);
        assert_eq!(response.brokers[0].rack, Some("r1"));
        client.close();
        broker.stop().await;
    });
}
