//! Tests of what is told about configurations.

use super::*;
use crate::config::RawConfig;
use crate::config::check::{Room, check};
use crate::metadata::broker_config::in_force;

/// A broker that was started with `settings` and told nothing since.
fn broker(settings: &[&str]) -> (Vec<BrokerKey>, Defaults) {
    told(settings, &[], &[])
}

fn told(settings: &[&str], cluster: &[(&str, &str)], own: &[(&str, &str)]) -> (Vec<BrokerKey>, Defaults) {
    let mut raw = RawConfig::new();
    for setting in settings {
        raw.add_assignment(setting);
    }
    let config = check(&raw, Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap();
    let (cluster, own) = (set(cluster), set(own));
    let told = Told { cluster: &cluster, broker: &own };
    (broker_keys(&config, told), Defaults::new(&in_force(&config.effective, told)))
}

fn set(config: &[(&str, &str)]) -> BTreeMap<String, String> {
    config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn find<'e>(entries: &'e [Entry], name: &str) -> &'e Entry {
    entries.iter().find(|entry| entry.name == name).unwrap()
}

fn said(entry: &Entry) -> Vec<(&str, &str, Source)> {
    entry.synonyms.iter().map(|said| (said.name, said.value.as_str(), said.source)).collect()
}

#[test]
fn the_broker_lists_all_keys_of_both_tables() {
    let (broker, _) = broker(&["num.partitions=3", "message.max.bytes=2MiB", "num.io.threads=9"]);
    let entries = broker_entries(&broker);
    assert_eq!(entries.len(), keys::ROWS.len() + kafka::all().count());

    let partitions = find(&entries, "num.partitions");
    let name = "num.partitions";
    assert_eq!((partitions.value.as_deref(), partitions.is_read_only), (Some("3"), true));
    assert_eq!(said(partitions), [(name, "3", Source::StaticBroker), (name, "1", Source::Default)]);

    let bytes = find(&entries, "message.max.bytes");
    assert_eq!((bytes.value.as_deref(), bytes.is_read_only), (Some("2097152"), false), "without its unit");
    let unset = find(&entries, "advertised.listeners");
    assert_eq!((unset.value.as_deref(), said(unset)), (None, vec![]));
    let threads = find(&entries, "num.io.threads");
    let name = "num.io.threads";
    assert_eq!(said(threads), [(name, "9", Source::StaticBroker), (name, "8", Source::Default)]);
    let secret = find(&entries, "ssl.keystore.password");
    assert!(secret.is_sensitive() && secret.value.is_none());
    assert_eq!(find(&entries, "authorizer.class.name").value.as_deref(), Some(""), "as Kafka tells it");
}

#[test]
fn what_was_said_at_run_time_comes_first() {
    let cluster = [("log.retention.ms", "200"), ("num.io.threads", "12"), ("log.segment.bytes", "x")];
    let (broker, defaults) = told(&["log.retention.ms=300"], &cluster, &[("log.retention.ms", "100")]);
    let name = "log.retention.ms";
    let expected = [(name, "100", Source::Broker), (name, "200", Source::Cluster), (name, "300", Source::StaticBroker)];
    let entries = broker_entries(&broker);
    assert_eq!(said(find(&entries, name)), expected);
    assert_eq!(find(&entries, "log.segment.bytes").source(), Source::Default, "a value that is not legal counts not");

    let topic = topic_entries(&set(&[]), &defaults, &broker);
    let retention = find(&topic, "retention.ms");
    assert_eq!((retention.value.as_deref(), said(retention)), (Some("100"), expected.to_vec()));

    let all: Vec<_> = cluster_entries(&broker).iter().map(|entry| (entry.name, entry.value.clone())).collect();
    assert_eq!(all, [(name, Some("200".to_owned())), ("num.io.threads", Some("12".to_owned()))]);
}

#[test]
fn a_topic_falls_back_on_the_broker() {
    let ((unset, unset_defaults), (by_file, set_defaults)) = (broker(&[]), broker(&["message.max.bytes=2000"]));
    let default = ("message.max.bytes", "1048588", Source::Default);
    let by_broker = ("message.max.bytes", "2000", Source::StaticBroker);
    let by_topic = ("max.message.bytes", "1000", Source::Topic);
    let (silent, own) = (set(&[]), set(&[("max.message.bytes", "1000"), ("retention.ms", "-1")]));

    let entries = topic_entries(&silent, &unset_defaults, &unset);
    assert_eq!(entries.len(), topic_config::ROWS.len());
    let found = find(&entries, "max.message.bytes");
    assert_eq!((found.value.as_deref(), said(found)), (Some("1048588"), vec![default]));

    let entries = topic_entries(&silent, &set_defaults, &by_file);
    let found = find(&entries, "max.message.bytes");
    assert_eq!((found.value.as_deref(), said(found)), (Some("2000"), vec![by_broker, default]));

    let entries = topic_entries(&own, &set_defaults, &by_file);
    let found = find(&entries, "max.message.bytes");
    assert_eq!((found.value.as_deref(), said(found)), (Some("1000"), vec![by_topic, by_broker, default]));
    assert_eq!(said(find(&entries, "retention.ms")), [("retention.ms", "-1", Source::Topic)]);
    assert_eq!(find(&entries, "segment.jitter.ms").value.as_deref(), Some("0"));
}

#[test]
fn a_key_in_milliseconds_falls_back_on_hours() {
    let silent = set(&[]);
    let (keys, defaults) = broker(&[]);
    let entries = topic_entries(&silent, &defaults, &keys);
    let found = find(&entries, "retention.ms");
    assert_eq!((found.value.as_deref(), found.source()), (Some("604800000"), Source::Default));
    assert_eq!(said(found), []);

    let (keys, defaults) = broker(&["log.retention.hours=1", "log.retention.minutes=5"]);
    let entries = topic_entries(&silent, &defaults, &keys);
    let found = find(&entries, "retention.ms");
    assert_eq!(found.value.as_deref(), Some("300000"));
    let expected =
        [("log.retention.minutes", "5", Source::StaticBroker), ("log.retention.hours", "1", Source::StaticBroker)];
    assert_eq!(said(found), expected);
}

#[test]
fn a_group_falls_back_on_the_broker_and_then_on_kafka() {
    let (broker, _) = broker(&[]);
    let entries = group_entries(&set(&[("consumer.session.timeout.ms", "50000")]), &broker);
    let own = find(&entries, "consumer.session.timeout.ms");
    let by_default = ("group.consumer.session.timeout.ms", "45000", Source::Default);
    assert_eq!(said(own), [("consumer.session.timeout.ms", "50000", Source::Group), by_default]);
    assert_eq!(find(&entries, "consumer.heartbeat.interval.ms").value.as_deref(), Some("5000"));
    assert_eq!(said(find(&entries, "share.isolation.level"))[0].1, "read_uncommitted");
}
