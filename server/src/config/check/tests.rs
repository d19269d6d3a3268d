//! Tests of `config/check`: what starts, what does not, and what is said.

use super::*;

const ROOM: Room = Room { core_count: 2, memory_bytes: 16 << 30 };

fn checked(settings: &[&str]) -> Result<Config, Vec<String>> {
    let mut raw = RawConfig::new();
    for setting in settings {
        raw.add_assignment(setting);
    }
    check(&raw, ROOM).map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

#[track_caller]
fn refused(settings: &[&str], expected: &[&str]) {
    let errors = checked(settings).expect_err("must be refused");
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
    for (error, expected) in errors.iter().zip(expected) {
        assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    }
}

#[test]
fn the_defaults_start_on_a_small_and_on_a_large_machine() {
    let config = checked(&[]).unwrap();
    assert_eq!(config.shards.count, 1);
    assert_eq!(config.shards.memory.bytes(), 4 << 30);
    assert_eq!(config.net.request_bytes_max, 104_857_600);
    assert_eq!(config.net.listeners[0].bind, "127.0.0.1:9092".parse().unwrap());
    assert_eq!(config.net.listeners[0].advertised_host, "127.0.0.1");
    for (core_count, memory_bytes, shard_count) in
        [(1, 256 << 20, 1), (2, 512 << 20, 1), (3, 1 << 30, 3), (64, 64 << 30, 64), (1000, 1 << 40, 256)]
    {
        let config = check(&RawConfig::new(), Room { core_count, memory_bytes }).unwrap();
        assert_eq!(config.shards.count, shard_count);
    }
}

#[test]
fn every_error_is_reported_at_once() {
    refused(
        &["num.partition=3", "node.id=x", "flush.policy=never", "sasl.jaas.config=a", "log.dirs=a,b"],
        &[
            "num.partition: unknown key (--set); did you mean num.partitions?",
            "sasl.jaas.config: refused (--set): Listeners are PLAINTEXT: SASL is not served yet.",
            "node.id: \"x\" (--set) is not allowed; expected a whole number from 0 to 2147483647",
            "flush.policy: \"never\" (--set) is not allowed; expected one of: commit, interval, none",
            "log.dirs: \"a,b\" (--set) is not allowed; expected one directory",
        ],
    );
}

#[test]
fn bounds_are_inclusive() {
    checked(&["max.connections=1"]).unwrap();
    refused(&["max.connections=0"], &["max.connections: \"0\""]);
    refused(
        &["default.replication.factor=3"],
        &["default.replication.factor: \"3\" (--set) is not allowed; expected 1"],
    );
    assert_eq!(checked(&["connections.max.idle.ms=-1"]).unwrap().net.idle_max, None);
    refused(&["connections.max.idle.ms=999"], &["-1, or 1000 and more"]);
}

#[test]
fn the_admin_listener_takes_any_port_when_the_clients_do() {
    let bind = |settings: &[&str]| checked(settings).unwrap().admin.bind.map(|bind| bind.to_string());
    assert_eq!(bind(&[]).as_deref(), Some("127.0.0.1:9644"));
    assert_eq!(bind(&["listeners=127.0.0.1:0"]).as_deref(), Some("127.0.0.1:0"));
    assert_eq!(
        bind(&["listeners=127.0.0.1:0", "admin.listener=127.0.0.1:9644"]).as_deref(),
        Some("127.0.0.1:9644"),
        "what was asked for is kept"
    );
    assert_eq!(bind(&["admin.listener=[::1]:7"]).as_deref(), Some("[::1]:7"));
    assert_eq!((bind(&["admin.listener=none"]), bind(&["admin.listener="])), (None, None));
    refused(&["admin.listener=:9644"], &["admin.listener: \":9644\""]);
    refused(&["admin.listener=off"], &["or none"]);
    refused(&["admin.listener=127.0.0.1:9092"], &["an address of its own"]);
}

#[test]
fn a_wildcard_listener_needs_an_advertised_address() {
    for wildcard in ["listeners=0.0.0.0:9092", "listeners=[::]:9092", "listeners=PLAINTEXT://:9092"] {
        refused(&[wildcard], &["listeners and advertised.listeners clash"]);
        let config = checked(&[wildcard, "advertised.listeners=PLAINTEXT://broker.example:9093"]).unwrap();
        let listener = &config.net.listeners[0];
        assert_eq!((listener.advertised_host.as_str(), listener.advertised_port), ("broker.example", Some(9093)));
    }
    refused(
        &["listeners=127.0.0.1:1", "advertised.listeners=PLAINTEXT://0.0.0.0:1"],
        &["a host and a port that clients can connect to"],
    );
}

#[test]
fn listeners_have_names_of_their_own() {
    let map = "listener.security.protocol.map=INSIDE:PLAINTEXT,outside:PLAINTEXT";
    let config = checked(&[map, "listeners=INSIDE://127.0.0.1:0, OUTSIDE://127.0.0.1:0"]).unwrap();
    let names: Vec<_> = config.net.listeners.iter().map(|listener| listener.name.as_str()).collect();
    assert_eq!(names, ["INSIDE", "OUTSIDE"]);

    refused(&["listeners=127.0.0.1:1,127.0.0.1:2"], &["each listener name once"]);
    refused(&[map, "listeners=INSIDE://127.0.0.1:1,OUTSIDE://127.0.0.1:1"], &["an address of its own"]);
    refused(&["listeners=SSL://127.0.0.1:1"], &["a name that listener.security.protocol.map holds"]);
    refused(&["listener.security.protocol.map=A:SSL,PLAINTEXT:PLAINTEXT"], &["not implemented yet"]);
    refused(
        &["advertised.listeners=PLAINTEXT://a:1", "listeners="],
        &["at least one address", "the name of a listener"],
    );
    refused(&["listeners=127.0.0.1"], &["NAME://host:port or host:port"]);
}

#[test]
fn sizes_that_cannot_work_together_are_refused() {
    refused(
        &["millrace.memory.bytes=60MiB", "millrace.shards=2"],
        &["millrace.memory.bytes and millrace.shards clash: 60 MiB for 2 shards"],
    );
    refused(
        &["socket.request.max.bytes=1GiB", "millrace.memory.bytes=128MiB"],
        &["socket.request.max.bytes and millrace.memory.bytes clash"],
    );
    refused(&["socket.request.max.bytes=1MiB"], &["message.max.bytes and socket.request.max.bytes clash"]);
    refused(
        &["message.max.bytes=6MiB", "millrace.memory.bytes=64MiB"],
        &["message.max.bytes and millrace.memory.bytes clash"],
    );
    refused(
        &["message.max.bytes=8MiB", "millrace.journal.bytes=16MiB"],
        &["message.max.bytes and millrace.journal.bytes clash"],
    );
    let small = checked(&["millrace.journal.bytes=16MiB"]).unwrap();
    assert_eq!(small.store.round_bytes_max, 4 << 20, "rounds shrink to a short journal");
}

#[test]
fn what_topics_fall_back_on_is_checked_as_kafka_does() {
    let config =
        checked(&["flush.policy=interval", "flush.interval.ms=50", "log.cleanup.policy=compact,delete"]).unwrap();
    assert_eq!(config.store.flush_interval, Duration::from_millis(50));
    assert_eq!(config.store.producer_id_expiration, Duration::from_hours(24));
    for key in ["log.retention.ms", "log.retention.minutes", "log.retention.hours"] {
        refused(&[&format!("{key}=0")], &[&format!("{key}: \"0\" (--set) is not allowed; expected -1, or 1 and more")]);
        checked(&[&format!("{key}=-1")]).unwrap();
    }
    refused(
        &["log.cleaner.min.compaction.lag.ms=2", "log.cleaner.max.compaction.lag.ms=1"],
        &["log.cleaner.min.compaction.lag.ms and log.cleaner.max.compaction.lag.ms clash"],
    );
    refused(&["log.segment.bytes=1048575"], &["log.segment.bytes"]);
    refused(&["log.cleanup.policy=delete,archive"], &["expected any of: compact, delete"]);
    refused(&["log.cleaner.min.cleanable.ratio=1.1"], &["expected a number from 0 to 1"]);
    refused(&["log.roll.ms="], &["log.roll.ms"]);
    checked(&["log.cleaner.enable=true"]).unwrap();
    refused(&["log.cleaner.enable=false"], &["expected one of: true"]);
    assert_eq!(checked(&["log.cleaner.backoff.ms=7"]).unwrap().store.compaction_interval, Duration::from_millis(7));
}

#[test]
fn the_keys_of_compaction_fit_their_share_of_the_memory() {
    let keys = |settings: &[&str]| {
        checked(&[settings, &["millrace.shards=2"]].concat()).map(|config| config.store.key_map_bytes_max)
    };
    assert_eq!(keys(&[]).unwrap(), 64 << 20, "half of Kafka's default for each of two shards");
    assert_eq!(keys(&["log.cleaner.dedupe.buffer.size=4MiB"]).unwrap(), 2 << 20);
    assert_eq!(keys(&["log.cleaner.dedupe.buffer.size=1MiB"]).unwrap(), 1 << 20, "a shard needs that much");
    let small = checked(&["millrace.memory.bytes=64MiB", "millrace.shards=2"]).unwrap();
    assert_eq!((small.store.key_map_bytes_max, small.store.records_bytes_max), (2 << 20, 1 << 20));
    assert!(small.describe().contains(&format!("\"log.cleaner.dedupe.buffer.size\" = {} ", 4 << 20)));
    refused(
        &["millrace.memory.bytes=64MiB", "log.cleaner.dedupe.buffer.size=8MiB", "millrace.shards=2"],
        &["log.cleaner.dedupe.buffer.size and millrace.memory.bytes clash: a shard's memory for keys is 2097152 bytes"],
    );
}

#[test]
fn the_reserve_follows_the_disk_unless_somebody_says() {
    const MIB: u64 = 1 << 20;
    let automatic = checked(&[]).unwrap().store;
    let cases = [(0, 0), (320, 40), (2048, 256), (25_600, 256), (102_400, 1024)];
    for (disk_mib, reserve_mib) in cases {
        assert_eq!(automatic.reserve_bytes(disk_mib * MIB), reserve_mib * MIB, "a disk of {disk_mib} MiB");
    }
    let set = checked(&["millrace.reserve.bytes=8MiB"]).unwrap().store;
    assert_eq!(set.reserve_bytes(100 * MIB), 8 * MIB);
}

#[test]
fn effective_values_can_be_read_back() {
    let config = checked(&["node.id=7", "log.dirs=/var/lib/millrace data"]).unwrap();
    let mut raw = RawConfig::new();
    raw.add_file(&config.describe(), "described");
    let mut again = check(&raw, ROOM).unwrap();
    again.effective.clone_from(&config.effective);
    assert_eq!(again, config);
}

#[test]
fn a_value_that_had_to_shrink_is_shown_as_it_was_taken() {
    let config = checked(&["millrace.memory.bytes=128MiB", "millrace.journal.bytes=16777217"]).unwrap();
    let number = |key| config.effective.iter().find(|effective| effective.key == key).unwrap().value.clone();
    assert!(config.net.request_bytes_max < 104_857_600, "the default does not fit");
    assert_eq!(number(Key::RequestBytesMax), Value::Number(i64::from(config.net.request_bytes_max)));
    assert_eq!(number(Key::JournalBytes), Value::Number(16 << 20));
    assert!(config.describe().contains(&format!("= {} ", config.net.request_bytes_max)));
}

#[test]
fn what_nothing_acts_on_may_be_set_or_is_refused_with_the_reason() {
    let config = checked(&["log.cleaner.threads=2", "num.io.threads=8", "authorizer.class.name="]).unwrap();
    let set: Vec<_> = config.without_effect.iter().map(|set| (set.key.name, set.value.as_str())).collect();
    assert_eq!(set, [("authorizer.class.name", ""), ("log.cleaner.threads", "2"), ("num.io.threads", "8")]);
    let surprising = config.without_effect.iter().filter(|set| !set.key.is_default(&set.value));
    assert_eq!(surprising.map(|set| set.key.name).collect::<Vec<_>>(), ["log.cleaner.threads"]);
    assert!(config.describe().contains("# --set, without effect: Shards take the place of Kafka's thread pools"));

    refused(&["num.io.threads=many"], &["expected a whole number of 32 bits"]);
    refused(&["ssl.keystore.location=/x"], &["refused (--set): Listeners are PLAINTEXT: TLS is not served yet."]);
    refused(&["listener.name.inside.ssl.keystore.location=/x"], &["Single listeners have no settings of their own."]);
    refused(&["zookeeper.connect=a:1"], &["Kafka 4 does not have it any more."]);
    refused(&["super.users=User:a"], &["There is no authorizer yet"]);
    refused(&["log.cleaner.thread=2"], &["unknown key (--set); did you mean log.cleaner.threads?"]);
}

#[test]
fn kafkas_other_name_of_the_directory_counts_alone() {
    let directory = |settings: &[&str]| checked(settings).unwrap().node.directory;
    assert_eq!(directory(&["log.dir=/a"]), PathBuf::from("/a"));
    assert_eq!(directory(&["log.dir=/a", "log.dirs=/b"]), PathBuf::from("/b"));
    refused(&["log.dir=/a,/b"], &["log.dirs: \"/a,/b\" (--set) is not allowed; expected one directory"]);
    assert_eq!(checked(&["broker.rack=r1"]).unwrap().node.rack.as_deref(), Some("r1"));
    assert_eq!(checked(&[]).unwrap().node.rack, None);
}
