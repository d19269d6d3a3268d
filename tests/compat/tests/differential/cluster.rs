//! The broker itself: what it is, what it stores, how it is configured.

use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest,
    ListConfigResourcesRequest,
};

use crate::settings::in_order;
use crate::topics::{name, text};
use crate::transcript::Peer;

/// Kinds of resources, as requests for configurations number them.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const GROUP: i8 = 32;

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    for version in peer.versions::<DescribeClusterRequest>() {
        let request = DescribeClusterRequest::default();
        peer.ask("the brokers", version, &request);
        if version > 0 {
            peer.ask("the controllers", version, &request.clone().with_endpoint_type(2));
            peer.ask("something else", version, &request.with_endpoint_type(9));
        }
    }
    for version in peer.versions::<AlterConfigsRequest>() {
        alter(peer, version);
    }
    for version in peer.versions::<DescribeConfigsRequest>() {
        describe(peer, version);
    }
    for version in peer.versions::<ListConfigResourcesRequest>() {
        let kinds = if version == 0 { vec![] } else { vec![TOPIC, BROKER, GROUP] };
        peer.ask("some kinds", version, &ListConfigResourcesRequest::default().with_resource_types(kinds));
    }
    peer.ask("no such kind", 1, &ListConfigResourcesRequest::default().with_resource_types(vec![99]));
    for version in peer.versions::<DescribeLogDirsRequest>() {
        let wanted = ["settled", "unknown"]
            .map(|topic| DescribableLogDirTopic::default().with_topic(name(topic)).with_partitions(vec![0, 9]));
        let request = DescribeLogDirsRequest::default().with_topics(Some(wanted.to_vec()));
        peer.ask("some partitions", version, &request);
    }
}

/// All of a resource's configuration at once, as it is done no more.
fn alter(peer: &mut Peer, version: i16) {
    for (step, kind, resource, key, value, validate_only) in [
        ("only validated", TOPIC, "settled", "retention.ms", Some("1000"), true),
        ("a topic", TOPIC, "settled", "retention.ms", Some("100000"), false),
        ("another key of it", TOPIC, "settled", "segment.bytes", Some("2000000"), false),
        ("no such key", TOPIC, "settled", "no.such.key", Some("1"), false),
        ("no legal value", TOPIC, "settled", "segment.bytes", Some("many"), false),
        ("no value", TOPIC, "settled", "segment.bytes", None, false),
        ("no such topic", TOPIC, "unknown", "segment.bytes", Some("2000000"), false),
        ("no such broker", BROKER, "77", "log.retention.ms", Some("100000"), false),
        ("a broker without number", BROKER, "one", "log.retention.ms", Some("100000"), false),
        ("a group", GROUP, "readers", "consumer.session.timeout.ms", Some("50000"), false),
        ("no legal value of a group", GROUP, "readers", "consumer.session.timeout.ms", Some("1"), false),
        ("no such kind", 99, "settled", "segment.bytes", Some("2000000"), false),
    ] {
        let config = AlterableConfig::default().with_name(text(key)).with_value(value.map(text));
        let resource = AlterConfigsResource::default().with_resource_type(kind).with_resource_name(text(resource));
        let request = AlterConfigsRequest::default().with_resources(vec![resource.with_configs(vec![config])]);
        peer.ask(step, version, &request.with_validate_only(validate_only));
    }
}

fn describe(peer: &mut Peer, version: i16) {
    for (step, kind, resource, keys) in [
        ("a topic", TOPIC, "settled", &["retention.ms", "segment.bytes", "max.message.bytes"][..]),
        ("a broker", BROKER, "1", &["log.retention.ms", "num.io.threads", "message.max.bytes", "broker.rack"]),
        ("no such broker", BROKER, "77", &["log.retention.ms"]),
        ("all brokers", BROKER, "", &["log.retention.ms"]),
        ("a group", GROUP, "readers", &["consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"]),
        ("a group without configuration", GROUP, "others", &["consumer.session.timeout.ms"]),
    ] {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configuration_keys(Some(keys.iter().map(|key| text(*key)).collect()));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
        peer.ask_sorted(step, version, &request, in_order);
    }
}
