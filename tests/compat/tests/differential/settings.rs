//! Configurations as they are seldom asked for: all keys, of brokers and groups, twice, by operations that do not fit.

use kafka_protocol::messages::alter_configs_request::{self, AlterConfigsResource};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{self, AlterableConfig};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest,
};

use crate::topics::text;
use crate::transcript::Peer;

/// Kinds of resources, as requests for configurations number them.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// Operations of IncrementalAlterConfigs.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Runs the script.
pub(crate) fn run(peer: &mut Peer) {
    for version in peer.versions::<IncrementalAlterConfigsRequest>() {
        alter(peer, version);
        alter_several(peer, version);
    }
    for version in peer.versions::<AlterConfigsRequest>() {
        replace(peer, version);
    }
    for version in peer.versions::<DescribeConfigsRequest>() {
        describe(peer, version);
    }
    let request = ListConfigResourcesRequest::default();
    for kinds in [vec![TOPIC], vec![BROKER], vec![GROUP], vec![CLIENT_METRICS], vec![TOPIC, TOPIC], vec![0]] {
        peer.ask(&format!("kinds {kinds:?}"), 1, &request.clone().with_resource_types(kinds));
    }
}

fn alter(peer: &mut Peer, version: i16) {
    for (step, kind, resource, key, operation, value, validate_only) in [
        ("only validated", TOPIC, "settled", "retention.ms", SET, Some("7"), true),
        ("a list shrinks", TOPIC, "settled", "cleanup.policy", SUBTRACT, Some("compact"), false),
        ("a list shrinks by what is not in it", TOPIC, "settled", "cleanup.policy", SUBTRACT, Some("compact"), false),
        ("a list grows by what is in it", TOPIC, "settled", "cleanup.policy", APPEND, Some("delete"), false),
        ("a number does not shrink", TOPIC, "settled", "retention.ms", SUBTRACT, Some("1"), false),
        ("nothing is appended", TOPIC, "settled", "cleanup.policy", APPEND, None, false),
        ("an empty value", TOPIC, "settled", "retention.ms", SET, Some(""), false),
        ("blanks around", TOPIC, "settled", "retention.ms", SET, Some(" 900000 "), false),
        ("an unknown key goes", TOPIC, "settled", "no.such.key", DELETE, None, false),
        ("a topic without name", TOPIC, "", "retention.ms", SET, Some("1"), false),
        ("a topic of no legal name", TOPIC, "a/b", "retention.ms", SET, Some("1"), false),
        ("a broker", BROKER, "1", "log.retention.ms", SET, Some("90000000"), false),
        ("a broker's number is not legal", BROKER, "1", "log.retention.ms", SET, Some("many"), false),
        ("what only the start reads", BROKER, "1", "node.id", SET, Some("7"), false),
        ("back to a broker's default", BROKER, "1", "log.retention.ms", DELETE, None, false),
        ("all brokers", BROKER, "", "log.retention.ms", SET, Some("80000000"), false),
        ("back to all brokers' default", BROKER, "", "log.retention.ms", DELETE, None, false),
        ("no such broker", BROKER, "77", "log.retention.ms", SET, Some("90000000"), false),
        ("a broker without number", BROKER, "one", "log.retention.ms", SET, Some("90000000"), false),
        ("a group", GROUP, "odd", "consumer.session.timeout.ms", SET, Some("50000"), false),
        ("no legal value of a group", GROUP, "odd", "consumer.session.timeout.ms", SET, Some("many"), false),
        ("too small a value of a group", GROUP, "odd", "consumer.session.timeout.ms", SET, Some("1"), false),
        ("no such key of a group", GROUP, "odd", "no.such.key", SET, Some("1"), false),
        ("a group without name", GROUP, "", "consumer.session.timeout.ms", SET, Some("50000"), false),
        ("back to a group's default", GROUP, "odd", "consumer.session.timeout.ms", DELETE, None, false),
    ] {
        let config = AlterableConfig::default().with_name(text(key)).with_config_operation(operation);
        let resource = incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configs(vec![config.with_value(value.map(text))]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        peer.ask(step, version, &request.with_validate_only(validate_only));
    }
}

fn alter_several(peer: &mut Peer, version: i16) {
    let set = |key: &str, value: &str| AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)));
    let of = |topic: &str, configs: Vec<AlterableConfig>| {
        incremental_alter_configs_request::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configs(configs)
    };
    let good = || set("retention.ms", "900000");
    for (step, resources) in [
        ("nothing", vec![]),
        ("no keys", vec![of("settled", vec![])]),
        ("a key twice", vec![of("settled", vec![good(), good()])]),
        ("a right and a wrong key", vec![of("settled", vec![good(), set("segment.bytes", "x")])]),
        ("a topic twice", vec![of("settled", vec![good()]), of("settled", vec![good()])]),
    ] {
        peer.ask(step, version, &IncrementalAlterConfigsRequest::default().with_resources(resources));
    }
}

fn replace(peer: &mut Peer, version: i16) {
    let set = |key: &str, value: &str| {
        alter_configs_request::AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)))
    };
    let of = |kind, resource: &str, configs| {
        AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(resource))
            .with_configs(configs)
    };
    let good = || set("retention.ms", "900000");
    for (step, resources) in [
        ("nothing", vec![]),
        ("a key twice", vec![of(TOPIC, "settled", vec![good(), good()])]),
        ("a right and a wrong key", vec![of(TOPIC, "settled", vec![good(), set("segment.bytes", "x")])]),
        // Not one topic twice: Kafka never answers that.
        ("no keys", vec![of(TOPIC, "settled", vec![])]),
        ("a group without name", vec![of(GROUP, "", vec![])]),
        ("no keys of a group", vec![of(GROUP, "odd", vec![])]),
        ("no keys of all brokers", vec![of(BROKER, "", vec![])]),
    ] {
        peer.ask(step, version, &AlterConfigsRequest::default().with_resources(resources));
    }
}

fn describe(peer: &mut Peer, version: i16) {
    let of = |kind, resource: &str| {
        DescribeConfigsResource::default().with_resource_type(kind).with_resource_name(text(resource))
    };
    for (step, resource) in [
        ("all of a topic", of(TOPIC, "settled").with_configuration_keys(None)),
        ("all of a group", of(GROUP, "odd").with_configuration_keys(None)),
        ("nothing of a topic", of(TOPIC, "settled").with_configuration_keys(Some(vec![]))),
        ("a topic without name", of(TOPIC, "").with_configuration_keys(None)),
        ("a topic of no legal name", of(TOPIC, "a/b").with_configuration_keys(None)),
        ("a group without name", of(GROUP, "").with_configuration_keys(None)),
        ("a broker without number", of(BROKER, "one").with_configuration_keys(None)),
        ("client metrics", of(CLIENT_METRICS, "all").with_configuration_keys(Some(vec![text("interval.ms")]))),
    ] {
        // Keys without effect have other synonyms; the other scripts ask for those of keys with one.
        for synonyms in [false, step.starts_with("all of a group")] {
            let request = DescribeConfigsRequest::default().with_resources(vec![resource.clone()]);
            let request = request.with_include_synonyms(synonyms);
            peer.ask_sorted(&format!("{step}, synonyms {synonyms}"), version, &request, in_order);
        }
    }
    peer.ask("nothing", version, &DescribeConfigsRequest::default());
}

/// Kafka tells keys in no order.
pub(crate) fn in_order(response: &mut DescribeConfigsResponse) {
    for result in &mut response.results {
        result.configs.sort_by_key(|config| config.name.clone());
    }
}
