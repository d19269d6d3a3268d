//! Tests of the table of topic keys.

use super::*;
use crate::config::RawConfig;
use crate::config::check::{Room, check as check_config};

fn defaults(settings: &[&str]) -> Defaults {
    let mut raw = RawConfig::new();
    for setting in settings {
        raw.add_assignment(setting);
    }
    let config = check_config(&raw, Room { core_count: 2, memory_bytes: 4 << 30 }).unwrap();
    Defaults::new(&config.effective)
}

fn log_config(defaults: &Defaults, config: &[(&str, &str)]) -> LogConfig {
    let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    defaults.log_config("weather", &config)
}

#[test]
fn keys_are_sorted_and_their_defaults_are_legal() {
    assert!(ROWS.windows(2).all(|pair| pair[0].name < pair[1].name));
    let defaults = defaults(&[]);
    for row in ROWS {
        assert_eq!(check(row.name, defaults.value(row.name), 1_048_588), Ok(()), "{}", row.name);
    }
}

#[test]
fn without_settings_a_log_does_what_kafka_does_by_default() {
    assert_eq!(log_config(&defaults(&[]), &[]), LogConfig::default());
    assert!(defaults(&[]).log_config("__consumer_offsets", &BTreeMap::new()).internal);
}

#[test]
fn every_key_that_takes_any_value_changes_what_a_log_does() {
    let others = [
        ("cleanup.policy", "compact"),
        ("delete.retention.ms", "5"),
        ("flush.policy", "none"),
        ("max.compaction.lag.ms", "77"),
        ("message.timestamp.type", "LogAppendTime"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("min.compaction.lag.ms", "6"),
        ("retention.bytes", "1000"),
        ("retention.ms", "7"),
        ("segment.bytes", "1048576"),
        ("segment.ms", "8"),
    ];
    let elsewhere = ["flush.messages", "flush.ms", TIMESTAMP_BEFORE_MAX, TIMESTAMP_AFTER_MAX, "min.insync.replicas"];
    let is_acting = |row: &&Row| matches!(row.rule, Rule::Any(_)) && !elsewhere.contains(&row.name);
    let acting: Vec<_> = ROWS.iter().filter(is_acting).map(|row| row.name).collect();
    assert_eq!(others.map(|(key, _)| key).as_slice(), acting);
    for (key, value) in others {
        assert_eq!(check(key, value, 100), Ok(()));
        assert_ne!(log_config(&defaults(&[]), &[(key, value)]), LogConfig::default(), "{key}");
    }
    let ms = Duration::from_millis;
    let expected = LogConfig {
        flush_policy: FlushPolicy::None,
        timestamp_type: TimestampType::LogAppendTime,
        cleanup_policy: CleanupPolicy::Compact,
        segment_bytes: 1 << 20,
        segment_age_max: ms(8),
        retention_bytes: Some(1000),
        retention_age_max: Some(ms(7)),
        tombstone_age_max: ms(5),
        compaction_lag_min: ms(6),
        compaction_lag_max: ms(77),
        dirty_permille_min: 250,
        internal: false,
    };
    assert_eq!(log_config(&defaults(&[]), &others), expected);
}

#[test]
fn the_brokers_keys_stand_in_by_kafkas_precedence() {
    let day = Duration::from_hours(24);
    let age = |settings: &[&str]| log_config(&defaults(settings), &[]).retention_age_max;
    assert_eq!(age(&[]), Some(7 * day));
    assert_eq!(age(&["log.retention.hours=24"]), Some(day));
    assert_eq!(age(&["log.retention.hours=24", "log.retention.minutes=3"]), Some(Duration::from_mins(3)));
    let all = ["log.retention.hours=24", "log.retention.minutes=3", "log.retention.ms=-1"];
    assert_eq!(age(&all), None);
    assert_eq!(age(&["log.retention.hours=-1"]), None);
    let defaults = defaults(&["log.roll.hours=2", "log.cleaner.min.cleanable.ratio=0.0014", "flush.policy=interval"]);
    let config = log_config(&defaults, &[]);
    assert_eq!(config.segment_age_max, Duration::from_hours(2));
    assert_eq!(config.dirty_permille_min, 1, "the nearest thousandth");
    assert_eq!(config.flush_policy, FlushPolicy::Interval);
    assert_eq!(log_config(&defaults, &[("flush.policy", "commit")]).flush_policy, FlushPolicy::Commit);
}

#[test]
fn policies_come_in_any_order_and_may_be_none() {
    let policy = |text| log_config(&defaults(&[]), &[("cleanup.policy", text), ("retention.bytes", "5")]);
    for both in ["compact,delete", "delete,compact", " delete , compact "] {
        assert_eq!(check("cleanup.policy", both, 100), Ok(()));
        assert_eq!(policy(both).cleanup_policy, CleanupPolicy::CompactAndDelete);
        assert!(defaults(&[]).compacts(&BTreeMap::from([(CLEANUP_POLICY.to_owned(), both.to_owned())])));
    }
    assert!(
        !defaults(&[]).compacts(&BTreeMap::new())
            && defaults(&["log.cleanup.policy=compact"]).compacts(&BTreeMap::new())
    );
    assert_eq!(policy("delete").retention_bytes, Some(5));
    assert_eq!(check("cleanup.policy", "", 100), Ok(()));
    let neither = policy("");
    assert_eq!((neither.retention_bytes, neither.retention_age_max), (None, None), "everything is kept");
    assert_eq!(neither.cleanup_policy, CleanupPolicy::Delete);
    let kept = defaults(&["log.cleanup.policy="]);
    assert_eq!(log_config(&kept, &[("retention.ms", "5")]).retention_age_max, None);
    let asked = log_config(&kept, &[("retention.ms", "5"), ("cleanup.policy", "delete")]);
    assert_eq!(asked.retention_age_max, Some(Duration::from_millis(5)));
}

#[test]
fn numbers_have_kafkas_bounds() {
    for (key, value) in [
        ("segment.bytes", "1048575"),
        ("segment.bytes", "2147483648"),
        ("segment.ms", "0"),
        ("retention.ms", "-2"),
        ("delete.retention.ms", "-1"),
        ("min.compaction.lag.ms", "-1"),
        ("max.compaction.lag.ms", "0"),
        ("min.cleanable.dirty.ratio", "1.5"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("cleanup.policy", "Delete"),
        ("message.timestamp.type", "createtime"),
        ("retention.bytes", "9223372036854775808"),
        ("retention.ms", ""),
    ] {
        assert!(check(key, value, 100).is_err(), "{key}={value}");
    }
    for (key, value) in [("retention.bytes", "-5"), ("retention.ms", " 5 "), ("retention.ms", "+5")] {
        assert_eq!(check(key, value, 100), Ok(()), "{key}={value}");
    }
    assert_eq!(log_config(&defaults(&[]), &[("retention.bytes", "-5")]).retention_bytes, None);
    let never = log_config(&defaults(&[]), &[("segment.ms", "9223372036854775807")]);
    assert_eq!(never.segment_age_max, Duration::MAX);
    assert_eq!(log_config(&defaults(&[]), &[("segment.bytes", "many")]), LogConfig::default());
}

#[test]
fn what_would_change_nothing_is_refused_and_says_why() {
    let refused = |key, value| check(key, value, 100).unwrap_err().to_string();
    assert_eq!(check(MESSAGE_BYTES_MAX, "100", 100), Ok(()));
    for value in ["101", "-1", "many", ""] {
        assert!(refused(MESSAGE_BYTES_MAX, value).ends_with("is not a number from 0 to 100"), "{value}");
    }
    assert_eq!(
        refused("compression.type", "zstd"),
        "compression.type: \"zstd\" is not implemented yet; only producer is"
    );
    assert_eq!(
        refused("cleanup.policy", "compact,x"),
        "cleanup.policy: \"compact,x\" is not allowed; expected any of: compact, delete"
    );
    assert!(refused("remote.storage.enable", "true").ends_with("is not implemented yet; only false is"));
    assert!(refused("segment.jitter.ms", "-1").contains("expected a whole number from 0"));
    assert_eq!(refused("segment.mss", "1"), "segment.mss: unknown topic config name");
}

#[test]
fn the_reference_page_is_the_tables() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIG.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, describe()).unwrap();
    }
    let page = std::fs::read_to_string(&path).unwrap();
    assert!(page == describe(), "docs/CONFIG.md is stale: run the test again with UPDATE=1");
}

#[test]
fn every_topic_key_of_kafka_has_its_row() {
    let names = include_str!("../../../tests/data/kafka-4.3.1-configs.txt");
    let mut named: Vec<String> =
        names.lines().filter_map(|line| line.strip_prefix("topic ")).map(str::to_owned).collect();
    named.push("flush.policy STRING".to_owned());
    named.sort_unstable();
    let kind = |row: &Row| format!("{} {}", row.name, format!("{:?}", row.value_type).to_uppercase());
    assert_eq!(named, ROWS.iter().map(kind).collect::<Vec<_>>());
}

#[test]
fn what_promises_a_flush_flushes_before_it_answers() {
    let policy = |settings: &[&str], config: &[(&str, &str)]| log_config(&defaults(settings), config).flush_policy;
    let none = "flush.policy=none";
    assert_eq!(policy(&[none], &[]), FlushPolicy::None);
    assert_eq!(policy(&[none], &[("flush.messages", "1")]), FlushPolicy::Commit);
    assert_eq!(policy(&[], &[("flush.policy", "interval"), ("flush.ms", "1000")]), FlushPolicy::Commit);
    assert_eq!(policy(&[none], &[("flush.ms", NEVER)]), FlushPolicy::None);
    for promise in ["log.flush.interval.messages=7", "log.flush.interval.ms=7", "log.flush.scheduler.interval.ms=7"] {
        assert_eq!(policy(&[none, promise], &[]), FlushPolicy::Commit, "{promise}");
    }
    let taken_back = ["log.flush.interval.ms=9223372036854775807", "log.flush.scheduler.interval.ms=7", none];
    assert_eq!(policy(&taken_back, &[]), FlushPolicy::None, "the first of the two wins");
}

#[test]
fn timestamps_are_admitted_around_the_brokers_time() {
    let timestamps = |settings: &[&str], config: &[(&str, &str)]| {
        let config = config.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        defaults(settings).timestamps(&config)
    };
    let now = 1_700_000_000_000;
    let hour = 3_600_000;
    let kafkas = timestamps(&[], &[]);
    assert!(kafkas.admit(0, now + hour, now) && !kafkas.admit(0, now + hour + 1, now));
    assert!(kafkas.admit(NO_TIMESTAMP, NO_TIMESTAMP, now));
    assert_eq!(kafkas.range(now), (now - i64::MAX, now + hour));

    let own = timestamps(&[], &[(TIMESTAMP_BEFORE_MAX, "5"), (TIMESTAMP_AFTER_MAX, " 6 ")]);
    assert!(own.admit(now - 5, now + 6, now));
    assert!(!own.admit(now - 6, now, now) && !own.admit(now, now + 7, now));
    assert!(own.admit(NO_TIMESTAMP, NO_TIMESTAMP, now), "a batch without timestamps is taken");
    let broker = ["log.message.timestamp.before.max.ms=5", "log.message.timestamp.after.max.ms=9223372036854775807"];
    assert!(!timestamps(&broker, &[]).admit(0, now, now) && timestamps(&broker, &[]).admit(now, i64::MAX, now));
    let replaced = timestamps(&broker, &[("message.timestamp.type", "LogAppendTime")]);
    assert!(replaced.admit(0, i64::MAX, now));
}
